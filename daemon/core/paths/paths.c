/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The loop of the source "paths": who starts is looked at once, by descriptors of its directory in /proc, so
 * that another process with its PID is not mistaken for it. What it searches is counted by directory and
 * told once a second. Nothing wakes us while no program starts. */
#include <elf.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/hash.h"
#include "base/path-util.h"
#include "base/proc-scan.h"
#include "core/mount/mount-clone.h"
#include "core/mount/overlay-set.h"
#include "core/paths/paths-internal.h"

#define TELL_USEC USEC_PER_SEC
#define KNOWN_MOST 4096u
#define KNOWN_USEC (300 * USEC_PER_SEC) /* until it is looked up anew */
#define COUNTED_SLOTS (1u << 16)
#define ENVIRONMENT_MOST (256u * 1024)
#define PROGRAMS_PER_SEC 250u /* beyond that one is as good as the other */
#define SCAN_FIRST_USEC USEC_PER_SEC
#define SCAN_LAST_USEC (60 * USEC_PER_SEC)

/* What a path leads to. */
typedef struct Known {
        UT_hash_handle hh;
        uint64_t until_usec;
        char *overlay;  /* its name; NULL: to no directory of one */
        char *relative; /* without symlinks */
        uint64_t n;     /* programs, not told yet */
        char path[];
} Known;

typedef struct Paths {
        const PathsConfig *config;
        OverlaySet overlays;
        Known *known;
        int events_fd;     /* -EBADF: the processes there are get looked at */
        char reason[200];  /* "" none */
        uint64_t *counted; /* of a process and a directory, by hash; what was long ago is overwritten */
        bool has_counts, is_busy;
        uint64_t tell_usec, scan_usec, scan_pause_usec;
        uint64_t second_usec; /* begin of that in which n_programs have been looked at */
        bool has_missed;      /* programs that are still there get looked at, at scan_usec */
        unsigned n_programs;
        /* The program that is looked at. */
        uint64_t program; /* hash of its PID and when it was started */
        unsigned n_directories;
        uint64_t now_usec;
        int root_fd; /* of root_of, through a mount of our own */
        const OverlayPlace *root_of;
} Paths;

/* What paths lead to. */

static void known_drop(Paths *p, Known *k) {
        HASH_DEL(p->known, k);
        free(k->overlay);
        free(k->relative);
        free(k);
}

static void known_drop_all(Paths *p) {
        Known *k, *next;

        HASH_ITER(hh, p->known, k, next)
        known_drop(p, k);
}

static bool known_make_room(Paths *p) {
        Known *k, *next;

        HASH_ITER(hh, p->known, k, next) {
                if (k->n == 0)
                        known_drop(p, k);
        }
        return HASH_COUNT(p->known) < KNOWN_MOST;
}

