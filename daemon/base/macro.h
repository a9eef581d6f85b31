/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What every file needs of the language: attributes, units of time, ownership that moves (TAKE_PTR() and the
 * like), and cleanup functions for what the C library gives. It knows nothing of overlays. A cleanup
 * function accepts what is empty (NULL, -EBADF), so a variable can be declared with it before it has a
 * value. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _pure_ __attribute__((pure))

#define ELEMENTSOF(x) (sizeof(x) / sizeof((x)[0]))
/* "%u job%s" and "%u entr%s", with the number twice. */
#define PLURAL(n) ((n) == 1 ? "" : "s")
#define PLURAL_Y(n) ((n) == 1 ? "y" : "ies")
#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_INFINITY UINT64_MAX
#define NSEC_PER_USEC UINT64_C(1000)

/* Moves a pointer or descriptor out of a variable with a cleanup attribute. */
#define TAKE_PTR(p)                                                                                         \
        ({                                                                                                  \
                __auto_type _p_ = &(p);                                                                     \
                __auto_type _v_ = *_p_;                                                                     \
                *_p_ = NULL;                                                                                \
                _v_;                                                                                        \
        })
#define TAKE_FD(fd)                                                                                         \
        ({                                                                                                  \
                int *_f_ = &(fd);                                                                           \
                int _v_ = *_f_;                                                                             \
                *_f_ = -EBADF;                                                                              \
                _v_;                                                                                        \
        })
/* The same for a struct, which is left zeroed. */
#define TAKE_STRUCT(s)                                                                                      \
        ({                                                                                                  \
                __auto_type _s_ = &(s);                                                                     \
                __auto_type _v_ = *_s_;                                                                     \
                *_s_ = (__typeof__(_v_)){ 0 };                                                              \
                _v_;                                                                                        \
        })

/* The same for a struct; init: what is nobody's to clean up. */
#define TAKE_AS(s, init)                                                                                    \
        ({                                                                                                  \
                __auto_type _s_ = &(s);                                                                     \
                __auto_type _v_ = *_s_;                                                                     \
                *_s_ = init;                                                                                \
                _v_;                                                                                        \
        })

/* Makes room for one more in an owned array of n. False on out of memory: the array stays as it is. */
#define ARRAY_GROW(items, n)                                                                                \
        ({                                                                                                  \
                __typeof__(items) _grown_ = reallocarray((items), (n) + 1, sizeof(*(items)));               \
                if (_grown_)                                                                                \
                        (items) = _grown_;                                                                  \
                _grown_ != NULL;                                                                            \
        })

/* Defines a cleanup function for `type` from a destructor that accepts NULL. */
#define DEFINE_CLEANUP(type, func)                                                                          \
        static inline void func##p(type *p) {                                                               \
                if (*p)                                                                                     \
                        (void) func(*p);                                                                    \
        }                                                                                                   \
        struct __cleanup_semicolon_eater__

static inline void freep(void *p) {
        free(*(void **) p);
}

/* Closes a descriptor, keeps errno, and returns -EBADF, so that `fd = fd_close(fd)` is always right. */
static inline int fd_close(int fd) {
        if (fd >= 0) {
                int saved = errno;
                (void) close(fd);
                errno = saved;
        }
        return -EBADF;
}

static inline void fd_closep(int *fd) {
        *fd = fd_close(*fd);
}

static inline void dir_closep(DIR **d) {
        if (*d)
                (void) closedir(*d);
}

static inline void file_closep(FILE **f) {
        if (*f)
                (void) fclose(*f);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(fd_closep)
#define _cleanup_closedir_ _cleanup_(dir_closep)
#define _cleanup_fclose_ _cleanup_(file_closep)
