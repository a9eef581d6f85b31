/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/patience.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs-util.h"

#define STAT_MAX ((size_t) 4096) /* of /proc/PID/stat */

#define LOOK_USEC (300 * USEC_PER_MSEC) /* a look that does not hang takes less than a thousandth of it */

#define LOOK_MIN_USEC                                                                                       \
        (50 * USEC_PER_MSEC) /* when patience is gone: those that do not hang are answered nevertheless */

/* Shared by the one who waits and the thread; freed by the last of the two. */
typedef struct Look {
        atomic_int n_users;
        atomic_int thread; /* 0: it has not begun */
        int (*func)(struct Look *l);
        int result;
        char *text;
        mode_t type;
        int mount_id;
        patience_func call;
        void *userdata; /* of call, while this owns it */
        void (*userdata_free)(void *userdata);
        char path[];
} Look;

static void look_unref(Look *l) {
        if (atomic_fetch_sub(&l->n_users, 1) > 1)
                return;
        if (l->userdata)
                l->userdata_free(l->userdata);
        free(l->text);
        free(l);
}

static void look_unrefp(Look **l) {
        if (*l)
                look_unref(*l);
}

static int read_text(Look *l) {
        _cleanup_fclose_ FILE *f = fopen(l->path, "re");
        size_t size = 0;

        if (!f)
                return -errno;
        errno = 0;
        if (getdelim(&l->text, &size, '\0', f) >= 0)
                return 0;
        if (ferror(f))
                return errno > 0 ? -errno : -EIO;
        free(l->text); /* room for a text, with anything in it */
        l->text = NULL;
        return 0;
}

/* Not asking the server for what is cached keeps most file systems from hanging at all. */
static int read_stat(Look *l) {
        struct statx st;

        if (statx(AT_FDCWD, l->path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID, &st) <
            0)
                return -errno;
        l->type = st.stx_mode & S_IFMT;
        l->mount_id = (int) st.stx_mnt_id;
        return 0;
}

static int make_call(Look *l) {
        return l->call(l->userdata);
}

static void *look_run(void *userdata) {
        Look *l = userdata;

        atomic_store(&l->thread, gettid());
        l->result = l->func(l);
        look_unref(l);
        return NULL;
}

static Look *look_new(const char *path, int (*func)(Look *l)) {
        size_t size = strlen(path) + 1;
        Look *l = malloc(sizeof(Look) + size);

        if (!l)
                return NULL;
        *l = (Look){ .n_users = 2, .func = func };
        memcpy(l->path, path, size);
        return l;
}

/* What a thread does: 'R' runs, or would if it had a processor; 'D' and 'S' wait; '?' unknown. 0: it has
 * ended. */
static char thread_state(int tasks_fd, const char *thread) {
        _cleanup_free_ char *text = NULL;
        char path[NAME_MAX + sizeof("/stat")];
        const char *state;
        size_t size;
        int r;

        (void) snprintf(path, sizeof(path), "%s/stat", thread);
        r = file_read(tasks_fd, path, STAT_MAX, &text, &size);
        if (r < 0)
                return r == -ENOENT || r == -ESRCH ? 0 : '?';
        state = strrchr(text, ')'); /* "PID (NAME) STATE …" */
        return state && state[1] == ' ' ? state[2] : '?';
}

/* Whether it is not the kernel that keeps it, but others who have their turn on the processors: that ends,
 * and is nothing to hold against whoever is looked at. So does a look that has just ended. */
static bool is_starved(const Look *l) {
        _cleanup_close_ int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int thread = atomic_load(&l->thread);
        char name[16], state;

        if (thread == 0)
                return true;
        (void) snprintf(name, sizeof(name), "%d", thread);
        state = fd < 0 ? '?' : thread_state(fd, name);
        return state == 'R' || state == 0;
}

static int find_running(int tasks_fd, const char *thread, unsigned char type, void *userdata) {
        return thread_state(tasks_fd, thread) == 'R' ? -EEXIST : 0;
}

/* Whether it may be the process itself that has no turn, and keeps a lock meanwhile: one that is nice, on a
 * machine where others are busy. One that spins while it hangs looks the same, so there is an end to it. */
static bool is_held_up(Patience *p, pid_t process, uint64_t usec) {
        _cleanup_close_ int fd = -EBADF;
        char path[64];

        if (process <= 0 || p->held_up_usec < usec)
                return false;
        (void) snprintf(path, sizeof(path), "/proc/%d/task", (int) process);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || dir_foreach(fd, find_running, NULL) != -EEXIST)
                return false;
        p->held_up_usec -= usec;
        return true;
}

static int look_start(Patience *p, Look *l, pid_t process) {
        uint64_t look_usec = p->look_usec ?: LOOK_USEC,
                 usec = p->left_usec < look_usec ? LOOK_MIN_USEC : look_usec;
        struct timespec deadline;
        pthread_t thread;
        int r = pthread_create(&thread, NULL, look_run, l);

        if (r != 0) {
                look_unref(l); /* for the thread there is not */
                return -r;
        }
        do {
                deadline = clock_deadline(usec);
                r = pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &deadline);
        } while (r == ETIMEDOUT && (is_starved(l) || is_held_up(p, process, usec)));
        if (r == 0)
                return l->result;
        (void) pthread_detach(thread);
        p->left_usec -= usec < p->left_usec ? usec : p->left_usec;
        return -r;
}

int patience_read(Patience *p, pid_t process, const char *path, char **ret) {
        _cleanup_(look_unrefp) Look *l = look_new(path, read_text);
        int r;

        if (!l)
                return -ENOMEM;
        r = look_start(p, l, process);
        if (r < 0)
                return r;
        if (!l->text) { /* the file is empty */
                *ret = strdup("");
                return *ret ? 0 : -ENOMEM;
        }
        *ret = TAKE_PTR(l->text);
        return 0;
}

int patience_stat(Patience *p, const char *path, mode_t *ret_type, int *ret_mount_id) {
        _cleanup_(look_unrefp) Look *l = look_new(path, read_stat);
        int r;

        if (!l)
                return -ENOMEM;
        r = look_start(p, l, /* process= */ 0);
        if (r < 0)
                return r;
        if (ret_type)
                *ret_type = l->type;
        if (ret_mount_id)
                *ret_mount_id = l->mount_id;
        return 0;
}

int patience_call(Patience *p, patience_func func, void *userdata, void (*userdata_free)(void *userdata)) {
        _cleanup_(look_unrefp) Look *l = look_new("", make_call);
        int r;

        if (!l)
                return -ENOMEM;
        l->call = func;
        l->userdata_free = userdata_free;
        l->userdata = userdata;
        r = look_start(p, l, /* process= */ 0);
        if (r != -ETIMEDOUT)
                l->userdata = NULL; /* the thread has ended: it is the caller's again */
        return r;
}
