/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/record/manifest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/hash.h"
#include "core/upper/digest.h"

#define MAGIC "ovlfind-manifest "
/* 2: what the lower showed; 3: when it was changed, and what directories were like; 4: which value each
 * xattr had, and not only which values there were. Earlier ones are read. */
#define VERSION_NOW 4

static int write_node(Node *n, void *userdata) {
        _cleanup_free_ char *path = node_path(n);
        FILE *f = userdata;
        Entry *e, *next;

        if (!path)
                return -ENOMEM;
        (void) fprintf(
                f, "D%s%c%" PRIu64 " %" PRIu64 " %" PRIx64 "%c%s%c%s%c%s%s%c", path, 0, n->old_inode,
                n->new_inode, n->base, 0, n->old_handle ?: "", 0, n->new_handle ?: "", 0,
                n->lower ? "/" : "", n->lower ?: "", 0);
        if (n->lower_identity)
                (void) fprintf(f, "I%s%c", n->lower_identity, 0);
        HASH_ITER(hh, n->entries, e, next) {
                (void) fprintf(
                        f, "E%u %d %d %" PRIu64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %s%c",
                        e->type, e->is_local, e->is_placed, e->inode, e->identity, e->base, e->xattrs,
                        e->ctime, e->name, 0);
        }
        return 0;
}

static int serialize(Tree *t, char **ret, size_t *ret_size) {
        _cleanup_free_ char *buffer = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&buffer, &size);
        int r;

        if (!f)
                return -ENOMEM;
        (void) fprintf(
                f, MAGIC "%d%cid=%s%cpath=%s%cundo=%d%cusec=%" PRIu64 "%cupper=%s%c", VERSION_NOW, 0, t->id,
                0, t->path, 0, t->is_undo, 0, t->usec, 0, t->upper ?: "", 0);
        r = tree_foreach(t, write_node, f);
        if (fflush(f) != 0 && r >= 0)
                r = -ENOMEM;
        if (r >= 0)
                (void) fprintf(f, "Z%" PRIx64 "%c", hash_bytes(buffer, size), 0);
        if (fclose(f) != 0 && r >= 0)
                r = -ENOMEM;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(buffer);
        *ret_size = size;
        return 0;
}

