/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/mount/overlay.h"

#include <string.h>

#include "base/path-util.h"
#include "base/strv.h"
#include "core/mount/mount-table.h"

#define PARAMETERS "/sys/module/overlay/parameters"

/* The array is there, even if there are no layers. */
static char **layers_new(void) {
        return calloc(1, sizeof(char *));
}

Overlay *overlay_free(Overlay *o) {
        if (!o)
                return NULL;
        free(o->mount_point);
        free(o->source);
        strv_free(o->lower);
        strv_free(o->data);
        free(o->upper);
        free(o->work);
        free(o->fs_options);
        free(o->vfs_options);
        free(o);
        return NULL;
}

/* Copies one layer from *p up to an unescaped ':' or the end, without escapes. As in the kernel, a backslash
 * at the very end stands for nothing (ovl_unescape(); docs/overlayfs.md 7.4). */
static char *next_layer(const char **p) {
        char *layer = malloc(strlen(*p) + 1), *out = layer;

        if (!layer)
                return NULL;
        for (; **p && **p != ':'; (*p)++) {
                if (**p == '\\' && *++(*p) == '\0')
                        break;
                *out++ = **p;
        }
        *out = '\0';
        return layer;
}

/* overlay_split_lowerdir() - the layers of a lowerdir= option
 * @value: octal escapes of the mount table already decoded
 * Returns 0; -EINVAL for an empty layer, more than two ':' in a row, one at either end, an ordinary layer
 * after "::". Source: ovl_parse_param_lowerdir(); overlayfs.rst "Multiple lower layers", "Data-only lower
 * layers" (since Linux 6.5). */
int overlay_split_lowerdir(const char *value, char ***ret_lower, char ***ret_data) {
        _cleanup_strv_free_ char **lower = layers_new(), **data = layers_new();
        bool is_data = false;

        if (!lower || !data)
                return -ENOMEM;
        for (const char *p = value;;) {
                _cleanup_free_ char *layer = next_layer(&p);

                if (!layer)
                        return -ENOMEM;
                if (layer[0] == '\0' || strv_push(is_data ? &data : &lower, &layer) < 0)
                        return layer[0] == '\0' ? -EINVAL : -ENOMEM;
                if (*p == '\0')
                        break;
                if (p[1] == ':')
                        is_data = true;
                else if (is_data)
                        return -EINVAL;
                p += p[1] == ':' ? 2 : 1;
        }
        *ret_lower = TAKE_PTR(lower);
        *ret_data = TAKE_PTR(data);
        return 0;
}

/* All values of an option that repeats; each is a layer, literally (lowerdir+=, datadir+=; since Linux 6.7).
 */
static int read_repeated(const char *options, const char *key, char ***layers) {
        const char *next = NULL;

        for (;;) {
                _cleanup_free_ char *value = NULL;
                int r = mount_options_next(options, key, &next, &value);

                if (r <= 0)
                        return r;
                r = strv_push(layers, &value);
                if (r < 0)
                        return r;
        }
}

static int read_lower_layers(Overlay *o) {
        _cleanup_free_ char *value = NULL;
        int r = mount_options_next(o->fs_options, "lowerdir", NULL, &value);

        if (r < 0)
                return r;
        if (r > 0)
                return overlay_split_lowerdir(value, &o->lower, &o->data);
        o->lower = layers_new();
        o->data = layers_new();
        if (!o->lower || !o->data)
                return -ENOMEM;
        r = read_repeated(o->fs_options, "lowerdir+", &o->lower);
        if (r < 0)
                return r;
        r = read_repeated(o->fs_options, "datadir+", &o->data);
        if (r < 0)
                return r;
        return o->lower[0] || o->data[0] ? 0 : -EINVAL;
}

/* A list that cannot be read is no obstacle when the configuration has one. */
static int find_lower_layers(Overlay *o, const OverlayLayers *configured, Failure *reterr) {
        int r = read_lower_layers(o);

        if (r != -EINVAL)
                return r;
        if (!configured || !configured->lower || !configured->lower[0])
                return failure_set(
                        reterr, FAILURE_PRECONDITION, ENOTSUP,
                        "cannot make out the lower layers of '%s' from its options '%s': set LowerDir= in "
                        "its configuration",
                        o->mount_point, o->fs_options);
        o->is_lower_unknown = true;
        o->lower = strv_free(o->lower);
        strv_free(o->data);
        o->data = layers_new();
        return o->data ? 0 : -ENOMEM;
}

