/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver of torture: forks the workers and takes commands on standard input: "stop", "verify", "exit";
 * each is answered by a line with the totals when every worker has done it. It holds nothing open while
 * stopped, so the file system may be mounted anew before another "verify". */
#include <getopt.h>
#include <stdarg.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <signal.h>

#include "torture.h"

#define WORKERS_MAX 64

unsigned worker_random(Worker *w, unsigned limit) {
        return (unsigned) nrand48(w->seed) % limit;
}

void worker_count(Worker *w, Counter counter) {
        atomic_fetch_add(&w->shared->counts[counter], 1);
}

void worker_note(Worker *w, const char *what, const char *path, int error) {
        unsigned i = atomic_fetch_add(&w->shared->n_messages, 1);

        if (i < MESSAGES_MAX)
                snprintf(
                        w->shared->messages[i], sizeof(w->shared->messages[i]), "worker %u%s: %s: %s: %s",
                        w->number, w->uses_descriptors ? " (descriptors)" : "", what, path,
                        error ? strerror(error) : "differs");
}

static int worker_run(Worker *w, unsigned pause_usec) {
        int phase = PHASE_RUN, now;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (w->n_watched > 0)
                w->inotify_fd = inotify_init1(IN_CLOEXEC);
        for (;;) {
                now = atomic_load(&w->shared->phase);
                if (now != phase) {
                        phase = now;
                        if (phase == PHASE_STOP)
                                model_release(w);
                        else if (phase == PHASE_VERIFY)
                                model_verify(w);
                        atomic_fetch_add(&w->shared->at_rest, 1);
                }
                if (phase == PHASE_EXIT)
                        return 0;
                if (phase == PHASE_RUN)
                        model_step(w);
                if (phase != PHASE_RUN || pause_usec > 0)
                        usleep(phase == PHASE_RUN ? pause_usec : 2000);
        }
}

static void phase_set(Shared *shared, Phase phase, unsigned n_workers) {
        atomic_store(&shared->at_rest, 0);
        atomic_store(&shared->phase, (int) phase);
        while (atomic_load(&shared->at_rest) < n_workers)
                usleep(1000);
}

static void report(Shared *shared) {
        unsigned n = atomic_exchange(&shared->n_messages, 0);

        for (unsigned i = 0; i < n && i < MESSAGES_MAX; i++)
                printf("note: %s\n", shared->messages[i]);
        printf("operations %llu wrong %llu wrong_fd %llu lost %llu\n",
               atomic_load(&shared->counts[COUNT_OPERATIONS]), atomic_load(&shared->counts[COUNT_WRONG]),
               atomic_load(&shared->counts[COUNT_WRONG_FD]), atomic_load(&shared->counts[COUNT_LOST]));
        (void) fflush(stdout);
}

/* Two commands of one name in a row are two phases for the workers only with a stop between. */
static void command_loop(Shared *shared, unsigned n_workers) {
        char line[64];

        while (fgets(line, sizeof(line), stdin)) {
                if (strcmp(line, "stop\n") == 0)
                        phase_set(shared, PHASE_STOP, n_workers);
                else if (strcmp(line, "verify\n") == 0) {
                        phase_set(shared, PHASE_VERIFY, n_workers);
                        report(shared);
                        phase_set(shared, PHASE_STOP, n_workers);
                        continue;
                } else if (strcmp(line, "exit\n") == 0)
                        break;
                report(shared);
        }
        phase_set(shared, PHASE_EXIT, n_workers);
}

static pid_t worker_fork(Worker *w, unsigned number, unsigned seed, unsigned pause_usec) {
        pid_t pid;

        w->number = number;
        w->seed[0] = (unsigned short) seed;
        w->seed[1] = (unsigned short) (seed >> 16);
        w->seed[2] = (unsigned short) number;
        pid = fork();
        if (pid == 0)
                _exit(worker_run(w, pause_usec));
        return pid;
}

static int
torture(Worker *w, unsigned n_workers, unsigned n_descriptor_workers, unsigned seed, unsigned pause_usec) {
        pid_t pids[WORKERS_MAX];
        int status, r = 0;

        for (unsigned i = 0; i < n_workers; i++) {
                memset(w->slots, 0, sizeof(w->slots));
                w->number = i;
                w->uses_descriptors = i >= n_workers - n_descriptor_workers;
                r = model_load(w);
                if (r < 0)
                        return r;
                pids[i] = worker_fork(w, i, seed, pause_usec);
                if (pids[i] < 0)
                        return -errno;
        }
        puts("ready");
        (void) fflush(stdout);
        command_loop(w->shared, n_workers);
        for (unsigned i = 0; i < n_workers; i++)
                if (waitpid(pids[i], &status, 0) < 0 || status != 0)
                        r = -ECHILD;
        return r;
}

int main(int argc, char *argv[]) {
        static const struct option options[] = {
                { "seed", required_argument, NULL, 's' },
                { "workers", required_argument, NULL, 'w' },
                { "descriptor-workers", required_argument, NULL, 'd' },
                { "pause", required_argument, NULL, 'p' },
                { "hold", required_argument, NULL, 'h' },
                { "watch", required_argument, NULL, 'i' },
                {},
        };
        unsigned numbers[128] = { ['s'] = 1, ['w'] = 4, ['d'] = 1, ['p'] = 0, ['h'] = HELD_MAX, ['i'] = 0 };
        static Worker w;
        int c, r;

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (c == '?')
                        return 2;
                numbers[c] = (unsigned) strtoul(optarg, NULL, 10);
        }
        if (optind == argc || numbers['w'] > WORKERS_MAX || numbers['d'] > numbers['w'] ||
            numbers['h'] > HELD_MAX || numbers['i'] > WATCHED_MAX) {
                fputs("torture [--seed=N] [--workers=N] [--descriptor-workers=N] [--pause=USEC] [--hold=N] "
                      "[--watch=N] DIRECTORY...\n",
                      stderr);
                return 2;
        }
        w.directories = argv + optind;
        w.n_directories = (unsigned) (argc - optind);
        w.n_held = numbers['h'];
        w.n_watched = numbers['i'];
        w.directory_fds = calloc(w.n_directories, sizeof(int));
        w.shared = mmap(NULL, sizeof(*w.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (!w.directory_fds || w.shared == MAP_FAILED)
                return 2;
        r = torture(&w, numbers['w'], numbers['d'], numbers['s'], numbers['p']);
        if (r < 0)
                fprintf(stderr, "torture: %s\n", strerror(-r));
        return r < 0 ? 2 : 0;
}
