/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The harmless part of the mark method: every entry of a directory is copied up through the overlay, one
 * after the other, so that the kernel can put the directory's times back (docs/overlayfs.md 3.3);
 * directories wait for the lower side by side. Coverage is monotone: what is renamed or deleted in a merged
 * directory leaves a whiteout (docs/overlayfs.md 5.7), so once nothing is missing, nothing will be. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/lower/difference.h"
#include "core/mark/mark-internal.h"
#include "core/upper/layer.h"
#include "core/upper/meta.h"
#include "core/upper/names.h"

/* Listings until nothing was missing; each repetition means that somebody moved something in between. */
#define MAX_PASSES 20

/* A mount holds the directory it is made upon, or shows, and with it all directories above. */
static int check_mounts(const Mark *m, MarkDirectory *d) {
        const OverlayInnerMount *i = context_find_inner_mount_below(m->context, d->path);

        if (!i)
                return 0;
        mark_block(
                d, DIRECTORY_PENDING,
                "the %s at '%s' (seen by process %d) uses '%s': it can be marked once that is unmounted",
                i->kind == INNER_LAYER ? "overlay" : "mount", i->where, (int) i->pid, i->path);
        return RESULT_BLOCKED;
}

static int open_upper(const Mark *m, MarkDirectory *d) {
        _cleanup_close_ int fd = open_dir_beneath(m->context->root_fd, d->path);
        int r;

        if (fd == -EXDEV)
                mark_block(d, DIRECTORY_EXCLUDED, "another file system is mounted upon it");
        if (errno_is_gone(fd))
                mark_block(d, DIRECTORY_PENDING, "it is not there any more");
        if (fd < 0)
                return d->blocked ? RESULT_BLOCKED : fd;
        d->upper_fd = open_dir_beneath(m->context->upper_fd, d->path);
        if (d->upper_fd != -ENOENT)
                return d->upper_fd < 0 ? d->upper_fd : 0;
        r = meta_copy_up(fd);
        if (r < 0)
                return mark_error(m, CALL_COPY_UP, r, d, fd, NULL, "copy up the metadata of the directory");
        d->upper_fd = open_dir_beneath(m->context->upper_fd, d->path);
        return d->upper_fd < 0 ? d->upper_fd : 0;
}

/* 1: it answers from the upper alone already, or has no lower counterpart. */
static int find_lower(const Mark *m, MarkDirectory *d) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_lower_path_of(m->context->upper_fd, d->path, d->upper_fd, &d->node->lower);

        if (r < 0 || !d->node->lower)
                return r < 0 ? r : 1;
        r = upper_entry_read(d->upper_fd, "", &e);
        if (r < 0)
                return r;
        if (e.has_origin)
                return 0;
        mark_block(
                d, DIRECTORY_PENDING,
                "the upper directory has no origin mark, without which deleted names would show in "
                "listings");
        return RESULT_BLOCKED;
}

typedef struct Pass {
        const Mark *m;
        MarkDirectory *d;
        unsigned n_new;
        bool is_last;
} Pass;

/* Copying up one of several lower names of a file breaks the links between them, unless the index keeps
 * them. */
static bool is_hard_link(const Mark *m, const struct stat *st) {
        return !m->context->options.break_hard_links && m->context->overlay->index != TRI_YES &&
                S_ISREG(st->st_mode) && st->st_nlink > 1;
}

static int copy_up(const Pass *p, int dfd, const char *name) {
        _cleanup_close_ int fd = open_beneath(dfd, name, O_PATH | O_NOFOLLOW);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!is_hard_link(p->m, &st))
                return meta_copy_up(fd);
        mark_block(
                p->d, DIRECTORY_EXCLUDED, "'%s' has several hard links in the lower layer (HardLinks=skip)",
                name);
        return RESULT_BLOCKED;
}

/* What is ours stands in the upper. A lower name like ours would be hidden by the mark, since nothing else
 * lists or copies up such names. */
