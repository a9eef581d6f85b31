/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owner, mode and xattrs that changed in the lower layer, set through the overlay on what stands here. That
 * touches no data: the kernel copies data up only for a change of size. They are set one after the other, so
 * the record says beforehand that what a kill leaves is nobody's. */
#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "core/mount/reconfigure.h"
#include "core/release/refresh-internal.h"
#include "core/upper/digest.h"
#include "core/upper/meta.h"
#include "core/upper/raw.h"

static int set_in_transit(Node *n, void *userdata) {
        n->base = BASELINE_IN_TRANSIT;
        return 0;
}

/* Owner, mode and xattrs come one after the other: what a kill leaves half done counts as nobody's. */
int refresh_attributes(RefreshDirectory *d, RefreshChange *c) {
        _cleanup_close_ int fd = lower_open_dir(d->p->lower, c->lower);
        int r = fd;

        c->attributes = fd < 0 ? 0 : digest_directory(fd, "");
        if (r >= 0)
                r = record_edit(&d->p->editor, d->node, set_in_transit, NULL);
        if (r >= 0)
                r = meta_copy_but_labels(fd, d->pair.fd);
        c->is_done = r >= 0;
        return r < 0 ? failure_set_errno(
                               d->reterr, r,
                               "cannot take owner, mode and xattrs of the lower directory '/%s'", c->lower)
                     : 0;
}

#define OPEN_FILE (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME)

bool refresh_has_attributes(const RefreshChange *c) {
        return c->kind == DIFFERENCE_CHANGED && c->has_same_content && !c->is_same && !c->is_done;
}

static bool has_intent(const RefreshChange *c) {
        return c->kind == DIFFERENCE_REMOVED || refresh_has_attributes(c);
}

static int set_intents(Node *n, void *userdata) {
        RefreshDirectory *d = userdata;

        for (size_t i = 0; i < d->n; i++) {
                RefreshChange *c = d->items + i;
                Entry *e = has_intent(c) ? node_find(n, c->name) : NULL;

                if (!e)
                        continue;
                c->is_noted = true;
                c->base = e->base;
                c->ctime = entry_ctime(e);
                if (c->kind == DIFFERENCE_REMOVED)
                        e->ctime = CTIME_BEING_REMOVED;
                else
                        e->base = digest_content(&c->st);
        }
        return 0;
}

int refresh_record_intents(RefreshDirectory *d) {
        for (size_t i = 0; i < d->n; i++)
                if (has_intent(d->items + i))
                        return record_edit(&d->p->editor, d->node, set_intents, d);
        return 0;
}

/* On network file systems, what is in the kernel's cache of a file that was restored says ESTALE. */
static int open_here(const RefreshDirectory *d, const char *name) {
        int fd = open_beneath(d->pair.fd, name, OPEN_FILE);

        if (fd != -ESTALE || remount_reconfigure(d->p->context->root_fd, NULL) < 0)
                return fd;
        return open_beneath(d->pair.fd, name, OPEN_FILE);
}

static int detach(const RefreshDirectory *d, const RefreshChange *c) {
        _cleanup_close_ int fd = open_beneath(d->pair.upper_fd, c->name, O_PATH | O_NOFOLLOW);
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = fd < 0 ? fd : upper_entry_read(fd, "", &e);

        if (r >= 0 && e.class == UPPER_METACOPY && e.inode == c->judged.inode)
                r = raw_detach_origin(fd);
        return errno_is_gone(r) ? 0 : r;
}

int refresh_note_file(RefreshDirectory *d, const RefreshChange *c) {
        if (c->is_same_file)
                return 0;
        d->p->has_others = true;
        return detach(d, c);
}

static bool is_as_in_lower(const RefreshDirectory *d, const RefreshChange *c, int lower_fd) {
        struct stat st;

        return fstat(lower_fd, &st) >= 0 && digest_stat(&st) == digest_stat(&c->st) &&
                fstatat(d->pair.upper_fd, c->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                digest_stat(&st) == digest_stat(&c->st) &&
                digest_xattrs(d->pair.upper_fd, c->name) == c->xattrs;
}

int refresh_file_attributes(RefreshDirectory *d, RefreshChange *c) {
        _cleanup_close_ int from_fd = open_beneath(d->p->lower->view_fd, c->lower, OPEN_FILE);
        _cleanup_close_ int to_fd = from_fd < 0 ? -EBADF : open_here(d, c->name);
        int r = from_fd < 0 ? from_fd : to_fd < 0 ? to_fd : 0;

        if (r >= 0 && !fingerprint_holds(&c->judged, d->pair, c->name)) {
                refresh_note(d, c->name, "it is being changed here right now: it stays as it is here");
                return 0;
        }
        if (r >= 0) {
                c->is_begun = true;
                r = meta_copy_all(from_fd, to_fd);
        }
        if (r < 0)
                return failure_set_errno(
                        d->reterr, r, "cannot take owner, mode and xattrs of the lower file '/%s'",
                        c->lower);
        c->is_done = is_as_in_lower(d, c, from_fd);
        if (!c->is_done)
                refresh_note(
                        d, c->name, "it is being changed in the lower layer right now: refresh again later");
        return refresh_note_file(d, c);
}
