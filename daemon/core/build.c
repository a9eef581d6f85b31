/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The new tree: first every directory is watched, listed and made, then every entry is linked, last the directories get
 * their owner, mode, xattrs and times. Each step waits for the lower at many places at once. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/audit.h"
#include "core/exchange-internal.h"
#include "core/layer.h"
#include "core/meta.h"
#include "core/redirect-max.h"

#define DRESS_FEW 4
#define BATCH_ENTRIES 16 /* entries a task links: enough to spare it opening directories, few enough to spread */

uint64_t entry_identity(int upper_dfd, const char *name) {
        _cleanup_free_ char *handle = NULL;
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        if (file_handle_at(upper_dfd, name, &handle) < 0)
                return 0;
        for (const char *p = handle; *p; p++)
                h = (h ^ (unsigned char) *p) * UINT64_C(0x100000001b3);
        return h;
}

static int raw_list_add(RawList *l, const char *name, unsigned char type, uint64_t inode) {
        RawEntry *e;

        if (l->n == l->room) {
                RawEntry *grown = reallocarray(l->items, l->room = 2 * l->room + 32, sizeof(RawEntry));

                if (!grown)
                        return -ENOMEM;
                l->items = grown;
        }
        e = l->items + l->n++;
        *e = (RawEntry) { .inode = inode, .type = type };
        (void) strcpy(e->name, name); /* a name of a directory entry is at most NAME_MAX */
        return 0;
}

