/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who a program is, by its directory in /proc: since when it is there, with which rights it accesses files,
 * and whether it sees the overlays where we do. We act with its rights for accesses to files only (fsuid,
 * fsgid, groups): its user cannot send us signals by that, and the capabilities that are about files are
 * gone meanwhile. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/proc-scan.h"
#include "core/paths/paths-internal.h"

#define FORKED_ONLY 0x40u /* PF_FORKNOEXEC, linux/sched.h */
#define MOUNTS_MOST 4096u

size_t paths_read_proc(int dfd, const char *name, char *ret, size_t room) {
        _cleanup_close_ int fd = openat(dfd, name, O_RDONLY | O_CLOEXEC);
        size_t used = 0;
        ssize_t n;

        while (fd >= 0 && used < room - 1 && (n = read(fd, ret + used, room - 1 - used)) > 0)
                used += (size_t) n;
        ret[used] = '\0';
        return used;
}

/* Fields 9 and 22; the second one may hold anything, blanks and parentheses included. */
bool paths_process_begin(PathsProcess *p, int dfd, pid_t pid) {
        unsigned long long start;
        char text[1024];
        unsigned flags;
        const char *at;

        paths_process_done(p);
        p->dfd = dfd;
        if (paths_read_proc(dfd, "stat", text, sizeof(text)) == 0)
                return false;
        at = strrchr(text, ')');
        if (!at ||
            sscanf(at, ") %*c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                   &flags, &start) != 2)
                return false;
        p->has_executed = !(flags & FORKED_ONLY);
        p->start_usec = (uint64_t) start * (USEC_PER_SEC / (uint64_t) sysconf(_SC_CLK_TCK));
        p->id = hash_bytes(&(uint64_t[2]){ (uint64_t) pid, start }, 2 * sizeof(uint64_t));
        return true;
}

/* The last of real, effective, saved, and that for files. */
static bool read_id(const char *status, const char *key, unsigned *ret) {
        const char *line = strstr(status, key);

        return line && sscanf(line + strlen(key), "%*u %*u %*u %u", ret) == 1;
}

static bool read_groups(PathsProcess *p, const char *status) {
        static const char key[] = "\nGroups:";
        const char *at = strstr(status, key);
        char *end;

        if (!at)
                return false;
        p->n_groups = 0;
        for (at += strlen(key);; at = end) {
                unsigned long group = strtoul(at + strspn(at, " \t"), &end, 10);

                if (at[strspn(at, " \t")] == '\n')
                        return true;
                if (end == at || p->n_groups >= ELEMENTSOF(p->groups))
                        return false;
                p->groups[p->n_groups++] = (gid_t) group;
        }
}

static bool read_credentials(PathsProcess *p) {
        char status[16384]; /* whose name comes first, in one line, has no newline in it: it is escaped */
        uint64_t ids[2];

        if (paths_read_proc(p->dfd, "status", status, sizeof(status)) >= sizeof(status) - 1 ||
            !read_id(status, "\nUid:", &p->uid) || !read_id(status, "\nGid:", &p->gid) ||
            !read_groups(p, status))
                return false;
        ids[0] = ((uint64_t) p->uid << 32) | p->gid;
        ids[1] = hash_bytes(p->groups, p->n_groups * sizeof(gid_t));
        p->credentials = hash_bytes(ids, sizeof(ids));
        return true;
}

static bool is_elsewhere(int dfd) {
        char own[PATH_MAX], its[PATH_MAX];

        return !proc_read_link(AT_FDCWD, "/proc/self/ns/mnt", own) || !proc_read_link(dfd, "ns/mnt", its) ||
                strcmp(own, its) != 0 || !proc_read_link(dfd, "root", its) || strcmp(its, "/") != 0;
}

bool paths_process_read(PathsProcess *p) {
        p->is_elsewhere = is_elsewhere(p->dfd);
        return read_credentials(p);
}

void paths_process_done(PathsProcess *p) {
        free(p->shown);
        p->shown = NULL;
}

/* What it sees. */

typedef struct Look {
        const OverlaySet *set;
        bool *shown;
        unsigned n_mounts;
} Look;

/* Later ones cover earlier ones. */
static int on_mount(const char *line, void *userdata) {
        unsigned major_number, minor_number;
        char target[PATH_MAX];
        Look *l = userdata;

        if (l->n_mounts++ >= MOUNTS_MOST)
                return -E2BIG;
        if (sscanf(line, "%*u %*u %u:%u %*s %4095s", &major_number, &minor_number, target) != 3)
                return 0;
        proc_unescape(target);
        for (size_t i = 0; i < l->set->n; i++)
                if (strcmp(l->set->items[i].mount_point, target) == 0)
                        l->shown[i] = l->set->items[i].device == makedev(major_number, minor_number);
        return 0;
}

bool paths_process_shows(PathsProcess *p, const OverlaySet *s, const OverlayPlace *place) {
        Look l = { .set = s };

        if (!p->is_elsewhere)
                return true;
        if (!p->shown) {
                p->shown = l.shown = calloc(s->n, sizeof(bool));
                if (!p->shown)
                        return false;
                (void) proc_lines_foreach(p->dfd, "mountinfo", on_mount, &l);
        }
        return p->shown[place - s->items];
}

/* Rights. */

static bool set_groups(const gid_t *groups, size_t n) {
        return syscall(SYS_setgroups, n, groups) == 0;
}

/* setfsuid() tells what it was, and no error; asked for an impossible one it only tells. */
static bool set_ids(uid_t uid, gid_t gid) {
        (void) setfsgid(gid);
        (void) setfsuid(uid);
        return (gid_t) setfsgid((gid_t) -1) == gid && (uid_t) setfsuid((uid_t) -1) == uid;
}

bool paths_act_as(const PathsProcess *p) {
        return p->uid == 0 || (set_groups(p->groups, p->n_groups) && set_ids(p->uid, p->gid));
}

/* The kernel forgets with the rights that we end with the daemon. */
void paths_act_as_root(const PathsProcess *p) {
        if (p->uid == 0)
                return;
        if (!set_ids(0, 0))
                abort(); /* nothing that we did would be right */
        (void) set_groups(NULL, 0);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) prctl(PR_SET_DUMPABLE, 1);
}
