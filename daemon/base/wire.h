/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What travels between the daemon, or ovlfinctl, and a worker process, over a SOCK_SEQPACKET socketpair that
 * the worker finds as descriptor WORKER_FD. What a worker does about it is not told here. Both sides are of
 * one build, so there is no version negotiation. A packet whose parts do not fill it is an error. */

/* To the worker: one request, a packet of NUL-terminated "KEY=VALUE" strings (keys below). Then at most one
 * packet "cancel", which means nothing once the result is sent; a watcher also takes "rearm", "pause PATH",
 * "pause-parents PATH", "resume PATH", "look PATH" and "looked PATH" (core/watch/watcher.h), other sources
 * of heat what overlays/source.h tells. End of file means that whoever asked is gone: the worker ends at the
 * next step.
 *
 * From the worker: WireRecords, a packet each, of whose strings only what is used travels. The last one a
 * job sends is WIRE_RESULT. A worker that keeps an old tree for processes standing in it lives on
 * afterwards, sends WIRE_KEPT when their number changes, and simply exits at the end. */
#pragma once

#include <limits.h>

#include "base/failure.h"
#include "base/histogram.h"
#include "base/states.h"

#define WORKER_FD 3
/* Exit status, with no result: a swap has waited, and is to begin anew. */
#define WORKER_EXIT_AGAIN 75
/* At any time: the overlay was unmounted. */
#define WORKER_EXIT_UNMOUNTED 76
#define WIRE_REQUEST_MAX                                                                                    \
        (64 * 1024) /* a PATH_MAX path and some options; layers may be given, so leave room */

/* Keys of a request. Paths are absolute unless said otherwise. */
#define WIRE_VERB "VERB" /* job_type_to_string() */
#define WIRE_OVERLAY                                                                                        \
        "OVERLAY" /* name of the overlay, for records and staging; empty for an unconfigured one */
#define WIRE_MOUNT_POINT "MOUNT_POINT" /* of the overlay */
#define WIRE_PATH "PATH" /* relative to the mount point, no leading or trailing '/', "" is the root */
#define WIRE_STATE_DIR "STATE_DIR" /* where the records of finalized directories are kept */
#define WIRE_LOWER_DIR "LOWER_DIR" /* overrides from the configuration, optional */
#define WIRE_UPPER_DIR "UPPER_DIR"
#define WIRE_WORK_DIR "WORK_DIR"
#define WIRE_OFFLINE "OFFLINE" /* 1: not mounted; UPPER_DIR and LOWER_DIR say where it is */
#define WIRE_QUIET_USEC "QUIET_USEC"
#define WIRE_STANDING "STANDING"     /* standing_to_string() */
#define WIRE_HARD_LINKS "HARD_LINKS" /* skip, break */
#define WIRE_WORKERS "WORKERS"       /* threads, 1-256 */
#define WIRE_METHOD "METHOD"         /* method_to_string() */
#define WIRE_DEPTH "DEPTH"           /* levels below PATH to be marked; absent: all */
#define WIRE_PARENTS "PARENTS"       /* 1: mark the directories above PATH, too */
#define WIRE_DRY_RUN "DRY_RUN"       /* 1: send WIRE_STEP records, change nothing */
#define WIRE_OLD_TREES "OLD_TREES"   /* ids of old trees of PATH, with blanks between them */
#define WIRE_FORCE                                                                                          \
        "FORCE" /* 1: an unfinalize whose record is lost goes ahead, a swap does not wait for blockers */
#define WIRE_REMOUNT "REMOUNT" /* reconfigure, swap */
#define WIRE_SET "SET"         /* options a swap is to change, "OPTION=VALUE,..." */
#define WIRE_COVER "COVER"     /* 1: where the kernel cannot mount beneath, a swap may cover the old mount */
#define WIRE_ADAPT "ADAPT"     /* 1: use fewer threads as long as more are no faster */
#define WIRE_RATE "RATE"       /* entries a second; absent: any number */
#define WIRE_MIN_FREE_SPACE "MIN_FREE_SPACE" /* "5%" or bytes */
#define WIRE_MIN_FREE_INODES "MIN_FREE_INODES"
#define WIRE_MAX_ENTRIES "MAX_ENTRIES" /* of a tree; absent: any number */
#define WIRE_BACKGROUND "BACKGROUND"   /* 1: nobody waits for it */
#define WIRE_DIRECTORIES "DIRECTORIES" /* patterns, separated by blanks (glob.h) */
#define WIRE_EXCLUDE "EXCLUDE"
#define WIRE_MAX_WATCHES "MAX_WATCHES"
#define WIRE_ASKED "ASKED" /* 1: somebody asked for the job: the overlay is in use while it lasts */
#define WIRE_HOT_WINDOW "HOT_WINDOW" /* microseconds */
#define WIRE_VARIABLES "VARIABLES"   /* patterns of names, separated by blanks */
#define WIRE_REPAIR "REPAIR"         /* 1: verify repairs what it can */
#define WIRE_RESET "RESET"           /* 1: an unfinalize with OFFLINE drops copies, too */
#define WIRE_REFRESH_BYTES                                                                                  \
        "REFRESH_BYTES" /* a refresh that nobody asked for copies data of files up to this size; absent:    \
                           any */
