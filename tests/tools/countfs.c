/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The file system half of countfs: every operation passes a gate (counted, delayed, hung or failed there)
 * and is then served from the source directory by O_PATH descriptors. Nothing is cached but what the kernel
 * may cache by the timeout, so what the counters say is what a server would have been asked. */
#include "countfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>

#define THREADS_MAX 256 /* requests waiting in parallel; well above what a worker keeps in flight */
#define FD_PATH_MAX (sizeof("/proc/self/fd/") + 3 * sizeof(int))

static const char *const op_names[_OP_MAX] = {
        [OP_LOOKUP] = "lookup",     [OP_GETATTR] = "getattr",     [OP_READLINK] = "readlink",
        [OP_OPEN] = "open",         [OP_READ] = "read",           [OP_RELEASE] = "release",
        [OP_OPENDIR] = "opendir",   [OP_READDIR] = "readdir",     [OP_RELEASEDIR] = "releasedir",
        [OP_GETXATTR] = "getxattr", [OP_LISTXATTR] = "listxattr", [OP_STATFS] = "statfs",
        [OP_IOCTL] = "ioctl",       [OP_LSEEK] = "lseek",
};

const char *op_to_string(Op op) {
        return op_names[op];
}

void trace_add(Trace *t, const char *format, ...) {
        char *line = NULL;
        va_list ap;
        int r;

        if (!atomic_load(&t->is_on))
                return;
        va_start(ap, format);
        r = vasprintf(&line, format, ap);
        va_end(ap);
        if (r < 0)
                return;
        pthread_mutex_lock(&t->lock);
        free(t->lines[t->n % TRACE_MAX]);
        t->lines[t->n++ % TRACE_MAX] = line;
        pthread_mutex_unlock(&t->lock);
}

/* The gate */

bool path_is_below(const char *path, const char *prefix) {
        size_t l = strlen(prefix);

        return l == 0 || (strncmp(path, prefix, l) == 0 && (path[l] == '/' || path[l] == '\0'));
}

static void gate_delay(Gate *g) {
        unsigned usec = atomic_load(&g->delay_usec);
        struct timespec ts = { .tv_sec = usec / USEC_PER_SEC,
                               .tv_nsec = (usec % USEC_PER_SEC) * NSEC_PER_USEC };

        if (usec == 0)
                return;
        while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
                ;
}

static int errno_in_name(const char *path) {
        const char *slash = strrchr(path, '/');
        int error = 0;

        return sscanf(slash ? slash + 1 : path, "errno-%d", &error) == 1 ? error : 0;
}

/* odd: what a name that says an error is the last one of. */
static int gate_pass(Gate *g, Op op, const char *path, const char *odd) {
        unsigned n = atomic_fetch_add(&g->waiting, 1) + 1, most = atomic_load(&g->waiting_max);
        int r = 0;

        while (n > most && !atomic_compare_exchange_weak(&g->waiting_max, &most, n))
                ;
        gate_delay(g);
        pthread_mutex_lock(&g->lock);
        while (g->is_hanging && path_is_below(path, g->prefix))
                pthread_cond_wait(&g->changed, &g->lock);
        if (g->error != 0 && (g->ops & 1u << op) && path_is_below(path, g->prefix))
                r = g->error > 0 ? g->error : errno_in_name(odd);
        atomic_fetch_sub(&g->waiting, 1); /* locked: who waits after "hang on" does so until "hang off" */
        pthread_mutex_unlock(&g->lock);
        return r;
}

/* op_begin() - count an operation and let it through the gate. Returns 0, or the positive errno to answer
 * with. */
static int op_begin(CountFs *fs, Op op, const Node *node, const char *name) {
        atomic_fetch_add(&fs->counts[op], 1);
        if (op != OP_LOOKUP)
                trace_add(&fs->trace, "%s /%s", op_to_string(op), node->path);
        if (op == OP_LOOKUP && node->stat)
                atomic_fetch_add(&node->stat->lookups, 1);
        return gate_pass(&fs->gate, op, node->path, name ?: node->path);
}

/* Operations */

