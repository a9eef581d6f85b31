/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/manifest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/hash.h"
#include "base/path-util.h"

#define MAGIC "ovlfind-manifest 1"

static int write_node(Node *n, void *userdata) {
        _cleanup_free_ char *path = node_path(n);
        FILE *f = userdata;
        Entry *e, *next;

        if (!path)
                return -ENOMEM;
        (void) fprintf(
                f, "D%s%c%" PRIu64 " %" PRIu64 "%c%s%c%s%c%s%s%c", path, 0, n->old_inode, n->new_inode, 0,
                n->old_handle ?: "", 0, n->new_handle ?: "", 0, n->lower ? "/" : "", n->lower ?: "", 0);
        HASH_ITER(hh, n->entries, e, next) {
                (void) fprintf(
                        f, "E%u %d %d %" PRIu64 " %" PRIx64 " %s%c", e->type, e->is_local, e->is_placed,
                        e->inode, e->identity, e->name, 0);
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
                f, MAGIC "%cid=%s%cpath=%s%cundo=%d%cusec=%" PRIu64 "%cupper=%s%c", 0, t->id, 0, t->path, 0,
                t->is_undo, 0, t->usec, 0, t->upper ?: "", 0);
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
        if (sscanf(inodes, "%" SCNu64 " %" SCNu64, &old_inode, &n->new_inode) != 2)
                return -EBADMSG;
        if (n->old_handle || n->new_handle || n->lower)
                return -EBADMSG;
        node_set_old_inode(n, old_inode);
        r->node = n;
        n->is_undressed = false; /* an exchanged tree has its attributes; they are its users' now */
        if (dup_nonempty(old, &n->old_handle) < 0 || dup_nonempty(new, &n->new_handle) < 0)
                return -ENOMEM;
        if (lower[0] == '/' && !(n->lower = strdup(lower + 1)))
                return -ENOMEM;
        return 0;
}

static int read_entry(Reader *r, const char *s) {
        uint64_t inode, identity;
        int is_local, is_placed, offset = 0, k;
        unsigned type;
        Entry *e;

        if (!r->node ||
            sscanf(s, "%u %d %d %" SCNu64 " %" SCNx64 "%n", &type, &is_local, &is_placed, &inode, &identity,
                   &offset) < 5 ||
            s[offset] != ' ' || s[offset + 1] == '\0' || strchr(s + offset + 1, '/') || type > DT_WHT)
                return -EBADMSG;
        k = node_add(r->node, s + offset + 1, (unsigned char) type, &e);
        if (k < 0)
                return k == -EEXIST ? -EBADMSG : k;
        e->is_local = is_local;
        e->is_placed = is_placed;
        e->inode = inode;
        e->identity = identity;
        return 0;
}

static int read_body(Reader *r) {
        for (;;) {
                const char *s = next_string(r);
                int k;

                if (!s)
                        return r->node ? 0 : -EBADMSG;
                k = s[0] == 'D' ? read_node(r, s + 1) : s[0] == 'E' ? read_entry(r, s + 1) : -EBADMSG;
                if (k < 0)
                        return k;
        }
}

static int check_end(const char *data, size_t size, size_t *ret_body) {
        const char *last;
        uint64_t sum;

        if (size < sizeof(MAGIC) + 3 || data[size - 1] != '\0')
                return -EBADMSG;
        last = memrchr(data, '\0', size - 1);
        if (!last || last[1] != 'Z' || sscanf(last + 2, "%" SCNx64, &sum) != 1)
                return -EBADMSG;
        *ret_body = (size_t) (last + 1 - data);
        return hash_bytes(data, *ret_body) == sum ? 0 : -EBADMSG;
}

