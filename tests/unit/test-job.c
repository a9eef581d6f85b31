/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "jobs/job.h"
#include "unit.h"

static Job *make_job(void) {
        Job *j;

        assert_int_equal(job_new(7, JOB_FINALIZE, "soft", "/ovl", "a/b", &j), 0);
        return j;
}

static void test_new(void **state) {
        _cleanup_(job_freep) Job *j = make_job();
        _cleanup_free_ char *path = job_path(j);

        assert_int_equal(j->state, JOB_QUEUED);
        assert_string_equal(path, "/ovl/a/b");
        assert_int_equal(j->started_usec, 0);
}

/* The whole table, so that a change of it is a change of this test. */
static void test_transitions(void **state) {
        static const char *const expected[_JOB_STATE_MAX] = {
                [JOB_QUEUED] = ".r...fc",   [JOB_RUNNING] = "q.awdfc", [JOB_APPLYING] = "qr.wdfc",
                [JOB_WAITING] = "qra.dfc",  [JOB_DONE] = ".......",    [JOB_FAILED] = ".......",
                [JOB_CANCELED] = ".......",
        };

        for (JobState from = 0; from < _JOB_STATE_MAX; from++)
                for (JobState to = 0; to < _JOB_STATE_MAX; to++)
                        assert_int_equal(job_state_may_follow(from, to), expected[from][to] != '.');
        assert_false(job_state_may_follow(_JOB_STATE_INVALID, JOB_DONE));
        assert_false(job_state_may_follow(JOB_RUNNING, _JOB_STATE_MAX));
}

static void test_times(void **state) {
        _cleanup_failure_ Failure none = FAILURE_INIT;
        _cleanup_(job_freep) Job *j = make_job();

        assert_int_equal(job_set_state(j, JOB_APPLYING, 1), -EPERM);
        assert_int_equal(job_set_state(j, JOB_QUEUED, 1), 0);
        assert_int_equal(job_set_state(j, JOB_RUNNING, 5), 1);
        assert_int_equal(j->started_usec, 5);
        assert_int_equal(job_set_state(j, JOB_WAITING, 6), 1);
        assert_int_equal(job_finish(j, &none, 9), 1);
        assert_int_equal(j->state, JOB_DONE);
        assert_int_equal(j->finished_usec, 9);
        assert_int_equal(job_set_state(j, JOB_RUNNING, 10), -EPERM);
}

static void test_ends(void **state) {
        static const struct {
                FailureKind kind;
                JobState state;
        } cases[] = {
                { FAILURE_NONE, JOB_DONE },
                { FAILURE_CANCELED, JOB_CANCELED },
                { FAILURE_NO_SPACE, JOB_FAILED },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_failure_ Failure f = FAILURE_INIT, again = FAILURE_INIT;
                _cleanup_(job_freep) Job *j = make_job();

                (void) job_set_state(j, JOB_RUNNING, 1);
                if (cases[i].kind != FAILURE_NONE)
                        (void) failure_set(&f, cases[i].kind, EIO, "why");
                assert_int_equal(job_finish(j, &f, 2), 1);
                assert_int_equal(j->state, cases[i].state);
                assert_int_equal(j->failure.kind, cases[i].kind);
                assert_int_equal(f.kind, FAILURE_NONE); /* taken */
                (void) failure_set(&again, FAILURE_BUSY, EBUSY, "later");
                assert_true(job_finish(j, &again, 3) <= 0);
                assert_int_equal(j->failure.kind, cases[i].kind);
                assert_null(again.message);
        }
}

static void test_attempts(void **state) {
        _cleanup_(job_freep) Job *j = make_job();
        WireRecord r;

        r = (WireRecord){ .kind = WIRE_PROGRESS };
        r.entries_done = 5;
        for (unsigned i = 1; i <= JOB_ATTEMPTS_MAX; i++) {
                assert_int_equal(job_set_state(j, JOB_RUNNING, i), 1);
                assert_int_equal(j->n_attempts, i);
                job_take_counters(j, &r);
                assert_int_equal(job_add_step(j, &r), 0);
                assert_int_equal(job_may_retry(j), i < JOB_ATTEMPTS_MAX);
                if (i < JOB_ATTEMPTS_MAX) {
                        assert_int_equal(job_set_state(j, JOB_QUEUED, i), 1);
                        assert_int_equal(j->entries_done + j->n_steps, 0);
                }
        }
        assert_int_equal(j->started_usec, 1);
}

