/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The loop of the source "paths": who starts is looked at once, by descriptors of its directory in /proc, so
 * that another process with its PID is not mistaken for it. What it searches is counted by directory and
 * told once a second. Nothing wakes us while no program starts. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/hash.h"
#include "base/path-util.h"
#include "base/proc-scan.h"
#include "core/paths/paths-internal.h"

#define TELL_USEC USEC_PER_SEC
#define BUSY_USEC USEC_PER_SEC
#define COUNTED_SLOTS (1u << 16)
#define ENVIRONMENT_MOST (256u * 1024)
#define PROGRAMS_PER_SEC 250u            /* beyond that one is as good as the other */
#define SPENT_PER_SEC (USEC_PER_SEC / 2) /* on programs: or before one that takes longer */
#define SCAN_FIRST_USEC USEC_PER_SEC
#define SCAN_LAST_USEC (60 * USEC_PER_SEC)
#define SINCE_SLACK USEC_PER_SEC /* who is looked at twice still counts once */

/* What the loop does is in this file, and what its parts need of it. */

void paths_say_busy(Paths *p, const OverlayPlace *place) {
        uint64_t now = now_monotonic_usec();

        if (p->is_busy && p->busy_with == place && now < p->busy_usec + BUSY_USEC)
                return;
        if (!p->is_busy && !p->has_counts)
                p->tell_usec = now + TELL_USEC;
        p->is_busy = true;
        p->busy_usec = now;
        p->busy_with = place;
        (void) p->config->status(
                /* is_busy= */ true, place ? place->name : NULL, p->reason, p->config->userdata);
}

/* Whether it is the first time that this program comes to a directory. */
static bool is_first(const Paths *p, const PathsKnown *k) {
        uint64_t key[] = { p->process.id, hash_bytes(k->overlay, strlen(k->overlay)),
                           hash_bytes(k->relative, strlen(k->relative)) };
        uint64_t hash = hash_bytes(key, sizeof(key)), *slot = p->counted + hash % COUNTED_SLOTS;

        if (*slot == hash)
                return false;
        *slot = hash;
        return true;
}

/* The overlay that a path of the program leads to; NULL: none that it sees. */
static const OverlayPlace *find_place(Paths *p, const char *path, const char **ret_relative) {
        const OverlayPlace *place = overlay_set_find(&p->overlays, path, ret_relative);

        return place && paths_process_shows(&p->process, &p->overlays, place) ? place : NULL;
}

static bool on_directory(const char *path, void *userdata) {
        Paths *p = userdata;
        const char *relative;
        const OverlayPlace *place;
        PathsKnown *k;

        if (p->n_paths++ >= PATHS_PROGRAM_MOST)
                return false;
        place = find_place(p, path, &relative);
        k = place ? paths_known_directory(p, path, place, relative) : NULL;
        if (!k || !k->overlay || !is_first(p, k))
                return true;
        k->n++;
        if (!p->has_counts && !p->is_busy)
                p->tell_usec = p->now_usec + TELL_USEC;
        p->has_counts = true;
        return true;
}

/* What a program says. */

/* What an executable on an overlay asks for, by $ORIGIN or not. */
static void look_at_executable(Paths *p, const char *executable) {
        _cleanup_free_ char *origin = path_dirname(executable);
        const char *relative;
        const OverlayPlace *place = find_place(p, executable, &relative);
        char list[PATH_MAX];

        if (origin && place && paths_known_run_path(p, executable, place, relative, list))
                (void) paths_split(list, ":", origin, on_directory, p);
}

/* The tree that PREFIX/bin/NAME belongs to. */
static void look_at_tree(Paths *p, const char *program, const char *name) {
        char path[PATH_MAX];
        char *end;

        if (!paths_simplify(program, strlen(program), NULL, path))
                return;
        *strrchr(path, '/') = '\0';
        end = strrchr(path, '/');
        if (!end || strcmp(end, "/bin") != 0)
                return;
        *end = '\0';
        paths_from_python(path, name, on_directory, p);
}

/* Which trees an interpreter takes for its own: that of a virtual environment, by how it was called or by
 * what was set, and the one where it is installed. */
