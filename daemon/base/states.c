/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/states.h"

#include <string.h>

#define DEFINE_STRING_TABLE(name, type, max)                                                                \
        const char *name##_to_string(type v) {                                                              \
                return v >= 0 && v < (max) ? name##_table[v] : NULL;                                        \
        }                                                                                                   \
        type name##_from_string(const char *s) {                                                            \
                for (type v = 0; v < (max); v++)                                                            \
                        if (s && strcmp(name##_table[v], s) == 0)                                           \
                                return v;                                                                   \
                return (type) -EINVAL;                                                                      \
        }                                                                                                   \
        struct __table_semicolon_eater__

static const char *const directory_state_table[_DIRECTORY_STATE_MAX] = {
        [DIRECTORY_MERGED] = "merged",       [DIRECTORY_COPYING] = "copying",
        [DIRECTORY_COPIED_UP] = "copied-up", [DIRECTORY_PENDING] = "pending",
        [DIRECTORY_FINALIZED] = "finalized", [DIRECTORY_STALE] = "stale",
        [DIRECTORY_GONE] = "gone",           [DIRECTORY_BROKEN] = "broken",
        [DIRECTORY_EXCLUDED] = "excluded",   [DIRECTORY_LOCAL] = "local",
};

static const char *const job_state_table[_JOB_STATE_MAX] = {
        [JOB_QUEUED] = "queued",     [JOB_RUNNING] = "running", [JOB_APPLYING] = "applying",
        [JOB_WAITING] = "waiting",   [JOB_DONE] = "done",       [JOB_FAILED] = "failed",
        [JOB_CANCELED] = "canceled",
};

static const char *const job_type_table[_JOB_TYPE_MAX] = {
        [JOB_FINALIZE] = "finalize", [JOB_UNFINALIZE] = "unfinalize", [JOB_REMOUNT] = "remount",
        [JOB_SURVEY] = "survey",     [JOB_INSPECT] = "inspect",       [JOB_CHECK] = "check",
        [JOB_BLOCKERS] = "blockers", [JOB_WATCH] = "watch",           [JOB_REFRESH] = "refresh",
        [JOB_PRUNE] = "prune",       [JOB_VERIFY] = "verify",         [JOB_COMPARE] = "compare",
        [JOB_PATHS] = "paths",       [JOB_MISSES] = "misses",
};

static const char *const remount_method_table[_REMOUNT_METHOD_MAX] = {
        [REMOUNT_RECONFIGURE] = "reconfigure",
        [REMOUNT_SWAP] = "swap",
};

static const char *const check_level_table[_CHECK_LEVEL_MAX] = {
        [CHECK_OK] = "ok",
        [CHECK_WARNING] = "warning",
        [CHECK_FAIL] = "fail",
};

static const char *const blocker_kind_table[_BLOCKER_KIND_MAX] = {
        [BLOCKER_OPEN_WRITE] = "open-write",
        [BLOCKER_OPEN] = "open",
        [BLOCKER_CWD] = "cwd",
        [BLOCKER_ROOT] = "root",
        [BLOCKER_MMAP] = "mmap",
        [BLOCKER_LOCK] = "lock",
        [BLOCKER_SOCKET] = "socket",
        [BLOCKER_FIFO] = "fifo",
        [BLOCKER_WATCH] = "watch",
        [BLOCKER_MOUNT] = "mount",
        [BLOCKER_LAYER] = "layer",
};

static const char *const method_table[_METHOD_MAX] = {
        [METHOD_AUTO] = "auto",
        [METHOD_EXCHANGE] = "exchange",
        [METHOD_MARK] = "mark",
};

static const char *const standing_table[_STANDING_MAX] = {
        [STANDING_AUTO] = "auto",
        [STANDING_KEEP] = "keep",
        [STANDING_WAIT] = "wait",
};

DEFINE_STRING_TABLE(directory_state, DirectoryState, _DIRECTORY_STATE_MAX);
DEFINE_STRING_TABLE(job_state, JobState, _JOB_STATE_MAX);
DEFINE_STRING_TABLE(job_type, JobType, _JOB_TYPE_MAX);
DEFINE_STRING_TABLE(remount_method, RemountMethod, _REMOUNT_METHOD_MAX);
DEFINE_STRING_TABLE(method, Method, _METHOD_MAX);
DEFINE_STRING_TABLE(standing, StandingPolicy, _STANDING_MAX);
DEFINE_STRING_TABLE(check_level, CheckLevel, _CHECK_LEVEL_MAX);
DEFINE_STRING_TABLE(blocker_kind, BlockerKind, _BLOCKER_KIND_MAX);
