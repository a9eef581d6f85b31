/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An overlay mount as a plain value, read from a mount table: its layers, and the features that finalizing
 * depends on. Nothing in this file touches a file of an overlay or of its layers, so the daemon's event
 * loop may call it. What the table does not show is told as unknown, never guessed. */
#pragma once

#include <sys/types.h>

#include "base/failure.h"

typedef enum OverlayRedirect {
        REDIRECT_NOFOLLOW,
        REDIRECT_OFF, /* created: no; followed: only if the module parameter redirect_always_follow says so
                       */
        REDIRECT_FOLLOW,
        REDIRECT_ON,
} OverlayRedirect;

extern const char *const overlay_redirect_names[];

/* A feature of which the mount table and the module parameters do not tell is UNKNOWN: never guessed. */
typedef enum Tristate {
        TRI_NO,
        TRI_YES,
        TRI_UNKNOWN,
} Tristate;

typedef struct Overlay {
        char *mount_point;
        char *source;
        int mount_id;
        dev_t device; /* of the superblock */
        char **lower; /* uppermost first, NULL-terminated, unescaped */
        size_t n_lower;
        bool is_lower_unknown; /* the list could not be read: lower is what the configuration says */
        char **data;           /* data-only layers */
        size_t n_data;
        char *upper; /* NULL: lower-only overlay */
        char *work;
        char *fs_options; /* as the mount table shows them, octal escapes not decoded */
        char *vfs_options;
        bool is_read_only;
        Tristate metacopy;
        OverlayRedirect redirect;
        bool follows_redirects; /* redirect on or follow, or off with redirect_always_follow=Y */
        Tristate index;
        Tristate nfs_export;
        Tristate xino; /* auto counts as yes */
        bool is_userxattr;
        bool is_volatile;
        bool is_verity_required;
} Overlay;

/* What the configuration says where the mount table cannot tell; NULL members are read from the mount. lower
 * is a NULL-terminated array. */
typedef struct OverlayLayers {
        char **lower;
        char *upper;
        char *work;
} OverlayLayers;

/* Where the table and the module parameters are read from; tests point these elsewhere. NULL members:
 * /proc/self/mountinfo and /sys/module/overlay/parameters. */
typedef struct OverlaySources {
        const char *mountinfo;
        const char *parameters;
} OverlaySources;

/* Reads the topmost mount at mount_point (absolute, as the mount table spells it after unescaping).
 * -ENOENT: nothing is mounted there; -EMEDIUMTYPE: another file system, or an overlay that another mount
 * covers (reterr names it); -ENOTSUP: an overlay that cannot be reconstructed from the table (relative layer
 * paths and the like), reterr says which option and what to configure. Does not check whether it can be
 * finalized: see check.h. */
int overlay_load(
        const OverlaySources *sources,
        const char *mount_point,
        const OverlayLayers *layers,
        Overlay **ret,
        Failure *reterr);
Overlay *overlay_free(Overlay *o);
DEFINE_CLEANUP(Overlay *, overlay_free);

/* Splits lowerdir= (octal escapes decoded) at unescaped ':'; after "::" layers are data-only. Both arrays
 * are NULL-terminated, owned by the caller. -EINVAL for what the kernel does not take either: empty layers,
 * ordinary layers after data-only ones. */
int overlay_split_lowerdir(const char *value, char ***ret_lower, char ***ret_data);
/* Reads lower, data, upper and work from fs_options, which alone is set. -EINVAL: the lower layers cannot be
 * made out. */
int overlay_read_layers(Overlay *o);
/* With a backslash before every byte of special. NULL on out of memory. */
char *overlay_escape(const char *s, const char *special);
/* The value of lowerdir=, each layer escaped like that. */
char *overlay_join_lower(const Overlay *o, const char *special);
/* The layers of o as one string for mount -o, escaped for the kernel, with metacopy=on,redirect_dir=on. NULL
 * on out of memory. */
char *overlay_format_options(const Overlay *o);

/* Whether the running overlay has all of "OPTION=VALUE,...". 1, 0; -EINVAL with the reason for what cannot
 * be set. */
int overlay_has_options(const Overlay *o, const char *set, Failure *reterr);
/* Whether b is what a swap makes of a: the same upper, on a work directory of our making beside that of a.
 */
bool overlay_is_successor(const Overlay *a, const Overlay *b) _pure_;

/* Work directories of our making stand beside the one that was mounted first: NAME.ovlfind-ID. */
#define SWAP_WORK_INFIX ".ovlfind-"
#define SWAP_WORK_ID_LENGTH 16 /* hex digits */
/* The length of the name without that. */
size_t overlay_work_base_length(const char *name) _pure_;
/* Whether two work directories are workdirs of one overlay (or the one it was mounted with). */
bool overlay_work_is_sibling(const char *work, const char *other) _pure_;