static void test_canceled_jobs_are_not_retried(void **state) {
        _cleanup_(job_freep) Job *j = make_job();

        (void) job_set_state(j, JOB_RUNNING, 1);
        assert_true(job_may_retry(j));
        j->is_cancel_wanted = true;
        assert_false(job_may_retry(j));
}

static bool may_wait(Job *j, FailureKind kind, int error) {
        _cleanup_failure_ Failure f = FAILURE_INIT;

        (void) failure_set(&f, kind, error, "why");
        return job_may_wait(j, &f);
}

/* An undo waits for those who hold what was there before, and for its removal, for ever, and looks again
 * soon enough; so does a refresh. */
static void test_held_up(void **state) {
        _cleanup_(job_freep) Job *j = make_job();

        assert_false(may_wait(j, FAILURE_BUSY, FAILURE_ERROR_HELD)); /* a finalize */
        j->type = JOB_UNFINALIZE;
        assert_true(may_wait(j, FAILURE_BUSY, FAILURE_ERROR_HELD));
        assert_false(may_wait(j, FAILURE_BUSY, EBUSY));
        j->type = JOB_REFRESH;
        assert_true(may_wait(j, FAILURE_BUSY, FAILURE_ERROR_HELD));
        assert_false(may_wait(j, FAILURE_BUSY, EBUSY));
        assert_int_equal(job_held_pause(j), JOB_HELD_PAUSE_FIRST_USEC);
        j->n_pauses = 1000000;
        assert_int_equal(job_held_pause(j), JOB_HELD_PAUSE_LAST_USEC);
        j->options.is_dry_run = true;
        assert_false(may_wait(j, FAILURE_BUSY, FAILURE_ERROR_HELD));
}

static void test_which_may_wait(void **state) {
        _cleanup_(job_freep) Job *j = make_job();

        assert_true(may_wait(j, FAILURE_LOWER_UNREACHABLE, ENOTCONN));
        assert_true(may_wait(j, FAILURE_FAILED, EIO));
        assert_false(may_wait(j, FAILURE_NO_SPACE, ENOSPC));
        assert_false(may_wait(j, FAILURE_CANCELED, ECANCELED));
        assert_false(may_wait(j, FAILURE_BUSY, EBUSY));
        j->needs_survey = true;
        assert_true(may_wait(j, FAILURE_BUSY, EBUSY));
        j->type = JOB_PRUNE;
        assert_false(may_wait(j, FAILURE_LOWER_UNREACHABLE, ESTALE));
        j->type = JOB_REFRESH;
        assert_true(may_wait(j, FAILURE_LOWER_UNREACHABLE, ESTALE));
        j->options.is_dry_run = true;
        assert_false(may_wait(j, FAILURE_LOWER_UNREACHABLE, ESTALE));
}

/* One attempt that fails at once, after so many entries; returns the pause, in seconds. */
static uint64_t attempt(Job *j, uint64_t patience, uint64_t entries, uint64_t *now) {
        uint64_t pause;

        assert_int_equal(job_set_state(j, JOB_RUNNING, *now), 1);
        assert_int_equal(job_shown_state(j), JOB_RUNNING);
        job_note_trouble(j, entries, /* has_finished_some= */ false, *now, *now);
        pause = job_next_pause(j, patience, *now);
        assert_int_equal(job_pause(j, "away", *now + pause), 0);
        assert_int_equal(job_shown_state(j), JOB_WAITING);
        assert_string_equal(j->pause_reason, "away");
        *now += pause;
        j->not_before_usec = 0;
        assert_int_equal(job_shown_state(j), JOB_QUEUED);
        return pause / USEC_PER_SEC;
}

static void test_pauses(void **state) {
        static const uint64_t expected[] = { 1, 2, 4, 8, 16, 32, 60, 60, 60, 57, 0 };
        _cleanup_(job_freep) Job *j = make_job();
        uint64_t now = 1000 * USEC_PER_SEC;

        for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                assert_int_equal(attempt(j, 300 * USEC_PER_SEC, 10, &now), expected[i]);
        /* It gets further: the lower layer was there meanwhile. */
        assert_int_equal(attempt(j, 300 * USEC_PER_SEC, 11, &now), 1);
        assert_int_equal(attempt(j, 300 * USEC_PER_SEC, 11, &now), 2);
        /* A part of it is done, and it has only begun with the next one. */
        job_note_trouble(j, 3, /* has_finished_some= */ true, now, now);
        assert_int_equal(attempt(j, 300 * USEC_PER_SEC, 3, &now), 1);
        assert_int_equal(attempt(j, 300 * USEC_PER_SEC, 4, &now), 1);
        assert_int_equal(attempt(j, 0, 11, &now), 0);
        j->n_pauses = 1000;
        assert_int_equal(attempt(j, USEC_INFINITY, 11, &now), 60);
        now = 0; /* the clock was set back */
        assert_int_equal(attempt(j, 300 * USEC_PER_SEC, 11, &now), 60);
}