static void look_at_python(Paths *p, const char *executable, const char *environment, size_t size) {
        static const char key[] = "VIRTUAL_ENV=";
        const char *name = path_basename(executable);
        char called[PATH_MAX], path[PATH_MAX];

        if (strncmp(name, "python", strlen("python")) != 0)
                return;
        (void) paths_read_proc(p->process.dfd, "cmdline", called, sizeof(called));
        look_at_tree(p, called, name);
        explicit_bzero(called, sizeof(called)); /* more than how it was called is in there */
        look_at_tree(p, executable, name);
        for (const char *e = environment; e < environment + size; e += strlen(e) + 1)
                if (strncmp(e, key, strlen(key)) == 0 &&
                    paths_simplify(e + strlen(key), strlen(e + strlen(key)), NULL, path))
                        paths_from_python(path, name, on_directory, p);
}

static bool is_ours(int dfd, pid_t pid) {
        return pid == getppid() || proc_is_own_kind(dfd);
}

static void look_at_all(Paths *p, const char *environment, size_t size) {
        char executable[PATH_MAX];

        if (!proc_read_link(p->process.dfd, "exe", executable) || !paths_process_read(&p->process))
                return; /* it has ended */
        p->n_paths = 0;
        paths_from_environment(
                environment, size, path_basename(executable), p->config->variables, on_directory, p);
        look_at_executable(p, executable);
        look_at_python(p, executable, environment, size);
}

static bool is_old(const Paths *p) {
        return p->process.start_usec < p->since_usec || !p->process.has_executed;
}

/* is_scan: nobody has told of it. */
static void look_at(Paths *p, int dfd, pid_t pid, bool is_scan) {
        static char environment[ENVIRONMENT_MOST];
        size_t size;

        if (p->is_busy)
                paths_say_busy(p, NULL);
        size = is_scan ? 0
                       : paths_read_proc(dfd, "environ", environment, sizeof(environment)); /* it may end */
        if (paths_process_begin(&p->process, dfd, pid) && !(is_scan && is_old(p)) && !is_ours(dfd, pid)) {
                if (is_scan)
                        size = paths_read_proc(dfd, "environ", environment, sizeof(environment));
                look_at_all(p, environment, size);
        }
        explicit_bzero(environment, size);
        paths_process_done(&p->process);
}

/* They were too many at once. */
static void note_missed(Paths *p) {
        if (!p->has_missed)
                p->scan_usec = p->now_usec + USEC_PER_SEC;
        p->has_missed = true;
}

/* Whether there is time for one more in this second. */
static bool may_look(Paths *p) {
        if (p->now_usec >= p->second_usec + USEC_PER_SEC) {
                p->second_usec = p->now_usec;
                p->n_programs = 0;
                p->spent_usec = 0;
        }
        return p->n_programs < PROGRAMS_PER_SEC && p->spent_usec < SPENT_PER_SEC;
}

static void look_and_account(Paths *p, int dfd, pid_t pid, bool is_scan) {
        uint64_t begin = now_monotonic_usec();

        look_at(p, dfd, pid, is_scan);
        p->now_usec = now_monotonic_usec();
        p->spent_usec += p->now_usec - begin;
}

static int on_event(pid_t pid, void *userdata) {
        _cleanup_close_ int dfd = -EBADF;
        Paths *p = userdata;
        char name[32];

        if (p->overlays.n == 0)
                return 0;
        if (!may_look(p)) {
                note_missed(p);
                return 0;
        }
        (void) snprintf(name, sizeof(name), "/proc/%i", pid);
        dfd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        p->n_programs++;
        if (dfd >= 0) /* else it has ended */
                look_and_account(p, dfd, pid, /* is_scan= */ false);
        return 0;
}

/* Without events, or where some were missed: who was started since. Who was there before has been told of,
 * or began to search before anybody looked. */

static bool wants_scan(const Paths *p) {
        return p->overlays.n > 0 && (p->events_fd < 0 || p->has_missed);
}

