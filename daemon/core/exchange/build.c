/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The second part of building a new tree: every entry is linked into it, last the directories get their
 * owner, mode, xattrs and times. Copying up waits for the lower, so many entries are under way at once.
 * Nobody sees the new tree yet. Of the old tree nothing changes but times that copying up has disturbed,
 * and those are put back. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/lock.h"
#include "base/path-util.h"
#include "core/exchange/exchange-internal.h"
#include "core/lower/difference.h"
#include "core/upper/digest.h"
#include "core/upper/fileattr.h"
#include "core/upper/meta.h"
#include "core/upper/redirect-max.h"

#define FEW_DIRECTORIES 4
/* Of an entry that seems to have changed: a lower that says so each time is wrong about it. Each time it is
 * waited for so much longer, 0.6 s in all. */
#define PLACE_TRIES 20
#define PLACE_PAUSE_MSEC 3
/* Entries a task links. */
#define BATCH_ENTRIES 64

/* Copying up a lower file with several names breaks the links between them, unless the index keeps them
 * (docs/overlayfs.md 3.4). */
static bool is_hard_link(const Sides *s, const char *name) {
        const Context *context = s->x->context;
        struct stat st;

        if (context->options.break_hard_links || context->overlay->index == TRI_YES ||
            fstatat(s->old.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
            st.st_nlink < 2)
                return false;
        /* Unless somebody has copied it up since it was listed: then the links are upper ones, and stay. */
        return fstatat(s->old.upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0;
}

static bool hands_on_project(int fd) {
        FileAttr a;

        return fileattr_get(fd, &a) >= 0 && fileattr_hands_on_project(&a);
}

static bool is_directory(int dfd, const char *name) {
        struct stat st;

        return fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISDIR(st.st_mode);
}

/* Whoever renames may wait for a processor between what the upper has and what the overlay shows, which the
 * VFS brings in line last (vfs_rename()): until then a name that is listed is ENOENT. */
static void wait_for_rename(unsigned n_tries) {
        (void) poll(NULL, 0, (int) (n_tries * PLACE_PAUSE_MSEC));
}

/* What link() of an entry may say beyond success. 0: changed meanwhile, list again (EEXIST, too). */
static int place_error(Sides *s, Entry *e, int error) {
        bool is_change = error == ENOENT || error == EEXIST;

        if ((is_change || (error == EPERM && is_directory(s->old.fd, e->name))) &&
            e->n_tries < PLACE_TRIES) {
                wait_for_rename(e->n_tries++);
                node_recheck(s->node);
                return 0;
        }
        if (error == EXDEV && hands_on_project(s->old.fd)) {
                node_block(
                        s->node, DIRECTORY_EXCLUDED,
                        "'%s' cannot be copied up: its directory hands on its project (chattr +P), and the "
                        "work directory has another one",
                        e->name);
                return RESULT_BLOCKED;
        }
        return exchange_error(
                s->x, CALL_COPY_UP, -error, s->node, s->old.fd, e->name,
                error == EIO && s->x->tree->is_undo ? "copy up the metadata (if the lower file was removed, "
                                                      "run 'ovlfinctl prune' first) of"
                                                    : "copy up the metadata of");
}

/* shown: of what is to be copied up first, else NULL. link() would do that as well, but waits for the lower
 * with the directory that is linked into locked, and asks it for access besides (docs/overlayfs.md 3.2). */
static int link_entry(const Sides *s, const Entry *e, const struct stat *shown) {
        int r = shown ? meta_copy_up_at(s->old.fd, e->name, shown) : 0;
        Exchange *x = s->x;

        if (r < 0)
                return r;
        r = linkat(s->old.fd, e->name, s->new.fd, e->name, 0) < 0 ? -errno : 0;
        if (r == -EEXIST && x->tree->is_undo && !batch_should_stop(&x->batch)) {
                char quarantine[16];

                /* A name added to the lower since: this one is the user's and covers it. */
                staging_new_name(&x->staging, quarantine);
                if (renameat2(s->new.fd, e->name, x->staging.quarantine.fd, quarantine, RENAME_NOREPLACE) >=
                    0)
                        r = linkat(s->old.fd, e->name, s->new.fd, e->name, 0) < 0 ? -errno : 0;
        }
        return r;
}

static bool raise_redirect_max(Exchange *x) {
        LOCKED(&x->tree->lock);

        return redirect_max_raise(&x->context->redirect_max_hold) >= 0;
}

/* What the lower shows. shown: what the overlay did before this very moment's copy, NULL if something was in
 * the upper before. Then users may have changed what it shows, so the lower is asked. What an older record
 * says was carried over by the scan. */
static void note_base(const Sides *s, Entry *e, const struct stat *shown) {
        _cleanup_free_ char *path = NULL;
        const Node *n = s->node;

        if (e->is_local || e->base != 0)
                return;
        if (shown) {
                difference_note_known(e, &s->x->lower, shown, digest_xattrs(s->new.upper_fd, e->name));
                return;
        }
        path = n->lower && n->is_merged ? path_join(n->lower, e->name) : NULL;
        if (path)
                difference_note(e, &s->x->lower, path);
}

/* What the lower layer shows: whoever changes, replaces or deletes an entry leaves something in the upper,
 * and may have done so since the scan. */
static bool stat_untouched(const Sides *s, const char *name, struct stat *ret) {
        struct stat st;

        return fstatat(s->old.fd, name, ret, AT_SYMLINK_NOFOLLOW) >= 0 &&
                fstatat(s->old.upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

int place_entry(Sides *s, Entry *e, bool copy_up) {
        struct stat st, shown;
        const struct stat *first = NULL;
        bool is_shown = e->inode == 0 && stat_untouched(s, e->name, &shown);
        int r;

        if (e->inode == 0 && is_hard_link(s, e->name)) {
                node_block(
                        s->node, DIRECTORY_EXCLUDED,
                        "'%s' has several hard links in the lower layer (HardLinks=skip)", e->name);
                return RESULT_BLOCKED;
        }
        first = is_shown && copy_up ? &shown : NULL;
        r = link_entry(s, e, first);
        if ((r == -EXDEV && raise_redirect_max(s->x)) || error_is_of_lower(r))
                r = link_entry(s, e, first);
        if (r < 0)
                return place_error(s, e, -r);
        if (fstatat(s->new.upper_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return place_error(s, e, errno == ENOENT ? EIO : errno);
        e->is_local |= was_made_meanwhile(s->x, s->node, e, s->new.upper_fd, e->name);
        e->inode = st.st_ino;
        note_base(s, e, is_shown ? &shown : NULL);
        e->identity = entry_identity(s->new.upper_fd, e->name);
        e->is_placed = true;
        e->type = IFTODT(st.st_mode); /* replaced by another kind of entry since it was listed? */
        return 0;
}

typedef struct PlaceTask {
        Exchange *x;
        Node *node;
        unsigned n;
        Entry *entries[BATCH_ENTRIES];
} PlaceTask;

/* An undo must be possible when the upper is full. */
static bool has_room(Exchange *x) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;

        if (x->tree->is_undo || guard_room(x->context, x->tree->path, /* bytes= */ 0, &failure) >= 0)
                return true;
        batch_fail(&x->batch, &failure);
        return false;
}

static int place_batch(PlaceTask *t, bool copy_up) {
        _cleanup_(sides_done) Sides s = SIDES_INIT(t->x, t->node);
        int r = node_open_old(t->x, t->node, &s.old);

        if (errno_is_gone(r)) {
                node_recheck(t->node); /* it was moved, or is gone: its parent tells */
                return 0;
        }
        if (r >= 0)
                r = node_open_pair(t->node, t->x->new, &s.new);
        if (r < 0)
                return r;
        if (!has_room(t->x))
                return 0;
        for (unsigned i = 0; i < t->n && !batch_should_stop(&t->x->batch); i++) {
                bool copies_up = t->entries[i]->inode == 0;
                uint64_t begin;

                throttle_wait(t->x->context->throttle, t->x->context, 1);
                begin = now_monotonic_usec();
                (void) place_entry(&s, t->entries[i], copy_up);
                if (copies_up)
                        throttle_observe(
                                t->x->context->throttle, t->x->batch.pool, PACE_ENTRY,
                                now_monotonic_usec() - begin);
                atomic_fetch_add(&t->x->batch.n_done, 1);
        }
        return 0;
}

static void place_task(void *argument, unsigned thread) {
        _cleanup_free_ PlaceTask *t = argument;
        int r;

        if (batch_should_stop(&t->x->batch))
                return;
        r = place_batch(t, /* copy_up= */ true);
        if (r < 0)
                (void) exchange_error(t->x, CALL_READ, r, t->node, -EBADF, NULL, "open the directory");
}

static int submit_batch(PlaceTask **t) {
        int r = pool_submit((*t)->x->batch.pool, place_task, *t);

        if (r >= 0)
                *t = NULL;
        return r;
}

static int submit_entries(Node *n, void *userdata) {
        _cleanup_free_ PlaceTask *t = NULL;
        Exchange *x = userdata;

        if (n->entry && !n->entry->is_placed) /* it changed while it was listed; its parent is compared */
                return 0;
        ENTRY_FOREACH (n, e) {
                int r;

                if (e->type == DT_DIR || e->type == DT_WHT)
                        continue;
                if (!t) {
                        t = calloc(1, sizeof(PlaceTask));
                        if (!t)
                                return -ENOMEM;
                        *t = (PlaceTask){ .x = x, .node = n };
                }
                t->entries[t->n++] = e;
                r = t->n < BATCH_ENTRIES ? 0 : submit_batch(&t);
                if (r < 0)
                        return r;
        }
        return t ? submit_batch(&t) : 0;
}

int build_place(Exchange *x) {
        int r = tree_foreach(x->tree, submit_entries, x), k = batch_wait(&x->batch, JOB_RUNNING);

        return k == RESULT_HUNG || r >= 0 ? k : r;
}

/* The kernel puts back the modification time of a directory after each copy-up in it (ovl_copy_up_one reads
 * it first, ovl_set_timestamps writes it last; docs/overlayfs.md 3.3): of two at once, one may read what the
 * other is about to put back, and keep it. */
static int restore_time(Node *n, void *userdata) {
        Exchange *x = userdata;
        _cleanup_close_ int fd = -EBADF, upper_fd = -EBADF;
        struct stat st;

        if (n->is_touched || n->watch < 0)
                return 0; /* somebody's change set it */
        upper_fd = node_open(n, x->old.upper_fd);
        if (upper_fd < 0 || fstat(upper_fd, &st) < 0 ||
            (st.st_mtim.tv_sec == n->mtime.tv_sec && st.st_mtim.tv_nsec == n->mtime.tv_nsec) ||
            !is_handle_at(upper_fd, "", n->old_handle))
                return 0;
        fd = node_open(n, x->old.fd);
        if (fd >= 0)
                (void) futimens(fd, (struct timespec[2]){ { .tv_nsec = UTIME_OMIT }, n->mtime });
        return 0;
}

void build_restore_times(Exchange *x) {
        if (watch_drain(x) >= 0) /* who touched what */
                (void) tree_foreach(x->tree, restore_time, x);
}

/* Not before everything is in there: what is linked may have another project than the directory hands on. */
static int copy_fileattr(Node *n, int old_fd, int new_fd) {
        int r = fileattr_copy(old_fd, new_fd);

        if (r == 1)
                node_block(
                        n, DIRECTORY_EXCLUDED,
                        "a directory in its place cannot have its inode flags and project (lsattr -dp)");
        return r < 0 ? r : 0;
}

static int find_new_name(int dfd, const struct dirent *de, void *userdata) {
        Node *n = userdata;

        n->has_new_names |= !node_find(n, de->d_name);
        return 0;
}

/* 1: not where it was; its parents are compared first. */
static int copy_attributes(Exchange *x, Node *n, bool only_times) {
        _cleanup_close_ int old_fd = node_open(n, x->old.fd), new_fd = -EBADF;
        int r;

        if (errno_is_gone(old_fd))
                return 1;
        new_fd = old_fd < 0 ? old_fd : node_open(n, x->new.fd);
        if (new_fd < 0)
                return new_fd;
        r = only_times ? 0 : meta_copy(old_fd, new_fd);
        if (r >= 0 && !only_times)
                r = copy_fileattr(n, old_fd, new_fd);
        if (r >= 0 && x->tree->is_undo && n->lower && !n->has_new_names)
                r = dir_foreach_dirent(new_fd, find_new_name, n);
        if (r < 0)
                return r;
        return n->has_new_names ? meta_touch(old_fd, new_fd) : meta_copy_times(old_fd, new_fd);
}

static int copy_node_attributes(Exchange *x, Node *n) {
        bool was_attributes_dirty = n->is_attributes_dirty;
        int r;

        n->is_attributes_dirty = n->is_times_dirty =
                false; /* first: an event from now on must set it again */
        r = copy_attributes(x, n, /* only_times= */ !was_attributes_dirty);
        if (r == 1) {
                n->is_attributes_dirty |= was_attributes_dirty;
                n->is_times_dirty = true;
        }
        return r < 0 ? r : 0;
}

static int attributes_error(Exchange *x, int r, Node *n) {
        _cleanup_close_ int fd = node_open(n, x->old.fd);

        return exchange_error(
                x, CALL_SET_ATTRIBUTES, r, n, fd, NULL, "copy owner, mode and attributes of the directory");
}

static void copy_attributes_task(Exchange *x, Node *n) {
        int r = copy_node_attributes(x, n);

        if (r < 0)
                (void) attributes_error(x, r, n);
}

typedef struct AttributesDirty {
        Exchange *x;
        Node *few[FEW_DIRECTORIES];
        size_t n;
} AttributesDirty;

/* A few are done faster right here than by waking threads: this runs between others' operations. */
static int collect_attributes_dirty(Node *n, void *userdata) {
        AttributesDirty *u = userdata;

        if (!n->is_attributes_dirty && !n->is_times_dirty)
                return 0;
        if (u->n < FEW_DIRECTORIES) {
                u->few[u->n++] = n;
                return 0;
        }
        return exchange_submit(u->x, n, copy_attributes_task);
}

int build_copy_attributes(Exchange *x) {
        AttributesDirty u = { .x = x };
        int r = tree_foreach(x->tree, collect_attributes_dirty, &u), k;

        for (size_t i = 0; r >= 0 && i < u.n; i++) {
                r = copy_node_attributes(x, u.few[i]);
                r = r < 0 ? attributes_error(x, r, u.few[i]) : 0;
        }
        k = u.n < FEW_DIRECTORIES ? 0 : batch_wait(&x->batch, JOB_RUNNING);
        return k == RESULT_HUNG || r >= 0 ? k : r;
}

int place_late(Exchange *x, Node *n) {
        PlaceTask t = { .x = x, .node = n };

        ENTRY_FOREACH (n, e) {
                int r;

                if (e->type == DT_WHT)
                        continue;
                if (e->type == DT_DIR) {
                        r = build_late(x, e->dir);
                        if (r < 0)
                                return r;
                        continue;
                }
                t.n = 1;
                t.entries[0] = e;
                r = place_batch(&t, /* copy_up= */ false);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* No event tells of inode flags. */
static int copy_late_fileattr(Node *n, void *userdata) {
        Exchange *x = userdata;
        _cleanup_close_ int old_fd = node_open(n, x->old.fd),
                            new_fd = old_fd < 0 ? old_fd : node_open(n, x->new.fd);
        int r;

        if (errno_is_gone(old_fd) || errno_is_gone(new_fd))
                return 0; /* an event tells */
        r = new_fd < 0 ? new_fd : copy_fileattr(n, old_fd, new_fd);
        return r < 0 && attributes_error(x, r, n) != RESULT_BLOCKED ? r : 0;
}

int build_copy_attributes_late(Exchange *x) {
        int r = tree_foreach(x->tree, copy_late_fileattr, x);

        return r < 0 ? r : exchange_check_blocked(x);
}