/* A server that fails again after an hour, before the job has got as far as the first time. */
static void test_time_at_work_is_no_trouble(void **state) {
        const uint64_t hour = 3600 * USEC_PER_SEC, patience = 300 * USEC_PER_SEC;
        _cleanup_(job_freep) Job *j = make_job();
        uint64_t now = hour;

        assert_int_equal(job_trouble_duration(j, now), 0); /* there was none, whatever it waited for */
        assert_int_equal(attempt(j, patience, 900, &now), 1);
        job_note_trouble(j, 500, /* has_finished_some= */ false, now, now + hour);
        now += hour;
        assert_int_equal(job_trouble_duration(j, now), USEC_PER_SEC);
        assert_int_equal(job_next_pause(j, patience, now), 2 * USEC_PER_SEC);
        /* One that hangs and then has done nothing is trouble all the while. */
        job_note_trouble(j, 0, /* has_finished_some= */ false, now, now + hour);
        assert_int_equal(job_next_pause(j, patience, now + hour), 0);
}

static void test_steps_and_notes_are_bounded(void **state) {
        _cleanup_(job_freep) Job *j = make_job(), *k = make_job();
        static char long_note[30000];
        WireRecord r;

        r = (WireRecord){ .kind = WIRE_STEP };
        wire_set(r.name, "build");
        for (size_t i = 0; i < JOB_STEPS_MAX + 10; i++) {
                r.entries_total = i;
                assert_int_equal(job_add_step(j, &r), 0);
        }
        assert_int_equal(j->n_steps, JOB_STEPS_MAX);
        assert_int_equal(j->n_steps_seen, JOB_STEPS_MAX + 10);
        assert_int_equal(j->steps[JOB_STEPS_MAX - 1].entries, JOB_STEPS_MAX - 1);
        for (size_t i = 0; i < JOB_NOTES_MAX + 10; i++)
                assert_int_equal(job_add_note(j, "note"), 0);
        assert_int_equal(j->n_notes, JOB_NOTES_MAX);
        assert_int_equal(j->n_notes_seen, JOB_NOTES_MAX + 10);
        assert_null(j->notes[JOB_NOTES_MAX]);
        /* By size, too; once something is left out nothing is added, so that it really is the first ones. */
        memset(long_note, 'x', sizeof(long_note) - 1);
        for (size_t i = 0; i < 5; i++)
                assert_int_equal(job_add_note(k, i < 4 ? long_note : "short"), 0);
        assert_int_equal(k->n_notes, 2);
        assert_int_equal(k->n_notes_seen, 5);
        memset(r.path, 'p', sizeof(r.path) - 1);
        for (size_t i = 0; i < 1000; i++)
                assert_int_equal(job_add_step(k, &r), 0);
        assert_in_range(k->n_steps, 200, 260);
}

static bool conflict(const char *overlay_a, const char *a, const char *overlay_b, const char *b) {
        _cleanup_(job_freep) Job *x = NULL, *y = NULL;

        assert_int_equal(job_new(1, JOB_FINALIZE, overlay_a, "/ovl", a, &x), 0);
        assert_int_equal(job_new(2, JOB_UNFINALIZE, overlay_b, "/ovl", b, &y), 0);
        assert_int_equal(job_conflicts(x, y), job_conflicts(y, x));
        return job_conflicts(x, y);
}

static void test_conflicts(void **state) {
        assert_true(conflict("o", "a", "o", "a"));
        assert_true(conflict("o", "a", "o", "a/b/c"));
        assert_true(conflict("o", "", "o", "a"));
        assert_false(conflict("o", "a", "o", "ab"));
        assert_false(conflict("o", "a/b", "o", "a/c"));
        assert_false(conflict("o", "a", "p", "a"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_new),
                cmocka_unit_test(test_transitions),
                cmocka_unit_test(test_times),
                cmocka_unit_test(test_ends),
                cmocka_unit_test(test_attempts),
                cmocka_unit_test(test_canceled_jobs_are_not_retried),
                cmocka_unit_test(test_which_may_wait),
                cmocka_unit_test(test_pauses),
                cmocka_unit_test(test_held_up),
                cmocka_unit_test(test_time_at_work_is_no_trouble),
                cmocka_unit_test(test_steps_and_notes_are_bounded),
                cmocka_unit_test(test_conflicts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
