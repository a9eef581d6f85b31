/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The first part of building a new tree: every directory is watched, listed and made, in this order, so
 * that a name that comes after the listing raises an event. The directories wait for the lower
 * independently of each other, so each is a task of the pool. No entry is copied up here but directories.
 * What cannot be exchanged is blocked with a reason, and the scan goes on beside it. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/exchange/exchange-internal.h"
#include "core/lower/difference.h"
#include "core/state/audit.h"
#include "core/upper/fileattr.h"
#include "core/upper/layer.h"
#include "core/upper/meta.h"
#include "core/upper/names.h"

/* What looking at a directory ends in when it is not there any more: the ones around tell where it went. */
enum { SCAN_GONE = 1 };

/* An old directory while it is read, and what is being done: should it fail, that is told. */
typedef struct Open {
        char *path; /* in the tree */
        DirectoryPair old;
        ErrorCall call;
        const char *what;
        char name[NAME_MAX + 1]; /* of the entry, "" the directory itself */
} Open;

#define OPEN_INIT                                                                                           \
        (Open) {                                                                                            \
                .old = DIRECTORY_PAIR_INIT                                                                  \
        }

static void open_done(Open *o) {
        free(o->path);
        pair_done(&o->old);
        *o = OPEN_INIT;
}

static void open_begin(Open *o, ErrorCall call, const char *what) {
        o->call = call;
        o->what = what;
        o->name[0] = '\0';
}

static void block_layer(Node *n, const OverlayInnerMount *m, const char *how) {
        node_block(
                n, DIRECTORY_PENDING,
                "it %s a layer of the overlay at '%s' (seen by process %d), which would go on showing the "
                "old tree",
                how, m->where, (int) m->pid);
}

/* Mounts in other namespaces are not met by walking; bind mounts and overlays would go on showing the old
 * tree. */
static int check_mounts(Exchange *x, Node *n, const char *name) {
        _cleanup_free_ char *path = exchange_node_path(x, n, name);
        const OverlayInnerMount *m = path ? context_find_inner_mount(x->context, path) : NULL;

        if (!m)
                return path ? 0 : -ENOMEM;
        if (m->kind == INNER_LAYER)
                block_layer(n, m, "is");
        else if (m->kind == INNER_BIND)
                node_block(
                        n, DIRECTORY_PENDING,
                        "it is bind-mounted at '%s' (seen by process %d), which would go on showing the old "
                        "tree",
                        m->where, (int) m->pid);
        else
                node_block(
                        n, DIRECTORY_EXCLUDED, "something is mounted upon it at '%s' (seen by process %d)",
                        m->where, (int) m->pid);
        return RESULT_BLOCKED;
}

/* Lookups of the other overlay remember the directories of its layer: those below are lost to it as well. */
static int check_around(Exchange *x, Node *n) {
        const OverlayInnerMount *m;
        int r = n->parent ? 0 : context_find_layer_around(x->context, x->tree->path, &m);

        if (r <= 0)
                return r;
        block_layer(n, m, m->is_somewhere && m->inode == 0 ? "may lie in" : "lies in");
        return RESULT_BLOCKED;
}

/* One that is spelled in another way, or stood elsewhere when the other overlay was mounted. */
static int check_layer(Exchange *x, Node *n, int fd) {
        _cleanup_free_ char *path = exchange_node_path(x, n, NULL);
        const OverlayInnerMount *m;
        int r = path ? context_find_layer_at(x->context, path, fd, &m) : -ENOMEM;

        if (r <= 0)
                return r;
        block_layer(n, m, m->is_somewhere && m->inode == 0 ? "may be" : "is");
        return RESULT_BLOCKED;
}

static int check_excluded(Exchange *x, Node *n) {
        _cleanup_free_ char *path = n->parent ? exchange_node_path(x, n, NULL) : NULL;

        if (!path || !globs_match_within(&x->context->options.exclude, path))
                return !n->parent || path ? 0 : -ENOMEM;
        node_block(n, DIRECTORY_EXCLUDED, "Exclude= says so");
        return RESULT_BLOCKED;
}

