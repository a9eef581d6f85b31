/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files are compared until one says yes (docs/overlayfs.md 8.3). Without that the layer stays unproved, and
 * no content is read. */
#include "core/lower/proof-data.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/upper/layer.h"

#define ENTRIES_MAX 4096U /* of a layer that are looked at */
#define PAIRS_MAX 64U     /* of files that are compared */
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)

typedef struct Search {
        const Context *context;
        const Lower *l;
        bool *is_proved;
        size_t n_proved;
        int layer_fd;
        const char *path; /* of the directory being walked */
        unsigned n_entries, n_pairs;
        int pagemap_fd;
} Search;

/* Number of the page of memory at address; 0 if it is not there, or not told (which takes CAP_SYS_ADMIN). */
static uint64_t find_frame(const Search *s, const void *address) {
        off_t at = (off_t) ((uintptr_t) address / (uintptr_t) sysconf(_SC_PAGESIZE) * sizeof(uint64_t));
        uint64_t entry;

        if (pread(s->pagemap_fd, &entry, sizeof(entry), at) != (ssize_t) sizeof(entry) ||
            !(entry & PAGEMAP_PRESENT))
                return 0;
        return entry & PAGEMAP_FRAME;
}

/* Holes may be one page of zeros for all files. */
static bool has_content(int fd) {
        char page[4096];
        ssize_t n = pread(fd, page, sizeof(page), 0);

        for (ssize_t i = 0; i < n; i++)
                if (page[i] != 0)
                        return true;
        return false;
}

/* Never touched, as that could raise SIGBUS. */
static void *map_first(int fd) {
        void *p = mmap(NULL, 1, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);

        return p == MAP_FAILED ? NULL : p;
}

static bool is_one_file(const Search *s, int a_fd, int b_fd) {
        void *a = NULL, *b = NULL;
        uint64_t frame;
        bool is_one = false;

        if (!has_content(a_fd) || !has_content(b_fd))
                return false;
        a = map_first(a_fd);
        b = map_first(b_fd);
        if (a && b) {
                frame = find_frame(s, a);
                is_one = frame != 0 && frame == find_frame(s, b) && frame == find_frame(s, a);
        }
        if (a)
                (void) munmap(a, 1);
        if (b)
                (void) munmap(b, 1);
        return is_one;
}

/* The first data-only layer that has something at path: where the kernel looks (ovl_lookup_data_layers()). A
 * file with one name is in one directory only, so one such file tells of the whole layer. */
static int open_data(const Search *s, const char *path, size_t *ret_layer) {
        const int flags = O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK;
        struct stat st;

        for (size_t i = 0; i < s->l->n_data; i++) {
                _cleanup_close_ int fd = open_beneath(s->l->data_fds[i], path, flags);

                if (fd == -ENOENT)
                        continue;
                *ret_layer = i;
                if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
                        return fd < 0 ? fd : -EINVAL;
                return TAKE_FD(fd);
        }
        return -ENOENT;
}

static int try_file(Search *s, const char *path, const char *redirect) {
        _cleanup_close_ int data_fd = -EBADF, fd = -EBADF;
        size_t layer;

        data_fd = open_data(s, redirect + 1, &layer);
        if (data_fd < 0 || s->is_proved[layer])
                return 0;
        if (s->n_pairs++ >= PAIRS_MAX)
                return WALK_ENOUGH;
        fd = open_beneath(s->context->root_fd, path, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK);
        if (fd < 0 || !is_one_file(s, fd, data_fd))
                return 0;
        s->is_proved[layer] = true;
        return ++s->n_proved == s->l->n_data ? WALK_ENOUGH : 0;
}

static int walk(Search *s, const char *path);

static int visit(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_free_ char *path = NULL, *metacopy = NULL, *redirect = NULL;
        Search *s = userdata;

        if (s->n_entries++ >= ENTRIES_MAX || context_is_canceled(s->context))
                return WALK_ENOUGH;
        if (type != DT_DIR && type != DT_REG)
                return 0;
        path = path_join(s->path, name);
        if (!path)
                return -ENOMEM;
        if (type == DT_DIR)
                return walk(s, path);
        if (xattr_read_at(dfd, name, XATTR_METACOPY, &metacopy) < 0 ||
            xattr_read_at(dfd, name, XATTR_REDIRECT, &redirect) <= 1 || redirect[0] != '/')
                return 0;
        return try_file(s, path, redirect);
}

static int walk(Search *s, const char *path) {
        _cleanup_close_ int fd = open_dir_beneath(s->layer_fd, path);
        const char *around = s->path;
        int r;

        if (fd < 0)
                return 0;
        s->path = path;
        r = dir_foreach(fd, visit, s);
        s->path = around;
        return r;
}

int proof_data_layers(const Context *context, const Lower *l) {
        _cleanup_free_ bool *is_proved = calloc(l->n_data + 1, sizeof(bool));
        _cleanup_close_ int pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        Search s = { .context = context, .l = l, .is_proved = is_proved, .pagemap_fd = pagemap_fd };
        int r = 0;

        if (!is_proved)
                return -ENOMEM;
        for (size_t i = 0; i < l->n_layers && s.n_proved < l->n_data && pagemap_fd >= 0; i++) {
                s.layer_fd = l->layer_fds[i];
                s.n_entries = 0;
                r = walk(&s, "");
                if (r < 0 && r != WALK_ENOUGH)
                        return r;
        }
        return s.n_proved == l->n_data ? 0 : -EREMCHG;
}

static size_t count_data(const Lower *l, const char *path) {
        size_t n = 0;

        for (size_t i = 0; i < l->n_data; i++) {
                _cleanup_close_ int fd = open_beneath(l->data_fds[i], path, O_PATH | O_NOFOLLOW);

                n += fd != -ENOENT;
        }
        return n;
}

/* What layer i has at path, if that is the file of this inode: 1 its data is where there is no doubt, 0 it
 * has none here. */
static int check_file(const Lower *l, size_t i, const char *path, ino_t inode) {
        _cleanup_close_ int fd =
                open_beneath(l->layer_fds[i], path, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK);
        _cleanup_free_ char *metacopy = NULL, *redirect = NULL;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != inode)
                return 0;
        if (xattr_read_fd(fd, XATTR_METACOPY, &metacopy) == -ENODATA)
                return 1;
        if (xattr_read_fd(fd, XATTR_REDIRECT, &redirect) <= 1 || redirect[0] != '/')
                return 0;
        return count_data(l, redirect + 1) <= 1 ? 1 : -EREMCHG;
}

int proof_data_of_file(const Lower *l, const char *path, int fd) {
        struct stat st;
        int r = 0;

        if (l->n_data < 2)
                return 0;
        if (fstat(fd, &st) < 0)
                return -errno;
        for (size_t i = 0; i < l->n_layers && r == 0; i++)
                r = check_file(l, i, path, st.st_ino);
        return r < 0 ? r : r > 0 ? 0 : -EREMCHG;
}
