/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which directories there are to mark, and marks that a crash or another program has left in part. It
 * decides on no directory: what cannot be marked says so when its turn comes. Repairing writes redirects
 * only, and only below what is opaque by us. */

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/mark/mark-internal.h"
#include "core/mount/reconfigure.h"
#include "core/state/audit.h"
#include "core/upper/layer.h"
#include "core/upper/observe.h"

static int list_below(const Context *context, const char *path, uint32_t depth, PathList *ret) {
        _cleanup_paths_ PathList children = { 0 };
        int r = context_list_directories(context, path, &children);

        /* Removed meanwhile, or mounted upon; or it cannot be listed, which is told when it is to be marked.
         */
        if (errno_is_gone(r) || r == -EXDEV || (r < 0 && error_scope(context, CALL_READ, r) == SCOPE_ENTRY))
                r = 0;
        for (size_t i = 0; r >= 0 && i < children.n; i++)
                r = mark_list(context, children.items[i], depth, ret);
        return r;
}

int mark_list(const Context *context, const char *path, uint32_t depth, PathList *ret) {
        int r = path[0] == '\0' ? 0 : path_list_add(ret, path);

        if (r < 0 || depth == 0)
                return r;
        return list_below(context, path, depth == DEPTH_INFINITE ? depth : depth - 1, ret);
}

typedef struct Repair {
        const Context *context;
        bool is_needed; /* the kernel has to read something anew */
        unsigned n_repaired;
} Repair;

/* opaque=y with an absolute redirect beside it: nobody else makes that (docs/overlayfs.md 2.6). */
static int
repair_directory(int dfd, const char *name, unsigned char type, const char *path, void *userdata) {
        _cleanup_close_ int upper_fd = -EBADF, fd = -EBADF;
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        Repair *repair = userdata;
        char failed[NAME_MAX + 1];
        unsigned n;
        int r;

        if (type != DT_DIR)
                return 0;
        r = upper_entry_read(dfd, name, &e);
        if (r < 0 || e.class != UPPER_OPAQUE || !upper_entry_has_absolute_redirect(&e))
                return r < 0 && !errno_is_gone(r) ? r : 0;
        upper_fd = open_dir_beneath(dfd, name);
        r = upper_fd < 0 ? upper_fd
                         : mark_write_redirects(upper_fd, e.redirect + 1, /* is_opaque= */ true, &n, failed);
        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        repair->n_repaired += n;
        fd = open_dir_beneath(repair->context->root_fd, path);
        repair->is_needed |= n > 0 || (fd >= 0 && observe_directory(fd) == OBSERVED_MERGED);
        return 0;
}

int mark_repair(Context *context, Failure *reterr) {
        Repair repair = { .context = context };
        int r = audit_upper(context, "", repair_directory, &repair);

        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot look for marked directories in '%s'", context->overlay->upper);
        if (repair.n_repaired > 0)
                context_note(
                        context, "",
                        "%u entr%s of marked directories had no absolute redirect, and %s one now",
                        repair.n_repaired, PLURAL_Y(repair.n_repaired),
                        repair.n_repaired == 1 ? "has" : "have");
        return repair.is_needed ? remount_reconfigure(context->root_fd, reterr) : 0;
}