static int block_own_name(MarkDirectory *d, int dfd, const char *name) {
        if (faccessat(dfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        mark_block(d, DIRECTORY_EXCLUDED, "'%s' in the lower layer has a name that is ovlfind's own", name);
        return RESULT_BLOCKED;
}

static int cover_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        Pass *p = userdata;
        struct stat st;
        int r;

        if (fstatat(p->d->upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0)
                return 0;
        if (errno != ENOENT)
                return -errno;
        if (is_staging_name(name))
                return block_own_name(p->d, dfd, name);
        if (context_is_canceled(p->m->context))
                return -ECANCELED;
        r = copy_up(p, dfd, name);
        if (error_is_of_lower(r))
                r = copy_up(p, dfd, name);
        p->n_new++;
        /* Renamed or removed meanwhile (EEXIST, too): the next pass tells. */
        if (r >= 0 || errno_is_gone(r) || r == -EEXIST || (r == -ESTALE && !p->is_last))
                return 0;
        return mark_error(p->m, CALL_COPY_UP, r, p->d, dfd, name, "copy up the metadata of");
}

static int cover(const Mark *m, MarkDirectory *d) {
        for (unsigned i = 0; i < MAX_PASSES; i++) {
                Pass p = { .m = m, .d = d, .is_last = i + 1 == MAX_PASSES };
                _cleanup_close_ int fd = -EBADF;
                int r = mark_open(m, d, &fd);

                if (r >= 0)
                        r = dir_foreach(fd, cover_entry, &p);
                if (r < 0 || p.n_new == 0)
                        return r;
        }
        mark_block(d, DIRECTORY_PENDING, "its names change all the time");
        return RESULT_BLOCKED;
}

/* What the lower shows of it. Users may have changed any copy, so the lower itself is asked. */
static int record_lower(const Pass *p, Entry *e) {
        _cleanup_free_ char *path = path_join(p->d->node->lower, e->name);

        if (!path)
                return -ENOMEM;
        difference_note(e, &p->m->lower, path);
        return 0;
}

/* Name by name, what the directory holds now; all of the lower's names are among them, deleted ones as
 * whiteouts. An undo goes by it, and whatever compares with the lower. */
static int record_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry ue = { 0 };
        Pass *p = userdata;
        Entry *e;
        int r;

        if (is_staging_name(name))
                return 0;
        r = upper_entry_read(dfd, name, &ue);
        if (r < 0 || ue.class == UPPER_MISSING)
                return r;
        if (ue.class == UPPER_WHITEOUT)
                type = DT_WHT;
        r = node_add(p->d->node, name, type, &e);
        if (r == -EEXIST)
                e = node_find(p->d->node, name);
        else if (r < 0)
                return r;
        e->inode = ue.inode;
        e->is_placed = true;
        e->is_local = difference_is_local(p->d->node, name, &ue, &p->m->lower);
        p->n_new += type != DT_WHT;
        return type == DT_WHT || type == DT_DIR || e->is_local ? 0 : record_lower(p, e);
}

static int record(Mark *m, MarkDirectory *d) {
        Pass p = { .m = m, .d = d };
        int r = dir_foreach(d->upper_fd, record_entry, &p);

        difference_note_directory(d->node, &m->lower);
        if (!node_find_identity(d->node)->lower_identity)
                (void) lower_identify(&m->lower, d->node->lower, &d->node->lower_identity);
        atomic_fetch_add(&m->batch.n_done, p.n_new);
        return r;
}

static int prepare(Mark *m, MarkDirectory *d) {
        int r = check_mounts(m, d);

        if (r >= 0)
                r = open_upper(m, d);
        if (r >= 0)
                r = mark_watch(m, d);
        if (r >= 0)
                r = find_lower(m, d);
        if (r == 1) {
                d->is_out = true;
                return 0;
        }
        if (r >= 0)
                r = cover(m, d);
        return r < 0 ? r : record(m, d);
}

int mark_prepare(Mark *m, MarkDirectory *d, Failure *reterr) {
        int r = prepare(m, d);

        if (errno_is_gone(r) || r == -ESTALE)
                mark_block(d, DIRECTORY_PENDING, "it was moved or removed while it was prepared; try again");
        if (r >= 0 || d->blocked)
                return 0;
        r = mark_error(m, CALL_READ, r, d, -EBADF, NULL, "list and copy up what is in");
        if (d->blocked)
                return 0;
        return failure_set_errno(
                reterr, r, "cannot copy up '%s/%s'", m->context->overlay->mount_point, d->path);
}
