/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which directories of an overlay others hang on: mounts upon them, bind mounts of them, and overlays of
 * which they are layers, in any mount namespace. An exchange would pull them along, or leave them with the
 * old tree (docs/overlayfs.md 5.2, 5.6). What is done about them is the caller's. A layer of which nobody
 * can tell where it is counts for every directory that it may be. */
#pragma once

#include <sys/types.h>

#include "base/patience.h"
#include "core/mount/overlay.h"

typedef enum InnerKind {
        INNER_MOUNT, /* another file system, upon path */
        INNER_BIND,  /* path is shown somewhere else */
        INNER_LAYER, /* path is a layer of another overlay */
} InnerKind;

/* Each is named by its path relative to the overlay's root ("" is the root). */
typedef struct OverlayInnerMount {
        char *path;  /* of a layer that is_somewhere: how its path ends, "" if that is not known either */
        char *where; /* mount point as its namespace sees it; of a layer, that of the other overlay */
        InnerKind kind;
        bool is_somewhere; /* a layer of which the path is not known */
        ino_t inode;       /* of a layer: st_ino of the directory, as the overlay shows it; 0 not known */
        bool is_proven;    /* of a layer: the kernel says that it is this inode */
        pid_t pid;         /* a process of the namespace */
} OverlayInnerMount;

/* What is remembered from one search to the next: an exchange looks several times in a moment, and has to
 * find one in which nothing changes. */
typedef struct InnerSearch {
        Patience patience;
        int fanotify_fd;
        struct LayerAnswer *answers; /* layer-use.c */
        size_t n_answers;
        dev_t *hung; /* other overlays that did not answer: they are not asked again */
        size_t n_hung;
} InnerSearch;

#define INNER_SEARCH_INIT                                                                                   \
        (InnerSearch) {                                                                                     \
                .patience = PATIENCE_INIT, .fanotify_fd = -EBADF                                            \
        }

void inner_search_done(InnerSearch *s);
/* Closes what the kernel takes long to close, before the next search is in a hurry: while many do so it may
 * be seconds, and whoever is killed with it open keeps his locks as long. */
void inner_search_rest(InnerSearch *s);

/* Sorted by path. Blocks on /proc, and for a moment on other overlays that do not answer (patience.h). proc
 * is NULL for /proc. search: NULL asks no other overlay, and believes what the mount tables say of it. */
int overlay_inner_mounts(
        const Overlay *o, const char *proc, InnerSearch *search, OverlayInnerMount **ret, size_t *ret_n);
/* Whether the directory at path, which has this inode (0: not known), is the layer m, or may be. */
bool inner_layer_is(const OverlayInnerMount *m, const char *path, ino_t inode) _pure_;
bool inner_mounts_have_layer(const OverlayInnerMount *m, size_t n) _pure_;
void overlay_inner_mounts_free(OverlayInnerMount *m, size_t n);
/* "a layer of the overlay at '/mnt' (seen by process 12)" and the like, for a sentence that begins with "it
 * is". */
#define INNER_MOUNT_TEXT_SIZE 512
void inner_mount_to_text(const OverlayInnerMount *m, char buffer[static INNER_MOUNT_TEXT_SIZE]);
