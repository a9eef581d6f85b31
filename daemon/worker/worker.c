/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ovlfind-worker: does one job on the files of one overlay, in a process of its own, so that a file system
 * that hangs hangs nobody else. It is not for people: the daemon, or ovlfinctl, starts it with a socket as
 * descriptor 3 (base/wire.h). It may be killed at any instant: what it leaves, the next one finishes or
 * removes (core/job/recover.h). */
#include <fcntl.h>
#include <linux/ioprio.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "core/upper/redirect-max.h"
#include "worker/worker.h"

#define PROGRESS_USEC (USEC_PER_SEC / 10)
#define SLICE_NSEC 100000 /* of processor time, for what runs in the background */

/* struct sched_attr in its first version: linux/sched/types.h and glibc's <sched.h> exclude each other. */
typedef struct SchedAttr {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
} SchedAttr;

/* The whole process ends with it: whoever asked for the job reads the result from the socket. */
static Worker worker;

static void on_progress(void *userdata, JobState state, uint64_t done, uint64_t total, const char *why) {
        Worker *w = userdata;
        uint64_t now = now_monotonic_usec();
        WireRecord *r = &w->progress;

        if (state == w->reported_state && now - w->reported_usec < PROGRESS_USEC)
                return;
        w->reported_state = state;
        w->reported_usec = now;
        r->state = (uint32_t) state;
        r->entries_done = done;
        r->entries_total = total;
        r->bytes = atomic_load(&w->context.bytes_copied);
        wire_set(r->lower_path, why ?: "");
        (void) wire_send(WORKER_FD, r);
}

static void on_doing(void *userdata, const char *what) {
        Worker *w = userdata;

        wire_set(w->progress.text, what);
        (void) wire_send(WORKER_FD, &w->progress);
}

static void on_note(void *userdata, const char *path, const char *text) {
        WireRecord r = { .kind = WIRE_NOTE };

        wire_set(r.path, path);
        wire_set(r.text, text);
        (void) wire_send(WORKER_FD, &r);
}

static void
on_kept(void *userdata, const char *path, const char *id, unsigned n_processes, const char *who) {
        WireRecord r = { .kind = WIRE_KEPT, .state = n_processes };

        wire_set(r.name, id);
        wire_set(r.path, path);
        wire_set(r.text, who);
        (void) wire_send(WORKER_FD, &r);
}

static void
on_draining(const Drain *d, unsigned n_processes, const char *who, bool is_read_only, void *userdata) {
        WireRecord r = { .kind = WIRE_DRAINING, .state = n_processes, .error = is_read_only ? EROFS : 0 };

        wire_set(r.path, d->work);
        wire_set(r.text, who);
        (void) wire_send(WORKER_FD, &r);
}

/* The worker is to end, whatever it does. */
static void end(void) {
        atomic_store(&worker.is_ending, true);
        atomic_store(&worker.context.is_canceled, true);
}

static void on_signal(int signal) {
        end();
}

/* Waits for "cancel", and for the end of whoever asked. */
static void *listen_for_cancel(void *userdata) {
        char buffer[16];
        ssize_t n;

        while ((n = recv(WORKER_FD, buffer, sizeof(buffer), 0)) > 0 || (n < 0 && errno == EINTR))
                if (n > 0 && !atomic_load(&worker.is_over))
                        atomic_store(&worker.context.is_canceled, true);
        end();
        return NULL;
}

/* A cancel is about the job. What is kept after it goes on to be looked at. */
static void forget_cancel(Worker *w) {
        atomic_store(&w->is_over, true);
        atomic_store(&w->context.is_canceled, false);
        if (atomic_load(&w->is_ending))
                atomic_store(&w->context.is_canceled, true);
}

static void set_up_process(void) {
        const struct sigaction action = { .sa_handler = on_signal };
        struct rlimit limit;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) sigaction(SIGTERM, &action, NULL);
        (void) sigaction(SIGINT, &action, NULL);
        (void) signal(SIGPIPE, SIG_IGN);
        (void) umask(0077);
        /* Each thread holds some descriptors, and each old tree that is kept. */
        if (getrlimit(RLIMIT_NOFILE, &limit) >= 0) {
                limit.rlim_cur = limit.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &limit);
        }
}

/* The slice of processor time is set to the shortest there is, so that who has a high weight comes at once,
 * and who has a low one does not keep others waiting: under EEVDF a task may use up the slice that it has
 * begun. Kernels before 6.12 ignore that field for this policy. Threads inherit both. The weight counts
 * against other tasks of the service's cgroup only: between services CPUWeight= decides. */
static void set_weight(int nice) {
        SchedAttr attr = { .size = sizeof(attr), .nice = nice, .runtime = SLICE_NSEC };

        if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
                (void) setpriority(PRIO_PROCESS, 0, nice);
}

