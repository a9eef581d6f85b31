/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/hash.h"

uint64_t hash_bytes(const void *data, size_t size) {
        const unsigned char *p = data;
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < size; i++)
                h = (h ^ p[i]) * UINT64_C(0x100000001b3);
        return h;
}
