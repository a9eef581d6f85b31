/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/state-writer.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "service/log.h"
#include "service/state-file.h"

/* Both files together: less than systemd waits (TimeoutStopSec=) beyond STOP_USEC of the manager. */
#define END_SEC 4

struct StateWriter {
        char *dir;
        const char *name;
        char *next; /* to be written after what is being written */
        char *text; /* the thread's, as is result; NULL: there is none */
        int result;
        pthread_t thread;
        int fd; /* tells of the end of a thread */
        sd_event_source *source;
        void (*on_idle)(void *userdata);
        void *userdata;
};

static void *run(void *userdata) {
        StateWriter *w = userdata;

        w->result = state_file_replace(w->dir, w->name, w->text);
        (void) eventfd_write(w->fd, 1);
        return NULL;
}

static void warn(const StateWriter *w, int r) {
        (void) log_warning_errno(r, "Cannot write '%s/%s', ignoring: %m", w->dir, w->name);
}

/* Signals are the loop's. */
static int create_thread(StateWriter *w) {
        sigset_t all, old;
        int r;

        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&w->thread, NULL, run, w);
        (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
        return -r;
}

static void begin(StateWriter *w) {
        int r;

        if (w->text || !w->next)
                return;
        w->text = TAKE_PTR(w->next);
        r = create_thread(w);
        if (r >= 0)
                return;
        warn(w, r);
        free(TAKE_PTR(w->text));
}

/* The thread has been joined. */
static void finish(StateWriter *w) {
        if (w->result < 0)
                warn(w, w->result);
        free(TAKE_PTR(w->text));
        begin(w);
}

static int on_written(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        StateWriter *w = userdata;
        eventfd_t n;

        (void) eventfd_read(fd, &n);
        (void) pthread_join(w->thread, NULL); /* it has nothing left to do */
        finish(w);
        if (!w->text && w->on_idle)
                w->on_idle(w->userdata);
        return 0;
}

int state_writer_new(
        sd_event *event,
        const char *dir,
        const char *name,
        void (*on_idle)(void *userdata),
        void *userdata,
        StateWriter **ret) {
        _cleanup_(state_writer_freep) StateWriter *w = malloc(sizeof(StateWriter));
        int r;

        if (!w)
                return -ENOMEM;
        *w = (StateWriter){
                .dir = strdup(dir),
                .name = name,
                .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                .on_idle = on_idle,
                .userdata = userdata,
        };
        if (!w->dir || w->fd < 0)
                return w->dir ? -errno : -ENOMEM;
        r = sd_event_add_io(event, &w->source, w->fd, EPOLLIN, on_written, w);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(w->source, "state-written");
        *ret = TAKE_PTR(w);
        return 0;
}

StateWriter *state_writer_free(StateWriter *w) {
        struct timespec deadline;

        if (!w)
                return NULL;
        (void) clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += END_SEC;
        while (w->text) {
                if (pthread_timedjoin_np(w->thread, NULL, &deadline) != 0) {
                        log_warning("'%s/%s' is not written yet, not waiting any longer", w->dir, w->name);
                        (void) pthread_detach(w->thread);
                        return NULL; /* all of it is the thread's */
                }
                finish(w);
        }
        (void) sd_event_source_disable_unref(w->source);
        (void) fd_close(w->fd);
        free(w->dir);
        free(w);
        return NULL;
}

void state_writer_write(StateWriter *w, char *text) {
        if (!text) {
                (void) log_oom();
                return;
        }
        free(w->next);
        w->next = text;
        begin(w);
}

bool state_writer_is_idle(const StateWriter *w) {
        return !w->text;
}