static int parse(const char *data, size_t size, Tree **ret) {
        _cleanup_(tree_freep) Tree *t = NULL;
        const char *magic, *id, *path, *undo, *usec, *upper;
        Reader reader;
        size_t body;
        int r = check_end(data, size, &body);

        if (r < 0)
                return r;
        reader = (Reader){ .at = data, .end = data + body };
        magic = next_string(&reader);
        if (!magic || strcmp(magic, MAGIC) != 0)
                return -EBADMSG;
        if (next_header(&reader, "id", &id) < 0 || next_header(&reader, "path", &path) < 0 ||
            next_header(&reader, "undo", &undo) < 0 || next_header(&reader, "usec", &usec) < 0 ||
            next_header(&reader, "upper", &upper) < 0)
                return -EBADMSG;
        r = tree_new(path, id, undo[0] == '1', &t);
        if (r < 0)
                return r;
        t->usec = strtoull(usec, NULL, 10);
        reader.tree = t;
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

typedef struct Recorded {
        UT_hash_handle hh;
        const Node *node;
} Recorded;

struct Records {
        Tree **items;
        size_t n_items;
        char *upper; /* the one they are looked up for */
        Recorded *by_handle;
        unsigned n_damaged;
};

static int index_node(Node *n, void *userdata) {
        Records *records = userdata;
        Recorded *r = NULL;

        if (!n->new_handle)
                return 0;
        HASH_FIND_STR(records->by_handle, n->new_handle, r);
        if (r) {
                /* The later record holds: a directory that was rebuilt has a new handle, so this is the same
                 * one. */
                if (r->node->tree->usec < n->tree->usec)
                        r->node = n;
                return 0;
        }
        r = calloc(1, sizeof(Recorded));
        if (!r)
                return -ENOMEM;
        r->node = n;
        HASH_ADD_KEYPTR(hh, records->by_handle, n->new_handle, strlen(n->new_handle), r);
        return 0;
}

static int load_record(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(tree_freep) Tree *t = NULL;
        Records *records = userdata;
        Tree **grown;
        int r;

        if (type != DT_REG || name[0] == '.')
                return 0;
        r = manifest_read(dfd, name, &t);
        if (r == -EBADMSG || r == -EIO) {
                records->n_damaged++;
                return 0;
        }
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (strcmp(t->upper, records->upper) != 0)
                return 0; /* of another upper that was mounted here: its handles mean nothing on this one */
        grown = reallocarray(records->items, records->n_items + 1, sizeof(Tree *));
        if (!grown)
                return -ENOMEM;
        records->items = grown;
        r = tree_foreach(t, index_node, records);
        records->items[records->n_items++] = TAKE_PTR(t);
        return r;
}

int records_load(int dfd, int upper_fd, Records **ret) {
        _cleanup_(records_freep) Records *records = calloc(1, sizeof(Records));
        int r;

        if (!records)
                return -ENOMEM;
        r = file_handle_at(upper_fd, "", &records->upper);
        if (r < 0)
                return r;
        r = dir_foreach(dfd, load_record, records);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(records);
        return 0;
}

Records *records_free(Records *records) {
        Recorded *r, *next;

        if (!records)
                return NULL;
        HASH_ITER(hh, records->by_handle, r, next) {
                HASH_DEL(records->by_handle, r);
                free(r);
        }
        for (size_t i = 0; i < records->n_items; i++)
                tree_free(records->items[i]);
        free(records->items);
        free(records->upper);
        free(records);
        return NULL;
}

const Node *records_find(const Records *records, const char *handle) {
        Recorded *r = NULL;

        if (records && handle)
                HASH_FIND_STR(records->by_handle, handle, r);
        return r ? r->node : NULL;
}

unsigned records_n_damaged(const Records *records) {
        return records->n_damaged;
}

int records_foreach(const Records *records, int (*func)(const Tree *t, void *userdata), void *userdata) {
        for (size_t i = 0; i < records->n_items; i++) {
                int r = func(records->items[i], userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Stops the walk with 1 at the first directory that still exists. */
static int find_living(Node *n, void *userdata) {
        const int *upper_fd = userdata;
        int fd;

        if (!n->new_handle)
                return 0;
        fd = file_handle_open(*upper_fd, n->new_handle, NULL);
        if (fd >= 0)
                (void) close(fd);
        /* Anything but a clear "gone" leaves the record alone. */
        return fd == -ESTALE || fd == -ENOENT ? 0 : -EEXIST;
}

/* Another upper where this one was yesterday, a wrong disk or a restored one, says nothing about the
 * directories of this record: it may be mounted again. */
static bool is_dead(Tree *t, int upper_fd) {
        return tree_foreach(t, find_living, &upper_fd) == 0;
}

int records_prune(const Records *records, int dfd, int upper_fd) {
        bool is_synced = false;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < records->n_items; i++) {
                Tree *t = records->items[i];

                if (!is_dead(t, upper_fd))
                        continue;
                /* After a power loss the upper may be what it was before the directories went: only then the
                 * record may go, too. */
                if (!is_synced && syncfs(upper_fd) < 0)
                        return -errno;
                is_synced = true;
                if (unlinkat(dfd, t->id, 0) < 0 && errno != ENOENT)
                        r = -errno;
        }
        return r;
}
