/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What mounts the overlay at the next boot: its line in fstab, or its mount unit. Options that a swap has
 * given to the running mount are gone then, unless they stand there as well; without metacopy nothing that
 * was finalized can be opened (docs/overlayfs.md 3.8). It only compares: neither fstab nor a unit is
 * changed, and what somebody may mount by hand is not known. */
#include <ctype.h>
#include <fcntl.h>
#include <libmount.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/check/check-internal.h"

#define UNIT_SIZE_MAX (64 * 1024)

static const char *const unit_folders[] = {
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
};

/* A mount point as systemd names its unit (systemd.unit(5), "String Escaping"). */
static char *unit_name(const char *path) {
        char *name = malloc(4 * strlen(path) + sizeof(".mount")), *p = name;

        if (!name)
                return NULL;
        for (const char *s = path + strspn(path, "/"); *s; s++)
                if (*s == '/')
                        *p++ = '-';
                else if (isalnum((unsigned char) *s) || strchr(":_", *s) || (*s == '.' && p > name))
                        *p++ = *s;
                else
                        p += sprintf(p, "\\x%02x", (unsigned char) *s);
        strcpy(p, ".mount");
        return name;
}

/* The value of Options=; a later one replaces an earlier one. */
static char *unit_options(const char *text) {
        char *options = NULL;

        for (const char *line = text; line && *line;
             line = strchr(line, '\n'), line = line ? line + 1 : NULL)
                if (strncmp(line, "Options=", strlen("Options=")) == 0) {
                        free(options);
                        options =
                                strndup(line + strlen("Options="), strcspn(line, "\n") - strlen("Options="));
                }
        return options;
}

/* Where the options come from, owned by the caller; 1 if there is such a unit. */
static int read_unit(const char *mount_point, char **ret_where, char **ret_options) {
        _cleanup_free_ char *name = unit_name(mount_point);

        if (!name)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(unit_folders); i++) {
                _cleanup_close_ int fd = open(unit_folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                _cleanup_free_ char *text = NULL;

                if (fd < 0 || file_read(fd, name, UNIT_SIZE_MAX, &text, NULL) < 0)
                        continue;
                *ret_where = path_join(unit_folders[i], name);
                *ret_options = unit_options(text);
                return 1;
        }
        return 0;
}

static int read_fstab(const char *mount_point, char **ret_where, char **ret_options) {
        struct libmnt_table *t = mnt_new_table();
        struct libmnt_fs *fs = NULL;

        if (!t)
                return -ENOMEM;
        if (mnt_table_parse_fstab(t, NULL) == 0)
                fs = mnt_table_find_target(t, mount_point, MNT_ITER_BACKWARD);
        if (fs) {
                *ret_where = strdup(mnt_get_fstab_path());
                *ret_options = strdup(mnt_fs_get_options(fs) ?: "");
        }
        mnt_unref_table(t);
        return fs != NULL;
}

/* The options the running mount shows and the entry has not, as a list to be added; NULL on out of memory.
 * What the kernel finds out by itself (uuid) is left out. */
static char *missing_options(const Overlay *o, const char *entry) {
        static const char *const keys[] = { "redirect_dir", "metacopy", "xino", "verity" };
        _cleanup_free_ char *l = strdup("");

        for (size_t i = 0; l && i < ELEMENTSOF(keys); i++) {
                _cleanup_free_ char *is = NULL, *written = NULL, *before = NULL;

                if (mount_options_next(o->fs_options, keys[i], NULL, &is) <= 0 ||
                    (mount_options_next(entry, keys[i], NULL, &written) > 0 && strcmp(is, written) == 0))
                        continue;
                before = TAKE_PTR(l);
                l = str_format("%s%s%s=%s", before, before[0] ? "," : "", keys[i], is);
        }
        return TAKE_PTR(l);
}

int check_boot_entry(const CheckContext *c, Check *f) {
        _cleanup_free_ char *where = NULL, *options = NULL, *missing = NULL;
        int r = read_unit(c->o->mount_point, &where, &options);

        if (r == 0)
                r = read_fstab(c->o->mount_point, &where, &options);
        if (r <= 0)
                return r;
        missing = missing_options(c->o, options ?: "");
        if (!where || !missing)
                return -ENOMEM;
        if (!missing[0])
                return check_say(f, CHECK_OK, "'%s' has the options of the running mount", where);
        return check_say(
                       f, CHECK_WARNING,
                       "'%s' lacks %s, which the running mount has: mounted by it, directories that were "
                       "moved lose their content, and files of which only the metadata was copied up cannot "
                       "be opened (EPERM)",
                       where, missing)
                ?: check_advise(f, "add %s to the options there", missing);
}
