/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/context.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/context/staging.h"
#include "core/mount/mount-clone.h"
#include "core/record/manifest.h"
#include "core/upper/names.h"
#include "core/upper/redirect-max.h"

static int open_layers(Context *context, Failure *reterr) {
        const Overlay *o = context->overlay;

        context->root_fd = mount_clone_open(o->mount_point, O_RDONLY);
        if (context->root_fd < 0)
                return failure_set_errno(
                        reterr, context->root_fd, "cannot open the overlay '%s'", o->mount_point);
        context->upper_fd = mount_clone_open(o->upper, O_RDONLY);
        if (context->upper_fd < 0)
                return failure_set_errno(
                        reterr, context->upper_fd,
                        "cannot open '%s', the upper layer of '%s'; set UpperDir= if it stands elsewhere "
                        "now",
                        o->upper, o->mount_point);
        return 0;
}

static int open_state(const char *state_dir, const char *kind, const char *name, Failure *reterr) {
        _cleanup_free_ char *path = NULL;
        int fd;

        path = str_format("%s/%s/%s", state_dir, kind, name);
        if (!path)
                return -ENOMEM;
        fd = mkdir_open(path);
        return fd < 0 ? failure_set_errno(reterr, fd, "cannot open the state directory '%s'", path) : fd;
}

static int open_records(Context *context, const char *state_dir, Failure *reterr) {
        int r = context->records_fd = open_state(state_dir, "records", context->name, reterr);

        if (r >= 0)
                r = context->drains_fd = open_state(state_dir, "draining", context->name, reterr);
        return r < 0 ? r : 0;
}

static int adopt_record(int dfd, const char *name, unsigned char type, void *userdata) {
        const Context *context = userdata;

        /* Another worker may be at it. */
        return renameat(dfd, name, context->records_fd, name) < 0 && errno != ENOENT ? -errno : 0;
}

/* Those of work that was done while it was not mounted, under no name. */
static int adopt_records(Context *context, const char *state_dir, Failure *reterr) {
        _cleanup_free_ char *name = records_default_name(context->overlay->upper),
                            *path = name ? str_format("%s/records/%s", state_dir, name) : NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (!path)
                return -ENOMEM;
        if (strcmp(name, context->name) == 0)
                return 0;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return 0;
        r = fd < 0 ? -errno : dir_foreach(fd, adopt_record, context);
        if (r >= 0 && (fsync(context->records_fd) < 0 || (rmdir(path) < 0 && errno != ENOENT)))
                r = -errno;
        return r < 0 ? failure_set_errno(reterr, r, "cannot take over the records in '%s'", path) : 0;
}

int context_open(
        Context *context, const Overlay *o, const char *name, const char *state_dir, Failure *reterr) {
        int r;

        context->overlay = o;
        context->name = name;
        if (!o->upper)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EROFS,
                        "the overlay '%s' has no upper layer; mount it with upperdir= and workdir=",
                        o->mount_point);
        r = open_layers(context, reterr);
        if (r >= 0 && state_dir)
                r = open_records(context, state_dir, reterr);
        if (r >= 0 && state_dir)
                r = adopt_records(context, state_dir, reterr);
        if (r < 0)
                context_done(context);
        return r;
}

void context_done(Context *context) {
        globs_done(&context->options.exclude);
        context->throttle = throttle_free(context->throttle);
        redirect_max_release(&context->redirect_max_hold);
        context_forget_inner_mounts(context);
        inner_search_done(&context->inner_search);
        context->root_fd = fd_close(context->root_fd);
        context->upper_fd = fd_close(context->upper_fd);
        context->records_fd = fd_close(context->records_fd);
        context->drains_fd = fd_close(context->drains_fd);
}

int context_open_mount(Context *context, Failure *reterr) {
        const char *point = context->overlay->mount_point;

        context->root_fd = fd_close(context->root_fd);
        context->root_fd = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return context->root_fd < 0
                ? failure_set_errno(reterr, -errno, "cannot open the overlay '%s'", point)
                : 0;
}

int context_load_inner_mounts(Context *context) {
        context_forget_inner_mounts(context);
        return overlay_inner_mounts(
                context->overlay, NULL, &context->inner_search, &context->inner_mounts,
                &context->n_inner_mounts);
}

void context_forget_inner_mounts(Context *context) {
        overlay_inner_mounts_free(context->inner_mounts, context->n_inner_mounts);
        context->inner_mounts = NULL;
        context->n_inner_mounts = 0;
}

const OverlayInnerMount *context_find_inner_mount(const Context *context, const char *path) {
        for (size_t i = 0; i < context->n_inner_mounts; i++)
                if (!context->inner_mounts[i].is_somewhere &&
                    strcmp(context->inner_mounts[i].path, path) == 0)
                        return context->inner_mounts + i;
        return NULL;
}

