/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/users/writers.h"

#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/fs-util.h"
#include "base/str.h"

#define CAPABILITY(c) (UINT64_C(1) << (c))
/* With one of these a directory can be written, or be made one's own. */
#define OVERRIDING (CAPABILITY(CAP_DAC_OVERRIDE) | CAPABILITY(CAP_FOWNER) | CAPABILITY(CAP_CHOWN))
/* Releases have a handful; with more, nobody is looked at closely. */
#define ACCESSES_MAX 256
#define FILE_SIZE_MAX ((size_t) 1 << 20)
#define MAY_WRITE_NAMES 3 /* write and search, in the bits of a mode */

/* What directories have in common that the same people may write. */
typedef struct Access {
        uid_t uid;
        gid_t gid;
        mode_t mode;
        char *acl; /* the xattr, NULL without */
        size_t acl_size;
} Access;

typedef struct Answer {
        char *credentials;
        bool may_write;
} Answer;

struct Writers {
        Access *accesses;
        size_t n_accesses;
        Answer *answers; /* processes share credentials more often than not */
        size_t n_answers;
        bool is_undecidable;
};

/* Real, effective, saved and file system ids: a process may change between them. */
#define N_IDS 4

typedef struct Credentials {
        unsigned uids[N_IDS], gids[N_IDS];
        unsigned *groups;
        size_t n_groups;
        uint64_t capabilities;
        const char *uid_map, *gid_map; /* lines "inside outside count" */
} Credentials;

int writers_new(Writers **ret) {
        *ret = calloc(1, sizeof(Writers));
        return *ret ? 0 : -ENOMEM;
}

Writers *writers_free(Writers *w) {
        if (!w)
                return NULL;
        for (size_t i = 0; i < w->n_accesses; i++)
                free(w->accesses[i].acl);
        for (size_t i = 0; i < w->n_answers; i++)
                free(w->answers[i].credentials);
        free(w->accesses);
        free(w->answers);
        free(w);
        return NULL;
}

static bool is_same_access(const Access *a, const Access *b) {
        return a->uid == b->uid && a->gid == b->gid && a->mode == b->mode && a->acl_size == b->acl_size &&
                (a->acl_size == 0 || memcmp(a->acl, b->acl, a->acl_size) == 0);
}

static int read_access(int fd, Access *ret) {
        struct stat st;
        ssize_t n;

        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = (Access){ .uid = st.st_uid, .gid = st.st_gid, .mode = st.st_mode & 0777 };
        n = xattr_read_fd(fd, "system.posix_acl_access", &ret->acl);
        if (n >= 0)
                ret->acl_size = (size_t) n;
        return n >= 0 || n == -ENODATA || n == -EOPNOTSUPP ? 0 : (int) n;
}

int writers_add(Writers *w, int fd) {
        Access a = { 0 };
        int r = read_access(fd, &a);

        if (r < 0)
                return r;
        for (size_t i = 0; i < w->n_accesses; i++)
                if (is_same_access(w->accesses + i, &a)) {
                        free(a.acl);
                        return 0;
                }
        if (w->n_accesses < ACCESSES_MAX && ARRAY_GROW(w->accesses, w->n_accesses)) {
                w->accesses[w->n_accesses++] = a;
                return 0;
        }
        w->is_undecidable = true;
        free(a.acl);
        return 0;
}

static bool has_group(const Credentials *c, unsigned gid) {
        for (size_t i = 0; i < N_IDS; i++)
                if (c->gids[i] == gid)
                        return true;
        for (size_t i = 0; i < c->n_groups; i++)
                if (c->groups[i] == gid)
                        return true;
        return false;
}

static bool grants(unsigned permissions) {
        return (permissions & MAY_WRITE_NAMES) == MAY_WRITE_NAMES;
}

