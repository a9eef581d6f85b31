/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/release/fingerprint.h"

#include <fcntl.h>
#include <signal.h>

#include "base/hash.h"
#include "core/upper/digest.h"

int fingerprint_of(int upper_fd, const char *name, Fingerprint *ret) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        struct stat st;
        int r = upper_entry_read(upper_fd, name, &e);

        if (r < 0)
                return r;
        if (fstatat(upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret = (Fingerprint){
                .inode = e.inode,
                .content = hash_bytes(
                        (uint64_t[]){ digest_stat(&st), (uint64_t) st.st_mtim.tv_nsec },
                        2 * sizeof(uint64_t)),
                .xattrs = digest_xattrs(upper_fd, name),
                .class = e.class,
        };
        return 0;
}

/* A lease for reading is refused then. Where there are no leases, the content says what has been. Who opens
 * the file for writing while we have one makes the kernel signal us, by default with one that ends the
 * process. */
bool file_has_writer(int fd, const char *name) {
        _cleanup_close_ int file_fd = openat(fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        bool is_busy = file_fd >= 0 && fcntl(file_fd, F_SETSIG, SIGURG) >= 0 &&
                fcntl(file_fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN;

        return is_busy; /* closing gives the lease back */
}

bool fingerprint_holds(const Fingerprint *f, DirectoryPair d, const char *name) {
        struct stat st;
        Fingerprint now;

        if (fstatat(d.upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            (S_ISREG(st.st_mode) && file_has_writer(d.fd, name)))
                return false;
        return fingerprint_of(d.upper_fd, name, &now) >= 0 && now.inode == f->inode &&
                now.class == f->class && now.content == f->content && now.xattrs == f->xattrs;
}
