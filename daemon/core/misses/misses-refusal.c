/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Why the program is not in the kernel, in words for a person. What libbpf and the kernel say of it is
 * written for who makes such programs, so what may be the cause is looked up here. The function is compared
 * before anything is loaded: the kernel checks what a program reads, but not that an argument still means
 * what it meant. */
#include <bpf/btf.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/misses/misses-internal.h"

#define FUNCTION "ovl_lookup"
#define MODULE "overlay"
#define LOCKDOWN "/sys/kernel/security/lockdown"

static int refuse(Failure *reterr, const char *why) {
        return failure_set(reterr, FAILURE_PRECONDITION, ENOTSUP, "%s", why);
}

static const struct btf_type *without_modifiers(const struct btf *btf, __u32 id) {
        const struct btf_type *t = btf__type_by_id(btf, id);

        while (t && (btf_is_mod(t) || btf_is_typedef(t)))
                t = btf__type_by_id(btf, t->type);
        return t;
}

static bool is_pointer_to(const struct btf *btf, __u32 id, const char *name) {
        const struct btf_type *t = without_modifiers(btf, id);

        if (!t || !btf_is_ptr(t))
                return false;
        t = without_modifiers(btf, t->type);
        return t && (btf_is_struct(t) || btf_is_fwd(t)) &&
                strcmp(btf__name_by_offset(btf, t->name_off) ?: "", name) == 0;
}

static bool is_int(const struct btf *btf, __u32 id) {
        const struct btf_type *t = without_modifiers(btf, id);

        return t && btf_is_int(t) && t->size == sizeof(int);
}

/* struct dentry *ovl_lookup(struct inode *, struct dentry *, unsigned int) */
static bool is_known(const struct btf *btf, const struct btf_type *function) {
        const struct btf_type *t = btf__type_by_id(btf, function->type);
        const struct btf_param *p = t && btf_is_func_proto(t) && btf_vlen(t) == 3 ? btf_params(t) : NULL;

        return p && is_pointer_to(btf, t->type, "dentry") && is_pointer_to(btf, p[0].type, "inode") &&
                is_pointer_to(btf, p[1].type, "dentry") && is_int(btf, p[2].type);
}

static int check(const struct btf *btf, Failure *reterr) {
        int id = btf__find_by_name_kind(btf, FUNCTION, BTF_KIND_FUNC);

        if (id < 0 || !is_known(btf, btf__type_by_id(btf, (__u32) id)))
                return refuse(
                        reterr,
                        "the function " FUNCTION "() of overlayfs in this kernel is not the one that this "
                        "version of ovlfind knows");
        return 0;
}

static int check_in_module(struct btf *vmlinux, Failure *reterr) {
        struct btf *module = btf__load_module_btf(MODULE, vmlinux);
        int r;

        if (!module)
                return refuse(
                        reterr,
                        "the kernel does not describe the types of overlayfs "
                        "(CONFIG_DEBUG_INFO_BTF_MODULES)");
        r = check(module, reterr);
        btf__free(module);
        return r;
}

int misses_check_function(Failure *reterr) {
        struct btf *vmlinux = btf__load_vmlinux_btf();
        int r;

        if (!vmlinux)
                return refuse(reterr, "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)");
        r = btf__find_by_name_kind(vmlinux, FUNCTION, BTF_KIND_FUNC) < 0 ? check_in_module(vmlinux, reterr)
                                                                         : check(vmlinux, reterr);
        btf__free(vmlinux);
        return r;
}

static bool is_locked_down(void) {
        _cleanup_fclose_ FILE *f = fopen(LOCKDOWN, "re");
        char line[128];

        return f && fgets(line, sizeof(line), f) && strstr(line, "[confidentiality]");
}

static bool has_capabilities(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3] = { 0 };

        return syscall(SYS_capget, &header, d) == 0 &&
                d[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

static int refuse_permission(Failure *reterr) {
        if (has_capabilities())
                return refuse(
                        reterr,
                        "this machine does not let even root trace the kernel by BPF programs (a security "
                        "module, or a filter of system calls)");
        return refuse(
                reterr, "tracing the kernel by BPF programs needs CAP_SYS_ADMIN, which is missing here");
}

int misses_refuse_load(int error, Failure *reterr) {
        if (is_locked_down())
                return refuse(
                        reterr, "the kernel is locked down (lockdown=confidentiality), nobody may trace it");
        if (error == EPERM)
                return refuse_permission(reterr);
        if (error == ENOSYS)
                return refuse(reterr, "the kernel has no BPF (CONFIG_BPF_SYSCALL)");
        return failure_set(
                reterr, FAILURE_PRECONDITION, ENOTSUP,
                "the kernel does not take the program that counts lookups (%s); this version of ovlfind "
                "does "
                "not know this kernel",
                strerror(error));
}

int misses_refuse_attach(int error, Failure *reterr) {
        return failure_set(
                reterr, FAILURE_PRECONDITION, ENOTSUP,
                "the kernel does not let BPF programs trace its functions "
                "(CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS): %s",
                strerror(error));
}
