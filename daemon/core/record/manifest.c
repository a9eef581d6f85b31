/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/record/manifest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/hash.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/upper/digest.h"

#define MAGIC "ovlfind-manifest "
/* 2: what the lower showed; 3: when it was changed, and what directories were like; 4: which value each
 * xattr had, and not only which values there were; 5: changes are appended. Earlier ones are read. */
#define VERSION_NOW 5
#define VERSION_APPENDED 5

/* What is appended is read each time: beyond so much of it the file is written anew, which costs about what
 * has been saved by then. */
#define TAIL_MAX(whole) ((whole) / 2 + 4096)
/* Larger ones are always written anew, so that they stay below what is read. */
#define APPENDED_TO_MAX (MANIFEST_SIZE_MAX / 4)

typedef struct Writer {
        FILE *f;
        bool is_whole; /* everything, and not only what tree->file has not */
        bool is_noted; /* as what tree->file has from now on */
        bool is_new;   /* of a directory: tree->file has nothing of it */
        bool has_lines;
        char *head; /* what precedes the first line of a directory */
        size_t head_size;
} Writer;

static void put(Writer *w, const char *data, size_t size) {
        (void) fwrite(w->head, 1, w->head_size, w->f);
        (void) fwrite(data, 1, size, w->f);
        w->head_size = 0;
        w->has_lines = true;
}

/* Whether tree->file is to have it, of which it may have another version. */
static bool is_news(const Writer *w, const char *lines, size_t size, uint64_t *written) {
        uint64_t before = *written, now = hash_bytes(lines, size);

        if (w->is_noted)
                *written = now;
        return w->is_new || before != now;
}

static int write_entry(Writer *w, Entry *e) {
        _cleanup_free_ char *line = NULL;
        int size = asprintf(
                &line, "E%u %d %d %" PRIu64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %s%c", e->type,
                e->is_local, e->is_placed, e->inode, e->identity, e->base, e->xattrs, e->ctime, e->name, 0);

        if (size < 0) {
                line = NULL;
                return -ENOMEM;
        }
        if (is_news(w, line, (size_t) size, &e->written))
                put(w, line, (size_t) size);
        return 0;
}

static void write_erased(Writer *w, Node *n) {
        for (size_t i = 0; i < n->erased.n; i++) {
                put(w, "-", 1);
                put(w, n->erased.items[i], strlen(n->erased.items[i]) + 1);
        }
}

static int write_entries(Writer *w, Node *n) {
        Entry *e, *next;
        int r = 0;

        if (!w->is_new)
                write_erased(w, n);
        HASH_ITER(hh, n->entries, e, next) {
                if (r >= 0)
                        r = write_entry(w, e);
        }
        if (w->is_noted) {
                path_list_done(&n->erased);
        }
        return r;
}

static int write_node(Node *n, void *userdata) {
        _cleanup_free_ char *path = node_path(n), *head = NULL;
        Writer *w = userdata;
        int size;

        if (!path)
                return -ENOMEM;
        size = asprintf(
                &head, "D%s%c%" PRIu64 " %" PRIu64 " %" PRIx64 "%c%s%c%s%c%s%s%cI%s%c", path, 0,
                n->old_inode, n->new_inode, n->base, 0, n->old_handle ?: "", 0, n->new_handle ?: "", 0,
                n->lower ? "/" : "", n->lower ?: "", 0, n->lower_identity ?: "", 0);
        if (size < 0) {
                head = NULL;
                return -ENOMEM;
        }
        w->is_new = w->is_whole || n->written == 0;
        w->head = head;
        w->head_size = (size_t) size;
        if (is_news(w, head, w->head_size, &n->written))
                put(w, "", 0);
        return write_entries(w, n);
}

/* The lines of what is at and below n, and their sum. That of what was written before counts in what is
 * appended, which is of no use behind anything else. */
static int serialize(Node *n, Writer *w, char **ret, size_t *ret_size, uint64_t *ret_sum) {
        _cleanup_free_ char *buffer = NULL;
        const Tree *t = n->tree;
        size_t size = 0;
        int r;

        w->f = open_memstream(&buffer, &size);
        if (!w->f)
                return -ENOMEM;
        if (w->is_whole)
                (void) fprintf(
                        w->f, MAGIC "%d%cid=%s%cpath=%s%cundo=%d%cusec=%" PRIu64 "%cupper=%s%c", VERSION_NOW,
                        0, t->id, 0, t->path, 0, t->is_undo, 0, t->usec, 0, t->upper ?: "", 0);
        else
                (void) fprintf(w->f, "Z%" PRIx64 "%c", t->file.sum, 0);
        r = node_foreach(n, write_node, w);
        if (fflush(w->f) != 0 && r >= 0)
                r = -ENOMEM;
        if (r >= 0)
                (void) fprintf(w->f, "Z%" PRIx64 "%c", *ret_sum = hash_bytes(buffer, size), 0);
        if (fclose(w->f) != 0 && r >= 0)
                r = -ENOMEM;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(buffer);
        *ret_size = size;
        return 0;
}