static int read_directory(const char *options, const char *key, char **ret) {
        _cleanup_free_ char *value = NULL;
        int r = mount_options_next(options, key, NULL, &value);

        if (r <= 0)
                return r;
        /* A layer that was given to fsconfig(2) as a descriptor (since Linux 6.13) is shown without escapes
         * and cannot be told apart: its path comes out wrong if it holds a backslash. The check "upper-path"
         * finds that out. */
        mount_option_unescape(value);
        *ret = TAKE_PTR(value);
        return 0;
}

int overlay_read_layers(Overlay *o) {
        int r = read_lower_layers(o);

        if (r >= 0)
                r = read_directory(o->fs_options, "upperdir", &o->upper);
        return r < 0 ? r : read_directory(o->fs_options, "workdir", &o->work);
}

static int override_directory(char **path, const char *configured) {
        return configured ? str_replace(path, configured) : 0;
}

static int override_lower(Overlay *o, char *const *configured, Failure *reterr) {
        char **copy = NULL;

        if (!configured || !configured[0])
                return 0;
        if (o->lower && strv_length(configured) != strv_length(o->lower))
                return failure_set(
                        reterr, FAILURE_PRECONDITION, ENOTSUP,
                        "LowerDir= names %zu layer%s, but '%s' is mounted with %zu: name them all, "
                        "uppermost first",
                        strv_length(configured), PLURAL(strv_length(configured)), o->mount_point,
                        strv_length(o->lower));
        for (char *const *s = configured; *s; s++)
                if (**s != '/')
                        return failure_set(
                                reterr, FAILURE_PRECONDITION, ENOTSUP,
                                "LowerDir= names the relative path '%s': name each layer of '%s' from '/'",
                                *s, o->mount_point);
        if (strv_copy(configured, &copy) < 0)
                return -ENOMEM;
        strv_free(o->lower);
        o->lower = copy;
        return 0;
}

static int refuse_relative(
        const Overlay *o, const char *path, const char *option, const char *setting, Failure *reterr) {
        if (!path || path[0] == '/')
                return 0;
        return failure_set(
                reterr, FAILURE_PRECONDITION, ENOTSUP,
                "'%s' was mounted with the relative path '%s' in %s, which only whoever mounted it can "
                "resolve: set %s",
                o->mount_point, path, option, setting);
}

static int refuse_relative_layers(const Overlay *o, Failure *reterr) {
        int r = 0;

        for (char **s = o->lower; *s && r >= 0; s++)
                r = refuse_relative(o, *s, "lowerdir", "LowerDir= in its configuration", reterr);
        for (char **s = o->data; *s && r >= 0; s++)
                r = refuse_relative(
                        o, *s, "its data-only layers", "absolute paths where it is mounted", reterr);
        if (r >= 0)
                r = refuse_relative(o, o->upper, "upperdir", "UpperDir= in its configuration", reterr);
        if (r >= 0)
                r = refuse_relative(o, o->work, "workdir", "WorkDir= in its configuration", reterr);
        return r;
}

static int read_layers(Overlay *o, const OverlayLayers *configured, Failure *reterr) {
        int r = find_lower_layers(o, configured, reterr);

        if (r >= 0)
                r = read_directory(o->fs_options, "upperdir", &o->upper);
        if (r >= 0)
                r = read_directory(o->fs_options, "workdir", &o->work);
        if (r >= 0 && configured)
                r = override_lower(o, configured->lower, reterr);
        /* A lower-only overlay has none, whatever the configuration says. */
        if (r >= 0 && configured && o->upper)
                r = override_directory(&o->upper, configured->upper);
        if (r >= 0 && configured && o->work)
                r = override_directory(&o->work, configured->work);
        if (r < 0)
                return r;
        if (o->upper && !o->work)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, ENOTSUP, "the mount table shows no workdir for '%s'",
                        o->mount_point);
        o->n_lower = strv_length(o->lower);
        o->n_data = strv_length(o->data);
        return refuse_relative_layers(o, reterr);
}

static Tristate read_parameter(const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);
        _cleanup_fclose_ FILE *f = path ? fopen(path, "re") : NULL;
        int c = f ? fgetc(f) : EOF;

        if (c == 'Y' || c == '1')
                return TRI_YES;
        return c == 'N' || c == '0' ? TRI_NO : TRI_UNKNOWN;
}

/* The kernel shows an option when it differs from the module parameter *at the time of reading*, so an
 * absent one has the parameter's present value, even if the parameter was changed after the mount
 * (ovl_show_options(); docs/overlayfs.md 7.3). */
static int read_feature(
        const Overlay *o, const char *directory, const char *key, const char *parameter, Tristate *ret) {
        _cleanup_free_ char *value = NULL;
        int r = mount_options_next(o->fs_options, key, NULL, &value);

        if (r < 0)
                return r;
        if (r == 0)
                *ret = read_parameter(directory, parameter);
        else if (strcmp(value, "off") == 0)
                *ret = TRI_NO;
        else /* "on", and for xino also "auto" */
                *ret = strcmp(value, "on") == 0 || strcmp(value, "auto") == 0 ? TRI_YES : TRI_UNKNOWN;
        return 0;
}

