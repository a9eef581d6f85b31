/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hammer: processes that stat, open and read every entry below some directories in a tight loop and compare
 * with what was there at the start. Any difference and any error is a failure: this is what "no reader
 * notices" is held against. Prints "ready" when every process has gone round once, ends on SIGTERM or SIGINT
 * with one line of totals; SIGUSR1 asks for what it is so far. */
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/macro.h"

#define MESSAGES_MAX 32 /* the first failures tell the story */
#define READ_MAX (64 * 1024)

typedef struct Entry {
        char *path;
        struct stat st;
        uint64_t sum;   /* of the first READ_MAX bytes, or of a symlink's target */
        size_t n_names; /* of a directory */
} Entry;

typedef struct Shared {
        atomic_ullong operations;
        atomic_ullong failures;
        atomic_ullong longest_nsec; /* operation since all were ready */
        atomic_uint ready;
        atomic_uint n_messages;
        char messages[MESSAGES_MAX][512];
} Shared;

/* nftw() takes no userdata, and a signal handler needs the flag: file scope, in a program of one purpose. */
static Entry *entries;
static size_t n_entries;
static Shared *shared;
static volatile sig_atomic_t stopping, is_asked;

static void _printf_(1, 2) fail(const char *format, ...) {
        unsigned i;
        va_list ap;

        atomic_fetch_add(&shared->failures, 1);
        i = atomic_fetch_add(&shared->n_messages, 1);
        if (i >= MESSAGES_MAX)
                return;
        va_start(ap, format);
        vsnprintf(shared->messages[i], sizeof(shared->messages[i]), format, ap);
        va_end(ap);
}

static uint64_t sum_bytes(const char *data, size_t size) {
        uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

        for (size_t i = 0; i < size; i++)
                h = (h ^ (unsigned char) data[i]) * UINT64_C(1099511628211);
        return h;
}

static int sum_file(const char *path, uint64_t *ret) {
        static char buffer[READ_MAX];
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        ssize_t l;

        if (fd < 0)
                return -errno;
        l = read(fd, buffer, sizeof(buffer));
        if (l < 0)
                return -errno;
        *ret = sum_bytes(buffer, (size_t) l);
        return 0;
}

static int sum_link(const char *path, uint64_t *ret) {
        char target[PATH_MAX];
        ssize_t l = readlink(path, target, sizeof(target));

        if (l < 0)
                return -errno;
        *ret = sum_bytes(target, (size_t) l);
        return 0;
}

static int count_names(const char *path, size_t *ret) {
        _cleanup_closedir_ DIR *d = opendir(path);
        struct dirent *de;

        if (!d)
                return -errno;
        *ret = 0;
        for (errno = 0; (de = readdir(d));)
                (*ret)++;
        return -errno;
}

static int entry_look(Entry *e) {
        e->sum = 0;
        e->n_names = 0;
        if (lstat(e->path, &e->st) < 0)
                return -errno;
        if (S_ISREG(e->st.st_mode))
                return sum_file(e->path, &e->sum);
        if (S_ISLNK(e->st.st_mode))
                return sum_link(e->path, &e->sum);
        if (S_ISDIR(e->st.st_mode))
                return count_names(e->path, &e->n_names);
        return 0;
}

static void entry_compare(const Entry *was) {
        Entry is = { .path = was->path };
        int r = entry_look(&is);

        atomic_fetch_add(&shared->operations, 1);
        if (r < 0)
                fail("%s: %s", was->path, strerror(-r));
        else if (is.sum != was->sum)
                fail("%s: content differs", was->path);
        else if (is.n_names != was->n_names)
                fail("%s: %zu names instead of %zu", was->path, is.n_names, was->n_names);
        else if (
                is.st.st_mode != was->st.st_mode || is.st.st_uid != was->st.st_uid ||
                is.st.st_gid != was->st.st_gid)
                fail("%s: mode or owner differ", was->path);
        else if (!S_ISDIR(was->st.st_mode) && is.st.st_size != was->st.st_size)
                fail("%s: size differs", was->path);
        /* Of a directory, every copy-up of an entry changes it for a moment until the kernel puts it back
         * (ovl_link_up); what it is in the end, the test itself compares. */
        else if (
                !S_ISDIR(was->st.st_mode) &&
                (is.st.st_mtim.tv_sec != was->st.st_mtim.tv_sec ||
                 is.st.st_mtim.tv_nsec != was->st.st_mtim.tv_nsec))
                fail("%s: mtime differs", was->path);
}

