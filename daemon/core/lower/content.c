/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies are made piece by piece, so that a cancel is noticed and room is asked for on the way. Nothing is
 * written that the source does not have: holes stay holes. */
#include "core/lower/content.h"

#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"

/* Read and written at once: after each, a cancel is noticed. */
#define PIECE_SIZE (256 * 1024)
/* Written between two looks at how full the upper is. */
#define ROOM_BYTES (UINT64_C(64) << 20)

/* The next piece of data at or after *begin. 1; 0: there is none. Where nobody tells, all is data. */
static int next_data(int fd, off_t size, off_t *begin, off_t *ret_end) {
        off_t at = lseek(fd, *begin, SEEK_DATA);

        if (at < 0 && errno == ENXIO)
                return 0;
        if (at < 0 && errno != EINVAL && errno != EOPNOTSUPP)
                return -errno;
        if (at > *begin)
                *begin = at;
        *ret_end = at < 0 ? -1 : lseek(fd, *begin, SEEK_HOLE);
        if (*ret_end <= *begin || *ret_end > size)
                *ret_end = size;
        return *begin < size;
}

int content_measure(int fd, uint64_t step, uint64_t *ret) {
        uint64_t total = 0;
        struct stat st;
        off_t at = 0, end;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        while ((r = next_data(fd, st.st_size, &at, &end)) > 0) {
                uint64_t n = ((uint64_t) (end - at) + step - 1) / step * step,
                         left = (uint64_t) (st.st_size - at);

                n = n < left ? n : left;
                total += n;
                at += (off_t) n;
        }
        *ret = total;
        return r;
}

static bool is_zero(const char *s, size_t n) {
        return n > 0 && s[0] == 0 && memcmp(s, s + 1, n - 1) == 0;
}

typedef struct Copying {
        ContentCopy *copy;
        int from_fd, to_fd;
        char *buffer;
        bool by_hand;  /* the file systems cannot do it by themselves */
        uint64_t room; /* that may be written before it is looked at again */
        Failure *reterr;
} Copying;

/* By the file systems themselves, which may share blocks: where the lower view is an overlay as well. 0:
 * they cannot. */
static ssize_t copy_range(Copying *c, off_t at, size_t n) {
        off_t to = at;
        ssize_t k = c->by_hand ? 0 : copy_file_range(c->from_fd, &at, c->to_fd, &to, n, 0);

        if (k < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
                return -errno;
        c->by_hand |= k <= 0;
        return k < 0 ? 0 : k;
}

static ssize_t copy_by_hand(const Copying *c, off_t at, size_t n) {
        ssize_t k = pread(c->from_fd, c->buffer, n, at);

        if (k <= 0)
                return k < 0 ? -errno : -EAGAIN;
        if (!is_zero(c->buffer, (size_t) k)) {
                int r = lseek(c->to_fd, at, SEEK_SET) < 0 ? -errno
                                                          : fd_write_all(c->to_fd, c->buffer, (size_t) k);

                if (r < 0)
                        return r;
        }
        return k;
}

static int ask_for_room(Copying *c, size_t n, off_t left) {
        uint64_t wanted = (uint64_t) left < ROOM_BYTES ? (uint64_t) left : ROOM_BYTES;

        if (c->room < n) {
                int r = guard_room(c->copy->context, c->copy->path, wanted, c->reterr);

                c->copy->is_full = r == -ENOSPC;
                if (r < 0)
                        return r;
                c->room = wanted;
        }
        c->room -= n;
        return 0;
}

static ssize_t copy_some(Copying *c, off_t at, off_t end) {
        size_t n = end - at < PIECE_SIZE ? (size_t) (end - at) : PIECE_SIZE;
        int r = context_is_canceled(c->copy->context) ? -ECANCELED : ask_for_room(c, n, end - at);
        ssize_t k = r < 0 ? r : copy_range(c, at, n);

        return k == 0 ? copy_by_hand(c, at, n) : k;
}

static int copy_data(Copying *c, off_t at, off_t end) {
        while (at < end) {
                ssize_t n = copy_some(c, at, end);

                if (n < 0)
                        return (int) n;
                at += n;
                atomic_fetch_add(&c->copy->context->bytes_copied, (unsigned long long) n);
                context_progress(c->copy->context, JOB_APPLYING, c->copy->n_done, 0);
        }
        return 0;
}

int content_copy(ContentCopy *copy, int from_fd, int to_fd, Failure *reterr) {
        _cleanup_free_ char *buffer = malloc(PIECE_SIZE);
        Copying c = { .copy = copy, .from_fd = from_fd, .to_fd = to_fd, .buffer = buffer, .reterr = reterr };
        struct stat st;
        off_t at = 0, end;
        int r;

        if (!buffer)
                return -ENOMEM;
        if (fstat(from_fd, &st) < 0)
                return -errno;
        while ((r = next_data(from_fd, st.st_size, &at, &end)) > 0) {
                r = copy_data(&c, at, end);
                if (r < 0)
                        return r;
                at = end;
        }
        return r < 0 ? r : ftruncate(to_fd, st.st_size) < 0 ? -errno : 0;
}
