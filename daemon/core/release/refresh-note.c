/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a refresh leaves as it is, and why; and the one way in which it waits for the disk. Nothing is
 * changed here. */
#include "base/path-util.h"
#include "core/release/refresh-internal.h"

void refresh_note(const RefreshDirectory *d, const char *name, const char *why) {
        _cleanup_free_ char *path = path_join(d->path, name);

        d->p->counts.n_excluded++;
        context_note(d->p->context, path ?: name, "%s", why);
}

int refresh_make_durable(RefreshDirectory *d) {
        int r = context_make_durable(d->p->context, d->reterr);

        d->is_unsynced |= r < 0;
        return r;
}