/* posix_acl_permission(): the first entry that is about the user decides; of groups, any. */
static bool acl_grants(const Access *a, const Credentials *c, unsigned uid) {
        const struct posix_acl_xattr_header *header = (const void *) a->acl;
        const struct posix_acl_xattr_entry *entries = (const void *) (header + 1);
        size_t n = a->acl_size < sizeof(*header) ? 0 : (a->acl_size - sizeof(*header)) / sizeof(*entries);
        unsigned mask = 07, other = 07;
        bool is_named = false, is_grouped = false, named = false, grouped = false;

        for (size_t i = 0; i < n; i++) {
                unsigned tag = le16toh(entries[i].e_tag), permissions = le16toh(entries[i].e_perm),
                         id = le32toh(entries[i].e_id);

                if (tag == ACL_MASK)
                        mask = permissions;
                else if (tag == ACL_OTHER)
                        other = permissions;
                else if (tag == ACL_USER && id == uid) {
                        is_named = true;
                        named = grants(permissions);
                } else if (
                        (tag == ACL_GROUP && has_group(c, id)) ||
                        (tag == ACL_GROUP_OBJ && has_group(c, a->gid))) {
                        is_grouped = true;
                        grouped |= grants(permissions);
                }
        }
        if (is_named)
                return named && grants(mask);
        return is_grouped ? grouped && grants(mask) : grants(other);
}

static bool may_write_as(const Access *a, const Credentials *c, unsigned uid) {
        if (a->uid == uid)
                return true; /* else he would give himself the right */
        if (a->acl)
                return acl_grants(a, c, uid);
        return grants(has_group(c, a->gid) ? a->mode >> 3 : a->mode);
}

/* Whether the user namespace that a map belongs to has a name for this id: its capabilities end there. */
static bool is_mapped(const char *map, unsigned id) {
        unsigned long inside, outside, count;

        for (const char *line = map; line && sscanf(line, "%lu %lu %lu", &inside, &outside, &count) == 3;
             line = strchr(line, '\n'), line = line ? line + 1 : NULL)
                if (id >= outside && id - outside < count)
                        return true;
        return false;
}

static bool may_write(const Access *a, const Credentials *c) {
        if ((c->capabilities & OVERRIDING) && is_mapped(c->uid_map, a->uid) && is_mapped(c->gid_map, a->gid))
                return true;
        for (size_t i = 0; i < N_IDS; i++)
                if (may_write_as(a, c, c->uids[i]))
                        return true;
        return false;
}

static const char *find_field(const char *status, const char *name) {
        const char *p = strstr(status, name);

        return p && p > status && p[-1] == '\n' ? p + strlen(name) : NULL;
}

static int parse_groups(const char *p, Credentials *ret) {
        for (int n;; p += n) {
                unsigned gid;

                p += strspn(p, " \t");
                if (*p == '\n' || *p == '\0')
                        return 0;
                if (sscanf(p, "%u%n", &gid, &n) != 1)
                        return -EBADMSG;
                if (!ARRAY_GROW(ret->groups, ret->n_groups))
                        return -ENOMEM;
                ret->groups[ret->n_groups++] = gid;
        }
}

static int parse_ids(const char *p, unsigned ids[static N_IDS]) {
        return p && sscanf(p, "%u %u %u %u", ids, ids + 1, ids + 2, ids + 3) == N_IDS ? 0 : -EBADMSG;
}

static int parse_credentials(const char *status, Credentials *ret) {
        const char *groups = find_field(status, "Groups:"), *permitted = find_field(status, "CapPrm:");

        if (!groups || !permitted || sscanf(permitted, "%" SCNx64, &ret->capabilities) != 1 ||
            parse_ids(find_field(status, "Uid:"), ret->uids) < 0 ||
            parse_ids(find_field(status, "Gid:"), ret->gids) < 0)
                return -EBADMSG;
        return parse_groups(groups, ret);
}

