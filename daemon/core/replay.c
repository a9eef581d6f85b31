/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an old tree shows and the new one must not follow blindly.
 *
 * Deletions: an old tree beside its directory looks like something that was forgotten there, and somebody
 * may remove it. Those who stand in it may remove names as well, and mean the directory. So deletions wait
 * until they have come to an end: if the tree is gone then, or much of it, it was the tree that was meant.
 *
 * Attributes: users change those of the new directory too, and whoever stands in the old one may not be
 * allowed to any more. An attribute is taken over only from a directory that was like the new one but for
 * it, and never an owner. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fs-util.h"
#include "core/exchange-internal.h"

/* Deletions have come to an end when nothing happened for so long; a busy directory has to be looked at some
 * time. */
#define MISSING_QUIET_USEC (1 * USEC_PER_SEC)
#define MISSING_LATEST_USEC (5 * USEC_PER_SEC)
/* Programs remove names of theirs a few at a time; a removal of the tree, or a cleaner, goes through all
 * that there is. With everything gone it was not about single names; nor with more than this, unless names
 * were made there at the same time: who does that works in the directory, with most of what it holds. */
#define MISSING_MAX 64
/* Operations that had looked the directory up before the exchange come as late as this, one by one, and path
 * users wait for their effect. */
#define MISSING_EARLY_USEC (250 * USEC_PER_MSEC)
#define MISSING_EARLY_QUIET_USEC (20 * USEC_PER_MSEC)

static bool has_acl(int fd) {
        return fgetxattr(fd, "system.posix_acl_access", NULL, 0) >= 0;
}

static bool is_like(const struct stat *a, const struct stat *b) {
        return a->st_uid == b->st_uid && a->st_gid == b->st_gid && a->st_mode == b->st_mode;
}

static void remember(Node *n, const struct stat *st) {
        n->remembered.is_known = true;
        n->remembered.mode = st->st_mode;
        n->remembered.uid = st->st_uid;
        n->remembered.gid = st->st_gid;
}

void replay_remember_node(Node *n, int new_fd) {
        struct stat st;

        n->remembered.is_known = false;
        if (fstat(new_fd, &st) >= 0)
                remember(n, &st);
}

static int remember_pair(Node *n, void *userdata) {
        const Exchange *x = userdata;
        _cleanup_free_ char *path = node_path(n);
        _cleanup_close_ int old_fd = path ? open_dir_beneath(x->old_upper_fd, path) : -ENOMEM;
        _cleanup_close_ int new_fd = path ? open_dir_beneath(x->new_upper_fd, path) : -ENOMEM;
        struct stat old, new;

        /* Where they differ without an event that tells why, somebody has set the new one already. */
        if (old_fd >= 0 && new_fd >= 0 && fstat(old_fd, &old) >= 0 && fstat(new_fd, &new) >= 0 &&
            (n->is_undressed || is_like(&old, &new)))
                remember(n, &new);
        return 0;
}

static int replay_mode(Exchange *x, Node *n) {
        _cleanup_close_ int old_fd = -EBADF, new_fd = -EBADF, new_upper_fd = -EBADF;
        _cleanup_free_ char *path = node_path(n);
        struct stat old, new,
                was = { .st_mode = n->remembered.mode,
                        .st_uid = n->remembered.uid,
                        .st_gid = n->remembered.gid };

        if (!path || !n->remembered.is_known)
                return 0;
        old_fd = open_dir_beneath(x->old_fd, path);
        if (old_fd < 0 || node_open_new(x, n, &new_fd, &new_upper_fd) < 0 || fstat(old_fd, &old) < 0 ||
            fstat(new_fd, &new) < 0)
                return 0;
        /* With an ACL the mode shows its mask: to set it alone would mean something else. */
        if (!is_like(&new, &was) || old.st_uid != was.st_uid || old.st_gid != was.st_gid ||
            old.st_mode == was.st_mode || has_acl(old_fd) || has_acl(new_fd))
                return 0;
        if (fchmod(new_fd, old.st_mode & 07777) < 0)
                return -errno;
        n->remembered.mode = old.st_mode;
        return 0;
}

static int redress(Node *n, void *userdata) {
        if (!n->is_undressed)
                return 0;
        n->is_undressed = false;
        return replay_mode(userdata, n);
}

int replay_attributes(Exchange *x) {
        if (!x->has_remembered)
                (void) tree_foreach(x->tree, remember_pair, x);
        x->has_remembered = true;
        return tree_foreach(x->tree, redress, x);
}

typedef struct Lost {
        uint64_t inode;
        Entry *entry;
} Lost;

typedef struct LostList {
        Lost *items;
        size_t n, room;
} LostList;

