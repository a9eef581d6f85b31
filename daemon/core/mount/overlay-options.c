/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/mount/overlay-options.h"

#include <string.h>

#include "base/str.h"
#include "core/mount/mount-table.h"

#define XINO_PARAMETER "/sys/module/overlay/parameters/xino_auto"

typedef enum KeyKind {
        KEY_LAYER,   /* given separately */
        KEY_DEFAULT, /* has a default that can be changed at run time, and is not shown while it has that */
        KEY_SHOWN,   /* is shown unless it has a default that never changes */
        KEY_FLAG,    /* of the superblock, or without a value */
        KEY_NOTHING, /* is shown, and cannot be given */
} KeyKind;

static const struct {
        const char *key;
        KeyKind kind;
        bool can_set;
} keys[] = {
        { "lowerdir", KEY_LAYER },
        { "lowerdir+", KEY_LAYER },
        { "datadir+", KEY_LAYER },
        { "upperdir", KEY_LAYER },
        { "workdir", KEY_LAYER },
        { "redirect_dir", KEY_DEFAULT, true },
        { "metacopy", KEY_DEFAULT, true },
        { "index", KEY_DEFAULT },
        { "nfs_export", KEY_DEFAULT },
        { "xino", KEY_DEFAULT, true },
        { "uuid", KEY_SHOWN, true },
        { "verity", KEY_SHOWN, true },
        { "fsync", KEY_SHOWN },
        { "context", KEY_SHOWN },
        { "fscontext", KEY_SHOWN },
        { "defcontext", KEY_SHOWN },
        { "rootcontext", KEY_SHOWN },
        { "userxattr", KEY_FLAG },
        { "default_permissions", KEY_FLAG },
        { "sync", KEY_FLAG },
        { "dirsync", KEY_FLAG },
        { "lazytime", KEY_FLAG },
        { "rw", KEY_NOTHING },
        { "seclabel", KEY_NOTHING },
};

static int find_key(const char *key, size_t length) {
        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (strncmp(keys[i].key, key, length) == 0 && keys[i].key[length] == '\0')
                        return (int) i;
        return -ENOENT;
}

void overlay_options_done(OverlayOptions *l) {
        for (size_t i = 0; i < l->n; i++) {
                free(l->items[i].key);
                free(l->items[i].value);
        }
        free(l->items);
        *l = (OverlayOptions){ 0 };
}

/* value may be NULL. */
static int options_add(OverlayOptions *l, const char *key, const char *value, bool is_changed) {
        if (!ARRAY_GROW(l->items, l->n))
                return -ENOMEM;
        l->items[l->n] = (OverlayOption){ .key = strdup(key),
                                          .value = value ? strdup(value) : NULL,
                                          .is_changed = is_changed };
        if (!l->items[l->n].key || (value && !l->items[l->n].value)) {
                free(l->items[l->n].key);
                free(l->items[l->n].value);
                return -ENOMEM;
        }
        l->n++;
        return 0;
}

static OverlayOption *options_find(const OverlayOptions *l, const char *key) {
        for (size_t i = 0; i < l->n; i++)
                if (strcmp(l->items[i].key, key) == 0)
                        return l->items + i;
        return NULL;
}

static const char *on_off(Tristate t) {
        return t == TRI_YES ? "on" : t == TRI_NO ? "off" : NULL;
}

static const char *xino_default(void) {
        _cleanup_fclose_ FILE *f = fopen(XINO_PARAMETER, "re");
        int c = f ? fgetc(f) : EOF;

        return c == 'Y' || c == '1' ? "auto" : c == EOF ? NULL : "off";
}

/* A static string, or NULL. */
static const char *default_value(const Overlay *o, const char *key) {
        if (strcmp(key, "metacopy") == 0)
                return on_off(o->metacopy);
        if (strcmp(key, "index") == 0)
                return on_off(o->index);
        if (strcmp(key, "nfs_export") == 0)
                return on_off(o->nfs_export);
        if (strcmp(key, "redirect_dir") == 0)
                return overlay_redirect_names[o->redirect];
        return strcmp(key, "xino") == 0 ? xino_default() : NULL;
}

/* Contexts are shown in quotes when they hold a comma (selinux_sb_show_options()). */
static void remove_quotes(char *value) {
        size_t n = strlen(value);

        if (n < 2 || value[0] != '"' || value[n - 1] != '"')
                return;
        memmove(value, value + 1, n - 2);
        value[n - 2] = '\0';
}

