/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The raw edits of the mark method, on the upper of a running mount: a redirect on what needs a lower layer,
 * opaque=y on the directory. Both only take effect when the kernel reads them, at the next lookup of an
 * inode that is not in memory. A redirect that is written here means what the kernel takes for granted
 * without it, so it is right at any time; opaque=y is not, see mark.c (docs/overlayfs.md 2.3, 2.6). */
#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/str.h"
#include "core/mark/mark-internal.h"
#include "core/upper/layer.h"

static int set_redirect(int fd, const char *directory, const char *name) {
        _cleanup_free_ char *value = str_format("/%s%s%s", directory, *directory && *name ? "/" : "", name);

        if (!value)
                return -ENOMEM;
        return xattr_write_fd(fd, XATTR_REDIRECT, value, strlen(value), 0);
}

/* A plain directory in a merged one is merged by its name, if the lower has that name: the redirect says the
 * same. Where the lower has none it leads nowhere, which the kernel takes for a directory of the upper
 * alone. In an opaque directory it is one that somebody made there since, and nothing else. */
static bool needs_redirect(const UpperEntry *e, bool is_opaque) {
        if (upper_entry_has_absolute_redirect(e))
                return false;
        return e->class == UPPER_METACOPY || e->class == UPPER_REDIRECT ||
                (e->class == UPPER_PLAIN && !is_opaque);
}

/* The descriptor comes first, then the redirect (docs/overlayfs.md 2.2): one that is absent then has never
 * been renamed, so its lower name is the one it was opened by, whatever becomes of the name meanwhile. */
int mark_write_redirect(int upper_fd, const char *name, const char *lower, bool is_opaque) {
        _cleanup_close_ int fd = open_beneath(upper_fd, name, O_PATH | O_NOFOLLOW);
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r;

        if (fd < 0)
                return errno_is_gone(fd) ? 0 : fd;
        r = upper_entry_read(fd, "", &e);
        if (r < 0 || !needs_redirect(&e, is_opaque))
                return r;
        r = set_redirect(fd, lower, e.redirect ?: name);
        return r < 0 ? r : 1;
}

typedef struct Writing {
        const char *lower;
        bool is_opaque;
        unsigned n;
        char *failed; /* name */
} Writing;

static int write_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        Writing *w = userdata;
        int r;

        if (type != DT_REG && type != DT_DIR)
                return 0;
        r = mark_write_redirect(dfd, name, w->lower, w->is_opaque);
        w->n += r > 0;
        if (r < 0)
                (void) snprintf(w->failed, NAME_MAX + 1, "%s", name);
        return r < 0 ? r : 0;
}

int mark_write_redirects(
        int upper_fd,
        const char *lower,
        bool is_opaque,
        unsigned *ret_n,
        char ret_failed[static NAME_MAX + 1]) {
        Writing w = { .lower = lower, .is_opaque = is_opaque, .failed = ret_failed };
        int r;

        ret_failed[0] = '\0';
        r = dir_foreach(upper_fd, write_entry, &w);
        *ret_n = w.n;
        return r;
}

int mark_write_own(int upper_fd, const char *lower) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(upper_fd, "", &e);

        if (r < 0 || upper_entry_has_absolute_redirect(&e))
                return r;
        r = set_redirect(upper_fd, lower, "");
        return r < 0 ? r : 1;
}

int mark_write_opaque(int upper_fd) {
        return xattr_write_fd(upper_fd, XATTR_OPAQUE, "y", 1, 0);
}
