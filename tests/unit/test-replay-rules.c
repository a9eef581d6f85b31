/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "core/exchange/replay-rules.h"

enum {
        FIRST = 10, /* inodes: what was placed */
        OTHER = 11, /* and what stands there now */
};

static Node placed_node, other_node;

/* What is known of a name, as a letter: f file, d directory, both placed; F, D the same that is not placed;
 * u something that stayed for lack of a place; w a deleted name, W one that has
 * a whiteout in the new tree, for an undo; - nothing. */
static Entry *known(char kind, Entry *e) {
        memset(e, 0, sizeof(Entry));
        e->inode = FIRST;
        e->is_placed = kind == 'f' || kind == 'd' || kind == 'W';
        e->dir = kind == 'd' || kind == 'D' ? &placed_node : NULL;
        e->type = e->dir ? DT_DIR : kind == 'u' ? DT_UNKNOWN : kind == 'w' || kind == 'W' ? DT_WHT : DT_REG;
        if (kind == 'u')
                e->aside = FIRST;
        return kind == '-' ? NULL : e;
}

static const char *const found_names[] = {
        [FOUND_SETTLED] = "settled", [FOUND_HOMELESS] = "homeless", [FOUND_UNWELCOME] = "unwelcome",
        [FOUND_NEW] = "new",         [FOUND_REPLACED] = "replaced", [FOUND_OTHER_KIND] = "other-kind",
};

typedef enum Flags {
        NO_NEW = 1, /* the users of the new directory have removed it */
        KEPT = 2,
        FINAL = 4,
} Flags;

static void test_found(void **state) {
        static const struct {
                char known, found; /* found: f file, d directory */
                int inode;
                Flags flags;
                Found expected;
        } rows[] = {
                /* as it was placed, whatever else is so */
                { 'f', 'f', FIRST, 0, FOUND_SETTLED },
                { 'd', 'd', FIRST, 0, FOUND_SETTLED },
                { 'f', 'f', FIRST, NO_NEW, FOUND_SETTLED },
                { 'd', 'd', FIRST, KEPT | FINAL, FOUND_SETTLED },
                /* made in the old tree */
                { '-', 'f', OTHER, 0, FOUND_NEW },
                { '-', 'd', OTHER, KEPT, FOUND_NEW },
                { 'w', 'f', OTHER, 0, FOUND_NEW },
                { 'F', 'f', OTHER, 0, FOUND_NEW },
                { 'F', 'f', FIRST, 0, FOUND_NEW }, /* not placed, though it is the one */
                { 'D', 'd', FIRST, 0, FOUND_NEW },
                /* replaced there */
                { 'f', 'f', OTHER, 0, FOUND_REPLACED },
                { 'f', 'f', OTHER, KEPT, FOUND_REPLACED },
                { 'd', 'd', OTHER, 0, FOUND_REPLACED },
                { 'd', 'd', OTHER, KEPT, FOUND_REPLACED },
                { 'f', 'd', OTHER, 0, FOUND_OTHER_KIND },
                { 'f', 'd', OTHER, KEPT, FOUND_OTHER_KIND },
                { 'd', 'f', OTHER, 0, FOUND_OTHER_KIND },
                { 'd', 'f', OTHER, KEPT, FOUND_UNWELCOME }, /* a whole tree would leave */
                /* no directory to put it into */
                { '-', 'f', OTHER, NO_NEW, FOUND_HOMELESS },
                { 'f', 'f', OTHER, NO_NEW, FOUND_HOMELESS },
                { 'd', 'f', OTHER, NO_NEW | KEPT, FOUND_HOMELESS },
                /* told that it stays: once more at the end, when its place may be free */
                { 'u', 'f', FIRST, 0, FOUND_SETTLED },
                { 'u', 'f', FIRST, KEPT, FOUND_SETTLED },
                { 'u', 'f', FIRST, NO_NEW, FOUND_SETTLED },
                { 'u', 'f', FIRST, KEPT | FINAL, FOUND_NEW },
                { 'u', 'f', FIRST, NO_NEW | FINAL, FOUND_HOMELESS },
                { 'u', 'f', OTHER, 0, FOUND_NEW }, /* another one by now */
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                RawEntry raw = { .inode = (uint64_t) rows[i].inode,
                                 .type = rows[i].found == 'd' ? DT_DIR : DT_REG };
                const Node *node = rows[i].inode == FIRST ? &placed_node : &other_node;
                _cleanup_free_ Entry *e = malloc(sizeof(Entry) + 1);
                Found found;

                assert_non_null(e);
                found = replay_found(
                        known(rows[i].known, e), &raw, rows[i].found == 'd' ? node : NULL,
                        !(rows[i].flags & NO_NEW), rows[i].flags & KEPT, rows[i].flags & FINAL);
                if (found != rows[i].expected)
                        fail_msg(
                                "row %zu (%c%c): %s, not %s", i, rows[i].known, rows[i].found,
                                found_names[found], found_names[rows[i].expected]);
        }
}

/* A directory that stands there is the one that was placed by its handle, not by its number. */
static void test_reused_inode(void **state) {
        RawEntry raw = { .inode = FIRST, .type = DT_DIR };
        _cleanup_free_ Entry *e = malloc(sizeof(Entry) + 1);

        assert_non_null(e);
        assert_int_equal(replay_found(known('d', e), &raw, &other_node, true, false, false), FOUND_REPLACED);
        assert_int_equal(replay_found(known('d', e), &raw, NULL, true, false, false), FOUND_REPLACED);
}

/* Whoever stands in a tree that is kept may remove what he likes there: others go on using it. */
static void test_missed(void **state) {
        static const struct {
                char known;
                Missed expected, kept, removing;
        } rows[] = {
                { 'f', MISSED_GONE, MISSED_KEPT, MISSED_GONE },
                { 'd', MISSED_GONE, MISSED_KEPT, MISSED_KEPT }, /* emptied by us, perhaps */
                { 'F', MISSED_NOTHING, MISSED_NOTHING, MISSED_NOTHING },
                { 'D', MISSED_NOTHING, MISSED_NOTHING, MISSED_NOTHING },
                { 'w', MISSED_NOTHING, MISSED_NOTHING, MISSED_NOTHING },
                { 'W', MISSED_NOTHING, MISSED_NOTHING, MISSED_NOTHING },
                { 'u', MISSED_FORGET, MISSED_FORGET, MISSED_FORGET },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ Entry *e = malloc(sizeof(Entry) + 1);

                assert_non_null(e);
                (void) known(rows[i].known, e);
                assert_int_equal(replay_missed(e, false, false), rows[i].expected);
                assert_int_equal(replay_missed(e, /* is_kept= */ true, false), rows[i].kept);
                assert_int_equal(replay_missed(e, false, /* is_removing= */ true), rows[i].removing);
                assert_int_equal(replay_missed(e, true, true), rows[i].kept);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_found),
                cmocka_unit_test(test_reused_inode),
                cmocka_unit_test(test_missed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