/* What a key is set to: "on", "off", "follow" and so on; NULL where it is neither shown nor known as a
 * default. Owned by the caller. */
static int effective_value(const Overlay *o, const char *key, char **ret) {
        _cleanup_free_ char *shown = NULL;
        const char *value;
        int r = mount_options_next(o->fs_options, key, NULL, &shown);

        if (r < 0)
                return r;
        if (r > 0) {
                remove_quotes(shown);
                *ret = TAKE_PTR(shown);
                return 0;
        }
        value = default_value(o, key);
        *ret = value ? strdup(value) : NULL;
        return value && !*ret ? -ENOMEM : 0;
}

typedef int (*set_func)(const char *key, const char *value, void *userdata, Failure *reterr);

static int set_one(char *option, set_func func, void *userdata, Failure *reterr) {
        char *value = strchr(option, '=');
        int i;

        if (value)
                *value++ = '\0';
        i = find_key(option, strlen(option));
        if (i < 0 || !keys[i].can_set || !value || !value[0])
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL,
                        "'%s' cannot be set on a running overlay; metacopy=, redirect_dir=, xino=, uuid= "
                        "and verity= can, each with a value",
                        option);
        return func(option, value, userdata, reterr);
}

static int set_foreach(const char *set, set_func func, void *userdata, Failure *reterr) {
        _cleanup_free_ char *copy = strdup(set);
        char *state = NULL;
        int r = 0;

        if (!copy)
                return -ENOMEM;
        for (char *p = strtok_r(copy, ", ", &state); p && r >= 0; p = strtok_r(NULL, ", ", &state))
                r = set_one(p, func, userdata, reterr);
        return r;
}

typedef struct Comparison {
        const Overlay *o;
        bool is_same;
} Comparison;

static int compare_one(const char *key, const char *value, void *userdata, Failure *reterr) {
        _cleanup_free_ char *is = NULL;
        Comparison *c = userdata;
        int r = effective_value(c->o, key, &is);

        if (r < 0)
                return r;
        if (!is || strcmp(is, value) != 0)
                c->is_same = false;
        return 0;
}

int overlay_has_options(const Overlay *o, const char *set, Failure *reterr) {
        Comparison c = { .o = o, .is_same = true };
        int r = set_foreach(set, compare_one, &c, reterr);

        return r < 0 ? r : c.is_same;
}

static int refuse(const Overlay *o, Failure *reterr, const char *why) {
        return failure_set(
                reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                "'%s' cannot be swapped: %s; unmount it and mount it anew with the options you want",
                o->mount_point, why);
}

static int refuse_features(const Overlay *o, Failure *reterr) {
        if (o->is_volatile)
                return refuse(
                        o, reterr,
                        "it is mounted volatile, and what it has not written to disk would count as "
                        "written");
        if (o->index != TRI_NO)
                return refuse(o, reterr, "it has index=on, with which its upper layer cannot be used twice");
        if (o->nfs_export != TRI_NO)
                return refuse(
                        o, reterr,
                        "it has nfs_export=on, and file handles of NFS clients would become stale");
        if (o->metacopy == TRI_UNKNOWN || o->xino == TRI_UNKNOWN)
                return refuse(
                        o, reterr,
                        "/sys/module/overlay/parameters cannot be read, which its options depend on");
        if (o->is_read_only)
                return refuse(o, reterr, "it is mounted read-only");
        return 0;
}

static int carry_shown(const Overlay *o, const char *option, OverlayOptions *l, Failure *reterr) {
        size_t n = strcspn(option, "=,");
        _cleanup_free_ char *key = strndup(option, n), *value = NULL;
        int i = find_key(option, n), r;

        if (!key)
                return -ENOMEM;
        if (i < 0)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                        "'%s' cannot be swapped: it has the option '%s', of which ovlfind does not know how "
                        "to carry it over; unmount it and mount it anew",
                        o->mount_point, key);
        if (keys[i].kind == KEY_FLAG)
                return options_add(l, key, NULL, false);
        if (keys[i].kind != KEY_SHOWN)
                return 0;
        r = effective_value(o, key, &value);
        return r < 0 ? r : options_add(l, key, value, false);
}

static int carry_all_shown(const Overlay *o, OverlayOptions *l, Failure *reterr) {
        const char *p = o->fs_options;
        int r = 0;

        while (r >= 0 && *p) {
                r = carry_shown(o, p, l, reterr);
                p += strcspn(p, ",");
                p += *p == ',';
        }
        return r;
}