/* What the kernel would refuse later: to move or to empty it, or to put it there (docs/overlayfs.md 3.5). */
static int check_fileattr(const Exchange *x, Node *n, int fd) {
        FileAttr a, parent = { 0 };
        int r = fileattr_get(fd, &a);

        if (r >= 0 && !n->parent)
                r = fileattr_get(x->parent.fd, &parent);
        if (r < 0)
                return r;
        if (fileattr_is_frozen(&a))
                node_block(
                        n, DIRECTORY_EXCLUDED,
                        "it is immutable or append-only; take that away first (chattr -i -a)");
        else if (fileattr_hands_on_project(&parent) && parent.x.fsx_projid != a.x.fsx_projid)
                node_block(
                        n, DIRECTORY_EXCLUDED,
                        "the directory it is in hands on its project %u (chattr +P), and its own is %u: it "
                        "cannot be renamed; give it that project first (chattr -p)",
                        parent.x.fsx_projid, a.x.fsx_projid);
        else
                return 0;
        return RESULT_BLOCKED;
}

static int copy_up_old(Exchange *x, Node *n, Open *o) {
        int r = meta_copy_up(o->old.fd);

        if (r == -EPERM) {
                r = check_fileattr(x, n, o->old.fd);
                return r < 0 ? r : -EPERM;
        }
        if (r == -EXDEV) {
                node_block(
                        n, DIRECTORY_EXCLUDED,
                        "it cannot be copied up: the directory it is in hands on its project (chattr +P), "
                        "and the work directory has another one");
                return RESULT_BLOCKED;
        }
        if (r < 0)
                return r;
        o->old.upper_fd = open_dir_beneath(x->old.upper_fd, o->path);
        return o->old.upper_fd == -ENOENT ? SCAN_GONE : o->old.upper_fd < 0 ? o->old.upper_fd : 0;
}

/* The one that is shown; layers of other overlays are known by it. SCAN_GONE. */
static int open_shown(Exchange *x, Node *n, Open *o) {
        (void) fd_close(o->old.fd);
        o->old.fd = open_dir_beneath(x->old.fd, o->path);
        if (o->old.fd == -EXDEV) {
                node_block(n, DIRECTORY_EXCLUDED, "another file system is mounted upon it");
                return RESULT_BLOCKED;
        }
        if (errno_is_gone(o->old.fd))
                return SCAN_GONE;
        return o->old.fd < 0 ? o->old.fd : check_layer(x, n, o->old.fd);
}

/* Opens the old directory of n and brings it to the upper. The path may lead to another directory from one
 * moment to the next: what is listed is opened after what it is identified by, and is_where_it_was() looks
 * at that once more. SCAN_GONE. */
static int open_old(Exchange *x, Node *n, Open *o) {
        int r;

        open_begin(o, CALL_READ, "open the directory");
        o->path = node_path(n);
        if (!o->path)
                return -ENOMEM;
        r = check_mounts(x, n, NULL);
        if (r >= 0)
                r = check_around(x, n);
        if (r >= 0 && !x->tree->is_undo)
                r = check_excluded(x, n);
        if (r < 0)
                return r;
        r = open_shown(x, n, o);
        if (r != 0)
                return r;
        o->old.upper_fd = open_dir_beneath(x->old.upper_fd, o->path);
        open_begin(o, CALL_COPY_UP, "copy up the metadata of the directory");
        if (o->old.upper_fd == -ENOENT)
                r = copy_up_old(x, n, o);
        else
                r = o->old.upper_fd < 0 ? o->old.upper_fd : 0;
        if (r == 0)
                r = open_shown(x, n, o);
        if (r == 0)
                open_begin(o, CALL_READ, "read the inode flags of the directory");
        return r == 0 ? check_fileattr(x, n, o->old.fd) : r;
}

static int set_lower(Node *n, const char *a, const char *b) {
        free(n->lower);
        n->lower = b ? path_join(a, b) : strdup(a);
        return n->lower ? 0 : -ENOMEM;
}

/* Whether the old directory is merged, and with which lower path; a pure one that we made has
 * its lower path in the record. The root's is known already. */
