/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "base/path-util.h"
#include "jobs/queue.h"
#include "unit.h"

typedef struct Bench {
        Queue *queue;
        uint32_t last_id;
        uint64_t now;
} Bench;

static int setup(void **state) {
        Bench *b = calloc(1, sizeof(Bench));

        assert_non_null(b);
        b->queue = queue_new();
        assert_non_null(b->queue);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        (void) queue_free(b->queue);
        free(b);
        return 0;
}

static Job *add(Bench *b, const char *overlay, const char *path) {
        Job *j;

        assert_int_equal(job_new(++b->last_id, JOB_FINALIZE, overlay, "/ovl", path, &j), 0);
        assert_int_equal(queue_add(b->queue, j), 0);
        return j;
}

static void open_lane(Bench *b, const char *overlay) {
        assert_int_equal(
                queue_admit(b->queue, overlay, (QueueAdmission){ .jobs = true, .automatic = true }), 0);
}

/* Starts what is next; NULL when nothing may. */
static Job *start(Bench *b) {
        Job *j = queue_next(b->queue);

        if (j)
                assert_int_equal(job_set_state(j, JOB_RUNNING, ++b->now), 1);
        return j;
}

static void finish(Bench *b, Job *j) {
        _cleanup_failure_ Failure none = FAILURE_INIT;

        assert_int_equal(job_finish(j, &none, ++b->now), 1);
}

static void test_first_come_first_served(void **state) {
        Bench *b = *state;
        Job *x = add(b, "o", "x"), *y = add(b, "o", "y"), *z = add(b, "o", "z");

        assert_null(start(b)); /* closed until opened */
        open_lane(b, "o");
        assert_ptr_equal(start(b), x);
        assert_ptr_equal(start(b), y);
        assert_null(start(b)); /* two at once */
        finish(b, x);
        assert_ptr_equal(start(b), z);
        assert_int_equal(queue_count_unfinished(b->queue), 2);
        assert_int_equal(queue_count_running(b->queue), 2);
        assert_ptr_equal(queue_find(b->queue, 2), y);
        assert_null(queue_find(b->queue, 9));
}

static void test_related_paths_keep_their_order(void **state) {
        Bench *b = *state;
        Job *child = add(b, "o", "a/b"), *parent = add(b, "o", "a"), *grandchild = add(b, "o", "a/b/c"),
            *other = add(b, "o", "x");

        open_lane(b, "o");
        assert_ptr_equal(start(b), child);
        assert_ptr_equal(start(b), other); /* passes those that have to wait */
        finish(b, other);
        assert_null(start(b)); /* grandchild must not overtake parent */
        finish(b, child);
        assert_ptr_equal(start(b), parent);
        assert_null(start(b));
        finish(b, parent);
        assert_ptr_equal(start(b), grandchild);
}

static void test_a_swap_that_waits_holds_back_other_swaps_only(void **state) {
        Bench *b = *state;
        Job *first = add(b, "o", ""), *second = add(b, "o", ""), *x = add(b, "o", "x"),
            *y = add(b, "o", "y"), *z = add(b, "o", "z");

        first->type = second->type = JOB_REMOUNT;
        first->options.remount = second->options.remount = REMOUNT_SWAP;
        open_lane(b, "o");
        assert_ptr_equal(start(b), first);
        assert_null(start(b));
        assert_int_equal(job_set_state(first, JOB_WAITING, ++b->now), 1);
        assert_ptr_equal(start(b), x);
        assert_ptr_equal(start(b), y);
        assert_null(start(b));
        /* Nobody is in its way any more, but for those that run. */
        assert_int_equal(job_set_state(first, JOB_QUEUED, ++b->now), 1);
        finish(b, x);
        assert_null(start(b));
        finish(b, y);
        assert_ptr_equal(start(b), first);
        assert_null(start(b));
        finish(b, first);
        assert_ptr_equal(start(b), second);
        finish(b, second);
        assert_ptr_equal(start(b), z);
}

static void test_a_retried_job_keeps_its_place(void **state) {
        Bench *b = *state;
        Job *first = add(b, "o", "a"), *second = add(b, "o", "a");

        open_lane(b, "o");
        assert_ptr_equal(start(b), first);
        assert_int_equal(job_set_state(first, JOB_QUEUED, ++b->now), 1);
        assert_ptr_equal(start(b), first);
        finish(b, first);
        assert_ptr_equal(start(b), second);
}