static int carry_defaults(const Overlay *o, OverlayOptions *l) {
        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                _cleanup_free_ char *value = NULL;
                int r;

                if (keys[i].kind != KEY_DEFAULT)
                        continue;
                r = effective_value(o, keys[i].key, &value);
                if (r >= 0 && value)
                        r = options_add(l, keys[i].key, value, false);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int change_one(const char *key, const char *value, void *userdata, Failure *reterr) {
        OverlayOptions *l = userdata;
        OverlayOption *option = options_find(l, key);

        if (!option)
                return options_add(l, key, value, true);
        option->is_changed = true;
        return str_replace(&option->value, value);
}

static bool is_set_to(const OverlayOptions *l, const char *key, const char *value) {
        const OverlayOption *option = options_find(l, key);

        return option && option->value && strcmp(option->value, value) == 0;
}

/* The kernel refuses these with EINVAL and a line in its own log (ovl_fs_params_verify()). */
static int check_together(const OverlayOptions *l, Failure *reterr) {
        if (is_set_to(l, "metacopy", "on") && !is_set_to(l, "redirect_dir", "on") &&
            !is_set_to(l, "redirect_dir", "follow"))
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL,
                        "metacopy=on needs redirect_dir=on: use --set=metacopy=on,redirect_dir=on");
        if (options_find(l, "userxattr") && is_set_to(l, "metacopy", "on"))
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL,
                        "metacopy=on does not go with userxattr, which the overlay has");
        return 0;
}

int overlay_options_carry(const Overlay *o, const char *set, OverlayOptions *ret, Failure *reterr) {
        _cleanup_(overlay_options_done) OverlayOptions l = { 0 };
        int r = refuse_features(o, reterr);

        if (r >= 0)
                r = carry_all_shown(o, &l, reterr);
        if (r >= 0)
                r = carry_defaults(o, &l);
        if (r >= 0 && set)
                r = set_foreach(set, change_one, &l, reterr);
        if (r >= 0)
                r = check_together(&l, reterr);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot make out the options of '%s'", o->mount_point);
        *ret = TAKE_AS(l, (OverlayOptions){ 0 });
        return 0;
}

static bool same_strings(char *const *a, char *const *b) {
        for (; *a && *b; a++, b++)
                if (strcmp(*a, *b) != 0)
                        return false;
        return !*a && !*b;
}

static int
differs(const Overlay *old, Failure *reterr, const char *key, const char *is, const char *should) {
        return failure_set(
                reterr, FAILURE_FAILED, EUCLEAN,
                "the new superblock for '%s' has %s=%s instead of %s; the running one was left alone. See "
                "the kernel's log for the reason",
                old->mount_point, key, is ?: "(none)", should ?: "(none)");
}

/* xino is not shown when all layers are on one file system, where it means nothing. uuid=auto becomes "on"
 * or "null" with the first mount. */
static bool may_hide(const OverlayOption *option) {
        return strcmp(option->key, "xino") == 0 || strcmp(option->key, "uuid") == 0;
}

static int
verify_option(const Overlay *old, const Overlay *new, const OverlayOption *option, Failure *reterr) {
        _cleanup_free_ char *is = NULL;
        int r;

        if (!option->value)
                return mount_options_have(new->fs_options, option->key)
                        ? 0
                        : differs(old, reterr, option->key, NULL, "given");
        r = effective_value(new, option->key, &is);
        if (r < 0)
                return r;
        if (is && strcmp(is, option->value) == 0)
                return 0;
        if (may_hide(option) && (option->is_changed || !mount_options_have(old->fs_options, option->key)))
                return 0;
        return differs(old, reterr, option->key, is, option->value);
}

int overlay_options_verify(
        const Overlay *old, const Overlay *new, const OverlayOptions *l, Failure *reterr) {
        if (!same_strings(old->lower, new->lower))
                return differs(old, reterr, "lowerdir", new->lower[0], old->lower[0]);
        if (!same_strings(old->data, new->data))
                return differs(old, reterr, "datadir+", new->data[0], old->data[0]);
        if (strcmp(old->upper, new->upper ?: "") != 0)
                return differs(old, reterr, "upperdir", new->upper, old->upper);
        if (strcmp(old->vfs_options, new->vfs_options) != 0)
                return differs(old, reterr, "mount flags", new->vfs_options, old->vfs_options);
        for (size_t i = 0; i < l->n; i++) {
                int r = verify_option(old, new, l->items + i, reterr);

                if (r < 0)
                        return r;
        }
        return 0;
}
