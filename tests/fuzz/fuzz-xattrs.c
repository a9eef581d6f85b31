/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Xattrs of overlayfs with any values on the way to a directory: the lower path is what a model of the
 * kernel's lookup says, and nothing else ever leads out of a layer. Reading them needs no privilege here:
 * getxattr() is ours. Input: for each of a, a/b, a/b/c, and the file a/b/c/f: which xattrs it has, and their
 * values, each ended by 0xff. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/lower/lower.h"
#include "core/upper/layer.h"
#include "fuzz.h"

enum {
        OPAQUE,
        REDIRECT,
        METACOPY,
        ORIGIN,
        N_XATTRS,
};

typedef struct Xattr {
        bool is_set;
        char value[256];
        size_t size;
} Xattr;

#define N_PLACES 4
static Xattr xattrs[N_PLACES][N_XATTRS];

/* By the name of the place, which its path ends with. */
static Xattr *find(const char *path, const char *name) {
        static const char *const names[] = { XATTR_OPAQUE, XATTR_REDIRECT, XATTR_METACOPY, XATTR_ORIGIN };
        static const char *const places[] = { "a", "b", "c", "f" };
        char target[PATH_MAX];
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        const char *last;

        if (n < 0)
                return NULL;
        target[n] = '\0';
        last = path_basename(target);
        for (size_t p = 0; p < N_PLACES; p++)
                for (size_t i = 0; i < N_XATTRS; i++)
                        if (strcmp(last, places[p]) == 0 && strcmp(name, names[i]) == 0)
                                return &xattrs[p][i];
        return NULL;
}

ssize_t getxattr(const char *path, const char *name, void *value, size_t size) {
        const Xattr *x = find(path, name);

        errno = ENODATA;
        if (!x || !x->is_set)
                return -1;
        errno = ERANGE;
        if (size > 0 && size < x->size)
                return -1;
        if (size > 0)
                memcpy(value, x->value, x->size);
        return (ssize_t) x->size;
}

static void take_values(Input *in) {
        memset(xattrs, 0, sizeof(xattrs));
        for (size_t p = 0; p < N_PLACES; p++) {
                uint8_t which = input_byte(in);

                for (size_t i = 0; i < N_XATTRS; i++) {
                        Xattr *x = &xattrs[p][i];
                        uint8_t c;

                        x->is_set = which & 1u << i;
                        while (x->is_set && x->size < sizeof(x->value) && !input_is_empty(in) &&
                               (c = input_byte(in)) != 0xff)
                                x->value[x->size++] = (char) c;
                }
        }
}

static bool is_opaque(size_t place) {
        const Xattr *x = &xattrs[place][OPAQUE];

        return x->is_set && x->size == 1 && x->value[0] == 'y';
}

/* As ovl_get_redirect_xattr() and ovl_lookup_single() take it; -1 for what they refuse. *lower holds the
 * path from the root of the lower layers, "?" for none. */
static int model_step(size_t place, const char *name, char *lower, size_t size) {
        const Xattr *x = &xattrs[place][REDIRECT];
        char value[257];

        if (is_opaque(place)) {
                (void) snprintf(lower, size, "?");
                return 0;
        }
        memcpy(value, x->value, x->size);
        value[x->size] = '\0';
        if (!x->is_set)
                (void) snprintf(value, sizeof(value), "%s", name);
        else if (value[0] != '/' && (value[0] == '\0' || strchr(value, '/')))
                return -1;
        for (const char *s = value + (value[0] == '/'), *end; x->is_set; s = end + 1) {
                size_t n = strcspn(s, "/");

                end = s + n;
                if (n == 0 || (n == 1 && s[0] == '.') || (n == 2 && memcmp(s, "..", 2) == 0))
                        return -1;
                if (*end == '\0')
                        break;
        }
        if (value[0] == '/')
                (void) snprintf(lower, size, "%s", value);
        else if (strcmp(lower, "?") != 0) {
                size_t n = strlen(lower);

                (void) snprintf(lower + n, size - n, "/%s", value);
        }
        return 0;
}

