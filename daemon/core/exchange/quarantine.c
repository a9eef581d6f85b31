/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Takes entries out of trees that others use. The quarantine is a directory only root reaches: what was
 * moved there can be looked at again without anybody coming in between. It does not decide what is to go.
 * What turns out not to be ours goes back or to kept/, and is never deleted. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "core/exchange/exchange-internal.h"
#include "core/upper/names.h"

bool is_as_placed(int upper_dfd, const char *name, const Entry *e) {
        struct stat st;

        if (fstatat(upper_dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != e->inode)
                return false;
        return e->identity == 0 || e->identity == entry_identity(upper_dfd, name);
}

int move_to_kept(Exchange *x, int dfd, const char *name, const Node *n, const char *as, const char *why) {
        _cleanup_free_ char *path = n ? exchange_node_path(x, n, as) : NULL;
        char kept[16];
        int r = staging_move_to_kept(&x->staging, dfd, name, kept);

        if (r > 0)
                context_note(
                        x->context, path ?: x->tree->path,
                        "%s; it is kept as '%s/%s/kept/%s' at the root of the overlay", why, STAGING_NAME,
                        x->staging.id, kept);
        return r < 0 ? r : 0;
}

int quarantine_restore(
        Exchange *x, const char *quarantine, int dfd, const Node *n, const char *name, const char *why) {
        if (renameat2(x->staging.quarantine.fd, quarantine, dfd, name, RENAME_NOREPLACE) >= 0)
                return 0;
        return move_to_kept(x, x->staging.quarantine.fd, quarantine, n, name, why);
}

int take_out(Exchange *x, DirectoryPair d, const Node *n, const Entry *e) {
        const DirectoryPair *q = &x->staging.quarantine;
        char quarantine[16];

        if (!is_as_placed(d.upper_fd, e->name, e))
                return 0;
        staging_new_name(&x->staging, quarantine);
        if (renameat2(d.fd, e->name, q->fd, quarantine, RENAME_NOREPLACE) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!is_as_placed(q->upper_fd, quarantine, e)) /* replaced between look and rename */
                return quarantine_restore(
                        x, quarantine, d.fd, n, e->name, "replaced while what stood there was taken away");
        /* It is out of the tree, whatever becomes of it here: quarantine_clear() comes by. */
        (void) unlinkat(q->fd, quarantine, 0);
        return 1;
}

static int take_out_child(Exchange *x, DirectoryPair d, Node *n, Entry *e) {
        int r;

        if (!e->is_placed || e->type == DT_WHT)
                return 0;
        if (e->dir)
                return take_out_directory(x, d, e);
        r = take_out(x, d, n, e);
        e->is_placed = r <= 0;
        return r < 0 ? r : 0;
}

int take_out_directory(Exchange *x, DirectoryPair around, Entry *e) {
        _cleanup_pair_ DirectoryPair d = DIRECTORY_PAIR_INIT;

        if (pair_open(around, e->name, &d) < 0 || !e->dir->new_handle || !pair_is(&d, e->dir->new_handle))
                return 0; /* its users have moved or removed it */
        ENTRY_FOREACH (e->dir, child) {
                int r = take_out_child(x, d, e->dir, child);
                if (r < 0)
                        return r;
        }
        /* ENOTEMPTY: its users have used it; it stays theirs, without what was removed. */
        if (unlinkat(around.fd, e->name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY && errno != EEXIST &&
            errno != ENOENT && errno != ENOTDIR)
                return -errno;
        return 0;
}

typedef struct InodeSearch {
        Exchange *x;
        uint64_t inode, identity;
        bool is_known;
} InodeSearch;

static int look_for_entry(Node *n, void *userdata) {
        InodeSearch *s = userdata;

        ENTRY_FOREACH (n, e) {
                s->is_known |= !e->dir && e->type != DT_WHT && e->inode == s->inode &&
                        e->identity == s->identity && s->identity != 0;
        }
        return 0;
}

static bool is_known_inode(Exchange *x, const char *name) {
        int upper_fd = x->staging.quarantine.upper_fd;
        InodeSearch s = { .x = x, .identity = entry_identity(upper_fd, name) };
        struct stat st;

        if (fstatat(upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return false;
        s.inode = st.st_ino;
        (void) tree_foreach(x->tree, look_for_entry, &s);
        return s.is_known;
}

typedef struct Clear {
        Exchange *x;
        bool is_final;
} Clear;

static int clear_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        Clear *c = userdata;

        if (type == DT_DIR && (unlinkat(dfd, name, AT_REMOVEDIR) >= 0 || errno == ENOENT))
                return 0; /* was to get a name, and is empty */
        if (type != DT_DIR && is_known_inode(c->x, name))
                return unlinkat(dfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
        return c->is_final
                ? move_to_kept(
                          c->x, dfd, name, NULL, name, "taken out of the tree, and not known to be ours")
                : 0;
}

int quarantine_clear(Exchange *x, bool is_final) {
        Clear c = { .x = x, .is_final = is_final };

        return dir_foreach(x->staging.quarantine.fd, clear_entry, &c);
}
