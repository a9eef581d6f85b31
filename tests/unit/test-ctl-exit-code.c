/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include "ctl/exit-code.h"
#include "ctl/job.h"

static void test_names(void **state) {
        static const struct {
                const char *name;
                ExitCode code;
        } rows[] = {
                { NULL, EXIT_CODE_FAILURE },
                { "", EXIT_CODE_FAILURE },
                { "org.freedesktop.DBus.Error.Failed", EXIT_CODE_FAILURE },
                { "org.ovlfind1.Error.NotManaged", EXIT_CODE_NOT_MANAGED },
                { "org.ovlfind1.Error.NoSuchOverlay", EXIT_CODE_NOT_MANAGED },
                { "org.ovlfind1.Error.NoSuchJob", EXIT_CODE_FAILURE },
                { "org.ovlfind1.Error.Precondition", EXIT_CODE_FAILURE },
                { "org.ovlfind1.Error.Busy", EXIT_CODE_FAILURE },
                { "org.ovlfind1.Error.NoSpace", EXIT_CODE_FAILURE },
                { "org.ovlfind1.Error.LowerUnreachable", EXIT_CODE_FAILURE },
                { "org.ovlfind1.Error.Canceled", EXIT_CODE_FAILURE },
                { "org.ovlfind1.Error.Invalid", EXIT_CODE_FAILURE },
                { "org.ovlfind1.Error.NotManagedAtAll", EXIT_CODE_FAILURE },
                { "org.freedesktop.DBus.Error.AccessDenied", EXIT_CODE_NOT_PERMITTED },
                { "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", EXIT_CODE_NOT_PERMITTED },
                { "org.freedesktop.DBus.Error.ServiceUnknown", EXIT_CODE_UNREACHABLE },
                { "org.freedesktop.DBus.Error.NameHasNoOwner", EXIT_CODE_UNREACHABLE },
                { "org.freedesktop.DBus.Error.NoReply", EXIT_CODE_UNREACHABLE },
                { "org.freedesktop.DBus.Error.Spawn.ChildExited", EXIT_CODE_UNREACHABLE },
                { "org.freedesktop.systemd1.NoSuchUnit", EXIT_CODE_UNREACHABLE },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                assert_int_equal(exit_code_from_error_name(rows[i].name), rows[i].code);
}

static void test_failures(void **state) {
        assert_int_equal(exit_code_from_failure(FAILURE_NONE), EXIT_CODE_OK);
        assert_int_equal(exit_code_from_failure(FAILURE_NOT_MANAGED), EXIT_CODE_NOT_MANAGED);
        assert_int_equal(exit_code_from_failure(FAILURE_NO_SUCH_OVERLAY), EXIT_CODE_NOT_MANAGED);
        assert_int_equal(exit_code_from_failure(FAILURE_PRECONDITION), EXIT_CODE_FAILURE);
        assert_int_equal(exit_code_from_failure(_FAILURE_INVALID), EXIT_CODE_FAILURE);
}

static ExitCode job_ends(const char *job_state, const char *error_name) {
        _cleanup_record_ Record job = { 0 };

        record_set_string(&job, "state", job_state);
        if (error_name)
                record_set_string(&job, "error_name", error_name);
        return job_exit_code(&job);
}

static void test_jobs(void **state) {
        assert_int_equal(job_ends("done", NULL), EXIT_CODE_OK);
        assert_int_equal(job_ends("failed", NULL), EXIT_CODE_FAILURE);
        assert_int_equal(job_ends("failed", "org.ovlfind1.Error.NotManaged"), EXIT_CODE_NOT_MANAGED);
        assert_int_equal(
                job_ends("failed", "org.freedesktop.DBus.Error.AccessDenied"), EXIT_CODE_NOT_PERMITTED);
        assert_int_equal(job_ends("canceled", "org.ovlfind1.Error.Canceled"), EXIT_CODE_FAILURE);
        assert_int_equal(job_ends("running", NULL), EXIT_CODE_FAILURE);
}

static void assert_summary(const Record *job, JobOutcome o, const char *expected) {
        _cleanup_free_ char *s = job_summary(job, &o);

        assert_string_equal(s, expected);
}

static void test_summary(void **state) {
        _cleanup_record_ Record job = { 0 };

        record_set_string(&job, "type", "finalize");
        record_set_string(&job, "path", "/ovl/a\nb");
        record_set_number(&job, "entries_done", 61);
        record_set_number(&job, "started_usec", 1000000);
        record_set_number(&job, "finished_usec", 1310000);
        assert_summary(
                &job, (JobOutcome){ .n_directories = 40 },
                "/ovl/a\\x0ab finalized: 61 entries in 40 directories, 0.31 s");
        assert_summary(
                &job, (JobOutcome){ .n_directories = 1, .n_excluded = 2, .n_pending = 3 },
                "/ovl/a\\x0ab finalized: 61 entries in 1 directory, 2 excluded, 3 pending, 0.31 s");
        record_set_string(&job, "type", "unfinalize");
        record_set_number(&job, "entries_done", 1);
        record_remove(&job, "started_usec");
        assert_summary(&job, (JobOutcome){ 0 }, "/ovl/a\\x0ab unfinalized: 1 entry");
        record_set_number(&job, "entries_done", 0);
        assert_summary(&job, (JobOutcome){ 0 }, "/ovl/a\\x0ab unfinalized: nothing to do");
        assert_summary(
                &job, (JobOutcome){ .n_directories = 1 },
                "/ovl/a\\x0ab unfinalized: 0 entries in 1 directory");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_failures),
                cmocka_unit_test(test_jobs),
                cmocka_unit_test(test_summary),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
