/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table and how it is read: the first row that fits an errno and a kind of call decides. Where the errno
 * does not tell, the layers are asked, and who cannot be asked counts as out of reach. */
#include "core/context/error-scope.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "base/failure.h"
#include "base/fs-util.h"
#include "base/str.h"

/* What a file system that is not full can hold of one more small file. */
#define PROBE_BYTES 65536
#define PROBE_XATTR "trusted.ovlfind.probe"
/* Less of them is no reason for any file system to refuse them. */
#define XATTRS_MANY 1024

#define IN(call) (1u << (call))
#define ANY (IN(_CALL_MAX) - 1)
#define WRITES (IN(CALL_COPY_UP) | IN(CALL_MAKE) | IN(CALL_SET_ATTRIBUTES) | IN(CALL_DATA))

typedef enum Verdict {
        OF_ENTRY = SCOPE_ENTRY,
        OF_LOWER = SCOPE_LOWER,
        OF_JOB = SCOPE_JOB,
        ASK_LOWER, /* of the entry if the lower layers answer otherwise */
        ASK_ROOT,  /* of the entry if the roots of the lower layers do not say the same */
        ASK_ROOM,  /* of the entry if the upper layer has room */
} Verdict;

#define XATTRS_ADVICE                                                                                       \
        "the upper layer's file system cannot hold these extended attributes; take off those that nobody "  \
        "needs, or use an upper layer on another file system"
#define ROOM_ADVICE                                                                                         \
        "the upper layer has room for others, so it is a quota (of the owner or of a project), a limit of " \
        "its file system, or this one is larger than what is left"
#define LOWER_ADVICE                                                                                        \
        "the lower layers answer otherwise, so it is this entry: repair it there; if it was removed "       \
        "there, "                                                                                           \
        "run 'ovlfinctl prune' first"
#define CHANGED_ADVICE "somebody changes or uses it, or has a lease on it: try again later"
#define CONTENT_ADVICE                                                                                      \
        "its content is in no lower layer: put it back into the data-only layer that it is missing from"
#define DAMAGED_ADVICE "a file system is damaged there: unmount it and check it (fsck)"

/* The first row that fits counts. What is not listed belongs to the entry: to try the others does no harm.
 */
