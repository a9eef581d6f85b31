/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a refresh leaves as it is, and why. */
#include "base/path-util.h"
#include "core/release/refresh-internal.h"

void refresh_note(const RefreshDirectory *d, const char *name, const char *why) {
        _cleanup_free_ char *path = path_join(d->path, name);

        d->p->counts.n_excluded++;
        context_note(d->p->context, path ?: name, "%s", why);
}