static Job *add_automatic(Bench *b, const char *overlay, const char *path, double heat) {
        Job *j = add(b, overlay, path);

        j->is_automatic = true;
        j->heat = heat;
        return j;
}

static void test_asked_for_first_then_hotter(void **state) {
        Bench *b = *state;
        Job *warm = add_automatic(b, "o", "warm", 20), *hot = add_automatic(b, "o", "hot", 90);
        Job *asked = add(b, "o", "asked");

        open_lane(b, "o");
        assert_ptr_equal(start(b), asked);
        assert_ptr_equal(start(b), hot);
        assert_null(start(b));
        finish(b, asked);
        assert_null(start(b)); /* one at a time */
        finish(b, hot);
        assert_ptr_equal(start(b), warm);
}

/* A job somebody asks for overtakes those that come by themselves, also on related paths. */
static void test_asked_for_overtakes_related(void **state) {
        Bench *b = *state;
        Job *below = add_automatic(b, "o", "a/b", 50), *asked = add(b, "o", "a");

        open_lane(b, "o");
        assert_ptr_equal(start(b), asked);
        assert_null(start(b));
        finish(b, asked);
        assert_ptr_equal(start(b), below);
}

static void test_windows_hold_back_automatic_jobs(void **state) {
        Bench *b = *state;
        Job *automatic = add_automatic(b, "o", "a", 50), *asked = add(b, "o", "b");

        open_lane(b, "o");
        assert_int_equal(queue_admit(b->queue, "o", (QueueAdmission){ .jobs = true }), 0);
        assert_ptr_equal(start(b), asked);
        assert_null(start(b));
        assert_int_equal(queue_admit(b->queue, "o", (QueueAdmission){ .jobs = true, .automatic = true }), 0);
        assert_ptr_equal(start(b), automatic);
}

static void test_pauses(void **state) {
        Bench *b = *state;
        Job *paused = add_automatic(b, "o", "a", 50), *related = add(b, "o", "a/b");

        open_lane(b, "o");
        assert_int_equal(queue_next_release(b->queue), USEC_INFINITY);
        paused->not_before_usec = 1000;
        assert_int_equal(queue_next_release(b->queue), 1000);
        assert_ptr_equal(start(b), related); /* who waits holds up nobody */
        finish(b, related);
        assert_null(queue_release(b->queue, 999));
        assert_null(start(b));
        assert_ptr_equal(queue_release(b->queue, 1000), paused);
        assert_null(queue_release(b->queue, 1000));
        assert_ptr_equal(start(b), paused);
}

static void test_what_is_put_off_is_not_overtaken(void **state) {
        Bench *b = *state;
        Job *first = add(b, "o", "a/b"), *undo = add(b, "o", "a"), *last = add(b, "o", "a/c"),
            *question = add(b, "o", "a/c"), *plan = add(b, "o", "a"), *remount = add(b, "o", ""),
            *other = add(b, "o", "x");

        question->type = JOB_VERIFY;
        plan->options.is_dry_run = true;
        remount->type = JOB_REMOUNT;
        undo->type = JOB_UNFINALIZE;
        first->not_before_usec = 1000;
        open_lane(b, "o");
        for (Job **j = (Job *[]){ question, plan, remount, other, NULL }; *j; j++) {
                assert_ptr_equal(start(b), *j);
                finish(b, *j);
        }
        assert_null(start(b));
        assert_ptr_equal(queue_release(b->queue, 1000), first);
        assert_ptr_equal(start(b), first);
        assert_null(start(b));
        finish(b, first);
        assert_ptr_equal(start(b), undo);
        assert_null(start(b));
        finish(b, undo);
        assert_ptr_equal(start(b), last);
}

static void test_automatic_jobs_below(void **state) {
        Bench *b = *state;
        Job *below = add_automatic(b, "o", "a/b", 50);

        (void) add(b, "o", "a/c");
        (void) add_automatic(b, "p", "a/d", 1);
        (void) add_automatic(b, "o", "ab", 1);
        assert_int_equal(queue_count_automatic(b->queue, "o"), 2);
        assert_ptr_equal(queue_find_automatic_below(b->queue, "o", "a"), below);
        open_lane(b, "o");
        assert_int_equal(queue_admit(b->queue, "o", (QueueAdmission){ .jobs = true, .automatic = true }), 0);
        while (start(b))
                ;
        assert_null(queue_find_automatic_below(b->queue, "o", "a"));
}

