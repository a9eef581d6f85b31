/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Allocations of a whole program that fail when fails() says so, which whoever includes this defines, and
 * which sets errno then. Not with AddressSanitizer, which allocates by itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static bool fails(void);

void *malloc(size_t size) {
        return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
        return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size) {
        return fails() ? NULL : __libc_realloc(p, size);
}
