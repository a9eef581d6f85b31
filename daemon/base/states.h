/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The words every interface spells alike: states of directories and jobs, types of jobs, methods, levels of
 * checks. The enums are what travels on the wire and in the code; the strings are what the bus, JSON and
 * files have. What a state means is told in docs/reasons.md. */
#pragma once

#include "base/macro.h"

typedef enum DirectoryState {
        DIRECTORY_MERGED,
        DIRECTORY_COPYING,
        DIRECTORY_COPIED_UP,
        DIRECTORY_PENDING,
        DIRECTORY_FINALIZED,
        DIRECTORY_STALE,
        DIRECTORY_GONE,
        DIRECTORY_BROKEN,
        DIRECTORY_EXCLUDED,
        DIRECTORY_LOCAL,
        _DIRECTORY_STATE_MAX,
        _DIRECTORY_STATE_INVALID = -EINVAL,
} DirectoryState;

typedef enum JobState {
        JOB_QUEUED,
        JOB_RUNNING,  /* reading and copying up */
        JOB_APPLYING, /* changing what users see */
        JOB_WAITING,  /* for quiet, or for somebody to leave */
        JOB_DONE,
        JOB_FAILED,
        JOB_CANCELED,
        _JOB_STATE_MAX,
        _JOB_STATE_INVALID = -EINVAL,
} JobState;

/* What a worker can be asked for. SURVEY, INSPECT, CHECK, BLOCKERS and COMPARE are quick questions and the
 * daemon's own housekeeping, the others are jobs users see. */
typedef enum JobType {
        JOB_FINALIZE,
        JOB_UNFINALIZE,
        JOB_REMOUNT,  /* of an overlay as a whole: reconfigure it, or swap its superblock */
        JOB_SURVEY,   /* finish or clean up what a crash left, then report every finalized directory */
        JOB_INSPECT,  /* the state of one directory */
        JOB_CHECK,    /* preconditions of an overlay */
        JOB_BLOCKERS, /* who uses an overlay */
        JOB_WATCH,    /* tell how much directories are used, until told to end */
        JOB_REFRESH,  /* take up what changed in the lower, stay finalized */
        JOB_PRUNE,    /* remove what stands for something that was removed from the lower */
        JOB_VERIFY,   /* audit of the upper, and repair */
        JOB_COMPARE,  /* which finalized directories are stale or gone */
        JOB_PATHS,    /* tell which directories programs begin to search, until told to end */
        JOB_MISSES,   /* tell where lookups find nothing, until told to end */
        _JOB_TYPE_MAX,
        _JOB_TYPE_INVALID = -EINVAL,
} JobType;

typedef enum RemountMethod {
        REMOUNT_RECONFIGURE, /* in place: what is cached of the overlay is dropped */
        REMOUNT_SWAP,        /* a new superblock takes its place */
        _REMOUNT_METHOD_MAX,
        _REMOUNT_METHOD_INVALID = -EINVAL,
} RemountMethod;

/* How directories become finalized. */
typedef enum Method {
        METHOD_AUTO, /* exchange, and mark for what that cannot serve */
        METHOD_EXCHANGE,
        METHOD_MARK,
        _METHOD_MAX,
        _METHOD_INVALID = -EINVAL,
} Method;

/* What becomes of an exchange while processes stand in the directory. */
typedef enum StandingPolicy {
        STANDING_AUTO, /* keep the old tree for those who can change no name in it, wait for the others */
        STANDING_KEEP, /* keep it for all */
        STANDING_WAIT, /* wait for all */
        _STANDING_MAX,
        _STANDING_INVALID = -EINVAL,
} StandingPolicy;

typedef enum CheckLevel {
        CHECK_OK,
        CHECK_WARNING,
        CHECK_FAIL,
        _CHECK_LEVEL_MAX,
        _CHECK_LEVEL_INVALID = -EINVAL,
} CheckLevel;

/* How a process, or another mount, holds on to an overlay. */
typedef enum BlockerKind {
        BLOCKER_OPEN_WRITE, /* a file that is open for writing */
        BLOCKER_OPEN,       /* a file for reading, a directory, a path */
        BLOCKER_CWD,
        BLOCKER_ROOT,
        BLOCKER_MMAP,
        BLOCKER_LOCK, /* flock(), POSIX, open file description, leases */
        BLOCKER_SOCKET,
        BLOCKER_FIFO,
        BLOCKER_WATCH, /* inotify, fanotify */
        BLOCKER_MOUNT, /* in another mount namespace, a bind mount, a mount inside */
        BLOCKER_LAYER, /* another overlay, of which a directory is a layer */
        _BLOCKER_KIND_MAX,
        _BLOCKER_KIND_INVALID = -EINVAL,
} BlockerKind;

#define DECLARE_STRING_TABLE(name, type)                                                                    \
        const char *name##_to_string(type v) _pure_;                                                        \
        type name##_from_string(const char *s) _pure_

DECLARE_STRING_TABLE(directory_state, DirectoryState);
DECLARE_STRING_TABLE(job_state, JobState);
DECLARE_STRING_TABLE(job_type, JobType);
DECLARE_STRING_TABLE(remount_method, RemountMethod);
DECLARE_STRING_TABLE(method, Method);
DECLARE_STRING_TABLE(standing, StandingPolicy);
DECLARE_STRING_TABLE(check_level, CheckLevel);
DECLARE_STRING_TABLE(blocker_kind, BlockerKind);

/* Lookups of absent names do not reach the lower, whatever has become of that. */
static inline bool directory_state_is_finalized(DirectoryState s) {
        return s == DIRECTORY_FINALIZED || s == DIRECTORY_STALE || s == DIRECTORY_GONE;
}

/* Whether it is a source of heat, which lives for long and listens for itself. */
static inline bool job_type_is_source(JobType t) {
        return t == JOB_WATCH || t == JOB_PATHS || t == JOB_MISSES;
}

static inline bool job_state_is_final(JobState s) {
        return s == JOB_DONE || s == JOB_FAILED || s == JOB_CANCELED;
}
