/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LOCKED(m): a mutex is held until the end of the block, whatever way leads out of it. It is not for two
 * mutexes in one block, since its variable has a fixed name. */
#pragma once

#include <pthread.h>

#include "base/macro.h"

static inline pthread_mutex_t *lock_take(pthread_mutex_t *m) {
        (void) pthread_mutex_lock(m);
        return m;
}

static inline void lock_dropp(pthread_mutex_t **m) {
        (void) pthread_mutex_unlock(*m);
}

#define LOCKED(m) _cleanup_(lock_dropp) __attribute__((unused)) pthread_mutex_t *locked_ = lock_take(m)
