/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes a new superblock of the same layers with the options it is to have, as a mount that is attached
 * nowhere. It decides on no option (mount/overlay-options.h) and changes nothing that anybody sees. What the
 * kernel does not take is told in its own words, and the running mount is as it was. */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

#include "base/str.h"
#include "core/remount/remount-internal.h"

#define FSCONFIG_STRING_MAX 255 /* strndup_user(_value, 256) in fsconfig(2) */
#define MESSAGE_MAX 1024        /* of the kernel about an option */

static const struct {
        const char *option;
        uint64_t attribute;
} attributes[] = {
        { "rw", 0 },
        { "nosuid", MOUNT_ATTR_NOSUID },
        { "nodev", MOUNT_ATTR_NODEV },
        { "noexec", MOUNT_ATTR_NOEXEC },
        { "noatime", MOUNT_ATTR_NOATIME },
        { "nodiratime", MOUNT_ATTR_NODIRATIME },
        { "relatime", MOUNT_ATTR_RELATIME },
        { "nosymfollow", MOUNT_ATTR_NOSYMFOLLOW },
};

static int find_attribute(const char *option, size_t n) {
        for (size_t i = 0; i < ELEMENTSOF(attributes); i++)
                if (strncmp(attributes[i].option, option, n) == 0 && attributes[i].option[n] == '\0')
                        return (int) i;
        return -EOPNOTSUPP;
}

int mount_attributes(const char *vfs_options, uint64_t *ret) {
        uint64_t a = 0;

        for (const char *p = vfs_options; *p;) {
                size_t n = strcspn(p, ",");
                int i = find_attribute(p, n);

                if (i < 0)
                        return i;
                a |= attributes[i].attribute;
                p += n + (p[n] == ',');
        }
        /* Relative is 0, and what nothing is shown for is strict. */
        if (!mount_options_have(vfs_options, "relatime") && !mount_options_have(vfs_options, "noatime"))
                a |= MOUNT_ATTR_STRICTATIME;
        *ret = a;
        return 0;
}

static int set_string(int context, const char *key, const char *value) {
        return fsconfig(context, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/* Longer paths go as descriptors (since Linux 6.13; -EINVAL before, but for one of O_PATH, which the call
 * itself does not take). */
static int set_by_descriptor(int context, const char *key, const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        return fsconfig(context, FSCONFIG_SET_FD, key, NULL, fd) < 0 ? -errno : 0;
}

static int set_directory(int context, const char *key, const char *path) {
        _cleanup_free_ char *escaped = overlay_escape(path, "\\");

        if (!escaped)
                return -ENOMEM;
        return strlen(escaped) <= FSCONFIG_STRING_MAX ? set_string(context, key, escaped)
                                                      : set_by_descriptor(context, key, path);
}

static int set_layers_one_by_one(int context, const char *key, char *const *layers) {
        int r = 0;

        for (; *layers && r >= 0; layers++)
                r = strlen(*layers) <= FSCONFIG_STRING_MAX ? set_string(context, key, *layers)
                                                           : set_by_descriptor(context, key, *layers);
        return r;
}

/* What mount(8) shows stays as it was. lowerdir+ and datadir+: since Linux 6.7. */
static int set_lower(int context, const Overlay *o) {
        _cleanup_free_ char *joined = overlay_join_lower(o, "\\:");
        int r;

        if (!joined)
                return -ENOMEM;
        if (mount_options_have(o->fs_options, "lowerdir") && strlen(joined) <= FSCONFIG_STRING_MAX)
                return set_string(context, "lowerdir", joined);
        r = set_layers_one_by_one(context, "lowerdir+", o->lower);
        if (r >= 0)
                r = set_layers_one_by_one(context, "datadir+", o->data);
        return r == -EINVAL && strlen(joined) <= FSCONFIG_STRING_MAX
                ? set_string(context, "lowerdir", joined)
                : r;
}

static void read_kernel_message(int context, char message[static MESSAGE_MAX]) {
        ssize_t n = read(context, message, MESSAGE_MAX - 1);

        message[n > 0 ? n : 0] = '\0';
        message[strcspn(message, "\n")] = '\0';
}

static int refused(int context, const Overlay *o, int r, const char *what, Failure *reterr) {
        char message[MESSAGE_MAX];

        read_kernel_message(context, message);
        return failure_set(
                reterr, r == -EINVAL || r == -E2BIG ? FAILURE_PRECONDITION : FAILURE_FAILED, -r,
                "the kernel does not take %s for a new superblock of '%s': %s%s%s; see its log (dmesg). The "
                "running mount is as it was",
                what, o->mount_point, strerror(-r), message[0] ? ": " : "", message);
}

static int set_option(int context, const OverlayOption *option) {
        if (option->value)
                return set_string(context, option->key, option->value);
        return fsconfig(context, FSCONFIG_SET_FLAG, option->key, NULL, 0) < 0 ? -errno : 0;
}

static int
configure(int context, const Overlay *o, const OverlayOptions *l, const char *work, Failure *reterr) {
        int r = set_string(context, "source", o->source);

        if (r < 0)
                return refused(context, o, r, "the source", reterr);
        for (size_t i = 0; i < l->n; i++) {
                r = set_option(context, l->items + i);
                if (r < 0)
                        return refused(context, o, r, l->items[i].key, reterr);
        }
        r = set_lower(context, o);
        if (r < 0)
                return refused(context, o, r, "the lower layers", reterr);
        r = set_directory(context, "upperdir", o->upper);
        if (r < 0)
                return refused(context, o, r, "the upper layer", reterr);
        r = set_directory(context, "workdir", work);
        return r < 0 ? refused(context, o, r, "the work directory", reterr) : 0;
}

int superblock_create(const Overlay *o, const OverlayOptions *l, const char *work, Failure *reterr) {
        _cleanup_close_ int context = fsopen("overlay", FSOPEN_CLOEXEC);
        uint64_t a;
        int r, fd;

        if (context < 0)
                return failure_set_errno(
                        reterr, -errno, "cannot make a new superblock for '%s'", o->mount_point);
        r = mount_attributes(o->vfs_options, &a);
        if (r < 0)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, -r,
                        "'%s' cannot be swapped: one of its flags '%s' is not known to ovlfind; unmount it "
                        "and mount it anew",
                        o->mount_point, o->vfs_options);
        r = configure(context, o, l, work, reterr);
        if (r < 0)
                return r;
        if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return refused(context, o, -errno, "the options", reterr);
        fd = fsmount(context, FSMOUNT_CLOEXEC, (unsigned) a);
        return fd < 0 ? refused(context, o, -errno, "the mount flags", reterr) : fd;
}
