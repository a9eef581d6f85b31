/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The program misses.bpf.c in the kernel, and its maps. It is there as long as the MissesKernel is, and at
 * the latest until this process ends. It knows superblocks by number and directories by the names the kernel
 * gives; whose they are, others know. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "core/misses/misses-internal.h"
#include "core/misses/misses.skel.h"

struct MissesKernel {
        struct misses_bpf *program;
        struct ring_buffer *bell;
};

/* libbpf has one place for messages, and says something at each step. What it says is for who makes such
 * programs. */
static void (*tell_alive)(void *userdata);
static void *tell_userdata;
static bool wants_messages;

_printf_(2, 0) static int on_message(enum libbpf_print_level level, const char *format, va_list ap) {
        if (tell_alive)
                tell_alive(tell_userdata);
        return wants_messages ? vfprintf(stderr, format, ap) : 0;
}

static int on_bell(void *userdata, void *data, size_t size) {
        return 0;
}

MissesKernel *misses_kernel_free(MissesKernel *k) {
        if (!k)
                return NULL;
        ring_buffer__free(k->bell);
        misses_bpf__destroy(k->program);
        free(k);
        return NULL;
}

/* The program runs in this process, and sees what that executes. */
static int remember_executable(const MissesKernel *k, Failure *reterr) {
        LIBBPF_OPTS(bpf_test_run_opts, opts);
        int r = bpf_prog_test_run_opts(bpf_program__fd(k->program->progs.remember_executable), &opts);

        if (r >= 0 && opts.retval == 0)
                r = -ENOTSUP;
        return r < 0 ? misses_refuse_load(-r, reterr) : 0;
}

static int load(MissesKernel *k, Failure *reterr) {
        int r = misses_check_function(reterr);

        if (r < 0)
                return r;
        k->program = misses_bpf__open();
        r = k->program ? misses_bpf__load(k->program) : -errno;
        if (r < 0)
                return misses_refuse_load(-r, reterr);
        r = remember_executable(k, reterr);
        if (r < 0)
                return r;
        k->bell = ring_buffer__new(bpf_map__fd(k->program->maps.bell), on_bell, NULL, NULL);
        if (!k->bell)
                return misses_refuse_load(errno, reterr);
        r = misses_bpf__attach(k->program);
        return r < 0 ? misses_refuse_attach(-r, reterr) : 0;
}

int misses_kernel_new(void (*alive)(void *userdata), void *userdata, MissesKernel **ret, Failure *reterr) {
        _cleanup_(misses_kernel_freep) MissesKernel *k = calloc(1, sizeof(MissesKernel));
        int r;

        if (!k)
                return -ENOMEM;
        tell_alive = alive;
        tell_userdata = userdata;
        wants_messages = getenv("LIBBPF_LOG_LEVEL") != NULL;
        (void) libbpf_set_print(on_message);
        r = load(k, reterr);
        tell_alive = NULL;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(k);
        return 0;
}

int misses_kernel_set(MissesKernel *k, dev_t device, bool counts) {
        __u32 key = MISSES_DEVICE(major(device), minor(device)), value = 1;
        int fd = bpf_map__fd(k->program->maps.overlays), r;

        r = counts ? bpf_map_update_elem(fd, &key, &value, BPF_ANY) : bpf_map_delete_elem(fd, &key);
        return r == -ENOENT ? 0 : r;
}

int misses_kernel_fd(const MissesKernel *k) {
        return bpf_map__fd(k->program->maps.bell);
}

void misses_drained_done(MissesDrained *d) {
        free(d->keys);
        free(d->directories);
        *d = (MissesDrained){ 0 };
}

/* Whatever comes after the bell is hung up again rings it. */
static void hang_up_bell(MissesKernel *k) {
        (void) ring_buffer__consume(k->bell);
        __atomic_store_n((__u32 *) &k->program->bss->is_bell_rung, 0, __ATOMIC_SEQ_CST);
}

int misses_kernel_drain(MissesKernel *k, MissesDrained *ret) {
        int fd = bpf_map__fd(k->program->maps.directories), r = 0;
        __u64 position = 0;
        __u32 n;

        ret->keys = calloc(MISSES_DIRECTORIES, sizeof(MissesKey));
        ret->directories = calloc(MISSES_DIRECTORIES, sizeof(MissesDirectory));
        if (!ret->keys || !ret->directories)
                return -ENOMEM;
        hang_up_bell(k);
        for (ret->n = 0; r >= 0 && ret->n < MISSES_DIRECTORIES; ret->n += n) {
                n = (__u32) (MISSES_DIRECTORIES - ret->n);
                r = bpf_map_lookup_and_delete_batch(
                        fd, ret->n > 0 ? &position : NULL, &position, ret->keys + ret->n,
                        ret->directories + ret->n, &n, NULL);
                if (r < 0 && r != -ENOENT)
                        n = 0;
        }
        return r == -ENOENT || r == -ENOSPC ? 0 : r;
}