static int find_lower(Exchange *x, Node *n, int upper_fd) {
        _cleanup_(upper_entry_done) UpperEntry ue = { 0 };
        const Node *recorded = records_find(x->records, n->old_handle);
        int r = upper_entry_read(upper_fd, "", &ue);

        if (r < 0)
                return r;
        if (n->parent) {
                bool by_name = ue.class == UPPER_PLAIN || (ue.redirect && ue.redirect[0] != '/');

                n->is_merged = ue.class != UPPER_OPAQUE && (!by_name || n->parent->is_merged);
                if (n->is_merged && ue.class == UPPER_REDIRECT)
                        r = by_name ? set_lower(n, n->parent->lower, ue.redirect)
                                    : set_lower(n, ue.redirect + 1, NULL);
                else if (n->is_merged)
                        r = set_lower(n, n->parent->lower, n->entry->name);
        }
        if (r >= 0 && !n->is_merged && recorded && recorded->lower)
                r = set_lower(n, recorded->lower, NULL);
        if (r >= 0 && !n->lower && x->tree->is_undo && x->context->options.force) {
                r = audit_guess_lower(upper_fd, &n->lower);
                r = r == -ENODATA ? 0 : r;
        }
        return r;
}

bool was_made_meanwhile(const Exchange *x, const Node *n, const Entry *e, int dfd, const char *name) {
        _cleanup_(upper_entry_done) UpperEntry ue = { 0 };

        return e->inode == 0 && n->is_merged && !x->tree->is_undo && upper_entry_read(dfd, name, &ue) >= 0 &&
                difference_is_local(n, e->name, &ue, &x->lower);
}

/* Identity of the old directory, and whether it is merged. */
static int identify(Exchange *x, Node *n, int upper_fd) {
        struct stat st;
        int r;

        if (fstat(upper_fd, &st) < 0)
                return -errno;
        n->mtime = st.st_mtim;
        node_set_old_inode(n, st.st_ino);
        if (n->entry) {
                n->entry->is_local |= was_made_meanwhile(x, n->parent, n->entry, upper_fd, "");
                n->entry->inode = st.st_ino;
        }
        free(n->old_handle);
        n->old_handle = NULL;
        r = file_handle_at(upper_fd, "", &n->old_handle);
        return r < 0 ? r : find_lower(x, n, upper_fd);
}

typedef struct Listing {
        Exchange *x;
        Node *node;
        Open *open;
        const Node *recorded;
} Listing;

static int refuse_size(Exchange *x) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;

        (void) failure_set(
                &failure, FAILURE_PRECONDITION, EFBIG,
                "'%s/%s' holds more than MaxEntries=%llu entries; finalize it by hand, or raise MaxEntries=",
                x->context->overlay->mount_point, x->tree->path,
                (unsigned long long) x->context->options.max_entries);
        batch_fail(&x->batch, &failure);
        return -EFBIG;
}

static int note_entry(Listing *l, const char *name, unsigned char type, const UpperEntry *ue) {
        Entry *e, *known = l->recorded ? node_find(l->recorded, name) : NULL;
        int r = node_add(l->node, name, type, &e);

        if (r < 0)
                return r == -EEXIST ? 0 : r;
        e->inode = ue->inode;
        e->is_local = l->node->is_merged ? difference_is_local(l->node, name, ue, &l->x->lower)
                                         : !known || known->is_local;
        if (known) {
                e->base = known->base;
                e->xattrs = known->xattrs;
                e->ctime = known->ctime;
        }
        if (atomic_fetch_add(&l->x->batch.n_total, 1) < l->x->context->options.max_entries)
                return 0;
        return refuse_size(l->x);
}

static int list_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry ue = { 0 };
        Listing *l = userdata;
        int r;

        if (is_staging_name(name)) {
                node_block(
                        l->node, DIRECTORY_PENDING,
                        "it holds '%s', the old tree of a directory in which processes still stand", name);
                return RESULT_BLOCKED;
        }
        r = type == DT_DIR ? 0 : check_mounts(l->x, l->node, name);
        if (r < 0)
                return r;
        r = upper_entry_read(l->open->old.upper_fd, name, &ue);
        if (r < 0) {
                open_begin(l->open, CALL_READ, "read what the upper layer says of");
                (void) snprintf(l->open->name, sizeof(l->open->name), "%s", name);
                return r;
        }
        if (!l->node->is_merged && ue.class == UPPER_REDIRECT && l->x->tree->is_undo) {
                l->x->result->has_merged_child = true;
                node_block(l->node, DIRECTORY_PENDING, "it holds the merged directory '%s'", name);
                return RESULT_BLOCKED;
        }
        return note_entry(l, name, type, &ue);
}

