/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "process/proc.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <utlist.h>

#include "base/strv.h"
#include "service/log.h"
#include "service/messages.h"

/* Records read before other events get their turn: the end of a job on a large tree comes as thousands of
 * them. */
#define RECORDS_PER_TURN 64
#define PACKETS_MOST 4096 /* that wait for one that listens */

struct ProcPool {
        sd_event *event;
        char *executable;
        const ProcPoolHandler *handler;
        void *userdata;
        Proc *procs;
};

struct Proc {
        ProcPool *pool;
        Proc *next;
        char *tag;
        char *place; /* where it is at work, NULL nowhere (any more) */
        sd_event_source *io_source;
        sd_event_source *child_source;
        sd_event_source *timer;
        const ProcHandler *handler; /* NULL once nobody listens any more */
        void *userdata;
        pid_t pid;
        int fd;
        char **packets; /* that wait for room; NULL-terminated */
        size_t n_packets;
        bool is_killed;
        bool is_abandoned;
};

static void proc_destroy(Proc *p) {
        LL_DELETE(p->pool->procs, p);
        (void) sd_event_source_disable_unref(p->timer);
        (void) sd_event_source_disable_unref(p->io_source);
        (void) sd_event_source_disable_unref(p->child_source);
        (void) fd_close(p->fd);
        free(p->tag);
        free(p->place);
        strv_free(p->packets);
        free(p);
}

int proc_pool_new(
        sd_event *event,
        const char *executable,
        const ProcPoolHandler *handler,
        void *userdata,
        ProcPool **ret) {
        ProcPool *pool = malloc(sizeof(ProcPool));

        if (!pool)
                return -ENOMEM;
        *pool = (ProcPool){ .handler = handler, .userdata = userdata, .executable = strdup(executable) };
        if (!pool->executable) {
                free(pool);
                return -ENOMEM;
        }
        pool->event = sd_event_ref(event);
        *ret = pool;
        return 0;
}

ProcPool *proc_pool_free(ProcPool *pool) {
        if (!pool)
                return NULL;
        while (pool->procs) {
                (void) kill(pool->procs->pid, SIGKILL);
                proc_destroy(pool->procs);
        }
        (void) sd_event_unref(pool->event);
        free(pool->executable);
        free(pool);
        return NULL;
}

bool proc_pool_is_idle(const ProcPool *pool) {
        for (const Proc *p = pool->procs; p; p = p->next)
                if (!p->is_abandoned)
                        return false;
        return true;
}

static void proc_pool_check_idle(ProcPool *pool) {
        if (pool->handler && pool->handler->on_idle && proc_pool_is_idle(pool))
                pool->handler->on_idle(pool->userdata);
}

unsigned proc_pool_count_stuck(const ProcPool *pool, const char *tag) {
        unsigned n = 0;

        for (const Proc *p = pool->procs; p; p = p->next)
                n += p->is_abandoned && strcmp(p->tag, tag) == 0;
        return n;
}

void proc_set_handler(Proc *p, const ProcHandler *handler, void *userdata) {
        p->handler = handler;
        p->userdata = userdata;
}

static void proc_tell_place(const Proc *p, bool begins) {
        const ProcPool *pool = p->pool;

        if (p->place && pool->handler && pool->handler->on_place)
                pool->handler->on_place(p->tag, p->place, begins, pool->userdata);
}

static void proc_leave_place(Proc *p) {
        proc_tell_place(p, /* begins= */ false);
        free(p->place);
        p->place = NULL;
}

void proc_pool_foreach_place(
        const ProcPool *pool,
        const char *tag,
        void (*func)(const char *path, void *userdata),
        void *userdata) {
        for (const Proc *p = pool->procs; p; p = p->next)
                if (p->place && strcmp(p->tag, tag) == 0)
                        func(p->place, userdata);
}