static const struct {
        int error;
        unsigned calls;
        Verdict verdict;
        bool passes; /* perhaps by itself */
        const char *advice;
} rows[] = {
        { ECANCELED, ANY, OF_JOB, true, NULL },
        { ESHUTDOWN, ANY, OF_JOB, true, NULL },
        { ENOMEM, ANY, OF_JOB, true, NULL },
        { EMFILE, ANY, OF_JOB, true, NULL },
        { ENFILE, ANY, OF_JOB, true, NULL },
        { EROFS, WRITES, OF_JOB, true, NULL },

        { ENOENT, ANY, OF_ENTRY, true, CHANGED_ADVICE },
        { ENOTDIR, ANY, OF_ENTRY, true, CHANGED_ADVICE },
        { ELOOP, ANY, OF_ENTRY, true, CHANGED_ADVICE },
        { EEXIST, ANY, OF_ENTRY, true, CHANGED_ADVICE },
        { ENOTEMPTY, ANY, OF_ENTRY, true, CHANGED_ADVICE },
        { EAGAIN, ANY, OF_ENTRY, true, CHANGED_ADVICE },
        { EBUSY, ANY, OF_ENTRY, true, CHANGED_ADVICE },

        { EIO, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ESTALE, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ETIMEDOUT, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { EREMOTEIO, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ENODEV, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ENOTCONN, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ECONNABORTED, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ECONNRESET, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ECONNREFUSED, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { EHOSTDOWN, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { EHOSTUNREACH, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ENETUNREACH, ANY, ASK_LOWER, true, LOWER_ADVICE },
        { ENETDOWN, ANY, ASK_LOWER, true, LOWER_ADVICE },

        { ENOSPC, WRITES, ASK_ROOM, false, ROOM_ADVICE },
        { EDQUOT, WRITES, ASK_ROOM, false,
          "the quota of its owner or of its project in the upper layer is used up: raise it" },
        { ENOLINK, ANY, OF_ENTRY, false,
          "it may lie in a lower layer that is not seen to be the overlay's: 'ovlfinctl check' says what to "
          "set" },
        { E2BIG, ANY, OF_ENTRY, false, XATTRS_ADVICE },
        { ERANGE, ANY, OF_ENTRY, false, XATTRS_ADVICE },
        { ENODATA, ANY, OF_ENTRY, false, XATTRS_ADVICE },

        { EACCES, IN(CALL_READ) | IN(CALL_COPY_UP) | IN(CALL_DATA), ASK_ROOT, false,
          "the file system of the lower layer denies it to root: allow it there (NFS: no_root_squash, or "
          "other mode bits)" },
        { EPERM, IN(CALL_READ), ASK_ROOT, false,
          "the file system of the lower layer denies it to root: allow it there (NFS: no_root_squash, or "
          "other mode bits)" },
        { EPERM, IN(CALL_COPY_UP) | IN(CALL_DATA), ASK_ROOT, false,
          "it is immutable or append-only (chattr -i -a), or its file system denies it to root" },
        { EACCES, ANY, ASK_ROOT, false, "a security module or the upper layer's file system denies it" },
        { EPERM, ANY, ASK_ROOT, false, "a security module or the upper layer's file system denies it" },

        { EREMCHG, ANY, OF_ENTRY, false,
          "set LowerDir= to where the lower layers are seen as the overlay sees them" },

        { EOVERFLOW, ANY, OF_ENTRY, false,
          "a number of it is too large: an owner without a number in the overlay's user namespace, a size "
          "or an inode number" },
        { ENAMETOOLONG, ANY, OF_ENTRY, false, "the file system takes no name or path of that length" },
        { EFBIG, ANY, OF_ENTRY, false, "the upper layer's file system takes no file of that size" },
        { ETXTBSY, ANY, OF_ENTRY, true, "it is running: try again when it has ended" },
        { EMLINK, ANY, OF_ENTRY, false, "the upper layer's file system allows no more links" },
        { EXDEV, ANY, OF_ENTRY, false,
          "something is mounted there, or its lower path is too long for a redirect" },
        { EREMOTE, ANY, OF_ENTRY, false, "an automount point or another overlay lies there" },
        { EOPNOTSUPP, ANY, OF_ENTRY, false, "a file system does not know what this entry needs" },
        { EUCLEAN, ANY, OF_ENTRY, false, DAMAGED_ADVICE },
        { EBADMSG, ANY, OF_ENTRY, false, DAMAGED_ADVICE },
};

static size_t find_row(ErrorCall call, int r) {
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (rows[i].error == -r && (rows[i].calls & IN(call)))
                        return i;
        return SIZE_MAX;
}

/* statfs() is never answered from a cache (NFS: FSSTAT, FUSE: STATFS; docs/overlayfs.md 9.3). A layer that
 * its path does not lead to does not answer. */
static bool lower_answers(const Overlay *o) {
        struct statvfs st;

        for (size_t i = 0; i < o->n_lower; i++)
                if (statvfs(o->lower[i], &st) < 0)
                        return false;
        return true;
}

/* An export that was withdrawn denies all there is, and a server that was set up anew may for a while. */
static bool is_withdrawn(const Context *context) {
        const Overlay *o = context->overlay;
        int r = context_read_directory(context, "");
        struct statvfs st;

        for (size_t i = 0; i < o->n_lower && r >= 0; i++)
                if (statvfs(o->lower[i], &st) < 0 && !errno_is_gone(-errno))
                        r = -errno;
        return r < 0;
}

/* A file without a name goes with its descriptor. */
static bool has_room(int upper_fd) {
        _cleanup_close_ int fd = openat(upper_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        static const char data[PROBE_BYTES];
        struct statvfs st;

        if (fd < 0 && errno == EOPNOTSUPP)
                return fstatvfs(upper_fd, &st) >= 0 && st.f_bavail * st.f_frsize > PROBE_BYTES &&
                        (st.f_files == 0 || st.f_favail > 1);
        return fd >= 0 && fd_write_all(fd, data, sizeof(data)) >= 0 &&
                fsetxattr(fd, PROBE_XATTR, data, 512, 0) >= 0;
}

ErrorScope error_scope(const Context *context, ErrorCall call, int r) {
        size_t i = find_row(call, r);
        Verdict v = i == SIZE_MAX ? OF_ENTRY : rows[i].verdict;

        if (v == ASK_LOWER)
                return lower_answers(context->overlay) ? SCOPE_ENTRY : SCOPE_LOWER;
        if (v == ASK_ROOT)
                return is_withdrawn(context) ? SCOPE_LOWER : SCOPE_ENTRY;
        if (v == ASK_ROOM)
                return has_room(context->upper_fd) ? SCOPE_ENTRY : SCOPE_JOB;
        return (ErrorScope) v;
}

bool error_is_of_lower(int r) {
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (rows[i].error == -r)
                        return rows[i].verdict == ASK_LOWER;
        return false;
}

DirectoryState error_state(int r) {
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (rows[i].error == -r)
                        return rows[i].passes ? DIRECTORY_PENDING : DIRECTORY_EXCLUDED;
        return DIRECTORY_EXCLUDED;
}

/* Bytes that the xattrs of an entry take, names included; 0: it has none, or does not tell. */
static size_t measure_xattrs(int dfd, const char *name) {
        _cleanup_close_ int fd = open_beneath(dfd, name, O_PATH | O_NOFOLLOW);
        char path[PROC_FD_MAX];
        char names[16 * 1024];
        size_t total = 0;
        ssize_t n;

        if (fd < 0)
                return 0;
        proc_fd_path(path, fd, "");
        n = listxattr(path, names, sizeof(names));
        for (const char *s = names; s < names + n; s += strlen(s) + 1) {
                ssize_t size = getxattr(path, s, NULL, 0);

                total += strlen(s) + (size > 0 ? (size_t) size : 0);
        }
        return total;
}

/* A file whose metadata is there, and whose content is not: the kernel finds that out when it opens it, and
 * says ENOENT for it (ovl_verify_lowerdata(), ovl_maybe_lookup_lowerdata()). */
static bool has_lost_content(int dfd, const char *name) {
        _cleanup_close_ int fd = openat(dfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;

        return fd < 0 && errno == ENOENT && fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                S_ISREG(st.st_mode);
}

char *error_reason(int r, ErrorCall call, const char *what, const char *path, int dfd, const char *name) {
        size_t i = find_row(call, r), bytes = 0;
        const char *advice = i == SIZE_MAX ? NULL : rows[i].advice;
        char size[64] = "";

        if ((r == -ENOSPC || r == -E2BIG || r == -ERANGE) && dfd >= 0)
                bytes = measure_xattrs(dfd, name ?: "");
        if (bytes >= XATTRS_MANY) {
                (void) snprintf(size, sizeof(size), "it has %zu bytes of xattrs, and ", bytes);
                advice = XATTRS_ADVICE;
        }
        if (r == -ENOENT && dfd >= 0 && name && has_lost_content(dfd, name))
                advice = CONTENT_ADVICE;
        return str_format(
                "cannot %s '%s': %s%s%s%s", what, path, failure_errno_text(-r), advice ? "; " : "", size,
                advice ?: "");
}