const OverlayInnerMount *context_find_inner_mount_below(const Context *context, const char *path) {
        for (size_t i = 0; i < context->n_inner_mounts; i++)
                if (!context->inner_mounts[i].is_somewhere &&
                    path_startswith(context->inner_mounts[i].path, path))
                        return context->inner_mounts + i;
        return NULL;
}

bool context_has_unplaced_layer(const Context *context) {
        for (size_t i = 0; i < context->n_inner_mounts; i++)
                if (context->inner_mounts[i].is_somewhere)
                        return true;
        return false;
}

static const OverlayInnerMount *find_layer(const Context *context, const char *path, ino_t inode) {
        for (size_t i = 0; i < context->n_inner_mounts; i++)
                if (inner_layer_is(context->inner_mounts + i, path, inode))
                        return context->inner_mounts + i;
        return NULL;
}

int context_find_layer_around(const Context *context, const char *path, const OverlayInnerMount **ret) {
        bool has_layer = inner_mounts_have_layer(context->inner_mounts, context->n_inner_mounts);
        _cleanup_free_ char *p = has_layer ? strdup(path) : NULL;

        *ret = NULL;
        if (!p)
                return has_layer ? -ENOMEM : 0;
        while (!*ret && p[0] != '\0') {
                char *parent = path_dirname(p);
                _cleanup_close_ int fd = parent ? open_dir_beneath(context->root_fd, parent) : -ENOMEM;
                struct stat st;

                free(p);
                p = parent;
                if (fd == -ENOMEM)
                        return fd;
                *ret = find_layer(context, p, fd >= 0 && fstat(fd, &st) >= 0 ? st.st_ino : 0);
        }
        return *ret ? 1 : 0;
}

int context_find_layer_at(const Context *context, const char *path, int fd, const OverlayInnerMount **ret) {
        struct stat st;

        *ret = NULL;
        if (!inner_mounts_have_layer(context->inner_mounts, context->n_inner_mounts))
                return 0;
        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = find_layer(context, path, st.st_ino);
        return *ret ? 1 : 0;
}

bool context_wants_mark(const Context *context) {
        return context->options.method == METHOD_MARK || context->options.depth != DEPTH_INFINITE;
}

typedef struct Directories {
        const char *path;
        PathList *ret;
} Directories;

static int add_directory(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_free_ char *path = NULL;
        Directories *d = userdata;

        if (type != DT_DIR || is_staging_name(name))
                return 0;
        path = path_join(d->path, name);
        return path ? path_list_add(d->ret, path) : -ENOMEM;
}

int context_list_directories(const Context *context, const char *path, PathList *ret) {
        _cleanup_close_ int fd = open_dir_beneath(context->root_fd, path);
        Directories d = { .path = path, .ret = ret };

        return fd < 0 ? fd : dir_foreach(fd, add_directory, &d);
}

int context_read_directory(const Context *context, const char *path) {
        _cleanup_close_ int fd = open_dir_beneath(context->root_fd, path);
        int r = fd < 0 ? fd : dir_is_empty(fd);

        return r < 0 ? r : 0;
}

bool context_is_canceled(const Context *context) {
        return atomic_load(&context->is_canceled);
}

void context_progress(const Context *context, JobState state, uint64_t done, uint64_t total) {
        if (context->observer.progress)
                context->observer.progress(context->observer.userdata, state, done, total, NULL);
}

void context_wait(const Context *context, uint64_t done, uint64_t total, const char *why) {
        if (context->observer.progress)
                context->observer.progress(context->observer.userdata, JOB_WAITING, done, total, why);
}

void context_doing(const Context *context, const char *what) {
        if (context->observer.doing)
                context->observer.doing(context->observer.userdata, what);
}

int context_load_records(const Context *context, Records **ret, Failure *reterr) {
        int r = records_load(context->records_fd, context->upper_fd, ret);
        _cleanup_free_ char *path = NULL;

        if (r >= 0)
                return 0;
        (void) fd_path(context->records_fd, &path);
        return failure_set_errno(
                reterr, r, "cannot read the records of finalized directories in '%s'", path ?: "(unknown)");
}

int context_make_durable(const Context *context, Failure *reterr) {
        if (context->overlay->is_volatile || syncfs(context->upper_fd) >= 0)
                return 0;
        return failure_set_errno(
                reterr, -errno, "cannot sync the file system of '%s': see the kernel's log (dmesg)",
                context->overlay->upper);
}

void context_note(const Context *context, const char *path, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        if (!context->observer.note)
                return;
        va_start(ap, format);
        text = str_formatv(format, ap);
        va_end(ap);
        context->observer.note(context->observer.userdata, path, text ?: format);
}

void context_kept(
        const Context *context, const char *path, const char *id, unsigned n_processes, const char *who) {
        if (context->observer.kept)
                context->observer.kept(context->observer.userdata, path, id, n_processes, who);
}