static int write_whole(Tree *t, int dfd, const char *name, bool is_noted) {
        Writer w = { .is_whole = true, .is_noted = is_noted };
        _cleanup_free_ char *data = NULL;
        uint64_t sum;
        size_t size;
        int r = serialize(t->root, &w, &data, &size, &sum);

        if (r >= 0)
                r = file_write_atomic(dfd, name, data, size);
        if (r >= 0 && is_noted)
                t->file = (TreeFile){ .size = size, .whole = size, .sum = sum };
        return r;
}

int manifest_write(Tree *t, int dfd, const char *name) {
        return write_whole(t, dfd, name, /* is_noted= */ false);
}

#define SUM_SIZE (sizeof("Z") + 16)

static size_t sum_to_line(uint64_t sum, char line[static SUM_SIZE]) {
        return (size_t) snprintf(line, SUM_SIZE, "Z%" PRIx64, sum) + 1;
}

/* Whether it ends where and as it did: it is the same file then, and nothing was added or cut short. */
static bool is_same(const TreeFile *file, int fd) {
        char expected[SUM_SIZE], found[SUM_SIZE];
        size_t n = sum_to_line(file->sum, expected);
        struct stat st;

        return fd >= 0 && fstat(fd, &st) >= 0 && file->size >= n && (size_t) st.st_size == file->size &&
                pread(fd, found, n, (off_t) (file->size - n)) == (ssize_t) n &&
                memcmp(found, expected, n) == 0;
}

bool manifest_is_same(const Tree *t, int dfd, const char *name) {
        _cleanup_close_ int fd = open_beneath(dfd, name, O_RDONLY | O_NOFOLLOW);

        return is_same(&t->file, fd);
}

static bool has_room(const TreeFile *file) {
        return file->whole <= APPENDED_TO_MAX && file->size - file->whole <= TAIL_MAX(file->whole);
}

static int append(Node *n, int fd, bool sync) {
        TreeFile *file = &n->tree->file;
        _cleanup_free_ char *data = NULL;
        Writer w = { .is_noted = true };
        size_t size, before;
        uint64_t sum;
        int r = serialize(n, &w, &data, &size, &sum);

        if (r >= 0 && w.has_lines) {
                before = strlen(data) + 1;
                r = fd_write_all(fd, data + before, size - before);
                file->size += size - before;
                file->sum = sum;
        }
        if (r >= 0 && sync && fdatasync(fd) < 0)
                r = -errno;
        return r;
}

int manifest_update(Node *n, int dfd, const char *name, bool sync) {
        _cleanup_close_ int fd = open_beneath(dfd, name, O_RDWR | O_APPEND | O_NOFOLLOW);
        TreeFile *file = &n->tree->file;
        int r = is_same(file, fd) && has_room(file) ? append(n, fd, sync)
                                                    : write_whole(n->tree, dfd, name, /* is_noted= */ true);

        if (r < 0)
                file->size = 0; /* what it has is not what was noted */
        return r;
}

typedef struct Reader {
        const char *at, *end;
        Tree *tree;
        Node *node;
        const char *head; /* of the node: where its lines begin */
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
        Node *n = node_reach(t->root, path, &path);

        return *path ? NULL : n;
}

static int replace_string(char **s, const char *by) {
        return str_replace(s, by[0] ? by : NULL);
}

/* None begins so, and it would end a part when it is written again. */
static bool handle_is_valid(const char *s) {
        return s[0] != 'Z';
}

