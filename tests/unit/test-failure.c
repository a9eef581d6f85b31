/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "base/failure.h"

static void test_names(void **state) {
        for (FailureKind k = 0; k < _FAILURE_MAX; k++) {
                assert_non_null(failure_kind_to_string(k));
                assert_int_equal(failure_kind_from_string(failure_kind_to_string(k)), k);
        }
        assert_string_equal(failure_kind_to_string(FAILURE_PRECONDITION), "Precondition");
        assert_string_equal(failure_kind_to_string(_FAILURE_MAX), "Failed");
        assert_string_equal(failure_kind_to_string(_FAILURE_INVALID), "Failed");
        assert_int_equal(failure_kind_from_string("precondition"), _FAILURE_INVALID);
        assert_int_equal(failure_kind_from_string(""), _FAILURE_INVALID);
        assert_int_equal(failure_kind_from_string(NULL), _FAILURE_INVALID);
}

static void test_set(void **state) {
        _cleanup_failure_ Failure f = FAILURE_INIT;

        assert_int_equal(failure_set(&f, FAILURE_BUSY, EBUSY, "'%s' is busy", "/a"), -EBUSY);
        assert_int_equal(f.kind, FAILURE_BUSY);
        assert_int_equal(f.error, EBUSY);
        assert_string_equal(f.message, "'/a' is busy");
}

/* The first cause is what a person needs; what fails afterwards follows from it. */
static void test_first_wins(void **state) {
        _cleanup_failure_ Failure f = FAILURE_INIT;

        (void) failure_set(&f, FAILURE_BUSY, EBUSY, "first");
        assert_int_equal(failure_set(&f, FAILURE_FAILED, EIO, "second"), -EIO);
        assert_int_equal(failure_set_errno(&f, -ENOSPC, "third"), -ENOSPC);
        assert_int_equal(f.kind, FAILURE_BUSY);
        assert_string_equal(f.message, "first");
}

static void test_nowhere(void **state) {
        assert_int_equal(failure_set(NULL, FAILURE_BUSY, EBUSY, "%d", 1), -EBUSY);
        assert_int_equal(failure_set_errno(NULL, -EIO, "%d", 1), -EIO);
        assert_true(failure_set(NULL, FAILURE_INVALID, 0, "no errno") < 0);
}

static void test_errno(void **state) {
        static const struct {
                int error;
                FailureKind kind;
        } rows[] = {
                { ENOSPC, FAILURE_NO_SPACE },       { EDQUOT, FAILURE_NO_SPACE },
                { EIO, FAILURE_LOWER_UNREACHABLE }, { ESTALE, FAILURE_LOWER_UNREACHABLE },
                { ECANCELED, FAILURE_CANCELED },    { EBUSY, FAILURE_BUSY },
                { EROFS, FAILURE_PRECONDITION },    { ENOENT, FAILURE_INVALID },
                { ENOTDIR, FAILURE_INVALID },       { ENOMEM, FAILURE_FAILED },
                { EPERM, FAILURE_FAILED },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_failure_ Failure f = FAILURE_INIT;

                assert_int_equal(
                        failure_set_errno(&f, -rows[i].error, "cannot read '%s'", "/a"), -rows[i].error);
                assert_int_equal(f.kind, rows[i].kind);
                assert_int_equal(f.error, rows[i].error);
                assert_contains(f.message, "cannot read '/a': ");
                assert_contains(f.message, strerror(rows[i].error));
        }
}

static void test_move(void **state) {
        _cleanup_failure_ Failure a = FAILURE_INIT, b = FAILURE_INIT, c = FAILURE_INIT;

        (void) failure_set(&a, FAILURE_BUSY, EBUSY, "a");
        (void) failure_set(&b, FAILURE_INVALID, EINVAL, "b");
        failure_move(&c, &a);
        assert_string_equal(c.message, "a");
        assert_int_equal(a.kind, FAILURE_NONE);
        assert_null(a.message);
        failure_move(&c, &b);
        assert_string_equal(c.message, "a");
        assert_null(b.message);
        failure_move(NULL, &c);
        assert_int_equal(c.kind, FAILURE_NONE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),      cmocka_unit_test(test_set),
                cmocka_unit_test(test_first_wins), cmocka_unit_test(test_nowhere),
                cmocka_unit_test(test_errno),      cmocka_unit_test(test_move),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
