/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The control socket of countfs: a line in, some lines out. Served by a thread that takes part in nothing
 * else, so it answers while the file system hangs. */
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "countfs.h"

typedef void (*command_func)(CountFs *fs, FILE *f, char *arg);

#define ALL_OPS ((1u << _OP_MAX) - 1)

static void gate_set(CountFs *fs, bool is_hanging, int error, unsigned ops, const char *prefix) {
        Gate *g = &fs->gate;

        pthread_mutex_lock(&g->lock);
        g->is_hanging = is_hanging;
        g->error = error;
        g->ops = ops;
        snprintf(g->prefix, sizeof(g->prefix), "%s", prefix ? prefix + strspn(prefix, "/") : "");
        pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
}

static void command_counts(CountFs *fs, FILE *f, char *arg) {
        unsigned long long total = 0;

        for (Op op = 0; op < _OP_MAX; op++) {
                unsigned long long n = atomic_load(&fs->counts[op]);

                fprintf(f, "%s %llu\n", op_to_string(op), n);
                total += n;
        }
        fprintf(f, "total %llu\n", total);
        fprintf(f, "enoent %llu\n", atomic_load(&fs->enoents));
        fprintf(f, "bytes_read %llu\n", atomic_load(&fs->bytes_read));
        fprintf(f, "waiting %u\n", atomic_load(&fs->gate.waiting));
        fprintf(f, "waiting_max %u\n", atomic_load(&fs->gate.waiting_max));
}

/* Lookups in a directory and everything below it. */
static void command_under(CountFs *fs, FILE *f, char *arg) {
        unsigned long long lookups = 0, enoents = 0;
        const char *prefix = arg ? arg + strspn(arg, "/") : "";
        DirStat *s, *next;

        pthread_mutex_lock(&fs->lock);
        HASH_ITER(hh, fs->stats, s, next) {
                if (!path_is_below(s->path, prefix))
                        continue;
                lookups += atomic_load(&s->lookups);
                enoents += atomic_load(&s->enoents);
        }
        pthread_mutex_unlock(&fs->lock);
        fprintf(f, "lookup %llu\nenoent %llu\n", lookups, enoents);
}

static void command_reset(CountFs *fs, FILE *f, char *arg) {
        DirStat *s, *next;

        for (Op op = 0; op < _OP_MAX; op++)
                atomic_store(&fs->counts[op], 0);
        atomic_store(&fs->enoents, 0);
        atomic_store(&fs->bytes_read, 0);
        atomic_store(&fs->gate.waiting_max, 0);
        pthread_mutex_lock(&fs->lock);
        HASH_ITER(hh, fs->stats, s, next) {
                atomic_store(&s->lookups, 0);
                atomic_store(&s->enoents, 0);
        }
        pthread_mutex_unlock(&fs->lock);
        fputs("ok\n", f);
}

static void command_delay(CountFs *fs, FILE *f, char *arg) {
        atomic_store(&fs->gate.delay_usec, arg ? (unsigned) strtoul(arg, NULL, 10) : 0);
        fputs("ok\n", f);
}

static void command_timeout(CountFs *fs, FILE *f, char *arg) {
        atomic_store(&fs->timeout_sec, arg ? (unsigned) strtoul(arg, NULL, 10) : 0);
        fputs("ok\n", f);
}

static char *next_word(char **arg) {
        char *word = *arg ? strsep(arg, " ") : NULL;

        return word && word[0] ? word : NULL;
}

static void command_hang(CountFs *fs, FILE *f, char *arg) {
        const char *word = next_word(&arg);

        if (!word || (strcmp(word, "on") != 0 && strcmp(word, "off") != 0)) {
                fputs("error: hang on [PATH] | off\n", f);
                return;
        }
        gate_set(fs, strcmp(word, "on") == 0, 0, ALL_OPS, arg);
        fputs("ok\n", f);
}

static int errno_from_string(const char *s) {
        if (strcasecmp(s, "off") == 0)
                return 0;
        if (strcmp(s, "name") == 0)
                return -1;
        for (int error = 1; error < 134; error++) {
                const char *name = strerrorname_np(error);

                if (name && strcasecmp(name, s) == 0)
                        return error;
        }
        return -EINVAL;
}

/* OP,OP…; NULL: all. 0: one is not known. */
static unsigned ops_from_string(char *s) {
        unsigned ops = s ? 0 : ALL_OPS;

        for (char *word; (word = strsep(&s, ","));) {
                Op op = 0;

                while (op < _OP_MAX && strcmp(op_to_string(op), word) != 0)
                        op++;
                if (op == _OP_MAX)
                        return 0;
                ops |= 1u << op;
        }
        return ops;
}