static int read_node(Reader *r, const char *path) {
        const char *inodes = next_string(r), *old = next_string(r), *new = next_string(r),
                   *lower = next_string(r);
        uint64_t old_inode;
        Node *n;

        if (!lower || !handle_is_valid(old) || !handle_is_valid(new) || !(n = node_at(r->tree, path)))
                return -EBADMSG;
        if (sscanf(inodes, "%" SCNu64 " %" SCNu64 " %" SCNx64, &old_inode, &n->new_inode, &n->base) !=
            (r->version < 3 ? 2 : 3))
                return -EBADMSG;
        node_set_old_inode(n, old_inode);
        r->node = n;
        n->is_attributes_dirty = false; /* an exchanged tree has its attributes; they are its users' now */
        if (replace_string(&n->old_handle, old) < 0 || replace_string(&n->new_handle, new) < 0)
                return -ENOMEM;
        return str_replace(&n->lower, lower[0] == '/' ? lower + 1 : NULL);
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

/* Not as something that is still to be erased from the file. */
static void erase(Node *n, Entry *e) {
        e->written = 0;
        entry_forget(n, e);
}

/* A directory that stays one keeps what stands below it. */
static int find_or_add(Node *n, const char *name, unsigned char type, Entry **ret) {
        int r = node_add(n, name, type, ret);

        if (r != -EEXIST)
                return r;
        *ret = node_find(n, name);
        if ((*ret)->dir && type == DT_DIR)
                return 0;
        erase(n, *ret);
        return node_add(n, name, type, ret);
}

static bool name_is_valid(const char *s) {
        return s[0] != '\0' && !strchr(s, '/') && strlen(s) <= NAME_MAX && strcmp(s, ".") != 0 &&
                strcmp(s, "..") != 0;
}

static int read_entry(Reader *r, const char *line) {
        uint64_t numbers[5] = { 0 };
        int is_local, is_placed, k;
        const char *s;
        unsigned type;
        Entry *e;

        s = read_numbers(r, line + 1, &type, &is_local, &is_placed, numbers);
        if (!r->node || !s || s[0] != ' ' || !name_is_valid(s + 1) || type > DT_WHT)
                return -EBADMSG;
        k = find_or_add(r->node, s + 1, (unsigned char) type, &e);
        if (k < 0)
                return k;
        e->is_local = is_local;
        e->is_placed = is_placed;
        e->inode = numbers[0];
        e->identity = numbers[1];
        e->base = numbers[2];
        e->xattrs = r->version < 4 && numbers[3] != DIGEST_NO_XATTRS ? 0 : numbers[3];
        e->ctime = numbers[4];
        e->written = hash_bytes(line, strlen(line) + 1);
        return 0;
}

static int read_identity(const Reader *r, const char *s) {
        if (!r->node)
                return -EBADMSG;
        r->node->written = hash_bytes(r->head, (size_t) (r->at - r->head));
        return replace_string(&r->node->lower_identity, s);
}

static int read_erased(const Reader *r, const char *name) {
        Entry *e = r->node ? node_find(r->node, name) : NULL;

        if (e)
                erase(r->node, e);
        return r->node ? 0 : -EBADMSG;
}

/* Each part says by itself which directories it is about. */
static int read_sum(Reader *r) {
        if (!r->node)
                return -EBADMSG;
        r->node = NULL;
        return 0;
}

static int read_line(Reader *r, const char *s) {
        switch (s[0]) {
        case 'D':
                r->head = s;
                return read_node(r, s + 1);
        case 'I':
                return read_identity(r, s + 1);
        case 'E':
                return read_entry(r, s);
        case '-':
                return read_erased(r, s + 1);
        case 'Z':
                return read_sum(r);
        default:
                return -EBADMSG;
        }
}

static int read_body(Reader *r) {
        for (const char *s; (s = next_string(r));) {
                int k = read_line(r, s);

                if (k < 0)
                        return k;
        }
        return 0;
}

/* Up to where it is as it was written: the manifest, and each part that was appended behind it. */
static TreeFile find_end(const char *data, size_t size) {
        const char *from = data, *next;
        TreeFile file = { 0 };

        for (const char *at = data; at < data + size; at = next) {
                char expected[SUM_SIZE];
                uint64_t sum;

                next = at + strlen(at) + 1;
                if (at[0] != 'Z' || next > data + size)
                        continue;
                sum = hash_bytes(from, (size_t) (at - from));
                (void) sum_to_line(sum, expected);
                if (strcmp(at, expected) != 0)
                        break;
                file.size = (size_t) (next - data);
                file.whole = file.whole ?: file.size;
                file.sum = sum;
                from = at;
        }
        return file;
}

static int parse(const char *data, size_t size, Tree **ret) {
        _cleanup_(tree_freep) Tree *t = NULL;
        const char *magic, *id, *path, *undo, *usec, *upper, *lower = "";
        const TreeFile file = find_end(data, size);
        Reader reader = { .at = data, .end = data + file.size };
        int r;

        magic = next_string(&reader);
        if (!magic || strncmp(magic, MAGIC, strlen(MAGIC)) != 0)
                return -EBADMSG;
        reader.version = magic[strlen(MAGIC)] - '0';
        if (reader.version < 1 || reader.version > VERSION_NOW)
                return -EBADMSG;
        if (reader.version < VERSION_APPENDED && file.size != size)
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
        r = replace_string(&t->root->lower_identity, lower); /* in format 2 the whole tree has one */
        if (r >= 0)
                r = read_body(&reader);
        if (r < 0)
                return r;
        t->upper = strdup(upper);
        if (!t->upper)
                return -ENOMEM;
        if (reader.version >= VERSION_APPENDED)
                t->file = file;
        *ret = TAKE_PTR(t);
        return 0;
}

int manifest_read(int dfd, const char *name, Tree **ret) {
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = file_read(dfd, name, MANIFEST_SIZE_MAX, &data, &size);

        return r < 0 ? r : parse(data, size, ret);
}