static void check_path(int upper_fd, const char *path) {
        static const char *const names[] = { "a", "b", "c" };
        _cleanup_free_ char *lower = NULL;
        char expected[PATH_MAX] = "";
        bool in_upper;
        int r = 0, found = upper_lower_path(upper_fd, path, &lower, &in_upper);

        for (size_t i = 0; r == 0 && i < (strlen(path) + 1) / 2; i++)
                r = model_step(i, names[i], expected, sizeof(expected));
        HOLDS((r < 0) == (found < 0));
        if (r < 0) {
                HOLDS(found == -EINVAL);
                return;
        }
        HOLDS(in_upper && (lower != NULL) == (strcmp(expected, "?") != 0));
        if (lower) {
                _cleanup_free_ char *simple = strdup(lower);

                HOLDS(strcmp(lower, expected + (expected[0] == '/')) == 0);
                HOLDS(lower[0] != '/' && path_simplify(simple) == 0 && strcmp(simple, lower) == 0);
        }
}

static void check_file(int dfd) {
        const Xattr *origin = &xattrs[3][ORIGIN], *redirect = &xattrs[3][REDIRECT];
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };

        HOLDS(upper_entry_read(dfd, "a/b/c/f", &e) == 0 && e.type == DT_REG);
        HOLDS((e.class == UPPER_METACOPY) == xattrs[3][METACOPY].is_set);
        HOLDS(e.has_origin == origin->is_set);
        HOLDS(e.has_live_origin == (origin->is_set && origin->size > 0 && origin->value[0] == 0));
        HOLDS((e.redirect != NULL) == redirect->is_set);
        if (e.redirect)
                HOLDS(strlen(e.redirect) <= redirect->size);
}

/* Of a lower layer that has the handle of exactly one file: no other origin is taken for it. */
static void check_origin(int dfd) {
        bool has_handles = true;
        Lower l = { .layer_fds = &dfd, .has_handles = &has_handles, .n_layers = 1, .view_fd = dfd };
        FileHandle h = { .handle.handle_bytes = MAX_HANDLE_SZ };
        const Xattr *x = &xattrs[3][ORIGIN];
        char right[21 + MAX_HANDLE_SZ] = { 0 };
        _cleanup_free_ char *exact = malloc(x->size + 1); /* so that what is read beyond it is seen */
        size_t size;
        int mount_id, r;

        HOLDS(name_to_handle_at(dfd, "a/b/c/f", &h.handle, &mount_id, 0) == 0);
        size = 21 + h.handle.handle_bytes;
        right[1] = '\xfb';
        right[2] = (char) size;
        right[4] = (char) h.handle.handle_type;
        memcpy(right + 21, h.handle.f_handle, h.handle.handle_bytes);
        HOLDS(lower_is_origin(&l, "a/b/c/f", right, size) == 1);
        memcpy(exact, x->value, x->size);
        exact = realloc(exact, x->size > 0 ? x->size : 1);
        r = lower_is_origin(&l, "a/b/c/f", x->size > 0 ? exact : NULL, x->size);
        HOLDS(r <= 0 || (x->size == size && memcmp(exact + 21, right + 21, size - 21) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static int dfd = -1;
        Input in = input_begin(data, size);

        if (dfd < 0) {
                dfd = fuzz_dir();
                HOLDS(mkdirat(dfd, "a", 0700) == 0 && mkdirat(dfd, "a/b", 0700) == 0 &&
                      mkdirat(dfd, "a/b/c", 0700) == 0);
                fuzz_write("a/b/c/f", "", 0);
        }
        take_values(&in);
        check_path(dfd, "a");
        check_path(dfd, "a/b");
        check_path(dfd, "a/b/c");
        check_file(dfd);
        check_origin(dfd);
        return 0;
}
