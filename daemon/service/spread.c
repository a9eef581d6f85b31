/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/spread.h"

#include <string.h>
#include <systemd/sd-id128.h>

#include "base/hash.h"

/* Of ours alone: nobody learns the machine id from when we do something. */
#define APPLICATION SD_ID128_MAKE(5d, 0c, 2e, 61, 7b, 1f, 4a, 0e, 9c, 33, 8e, 6a, 20, b4, d1, 97)

void spread_machine(uint8_t ret[SPREAD_MACHINE_SIZE]) {
        sd_id128_t id = { 0 };

        if (sd_id128_get_machine_app_specific(APPLICATION, &id) < 0)
                (void) sd_id128_randomize(&id);
        memcpy(ret, id.bytes, SPREAD_MACHINE_SIZE);
}

/* Every bit of the argument decides about every bit of the result: FNV leaves the upper ones of short texts
 * much alike. That of MurmurHash3. */
static uint64_t mix(uint64_t h) {
        h = (h ^ (h >> 33)) * UINT64_C(0xff51afd7ed558ccd);
        h = (h ^ (h >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
        return h ^ (h >> 33);
}

uint64_t spread_delay(
        const uint8_t machine[SPREAD_MACHINE_SIZE],
        const char *overlay,
        const char *path,
        uint64_t most_usec) {
        uint64_t most = most_usec < SPREAD_MAX_USEC ? most_usec : SPREAD_MAX_USEC;
        uint64_t h = mix(hash_bytes(machine, SPREAD_MACHINE_SIZE));

        h = mix(h ^ hash_bytes(overlay, strlen(overlay)));
        h = mix(h ^ hash_bytes(path, strlen(path)));
        return (uint64_t) (((unsigned __int128) h * (most + 1)) >> 64);
}