const char *const overlay_redirect_names[] = {
        [REDIRECT_NOFOLLOW] = "nofollow",
        [REDIRECT_OFF] = "off",
        [REDIRECT_FOLLOW] = "follow",
        [REDIRECT_ON] = "on",
};

static int read_redirect(Overlay *o, const char *directory) {
        _cleanup_free_ char *value = NULL;
        int r = mount_options_next(o->fs_options, "redirect_dir", NULL, &value);

        if (r < 0)
                return r;
        if (r == 0)
                o->redirect =
                        read_parameter(directory, "redirect_dir") == TRI_YES ? REDIRECT_ON : REDIRECT_OFF;
        else
                for (size_t i = 0; i < ELEMENTSOF(overlay_redirect_names); i++)
                        if (strcmp(value, overlay_redirect_names[i]) == 0)
                                o->redirect = (OverlayRedirect) i;
        o->follows_redirects = o->redirect >= REDIRECT_FOLLOW ||
                (o->redirect == REDIRECT_OFF &&
                 read_parameter(directory, "redirect_always_follow") == TRI_YES);
        return 0;
}

static bool option_is(const char *options, const char *key, const char *expected) {
        _cleanup_free_ char *value = NULL;

        return mount_options_next(options, key, NULL, &value) > 0 && strcmp(value, expected) == 0;
}

static int read_features(Overlay *o, const char *directory) {
        int r = read_feature(o, directory, "metacopy", "metacopy", &o->metacopy);

        if (r >= 0)
                r = read_feature(o, directory, "index", "index", &o->index);
        if (r >= 0)
                r = read_feature(o, directory, "nfs_export", "nfs_export", &o->nfs_export);
        if (r >= 0)
                r = read_feature(o, directory, "xino", "xino_auto", &o->xino);
        if (r >= 0)
                r = read_redirect(o, directory);
        if (r < 0)
                return r;
        o->is_read_only =
                mount_options_have(o->vfs_options, "ro") || mount_options_have(o->fs_options, "ro");
        o->is_userxattr = mount_options_have(o->fs_options, "userxattr");
        o->is_volatile = mount_options_have(o->fs_options, "volatile") ||
                option_is(o->fs_options, "fsync", "volatile");
        o->is_verity_required = option_is(o->fs_options, "verity", "require");
        return 0;
}

char *overlay_escape(const char *s, const char *special) {
        char *text = malloc(2 * strlen(s) + 1), *p = text;

        if (!text)
                return NULL;
        for (; *s; s++) {
                if (strchr(special, *s))
                        *p++ = '\\';
                *p++ = *s;
        }
        *p = '\0';
        return text;
}

static char *append_layers(char *text, char *const *layers, const char *separator, const char *special) {
        STRV_FOREACH (l, layers) {
                _cleanup_free_ char *escaped = overlay_escape(*l, special), *before = text;

                text = escaped && before ? str_format("%s%s%s", before, before[0] ? separator : "", escaped)
                                         : NULL;
        }
        return text;
}

char *overlay_join_lower(const Overlay *o, const char *special) {
        return append_layers(append_layers(strdup(""), o->lower, ":", special), o->data, "::", special);
}

/* overlay_format_options() - what to give to mount -o to have this overlay with the features finalizing
 * needs. Layers are escaped for mount(2): ',' '\\' and, in the list of lower layers, ':'. Only the layers
 * are carried over; whoever set other options wrote them down. */
char *overlay_format_options(const Overlay *o) {
        _cleanup_free_ char *lower = overlay_join_lower(o, "\\,:"),
                            *upper = overlay_escape(o->upper ?: "", "\\,"),
                            *work = overlay_escape(o->work ?: "", "\\,");

        if (!lower || !upper || !work)
                return NULL;
        return str_format(
                "lowerdir=%s%s%s%s%s,metacopy=on,redirect_dir=on", lower, o->upper ? ",upperdir=" : "",
                upper, o->work ? ",workdir=" : "", work);
}

static Overlay *overlay_new(const MountEntry *e) {
        _cleanup_(overlay_freep) Overlay *o = calloc(1, sizeof(Overlay));

        if (!o)
                return NULL;
        o->mount_point = strdup(e->target);
        o->source = strdup(e->source);
        o->fs_options = strdup(e->fs_options);
        o->vfs_options = strdup(e->vfs_options);
        o->mount_id = e->id;
        o->device = e->device;
        if (!o->mount_point || !o->source || !o->fs_options || !o->vfs_options)
                return NULL;
        return TAKE_PTR(o);
}

