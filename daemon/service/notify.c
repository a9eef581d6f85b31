/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/notify.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/strv.h"
#include "service/log.h"

#define RETRY_USEC (200 * USEC_PER_MSEC)
#define STATUS_PREFIX "STATUS="

struct Notifier {
        int fd; /* -EBADF: nobody listens */
        sd_event *event;
        sd_event_source *retry;
        char **pending; /* oldest first */
        char *status;   /* the last one sent or pending */
};

static int notifier_connect(const char *path, int *ret) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;
        size_t n = strlen(path);

        if ((path[0] != '/' && path[0] != '@') || n >= sizeof(address.sun_path))
                return -EINVAL;
        memcpy(address.sun_path, path, n);
        if (path[0] == '@')
                address.sun_path[0] = '\0';
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *) &address,
                    (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n)) < 0)
                return -errno;
        *ret = TAKE_FD(fd);
        return 0;
}

int notifier_new(sd_event *event, Notifier **ret) {
        const char *path = getenv("NOTIFY_SOCKET");
        Notifier *n = malloc(sizeof(Notifier));
        int r;

        if (!n)
                return -ENOMEM;
        *n = (Notifier){ .fd = -EBADF, .event = sd_event_ref(event) };
        if (path) {
                r = notifier_connect(path, &n->fd);
                if (r < 0)
                        (void) log_warning_errno(
                                r, "Cannot reach the service manager at '%s', going on without: %m", path);
        }
        *ret = n;
        return 0;
}

Notifier *notifier_free(Notifier *n) {
        if (!n)
                return NULL;
        (void) sd_event_source_disable_unref(n->retry);
        (void) sd_event_unref(n->event);
        (void) fd_close(n->fd);
        n->pending = strv_free(n->pending);
        free(n->status);
        free(n);
        return NULL;
}

static void notifier_remove_pending(Notifier *n, size_t i) {
        free(n->pending[i]);
        for (; n->pending[i + 1]; i++)
                n->pending[i] = n->pending[i + 1];
        n->pending[i] = NULL;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata);

static void notifier_flush(Notifier *n) {
        n->retry = sd_event_source_disable_unref(n->retry);
        while (n->pending && n->pending[0]) {
                if (send(n->fd, n->pending[0], strlen(n->pending[0]), MSG_NOSIGNAL) < 0 && errno == EAGAIN) {
                        (void) sd_event_add_time_relative(
                                n->event, &n->retry, CLOCK_MONOTONIC, RETRY_USEC, USEC_PER_MSEC, on_retry,
                                n);
                        return;
                }
                notifier_remove_pending(n, 0);
        }
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        notifier_flush(userdata);
        return 0;
}

static void notifier_send(Notifier *n, const char *text) {
        if (n->fd < 0)
                return;
        if (strv_extend(&n->pending, text) < 0)
                (void) log_oom();
        else
                notifier_flush(n);
}

void notifier_ready(Notifier *n) {
        notifier_send(n, "READY=1");
}

/* The time stamp is for systemd >= 253 (Type=notify-reload); older ones ignore it. */
void notifier_reloading(Notifier *n) {
        uint64_t usec = 0;
        char text[64];

        (void) sd_event_now(n->event, CLOCK_MONOTONIC, &usec);
        (void) snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long) usec);
        notifier_send(n, text);
}

void notifier_stopping(Notifier *n) {
        notifier_send(n, "STOPPING=1");
}

void notifier_status(Notifier *n, const char *text) {
        char line[256];

        if (n->fd < 0 || str_equal(n->status, text))
                return;
        (void) str_replace(&n->status, text);
        for (size_t i = strv_length(n->pending); i > 0; i--)
                if (strncmp(n->pending[i - 1], STATUS_PREFIX, strlen(STATUS_PREFIX)) == 0)
                        notifier_remove_pending(n, i - 1);
        (void) snprintf(line, sizeof(line), STATUS_PREFIX "%s", text);
        notifier_send(n, line);
}
