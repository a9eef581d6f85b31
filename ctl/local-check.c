/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/local-check.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path-util.h"
#include "ctl/local-worker.h"

/* STATX_ATTR_MOUNT_ROOT: since Linux 5.8, probed by stx_attributes_mask. */
static bool is_mount_root(const char *path) {
        struct statx sx;

        if (statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, STATX_TYPE, &sx) < 0)
                return true;
        return !(sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) ||
                (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

char *mount_root(const char *path) {
        _cleanup_free_ char *p = strdup(path);

        while (p && *p && !is_mount_root(p)) {
                char *parent = path_dirname(p);

                free(p);
                p = parent;
        }
        if (!p)
                return NULL;
        return *p ? TAKE_PTR(p) : strdup("/");
}

static int request_send(int fd, const char *mount_point) {
        WireRequest q = { 0 };
        int r;

        r = wire_request_add(&q, WIRE_VERB, job_type_to_string(JOB_CHECK));
        if (r >= 0)
                r = wire_request_add(&q, WIRE_OVERLAY, "");
        if (r >= 0)
                r = wire_request_add(&q, WIRE_MOUNT_POINT, mount_point);
        if (r >= 0)
                r = wire_request_add(&q, WIRE_PATH, "");
        if (r >= 0)
                r = wire_request_send(fd, &q);
        wire_request_done(&q);
        return r;
}

static int list_add(RecordList *l, const WireRecord *wire, const char *mount_point) {
        _cleanup_record_ Record record = { 0 };
        int r;

        r = record_set_name(&record, "mount_point", mount_point);
        if (r >= 0)
                r = record_set_string(&record, "id", wire->name);
        if (r >= 0)
                r = record_set_string(
                        &record, "level", check_level_to_string((CheckLevel) wire->state) ?: "fail");
        if (r >= 0)
                r = record_set_name(&record, "text", wire->text);
        if (r >= 0 && *wire->lower_path)
                r = record_set_name(&record, "advice", wire->lower_path);
        return r < 0 ? r : record_list_take(l, &record);
}

static int results_receive(int fd, const char *mount_point, RecordList *l, Failure *reterr) {
        _cleanup_free_ WireRecord *wire = malloc(sizeof(*wire));
        int r;

        if (!wire)
                return failure_set_errno(reterr, -ENOMEM, "cannot check");
        while ((r = wire_receive(fd, wire)) > 0) {
                if (wire->kind == WIRE_RESULT)
                        return worker_result_to_failure(wire, reterr);
                if (wire->kind == WIRE_CHECK)
                        r = list_add(l, wire, mount_point);
                if (r < 0)
                        break;
        }
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the worker's answer");
        return failure_set(reterr, FAILURE_FAILED, EIO, "the worker ended without a result");
}

int local_check(const char *mount_point, RecordList *ret, Failure *reterr) {
        _cleanup_record_list_ RecordList l = { 0 };
        int fd = -EBADF, r;
        pid_t pid = 0;

        r = worker_spawn(&fd, &pid);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot start '%s'", worker_path());
        r = request_send(fd, mount_point);
        if (r < 0)
                r = failure_set_errno(reterr, r, "cannot ask the worker");
        else
                r = results_receive(fd, mount_point, &l, reterr);
        fd = fd_close(fd); /* end of file ends the worker, whatever it is at */
        worker_leave(pid);
        if (r < 0)
                return r;
        *ret = l;
        l = (RecordList){ 0 };
        return 0;
}
