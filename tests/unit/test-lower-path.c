/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Redirects and opaque marks on the way to a directory, and the lower path that follows from them. The
 * directories are plain ones, whose xattrs are a table here: getxattr() is ours, so that any user can run
 * it. That real ones are read, and that the kernel goes by the same rules, is what test-layer.c is for. */
#include "unit.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/upper/layer.h"

static const struct {
        const char *path, *xattr, *value;
} marks[] = {
        { "u", XATTR_REDIRECT, "/nowhere" }, /* neither is read on the root */
        { "u", XATTR_OPAQUE, "y" },
        { "u/abs", XATTR_REDIRECT, "/old/place" },
        { "u/abs/rel", XATTR_REDIRECT, "was" },
        { "u/rel", XATTR_REDIRECT, "was" },
        { "u/rel/abs", XATTR_REDIRECT, "/x" },
        { "u/opaque", XATTR_OPAQUE, "y" },
        { "u/opaque/rel", XATTR_REDIRECT, "was" },
        { "u/opaque/abs", XATTR_REDIRECT, "/low/abs" },
        { "u/abs/final", XATTR_REDIRECT, "/kept" },
        { "u/abs/final", XATTR_OPAQUE, "y" },
        { "u/bad/empty", XATTR_REDIRECT, "" },
        { "u/bad/slash", XATTR_REDIRECT, "/" },
        { "u/bad/trailing", XATTR_REDIRECT, "/a/" },
        { "u/bad/double", XATTR_REDIRECT, "//a" },
        { "u/bad/inner", XATTR_REDIRECT, "/a//b" },
        { "u/bad/relative", XATTR_REDIRECT, "a/b" },
        { "u/bad/dot", XATTR_REDIRECT, "." },
        { "u/bad/dots", XATTR_REDIRECT, "/a/../b" },
        { "u/good/dots", XATTR_REDIRECT, "/a/.../..b/.c" },
};

/* What an open file, or one by name, has of an xattr. NULL: there is none. */
static const char *find_mark(const char *path, const char *xattr) {
        char resolved[PATH_MAX];

        if (!realpath(path, resolved))
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(marks); i++) {
                Path marked = at("%s", marks[i].path);
                char place[PATH_MAX];

                if (realpath(marked.s, place) && strcmp(place, resolved) == 0 &&
                    strcmp(marks[i].xattr, xattr) == 0)
                        return marks[i].value;
        }
        return NULL;
}

ssize_t getxattr(const char *path, const char *name, void *value, size_t size) {
        const char *found = find_mark(path, name);
        size_t n = found ? strlen(found) : 0;

        if (!found || (size > 0 && size < n)) {
                errno = found ? ERANGE : ENODATA;
                return -1;
        }
        if (size > 0)
                memcpy(value, found, n);
        return (ssize_t) n;
}

static void make_upper(void) {
        static const char *const plain[] = { "u/plain/sub", "u/abs/sub", "u/opaque/sub",
                                             "u/opaque/abs/sub" };

        for (size_t i = 0; i < ELEMENTSOF(marks); i++)
                make_directory(at("%s", marks[i].path).s);
        for (size_t i = 0; i < ELEMENTSOF(plain); i++)
                make_directory(at("%s", plain[i]).s);
        make_text(at("u/file").s, "");
        assert_return_code(mknod(at("u/white").s, S_IFCHR | 0600, makedev(0, 0)), errno);
}

/* docs/overlayfs.md 2.1. */
static const struct {
        const char *path;
        int r;
        const char *lower; /* NULL: none */
        bool in_upper;
} lower_paths[] = {
        { "", 0, "", true },
        { "absent", 0, "absent", false },
        { "absent/below/it", 0, "absent/below/it", false },
        { "plain", 0, "plain", true },
        { "plain/sub", 0, "plain/sub", true },
        { "plain/sub/absent", 0, "plain/sub/absent", false },
        { "abs", 0, "old/place", true },
        { "abs/sub", 0, "old/place/sub", true },
        { "abs/absent", 0, "old/place/absent", false },
        { "abs/rel", 0, "old/place/was", true },
        { "rel", 0, "was", true },
        { "rel/absent/x", 0, "was/absent/x", false },
        { "rel/abs", 0, "x", true },
        { "opaque", 0, NULL, true },
        { "opaque/sub", 0, NULL, true },
        { "opaque/rel", 0, NULL, true },
        { "opaque/abs", 0, "low/abs", true },
        { "opaque/abs/sub", 0, "low/abs/sub", true },
        { "opaque/abs/absent", 0, "low/abs/absent", false },
        { "opaque/absent", -ENOENT, NULL, false },
        { "abs/final", 0, NULL, true }, /* its redirect is dead */
        { "good/dots", 0, "a/.../..b/.c", true },
        { "file", -ENOTDIR, NULL, false },
        { "file/x", -ENOTDIR, NULL, false },
        { "white", -ENOENT, NULL, false },
        { "white/x", -ENOENT, NULL, false },
        { "bad/empty", -EINVAL, NULL, false },
        { "bad/slash", -EINVAL, NULL, false },
        { "bad/trailing", -EINVAL, NULL, false },
        { "bad/double", -EINVAL, NULL, false },
        { "bad/inner", -EINVAL, NULL, false },
        { "bad/relative", -EINVAL, NULL, false },
        { "bad/dot", -EINVAL, NULL, false },
        { "bad/dots", -EINVAL, NULL, false },
        { "bad/dots/absent", -EINVAL, NULL, false },
};

static void test_lower_path(void **state) {
        _cleanup_close_ int fd = -EBADF;

        make_upper();
        fd = open_directory(at("u").s);
        for (size_t i = 0; i < ELEMENTSOF(lower_paths); i++) {
                _cleanup_free_ char *lower = NULL;
                bool in_upper = false;

                if (upper_lower_path(fd, lower_paths[i].path, &lower, &in_upper) != lower_paths[i].r)
                        fail_msg("'%s' is not %d", lower_paths[i].path, lower_paths[i].r);
                if (lower_paths[i].r < 0)
                        continue;
                assert_int_equal(in_upper, lower_paths[i].in_upper);
                assert_int_equal(lower != NULL, lower_paths[i].lower != NULL);
                if (lower)
                        assert_string_equal(lower, lower_paths[i].lower);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_lower_path),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