static int decide(const Writers *w, const char *status, const char *uid_map, const char *gid_map) {
        Credentials c = { .uid_map = uid_map, .gid_map = gid_map };
        int r = parse_credentials(status, &c);

        for (size_t i = 0; r == 0 && i < w->n_accesses; i++)
                r = may_write(w->accesses + i, &c);
        free(c.groups);
        return r;
}

/* Everything that the answer depends on. */
static char *make_key(const char *status, const char *uid_map, const char *gid_map) {
        static const char *const fields[] = { "Uid:", "Gid:", "Groups:", "CapPrm:" };
        const char *p[ELEMENTSOF(fields)];

        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                p[i] = find_field(status, fields[i]);
                if (!p[i])
                        return NULL;
        }
        return str_format(
                "%.*s %.*s %.*s %.*s %s %s", (int) strcspn(p[0], "\n"), p[0], (int) strcspn(p[1], "\n"),
                p[1], (int) strcspn(p[2], "\n"), p[2], (int) strcspn(p[3], "\n"), p[3], uid_map, gid_map);
}

static bool answer(Writers *w, const char *status, const char *uid_map, const char *gid_map) {
        _cleanup_free_ char *key = make_key(status, uid_map, gid_map);
        bool may_write;

        for (size_t i = 0; key && i < w->n_answers; i++)
                if (strcmp(w->answers[i].credentials, key) == 0)
                        return w->answers[i].may_write;
        may_write = decide(w, status, uid_map, gid_map) != 0;
        if (key && ARRAY_GROW(w->answers, w->n_answers))
                w->answers[w->n_answers++] =
                        (Answer){ .credentials = TAKE_PTR(key), .may_write = may_write };
        return may_write;
}

typedef struct Threads {
        Writers *writers;
        const char *uid_map, *gid_map;
        bool may_write;
} Threads;

/* Threads of a process share where they stand, and need not share who they are. */
static int visit_thread(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = openat(dfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *status = NULL;
        Threads *t = userdata;
        int r = fd < 0 ? -errno : file_read(fd, "status", FILE_SIZE_MAX, &status, NULL);

        if (r == -ENOENT || r == -ESRCH)
                return 0; /* it has ended */
        t->may_write = r < 0 || answer(t->writers, status, t->uid_map, t->gid_map);
        return t->may_write ? -ECANCELED : 0;
}

/* Whether the mount by which it stands there is read-only, and it cannot change that. */
static bool is_kept_from_writing(const ProcTask *t, const char *link) {
        _cleanup_close_ int fd = openat(t->fd, link, O_PATH | O_CLOEXEC);
        _cleanup_free_ char *status = NULL;
        struct statvfs fs;
        uint64_t capabilities;
        const char *permitted;

        if (fd < 0 || fstatvfs(fd, &fs) < 0 || !(fs.f_flag & ST_RDONLY) ||
            file_read(t->process_fd, "status", FILE_SIZE_MAX, &status, NULL) < 0)
                return false;
        permitted = find_field(status, "CapPrm:");
        return permitted && sscanf(permitted, "%" SCNx64, &capabilities) == 1 &&
                !(capabilities & CAPABILITY(CAP_SYS_ADMIN));
}

bool writers_include(Writers *w, const ProcTask *t, const char *link) {
        _cleanup_close_ int tasks_fd = -EBADF;
        _cleanup_free_ char *uid_map = NULL, *gid_map = NULL;
        Threads threads = { .writers = w };

        if (is_kept_from_writing(t, link))
                return false;
        if (w->is_undecidable || file_read(t->process_fd, "uid_map", FILE_SIZE_MAX, &uid_map, NULL) < 0 ||
            file_read(t->process_fd, "gid_map", FILE_SIZE_MAX, &gid_map, NULL) < 0)
                return true;
        tasks_fd = openat(t->process_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (tasks_fd < 0)
                return errno != ENOENT && errno != ESRCH;
        threads.uid_map = uid_map;
        threads.gid_map = gid_map;
        (void) dir_foreach(tasks_fd, visit_thread, &threads);
        return threads.may_write;
}