/* A worker takes what others leave of the disk and the processors. */
static void step_aside(void) {
        set_weight(19);
        (void) syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

static void send_result(Worker *w, int r, const Failure *f) {
        WireRecord record = { .kind = WIRE_RESULT };

        wire_set(
                record.name,
                failure_kind_to_string(r < 0 && f->kind == FAILURE_NONE ? FAILURE_FAILED : f->kind));
        record.error = r >= 0 ? 0 : f->error != 0 ? f->error : -r;
        wire_set(record.text, r < 0 && !f->message ? strerror(-r) : f->message);
        record.entries_done = record.entries_total = w->counts.n_entries;
        record.bytes = atomic_load(&w->context.bytes_copied);
        record.merge_children = w->counts.n_directories;
        record.errors = w->counts.n_excluded;
        record.state = w->counts.needs_survey;
        record.usec = now_monotonic_usec() - w->started_usec;
        record.pause_usec = w->remounted.pause_usec;
        throttle_copy_answers(w->context.throttle, &record.answers);
        (void) wire_send(WORKER_FD, &record);
}

/* The old superblock of this swap, or those of earlier ones whose workers were killed. */
static void drain_all(Worker *w) {
        Drain **d = &w->remounted.drain;

        while (*d || drain_adopt(&w->context, d) > 0) {
                int r = drain_wait(&w->context, *d, on_draining, w);

                *d = drain_free(*d);
                if (r < 0)
                        return;
        }
}

static int run(Worker *w) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        pthread_t listener;
        int r;

        r = wire_request_receive(WORKER_FD, &w->request);
        if (r <= 0)
                return EXIT_FAILURE;
        if (worker_is_source(w)) {
                (void) signal(SIGTERM, SIG_DFL); /* there is nothing to finish */
                if (atomic_load(&w->is_ending))  /* asked to a moment ago, and nobody else would look */
                        return EXIT_FAILURE;
        }
        if (wire_request_get(&w->request, WIRE_BACKGROUND))
                step_aside();
        else if (job_type_from_string(wire_request_get(&w->request, WIRE_VERB)) == JOB_PATHS)
                set_weight(-15); /* to look at what ends in a millisecond */
        r = worker_is_source(w) ? 0 : pthread_create(&listener, NULL, listen_for_cancel, NULL);
        if (r == 0)
                r = worker_run_verb(w, &f);
        else
                r = failure_set_errno(&f, -r, "cannot start a thread");
        if (r == -EAGAIN && f.kind == FAILURE_NONE && w->reported_state == JOB_WAITING)
                return WORKER_EXIT_AGAIN;
        guard_let_go(w); /* who hears that it is over may unmount the overlay at once */
        send_result(w, r, &f);
        forget_cancel(w);
        if (r != RESULT_HUNG)
                r = work_keep(&w->context, &w->kept);
        if (r == RESULT_HUNG) { /* threads hang in the kernel; what they left is for the next survey */
                redirect_max_release(&w->context.redirect_max_hold);
                _exit(EXIT_FAILURE);
        }
        if (w->remounted.drain || w->is_survey)
                drain_all(w);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char *argv[]) {
        struct stat st;
        int r;

        /* An argument says what it is for to whoever reads a list of processes. */
        if (argc > 2 || fstat(WORKER_FD, &st) < 0 || !S_ISSOCK(st.st_mode)) {
                (void) fprintf(stderr, "%s is started by ovlfind, not by hand; see ovlfinctl(1)\n", argv[0]);
                return EXIT_FAILURE;
        }
        (void) fcntl(WORKER_FD, F_SETFD, FD_CLOEXEC);
        worker.started_usec = now_monotonic_usec();
        worker.reported_state = _JOB_STATE_INVALID;
        worker.progress = (WireRecord){ .kind = WIRE_PROGRESS, .state = JOB_RUNNING };
        worker.context = CONTEXT_INIT;
        worker.offline = OFFLINE_INIT;
        worker.mount_fd = worker.mounts_fd = -EBADF;
        worker.observer = (Observer){ .progress = on_progress,
                                      .doing = on_doing,
                                      .note = on_note,
                                      .kept = on_kept,
                                      .userdata = &worker };
        set_up_process();
        r = run(&worker);
        /* The listener is still waiting; exit() takes it along. */
        keepers_done(&worker.kept);
        worker.remounted.drain = drain_free(worker.remounted.drain);
        (void) fd_close(worker.mount_fd);
        context_done(&worker.context);
        offline_done(&worker.offline);
        free(worker.name);
        worker.overlay = overlay_free(worker.overlay);
        wire_request_done(&worker.request);
        return r;
}