static int proc_send(const Proc *p, const char *packet) {
        if (p->fd < 0)
                return -EPIPE;
        return send(p->fd, packet, strlen(packet), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Those that there is room for. An error is the end of the socket, which is read. */
static void proc_send_packets(Proc *p) {
        size_t n = 0;

        while (n < p->n_packets && proc_send(p, p->packets[n]) != -EAGAIN)
                free(p->packets[n++]);
        p->n_packets -= n;
        if (n > 0)
                memmove(p->packets, p->packets + n, (p->n_packets + 1) * sizeof(char *));
        if (p->n_packets == 0)
                (void) sd_event_source_set_io_events(p->io_source, EPOLLIN);
}

int proc_tell(Proc *p, const char *packet) {
        int r = p->n_packets > 0 ? -EAGAIN : proc_send(p, packet);

        if (r != -EAGAIN || p->n_packets >= PACKETS_MOST)
                return r;
        r = sd_event_source_set_io_events(p->io_source, EPOLLIN | EPOLLOUT);
        if (r >= 0)
                r = strv_extend(&p->packets, packet);
        if (r < 0)
                return r;
        p->n_packets++;
        return 0;
}

static void proc_close_socket(Proc *p) {
        p->io_source = sd_event_source_disable_unref(p->io_source);
        p->fd = fd_close(p->fd);
}

/* 1: there may be more, 0: nothing for now, or the end. */
static int proc_read_record(Proc *p) {
        WireRecord record;
        int r;

        r = wire_receive(p->fd, &record);
        if (r == -EAGAIN)
                return 0;
        if (r <= 0) {
                if (r < 0)
                        (void) log_warning_errno(
                                r, "Worker %i sent what cannot be read, not listening to it: %m", p->pid);
                proc_close_socket(p);
                return 0;
        }
        if (record.kind == WIRE_RESULT)
                proc_leave_place(p);
        if (p->handler)
                p->handler->on_record(p, &record, p->userdata);
        return p->fd >= 0;
}

static int on_socket(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Proc *p = userdata;

        if (revents & EPOLLOUT)
                proc_send_packets(p);
        for (int i = 0; i < RECORDS_PER_TURN && proc_read_record(p) > 0; i++)
                ;
        return 0;
}

static void proc_end(Proc *p, ProcEnd end, int status) {
        const ProcHandler *h = p->handler;

        while (p->fd >= 0 && proc_read_record(p) > 0)
                ;
        proc_close_socket(p);
        proc_leave_place(p);
        if (h)
                h->on_end(p, end, status, p->userdata);
}

static ProcEnd end_from_child(const siginfo_t *si) {
        if (si->si_code != CLD_EXITED)
                return PROC_SIGNALED;
        return si->si_status == WORKER_EXIT_UNMOUNTED ? PROC_UNMOUNTED : PROC_EXITED;
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
        Proc *p = userdata;
        ProcPool *pool = p->pool;

        if (!p->is_abandoned)
                proc_end(p, end_from_child(si), si->si_status);
        else if (pool->handler && pool->handler->on_reaped) {
                _cleanup_free_ char *tag = TAKE_PTR(p->tag);

                p->is_abandoned = false; /* the handler counts those that still are: this one has ended */
                p->tag = strdup("");
                pool->handler->on_reaped(tag, pool->userdata);
        }
        proc_destroy(p);
        proc_pool_check_idle(pool);
        return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void proc_start_timer(Proc *p, uint64_t usec) {
        int r;

        p->timer = sd_event_source_disable_unref(p->timer);
        r = sd_event_add_time_relative(p->pool->event, &p->timer, CLOCK_MONOTONIC, usec, 0, on_timer, p);
        if (r < 0)
                (void) log_error_errno(r, "Cannot set a deadline for worker %i: %m", p->pid);
}

bool proc_is_killed(const Proc *p) {
        return p->is_killed;
}

void proc_kill(Proc *p) {
        if (p->is_killed)
                return;
        p->is_killed = true;
        if (kill(p->pid, SIGKILL) < 0)
                (void) log_warning_errno(-errno, "Cannot kill worker %i: %m", p->pid);
        proc_start_timer(p, PROC_KILL_USEC);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Proc *p = userdata;
        bool is_of_all = p->tag[0] == PROC_TAG_OF_ALL;
        LogFields f = { .message_id = MESSAGE_WORKER_STUCK, .overlay = is_of_all ? NULL : p->tag };

        if (!p->is_killed) {
                log_debug("Worker %i did not stop when asked to, killing it", p->pid);
                proc_kill(p);
                return 0;
        }
        p->timer = sd_event_source_disable_unref(p->timer);
        p->is_abandoned = true;
        log_fields(
                LOG_WARNING, &f,
                "%s '%s', process %i, hangs in the kernel and cannot be killed; going on without it",
                is_of_all ? "The source of heat" : "A worker for overlay", p->tag + is_of_all, p->pid);
        proc_end(p, PROC_ABANDONED, 0);
        proc_pool_check_idle(p->pool);
        return 0;
}

void proc_cancel(Proc *p) {
        if (p->is_killed || p->timer)
                return;
        if (proc_send(p, "cancel") < 0)
                (void) kill(p->pid, SIGTERM);
        proc_start_timer(p, PROC_CANCEL_USEC);
}

void proc_forget_cancel(Proc *p) {
        if (!p->is_killed)
                p->timer = sd_event_source_disable_unref(p->timer);
}

void proc_pool_terminate(ProcPool *pool) {
        for (Proc *p = pool->procs; p; p = p->next) {
                if (p->is_killed)
                        continue;
                (void) kill(p->pid, SIGTERM);
                if (!p->timer)
                        proc_start_timer(p, PROC_CANCEL_USEC);
        }
}

Proc *proc_free(Proc *p) {
        if (!p)
                return NULL;
        p->handler = NULL;
        proc_close_socket(p);
        if (!p->is_killed) {
                (void) kill(p->pid, SIGTERM);
                if (!p->timer)
                        proc_start_timer(p, PROC_CANCEL_USEC);
        }
        return NULL;
}

/* The worker starts with nothing of the daemon's: default signals, an empty mask, a group of its own (so
 * that a Ctrl-C meant for a daemon on a terminal reaches the daemon only), /dev/null, the socket, standard
 * error. */
static int spawn_prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr, int fd) {
        sigset_t none, all;
        int r;

        (void) sigemptyset(&none);
        (void) sigfillset(&all);
        if ((r = posix_spawnattr_setflags(
                     attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP)) != 0 ||
            (r = posix_spawnattr_setsigmask(attr, &none)) != 0 ||
            (r = posix_spawnattr_setsigdefault(attr, &all)) != 0 ||
            (r = posix_spawnattr_setpgroup(attr, 0)) != 0 ||
            (r = posix_spawn_file_actions_adddup2(actions, fd, WORKER_FD)) != 0 ||
            (r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)) != 0 ||
            (r = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)) != 0 ||
            (r = posix_spawn_file_actions_addclosefrom_np(actions, WORKER_FD + 1)) != 0)
                return -r;
        return 0;
}

