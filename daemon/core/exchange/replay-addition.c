/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the old tree has after the exchange and the new one has not. A file is linked to the quarantine
 * first, where nobody else comes: what is placed is what is noted as placed, however often its name changes
 * meanwhile. What has no place in the new tree stays in the old one. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "core/exchange/reconcile-internal.h"
#include "core/upper/fileattr.h"
#include "core/upper/layer.h"
#include "core/upper/meta.h"

/* It has no place in the new tree, and stays where it is: told if somebody stands there. */
static int stay(Sides *s, const RawEntry *raw, const char *why) {
        _cleanup_free_ char *path = exchange_node_path(s->x, s->node, raw->name);
        Entry *e = node_find(s->node, raw->name);
        bool is_told;
        int r;

        if (!e) {
                r = node_add_late(s->node, raw->name, DT_UNKNOWN, &e);
                if (r < 0)
                        return r;
        }
        is_told = e->aside != 0;
        e->aside = raw->inode;
        e->is_placed &= e->dir != NULL; /* that of a file is somebody else's */
        if (!is_told && s->x->beside.is_there)
                context_note(
                        s->x->context, path ?: s->x->tree->path,
                        "%s: it stays in the old tree '%s' of those who stand there", why,
                        s->x->beside.name);
        return 0;
}

static bool is_gone_by_now(int error) {
        return error == ENOENT || error == ENOTDIR || error == ELOOP;
}