static void fd_path(int fd, char ret[static FD_PATH_MAX]) {
        snprintf(ret, FD_PATH_MAX, "/proc/self/fd/%d", fd);
}

static void op_init(void *userdata, struct fuse_conn_info *conn) {
        CountFs *fs = userdata;

        conn->want |= FUSE_CAP_POSIX_ACL | FUSE_CAP_PARALLEL_DIROPS;
        conn->want &= ~(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
        conn->want |= fs->can_open_handles ? FUSE_CAP_EXPORT_SUPPORT : 0;
        fs->can_parallel_dirops = conn->capable & FUSE_CAP_PARALLEL_DIROPS;
        conn->max_background = THREADS_MAX;
        conn->congestion_threshold = THREADS_MAX;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
        CountFs *fs = fuse_req_userdata(req);
        Node *p = node_get(fs, parent);
        struct fuse_entry_param e = {};
        int r, injected;

        injected = r = op_begin(fs, OP_LOOKUP, p, name);
        if (r == 0)
                r = strcmp(name, ".") == 0 ? node_of_handle(fs, parent, &e)
                                           : node_lookup(fs, parent, name, &e);
        if (r == ENOENT && injected == 0) {
                atomic_fetch_add(&fs->enoents, 1);
                if (p->stat)
                        atomic_fetch_add(&p->stat->enoents, 1);
        }
        trace_add(
                &fs->trace, "lookup /%s%s%s%s", p->path, p->path[0] ? "/" : "", name,
                r == ENOENT ? " ENOENT" : "");
        if (r != 0)
                fuse_reply_err(req, r);
        else if (fuse_reply_entry(req, &e) < 0)
                node_forget(fs, e.ino, 1);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups) {
        node_forget(fuse_req_userdata(req), ino, n_lookups);
        fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
        for (size_t i = 0; i < count; i++)
                node_forget(fuse_req_userdata(req), forgets[i].ino, forgets[i].nlookup);
        fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        CountFs *fs = fuse_req_userdata(req);
        Node *n = node_get(fs, ino);
        struct stat st;
        int r;

        r = op_begin(fs, OP_GETATTR, n, NULL);
        if (r == 0 && fstatat(n->fd, "", &st, AT_EMPTY_PATH) < 0)
                r = errno;
        if (r != 0)
                fuse_reply_err(req, r);
        else
                fuse_reply_attr(req, &st, atomic_load(&fs->timeout_sec));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino) {
        CountFs *fs = fuse_req_userdata(req);
        Node *n = node_get(fs, ino);
        char target[PATH_MAX];
        ssize_t l = 0;
        int r;

        r = op_begin(fs, OP_READLINK, n, NULL);
        if (r == 0) {
                l = readlinkat(n->fd, "", target, sizeof(target) - 1);
                if (l < 0)
                        r = errno;
        }
        if (r != 0) {
                fuse_reply_err(req, r);
                return;
        }
        target[l] = '\0';
        fuse_reply_readlink(req, target);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        CountFs *fs = fuse_req_userdata(req);
        Node *n = node_get(fs, ino);
        _cleanup_close_ int fd = -EBADF;
        char path[FD_PATH_MAX];
        int r;

        r = op_begin(fs, OP_OPEN, n, NULL);
        if (r == 0 && (fi->flags & O_ACCMODE) != O_RDONLY)
                r = EROFS;
        if (r == 0) {
                fd_path(n->fd, path);
                fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        r = errno;
        }
        if (r != 0) {
                fuse_reply_err(req, r);
                return;
        }
        /* Like nocto: an open does not make the client drop what it has cached. */
        fi->keep_cache = atomic_load(&fs->timeout_sec) > 0;
        fi->fh = (uint64_t) fd;
        if (fuse_reply_open(req, fi) == 0)
                TAKE_FD(fd);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        CountFs *fs = fuse_req_userdata(req);
        struct fuse_bufvec buffer = FUSE_BUFVEC_INIT(size);
        int r;

        r = op_begin(fs, OP_READ, node_get(fs, ino), NULL);
        if (r != 0) {
                fuse_reply_err(req, r);
                return;
        }
        atomic_fetch_add(&fs->bytes_read, size);
        buffer.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
        buffer.buf[0].fd = (int) fi->fh;
        buffer.buf[0].pos = offset;
        fuse_reply_data(req, &buffer, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        CountFs *fs = fuse_req_userdata(req);

        (void) op_begin(fs, OP_RELEASE, node_get(fs, ino), NULL);
        fd_close((int) fi->fh);
        fuse_reply_err(req, 0);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        CountFs *fs = fuse_req_userdata(req);
        Node *n = node_get(fs, ino);
        _cleanup_closedir_ DIR *d = NULL;
        int fd, r;

        r = op_begin(fs, OP_OPENDIR, n, NULL);
        if (r == 0) {
                fd = openat(n->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                d = fd < 0 ? NULL : fdopendir(fd);
                if (!d) {
                        r = errno;
                        fd_close(fd);
                }
        }
        if (r != 0) {
                fuse_reply_err(req, r);
                return;
        }
        fi->fh = (uint64_t) (uintptr_t) d;
        if (fuse_reply_open(req, fi) == 0)
                TAKE_PTR(d);
}

static size_t listing_fill(fuse_req_t req, DIR *d, char *buffer, size_t size) {
        size_t used = 0;

        for (;;) {
                long here = telldir(d);
                struct dirent *de = readdir(d);
                struct stat st = {};
                size_t l;

                if (!de)
                        return used;
                st.st_ino = de->d_ino;
                st.st_mode = DTTOIF(de->d_type);
                l = fuse_add_direntry(req, buffer + used, size - used, de->d_name, &st, telldir(d));
                if (l > size - used) {
                        seekdir(d, here);
                        return used;
                }
                used += l;
        }
}

static void
op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        CountFs *fs = fuse_req_userdata(req);
        _cleanup_free_ char *buffer = NULL;
        DIR *d = (DIR *) (uintptr_t) fi->fh;
        int r;

        r = op_begin(fs, OP_READDIR, node_get(fs, ino), NULL);
        buffer = r == 0 ? malloc(size) : NULL;
        if (!buffer) {
                fuse_reply_err(req, r ? r : ENOMEM);
                return;
        }
        if (offset == 0)
                rewinddir(d);
        else
                seekdir(d, offset);
        fuse_reply_buf(req, buffer, listing_fill(req, d, buffer, size));
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        CountFs *fs = fuse_req_userdata(req);

        (void) op_begin(fs, OP_RELEASEDIR, node_get(fs, ino), NULL);
        (void) closedir((DIR *) (uintptr_t) fi->fh);
        fuse_reply_err(req, 0);
}

/* The magic link leads to the inode itself, except that xattr calls would follow it into a symlink's target:
 * symlinks go by the path they were found at. */
static void xattr_path(CountFs *fs, const Node *n, char ret[static FD_PATH_MAX + PATH_MAX]) {
        if (S_ISLNK(n->mode))
                snprintf(ret, FD_PATH_MAX + PATH_MAX, "/proc/self/fd/%d/%s", fs->root.fd, n->path);
        else
                fd_path(n->fd, ret);
}

static void xattr_reply(fuse_req_t req, ssize_t l, size_t size, const char *value) {
        if (l < 0)
                fuse_reply_err(req, errno);
        else if (size == 0)
                fuse_reply_xattr(req, (size_t) l);
        else
                fuse_reply_buf(req, value, (size_t) l);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
        CountFs *fs = fuse_req_userdata(req);
        Node *n = node_get(fs, ino);
        char path[FD_PATH_MAX + PATH_MAX], value[XATTR_SIZE_MAX];
        int r;

        r = op_begin(fs, OP_GETXATTR, n, NULL);
        if (r != 0) {
                fuse_reply_err(req, r);
                return;
        }
        size = size < sizeof(value) ? size : sizeof(value);
        xattr_path(fs, n, path);
        if (S_ISLNK(n->mode))
                xattr_reply(req, lgetxattr(path, name, value, size), size, value);
        else
                xattr_reply(req, getxattr(path, name, value, size), size, value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
        CountFs *fs = fuse_req_userdata(req);
        Node *n = node_get(fs, ino);
        char path[FD_PATH_MAX + PATH_MAX], list[XATTR_LIST_MAX];
        int r;

        r = op_begin(fs, OP_LISTXATTR, n, NULL);
        if (r != 0) {
                fuse_reply_err(req, r);
                return;
        }
        size = size < sizeof(list) ? size : sizeof(list);
        xattr_path(fs, n, path);
        if (S_ISLNK(n->mode))
                xattr_reply(req, llistxattr(path, list, size), size, list);
        else
                xattr_reply(req, listxattr(path, list, size), size, list);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino) {
        CountFs *fs = fuse_req_userdata(req);
        struct statvfs st;
        int r;

        r = op_begin(fs, OP_STATFS, &fs->root, NULL);
        if (r == 0 && fstatvfs(fs->root.fd, &st) < 0)
                r = errno;
        if (r != 0)
                fuse_reply_err(req, r);
        else
                fuse_reply_statfs(req, &st);
}

/* Where holes are. */
static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t at, int whence, struct fuse_file_info *fi) {
        CountFs *fs = fuse_req_userdata(req);
        int r = op_begin(fs, OP_LSEEK, node_get(fs, ino), NULL);

        if (r == 0) {
                at = lseek((int) fi->fh, at, whence);
                r = at < 0 ? errno : 0;
        }
        if (r != 0)
                fuse_reply_err(req, r);
        else
                fuse_reply_lseek(req, at);
}

/* No file flags, as on NFS. */
static void op_ioctl(
        fuse_req_t req,
        fuse_ino_t ino,
        unsigned cmd,
        void *arg,
        struct fuse_file_info *fi,
        unsigned flags,
        const void *in,
        size_t in_size,
        size_t out_size) {
        CountFs *fs = fuse_req_userdata(req);
        int r = op_begin(fs, OP_IOCTL, node_get(fs, ino), NULL);

        fuse_reply_err(req, r ? r : ENOTTY);
}

static const struct fuse_lowlevel_ops operations = {
        .init = op_init,
        .lookup = op_lookup,
        .forget = op_forget,
        .forget_multi = op_forget_multi,
        .getattr = op_getattr,
        .readlink = op_readlink,
        .open = op_open,
        .read = op_read,
        .release = op_release,
        .opendir = op_opendir,
        .readdir = op_readdir,
        .releasedir = op_releasedir,
        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
        .statfs = op_statfs,
        .ioctl = op_ioctl,
        .lseek = op_lseek,
};

/* Start and end */

static int countfs_init(CountFs *fs, const char *source) {
        struct rlimit limit = { 1024 * 1024, 1024 * 1024 }; /* a descriptor per inode the kernel knows */
        struct stat st;

        (void) setrlimit(RLIMIT_NOFILE, &limit);
        (void) umask(0);
        pthread_mutex_init(&fs->lock, NULL);
        pthread_mutex_init(&fs->gate.lock, NULL);
        pthread_mutex_init(&fs->trace.lock, NULL);
        pthread_cond_init(&fs->gate.changed, NULL);
        fs->root.fd = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fs->root.fd < 0 || fstat(fs->root.fd, &st) < 0)
                return -errno;
        fs->root.path = strdup("");
        fs->root.mode = st.st_mode;
        fs->root.stat = dir_stat_acquire(fs, "");
        return fs->root.path && fs->root.stat ? 0 : -ENOMEM;
}

/* libfuse 3.14 takes FUSE_CAP_PARALLEL_DIROPS and does not pass it on (libfuse pull request 861), so the
 * kernel would ask for one name of a directory at a time. This puts the flag into the answer to INIT, the
 * only one of its shape. Harmless with a libfuse that passes it. */
static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata) {
        CountFs *fs = userdata;
        bool want = true;

        if (atomic_compare_exchange_strong(&fs->can_parallel_dirops, &want, false) && count == 2 &&
            iov[1].iov_len >= offsetof(struct fuse_init_out, max_background)) {
                struct fuse_init_out *out = iov[1].iov_base;

                out->flags |= FUSE_PARALLEL_DIROPS;
        }
        return writev(fd, iov, count);
}

