/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which opens in a directory are use. inotify does not tell who opens something, so a scan is known by what
 * it does: it opens many different files, and each of them once or twice. Programs come back to the same
 * ones. So opens count only of those two names that are opened most: all others are passed over. The order
 * in which names come, and what happens elsewhere meanwhile, change nothing. */
#include <stdlib.h>

#include "core/watch/watcher-internal.h"

#define ROOM_FIRST 8u
#define ROOM_LEAST 64u
#define ROOM_LAST 2048u
#define MEMORY_MOST (UINT64_C(128) << 20) /* of all tables together */
#define SHIFT_LAST 16u

typedef struct Slot {
        uint32_t hash; /* of a name; 0 free. Two names with one hash count as one */
        uint32_t n;
} Slot;

struct WatchOpens {
        uint64_t begun_usec;
        uint32_t first, second; /* how often the two names that are opened most have been opened */
        uint32_t n_names, room; /* a power of 2, more than names */
        uint32_t shift;         /* of new names, one in 2^shift is remembered: there are more than room */
        Slot slots[];
};

static uint32_t hash_name(const char *name) {
        uint32_t h = 2166136261; /* FNV-1a */

        for (; *name; name++)
                h = (h ^ (unsigned char) *name) * 16777619;
        h ^= h >> 15;
        return h ?: 1;
}

static WatchOpens *opens_new(uint32_t room) {
        WatchOpens *o = calloc(1, sizeof(WatchOpens) + room * sizeof(Slot));

        if (o)
                o->room = room;
        return o;
}

WatchOpens *watch_opens_free(WatchOpens *o) {
        free(o);
        return NULL;
}

static Slot *find_slot(WatchOpens *o, uint32_t hash) {
        uint32_t i = hash & (o->room - 1);

        while (o->slots[i].hash != 0 && o->slots[i].hash != hash)
                i = (i + 1) & (o->room - 1);
        return o->slots + i;
}

static bool is_sampled(const WatchOpens *o, uint32_t hash) {
        return (hash >> 16 & ((1u << o->shift) - 1)) == 0;
}

static bool has_room(const WatchOpens *o) {
        return o->n_names < o->room / 4 * 3;
}

/* Another table with the same names, but without those that were opened once and are not to be remembered.
 */
static void rebuild(WatchOpens **opens, uint32_t room, uint32_t shift) {
        WatchOpens *old = *opens, *o = opens_new(room);

        if (!o)
                return;
        o->begun_usec = old->begun_usec;
        o->first = old->first;
        o->second = old->second;
        o->shift = shift;
        for (uint32_t i = 0; i < old->room; i++)
                if (old->slots[i].hash != 0 && (old->slots[i].n > 1 || is_sampled(o, old->slots[i].hash))) {
                        *find_slot(o, old->slots[i].hash) = old->slots[i];
                        o->n_names++;
                }
        free(old);
        *opens = o;
}

static uint32_t room_most(size_t n_tables) {
        uint32_t room = ROOM_LAST;

        while (room > ROOM_LEAST && (uint64_t) n_tables * room * sizeof(Slot) > MEMORY_MOST)
                room /= 2;
        return room;
}

static void make_room(WatchOpens **o, size_t n_tables) {
        uint32_t most = room_most(n_tables);

        while (!has_room(*o) && (*o)->room < most) {
                uint32_t room = (*o)->room;

                rebuild(o, room * 2, (*o)->shift);
                if ((*o)->room == room)
                        return; /* no memory */
        }
        while (!has_room(*o) && (*o)->shift < SHIFT_LAST) {
                uint32_t shift = (*o)->shift;

                rebuild(o, (*o)->room, shift + 1);
                if ((*o)->shift == shift)
                        return;
        }
}

/* Counts an open of a name; returns how often it had been opened before. */
static uint32_t count_name(WatchOpens **o, uint32_t hash, size_t n_tables) {
        Slot *slot = find_slot(*o, hash);

        if (slot->hash != 0)
                return slot->n++;
        make_room(o, n_tables);
        if (!has_room(*o) || !is_sampled(*o, hash))
                return 0;
        *find_slot(*o, hash) = (Slot){ .hash = hash, .n = 1 };
        (*o)->n_names++;
        return 0;
}

WatchOpens *watch_opens_expire(WatchOpens *o, uint64_t now_usec, uint64_t window_usec) {
        return o && now_usec - o->begun_usec >= window_usec ? watch_opens_free(o) : o;
}

bool watch_opens_count(
        WatchOpens **o, const char *name, size_t n_tables, uint64_t now_usec, uint64_t window_usec) {
        uint32_t n;

        *o = watch_opens_expire(*o, now_usec, window_usec);
        if (!*o) {
                *o = opens_new(ROOM_FIRST);
                if (!*o)
                        return false;
                (*o)->begun_usec = now_usec;
        }
        n = count_name(o, hash_name(name), n_tables);
        if (n < (*o)->second)
                return false;
        if (n == (*o)->first)
                (*o)->first++;
        else
                (*o)->second = n + 1;
        return true;
}
