/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Replies that wait until the list of jobs is on the disk; the list is written by others
 * (service/state-writer.h). They do not wait longer than a client notices, and are sent before anything is
 * told of the end of a job: whoever asked for it hears its number first. */
#include "manager/manager.h"
#include "service/log.h"

#define WAIT_USEC (50 * USEC_PER_MSEC)

void manager_send_replies(Manager *m) {
        m->reply_timer = sd_event_source_disable_unref(m->reply_timer);
        for (size_t i = 0; i < m->n_replies; i++) {
                int r = sd_bus_message_send(m->replies[i]);

                if (r < 0)
                        (void) log_warning_errno(r, "Cannot send a reply, ignoring: %m");
                (void) sd_bus_message_unref(m->replies[i]);
        }
        m->n_replies = 0;
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata) {
        manager_send_replies(userdata);
        return 0;
}

int manager_reply_when_saved(Manager *m, sd_bus_message *reply) {
        if (state_writer_is_idle(m->state_writer) || m->n_replies == MANAGER_REPLIES_MAX ||
            (!m->reply_timer &&
             sd_event_add_time_relative(
                     m->host.event, &m->reply_timer, CLOCK_MONOTONIC, WAIT_USEC, USEC_PER_MSEC, on_time, m) <
                     0))
                return sd_bus_message_send(reply);
        m->replies[m->n_replies++] = sd_bus_message_ref(reply);
        return 1;
}