static ssize_t session_read(int fd, void *buffer, size_t size, void *userdata) {
        return read(fd, buffer, size);
}

static int session_mount(CountFs *fs, const char *mount_point) {
        static const struct fuse_custom_io io = { .writev = session_writev, .read = session_read };

        if (fuse_session_mount(fs->session, mount_point) != 0)
                return -EIO;
        return fuse_session_custom_io(fs->session, &io, fuse_session_fd(fs->session));
}

static int countfs_serve(CountFs *fs, const char *mount_point, unsigned n_threads) {
        struct fuse_loop_config *config = fuse_loop_cfg_create();
        int r;

        if (!config)
                return -ENOMEM;
        fuse_loop_cfg_set_clone_fd(config, 1);
        fuse_loop_cfg_set_max_threads(config, n_threads);
        fuse_loop_cfg_set_idle_threads(config, n_threads);
        r = session_mount(fs, mount_point);
        if (r == 0)
                r = control_start(fs);
        if (r == 0) {
                r = fuse_session_loop_mt(fs->session, config);
                control_stop(fs);
        }
        fuse_session_unmount(fs->session);
        fuse_loop_cfg_destroy(config);
        return r;
}

static int countfs_run(CountFs *fs, const char *mount_point, unsigned n_threads) {
        char *argv[] = {
                (char *) "countfs", (char *) "-o",
                (char *) "ro,dev,suid,allow_other,default_permissions,fsname=countfs,subtype=countfs", NULL
        };
        struct fuse_args args = FUSE_ARGS_INIT(3, argv);
        int r = -ENOMEM;

        fs->session = fuse_session_new(&args, &operations, sizeof(operations), fs);
        if (fs->session && fuse_set_signal_handlers(fs->session) == 0) {
                r = countfs_serve(fs, mount_point, n_threads);
                fuse_remove_signal_handlers(fs->session);
        }
        if (fs->session)
                fuse_session_destroy(fs->session);
        fuse_opt_free_args(&args);
        return r;
}