static int open_root(Paths *p, const OverlayPlace *place) {
        struct statx st;

        if (p->root_of == place)
                return 0;
        p->root_fd = fd_close(p->root_fd);
        p->root_of = NULL;
        p->root_fd = mount_clone_open(place->mount_point, O_PATH);
        if (p->root_fd < 0)
                return p->root_fd;
        if (statx(p->root_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 ||
            makedev(st.stx_dev_major, st.stx_dev_minor) != place->device)
                return -ENODEV;
        p->root_of = place;
        return 0;
}

static int open_directory(const Paths *p, const char *path, uint64_t resolve) {
        struct open_how how = {
                .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | resolve,
        };
        long fd = syscall(SYS_openat2, p->root_fd, path, &how, sizeof(how));

        return fd < 0 ? -errno : (int) fd;
}

/* Where it is without symlinks; *ret NULL: nowhere on the overlay. */
static int look_up(const Paths *p, const char *relative, char **ret) {
        _cleanup_close_ int fd = open_directory(p, relative, RESOLVE_NO_SYMLINKS);
        _cleanup_free_ char *root = NULL, *path = NULL;
        const char *rest;

        if (fd >= 0) {
                *ret = strdup(relative);
                return *ret ? 0 : -ENOMEM;
        }
        if (fd != -ELOOP)
                return fd;
        fd = open_directory(p, relative, 0);
        if (fd < 0)
                return fd;
        if (fd_path(p->root_fd, &root) < 0 || fd_path(fd, &path) < 0)
                return -ENOENT;
        rest = path_startswith(path, root);
        *ret = rest ? strdup(rest) : NULL;
        return rest && !*ret ? -ENOMEM : 0;
}

/* Before what may hang, once in a while. */
static int say_busy(Paths *p) {
        if (p->is_busy)
                return 0;
        p->is_busy = true;
        p->tell_usec = p->has_counts ? p->tell_usec : p->now_usec + TELL_USEC;
        return p->config->status(/* is_busy= */ true, p->reason, p->config->userdata);
}

static void resolve(Paths *p, Known *k, const OverlayPlace *place, const char *relative) {
        (void) say_busy(p);
        if (open_root(p, place) < 0 || look_up(p, relative, &k->relative) < 0 || !k->relative)
                return;
        /* The root is always merged; what begins with this is ours. */
        if (k->relative[0] != '\0' && strncmp(k->relative, ".ovlfind", strlen(".ovlfind")) != 0)
                k->overlay = strdup(place->name);
}

static Known *known_get(Paths *p, const char *path, const OverlayPlace *place, const char *relative) {
        Known *k = NULL;

        HASH_FIND_STR(p->known, path, k);
        if (k && (k->n > 0 || p->now_usec < k->until_usec))
                return k;
        if (k)
                known_drop(p, k);
        if (HASH_COUNT(p->known) >= KNOWN_MOST && !known_make_room(p))
                return NULL;
        k = calloc(1, sizeof(Known) + strlen(path) + 1);
        if (!k)
                return NULL;
        strcpy(k->path, path);
        k->until_usec = p->now_usec + KNOWN_USEC;
        resolve(p, k, place, relative);
        HASH_ADD_STR(p->known, path, k);
        return k;
}

/* Whether it is the first time that this program comes to a directory; NULL: or is seen at all. */
static bool is_first(const Paths *p, const Known *k) {
        uint64_t key[] = { p->program, k ? hash_bytes(k->overlay, strlen(k->overlay)) : 0,
                           k ? hash_bytes(k->relative, strlen(k->relative)) : 0 };
        uint64_t hash = hash_bytes(key, sizeof(key)), *slot = p->counted + hash % COUNTED_SLOTS;

        if (*slot == hash)
                return false;
        *slot = hash;
        return true;
}

static void on_directory(const char *path, void *userdata) {
        Paths *p = userdata;
        const char *relative;
        const OverlayPlace *place = overlay_set_find(&p->overlays, path, &relative);
        Known *k;

        if (!place || p->n_directories++ >= PATHS_PROGRAM_MOST)
                return;
        k = known_get(p, path, place, relative);
        if (!k || !k->overlay)
                return;
        if (!is_first(p, k))
                return;
        k->n++;
        if (!p->has_counts && !p->is_busy)
                p->tell_usec = p->now_usec + TELL_USEC;
        p->has_counts = true;
}

/* What a program says. */

static bool is_on_overlay(const Paths *p, const char *path) {
        const char *relative;

        return overlay_set_find(&p->overlays, path, &relative) != NULL;
}

/* All of a file of /proc, as much as is taken; ret[n] is NUL. */
static size_t read_some(int dfd, const char *name, char *ret, size_t room) {
        _cleanup_close_ int fd = openat(dfd, name, O_RDONLY | O_CLOEXEC);
        size_t used = 0;
        ssize_t n;

        while (fd >= 0 && used < room - 1 && (n = read(fd, ret + used, room - 1 - used)) > 0)
                used += (size_t) n;
        ret[used] = '\0';
        return used;
}

/* Field 22; the second one may hold anything, blanks and parentheses included. */
static bool read_start(int dfd, pid_t pid, uint64_t *ret) {
        char text[1024];
        unsigned long long start;
        const char *p;

        if (read_some(dfd, "stat", text, sizeof(text)) == 0)
                return false;
        p = strrchr(text, ')');
        for (int i = 2; p && i < 22; i++)
                p = strchr(p + 1, ' ');
        if (!p || sscanf(p, " %llu", &start) != 1)
                return false;
        *ret = hash_bytes(&(uint64_t[2]){ (uint64_t) pid, start }, 2 * sizeof(uint64_t));
        return true;
}

static int read_memory(uint64_t address, void *buffer, size_t size, void *userdata) {
        ssize_t n = pread(*(const int *) userdata, buffer, size, (off_t) address);

        return n < 0 ? -errno : (size_t) n < size ? -EFAULT : 0;
}

/* What an executable on an overlay asks for, by $ORIGIN or not. */
static void look_at_executable(Paths *p, int dfd, const char *executable) {
        _cleanup_close_ int memory = openat(dfd, "mem", O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *origin = path_dirname(executable);
        uint64_t auxv[128], headers = 0, n_headers = 0;
        size_t n = read_some(dfd, "auxv", (char *) auxv, sizeof(auxv)) / sizeof(uint64_t);
        char list[PATH_MAX];

        if (sizeof(long) != sizeof(uint64_t) || memory < 0 || !origin)
                return;
        for (size_t i = 0; i + 1 < n && auxv[i] != AT_NULL; i += 2) {
                headers = auxv[i] == AT_PHDR ? auxv[i + 1] : headers;
                n_headers = auxv[i] == AT_PHNUM ? auxv[i + 1] : n_headers;
        }
        (void) say_busy(p); /* what is read may have to come from the lower */
        if (headers && paths_from_elf(headers, n_headers, read_memory, &memory, list) > 0)
                paths_split(list, ":", origin, on_directory, p);
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
static void look_at_python(Paths *p, int dfd, const char *executable, const char *environment, size_t size) {
        static const char key[] = "VIRTUAL_ENV=";
        const char *name = path_basename(executable);
        char called[PATH_MAX], path[PATH_MAX];

        if (strncmp(name, "python", strlen("python")) != 0)
                return;
        (void) read_some(dfd, "cmdline", called, sizeof(called));
        look_at_tree(p, called, name);
        look_at_tree(p, executable, name);
        for (const char *e = environment; e < environment + size; e += strlen(e) + 1)
                if (strncmp(e, key, strlen(key)) == 0 &&
                    paths_simplify(e + strlen(key), strlen(e + strlen(key)), NULL, path))
                        paths_from_python(path, name, on_directory, p);
}

static bool is_ours(int dfd, pid_t pid) {
        return pid == getppid() || proc_is_own_kind(dfd);
}

static int look_at(pid_t pid, void *userdata) {
        static char environment[ENVIRONMENT_MOST];
        char name[32], executable[PATH_MAX];
        _cleanup_close_ int dfd = -EBADF;
        Paths *p = userdata;
        size_t size;

        (void) snprintf(name, sizeof(name), "/proc/%i", pid);
        dfd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dfd < 0)
                return 0;                                                   /* it has ended */
        size = read_some(dfd, "environ", environment, sizeof(environment)); /* first: it may end at once */
        if (!read_start(dfd, pid, &p->program) || is_ours(dfd, pid))
                return 0;
        (void) is_first(p, NULL); /* it need not be looked for */
        p->n_directories = 0;
        paths_from_environment(environment, size, p->config->variables, on_directory, p);
        if (proc_read_link(dfd, "exe", executable)) {
                if (is_on_overlay(p, executable))
                        look_at_executable(p, dfd, executable);
                look_at_python(p, dfd, executable, environment, size);
        }
        explicit_bzero(environment, size);
        return 0;
}

static void leave_root(Paths *p) {
        p->root_fd = fd_close(p->root_fd);
        p->root_of = NULL;
}

/* They were too many at once. */
static void note_missed(Paths *p) {
        if (!p->has_missed)
                p->scan_usec = p->now_usec + USEC_PER_SEC;
        p->has_missed = true;
}

static int on_event(pid_t pid, void *userdata) {
        Paths *p = userdata;

        if (p->now_usec >= p->second_usec + USEC_PER_SEC) {
                p->second_usec = p->now_usec;
                p->n_programs = 0;
        }
        if (p->overlays.n == 0)
                return 0;
        if (++p->n_programs <= PROGRAMS_PER_SEC)
                return look_at(pid, p);
        note_missed(p);
        return 0;
}

/* Without events, or where some were missed. */

static bool wants_scan(const Paths *p) {
        return p->overlays.n > 0 && (p->events_fd < 0 || p->has_missed);
}

static int on_process(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid = proc_pid_from_name(name);
        Paths *p = userdata;

        if (pid > 0)
                fd = openat(dfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd >= 0 && read_start(fd, pid, &p->program) && is_first(p, NULL) ? look_at(pid, p) : 0;
}

static int scan(Paths *p) {
        _cleanup_close_ int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        uint64_t pause = p->scan_pause_usec * 2;
        bool had_counts = p->has_counts;
        int r = fd < 0 ? -errno : dir_foreach(fd, on_process, p);

        p->scan_pause_usec = p->has_counts && !had_counts ? SCAN_FIRST_USEC
                : pause < SCAN_LAST_USEC                  ? pause
                                                          : SCAN_LAST_USEC;
        p->scan_usec = now_monotonic_usec() + p->scan_pause_usec;
        p->has_missed = false;
        return r;
}

/* Telling. */

static int tell(Paths *p) {
        Known *k, *next;
        int r = 0;

        p->has_counts = false;
        HASH_ITER(hh, p->known, k, next) {
                if (k->n > 0 && r >= 0)
                        r = p->config->use(k->overlay, k->relative, k->n, p->config->userdata);
                k->n = 0;
                if (p->now_usec >= k->until_usec)
                        known_drop(p, k);
        }
        if (r < 0 || !p->is_busy)
                return r;
        p->is_busy = false;
        return p->config->status(/* is_busy= */ false, p->reason, p->config->userdata);
}

static int take_control(Paths *p) {
        int r = overlay_set_receive(&p->overlays, p->config->control_fd);
        bool has_changed = r > 0;

        if (r > 0)
                r = tell(p);
        if (r < 0 || !has_changed)
                return r;
        known_drop_all(p);
        if (p->events_fd < 0)
                memset(p->counted, 0, COUNTED_SLOTS * sizeof(uint64_t));
        p->scan_pause_usec = SCAN_FIRST_USEC;
        p->scan_usec = p->now_usec;
        return 0;
}

static int wait_for_something(Paths *p) {
        struct pollfd fds[] = {
                { .fd = p->config->control_fd, .events = POLLIN },
                { .fd = p->events_fd, .events = POLLIN },
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
        r = fds[0].revents ? take_control(p) : 0;
        if (r >= 0 && fds[1].revents)
                r = paths_read_events(p->events_fd, on_event, p);
        if (r != -ENOBUFS)
                return r;
        note_missed(p);
        return 0;
}

static int work(Paths *p) {
        int r = wait_for_something(p);

        if (r >= 0 && wants_scan(p) && p->now_usec >= p->scan_usec)
                r = scan(p);
        leave_root(p);
        if (r >= 0 && (p->has_counts || p->is_busy) && p->now_usec >= p->tell_usec)
                r = tell(p);
        return r;
}

static int begin(Paths *p) {
        p->counted = calloc(COUNTED_SLOTS, sizeof(uint64_t));
        if (!p->counted)
                return -ENOMEM;
        p->events_fd = paths_open_events();
        if (p->events_fd < 0)
                (void) snprintf(
                        p->reason, sizeof(p->reason),
                        "the kernel does not tell which programs start (%s), so that only those are seen "
                        "that "
                        "run for some time",
                        strerror(-p->events_fd));
        return p->config->status(/* is_busy= */ false, p->reason, p->config->userdata);
}

static void paths_done(Paths *p) {
        known_drop_all(p);
        overlay_set_done(&p->overlays);
        leave_root(p);
        (void) fd_close(p->events_fd);
        free(p->counted);
}

int paths_run(const PathsConfig *c, Failure *reterr) {
        _cleanup_(paths_done) Paths p = {
                .config = c, .events_fd = -EBADF, .root_fd = -EBADF, .scan_pause_usec = SCAN_FIRST_USEC
        };
        int r = begin(&p);

        while (r >= 0)
                r = work(&p);
        return r == -ECANCELED ? 0
                               : failure_set_errno(reterr, r, "cannot look for search paths of programs");
}
