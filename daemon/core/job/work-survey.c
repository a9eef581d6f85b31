/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a crash left, and what there is: all work in staging is brought to its end, records of directories
 * that are gone are removed, every finalized directory is reported. It begins no work of its own. What a
 * living worker has locked is left to that one; what cannot be finished now is counted, and tried by the
 * next survey. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/proc-scan.h"
#include "core/context/staging.h"
#include "core/job/recover.h"
#include "core/job/work-internal.h"
#include "core/mark/mark.h"
#include "core/upper/names.h"
#include "core/upper/redirect-max.h"

/* A worker whose daemon was killed is killed as well, but may take a moment to die. */
#define PATIENCE_USEC (2 * USEC_PER_SEC)
#define LOOK_MSEC 50

typedef struct Survey {
        Context *context;
        Keepers *kept;
        PathList busy; /* ids of work that others have locked */
        uint64_t n_left;
} Survey;

static int survey_one(const char *id, void *userdata) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Survey *s = userdata;
        Exchange *x = NULL;
        int r = recover_one(s->context, id, &x, &f);

        if (r == -EBUSY)
                return path_list_add(&s->busy, id);
        if (r < 0) {
                /* ESTALE: somebody holds what it would be merged with; it goes later. */
                if (r != -ESTALE)
                        context_note(s->context, "", "%s", f.message ?: "cannot finish what a crash left");
                s->n_left++;
                return 0; /* the others can still be finished */
        }
        return keepers_retire(s->kept, x);
}

/* Those who are about to die are waited for, all of them together. */
static int survey_busy(Survey *s) {
        uint64_t end = now_monotonic_usec() + PATIENCE_USEC;
        int r = 0;

        while (r >= 0 && s->busy.n > 0 && now_monotonic_usec() < end && !context_is_canceled(s->context)) {
                _cleanup_paths_ PathList ids = s->busy;

                s->busy = (PathList){ 0 };
                keepers_wait(s->kept, LOOK_MSEC);
                r = keepers_look(s->context, s->kept);
                for (size_t i = 0; r >= 0 && i < ids.n; i++)
                        r = survey_one(ids.items[i], s);
        }
        return r;
}

typedef struct Holder {
        struct stat st; /* of what is locked */
        pid_t pid;
} Holder;

/* "1: FLOCK  ADVISORY  WRITE 22820 00:2c:7 0 EOF" */
static int find_holder(const char *line, void *userdata) {
        unsigned device_major, device_minor;
        Holder *h = userdata;
        unsigned long inode;
        int pid;

        if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &device_major, &device_minor, &inode) ==
                    4 &&
            makedev(device_major, device_minor) == h->st.st_dev && inode == h->st.st_ino)
                h->pid = pid;
        return 0;
}

static int find_parent(const char *line, void *userdata) {
        return sscanf(line, "PPid: %d", (int *) userdata) == 1 ? -EEXIST : 0;
}

/* Whether what holds the work is no worker of this one's daemon: it has been killed, and takes longer to
 * die, as one does that waits for a file system that hangs. */
static bool is_dying(const Survey *s, const char *id) {
        char path[sizeof(STAGING_NAME) + STAGING_ID_LENGTH + 1], status[64];
        _cleanup_close_ int fd = -EBADF;
        Holder h = { .pid = 0 };
        pid_t parent = 0;

        (void) snprintf(path, sizeof(path), "%s/%s", STAGING_NAME, id);
        fd = open_dir_beneath(s->context->root_fd, path);
        if (fd < 0 || fstat(fd, &h.st) < 0 ||
            proc_lines_foreach(AT_FDCWD, "/proc/locks", find_holder, &h) < 0 || h.pid <= 0)
                return false;
        (void) snprintf(status, sizeof(status), "/proc/%d/status", (int) h.pid);
        (void) proc_lines_foreach(AT_FDCWD, status, find_parent, &parent);
        return parent != getppid();
}

static int survey_works(Context *context, Keepers *kept, uint64_t *ret_n_left, Failure *reterr) {
        Survey s = { .context = context, .kept = kept };
        int r = staging_foreach(context, survey_one, &s, reterr);

        if (r >= 0)
                r = survey_busy(&s);
        for (size_t i = 0; i < s.busy.n; i++)
                s.n_left += is_dying(&s, s.busy.items[i]);
        *ret_n_left = s.n_left;
        path_list_done(&s.busy);
        return r;
}

static int survey_directories(Context *context, const WorkHooks *hooks, Failure *reterr) {
        _cleanup_(records_freep) Records *records = NULL;
        int r = work_load(context, "", &records, reterr);

        if (r >= 0) /* of what was not finished there may be none any more */
                r = records_prune(records, context->records_fd, context->upper_fd);
        if (r >= 0)
                r = audit_tree(context, records, "", hooks->report, hooks->userdata);
        if (r >= 0)
                r = audit_note_strays(context);
        context_forget_inner_mounts(context);
        return r < 0 ? failure_set_errno(reterr, r, "cannot survey '%s'", context->overlay->mount_point) : 0;
}

int work_survey(Context *context, const WorkHooks *hooks, uint64_t *ret_n_left, Failure *reterr) {
        int r = survey_works(context, hooks->kept, ret_n_left, reterr);

        if (r < 0)
                return r;
        redirect_max_recover();
        r = mark_repair(context, reterr);
        return r < 0 ? r : survey_directories(context, hooks, reterr);
}
