/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <unistd.h>

#include "jobs/state.h"
#include "service/state-file.h"
#include "unit.h"

typedef struct Loaded {
        char text[2048];
} Loaded;

static void take(const SavedJob *j, void *userdata) {
        Loaded *l = userdata;
        size_t n = strlen(l->text);

        (void) snprintf(
                l->text + n, sizeof(l->text) - n, "%u %s %u %llu [%s] [%s] [%s] ", j->id,
                job_type_to_string(j->type), j->n_attempts, (unsigned long long) j->queued_usec, j->overlay,
                j->mount_point, j->path);
        n = strlen(l->text);
        if (j->can_go_on)
                (void) snprintf(l->text + n, sizeof(l->text) - n, "%u\n", j->uid);
        else
                (void) snprintf(l->text + n, sizeof(l->text) - n, "-\n");
}

static Job *add(Queue *q, uint32_t id, const char *path) {
        Job *j;

        assert_int_equal(job_new(id, id % 2 ? JOB_FINALIZE : JOB_UNFINALIZE, "so-ft", "/o vl", path, &j), 0);
        j->queued_usec = id * 100;
        assert_int_equal(queue_add(q, j), 0);
        return j;
}

static void test_round_trip(void **state) {
        _cleanup_(queue_freep) Queue *q = queue_new();
        _cleanup_failure_ Failure none = FAILURE_INIT;
        _cleanup_free_ char *text = NULL;
        Loaded l = { "" };
        uint32_t last = 0;

        add(q, 1, "a b%\n\xff/=c")->options.uid = 1000;
        assert_int_equal(job_set_state(add(q, 2, ""), JOB_RUNNING, 5), 1);
        queue_find(q, 2)->options.is_forced = true;
        assert_int_equal(job_set_state(add(q, 3, "finished"), JOB_RUNNING, 5), 1);
        assert_int_equal(job_finish(queue_find(q, 3), &none, 6), 1);
        add(q, 5, "dry")->options.is_dry_run = true;
        text = state_format(7, q);
        assert_non_null(text);
        assert_int_equal(state_file_replace(at("new/state").s, STATE_FILE_NAME, text), 0);
        assert_int_equal(state_load(at("new/state").s, take, &l, &last), 0);
        assert_int_equal(last, 7);
        assert_string_equal(
                l.text,
                "1 finalize 0 100 [so-ft] [/o vl] [a b%\n\xff/=c] 1000\n2 unfinalize 1 200 [so-ft] [/o vl] "
                "[] -\n");
}

static void test_nothing_saved(void **state) {
        uint32_t last = 3;

        assert_int_equal(state_load(at("nothing").s, take, NULL, &last), -ENOENT);
        make_directory(at("empty").s);
        assert_int_equal(state_load(at("empty").s, take, NULL, &last), -ENOENT);
        assert_int_equal(last, 3);
}

static void test_damaged(void **state) {
        static const char *const bad[] = {
                "",
                "ovlfind-jobs 2\nlast 1\nend\n",
                "ovlfind-jobs 1\nlast x\nend\n",
                "ovlfind-jobs 1\nlast 1\n", /* cut off */
                "ovlfind-jobs 1\nlast 1\n1 finalize 0 5 =a =b\nend\n",
                "ovlfind-jobs 1\nlast 1\n1 odd 0 5 =a =b =c\nend\n",
                "ovlfind-jobs 1\nlast 1\n1 finalize x 5 =a =b =c\nend\n",
                "ovlfind-jobs 1\nlast 1\n1 finalize 0 5 =a =b =c x\nend\n",
                "ovlfind-jobs 1\nlast 1\n1 finalize 0 5 a =b =c\nend\n",
                "ovlfind-jobs 1\nlast 1\n1 finalize 0 5 =a =b =%4\nend\n",
                "ovlfind-jobs 1\nlast 99999999999\nend\n",
        };
        Path dir = at("state"), file = at("state/jobs"), aside = at("state/jobs.bad");

        make_directory(dir.s);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                Loaded l = { "" };
                uint32_t last = 3;

                make_text(file.s, bad[i]);
                assert_int_equal(state_load(dir.s, take, &l, &last), -EBADMSG);
                assert_int_equal(last, 3);
                assert_int_equal(access(file.s, F_OK), -1);
                assert_int_equal(access(aside.s, F_OK), 0);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_round_trip),
                unit_test_scratch(test_nothing_saved),
                unit_test_scratch(test_damaged),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