static void command_fail(CountFs *fs, FILE *f, char *arg) {
        char *word = next_word(&arg), *name = word ? strsep(&word, ":") : NULL;
        int error = name ? errno_from_string(name) : -EINVAL;
        unsigned ops = ops_from_string(word);

        if (error == -EINVAL || ops == 0) {
                fputs("error: fail ERRNO|name[:OP,OP…] [PATH] | off\n", f);
                return;
        }
        gate_set(fs, false, error, ops, arg);
        fputs("ok\n", f);
}

static void trace_print(Trace *t, FILE *f) {
        pthread_mutex_lock(&t->lock);
        for (size_t i = t->n > TRACE_MAX ? t->n - TRACE_MAX : 0; i < t->n; i++)
                fprintf(f, "%s\n", t->lines[i % TRACE_MAX]);
        pthread_mutex_unlock(&t->lock);
}

static void command_trace(CountFs *fs, FILE *f, char *arg) {
        const char *word = next_word(&arg);

        if (!word) {
                trace_print(&fs->trace, f);
                return;
        }
        pthread_mutex_lock(&fs->trace.lock);
        fs->trace.n = 0;
        atomic_store(&fs->trace.is_on, strcmp(word, "on") == 0);
        pthread_mutex_unlock(&fs->trace.lock);
        fputs("ok\n", f);
}

static void command_invalidate(CountFs *fs, FILE *f, char *arg) {
        fprintf(f, "ok %zu\n", countfs_invalidate(fs));
}

static void command_help(CountFs *fs, FILE *f, char *arg);

static const struct {
        const char *name;
        const char *text;
        command_func func;
} commands[] = {
        { "counts", "operations by kind since the last reset, names not found, requests waiting in parallel",
          command_counts },
        { "under", "[PATH]: lookups and names not found in PATH and below", command_under },
        { "reset", "zero all counters", command_reset },
        { "delay", "USEC: every operation takes that long", command_delay },
        { "timeout", "SEC: how long the kernel may cache attributes and names it learns from now on",
          command_timeout },
        { "hang", "on [PATH] | off: stop answering; off also ends fail", command_hang },
        { "fail",
          "ERRNO[:OP,OP…] [PATH] | off: answer everything, or these operations, with an error; ends hang",
          command_fail },
        { "trace", "on | off: remember operations; without argument: print them", command_trace },
        { "invalidate", "make the kernel drop what it has cached", command_invalidate },
        { "help", "this text", command_help },
};

static void command_help(CountFs *fs, FILE *f, char *arg) {
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                fprintf(f, "%-10s %s\n", commands[i].name, commands[i].text);
}

static void command_run(CountFs *fs, FILE *f, char *line) {
        char *arg = line, *word;

        line[strcspn(line, "\r\n")] = '\0';
        word = strsep(&arg, " ");
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(commands[i].name, word) == 0) {
                        commands[i].func(fs, f, arg);
                        return;
                }
        fprintf(f, "error: unknown command '%s'\n", word);
}

static void connection_serve(CountFs *fs, int fd) {
        _cleanup_fclose_ FILE *f = fdopen(fd, "r+");
        char line[PATH_MAX + 64];

        if (!f) {
                fd_close(fd);
                return;
        }
        if (!fgets(line, sizeof(line), f))
                return;
        /* A stream on a socket cannot seek between reading and writing; nothing more is read. */
        (void) fflush(f);
        command_run(fs, f, line);
}

static void *control_main(void *userdata) {
        CountFs *fs = userdata;

        for (;;) {
                int fd = accept4(fs->control_fd, NULL, NULL, SOCK_CLOEXEC);

                if (fd >= 0)
                        connection_serve(fs, fd);
                else if (errno != EINTR && errno != ECONNABORTED)
                        return NULL;
        }
}

int control_start(CountFs *fs) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int r;

        if (strlen(fs->control_path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, fs->control_path);
        fs->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fs->control_fd < 0)
                return -errno;
        if (bind(fs->control_fd, (struct sockaddr *) &address, sizeof(address)) < 0 ||
            listen(fs->control_fd, 16) < 0)
                return -errno;
        r = pthread_create(&fs->control_thread, NULL, control_main, fs);
        return -r;
}

void control_stop(CountFs *fs) {
        (void) shutdown(fs->control_fd, SHUT_RDWR);
        (void) pthread_join(fs->control_thread, NULL);
        fs->control_fd = fd_close(fs->control_fd);
        (void) unlink(fs->control_path);
}