#define WIRE_DATA_BYTES                                                                                     \
        "DATA_BYTES" /* finalize copies up the data of files up to this size; absent: none                  \
                      */

typedef enum WireKind {
        WIRE_PROGRESS, /* state = JobState, counters, text = what it is at */
        WIRE_STEP, /* a step of the plan: name = verb, path, text = explanation, entries_total; dry run only
                    */
        WIRE_DIRECTORY, /* state = DirectoryState; path, lower_path (absolute within the lower layers, ""
                         * unknown or none), text = reason, name = scheme, counters */
        WIRE_CHECK,     /* state = CheckLevel; name = id, text = finding, lower_path = advice */
        WIRE_NOTE,      /* something a person should know that is no failure: path, text */
        WIRE_BLOCKER,   /* state = BlockerKind; entries_total = PID, 0 none; errors = 1 if it blocks a swap;
                         * name =   command, path, lower_path = mount point; error = ENODATA: the path is not
                         * known */
        WIRE_KEPT, /* state = number of processes standing in the old tree of path, text = who, name = its id
                    */
        WIRE_DRAINING, /* the old superblock after a swap: state = number of processes that hold it, 0 it is
                        * gone;  text = who, path = its work directory (absolute), error = EROFS when it is
                        * read-only */
        WIRE_RESULT,   /* name = FailureKind or "None", error = errno, text = message, counters */
        WIRE_HEAT,     /* path, entries_total = opens in it since the last one, entries_done = what counts;
                        * of a source for all overlays: text = which, searches, misses, saved (source.h) */
        WIRE_WATCH,    /* of a source of heat: state = WatchState, entries_total = directories known,
                        * entries_done = watches, errors = directories left out, text = why, "" if all is told
                        */
        WIRE_PROBLEM,  /* name = kind, path, text = consequence, lower_path = cure, state = 1 if repaired */
        _WIRE_KIND_MAX,
} WireKind;

typedef enum WatchState {
        WATCH_IDLE, /* sleeps until something happens */
        WATCH_BUSY, /* walks: the next record comes within WATCH_PATIENCE_USEC, or its file system hangs */
} WatchState;

#define WATCH_PATIENCE_USEC (5 * USEC_PER_SEC)

typedef struct WireRecord {
        uint32_t size; /* of the packet it came in; wire_send() sets it there */
        uint32_t kind;
        uint32_t state; /* WIRE_RESULT: 1 when something could not be cleared away, and a survey is to follow
                         */
        int32_t error;  /* positive errno */
        uint64_t entries_done;  /* WIRE_STEP: inodes the step will take in the upper, estimated */
        uint64_t entries_total; /* WIRE_DIRECTORY: entries of the directory; WIRE_STEP: entries the step
                                   touches */
        uint64_t merge_children;
        uint64_t bytes; /* WIRE_STEP: space the step will take in the upper, estimated */
        uint64_t errors;
        uint64_t usec; /* WIRE_DIRECTORY: finalized since, realtime, 0 unknown; WIRE_RESULT: duration */
        uint64_t pause_usec;              /* WIRE_RESULT of a swap: how long a lookup may have waited */
        uint64_t searches, misses, saved; /* WIRE_HEAT */
        Histogram answers;                /* WIRE_RESULT: what throttle_copy_answers() gives */
        char name[64];
        char path[PATH_MAX];       /* relative to the mount point, "" is the root */
        char lower_path[PATH_MAX]; /* WIRE_PROGRESS: for whom the job waits to leave, as text */
        char text[1024];
} WireRecord;

/* Copies a string into a field of a record, cut at its size. dest is an array member. */
#define wire_set(dest, s) wire_copy((dest), sizeof(dest), (s))
void wire_copy(char *dest, size_t size, const char *s);

/* Sends one record, waits for room. -EPIPE: the other side is gone, -EBADMSG: a field that is not
 * NUL-terminated. */
int wire_send(int fd, const WireRecord *r);
/* Receives one record. 1 received, 0 the other side has ended, -EAGAIN (non-blocking descriptors), -EBADMSG
 * wrong size, an unknown kind, strings that are cut or do not fit their fields. What *ret holds is
 * undefined behind the NULs of its strings, and if nothing was received. */
int wire_receive(int fd, WireRecord *ret);
/* What a WIRE_RESULT says: 0, or the failure. */
int wire_result(const WireRecord *r, Failure *reterr);

/* A request under construction or received: "KEY=VALUE" strings. */
typedef struct WireRequest {
        char *buffer;
        size_t size;
        int error; /* what could not be added made it so; it is not sent then */
} WireRequest;

/* error becomes -E2BIG past WIRE_REQUEST_MAX, or -ENOMEM. */
void wire_request_add(WireRequest *q, const char *key, const char *value);
void wire_request_add_number(WireRequest *q, const char *key, uint64_t n);
/* Adds "1", or nothing; and a value, or nothing for NULL. */
void wire_request_add_flag(WireRequest *q, const char *key, bool is_set);
void wire_request_add_optional(WireRequest *q, const char *key, const char *value);
const char *wire_request_get(const WireRequest *q, const char *key); /* NULL when absent; borrowed */
int wire_request_send(int fd, const WireRequest *q);                 /* or its error */
int wire_request_receive(int fd, WireRequest *ret); /* 1, 0 at end of file, negative errno */
void wire_request_done(WireRequest *q);