static int write_unsynced(int dfd, const char *name, const char *data, size_t size) {
        _cleanup_close_ int fd =
                openat(dfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                return -errno;
        return fd_write_all(fd, data, size);
}

int manifest_write(Tree *t, int dfd, const char *name, bool sync) {
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = serialize(t, &data, &size);

        if (r < 0)
                return r;
        return sync ? file_write_atomic(dfd, name, data, size) : write_unsynced(dfd, name, data, size);
}

typedef struct Reader {
        const char *at, *end;
        Tree *tree;
        Node *node;
        int version;
} Reader;

static const char *next_string(Reader *r) {
        const char *s = r->at;

        if (s >= r->end)
                return NULL;
        r->at += strlen(s) + 1;
        return s;
}

static int next_header(Reader *r, const char *key, const char **ret) {
        const char *s = next_string(r);
        size_t k = strlen(key);

        if (!s || strncmp(s, key, k) != 0 || s[k] != '=')
                return -EBADMSG;
        *ret = s + k + 1;
        return 0;
}

/* Finds the node for path; its parent was read before it, and its entry with it. */
static Node *node_at(Tree *t, const char *path) {
        Node *n = t->root;

        while (*path) {
                size_t k = strcspn(path, "/");
                char name[NAME_MAX + 1];
                Entry *e;

                if (k > NAME_MAX)
                        return NULL;
                memcpy(name, path, k);
                name[k] = '\0';
                e = node_find(n, name);
                if (!e || !e->dir)
                        return NULL;
                n = e->dir;
                path += k + (path[k] == '/');
        }
        return n;
}

static int dup_nonempty(const char *s, char **ret) {
        if (s[0] == '\0')
                return 0;
        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

static int read_node(Reader *r, const char *path) {
        const char *inodes = next_string(r), *old = next_string(r), *new = next_string(r),
                   *lower = next_string(r);
        uint64_t old_inode;
        Node *n;

        if (!lower || !(n = node_at(r->tree, path)))
                return -EBADMSG;
        if (sscanf(inodes, "%" SCNu64 " %" SCNu64 " %" SCNx64, &old_inode, &n->new_inode, &n->base) !=
            (r->version < 3 ? 2 : 3))
                return -EBADMSG;
        if (n->old_handle || n->new_handle || n->lower)
                return -EBADMSG;
        node_set_old_inode(n, old_inode);
        r->node = n;
        n->is_attributes_dirty = false; /* an exchanged tree has its attributes; they are its users' now */
        if (dup_nonempty(old, &n->old_handle) < 0 || dup_nonempty(new, &n->new_handle) < 0)
                return -ENOMEM;
        if (lower[0] == '/' && !(n->lower = strdup(lower + 1)))
                return -ENOMEM;
        return 0;
}

/* The numbers of an entry; returns where its name is, or NULL. */
static const char *read_numbers(
        const Reader *r,
        const char *s,
        unsigned *type,
        int *is_local,
        int *is_placed,
        uint64_t numbers[static 5]) {
        int offset = 0;

        numbers[4] = CTIME_OF_OLD_RECORD;

        if (sscanf(s, "%u %d %d %" SCNu64 " %" SCNx64 "%n", type, is_local, is_placed, numbers, numbers + 1,
                   &offset) < 5)
                return NULL;
        s += offset;
        if (r->version < 2)
                return s;
        if (sscanf(s, " %" SCNx64 " %" SCNx64 "%n", numbers + 2, numbers + 3, &offset) < 2)
                return NULL;
        s += offset;
        if (r->version < 3)
                return s;
        return sscanf(s, " %" SCNx64 "%n", numbers + 4, &offset) < 1 ? NULL : s + offset;
}

static int read_entry(Reader *r, const char *s) {
        uint64_t numbers[5] = { 0 };
        int is_local, is_placed, k;
        unsigned type;
        Entry *e;

        s = read_numbers(r, s, &type, &is_local, &is_placed, numbers);
        if (!r->node || !s || s[0] != ' ' || s[1] == '\0' || strchr(s + 1, '/') || type > DT_WHT)
                return -EBADMSG;
        k = node_add(r->node, s + 1, (unsigned char) type, &e);
        if (k < 0)
                return k == -EEXIST ? -EBADMSG : k;
        e->is_local = is_local;
        e->is_placed = is_placed;
        e->inode = numbers[0];
        e->identity = numbers[1];
        e->base = numbers[2];
        e->xattrs = r->version < 4 && numbers[3] != DIGEST_NO_XATTRS ? 0 : numbers[3];
        e->ctime = numbers[4];
        return 0;
}

static int read_identity(const Reader *r, const char *s) {
        if (!r->node || r->node->lower_identity)
                return -EBADMSG;
        return dup_nonempty(s, &r->node->lower_identity);
}

static int read_line(Reader *r, const char *s) {
        switch (s[0]) {
        case 'D':
                return read_node(r, s + 1);
        case 'I':
                return read_identity(r, s + 1);
        case 'E':
                return read_entry(r, s + 1);
        default:
                return -EBADMSG;
        }
}

static int read_body(Reader *r) {
        for (;;) {
                const char *s = next_string(r);
                int k;

                if (!s)
                        return r->node ? 0 : -EBADMSG;
                k = read_line(r, s);
                if (k < 0)
                        return k;
        }
}

static int check_end(const char *data, size_t size, size_t *ret_body) {
        const char *last;
        uint64_t sum;

        if (size < sizeof(MAGIC) + 4 || data[size - 1] != '\0')
                return -EBADMSG;
        last = memrchr(data, '\0', size - 1);
        if (!last || last[1] != 'Z' || sscanf(last + 2, "%" SCNx64, &sum) != 1)
                return -EBADMSG;
        *ret_body = (size_t) (last + 1 - data);
        return hash_bytes(data, *ret_body) == sum ? 0 : -EBADMSG;
}

static int parse(const char *data, size_t size, Tree **ret) {
        _cleanup_(tree_freep) Tree *t = NULL;
        const char *magic, *id, *path, *undo, *usec, *upper, *lower = "";
        Reader reader;
        size_t body;
        int r = check_end(data, size, &body);

        if (r < 0)
                return r;
        reader = (Reader){ .at = data, .end = data + body };
        magic = next_string(&reader);
        if (!magic || strncmp(magic, MAGIC, strlen(MAGIC)) != 0)
                return -EBADMSG;
        reader.version = magic[strlen(MAGIC)] - '0';
        if (reader.version < 1 || reader.version > VERSION_NOW)
                return -EBADMSG;
        if (next_header(&reader, "id", &id) < 0 || next_header(&reader, "path", &path) < 0 ||
            next_header(&reader, "undo", &undo) < 0 || next_header(&reader, "usec", &usec) < 0 ||
            next_header(&reader, "upper", &upper) < 0 ||
            (reader.version == 2 && next_header(&reader, "lower", &lower) < 0))
                return -EBADMSG;
        r = tree_new(path, id, undo[0] == '1', &t);
        if (r < 0)
                return r;
        t->usec = strtoull(usec, NULL, 10);
        reader.tree = t;
        r = dup_nonempty(lower, &t->root->lower_identity); /* in format 2 the whole tree has one */
        if (r >= 0)
                r = read_body(&reader);
        if (r < 0)
                return r;
        t->upper = strdup(upper);
        if (!t->upper)
                return -ENOMEM;
        *ret = TAKE_PTR(t);
        return 0;
}

int manifest_read(int dfd, const char *name, Tree **ret) {
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = file_read(dfd, name, MANIFEST_SIZE_MAX, &data, &size);

        return r < 0 ? r : parse(data, size, ret);
}
