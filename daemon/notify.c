/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "notify.h"

#include <systemd/sd-daemon.h>

static const char *plural(uint64_t n) {
        return n == 1 ? "" : "s";
}

static unsigned count_overlays(const Manager *m, ManagedState state) {
        unsigned n = 0;

        for (size_t i = 0; i < m->n_overlays; i++)
                n += m->overlays[i]->state == state;
        return n;
}

char *notify_format_status(const Manager *m) {
        unsigned n_finalized = manager_count_finalized(m);
        unsigned n_running = queue_count_running(m->queue);
        unsigned n_queued = queue_count_unfinished(m->queue) - n_running;
        unsigned n_refused = count_overlays(m, MANAGED_REFUSED);
        char refused[64] = "", queued[64] = "", *text;

        if (n_refused > 0)
                (void) snprintf(refused, sizeof(refused), " (%u refused)", n_refused);
        if (n_queued > 0)
                (void) snprintf(queued, sizeof(queued), ", %u queued", n_queued);
        if (asprintf(
                    &text,
                    "%zu overlay%s%s, %u director%s finalized, %u job%s running%s%s",
                    m->n_overlays,
                    plural(m->n_overlays),
                    refused,
                    n_finalized,
                    n_finalized == 1 ? "y" : "ies",
                    n_running,
                    plural(n_running),
                    queued,
                    m->is_paused ? ", paused" : "") < 0)
                return NULL;
        return text;
}

static void notify_with_status(const Manager *m, const char *state) {
        _cleanup_free_ char *text = notify_format_status(m);

        (void) sd_notifyf(false, "%s\nSTATUS=%s", state, text ?: "");
}

void notify_ready(const Manager *m) {
        notify_with_status(m, "READY=1");
}

/* The time stamp is for systemd >= 253 (Type=notify-reload); older ones ignore it. */
void notify_reloading(const Manager *m) {
        uint64_t usec = 0;

        (void) sd_event_now(m->event, CLOCK_MONOTONIC, &usec);
        (void) sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long) usec);
}

void notify_stopping(const Manager *m) {
        (void) sd_notify(false, "STOPPING=1\nSTATUS=Stopping the workers");
}

void notify_status(const Manager *m) {
        if (!m->is_ready || m->is_stopping)
                return;
        {
                _cleanup_free_ char *text = notify_format_status(m);

                (void) sd_notifyf(false, "STATUS=%s", text ?: "");
        }
}
