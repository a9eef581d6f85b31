/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/release/refresh-aside.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/context/orphan.h"
#include "core/release/fingerprint.h"
#include "core/release/refresh-internal.h"
#include "core/upper/names.h"

#define NOTE "replacing"
#define NOTE_MAX 4096

typedef struct Note {
        Fingerprint judged, own; /* what is replaced, and what we have made for it */
        char *handle;            /* of the directory in the upper */
        char *name;
} Note;

static void note_done(Note *n) {
        free(n->handle);
        free(n->name);
}

static bool is_directory(const Fingerprint *f) {
        return f->class > UPPER_COMPLETE;
}

int aside_prepare(Staging *s, const Fingerprint *judged, const char *handle, const char *name) {
        _cleanup_free_ char *text = NULL;
        Fingerprint own;
        int r = fingerprint_of(s->dir.upper_fd, REFRESH_COPY, &own);

        if (r < 0)
                return r;
        text = str_format(
                "%" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n%" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n%s\n%s",
                judged->inode, judged->content, judged->xattrs, judged->class, own.inode, own.content,
                own.xattrs, own.class, handle, name);
        if (!text)
                return -ENOMEM;
        r = file_write_atomic(s->dir.fd, NOTE, text, strlen(text));
        if (r >= 0 && renameat2(s->dir.fd, REFRESH_COPY, s->dir.fd, STAGING_REPLACED, RENAME_NOREPLACE) < 0)
                r = -errno;
        return r;
}

static const char *read_fingerprint(const char *text, Fingerprint *ret) {
        int class = -1, n = 0;

        if (!text ||
            sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %d%n", &ret->inode, &ret->content,
                   &ret->xattrs, &class, &n) != 4 ||
            text[n] != '\n')
                return NULL;
        ret->class = (UpperClass) class;
        return text + n + 1;
}

static int read_note(int dir_fd, Note *ret) {
        _cleanup_free_ char *text = NULL;
        const char *rest, *name;
        size_t size;
        int r = file_read(dir_fd, NOTE, NOTE_MAX, &text, &size);

        if (r < 0)
                return r;
        rest = read_fingerprint(read_fingerprint(text, &ret->judged), &ret->own);
        name = rest ? strchr(rest, '\n') : NULL;
        if (!name)
                return -EBADMSG;
        ret->handle = strndup(rest, (size_t) (name - rest));
        ret->name = strdup(name + 1); /* the rest, since it may hold any byte */
        return ret->handle && ret->name ? 0 : -ENOMEM;
}

static bool is_nobodys(const Staging *s, const Note *n, const Records *records) {
        _cleanup_close_ int fd = open_dir_beneath(s->dir.upper_fd, STAGING_REPLACED);

        if (fd >= 0)
                return refresh_holds_local(records, fd) == 0;
        return fingerprint_holds(&n->judged, s->dir, STAGING_REPLACED);
}

/* The inode number is enough for a directory: it was not there when the one that is kept was. */
static bool is_as_built(const Note *n, DirectoryPair d) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };

        if (!is_directory(&n->own))
                return fingerprint_holds(&n->own, d, n->name);
        return upper_entry_read(d.upper_fd, n->name, &e) >= 0 && e.inode == n->own.inode;
}

/* What a refresh has put in place and what is kept change places again. Afterwards ours is the kept one. It
 * has stood in the directory for a moment, where everybody could change it. A file that is still as it was
 * built is deleted; whether a directory is cannot be told, so that stays in kept/. */
static int exchange_back(Staging *s, const Note *n, const char *parent, const char *kept) {
        _cleanup_pair_ DirectoryPair d = DIRECTORY_PAIR_INIT;

        if (pair_open(context_root(s->context), parent, &d) < 0)
                return 0;
        if (!is_as_built(n, d) || renameat2(s->kept.fd, kept, d.fd, n->name, RENAME_EXCHANGE) < 0)
                return 0;
        if (!is_directory(&n->own) && fingerprint_holds(&n->own, s->kept, kept))
                (void) unlinkat(s->kept.fd, kept, 0);
        return 1;
}

/* By way of kept/, where nothing is ever deleted: whenever we are killed, nothing is lost. */
static int put_back(Staging *s, const Note *n) {
        _cleanup_free_ char *parent = NULL, *path = NULL;
        _cleanup_close_ int fd = file_handle_open(s->context->upper_fd, n->handle, &parent);
        char kept[16];
        int r = staging_move_to_kept(s, s->dir.fd, STAGING_REPLACED, kept);

        if (r <= 0)
                return r;
        path = path_join(fd >= 0 ? parent : "", n->name);
        if (!path)
                return -ENOMEM;
        if (fd >= 0 && exchange_back(s, n, parent, kept) > 0)
                context_note(s->context, path, "it is being changed here right now: it stays as it is here");
        if (faccessat(s->kept.fd, kept, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                context_note(
                        s->context, path,
                        "it was changed here while it was replaced by what the lower layer has now: the one "
                        "that is not there any more is kept as '%s/%s/%s/kept/%s'",
                        s->context->overlay->mount_point, STAGING_NAME, s->id, kept);
        return 0;
}

int aside_settle(Staging *s, const Records *records) {
        _cleanup_(note_done) Note n = { 0 };
        struct stat st;
        bool is_ours;
        int r;

        if (fstatat(s->dir.upper_fd, STAGING_REPLACED, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        r = read_note(s->dir.fd, &n);
        if (r < 0)
                return r;
        is_ours = st.st_ino == n.own.inode; /* nobody has seen it: what was seen goes to kept/ */
        if (!is_ours && (st.st_ino != n.judged.inode || !is_nobodys(s, &n, records)))
                return put_back(s, &n);
        r = orphan_remove_tree(s->context->root_fd, s->dir, STAGING_REPLACED);
        return r < 0 ? r : !is_ours;
}

int aside_recover(Staging *s) {
        _cleanup_(records_freep) Records *records = NULL;
        int r;

        if (faccessat(s->dir.fd, NOTE, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        r = records_load(s->context->records_fd, s->context->upper_fd, &records);
        if (r >= 0)
                r = aside_settle(s, records);
        return r == -EBADMSG ? 0 : r; /* staging_remove() keeps what nobody can judge */
}