static int collect_missing(Node *n, void *userdata) {
        LostList *l = userdata;
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                if (e->missing != MISSING_WAITS || e->dir)
                        continue;
                if (l->n == l->room) {
                        Lost *grown = reallocarray(l->items, l->room = 2 * l->room + 32, sizeof(Lost));

                        if (!grown)
                                return -ENOMEM;
                        l->items = grown;
                }
                l->items[l->n++] = (Lost){ .inode = e->inode, .entry = e };
        }
        return 0;
}

static int compare_lost(const void *a, const void *b) {
        uint64_t x = ((const Lost *) a)->inode, y = ((const Lost *) b)->inode;

        return x < y ? -1 : x > y;
}

static int find_renamed(Node *n, void *userdata) {
        LostList *l = userdata;
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                Lost key = { .inode = e->inode }, *found = NULL;

                if (e->is_late && e->is_placed && !e->dir && e->missing == MISSING_NOT)
                        found = bsearch(&key, l->items, l->n, sizeof(Lost), compare_lost);
                if (found && found->entry->identity == e->identity)
                        found->entry->missing = MISSING_GONE;
        }
        return 0;
}

int replay_renames(Exchange *x) {
        LostList l = { 0 };
        int r;

        if (x->missing_usec == 0)
                return 0;
        r = tree_foreach(x->tree, collect_missing, &l);
        if (r >= 0 && l.n > 0) {
                qsort(l.items, l.n, sizeof(Lost), compare_lost);
                r = tree_foreach(x->tree, find_renamed, &l);
        }
        free(l.items);
        return r < 0 ? r : reconcile_gone(x);
}

bool replay_is_root_gone(const Exchange *x) {
        _cleanup_free_ char *found = NULL;
        int r;

        if (!x->is_beside)
                return false;
        r = file_handle_at(x->parent_upper_fd, x->beside_name, &found);
        return r == -ENOENT ||
                (r >= 0 && x->tree->root->old_handle && strcmp(found, x->tree->root->old_handle) != 0);
}

bool replay_is_early(const Exchange *x) {
        return x->missing_usec != 0 && x->missing_usec - x->beside_usec < MISSING_EARLY_USEC;
}

typedef struct Count {
        size_t n_placed, n_missing;
        bool is_missing; /* the directory around is */
} Count;

static void count_entries(const Node *n, Count *c) {
        bool around = c->is_missing;
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                if (!e->is_placed || e->type == DT_WHT)
                        continue;
                c->is_missing = around || e->missing == MISSING_WAITS;
                c->n_placed++;
                c->n_missing += c->is_missing;
                if (e->dir)
                        count_entries(e->dir, c);
        }
        c->is_missing = around;
}

static void let_go(Node *n, bool is_missing) {
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                bool is_gone = is_missing || e->missing == MISSING_WAITS;

                e->missing = MISSING_NOT;
                e->is_placed &= !is_gone;
                if (e->dir)
                        let_go(e->dir, is_gone);
        }
}

static int confirm(Node *n, void *userdata) {
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                if (e->missing == MISSING_WAITS)
                        e->missing = MISSING_GONE;
        }
        return 0;
}

/* Whether the names that are gone were meant, rather than the tree. */
static bool is_meant(const Exchange *x, const Count *c) {
        bool is_worked_in = x->late_usec + MISSING_LATEST_USEC > x->missing_usec;

        if (replay_is_root_gone(x) || c->n_missing == c->n_placed)
                return false;
        return c->n_missing <= MISSING_MAX || (is_worked_in && 2 * c->n_missing < c->n_placed);
}

int replay_deletions(Exchange *x) {
        uint64_t now = now_monotonic_usec(), quiet;
        bool is_confirmed;
        Count c = { 0 };
        int r;

        if (x->missing_usec == 0)
                return 0;
        quiet = replay_is_early(x) ? MISSING_EARLY_QUIET_USEC : MISSING_QUIET_USEC;
        if (now - x->changed_usec < quiet && now - x->missing_usec < MISSING_LATEST_USEC)
                return 1;
        count_entries(x->tree->root, &c);
        is_confirmed = is_meant(x, &c);
        x->missing_usec = 0;
        x->is_manifest_stale = true;
        if (is_confirmed) {
                (void) tree_foreach(x->tree, confirm, NULL);
                r = reconcile_gone(x);
                return r < 0 ? r : x->missing_usec != 0; /* what could not be done waits again */
        }
        let_go(x->tree->root, false);
        /* They are not looked for any more: a later start must not look, either. */
        r = exchange_save(x, /* sync= */ true);
        site_note(
                x->site, x->tree->path,
                "%zu names were removed in the old tree that stood beside it as '%s'; the directory keeps "
                "them",
                c.n_missing, x->beside_name);
        return r;
}