/* A link to the file, as quarantine. 0; 1: it is gone, or not a file any more, and an event tells. */
static int fetch(const Sides *s, const RawEntry *raw, const char *quarantine, RawEntry *ret) {
        const DirectoryPair *q = &s->x->staging.quarantine;
        struct stat st;

        if (linkat(s->old.fd, raw->name, q->fd, quarantine, 0) < 0)
                return is_gone_by_now(errno) || (errno == EPERM && raw->type == DT_DIR) ? 1 : -errno;
        if (fstatat(q->upper_fd, quarantine, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret = *raw;
        ret->inode = st.st_ino;
        ret->type = (unsigned char) IFTODT(st.st_mode);
        return 0;
}

static void drop_link(const Sides *s, const char *quarantine) {
        (void) unlinkat(s->x->staging.quarantine.fd, quarantine, 0);
}

/* The entry for a name whose place is free: a directory that was removed leaves it. */
static int add_entry(Sides *s, const char *name, unsigned char type, Entry **ret) {
        Entry *e = node_find(s->node, name);

        if (e && e->dir && !e->is_placed)
                entry_drop(s->node, e);
        return node_add_late(s->node, name, type, ret);
}

static int set_placed(Sides *s, const RawEntry *raw, int upper_dfd, const char *name) {
        Entry *e = node_find(s->node, raw->name);

        if (!e || !e->is_placed) {
                int r = add_entry(s, raw->name, raw->type, &e);
                if (r < 0)
                        return r;
        }
        e->type = raw->type;
        e->inode = raw->inode;
        e->identity = entry_identity(upper_dfd, name);
        e->is_placed = true;
        e->aside = 0;
        return 0;
}

static bool is_inode_at(int upper_dfd, const RawEntry *raw) {
        struct stat st;

        return fstatat(upper_dfd, raw->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && st.st_ino == raw->inode;
}

/* found: what quarantine is a link to. */
static int place_link(Sides *s, const RawEntry *found, const char *quarantine, const char *why) {
        const DirectoryPair *q = &s->x->staging.quarantine;
        int r;

        if (renameat2(q->fd, quarantine, s->new.fd, found->name, RENAME_NOREPLACE) >= 0)
                return set_placed(s, found, s->new.upper_fd, found->name);
        r = errno == EEXIST ? 0 : errno == ENOENT ? RECONCILE_LATER : -errno;
        if (r == 0 && is_inode_at(s->new.upper_fd, found)) /* done already, before a crash */
                r = set_placed(s, found, q->upper_fd, quarantine);
        else if (r == 0)
                r = stay(s, found, why);
        drop_link(s, quarantine);
        return r;
}

/* The new tree's file goes out, if it is still what was put there, and the link in, in one step. */
static int exchange_link(Sides *s, Entry *e, const RawEntry *found, const char *quarantine) {
        static const char why[] = "replaced, while the name was changed in the new tree, too";
        const DirectoryPair *q = &s->x->staging.quarantine;
        int r;

        if (!is_as_placed(s->new.upper_fd, e->name, e) ||
            renameat2(q->fd, quarantine, s->new.fd, e->name, RENAME_EXCHANGE) < 0)
                return place_link(s, found, quarantine, why); /* is it free? */
        if (is_as_placed(q->upper_fd, quarantine, e)) {
                drop_link(s, quarantine);
                return set_placed(s, found, s->new.upper_fd, found->name);
        }
        /* Somebody was faster: theirs goes back. */
        if (renameat2(q->fd, quarantine, s->new.fd, e->name, RENAME_EXCHANGE) >= 0)
                drop_link(s, quarantine);
        else {
                r = quarantine_restore(
                        s->x, quarantine, s->new.fd, s->node, e->name, "replaced in both trees at once");
                if (r < 0)
                        return r;
        }
        return stay(s, found, why);
}

/* e: what it replaces, or NULL. */
static int take_file(Sides *s, Entry *e, const RawEntry *raw) {
        RawEntry found;
        char quarantine[16];
        int r;

        staging_new_name(&s->x->staging, quarantine);
        r = fetch(s, raw, quarantine, &found);
        if (r == 1)
                return 0;
        if (r == -EPERM || r == -EMLINK) /* append-only, or has as many links as can be */
                return stay(s, raw, "cannot be linked");
        if (r < 0)
                return r;
        if (!e)
                return place_link(s, &found, quarantine, "made while the name was taken in the new tree");
        if (is_inode_at(s->new.upper_fd, &found)) { /* done already, before a crash */
                r = set_placed(s, &found, s->x->staging.quarantine.upper_fd, quarantine);
                drop_link(s, quarantine);
                return r;
        }
        return exchange_link(s, e, &found, quarantine);
}

static int identify(int upper_fd, uint64_t *ret_inode, char **handle) {
        struct stat st;

        if (fstat(upper_fd, &st) < 0)
                return -errno;
        *ret_inode = st.st_ino;
        free(*handle);
        *handle = NULL;
        return file_handle_at(upper_fd, "", handle);
}

static int is_merged(const Sides *s, int old_upper_fd) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(old_upper_fd, "", &e);

        return r < 0 ? r : e.class == UPPER_REDIRECT || (e.class == UPPER_PLAIN && s->node->is_merged);
}

/* The same directory in both trees from now on: watched, then compared. Who made it in the old tree goes on
 * using it there. */
static int pair_up(Sides *s, Node *n, DirectoryPair old, DirectoryPair new) {
        uint64_t inode;
        int r = 0;

        if (n->old_handle && !is_handle_gone(s->x->context->upper_fd, n->old_handle))
                r = tree_note_known(s->x->tree, n->old_handle); /* it was moved */
        if (r >= 0)
                r = identify(old.upper_fd, &inode, &n->old_handle);
        if (r < 0)
                return r;
        node_set_old_inode(n, inode);
        n->entry->inode = inode;
        r = identify(new.upper_fd, &n->new_inode, &n->new_handle);
        if (r >= 0)
                r = is_merged(s, old.upper_fd);
        if (r < 0)
                return r;
        n->is_merged = r > 0;
        n->entry->is_placed = true;
        n->entry->aside = 0;
        n->is_attributes_dirty = n->is_removed = false;
        node_recheck(n);
        return watch_add(s->x, n, old.fd);
}

static int add_pair(Sides *s, const char *name, DirectoryPair old, DirectoryPair new) {
        Entry *e;
        int r = add_entry(s, name, DT_DIR, &e);

        return r < 0 ? r : pair_up(s, e->dir, old, new);
}

/* Made where nobody else reaches it, and finished, before it appears. 1: the name is taken. */
static int make_new(const Sides *s, const char *name, int old_fd, DirectoryPair *ret) {
        _cleanup_pair_ DirectoryPair p = DIRECTORY_PAIR_INIT;
        Staging *staging = &s->x->staging;
        char quarantine[16];
        int r;

        staging_new_name(staging, quarantine);
        r = pair_make(staging->quarantine, quarantine, &p);
        if (r >= 0)
                r = meta_copy(old_fd, p.fd);
        if (r >= 0) {
                r = fileattr_copy(old_fd, p.fd);
                r = r > 0 ? 0 : r; /* users of the new tree go without what cannot be had */
        }
        if (r >= 0 && renameat2(staging->quarantine.fd, quarantine, s->new.fd, name, RENAME_NOREPLACE) < 0)
                r = errno == EEXIST ? 1 : errno == ENOENT ? RECONCILE_LATER : -errno;
        if (r != 0)
                (void) unlinkat(staging->quarantine.fd, quarantine, AT_REMOVEDIR);
        else
                *ret = TAKE_PAIR(p);
        return r;
}

/* A directory of that name in the new tree is taken for the same if the same people may use it. */
static bool is_same_people(DirectoryPair a, DirectoryPair b) {
        struct stat old, new;

        return fstat(a.fd, &old) >= 0 && fstat(b.fd, &new) >= 0 &&
                old.st_uid == new.st_uid &&old.st_gid == new.st_gid &&old.st_mode == new.st_mode;
}

/* Whether its raw listing is all there is: it is nothing but upper, or was copied up for the exchange. */
static int is_all_in_upper(Sides *s, const RawEntry *raw) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ char *handle = NULL;
        int r;

        if (tree_find_old_at(s->x->tree, s->old.upper_fd, raw) ||
            (file_handle_at(s->old.upper_fd, raw->name, &handle) >= 0 && tree_is_known(s->x->tree, handle)))
                return 1;
        r = upper_entry_read(s->old.upper_fd, raw->name, &e);
        return r < 0 ? r : e.class == UPPER_OPAQUE || (e.class == UPPER_PLAIN && !s->node->is_merged);
}

/* It moves over as it is, where that takes it away from nobody. */
static int move_directory(Sides *s, const RawEntry *raw) {
        if (s->x->beside.is_there)
                return stay(s, raw, "a merged directory, moved there from elsewhere");
        if (renameat2(s->old.fd, raw->name, s->new.fd, raw->name, RENAME_NOREPLACE) >= 0 ||
            is_gone_by_now(errno))
                return 0;
        return errno == EEXIST ? stay(s, raw, "moved there while the name was taken in the new tree")
                               : -errno;
}

/* A directory that the tree does not know by this name: it gets a counterpart. */
static int add_directory(Sides *s, const RawEntry *raw) {
        _cleanup_pair_ DirectoryPair old = DIRECTORY_PAIR_INIT, new = DIRECTORY_PAIR_INIT;
        int r = is_all_in_upper(s, raw);

        if (r == -ENOENT)
                return 0;
        if (r <= 0)
                return r < 0 ? r : move_directory(s, raw);
        if (pair_open(s->old, raw->name, &old) < 0)
                return 0; /* it is not there any more, and an event tells */
        r = make_new(s, raw->name, old.fd, &new);
        if (r < 0)
                return r;
        if (r > 0 && (pair_open(s->new, raw->name, &new) < 0 || !is_same_people(old, new)))
                return stay(s, raw, "a directory made while the name was taken in the new tree");
        return add_pair(s, raw->name, old, new);
}

/* One directory after the other by the same name: what was in the first one is what is missing in the
 * second. */
static int replace_directory(Sides *s, Entry *e, const RawEntry *raw) {
        _cleanup_pair_ DirectoryPair old = DIRECTORY_PAIR_INIT, new = DIRECTORY_PAIR_INIT;
        int r;

        if (pair_open(s->old, raw->name, &old) < 0)
                return 0; /* it is not there any more, and an event tells */
        if (pair_open(s->new, raw->name, &new) >= 0 && is_handle_at(new.upper_fd, "", e->dir->new_handle) &&
            is_same_people(old, new) && is_all_in_upper(s, raw) > 0)
                return pair_up(s, e->dir, old, new);
        if (s->x->kept.is_theirs)
                return stay(s, raw, "a directory that was replaced by one of other people");
        r = remove_from_new(s, e);
        return r < 0 ? r : add_directory(s, raw);
}

int replay_addition(Sides *s, Entry *e, const RawEntry *raw, Found found) {
        int r = 0;

        switch (found) {
        case FOUND_SETTLED:
                return 0;
        case FOUND_HOMELESS:
                return stay(s, raw, "made after its new directory was removed");
        case FOUND_UNWELCOME:
                return stay(s, raw, "made in the place of a directory");
        case FOUND_REPLACED:
                return raw->type == DT_DIR ? replace_directory(s, e, raw) : take_file(s, e, raw);
        case FOUND_OTHER_KIND:
                r = remove_from_new(s, e);
                break;
        case FOUND_NEW:
                break;
        }
        if (r < 0)
                return r;
        return raw->type == DT_DIR ? add_directory(s, raw) : take_file(s, NULL, raw);
}