static int usage(FILE *f, int r) {
        fputs("countfs [--timeout=SEC] [--delay=USEC] [--threads=N] [--handles] [--die-with-parent] SOURCE "
              "MOUNTPOINT CONTROL\n"
              "Shows SOURCE read-only at MOUNTPOINT and counts what it is asked; in the foreground.\n"
              "--handles: file handles can be opened after the inode was forgotten, as on NFS: a lookup.\n"
              "CONTROL is a unix socket to make: one command per connection, `help` lists them.\n",
              f);
        return r;
}

int main(int argc, char *argv[]) {
        static const struct option options[] = {
                { "timeout", required_argument, NULL, 't' },
                { "delay", required_argument, NULL, 'd' },
                { "threads", required_argument, NULL, 'n' },
                { "die-with-parent", no_argument, NULL, 'p' },
                { "handles", no_argument, NULL, 'x' },
                { "help", no_argument, NULL, 'h' },
                {},
        };
        static CountFs fs = { .timeout_sec = 3600, .control_fd = -EBADF };
        unsigned n_threads = THREADS_MAX;
        int c, r;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
                if (c == 't')
                        fs.timeout_sec = (unsigned) strtoul(optarg, NULL, 10);
                else if (c == 'd')
                        fs.gate.delay_usec = (unsigned) strtoul(optarg, NULL, 10);
                else if (c == 'n')
                        n_threads = (unsigned) strtoul(optarg, NULL, 10);
                else if (c == 'x')
                        fs.can_open_handles = true;
                else if (c == 'p')
                        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                else
                        return c == 'h' ? usage(stdout, 0) : usage(stderr, 2);
        }
        if (argc - optind != 3)
                return usage(stderr, 2);
        r = countfs_init(&fs, argv[optind]);
        if (r < 0) {
                fprintf(stderr, "countfs: cannot open '%s': %s\n", argv[optind], strerror(-r));
                return 1;
        }
        fs.control_path = argv[optind + 2];
        return countfs_run(&fs, argv[optind + 1], n_threads) == 0 ? 0 : 1;
}