static int raw_list_stat(RawList *l, int dfd, const char *name) {
        struct stat st;

        if (fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        return raw_list_add(l, name, S_ISCHR(st.st_mode) && st.st_rdev == 0 ? DT_WHT : IFTODT(st.st_mode), st.st_ino);
}

/* What readdir() says is enough, but for devices, which may be whiteouts. */
static int raw_list_entry(int dfd, const struct dirent *de, void *userdata) {
        if (de->d_type == DT_UNKNOWN || de->d_type == DT_CHR)
                return raw_list_stat(userdata, dfd, de->d_name);
        return raw_list_add(userdata, de->d_name, de->d_type, de->d_ino);
}

int raw_list_read(int upper_dfd, RawList *ret) {
        RawList l = { 0 };
        int r = dir_foreach_dirent(upper_dfd, raw_list_entry, &l);

        if (r < 0) {
                raw_list_done(&l);
                return r;
        }
        *ret = l;
        return 0;
}

bool is_handle_at(int upper_dfd, const char *name, const char *handle) {
        _cleanup_free_ char *found = NULL;

        return handle && file_handle_at(upper_dfd, name, &found) >= 0 && strcmp(found, handle) == 0;
}

Node *tree_find_old_at(Tree *t, int upper_dfd, const RawEntry *raw) {
        Node *n = raw->type == DT_DIR ? tree_find_old(t, raw->inode) : NULL;

        if (!n || is_handle_at(upper_dfd, raw->name, n->old_handle))
                return n;
        node_set_old_inode(n, 0); /* it is gone, its number is used again */
        return NULL;
}

int raw_list_changes(int upper_dfd, const Changes *c, RawList *ret) {
        if (c->all)
                return raw_list_read(upper_dfd, ret);
        for (unsigned i = 0; i < c->n; i++) {
                int r = raw_list_stat(ret, upper_dfd, c->names[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

void raw_list_done(RawList *l) {
        free(l->items);
        *l = (RawList) { 0 };
}

/* An old directory while it is read. */
typedef struct Open {
        char *path; /* in the tree */
        int fd, upper_fd;
} Open;

static void open_done(Open *o) {
        free(o->path);
        (void) fd_close(o->fd);
        (void) fd_close(o->upper_fd);
}

/* Mounts in other namespaces are not met by walking; a bind mount would go on showing the old tree (facts E.2). */
static int check_mounts(Exchange *x, Node *n, const char *name) {
        _cleanup_free_ char *path = exchange_node_path(x, n, name);
        const OverlayInnerMount *m = path ? site_find_inner_mount(x->site, path) : NULL;

        if (!m)
                return path ? 0 : -ENOMEM;
        if (m->is_bind)
                node_block(n, DIRECTORY_PENDING, "it is bind-mounted at '%s' (seen by process %d), which would go on showing the old tree",
                           m->where, (int) m->pid);
        else
                node_block(n, DIRECTORY_EXCLUDED, "something is mounted upon it at '%s' (seen by process %d)", m->where,
                           (int) m->pid);
        return -EUCLEAN;
}

/* Opens the old directory of n and brings it to the upper. 1: it has changed meanwhile. */
static int open_old(Exchange *x, Node *n, Open *o) {
        struct stat st;
        int r;

        o->path = node_path(n);
        if (!o->path)
                return -ENOMEM;
        r = check_mounts(x, n, NULL);
        if (r < 0)
                return r;
        o->fd = open_dir_beneath(x->old_fd, o->path);
        if (o->fd == -EXDEV) {
                node_block(n, DIRECTORY_EXCLUDED, "another file system is mounted upon it");
                return -EUCLEAN;
        }
        if (o->fd == -ENOENT || o->fd == -ENOTDIR || o->fd == -ELOOP)
                return 1;
        if (o->fd < 0)
                return o->fd;
        o->upper_fd = open_dir_beneath(x->old_upper_fd, o->path);
        if (o->upper_fd != -ENOENT)
                return o->upper_fd < 0 ? o->upper_fd : 0;
        /* Writing back the same access time copies up and changes nothing else (facts 1.6). */
        if (fstat(o->fd, &st) < 0 || futimens(o->fd, (struct timespec[2]) { st.st_atim, { .tv_nsec = UTIME_OMIT } }) < 0)
                return -errno;
        o->upper_fd = open_dir_beneath(x->old_upper_fd, o->path);
        return o->upper_fd == -ENOENT ? 1 : o->upper_fd < 0 ? o->upper_fd : 0;
}

static int set_lower(Node *n, const char *a, const char *b) {
        free(n->lower);
        n->lower = b ? path_join(a, b) : strdup(a);
        return n->lower ? 0 : -ENOMEM;
}

/* Whether the old directory is merged, and with which lower path (facts 1.3); a pure one that we made has its lower path
 * in the record. The root's is known already. */
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
                        r = by_name ? set_lower(n, n->parent->lower, ue.redirect) : set_lower(n, ue.redirect + 1, NULL);
                else if (n->is_merged)
                        r = set_lower(n, n->parent->lower, n->entry->name);
        }
        if (r >= 0 && !n->is_merged && recorded && recorded->lower)
                r = set_lower(n, recorded->lower, NULL);
        if (r >= 0 && !n->lower && x->tree->is_undo && x->site->options.force) {
                r = audit_guess_lower(upper_fd, &n->lower);
                r = r == -ENODATA ? 0 : r;
        }
        return r;
}

/* Identity of the old directory, and whether it is merged. */
static int identify(Exchange *x, Node *n, int upper_fd) {
        struct stat st;
        int r;

        if (fstat(upper_fd, &st) < 0)
                return -errno;
        node_set_old_inode(n, st.st_ino);
        if (n->entry)
                n->entry->inode = st.st_ino;
        free(n->old_handle);
        n->old_handle = NULL;
        r = file_handle_at(upper_fd, "", &n->old_handle);
        return r < 0 ? r : find_lower(x, n, upper_fd);
}

/* Whether name is a name of the lower: the upper entry was copied up, and not renamed since. */
static bool is_lower_name(const UpperEntry *e, const char *name) {
        if (e->class == UPPER_MISSING || e->class == UPPER_WHITEOUT)
                return true;
        if (e->class == UPPER_OPAQUE)
                return false;
        if (e->redirect)
                return strcmp(path_basename(e->redirect), name) == 0;
        return e->has_origin || e->class == UPPER_METACOPY;
}

typedef struct Listing {
        Exchange *x;
        Node *node;
        int upper_fd;
        const Node *recorded;
} Listing;

static int note_entry(Listing *l, const char *name, unsigned char type, const UpperEntry *ue) {
        Entry *e, *known = l->recorded ? node_find(l->recorded, name) : NULL;
        int r;

        r = node_add(l->node, name, type, &e);
        if (r < 0)
                return r == -EEXIST ? 0 : r;
        e->inode = ue->inode;
        e->is_local = l->node->is_merged ? !is_lower_name(ue, name) : !known || known->is_local;
        atomic_fetch_add(&l->x->n_total, 1);
        return 0;
}

static int list_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry ue = { 0 };
        Listing *l = userdata;
        int r;

        if (is_staging_name(name)) {
                node_block(l->node, DIRECTORY_PENDING,
                           "it holds '%s', the old tree of a directory in which processes still stand", name);
                return -EUCLEAN;
        }
        r = type == DT_DIR ? 0 : check_mounts(l->x, l->node, name);
        if (r >= 0)
                r = upper_entry_read(l->upper_fd, name, &ue);
        if (r < 0)
                return r;
        if (!l->node->is_merged && ue.class == UPPER_REDIRECT && l->x->tree->is_undo) {
                l->x->result->has_merged_child = true;
                node_block(l->node, DIRECTORY_PENDING, "it holds the merged directory '%s'", name);
                return -EUCLEAN;
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

/* Names the record knows and the directory has no more: deleted since, and to stay so after an undo. */
static int list_deleted(Listing *l) {
        Entry *e, *next;

        if (!l->recorded)
                return 0;
        HASH_ITER(hh, l->recorded->entries, e, next) {
                int r = e->is_local ? 0 : node_add(l->node, e->name, DT_WHT, NULL);
                if (r < 0 && r != -EEXIST)
                        return r;
        }
        return 0;
}

static int list_old(Exchange *x, Node *n, const Open *o) {
        Listing l = {
                .x = x,
                .node = n,
                .upper_fd = o->upper_fd,
                .recorded = n->is_merged ? NULL : records_find(x->records, n->old_handle),
        };
        int r;

        r = dir_foreach(o->fd, list_entry, &l);
        if (r >= 0 && n->is_merged)
                r = dir_foreach(o->upper_fd, list_whiteout, &l);
        return r < 0 ? r : list_deleted(&l);
}

/* The root of the new tree; where it stands changes later, so it is held. */
static int hold_new_root(Exchange *x) {
        x->new_upper_fd = open_dir_beneath(x->staging.upper_fd, STAGING_TREE);
        if (x->new_upper_fd < 0)
                return x->new_upper_fd;
        x->new_fd = open_dir_beneath(x->staging.dir_fd, STAGING_TREE);
        return x->new_fd < 0 ? x->new_fd : 0;
}

static int make_directory(Exchange *x, Node *n, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        if (x->tree->is_undo && n->lower)
                r = undo_make_directory(x, n);
        else
                r = mkdirat(n->entry ? x->new_fd : x->staging.dir_fd, n->entry ? path : STAGING_TREE, 0700) < 0 ? -errno
                                                                                                                : 0;
        if (r >= 0 && !n->entry)
                r = hold_new_root(x);
        if (r < 0)
                return r;
        fd = open_dir_beneath(x->new_upper_fd, path);
        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        n->new_inode = st.st_ino;
        if (n->entry)
                n->entry->is_placed = true;
        return file_handle_at(fd, "", &n->new_handle);
}

/* Watch, then list, then make: a name that comes after the listing raises an event. 1: changed meanwhile. */
static int scan_node(Exchange *x, Node *n) {
        _cleanup_(open_done) Open o = { .fd = -EBADF, .upper_fd = -EBADF };
        int r;

        r = open_old(x, n, &o);
        if (r == 1)
                return r;
        if (r >= 0)
                r = watch_add(x, n, o.fd);
        if (r >= 0)
                r = identify(x, n, o.upper_fd);
        if (r >= 0)
                r = list_old(x, n, &o);
        if (r == -ENOENT) /* removed under our hands: a dead directory cannot be read */
                return 1;
        return r < 0 ? r : make_directory(x, n, o.path);
}

typedef struct ScanTask {
        Exchange *x;
        Node *node;
} ScanTask;

static void scan_task(void *argument, unsigned thread);

static int submit_children(Exchange *x, Node *n) {
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                ScanTask *t = e->dir ? malloc(sizeof(ScanTask)) : NULL;
                int r;

                if (!e->dir)
                        continue;
                if (!t)
                        return -ENOMEM;
                *t = (ScanTask) { .x = x, .node = e->dir };
                r = pool_submit(x->pool, scan_task, t);
                if (r < 0) {
                        free(t);
                        return r;
                }
        }
        return 0;
}

static void scan_outcome(Exchange *x, Node *n, int r) {
        if (r == 1 && n->parent) {
                atomic_fetch_add(&x->n_done, 1);
                node_recheck(n->parent);
        } else if (r == 1)
                x->has_moved = true;
        else if (r == -ENOSPC && n->watch < 0)
                node_block(n, DIRECTORY_EXCLUDED,
                           "the limit of inotify watches is reached; raise fs.inotify.max_user_watches");
        else if (r == -EREMOTE)
                node_block(n, DIRECTORY_EXCLUDED, "a lower layer has an automount point or another overlay there");
        else if (r < 0 && r != -EUCLEAN)
                exchange_fail(x, r, n, NULL, "read the directory");
}

static void scan_task(void *argument, unsigned thread) {
        _cleanup_free_ ScanTask *t = argument;
        int r;

        if (exchange_should_stop(t->x))
                return;
        r = scan_node(t->x, t->node);
        if (r == 0) {
                if (t->node->parent)
                        atomic_fetch_add(&t->x->n_done, 1);
                r = submit_children(t->x, t->node);
        }
        scan_outcome(t->x, t->node, r);
}

int build_scan(Exchange *x) {
        ScanTask *t = malloc(sizeof(ScanTask));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (ScanTask) { .x = x, .node = x->tree->root };
        r = pool_submit(x->pool, scan_task, t);
        if (r < 0) {
                free(t);
                return r;
        }
        return exchange_wait(x, JOB_RUNNING);
}

/* Copying up a lower file with several names breaks the links between them, unless the index keeps them (facts 1.6). */
static bool is_hard_link(const Exchange *x, const Node *n, int old_fd, const char *name) {
        _cleanup_close_ int upper_fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        struct stat st;

        if (x->site->options.break_hard_links || x->site->overlay->index == TRI_YES ||
            fstatat(old_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) || st.st_nlink < 2)
                return false;
        /* Unless somebody has copied it up since it was listed: then the links are upper ones, and stay. */
        path = node_path(n);
        upper_fd = path ? open_dir_beneath(x->old_upper_fd, path) : -ENOMEM;
        return upper_fd < 0 || fstatat(upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0;
}

static bool is_directory(int dfd, const char *name) {
        struct stat st;

        return fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISDIR(st.st_mode);
}

/* What link() of an entry may say beyond success. 1: changed meanwhile, list again (EEXIST: facts 1.6). */
static int place_error(Exchange *x, Node *n, const Entry *e, int old_fd, int error) {
        switch (error) {
        case ENOENT:
        case EEXIST:
                return 1;
        case EPERM:
                if (is_directory(old_fd, e->name))
                        return 1;
                node_block(n, DIRECTORY_EXCLUDED, "'%s' is immutable or append-only in the lower layer", e->name);
                return -EUCLEAN;
        case EMLINK:
                node_block(n, DIRECTORY_EXCLUDED, "'%s' has as many links as its file system allows", e->name);
                return -EUCLEAN;
        case EXDEV:
                node_block(n, DIRECTORY_EXCLUDED,
                           "'%s' is a mount point, or its lower path is too long for a redirect", e->name);
                return -EUCLEAN;
        case EOVERFLOW:
                node_block(n, DIRECTORY_EXCLUDED, "the owner of '%s' has no number in the overlay's user namespace",
                           e->name);
                return -EUCLEAN;
        case EREMOTE:
                node_block(n, DIRECTORY_EXCLUDED, "'%s' lies behind an automount point or another overlay", e->name);
                return -EUCLEAN;
        default:
                exchange_fail(x, -error, n, e->name, "copy up the metadata");
                return -error;
        }
}

/* A copy-up waits for the lower with the directory that is linked into locked, so each thread links into one of its own
 * and moves the result, which waits for nobody. */
static int link_by_scratch(int old_fd, const char *name, int scratch_fd, int new_fd) {
        if (linkat(old_fd, name, scratch_fd, "entry", 0) < 0)
                return -errno;
        if (renameat2(scratch_fd, "entry", new_fd, name, RENAME_NOREPLACE) < 0) {
                int r = -errno;

                (void) unlinkat(scratch_fd, "entry", 0);
                return r;
        }
        return 0;
}

static int link_entry(Exchange *x, const Entry *e, int old_fd, int new_fd, int scratch_fd) {
        int r;

        if (scratch_fd >= 0)
                return link_by_scratch(old_fd, e->name, scratch_fd, new_fd);
        r = linkat(old_fd, e->name, new_fd, e->name, 0) < 0 ? -errno : 0;
        if (r == -EEXIST && x->tree->is_undo && !exchange_should_stop(x)) {
                char grave[16];

                /* A name added to the lower since: this one is the user's and covers it. */
                staging_new_name(&x->staging, grave);
                if (renameat2(new_fd, e->name, x->staging.grave_fd, grave, RENAME_NOREPLACE) >= 0)
                        r = linkat(old_fd, e->name, new_fd, e->name, 0) < 0 ? -errno : 0;
        }
        return r;
}

int place_entry(Exchange *x, Node *n, Entry *e, int old_fd, int new_fd, int new_upper_fd, int scratch_fd) {
        struct stat st;
        int r;

        if (e->inode == 0 && is_hard_link(x, n, old_fd, e->name)) {
                node_block(n, DIRECTORY_EXCLUDED, "'%s' has several hard links in the lower layer (HardLinks=skip)",
                           e->name);
                return -EUCLEAN;
        }
        r = link_entry(x, e, old_fd, new_fd, e->inode == 0 ? scratch_fd : -EBADF);
        if (r == -EXDEV && redirect_max_raise(&x->site->redirect_max_before) > 0)
                r = link_entry(x, e, old_fd, new_fd, e->inode == 0 ? scratch_fd : -EBADF);
        if (r < 0)
                return place_error(x, n, e, old_fd, -r);
        if (fstatat(new_upper_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return place_error(x, n, e, old_fd, errno == ENOENT ? EIO : errno);
        e->inode = st.st_ino;
        e->identity = entry_identity(new_upper_fd, e->name);
        e->is_placed = true;
        if (S_ISDIR(st.st_mode) || IFTODT(st.st_mode) != e->type)
                e->type = IFTODT(st.st_mode); /* replaced by another kind of entry between listing and link */
        return 0;
}

typedef struct PlaceTask {
        Exchange *x;
        Node *node;
        unsigned n;
        Entry *entries[BATCH_ENTRIES];
} PlaceTask;

static int place_batch(PlaceTask *t, int scratch_fd) {
        _cleanup_free_ char *path = node_path(t->node);
        _cleanup_close_ int old_fd = -EBADF, new_fd = -EBADF, new_upper_fd = -EBADF;

        if (!path)
                return -ENOMEM;
        old_fd = open_dir_beneath(t->x->old_fd, path);
        if (old_fd == -ENOENT || old_fd == -ENOTDIR || old_fd == -ELOOP) {
                node_recheck(t->node); /* it was moved, or is gone: its parent tells */
                return 0;
        }
        new_fd = open_dir_beneath(t->x->new_fd, path);
        new_upper_fd = open_dir_beneath(t->x->new_upper_fd, path);
        if (old_fd < 0 || new_fd < 0 || new_upper_fd < 0)
                return old_fd < 0 ? old_fd : new_fd < 0 ? new_fd : new_upper_fd;
        for (unsigned i = 0; i < t->n && !exchange_should_stop(t->x); i++) {
                if (place_entry(t->x, t->node, t->entries[i], old_fd, new_fd, new_upper_fd, scratch_fd) == 1)
                        node_recheck(t->node);
                atomic_fetch_add(&t->x->n_done, 1);
        }
        return 0;
}

static void place_task(void *argument, unsigned thread) {
        _cleanup_free_ PlaceTask *t = argument;
        int r;

        if (exchange_should_stop(t->x))
                return;
        r = place_batch(t, t->x->staging.scratch_fds[thread]);
        if (r < 0)
                exchange_fail(t->x, r, t->node, NULL, "open the directory");
}

static int submit_batch(PlaceTask **t) {
        int r = pool_submit((*t)->x->pool, place_task, *t);

        if (r >= 0)
                *t = NULL;
        return r;
}

static int submit_entries(Node *n, void *userdata) {
        _cleanup_free_ PlaceTask *t = NULL;
        Exchange *x = userdata;
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                int r;

                if (e->type == DT_DIR || e->type == DT_WHT)
                        continue;
                if (!t) {
                        t = calloc(1, sizeof(PlaceTask));
                        if (!t)
                                return -ENOMEM;
                        *t = (PlaceTask) { .x = x, .node = n };
                }
                t->entries[t->n++] = e;
                r = t->n < BATCH_ENTRIES ? 0 : submit_batch(&t);
                if (r < 0)
                        return r;
        }
        return t ? submit_batch(&t) : 0;
}

int build_place(Exchange *x) {
        int r = tree_foreach(x->tree, submit_entries, x);

        return r < 0 ? r : exchange_wait(x, JOB_RUNNING);
}

static int dress_node(Exchange *x, Node *n) {
        _cleanup_free_ char *path = node_path(n);
        _cleanup_close_ int old_fd = -EBADF, new_fd = -EBADF;
        bool only_times = !n->is_undressed;
        int r;

        if (!path)
                return -ENOMEM;
        n->is_undressed = n->is_untimed = false; /* first: an event from now on must set it again */
        old_fd = open_dir_beneath(x->old_fd, path);
        if (old_fd == -ENOENT || old_fd == -ENOTDIR || old_fd == -ELOOP)
                return 0; /* gone or moved: the event is in the queue */
        new_fd = open_dir_beneath(x->new_fd, path);
        if (old_fd < 0 || new_fd < 0)
                return old_fd < 0 ? old_fd : new_fd;
        r = only_times ? 0 : meta_copy(old_fd, new_fd);
        return r < 0 ? r : meta_copy_times(old_fd, new_fd);
}

static void dress_task(void *argument, unsigned thread) {
        Node *n = ((ScanTask *) argument)->node;
        Exchange *x = ((ScanTask *) argument)->x;
        int r = 0;

        free(argument);
        if (!exchange_should_stop(x))
                r = dress_node(x, n);
        if (r < 0)
                exchange_fail(x, r, n, NULL, "copy owner, mode and attributes of the directory");
}

static int submit_dress(Exchange *x, Node *n) {
        ScanTask *t = malloc(sizeof(ScanTask));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (ScanTask) { .x = x, .node = n };
        r = pool_submit(x->pool, dress_task, t);
        if (r < 0)
                free(t);
        return r;
}

typedef struct Undressed {
        Exchange *x;
        Node *few[DRESS_FEW];
        size_t n;
} Undressed;

/* A few are done faster right here than by waking threads: this runs between others' operations. */
static int collect_undressed(Node *n, void *userdata) {
        Undressed *u = userdata;

        if (!n->is_undressed && !n->is_untimed)
                return 0;
        if (u->n < DRESS_FEW) {
                u->few[u->n++] = n;
                return 0;
        }
        return submit_dress(u->x, n);
}

int build_dress(Exchange *x) {
        Undressed u = { .x = x };
        int r = tree_foreach(x->tree, collect_undressed, &u);

        for (size_t i = 0; r >= 0 && i < u.n; i++)
                r = dress_node(x, u.few[i]);
        return r < 0 ? r : u.n < DRESS_FEW ? 0 : exchange_wait(x, JOB_RUNNING);
}

static int place_late(Exchange *x, Node *n) {
        PlaceTask t = { .x = x, .node = n };
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
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
                r = place_batch(&t, x->staging.scratch_fds[0]);
                if (r < 0)
                        return r;
        }
        return 0;
}

int build_late(Exchange *x, Node *n) {
        int r = scan_node(x, n);

        if (r != 0) {
                scan_outcome(x, n, r);
                return r == 1 ? 0 : r;
        }
        return place_late(x, n);
}