static bool is_overlay(const MountEntry *e) {
        return strcmp(e->type, "overlay") == 0;
}

static bool has_mount_at(const MountTable *t, const char *path, bool overlays_only) {
        for (size_t i = 0; i < t->n; i++)
                if (strcmp(t->items[i].target, path) == 0 && (!overlays_only || is_overlay(t->items + i)))
                        return true;
        return false;
}

static int
refuse_unreachable(const MountTable *t, const char *path, const MountEntry *reached, Failure *reterr) {
        if (!has_mount_at(t, path, false))
                return failure_set(reterr, FAILURE_NOT_MANAGED, ENOENT, "nothing is mounted at '%s'", path);
        return failure_set(
                reterr, FAILURE_NOT_MANAGED, EMEDIUMTYPE,
                "what is mounted at '%s' is covered by the %s mount at '%s'", path,
                reached ? reached->type : "", reached ? reached->target : "/");
}

static int refuse_type(const MountTable *t, const MountEntry *e, Failure *reterr) {
        if (has_mount_at(t, e->target, true))
                return failure_set(
                        reterr, FAILURE_NOT_MANAGED, EMEDIUMTYPE,
                        "the overlay at '%s' is covered by a %s mount (%s)", e->target, e->type, e->source);
        return failure_set(
                reterr, FAILURE_NOT_MANAGED, EMEDIUMTYPE, "'%s' is no overlay, but a %s mount (%s)",
                e->target, e->type, e->source);
}

static int find_mount(const MountTable *t, const char *path, const MountEntry **ret, Failure *reterr) {
        const MountEntry *e = mount_table_reach(t, path);

        if (!e || strcmp(e->target, path) != 0)
                return refuse_unreachable(t, path, e, reterr);
        if (!is_overlay(e))
                return refuse_type(t, e, reterr);
        if (strcmp(e->root, "/") != 0)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, ENOTSUP,
                        "'%s' is a bind mount of '%s' in an overlay, not the whole overlay: name the mount "
                        "point of that",
                        e->target, e->root);
        *ret = e;
        return 0;
}

/* overlay_load() - an overlay mount as a value
 * @mount_point: absolute, no symlinks, no trailing '/'   @layers: borrowed, may be NULL
 * Returns 0, or what the header lists; also -ENOMEM and what opening the mount table says. Does not touch
 * the mount. Blocking: on /proc and /sys only. Tests: unit/test-overlay. */
int overlay_load(
        const OverlaySources *sources,
        const char *mount_point,
        const OverlayLayers *layers,
        Overlay **ret,
        Failure *reterr) {
        const char *mountinfo = sources && sources->mountinfo ? sources->mountinfo : MOUNTINFO;
        const char *parameters = sources && sources->parameters ? sources->parameters : PARAMETERS;
        _cleanup_table_ MountTable t = { 0 };
        _cleanup_(overlay_freep) Overlay *o = NULL;
        const MountEntry *e = NULL;
        int r;

        r = mount_table_read(mountinfo, &t);
        if (r < 0)
                return failure_set_errno(
                        reterr, r == -ENOENT ? -EIO : r, "cannot read the mount table '%s'", mountinfo);
        r = find_mount(&t, mount_point, &e, reterr);
        if (r < 0)
                return r;
        o = overlay_new(e);
        if (!o)
                return failure_set_errno(reterr, -ENOMEM, "cannot load '%s'", mount_point);
        r = read_layers(o, layers, reterr);
        if (r >= 0)
                r = read_features(o, parameters);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot load '%s'", mount_point);
        *ret = TAKE_PTR(o);
        return 0;
}

/* The length of the name without ".ovlfind-ID". */
size_t overlay_work_base_length(const char *name) {
        size_t n = strlen(name), tail = strlen(SWAP_WORK_INFIX) + SWAP_WORK_ID_LENGTH;

        if (n <= tail || strncmp(name + n - tail, SWAP_WORK_INFIX, strlen(SWAP_WORK_INFIX)) != 0 ||
            strspn(name + n - SWAP_WORK_ID_LENGTH, "0123456789abcdef") != SWAP_WORK_ID_LENGTH)
                return n;
        return n - tail;
}

bool overlay_work_is_sibling(const char *work, const char *other) {
        size_t n = overlay_work_base_length(work);

        return n == overlay_work_base_length(other) && strncmp(work, other, n) == 0;
}

bool overlay_is_successor(const Overlay *a, const Overlay *b) {
        return a->upper && b->upper && strcmp(a->upper, b->upper) == 0 && strcmp(a->work, b->work) != 0 &&
                overlay_work_is_sibling(a->work, b->work);
}