static void test_equal_jobs(void **state) {
        Bench *b = *state;
        const JobOptions mine = { .uid = 7 }, other = { .uid = 8 }, dry = { .uid = 7, .is_dry_run = true };
        Job *first = add(b, "o", "a"), *hot;

        assert_int_equal(job_set_options(first, &mine), 0);
        (void) add(b, "o", "a/b");
        (void) add(b, "p", "a");
        assert_ptr_equal(queue_find_equal(b->queue, JOB_FINALIZE, "o", "a", &mine), first);
        assert_null(queue_find_equal(b->queue, JOB_FINALIZE, "o", "a", &other));
        assert_null(queue_find_equal(b->queue, JOB_FINALIZE, "o", "a", &dry));
        assert_null(queue_find_equal(b->queue, JOB_FINALIZE, "o", "", &mine));
        assert_null(queue_find_equal(b->queue, JOB_REFRESH, "o", "a", &mine));
        add(b, "o", "x")->type = JOB_UNFINALIZE;
        assert_ptr_equal(queue_find_equal(b->queue, JOB_FINALIZE, "o", "a", &mine), first);
        add(b, "o", "a/c")->type = JOB_UNFINALIZE;
        assert_null(queue_find_equal(b->queue, JOB_FINALIZE, "o", "a", &mine));
        hot = add_automatic(b, "o", "a", 50);
        assert_ptr_equal(queue_find_equal(b->queue, JOB_FINALIZE, "o", "a", &other), hot);
        assert_int_equal(job_set_state(hot, JOB_RUNNING, ++b->now), 1);
        assert_null(queue_find_equal(b->queue, JOB_FINALIZE, "o", "a", &other));
}

static void test_overlays_take_turns(void **state) {
        Bench *b = *state;
        char name[3] = "o0", path[16];

        for (int i = 0; i < 20; i++) {
                (void) snprintf(path, sizeof(path), "p%i", i);
                (void) add(b, "many", path);
        }
        open_lane(b, "many");
        assert_string_equal(start(b)->overlay, "many");
        finish(b, queue_find(b->queue, 1));
        for (int i = 0; i < 3; i++) {
                name[1] = (char) ('0' + i);
                (void) add(b, name, "p");
                open_lane(b, name);
        }
        /* Who has just been served comes after those who have not. */
        assert_string_not_equal(start(b)->overlay, "many");
        assert_string_not_equal(start(b)->overlay, "many");
        assert_string_not_equal(start(b)->overlay, "many");
        assert_string_equal(start(b)->overlay, "many");
}

static void test_limit_of_all(void **state) {
        Bench *b = *state;
        char overlay[16], path[16];
        int n = 0;

        for (int i = 0; i < 10; i++) {
                (void) snprintf(overlay, sizeof(overlay), "o%i", i);
                open_lane(b, overlay);
                for (int k = 0; k < 3; k++) {
                        (void) snprintf(path, sizeof(path), "p%i", k);
                        (void) add(b, overlay, path);
                }
        }
        while (start(b))
                n++;
        assert_int_equal(n, QUEUE_RUNNING_MAX);
}

static void test_closed_lanes(void **state) {
        Bench *b = *state;

        (void) add(b, "o", "a");
        open_lane(b, "o");
        assert_int_equal(queue_admit(b->queue, "o", (QueueAdmission){ .automatic = true }), 0);
        assert_null(start(b));
        open_lane(b, "o");
        assert_non_null(start(b));
        (void) add(b, "o", "b");
        queue_remove_lane(b->queue, "o");
        assert_null(start(b));
        queue_remove_lane(b->queue, "o");
}

static void test_job_at_a_path(void **state) {
        Bench *b = *state;
        Job *j = add(b, "o", "a/b");

        assert_ptr_equal(queue_find_job_at(b->queue, "o", "a/b"), j);
        assert_ptr_equal(queue_find_job_at(b->queue, "o", "a/b/c"), j);
        assert_null(queue_find_job_at(b->queue, "o", "a"));
        assert_null(queue_find_job_at(b->queue, "p", "a/b"));
        open_lane(b, "o");
        finish(b, start(b));
        assert_null(queue_find_job_at(b->queue, "o", "a/b"));
}

