/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "jobs/automatic.h"
#include "unit.h"

#define WINDOW (600 * USEC_PER_SEC)
#define HOT 20

typedef struct Bench {
        Host host;
        OverlayConfig config;
        Managed overlay;
        Queue *queue;
        Candidates found;
} Bench;

static int setup(void **state) {
        static char *unit[] = { (char *) "app/*", NULL };
        Bench *b = calloc(1, sizeof(Bench));

        assert_non_null(b);
        b->config = (OverlayConfig){
                .name = (char *) "o",
                .mount_point = (char *) "/o",
                .settings = { .is_automatic = true,
                              .hot_opens = HOT,
                              .hot_window_usec = WINDOW,
                              .unit = unit },
        };
        assert_true(sd_event_new(&b->host.event) >= 0);
        b->overlay = (Managed){
                .host = &b->host,
                .config = &b->config,
                .state = MANAGED_ACTIVE,
                .directories = directory_table_new(),
                .heat = heat_table_new(),
        };
        b->queue = queue_new();
        assert_true(b->overlay.directories && b->overlay.heat && b->queue);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        candidates_done(&b->found);
        (void) queue_free(b->queue);
        (void) heat_table_free(b->overlay.heat);
        (void) directory_table_free(b->overlay.directories);
        (void) sd_event_unref(b->host.event);
        free(b);
        return 0;
}

static bool use(Bench *b, const char *path, uint64_t n) {
        return automatic_take_heat(&b->overlay, b->queue, path, &(Use){ .opens = n, .counted = n });
}

static const Candidates *find(Bench *b) {
        candidates_done(&b->found);
        automatic_find(&b->overlay, b->queue, &b->found);
        return &b->found;
}

static void note_failure(Bench *b, const char *path, uint64_t pause_usec, bool is_refused) {
        heat_table_note_failure(b->overlay.heat, path, now_realtime_usec() + pause_usec, is_refused);
}

static Job *add_job(Bench *b, uint32_t id, const char *path) {
        Job *j;

        assert_int_equal(job_new(id, JOB_FINALIZE, "o", "/o", path, &j), 0);
        j->is_automatic = true;
        assert_int_equal(queue_add(b->queue, j), 0);
        return j;
}

static void test_only_the_hottest_of_many(void **state) {
        Bench *b = *state;
        const Candidates *c;
        char path[32];

        for (unsigned i = 0; i < 2000; i++) {
                (void) snprintf(path, sizeof(path), "d%u", i);
                assert_true(use(b, path, HOT + i));
        }
        c = find(b);
        assert_int_equal(c->paths.n, CANDIDATES_MOST);
        assert_string_equal(c->paths.items[0], "d1999");
        for (unsigned i = 0; i < AUTOMATIC_AT_ONCE; i++) {
                (void) snprintf(path, sizeof(path), "j%u", i);
                (void) add_job(b, i + 1, path);
        }
        assert_int_equal(find(b)->paths.n, 0);
}

/* What cannot make a job is not worth a look at all of them. */
static void test_what_use_is_worth_a_look(void **state) {
        Bench *b = *state;

        assert_false(use(b, "cold", HOT / 2));
        assert_true(use(b, "cold", HOT));
        note_failure(b, "paused", 100 * USEC_PER_SEC, false);
        assert_false(use(b, "paused", HOT));
        assert_true(
                directory_table_update(
                        b->overlay.directories,
                        &(DirectoryInfo){ .path = "done",
                                          .state = DIRECTORY_FINALIZED,
                                          .reason = "",
                                          .scheme = "",
                                          .lower_path = "" }) >= 0);
        assert_false(use(b, "done", HOT));
        (void) add_job(b, 1, "busy");
        assert_false(use(b, "busy/below", HOT));
        b->config.settings.is_automatic = false;
        assert_false(use(b, "other", HOT));
}

static void test_a_unit_is_one(void **state) {
        Bench *b = *state;
        const Candidates *c;

        (void) use(b, "app/1/lib", 2 * HOT);
        (void) use(b, "app/1/share", HOT);
        (void) use(b, "app/1", HOT);
        c = find(b);
        assert_int_equal(c->paths.n, 1);
        assert_string_equal(c->paths.items[0], "app/1");
        assert_true(c->heats[0] > 1.5 * HOT);
}

/* One that failed for a reason that passes is tried again as a whole, and its parts are left for that. */
static void test_a_unit_that_failed(void **state) {
        Bench *b = *state;
        const Candidates *c;

        (void) use(b, "app/1/lib", HOT);
        note_failure(b, "app/1", 100 * USEC_PER_SEC, false);
        c = find(b);
        assert_int_equal(c->paths.n, 0);
        assert_true(c->next_usec < USEC_INFINITY);
        heat_table_note_failure(b->overlay.heat, "app/1", 1, false);
        c = find(b);
        assert_int_equal(c->paths.n, 1);
        assert_string_equal(c->paths.items[0], "app/1");
}

/* One that may not be finalized: at least what is hot, and the whole again when it may be another one. */
static void test_a_unit_that_was_refused(void **state) {
        Bench *b = *state;
        const Candidates *c;

        (void) use(b, "app/1/lib", HOT);
        note_failure(b, "app/1", 100 * USEC_PER_SEC, true);
        c = find(b);
        assert_int_equal(c->paths.n, 1);
        assert_string_equal(c->paths.items[0], "app/1/lib");
        assert_true(c->next_usec < USEC_INFINITY);
        heat_table_note_failure(b->overlay.heat, "app/1", 1, true);
        assert_string_equal(find(b)->paths.items[0], "app/1");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_only_the_hottest_of_many, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_use_is_worth_a_look, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_unit_is_one, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_unit_that_failed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_unit_that_was_refused, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