static int list_whiteout(int dfd, const char *name, unsigned char type, void *userdata) {
        Listing *l = userdata;
        struct stat st;
        int r;

        if (type != DT_CHR)
                return 0;
        if (fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (st.st_rdev != 0)
                return 0;
        r = node_add(l->node, name, DT_WHT, NULL);
        return r == -EEXIST ? 0 : r;
}

/* A listing leaves out what cannot be looked up where it looks names up (docs/overlayfs.md 4.7). What is not
 * known to stand in the old tree would keep that from ever being removed. */
static int list_hidden(Listing *l) {
        _cleanup_(raw_list_done) RawList raw = { 0 };
        int r = raw_list_read(l->open->old.upper_fd, &raw);

        for (size_t i = 0; r >= 0 && i < raw.n; i++) {
                const RawEntry *e = raw.items + i;

                if (e->type != DT_WHT && !node_find(l->node, e->name))
                        r = list_entry(l->open->old.upper_fd, e->name, e->type, l);
        }
        return r;
}

/* Names the record knows and the directory has no more: deleted since, and to stay so after an undo. */
static int list_deleted(Listing *l) {
        if (!l->recorded)
                return 0;
        ENTRY_FOREACH (l->recorded, e) {
                int r = e->is_local ? 0 : node_add(l->node, e->name, DT_WHT, NULL);
                if (r < 0 && r != -EEXIST)
                        return r;
        }
        return 0;
}

static int list_old(Exchange *x, Node *n, Open *o) {
        Listing l = {
                .x = x,
                .node = n,
                .open = o,
                .recorded = n->is_merged ? NULL : records_find(x->records, n->old_handle),
        };
        int r;

        open_begin(o, CALL_READ, "list the directory");
        if (n->is_merged && !x->tree->is_undo)
                difference_note_directory(n, &x->lower);
        else if (l.recorded)
                n->base = l.recorded->base;
        /* First: where something is made anew meanwhile, it is not taken for a name that was never there. */
        r = n->is_merged ? dir_foreach(o->old.upper_fd, list_whiteout, &l) : 0;
        if (r >= 0)
                r = dir_foreach(o->old.fd, list_entry, &l);
        if (r == -EIO && x->tree->is_undo)
                open_begin(
                        o, CALL_READ,
                        "list (if a lower file was removed, run 'ovlfinctl prune' first) the directory");
        if (r >= 0)
                r = list_hidden(&l);
        return r < 0 ? r : list_deleted(&l);
}

static int make_directory(Exchange *x, Node *n, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        /* Its name in the new tree may have been looked up: too late for a raw edit. */
        if (x->tree->is_undo && n->lower && x->has_built)
                return EXCHANGE_ANEW;
        if (x->tree->is_undo && n->lower)
                r = undo_make_directory(x, n);
        else
                r = mkdirat(n->entry ? x->new.fd : x->staging.dir.fd, n->entry ? path : STAGING_TREE, 0700) <
                                0
                        ? -errno
                        : 0;
        if (r >= 0 && !n->entry) /* where it stands changes later, so it is held */
                r = pair_open(x->staging.dir, STAGING_TREE, &x->new);
        if (r < 0)
                return r;
        fd = open_dir_beneath(x->new.upper_fd, path);
        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        n->new_inode = st.st_ino;
        if (n->entry)
                n->entry->is_placed = true;
        r = file_handle_at(fd, "", &n->new_handle);
        if (r >= 0 && !n->entry)
                r = staging_own_tree(&x->staging, n->new_handle);
        return r;
}

static int watch_node(Exchange *x, Node *n, int fd) {
        int r = watch_add(x, n, fd);

        if (r != -ENOSPC)
                return r;
        node_block(
                n, DIRECTORY_EXCLUDED,
                "the limit of inotify watches is reached; raise fs.inotify.max_user_watches");
        return RESULT_BLOCKED;
}

/* What is below a directory that is left out is tried by itself, also what the listing did not get to. */
static int add_directory(int dfd, const char *name, unsigned char type, void *userdata) {
        int r = type == DT_DIR && !is_staging_name(name) ? node_add(userdata, name, DT_DIR, NULL) : 0;

        return r == -EEXIST ? 0 : r;
}

static bool is_at_its_path(const Exchange *x, const Node *n) {
        _cleanup_close_ int fd = node_open(n, x->old.upper_fd);

        return fd >= 0 && is_handle_at(fd, "", n->old_handle);
}

/* Else what was listed may be one directory, and what it was taken for another one, or one that lies in
 * another one. It is known no more then. */
static bool is_where_it_was(const Exchange *x, Node *n) {
        if (is_at_its_path(x, n) && (!n->parent || is_at_its_path(x, n->parent)))
                return true;
        node_set_old_inode(n, 0);
        return false;
}

static int look_at(Exchange *x, Node *n, Open *o) {
        int r = open_old(x, n, o);

        if (r != 0)
                return r;
        open_begin(o, CALL_READ, "watch the directory");
        r = watch_node(x, n, o->old.fd);
        if (r < 0)
                return r;
        open_begin(o, CALL_READ, "identify the directory");
        r = identify(x, n, o->old.upper_fd);
        if (r >= 0)
                r = list_old(x, n, o);
        return r < 0 || is_where_it_was(x, n) ? r : SCAN_GONE;
}

/* Watch, then list, then make: a name that comes after the listing raises an event. SCAN_GONE. */
static int scan_node(Exchange *x, Node *n) {
        _cleanup_(open_done) Open o = OPEN_INIT;
        int r = look_at(x, n, &o);

        if (error_is_of_lower(r)) {
                open_done(&o);
                r = look_at(x, n, &o);
        }
        if (r == SCAN_GONE || r == -ENOENT) /* a dead directory cannot be read */
                return SCAN_GONE;
        if (r >= 0) {
                open_begin(&o, CALL_MAKE, "make the new directory for");
                r = make_directory(x, n, o.path);
        }
        if (r >= 0 || r == EXCHANGE_ANEW || batch_should_stop(&x->batch))
                return r;
        r = exchange_error(x, o.call, r, n, o.old.fd, o.name[0] ? o.name : NULL, o.what);
        if (r == RESULT_BLOCKED && o.old.fd >= 0 && !x->tree->is_undo)
                (void) dir_foreach(o.old.fd, add_directory, n);
        return r;
}

static void scan_task(Exchange *x, Node *n);

static int submit_children(Exchange *x, Node *n) {
        int r = 0;

        ENTRY_FOREACH (n, e)
                if (r >= 0 && e->dir)
                        r = exchange_submit(x, e->dir, scan_task);
        return r;
}

static void scan_outcome(Exchange *x, Node *n, int r) {
        if (r == SCAN_GONE && n->parent) {
                atomic_fetch_add(&x->batch.n_done, 1);
                node_recheck(n->parent);
        } else if (r == SCAN_GONE)
                x->has_moved = true;
}

static void scan_task(Exchange *x, Node *n) {
        uint64_t begin;
        int r;

        throttle_wait(x->context->throttle, x->context, 1);
        begin = now_monotonic_usec();
        r = scan_node(x, n);
        throttle_observe(x->context->throttle, x->batch.pool, PACE_DIRECTORY, now_monotonic_usec() - begin);
        if (r == 0) {
                if (n->parent)
                        atomic_fetch_add(&x->batch.n_done, 1);
                r = submit_children(x, n);
                if (r < 0)
                        exchange_fail(x, r, n, NULL, "read the directory");
        }
        scan_outcome(x, n, r);
}

int build_scan(Exchange *x) {
        int r = exchange_submit(x, x->tree->root, scan_task);

        return r < 0 ? r : batch_wait(&x->batch, JOB_RUNNING);
}

int build_late(Exchange *x, Node *n) {
        int r = scan_node(x, n);

        if (r != 0) {
                scan_outcome(x, n, r);
                return r == SCAN_GONE ? 0 : r;
        }
        return place_late(x, n);
}
