/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/mount/mount-table.h"

#include <libmount.h>
#include <limits.h>
#include <string.h>

#include "base/path-util.h"
#include "base/proc-scan.h"
#include "base/strv.h"

static void table_unrefp(struct libmnt_table **t) {
        mnt_unref_table(*t);
}

static void iterator_freep(struct libmnt_iter **i) {
        mnt_free_iter(*i);
}

static void entry_done(MountEntry *e) {
        free(e->root);
        free(e->target);
        free(e->type);
        free(e->source);
        free(e->vfs_options);
        free(e->propagation);
        free(e->fs_options);
}

void mount_table_done(MountTable *t) {
        for (size_t i = 0; i < t->n; i++)
                entry_done(t->items + i);
        free(t->items);
        *t = (MountTable){ 0 };
}

/* One snapshot for libmount and for raw_options(); a mount table holds no NUL. *ret is NULL when the file is
 * empty. */
static int read_all(const char *path, char **ret) {
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        _cleanup_free_ char *text = NULL;
        size_t size = 0;

        if (!f)
                return -errno;
        if (getdelim(&text, &size, '\0', f) < 0) {
                if (!feof(f)) /* read error, or out of memory */
                        return errno > 0 ? -errno : -EIO;
                *ret = NULL;
                return 0;
        }
        *ret = TAKE_PTR(text);
        return 0;
}

/* The last field of the line of mount id. libmount 2.38 hands options out with their octal escapes decoded,
 * and then a ',' within a layer's path can no longer be told from one between two options. */
static int raw_options(const char *text, int id, char **ret) {
        char prefix[16];
        size_t n = (size_t) snprintf(prefix, sizeof(prefix), "%d ", id);

        for (const char *line = text; line && *line;
             line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
                const char *end, *field;

                if (strncmp(line, prefix, n) != 0)
                        continue;
                end = line + strcspn(line, "\n");
                for (field = end; field > line && field[-1] != ' ';)
                        field--;
                *ret = strndup(field, (size_t) (end - field));
                return *ret ? 0 : -ENOMEM;
        }
        *ret = strdup("");
        return *ret ? 0 : -ENOMEM;
}

static char *copy(const char *s, const char *otherwise) {
        return strdup(s ?: otherwise);
}

static int entry_from_fs(struct libmnt_fs *fs, const char *text, MountEntry *ret) {
        MountEntry e = {
                .id = mnt_fs_get_id(fs),
                .parent_id = mnt_fs_get_parent_id(fs),
                .device = mnt_fs_get_devno(fs),
                .root = copy(mnt_fs_get_root(fs), "/"),
                .target = copy(mnt_fs_get_target(fs), "/"),
                .type = copy(mnt_fs_get_fstype(fs), ""),
                .source = copy(mnt_fs_get_source(fs), "none"),
                .vfs_options = copy(mnt_fs_get_vfs_options(fs), ""),
                .propagation = copy(mnt_fs_get_optional_fields(fs), ""),
        };

        (void) mnt_fs_get_propagation(fs, &e.propagation_flags);
        if (!e.root || !e.target || !e.type || !e.source || !e.vfs_options || !e.propagation ||
            raw_options(text, e.id, &e.fs_options) < 0) {
                entry_done(&e);
                return -ENOMEM;
        }
        *ret = e;
        return 0;
}

static int table_from_libmount(struct libmnt_table *source, const char *text, MountTable *t) {
        _cleanup_(iterator_freep) struct libmnt_iter *i = mnt_new_iter(MNT_ITER_FORWARD);
        int n = mnt_table_get_nents(source);
        struct libmnt_fs *fs;
        int r;

        if (!i)
                return -ENOMEM;
        t->items = calloc(n > 0 ? (size_t) n : 1, sizeof(MountEntry));
        if (!t->items)
                return -ENOMEM;
        while (mnt_table_next_fs(source, i, &fs) == 0) {
                r = entry_from_fs(fs, text, t->items + t->n);
                if (r < 0)
                        return r;
                t->n++;
        }
        return 0;
}

