/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changed entries: what stands here is exchanged with a copy of what the lower has now, in one rename; what
 * the kernel cannot look up is removed first. Whether it may go was decided before (refresh.c). It is looked
 * at once more right before that, and put back if somebody was faster. */

/* A file with other content is copied as a whole. Its metadata alone would not do: the kernel may have the
 * lower file of before in its cache, by name or in a process, and a copy of the new metadata would show the
 * size of one and the content of the other. Nor can the new metadata be copied beside the old: the names
 * would share the new lower file, and one of them fail (docs/overlayfs.md 9.1). */
#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/orphan.h"
#include "core/context/throttle.h"
#include "core/lower/content.h"
#include "core/mount/reconfigure.h"
#include "core/record/manifest.h"
#include "core/record/recorded.h"
#include "core/release/refresh-aside.h"
#include "core/release/refresh-internal.h"
#include "core/upper/digest.h"
#include "core/upper/fileattr.h"
#include "core/upper/meta.h"

/* Copies of that size are told of while they are made. */
#define LARGE_BYTES (UINT64_C(16) << 20)

static void tell_copy(const RefreshDirectory *d, const char *path, uint64_t bytes) {
        _cleanup_free_ char *text = NULL;

        if (bytes >= LARGE_BYTES &&
            asprintf(
                    &text,
                    "it copies the content of '%s/%s', %llu MiB; see whether the lower layers and the upper "
                    "file system answer",
                    d->p->context->overlay->mount_point, path, (unsigned long long) bytes >> 20) >= 0)
                context_doing(d->p->context, text);
}

/* Room is asked for what is written: holes take none. */
static int copy_data(RefreshDirectory *d, const RefreshChange *c, int from_fd, int to_fd) {
        _cleanup_free_ char *path = path_join(d->path, c->name);
        ContentCopy copy = { .context = d->p->context, .path = path, .n_done = d->p->counts.n_entries };
        uint64_t bytes;
        int r = path ? content_measure(from_fd, 1, &bytes) : -ENOMEM;

        if (r < 0)
                return r;
        tell_copy(d, path, bytes);
        r = guard_room(d->p->context, path, bytes, d->reterr);
        d->is_full = r == -ENOSPC;
        if (r >= 0) {
                r = content_copy(&copy, from_fd, to_fd, d->reterr);
                d->is_full = copy.is_full;
        }
        if (bytes >= LARGE_BYTES)
                context_doing(d->p->context, REFRESH_DOING);
        return r;
}

