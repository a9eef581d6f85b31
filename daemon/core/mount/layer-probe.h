/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks the kernel which directories of an overlay another overlay has for layers. When the root of an
 * overlay is listed, the kernel reads that directory of each of its layers, and that raises a fanotify event
 * on the file system of the layer: whatever the mount table calls it, wherever it was moved since, also for
 * layers given by descriptor. Data-only layers and work directories are not read. */

/* No layer is read while somebody else has that root open and has listed it: the kernel then has the names
 * in memory. Layers that are known, on other file systems, bear witness: when one of them is read, all are.
 * Source: ovl_dir_read_merged(), ovl_cache_get(), iterate_dir(); docs/overlayfs.md 8.1, 8.2. */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "base/macro.h"

/* A layer as its overlay spells it. */
typedef struct LayerPath {
        char *given;       /* absolute */
        bool is_read;      /* listing the root reads it: no data-only layer, no work directory */
        bool is_elsewhere; /* leads to another file system */
        dev_t device;      /* of what it leads to */
        ino_t inode;       /* the same; 0: it leads nowhere */
        int mount_id;      /* by way of this mount; 0 not known */
        char *path;        /* as the process sees it, without symlinks; NULL not known */
        int fd;            /* while the probe goes on */
} LayerPath;

typedef struct LayerProbe {
        char *mount_point;   /* of the overlay, for the caller */
        dev_t device, other; /* of the overlay, of the other one */
        char *process;       /* "/proc/PID" */
        char *where;         /* mount point of the other one, as that process sees it */
        int fanotify_fd;     /* of its own */
        LayerPath *paths;    /* to be looked at */
        size_t n_paths;
        ino_t *inodes; /* directories of the overlay that were read */
        size_t n_inodes;
        bool has_witness; /* one of the paths is */
        bool is_fresh;    /* one of them was read, and so were all layers */
} LayerProbe;

/* A descriptor that probes share, since the kernel takes 20 ms to close one. -errno. */
int layer_probe_open(void);
LayerProbe *layer_probe_new(int fanotify_fd);
void layer_probe_free(void *probe);
int layer_probe_add(LayerProbe *p, const char *path, bool is_read);
/* Fills in what was found. 0; -ESRCH: the process has gone; -EXDEV: something else stands in the way of one
 * of the two; -ENOBUFS: too much went on; or what opening says. Waits for both overlays: to be called by
 * patience_call(). */
int layer_probe_run(void *probe);