/* By itself libmount leaves out a line that it has no memory for, as one that is no mount. */
static int on_parse_error(struct libmnt_table *table, const char *path, int line) {
        return errno == ENOMEM ? -ENOMEM : 1;
}

static int parse(char *text, const char *path, MountTable *ret) {
        _cleanup_(table_unrefp) struct libmnt_table *table = mnt_new_table();
        _cleanup_fclose_ FILE *f = fmemopen(text, strlen(text), "re");
        MountTable t = { 0 };
        int r;

        if (!table || !f)
                return -ENOMEM;
        (void) mnt_table_set_parser_errcb(table, on_parse_error);
        errno = 0;
        r = mnt_table_parse_stream(table, f, path);
        if (r < 0 || errno == ENOMEM)
                return errno == ENOMEM ? -ENOMEM : r;
        r = table_from_libmount(table, text, &t);
        if (r < 0) {
                mount_table_done(&t);
                return r;
        }
        *ret = t;
        return 0;
}

/* mount_table_read() - a mount table as values
 * @path: of a file such as /proc/self/mountinfo
 * Returns 0, -ENOENT or -EACCES if the file cannot be opened, -EINVAL (process of another kind of /proc),
 * -ENOMEM. Blocking: on /proc only. */
int mount_table_read(const char *path, MountTable *ret) {
        _cleanup_free_ char *text = NULL;
        int r = read_all(path, &text);

        if (r < 0)
                return r;
        if (!text || text[0] == '\0') {
                *ret = (MountTable){ 0 };
                return 0;
        }
        return parse(text, path, ret);
}

static bool has_id(const MountTable *t, int id) {
        for (size_t i = 0; i < t->n; i++)
                if (t->items[i].id == id)
                        return true;
        return false;
}

/* A process whose root is no mount point sees mounts whose parent its table does not show; they hang below
 * its root. */
static bool is_child(const MountTable *t, const MountEntry *e, const MountEntry *parent) {
        if (e == parent)
                return false;
        if (parent)
                return e->parent_id == parent->id;
        return e->parent_id == e->id || !has_id(t, e->parent_id);
}

/* Of the children of parent on the way to path, the one a lookup meets first. Should a table list one mount
 * point twice below one parent, the later line is the later mount. */
static const MountEntry *
first_child_towards(const MountTable *t, const MountEntry *parent, const char *path) {
        const MountEntry *best = NULL;

        for (size_t i = 0; i < t->n; i++) {
                const MountEntry *e = t->items + i;

                if (!path_startswith(path, e->target) || !is_child(t, e, parent))
                        continue;
                if (!best || strlen(e->target) <= strlen(best->target))
                        best = e;
        }
        return best;
}

const MountEntry *mount_table_find(const MountTable *t, int id) {
        for (size_t i = 0; i < t->n; i++)
                if (t->items[i].id == id)
                        return t->items + i;
        return NULL;
}

/* mount_table_reach() - which mount a path leads to
 * Follows the tree of mounts as a lookup does: a mount on an ancestor directory hides what had been mounted
 * below it before, and of mounts stacked on one mount point the last counts. Searching by mount point alone
 * finds hidden ones. */
const MountEntry *mount_table_reach(const MountTable *t, const char *path) {
        const MountEntry *at = NULL;

        /* Each step goes to a child, so there are at most t->n of them; the bound is for tables that are no
         * tree. */
        for (size_t steps = 0; steps <= t->n; steps++) {
                const MountEntry *next = first_child_towards(t, at, path);

                if (!next)
                        break;
                at = next;
        }
        return at;
}

static size_t option_key_length(const char *option, const char *key) {
        size_t n = strlen(key);

        if (strncmp(option, key, n) != 0 || !strchr(",=", option[n]))
                return 0;
        return n;
}