/* verb: for ps(1) alone. */
static int spawn(const char *executable, const char *verb, int fd, pid_t *ret) {
        char *argv[] = { (char *) executable, (char *) verb, NULL };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        int r;

        r = -posix_spawn_file_actions_init(&actions);
        if (r < 0)
                return r;
        r = -posix_spawnattr_init(&attr);
        if (r < 0) {
                (void) posix_spawn_file_actions_destroy(&actions);
                return r;
        }
        r = spawn_prepare(&actions, &attr, fd);
        if (r >= 0)
                r = -posix_spawn(ret, executable, &actions, &attr, argv, environ);
        (void) posix_spawnattr_destroy(&attr);
        (void) posix_spawn_file_actions_destroy(&actions);
        return r;
}

/* Ends must be seen after the records that precede them; both after a cancel or a request from the bus. */
static int proc_attach(Proc *p) {
        int r;

        if ((r = sd_event_add_io(p->pool->event, &p->io_source, p->fd, EPOLLIN, on_socket, p)) < 0 ||
            (r = sd_event_source_set_priority(p->io_source, SD_EVENT_PRIORITY_NORMAL + 10)) < 0 ||
            (r = sd_event_add_child(p->pool->event, &p->child_source, p->pid, WEXITED, on_child, p)) < 0)
                return r;
        (void) sd_event_source_set_description(p->io_source, "worker-records");
        (void) sd_event_source_set_description(p->child_source, "worker-end");
        return sd_event_source_set_priority(p->child_source, SD_EVENT_PRIORITY_NORMAL + 20);
}

/* A socketpair with the request in it already, and room for a burst of records. */
static int open_socket(const WireRequest *request, int *ret_daemon, int *ret_worker) {
        int fds[2], r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        *ret_daemon = fds[0];
        *ret_worker = fds[1];
        r = wire_request_send(fds[0], request);
        if (r < 0)
                return r;
        return fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int proc_new(
        ProcPool *pool,
        const char *tag,
        const char *place,
        const ProcHandler *handler,
        void *userdata,
        Proc **ret) {
        Proc *p = malloc(sizeof(Proc));

        if (!p)
                return -ENOMEM;
        *p = (Proc){ .pool = pool,
                     .handler = handler,
                     .userdata = userdata,
                     .fd = -EBADF,
                     .tag = strdup(tag),
                     .place = place ? strdup(place) : NULL };
        if (!p->tag || (place && !p->place)) {
                free(p->tag);
                free(p);
                return -ENOMEM;
        }
        p->next = pool->procs;
        pool->procs = p;
        *ret = p;
        return 0;
}

int proc_spawn(
        ProcPool *pool,
        const char *tag,
        const WireRequest *request,
        const ProcHandler *handler,
        void *userdata,
        Proc **ret) {
        const char *verb = wire_request_get(request, WIRE_VERB);
        bool is_source = job_type_is_source(job_type_from_string(verb));
        _cleanup_close_ int worker_fd = -EBADF;
        Proc *p;
        int r;

        if (request->error < 0)
                return request->error;
        r = proc_new(
                pool, tag, is_source ? NULL : wire_request_get(request, WIRE_PATH), handler, userdata, &p);
        if (r < 0)
                return r;
        proc_tell_place(p, /* begins= */ true);
        r = open_socket(request, &p->fd, &worker_fd);
        if (r >= 0)
                r = spawn(pool->executable, verb, worker_fd, &p->pid);
        if (r >= 0) {
                r = proc_attach(p);
                if (r < 0) {
                        (void) kill(p->pid, SIGKILL);
                        (void) waitpid(p->pid, NULL, WNOHANG);
                }
        }
        if (r < 0) {
                proc_leave_place(p);
                proc_destroy(p);
                return r;
        }
        *ret = p;
        return 0;
}
