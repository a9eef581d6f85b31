/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager/status.h"

#include "base/str.h"
#include "manager/manager.h"

static unsigned count_overlays(const Manager *m, ManagedState state) {
        unsigned n = 0;

        for (size_t i = 0; i < m->n_overlays; i++)
                n += m->overlays[i]->state == state;
        return n;
}

unsigned status_count_finalized(const Manager *m) {
        size_t n = 0;

        for (size_t i = 0; i < m->n_overlays; i++)
                n += directory_table_count(m->overlays[i]->directories, DIRECTORY_FINALIZED);
        return (unsigned) n;
}

char *status_format(const Manager *m) {
        unsigned n_finalized = status_count_finalized(m);
        unsigned n_running = queue_count_running(m->queue);
        unsigned n_queued = queue_count_unfinished(m->queue) - n_running;
        unsigned n_refused = count_overlays(m, MANAGED_REFUSED);
        char refused[64] = "", queued[64] = "";

        if (n_refused > 0)
                (void) snprintf(refused, sizeof(refused), " (%u refused)", n_refused);
        if (n_queued > 0)
                (void) snprintf(queued, sizeof(queued), ", %u queued", n_queued);
        return str_format(
                "%zu overlay%s%s, %u director%s finalized, %u job%s running%s%s", m->n_overlays,
                PLURAL(m->n_overlays), refused, n_finalized, PLURAL_Y(n_finalized), n_running,
                PLURAL(n_running), queued, m->host.is_paused ? ", paused" : "");
}
