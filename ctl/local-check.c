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

typedef struct Answer {
        RecordList list;
        const char *mount_point;
} Answer;

static int take_check(const WireRecord *wire, void *userdata) {
        _cleanup_record_ Record record = { 0 };
        Answer *a = userdata;

        if (wire->kind != WIRE_CHECK)
                return 0;
        record_set_name(&record, "mount_point", a->mount_point);
        record_set_string(&record, "id", wire->name);
        record_set_string(&record, "level", check_level_to_string((CheckLevel) wire->state) ?: "fail");
        record_set_name(&record, "text", wire->text);
        if (*wire->lower_path)
                record_set_name(&record, "advice", wire->lower_path);
        return record_list_take(&a->list, &record);
}

int local_check(const char *mount_point, RecordList *ret, Failure *reterr) {
        Answer a = { .mount_point = mount_point };
        WireRequest q = { 0 };
        int r;

        wire_request_add(&q, WIRE_VERB, job_type_to_string(JOB_CHECK));
        wire_request_add(&q, WIRE_OVERLAY, "");
        wire_request_add(&q, WIRE_MOUNT_POINT, mount_point);
        wire_request_add(&q, WIRE_PATH, "");
        r = local_worker_run(&q, LOCAL_WORKER_LEAVE, take_check, &a, reterr);
        if (r < 0)
                record_list_done(&a.list);
        *ret = a.list;
        return r;
}
