/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/mountstats.h"

#include <inttypes.h>
#include <string.h>

#include "base/path-util.h"
#include "base/proc-scan.h"
#include "base/utf8.h"

/* "device SOURCE mounted on POINT with fstype TYPE ...": how long POINT is if path lies below it, else 0. */
static size_t covers(char *line, const char *path, bool *ret_is_nfs) {
        char *point = strstr(line, " mounted on "), *type = point ? strstr(point, " with fstype ") : NULL;

        if (!type)
                return 0;
        point += strlen(" mounted on ");
        *type = '\0';
        *ret_is_nfs = strncmp(type + strlen(" with fstype "), "nfs", 3) == 0;
        proc_unescape(point);
        return path_startswith(path, point) ? strlen(point) : 0;
}

int mountstats_find(FILE *f, const char *path, MountStats *ret) {
        bool is_here = false, is_nfs = false, is_next_nfs = false;
        _cleanup_free_ char *line = NULL;
        size_t size = 0, best = 0;
        MountStats s;

        while (getline(&line, &size, f) > 0) {
                if (strncmp(line, "device ", strlen("device ")) == 0) {
                        size_t n = covers(line, path, &is_next_nfs);

                        is_here = n > 0 && n >= best;
                        best = is_here ? n : best;
                        is_nfs = is_here ? is_next_nfs : is_nfs;
                        if (is_here)
                                *ret = (MountStats){ 0 };
                        continue;
                }
                s.errors = UINT64_MAX;
                if (is_here &&
                    sscanf(line, " LOOKUP: %" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &s.lookups,
                           &s.errors) >= 1)
                        *ret = s;
        }
        return is_nfs;
}

void mountstats_add(Record *overlay) {
        char *const *lower = record_get_strings(overlay, "lower_dirs");
        const RecordList *counters = record_get_list(overlay, "counters");
        _cleanup_free_ char *path = lower[0] ? utf8_unescape(lower[0]) : NULL;
        _cleanup_fclose_ FILE *f = path ? fopen("/proc/self/mountstats", "re") : NULL;
        MountStats s = { 0 };

        if (!f || (counters->n > 0 && record_get(counters->items, "counted_usec")) ||
            mountstats_find(f, path, &s) == 0)
                return;
        record_set_number(overlay, "nfs_lookups", s.lookups);
        if (s.errors != UINT64_MAX)
                record_set_number(overlay, "nfs_lookup_errors", s.errors);
}