static int on_process(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid = proc_pid_from_name(name);
        Paths *p = userdata;

        if (pid > 0)
                fd = openat(dfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        if (!may_look(p))
                return -EAGAIN;
        look_and_account(p, fd, pid, /* is_scan= */ true);
        return 0;
}

/* What does not fit into a second comes with the next scan, as do those that have been looked at: they count
 * once, and what they search is known by then. */
static int scan(Paths *p) {
        _cleanup_close_ int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        uint64_t begin = now_boottime_usec();
        bool had_counts = p->has_counts;
        int r;

        p->second_usec = 0;
        r = fd < 0 ? -errno : dir_foreach(fd, on_process, p);
        p->scan_pause_usec = p->has_counts && !had_counts ? SCAN_FIRST_USEC
                                                          : pause_next(p->scan_pause_usec, SCAN_LAST_USEC);
        p->scan_usec = p->now_usec + p->scan_pause_usec;
        if (r == -EAGAIN)
                return 0;
        p->since_usec = begin - SINCE_SLACK;
        p->has_missed = false;
        return r;
}

/* Telling. */

static int tell(Paths *p) {
        PathsKnown *k, *next;
        int r = 0;

        p->has_counts = p->is_full = false;
        HASH_ITER(hh, p->known, k, next) {
                if (k->n > 0 && r >= 0)
                        r = p->config->use(k->overlay, k->relative, k->n, p->config->userdata);
                k->n = 0;
                if (p->now_usec >= k->until_usec)
                        paths_known_drop(p, k);
        }
        if (r < 0 || !p->is_busy)
                return r;
        p->is_busy = false;
        return p->config->status(/* is_busy= */ false, NULL, p->reason, p->config->userdata);
}

/* What runs already on an overlay that comes counts no more than what ran before us. */
static int take_control(Paths *p) {
        int r = overlay_set_receive(&p->overlays, p->config->control_fd);
        bool has_changed = r > 0;

        if (r > 0)
                r = tell(p);
        if (r < 0 || !has_changed)
                return r;
        paths_known_drop_all(p);
        p->scan_pause_usec = SCAN_FIRST_USEC;
        p->scan_usec = p->now_usec;
        return 0;
}

static int take_events(Paths *p) {
        int r = paths_read_events(p->events_fd, on_event, p);

        if (r == -ENOBUFS) {
                note_missed(p);
                return 0;
        }
        if (r == 0 && !p->has_missed)
                p->since_usec = now_boottime_usec() - SINCE_SLACK;
        return r;
}

static int wait_for_something(Paths *p) {
        struct pollfd fds[] = {
                { .fd = p->config->control_fd, .events = POLLIN },
                { .fd = p->events_fd, .events = POLLIN },
                { .fd = p->signal_fd, .events = POLLIN },
        };
        uint64_t now = now_monotonic_usec(), until = USEC_INFINITY;
        int msec, r;

        if (p->has_counts || p->is_busy)
                until = p->tell_usec;
        if (wants_scan(p) && p->scan_usec < until)
                until = p->scan_usec;
        msec = until == USEC_INFINITY ? -1 : until <= now ? 0 : (int) ((until - now) / USEC_PER_MSEC + 1);
        r = poll(fds, ELEMENTSOF(fds), msec);
        p->now_usec = now_monotonic_usec();
        if (r < 0)
                return errno == EINTR ? 0 : -errno;
        if (fds[2].revents)
                return -ECANCELED;
        r = fds[0].revents ? take_control(p) : 0;
        return r >= 0 && fds[1].revents ? take_events(p) : r;
}

static int work(Paths *p) {
        int r = wait_for_something(p);

        if (r >= 0 && wants_scan(p) && p->now_usec >= p->scan_usec)
                r = scan(p);
        paths_leave_root(p);
        if (r >= 0 && (p->has_counts || p->is_busy) && p->now_usec >= p->tell_usec)
                r = tell(p);
        return r;
}

/* Not by the signal: the kernel has to be told that nobody listens any more. */
static int catch_signal(Paths *p) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        p->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return p->signal_fd < 0 ? -errno : 0;
}

static int begin(Paths *p) {
        int r = catch_signal(p);

        p->since_usec = now_boottime_usec();
        p->counted = calloc(COUNTED_SLOTS, sizeof(uint64_t));
        if (r >= 0 && !p->counted)
                r = -ENOMEM;
        if (r < 0)
                return r;
        p->events_fd = paths_open_events();
        if (p->events_fd < 0)
                (void) snprintf(
                        p->reason, sizeof(p->reason),
                        "the kernel does not tell which programs start (%s), so that only those are seen "
                        "that run for some time",
                        strerror(-p->events_fd));
        return p->config->status(/* is_busy= */ false, NULL, p->reason, p->config->userdata);
}

static void paths_done(Paths *p) {
        paths_known_drop_all(p);
        overlay_set_done(&p->overlays);
        paths_leave_root(p);
        (void) paths_close_events(p->events_fd);
        (void) fd_close(p->signal_fd);
        free(p->counted);
}

int paths_run(const PathsConfig *c, Failure *reterr) {
        _cleanup_(paths_done) Paths p = {
                .config = c,
                .events_fd = -EBADF,
                .signal_fd = -EBADF,
                .root_fd = -EBADF,
                .scan_pause_usec = SCAN_FIRST_USEC,
        };
        int r = begin(&p);

        while (r >= 0)
                r = work(&p);
        return r == -ECANCELED ? 0
                               : failure_set_errno(reterr, r, "cannot look for search paths of programs");
}
