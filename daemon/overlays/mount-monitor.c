/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/mount-monitor.h"

#include <libmount/libmount.h>
#include <poll.h>
#include <sys/epoll.h>

#include "service/log.h"

/* A container that starts makes dozens of mounts; nobody waits for a new overlay more eagerly than this. */
#define COALESCE_USEC (50 * USEC_PER_MSEC)

struct MountMonitor {
        struct libmnt_monitor *monitor;
        sd_event_source *io_source;
        sd_event_source *timer;
        mount_monitor_func func;
        void *userdata;
};

int mount_monitor_read(MountTable *ret) {
        return mount_table_read(MOUNTINFO, ret);
}

void mount_monitor_tell(MountMonitor *m) {
        _cleanup_table_ MountTable table = { 0 };
        int r = mount_monitor_read(&table);

        if (r < 0)
                (void) log_warning_errno(r, "Cannot read the mount table, going on with what was known: %m");
        else
                m->func(&table, m->userdata);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        mount_monitor_tell(userdata);
        return 0;
}

void mount_monitor_catch_up(MountMonitor *m) {
        struct pollfd p = { .fd = mnt_monitor_get_fd(m->monitor), .events = POLLIN };
        int enabled = SD_EVENT_OFF;

        (void) sd_event_source_get_enabled(m->timer, &enabled);
        if (poll(&p, 1, 0) <= 0 && enabled == SD_EVENT_OFF)
                return;
        (void) mnt_monitor_event_cleanup(m->monitor);
        (void) sd_event_source_set_enabled(m->timer, SD_EVENT_OFF);
        mount_monitor_tell(m);
}

/* The timer is not set anew while it runs, so that a table that never rests is looked at all the same. */
static int on_change(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        MountMonitor *m = userdata;
        int enabled = SD_EVENT_OFF;

        (void) mnt_monitor_event_cleanup(m->monitor);
        (void) sd_event_source_get_enabled(m->timer, &enabled);
        if (enabled != SD_EVENT_OFF)
                return 0;
        (void) sd_event_source_set_time_relative(m->timer, COALESCE_USEC);
        (void) sd_event_source_set_enabled(m->timer, SD_EVENT_ONESHOT);
        return 0;
}

static int mount_monitor_open(MountMonitor *m, sd_event *event) {
        int r;

        m->monitor = mnt_new_monitor();
        if (!m->monitor)
                return -ENOMEM;
        if ((r = mnt_monitor_enable_kernel(m->monitor, 1)) < 0 || (r = mnt_monitor_get_fd(m->monitor)) < 0 ||
            (r = sd_event_add_io(event, &m->io_source, r, EPOLLIN, on_change, m)) < 0 ||
            (r = sd_event_add_time_relative(
                     event, &m->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, m)) < 0)
                return r;
        (void) sd_event_source_set_description(m->io_source, "mount-table");
        (void) sd_event_source_set_description(m->timer, "mount-table-settled");
        return sd_event_source_set_enabled(m->timer, SD_EVENT_OFF);
}

int mount_monitor_new(sd_event *event, mount_monitor_func func, void *userdata, MountMonitor **ret) {
        _cleanup_(mount_monitor_freep) MountMonitor *m = malloc(sizeof(MountMonitor));
        int r;

        if (!m)
                return -ENOMEM;
        *m = (MountMonitor){ .func = func, .userdata = userdata };
        r = mount_monitor_open(m, event);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

MountMonitor *mount_monitor_free(MountMonitor *m) {
        if (!m)
                return NULL;
        (void) sd_event_source_disable_unref(m->io_source);
        (void) sd_event_source_disable_unref(m->timer);
        mnt_unref_monitor(m->monitor);
        free(m);
        return NULL;
}