static void test_old_jobs_go(void **state) {
        Bench *b = *state;
        Job *j;

        open_lane(b, "o");
        for (int i = 0; i < QUEUE_FINISHED_MAX + 2; i++) {
                (void) add(b, "o", "a");
                finish(b, start(b));
        }
        (void) add(b, "o", "b"); /* unfinished ones never expire */
        for (uint32_t id = 1; id <= 2; id++) {
                j = queue_expire(b->queue);
                assert_non_null(j);
                assert_int_equal(j->id, id);
                (void) job_free(j);
        }
        assert_null(queue_expire(b->queue));
        assert_non_null(queue_find(b->queue, QUEUE_FINISHED_MAX + 3));
}

static void test_only_the_last_plans_stay(void **state) {
        Bench *b = *state;
        WireRecord r;

        r = (WireRecord){ .kind = WIRE_STEP };
        open_lane(b, "o");
        for (int i = 0; i < QUEUE_PLANS_MAX + 2; i++) {
                Job *j = add(b, "o", "a");

                (void) start(b);
                assert_int_equal(job_add_step(j, &r), 0);
                finish(b, j);
        }
        assert_int_equal(job_add_step(add(b, "o", "a"), &r), 0);
        queue_trim_plans(b->queue);
        for (uint32_t id = 1; id <= b->last_id; id++)
                assert_int_equal(queue_find(b->queue, id)->n_steps, id > 2);
}

/* Whatever happens in whatever order: the limits hold, related jobs never run at once, and in the end all
 * have run. */
static void check_invariants(const Queue *q, Job **jobs, size_t n) {
        size_t lane = 0, all = 0;

        for (size_t i = 0; i < n; i++) {
                bool runs = jobs[i]->state != JOB_QUEUED && !job_state_is_final(jobs[i]->state);

                all += runs;
                lane += runs && strcmp(jobs[i]->overlay, "o0") == 0;
                for (size_t k = 0; runs && k < i; k++)
                        if (jobs[k]->state == JOB_RUNNING)
                                assert_false(job_conflicts(jobs[i], jobs[k]));
        }
        assert_true(all <= QUEUE_RUNNING_MAX && lane <= QUEUE_LANE_MAX);
}

static void test_random(void **state) {
        static const char *const paths[] = { "", "a", "a/b", "a/b/c", "a/d", "e", "e/f", "g" };
        Bench *b = *state;
        uint64_t seed = 20;
        Job *jobs[60];
        char overlay[4] = "o0";

        for (size_t i = 0; i < ELEMENTSOF(jobs); i++) {
                overlay[1] = (char) ('0' + random_next(&seed) % 5);
                open_lane(b, overlay);
                jobs[i] = add(b, overlay, paths[random_next(&seed) % ELEMENTSOF(paths)]);
        }
        for (int i = 0; i < 100000 && queue_count_unfinished(b->queue) > 0; i++) {
                Job *j = jobs[random_next(&seed) % ELEMENTSOF(jobs)];
                uint64_t dice = random_next(&seed) % 10;

                if (dice < 5)
                        (void) start(b);
                else if (j->state == JOB_RUNNING && dice < 9)
                        finish(b, j);
                else if (j->state == JOB_RUNNING)
                        (void) job_set_state(j, JOB_QUEUED, ++b->now);
                check_invariants(b->queue, jobs, ELEMENTSOF(jobs));
        }
        assert_int_equal(queue_count_unfinished(b->queue), 0);
}

#define queue_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                queue_test(test_first_come_first_served),
                queue_test(test_related_paths_keep_their_order),
                queue_test(test_a_swap_that_waits_holds_back_other_swaps_only),
                queue_test(test_a_retried_job_keeps_its_place),
                queue_test(test_asked_for_first_then_hotter),
                queue_test(test_asked_for_overtakes_related),
                queue_test(test_windows_hold_back_automatic_jobs),
                queue_test(test_pauses),
                queue_test(test_what_is_put_off_is_not_overtaken),
                queue_test(test_automatic_jobs_below),
                queue_test(test_equal_jobs),
                queue_test(test_overlays_take_turns),
                queue_test(test_limit_of_all),
                queue_test(test_closed_lanes),
                queue_test(test_job_at_a_path),
                queue_test(test_old_jobs_go),
                queue_test(test_only_the_last_plans_stay),
                queue_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
