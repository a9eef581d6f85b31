/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the upper holds: listings and identities, read from the upper file system. The merged path would ask
 * the lower. Nothing is written. A directory is known by its file handle: the inode number of one that was
 * removed is soon another one's. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/hash.h"
#include "core/exchange/exchange-internal.h"

uint64_t entry_identity(int upper_dfd, const char *name) {
        _cleanup_free_ char *handle = NULL;

        return file_handle_at(upper_dfd, name, &handle) < 0 ? 0 : hash_bytes(handle, strlen(handle));
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
        *e = (RawEntry){ .inode = inode, .type = type };
        (void) strcpy(e->name, name); /* a name of a directory entry is at most NAME_MAX */
        return 0;
}

static int raw_list_stat(RawList *l, int dfd, const char *name) {
        struct stat st;

        if (fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        return raw_list_add(
                l, name, S_ISCHR(st.st_mode) && st.st_rdev == 0 ? DT_WHT : IFTODT(st.st_mode), st.st_ino);
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

bool is_handle_gone(int upper_dfd, const char *handle) {
        int fd = handle ? file_handle_open(upper_dfd, handle, NULL) : -ESTALE;

        (void) fd_close(fd);
        return fd == -ESTALE || fd == -ENOENT;
}

Node *tree_find_old_at(Tree *t, int upper_dfd, const RawEntry *raw) {
        Node *n = raw->type == DT_DIR ? tree_find_old(t, raw->inode) : NULL;

        if (!n || is_handle_at(upper_dfd, raw->name, n->old_handle))
                return n;
        if (is_handle_gone(upper_dfd, n->old_handle))
                node_set_old_inode(n, 0); /* its number is used again */
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
        *l = (RawList){ 0 };
}