static const char *option_find(const char *p, const char *key, const char **ret_next) {
        while (p && *p) {
                size_t n = strcspn(p, ","), k = option_key_length(p, key);

                *ret_next = p[n] ? p + n + 1 : p + n;
                if (k > 0)
                        return p + k;
                p = *ret_next;
        }
        return NULL;
}

/* mount_options_next() - the value of an option of the superblock
 * Not mnt_optstr_next_option(): that one takes '"' for quoting, but in a layer's path it is a character like
 * any other. Source: seq_show_option() escapes ',' '\\' and blanks as octal in values; tried on 6.18. */
int mount_options_next(const char *options, const char *key, const char **iterator, char **ret) {
        const char *unused = NULL, **next = iterator ?: &unused, *value;
        _cleanup_free_ char *raw = NULL;

        value = option_find(*next ?: options, key, next);
        if (!value)
                return 0;
        if (*value == '=')
                value++;
        raw = strndup(value, strcspn(value, ","));
        if (!raw)
                return -ENOMEM;
        *ret = raw[0] ? mnt_unmangle(raw) : strdup(""); /* NULL for an empty string, as for no memory */
        return *ret ? 1 : -ENOMEM;
}

/* mount_option_unescape() - what the kernel makes of upperdir= and workdir= given as strings
 * Removes backslashes in place; one at the very end stands for nothing (ovl_unescape();
 * docs/overlayfs.md 7.4). */
void mount_option_unescape(char *s) {
        char *out = s;

        for (; *s; s++) {
                if (*s == '\\' && *++s == '\0')
                        break;
                *out++ = *s;
        }
        *out = '\0';
}

bool mount_options_have(const char *options, const char *key) {
        const char *next;

        return option_find(options, key, &next) != NULL;
}

/* Kernel threads and processes that are about to end have no root to read. */
static char *view_key(int proc_fd, pid_t pid, char namespace[static PATH_MAX]) {
        char name[32], root[PATH_MAX];

        (void) snprintf(name, sizeof(name), "%d/ns/mnt", (int) pid);
        if (!proc_read_link(proc_fd, name, namespace))
                return NULL;
        (void) snprintf(name, sizeof(name), "%d/root", (int) pid);
        if (!proc_read_link(proc_fd, name, root))
                return NULL;
        return str_format("%s %s", namespace, root);
}

static int visit_process(
        int proc_fd, const char *proc, pid_t pid, char ***seen, mount_namespace_func func, void *userdata) {
        _cleanup_table_ MountTable t = { 0 };
        _cleanup_free_ char *key = NULL, *path = NULL;
        char namespace[PATH_MAX];
        int r;

        key = view_key(proc_fd, pid, namespace);
        if (!key || strv_contains(*seen, key))
                return 0;
        path = str_format("%s/%d/mountinfo", proc, (int) pid);
        if (!path)
                return -ENOMEM;
        r = mount_table_read(path, &t);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || t.n == 0) /* gone meanwhile; another process of the namespace may serve */
                return 0;
        r = strv_push(seen, &key);
        return r < 0 ? r : func(&t, pid, namespace, userdata);
}

/* mount_namespaces_foreach() - every mount table of the machine
 * A namespace without a process (kept by a bind mount or a descriptor) is not seen: to read its table one
 * would have to enter it. Source: mount_namespaces(7), proc(5). */
int mount_namespaces_foreach(const char *proc, mount_namespace_func func, void *userdata) {
        _cleanup_closedir_ DIR *d = opendir(proc ?: "/proc");
        _cleanup_strv_free_ char **seen = NULL; /* views of the mount tree, as "NAMESPACE ROOT" */
        struct dirent *e;

        if (!d)
                return -errno;
        while ((e = readdir(d))) {
                pid_t pid = proc_pid_from_name(e->d_name);
                int r;

                if (pid == 0)
                        continue;
                r = visit_process(dirfd(d), proc ?: "/proc", pid, &seen, func, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}
