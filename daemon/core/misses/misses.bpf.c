/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs in the kernel, at the end of each lookup of overlayfs that its cache does not answer, and counts
 * those that find nothing: by superblock and directory, told apart by whether a lower layer was asked. It
 * sees no name that is looked up. Of processes it sees which file they execute: ours do not count. */

/* How overlayfs looks up: docs/overlayfs.md 1.10. Structures have only the members that are used: libbpf
 * puts in where the running kernel has them, and a kernel that lacks one refuses the program. Where kernels
 * differ, the names of structures end with ___ and a word, which libbpf ignores. */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <stdbool.h>

#include "core/misses/misses-map.h"

#define KERNEL __attribute__((preserve_access_index))

struct file {
        struct inode *f_inode;
} KERNEL;

struct mm_struct {
        struct file *exe_file;
} KERNEL;

struct task_struct {
        struct mm_struct *mm;
} KERNEL;

struct super_block {
        __u32 s_dev;
        struct dentry *s_root;
} KERNEL;

struct inode {
        struct super_block *i_sb;
        unsigned long i_ino;
} KERNEL;

struct qstr {
        const unsigned char *name;
} KERNEL;

struct dentry {
        struct dentry *d_parent;
        struct qstr d_name;
        struct inode *d_inode;
        void *d_fsdata;
} KERNEL;

/* Since Linux 6.5 the lower layers hang off the inode, and d_fsdata is flags. */
struct ovl_entry___inode {
        unsigned int __numlower;
} KERNEL;

struct ovl_inode {
        struct ovl_entry___inode *oe;
        struct inode vfs_inode;
} KERNEL;

/* Before, they hang off the dentry, as do the flags. */
struct ovl_entry___dentry {
        unsigned long flags;
        unsigned int numlower;
} KERNEL;

enum ovl_entry_flag {
        OVL_E_OPAQUE = 1,
};

typedef struct Scratch {
        MissesDirectory directory;
        char room[MISSES_NAME_MAX]; /* for a name that begins within names */
} Scratch;

/* Which superblocks count. User space adds and removes them. */
struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, MISSES_OVERLAYS);
        __type(key, __u32);
        __type(value, __u32);
} overlays SEC(".maps");

/* Drained by user space. Not per CPU: who looks up names in one directory shares its locks anyway, and
 * memory would grow with the machine. */
struct {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, MISSES_DIRECTORIES);
        __type(key, MissesKey);
        __type(value, MissesDirectory);
} directories SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, Scratch);
} scratch SEC(".maps");

/* Wakes user space, once after each drain. Nothing is in it. */
struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, 4096);
} bell SEC(".maps");

volatile __u32 is_bell_rung = 0;   /* user space takes it back */
volatile __u64 own_executable = 0; /* the inode of the file that the loading process executes */

static __always_inline __u64 executable(void) {
        struct task_struct *t = bpf_get_current_task_btf();

        return (__u64) BPF_CORE_READ(t, mm, exe_file, f_inode);
}

/* Run once, by who loads this, in his own process. */
SEC("syscall")
int remember_executable(void *context) {
        own_executable = executable();
        return own_executable != 0;
}

static __always_inline unsigned int count_lower(struct inode *dir, struct dentry *dentry) {
        struct ovl_entry___dentry *e;

        if (bpf_core_field_exists(((struct ovl_inode *) 0)->oe)) {
                struct ovl_inode *i =
                        (void *) dir - bpf_core_field_offset(((struct ovl_inode *) 0)->vfs_inode);

                return BPF_CORE_READ(i, oe, __numlower);
        }
        e = BPF_CORE_READ(dentry, d_parent, d_fsdata);
        return BPF_CORE_READ(e, numlower);
}

/* A whiteout in the upper says that the name is absent: nobody is asked. */
static __always_inline bool is_whiteout(struct dentry *dentry) {
        struct ovl_entry___dentry *e = BPF_CORE_READ(dentry, d_fsdata);
        unsigned long flags = (unsigned long) e;

        if (!bpf_core_field_exists(((struct ovl_inode *) 0)->oe))
                flags = BPF_CORE_READ(e, flags);
        return flags >> bpf_core_enum_value(enum ovl_entry_flag, OVL_E_OPAQUE) & 1;
}

/* Returns the length of the names; more than MISSES_NAMES: they are of no use. */
static __always_inline __u32 read_names(struct dentry *dentry, struct dentry *root, char *names) {
        __u64 length = 0;

        for (int i = 0; i < MISSES_DEPTH; i++) {
                const unsigned char *name;
                struct dentry *parent;
                long n;

                if (dentry == root)
                        return length;
                if (length >= MISSES_NAMES)
                        break;
                name = BPF_CORE_READ(dentry, d_name.name);
                n = bpf_probe_read_kernel_str(names + length, MISSES_NAME_MAX, name);
                parent = BPF_CORE_READ(dentry, d_parent);
                if (n <= 0 || parent == dentry) /* it hangs nowhere */
                        break;
                length += n;
                dentry = parent;
        }
        return MISSES_NAMES + 1;
}

static __always_inline void add(MissesDirectory *d, bool is_asked) {
        if (is_asked)
                __sync_fetch_and_add(&d->n_asked, 1);
        else
                __sync_fetch_and_add(&d->n_saved, 1);
}

/* The first one since it was drained. */
static __always_inline void
begin_directory(const MissesKey *key, struct inode *dir, struct dentry *dentry, bool is_asked) {
        __u32 zero = 0;
        Scratch *s = bpf_map_lookup_elem(&scratch, &zero);
        MissesDirectory *d;

        if (!s)
                return;
        s->directory.n_asked = is_asked;
        s->directory.n_saved = !is_asked;
        s->directory.length = read_names(
                BPF_CORE_READ(dentry, d_parent), BPF_CORE_READ(dir, i_sb, s_root), s->directory.names);
        if (bpf_map_update_elem(&directories, key, &s->directory, BPF_NOEXIST) == 0)
                return;
        d = bpf_map_lookup_elem(&directories, key); /* somebody else was first */
        if (d)
                add(d, is_asked);
}

static __always_inline void ring(void) {
        if (is_bell_rung)
                return;
        is_bell_rung = 1;
        (void) bpf_ringbuf_output(&bell, (void *) &(char){ 0 }, 1, BPF_RB_FORCE_WAKEUP);
}

SEC("fexit/ovl_lookup")
int BPF_PROG(on_lookup, struct inode *dir, struct dentry *dentry, unsigned int flags, struct dentry *found) {
        MissesKey key = { .device = BPF_CORE_READ(dir, i_sb, s_dev), .inode = BPF_CORE_READ(dir, i_ino) };
        MissesDirectory *d;
        bool is_asked;

        if (found || BPF_CORE_READ(dentry, d_inode) || !bpf_map_lookup_elem(&overlays, &key.device) ||
            executable() == own_executable)
                return 0;
        is_asked = count_lower(dir, dentry) > 0;
        if (is_asked && is_whiteout(dentry))
                return 0;
        d = bpf_map_lookup_elem(&directories, &key);
        if (d)
                add(d, is_asked);
        else
                begin_directory(&key, dir, dentry, is_asked);
        ring();
        return 0;
}

/* What this file is under may be taken as GPL, which the kernel wants of who calls these helpers. */
char license_of_program[] SEC("license") = "GPL";