static int copy_attributes(const RefreshDirectory *d, const RefreshChange *c, int from_fd, int to_fd) {
        _cleanup_close_ int own_fd = -EBADF;

        if (!c->keeps_attributes)
                return meta_copy_but_labels(from_fd, to_fd);
        own_fd = openat(d->pair.fd, c->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        return own_fd < 0 ? -errno : meta_copy(own_fd, to_fd);
}

typedef int (*copy_func)(int from_dfd, const char *from, int to_dfd, const char *to);

/* By way of its directory: it may be nothing that can be opened. */
static int copy_from_lower(const RefreshDirectory *d, const RefreshChange *c, copy_func copy) {
        _cleanup_close_ int fd = lower_open_dir(d->p->lower, d->node->lower);

        return fd < 0 ? fd : copy(fd, c->name, d->staging.dir.fd, REFRESH_COPY);
}

/* They belong to what stands here: a security module may give a copy another one than the
 * lower file has (security_inode_copy_up()). What became another kind of entry has the lower's. */
static int copy_labels(const RefreshDirectory *d, const RefreshChange *c) {
        if (c->type == IFTODT(c->st.st_mode))
                return meta_copy_labels_at(d->pair.upper_fd, c->name, d->staging.dir.fd, REFRESH_COPY);
        return copy_from_lower(d, c, meta_copy_labels_at);
}

/* Of the file that stands there, before there is content: some are for an empty file only. What cannot be
 * had, or has no counterpart, is told by nothing, as when the kernel copies a file up. */
static int copy_fileattr(const RefreshDirectory *d, const RefreshChange *c, int to_fd) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (c->type != DT_REG)
                return 0;
        fd = openat(d->pair.upper_fd, c->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
                return -errno;
        r = fileattr_copy(fd, to_fd);
        return r < 0 ? r : 0;
}

static int copy_regular(RefreshDirectory *d, const RefreshChange *c) {
        _cleanup_close_ int from_fd = lower_open_file(d->p->lower, c->lower, 0);
        _cleanup_close_ int to_fd = -EBADF;
        struct stat st;
        int r;

        if (from_fd < 0)
                return from_fd;
        to_fd = openat(
                d->staging.dir.fd, REFRESH_COPY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (to_fd < 0)
                return -errno;
        r = copy_fileattr(d, c, to_fd);
        if (r >= 0)
                r = copy_data(d, c, from_fd, to_fd);
        if (r >= 0)
                r = copy_attributes(d, c, from_fd, to_fd);
        if (r >= 0)
                r = copy_labels(d, c);
        if (r >= 0)
                r = meta_copy_times(from_fd, to_fd);
        if (r >= 0 && fsync(to_fd) < 0)
                r = -errno;
        /* Changed while it was read: half of one and half of the other is worse than the old one. */
        if (r >= 0 && (fstat(from_fd, &st) < 0 || digest_stat(&st) != digest_stat(&c->st)))
                r = -EAGAIN;
        return r;
}

static int copy_other(RefreshDirectory *d, const RefreshChange *c) {
        _cleanup_close_ int fd = open_beneath(d->p->lower->view_fd, c->lower, O_PATH | O_NOFOLLOW);
        char target[PATH_MAX];
        ssize_t n;
        int r;

        if (fd < 0)
                return fd;
        if (S_ISLNK(c->st.st_mode)) {
                n = readlinkat(fd, "", target, sizeof(target) - 1);
                if (n < 0)
                        return -errno;
                target[n] = '\0';
                if (symlinkat(target, d->staging.dir.fd, REFRESH_COPY) < 0)
                        return -errno;
        } else if (mknodat(d->staging.dir.fd, REFRESH_COPY, c->st.st_mode, c->st.st_rdev) < 0)
                return -errno;
        if (fchownat(d->staging.dir.fd, REFRESH_COPY, c->st.st_uid, c->st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        r = copy_from_lower(d, c, meta_copy_xattrs_at);
        if (r >= 0)
                r = copy_labels(d, c);
        if (r < 0)
                return r;
        if ((!S_ISLNK(c->st.st_mode) &&
             fchmodat(d->staging.dir.fd, REFRESH_COPY, c->st.st_mode & 07777, 0) < 0) ||
            utimensat(
                    d->staging.dir.fd, REFRESH_COPY, (struct timespec[2]){ c->st.st_atim, c->st.st_mtim },
                    AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        return refresh_make_durable(d); /* it cannot be opened */
}

/* In place of a file that fails (EIO) because the lower has another kind of entry. Should we be killed
 * between the steps, it is one that is new in the lower. */
static int put_in(const RefreshDirectory *d, RefreshChange *c) {
        int r = record_edit(&d->p->editor, d->node, record_forget, c->name);

        if (r >= 0)
                r = orphan_remove(d->p->context->root_fd, d->pair, c->name, c->judged.inode);
        if (r >= 0 &&
            renameat2(d->staging.dir.fd, STAGING_REPLACED, d->pair.fd, c->name, RENAME_NOREPLACE) < 0)
                r = -errno;
        c->is_done = r >= 0;
        return r;
}

static int exchange(const RefreshDirectory *d, const RefreshChange *c) {
        return renameat2(d->staging.dir.fd, STAGING_REPLACED, d->pair.fd, c->name, RENAME_EXCHANGE) < 0
                ? -errno
                : 0;
}

/* On network file systems, what is in the kernel's cache says ESTALE until it is forgotten, when another
 * kind of entry stands in its place (orphan.c). */
static int exchange_fresh(const RefreshDirectory *d, const RefreshChange *c) {
        int r = exchange(d, c);

        return r == -ESTALE && remount_reconfigure(d->p->context->root_fd, NULL) >= 0 ? exchange(d, c) : r;
}

/* Long after it was judged: much is copied in between. */
static bool is_as_judged(const RefreshDirectory *d, const RefreshChange *c) {
        _cleanup_close_ int fd = -EBADF;

        if (c->type != DT_DIR)
                return fingerprint_holds(&c->judged, d->pair, c->name);
        fd = open_dir_beneath(d->pair.upper_fd, c->name);
        return fd >= 0 && refresh_holds_local(d->p->records, fd) == 0;
}

static int swap_in(RefreshDirectory *d, RefreshChange *c) {
        int r;

        if (!is_as_judged(d, c)) {
                refresh_note(d, c->name, "it is being changed here right now: it stays as it is here");
                return 0;
        }
        r = aside_prepare(&d->staging, &c->judged, d->node->new_handle, c->name);
        if (r >= 0)
                r = exchange_fresh(d, c);
        if (r == -EIO && c->judged.class == UPPER_METACOPY)
                return put_in(d, c);
        if (r == -ESTALE)
                refresh_note(d, c->name, "somebody uses what it was before it changed: refresh again later");
        if (r == -EXDEV)
                refresh_note(
                        d, c->name,
                        "its directory hands on its project (chattr +P), and it has another one: give it "
                        "that of the directory first (chattr -p)");
        return r == -ESTALE || r == -EXDEV || r == -ENOENT ? 0 : r; /* or deleted just now */
}

/* In one rename; back if somebody was faster. */
static int exchange_and_settle(RefreshDirectory *d, RefreshChange *c) {
        int r = swap_in(d, c), k = aside_settle(&d->staging, d->p->records);

        if (k > 0)
                c->is_done = true;
        else if (k == 0)
                k = refresh_drop_copy(d);
        return r < 0 ? r : k < 0 ? k : 0;
}

static int build(RefreshDirectory *d, const RefreshChange *c) {
        _cleanup_free_ char *path = path_join(d->path, c->name);
        int r = path ? guard_room(d->p->context, path, /* bytes= */ 0, d->reterr) : -ENOMEM;

        d->is_full = r == -ENOSPC;
        if (r >= 0)
                r = refresh_open_staging(d);
        if (r < 0)
                return r;
        return S_ISDIR(c->st.st_mode)    ? refresh_build_directory(d, c)
                : S_ISREG(c->st.st_mode) ? copy_regular(d, c)
                                         : copy_other(d, c);
}

static int report_gone(const Node *n, const char *path, int upper_fd, void *userdata) {
        const WorkHooks *hooks = userdata;

        return hooks->report(&(DirectoryReport){ .path = path, .state = DIRECTORY_MERGED }, hooks->userdata);
}

/* While it is still known where they are; of what does not go after all, the comparison at the end tells. */
static int report_directories(const RefreshDirectory *d, const RefreshChange *c) {
        _cleanup_free_ char *path = path_join(d->path, c->name);

        if (!path || c->type != DT_DIR)
                return path ? 0 : -ENOMEM;
        return recorded_foreach(
                d->p->context->upper_fd, d->p->records, path, /* children_first= */ true, report_gone,
                (void *) d->p->hooks);
}

int refresh_replace(RefreshDirectory *d, RefreshChange *c) {
        int r = build(d, c);

        if (r >= 0)
                r = report_directories(d, c);
        if (r >= 0)
                r = exchange_and_settle(d, c);
        else if (d->staging.context)
                (void) refresh_drop_copy(d);
        if (r == -EAGAIN) { /* or ORPHAN_REPLACED */
                refresh_note(
                        d, c->name, "it is being changed in the lower layer right now: refresh again later");
                return 0;
        }
        return r < 0 ? failure_set_errno(d->reterr, r, "cannot take '/%s' from the lower layer", c->lower)
                     : 0;
}