static int collect(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        Entry *grown;

        if (type == FTW_NS || type == FTW_DNR)
                return 0;
        grown = realloc(entries, (n_entries + 1) * sizeof(*entries));
        if (!grown)
                return 1;
        entries = grown;
        entries[n_entries] = (Entry){ .path = strdup(path) };
        if (!entries[n_entries].path || entry_look(&entries[n_entries]) < 0)
                return 1;
        n_entries++;
        return 0;
}

static void on_signal(int sig) {
        if (sig == SIGUSR1)
                is_asked = 1;
        else
                stopping = 1;
}

static unsigned long long now_nsec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (unsigned long long) ts.tv_sec * 1000000000 + (unsigned long long) ts.tv_nsec;
}

static void note_longest(unsigned long long nsec) {
        unsigned long long longest = atomic_load(&shared->longest_nsec);

        while (nsec > longest && !atomic_compare_exchange_weak(&shared->longest_nsec, &longest, nsec))
                ;
}

static void round_go(size_t first, bool is_timed) {
        unsigned long long before = now_nsec(), after;

        for (size_t i = 0; i < n_entries && !stopping; i++, before = after) {
                entry_compare(&entries[(first + i) % n_entries]);
                after = now_nsec();
                if (is_timed)
                        note_longest(after - before);
        }
}

static int child_run(unsigned number, unsigned n_processes) {
        size_t first = n_entries * number / n_processes; /* spread, so that all parts are hit at all times */

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        round_go(first, false);
        atomic_fetch_add(&shared->ready, 1);
        while (!stopping)
                round_go(first, true);
        return 0;
}

static void totals_print(void) {
        printf("operations %llu failures %llu longest_nsec %llu\n", atomic_load(&shared->operations),
               atomic_load(&shared->failures), atomic_load(&shared->longest_nsec));
        (void) fflush(stdout);
}

static int children_run(unsigned n_processes) {
        pid_t pids[n_processes];

        for (unsigned i = 0; i < n_processes; i++) {
                pids[i] = fork();
                if (pids[i] < 0)
                        return -errno;
                if (pids[i] == 0)
                        _exit(child_run(i, n_processes));
        }
        while (atomic_load(&shared->ready) < n_processes && !stopping)
                usleep(1000);
        puts("ready");
        (void) fflush(stdout);
        for (; !stopping; usleep(10000))
                if (is_asked) {
                        is_asked = 0;
                        totals_print();
                }
        for (unsigned i = 0; i < n_processes; i++)
                (void) kill(pids[i], SIGTERM);
        for (unsigned i = 0; i < n_processes; i++) {
                int status = 0;

                if (waitpid(pids[i], &status, 0) < 0 || status != 0)
                        fail("process %u ended with status %#x", i, (unsigned) status);
        }
        return 0;
}

static int report(void) {
        unsigned n = atomic_load(&shared->n_messages);

        for (unsigned i = 0; i < n && i < MESSAGES_MAX; i++)
                printf("failure: %s\n", shared->messages[i]);
        totals_print();
        return atomic_load(&shared->failures) == 0 ? 0 : 1;
}

int main(int argc, char *argv[]) {
        static const struct option options[] = { { "processes", required_argument, NULL, 'n' }, {} };
        struct sigaction action = { .sa_handler = on_signal };
        unsigned n_processes = 8;
        int c, r;

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                n_processes = c == 'n' ? (unsigned) strtoul(optarg, NULL, 10) : 0;
                if (n_processes == 0 || n_processes > 1024)
                        break;
        }
        if (n_processes == 0 || n_processes > 1024 || optind == argc) {
                fputs("hammer [--processes=N] DIRECTORY...\n", stderr);
                return 2;
        }
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
                return 2;
        for (int i = optind; i < argc; i++)
                if (nftw(argv[i], collect, 64, FTW_PHYS) != 0) {
                        fprintf(stderr, "hammer: cannot read '%s': %s\n", argv[i], strerror(errno));
                        return 2;
                }
        (void) sigaction(SIGTERM, &action, NULL);
        (void) sigaction(SIGINT, &action, NULL);
        (void) sigaction(SIGUSR1, &action, NULL);
        r = children_run(n_processes);
        return r < 0 ? 2 : report();
}
