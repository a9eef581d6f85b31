/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/throttle.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/lock.h"
#include "core/context/context.h"

/* Tasks that wait for disks or memory, percent of the last ten seconds. Ours are among them, but it takes
 * more than those: the lower layer's answers are not waited for as a disk's are. */
#define PRESSURE_IO 25.0
#define PRESSURE_MEMORY 10.0
#define PRESSURE_LOOK_USEC (2 * USEC_PER_SEC)
#define SLICE_USEC (100 * USEC_PER_MSEC) /* until a cancel is noticed */
#define START_ASKED 8u                   /* requests under way at first, when somebody waits; and when not */
#define START_UNASKED 2u
/* Answers that take so many times as long tell that others wait for us. */
#define SLOWER_ASKED 2.0
#define SLOWER_UNASKED 1.3

struct Throttle {
        pthread_mutex_t lock;
        Bucket bucket;
        Aimd aimd;
        Histogram answers; /* PACE_ENTRY */
        bool adapts, yields;
        uint64_t looked_usec; /* at the pressure; monotonic */
        bool is_pressed;
        atomic_uint n_waiting;
};

int throttle_new(unsigned n_threads, bool adapts, uint64_t rate, bool yields, Throttle **ret) {
        Throttle *t = calloc(1, sizeof(Throttle));

        if (!t)
                return -ENOMEM;
        *t = (Throttle){ .bucket.rate = rate, .adapts = adapts, .yields = yields };
        aimd_init(
                &t->aimd,
                !adapts          ? n_threads
                        : yields ? START_UNASKED
                                 : START_ASKED,
                n_threads, yields ? SLOWER_UNASKED : SLOWER_ASKED);
        (void) pthread_mutex_init(&t->lock, NULL);
        *ret = t;
        return 0;
}

Throttle *throttle_free(Throttle *t) {
        if (t)
                (void) pthread_mutex_destroy(&t->lock);
        free(t);
        return NULL;
}

static bool is_above(int dfd, const char *name, double limit) {
        _cleanup_free_ char *text = NULL;
        double percent;

        return file_read(dfd, name, 4096, &text, NULL) >= 0 && pressure_parse(text, &percent) >= 0 &&
                percent > limit;
}

/* A kernel without PSI is never under pressure. */
static bool look_at_pressure(void) {
        _cleanup_close_ int dfd = open("/proc/pressure", O_PATH | O_DIRECTORY | O_CLOEXEC);

        return dfd >= 0 && (is_above(dfd, "io", PRESSURE_IO) || is_above(dfd, "memory", PRESSURE_MEMORY));
}

static bool is_pressed(Throttle *t, uint64_t now) {
        bool r;

        if (!t->yields)
                return false;
        LOCKED(&t->lock);
        if (now - t->looked_usec > PRESSURE_LOOK_USEC) {
                t->looked_usec = now;
                t->is_pressed = look_at_pressure();
        }
        r = t->is_pressed;
        return r;
}

static void pause_usec(uint64_t usec) {
        const struct timespec ts = {
                .tv_sec = (time_t) (usec / USEC_PER_SEC),
                .tv_nsec = (long) (usec % USEC_PER_SEC * NSEC_PER_USEC),
        };

        (void) nanosleep(&ts, NULL);
}

void throttle_wait(Throttle *t, const Context *context, uint64_t n) {
        uint64_t now = now_monotonic_usec(), until;

        if (!t)
                return;
        (void) pthread_mutex_lock(&t->lock);
        until = now + bucket_take(&t->bucket, n, now);
        (void) pthread_mutex_unlock(&t->lock);
        if (until <= now && !is_pressed(t, now))
                return;
        atomic_fetch_add(&t->n_waiting, 1);
        while (!context_is_canceled(context) && (now < until || is_pressed(t, now))) {
                uint64_t left = now < until ? until - now : SLICE_USEC;

                pause_usec(left < SLICE_USEC ? left : SLICE_USEC);
                now = now_monotonic_usec();
        }
        atomic_fetch_sub(&t->n_waiting, 1);
}

bool throttle_is_waiting(const Throttle *t) {
        return t && atomic_load(&t->n_waiting) > 0;
}

void throttle_observe(Throttle *t, Pool *pool, PaceKind kind, uint64_t usec) {
        if (!t)
                return;
        LOCKED(&t->lock);
        if (kind == PACE_ENTRY)
                histogram_add(&t->answers, usec);
        if (t->adapts && aimd_observe(&t->aimd, kind, usec))
                pool_set_limit(pool, t->aimd.limit);
}

void throttle_copy_answers(Throttle *t, Histogram *ret) {
        *ret = (Histogram){ 0 };
        if (!t)
                return;
        LOCKED(&t->lock);
        *ret = t->answers;
}

void throttle_apply(Throttle *t, Pool *pool) {
        if (t)
                pool_set_limit(pool, t->aimd.limit);
}

typedef struct Room {
        const char *key, *unit;
        uint64_t available, needed;
} Room;

static bool is_below(const Floor *f, const Room *room, uint64_t total) {
        uint64_t available = room->available - room->needed;

        if (room->needed > room->available)
                return true;
        return f->is_percent ? (double) available * 100 < (double) total * (double) f->value
                             : available < f->value;
}

static int
too_little(const Context *context, const char *path, const Room *room, const Floor *f, Failure *reterr) {
        return failure_set(
                reterr, FAILURE_NO_SPACE, ENOSPC,
                "no space for '%s/%s': its upper layer has %llu %s left, and %s=%llu%s are to stay free; "
                "make room, or ask for less",
                context->overlay->mount_point, path, (unsigned long long) room->available, room->unit,
                room->key, (unsigned long long) f->value, f->is_percent ? "%" : "");
}

int guard_room(const Context *context, const char *path, uint64_t bytes, Failure *reterr) {
        const ContextOptions *o = &context->options;
        Room space = { "MinFreeSpace", "bytes" }, inodes = { "MinFreeInodes", "inodes" };
        struct statvfs st;

        if (fstatvfs(context->upper_fd, &st) < 0)
                return failure_set_errno(reterr, -errno, "cannot see how full the upper layer is");
        space.available = st.f_bavail * st.f_frsize;
        space.needed = bytes;
        inodes.available = st.f_favail;
        /* A file system that does not count says 0 of 0. */
        if (st.f_blocks > 0 && is_below(&o->min_free_space, &space, st.f_blocks * st.f_frsize))
                return too_little(context, path, &space, &o->min_free_space, reterr);
        if (st.f_files > 0 && is_below(&o->min_free_inodes, &inodes, st.f_files))
                return too_little(context, path, &inodes, &o->min_free_inodes, reterr);
        return 0;
}
