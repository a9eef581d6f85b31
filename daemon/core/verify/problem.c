/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be wrong in an upper layer, and what is done about it: the one table, with a name for programs,
 * what it means for users, and the cure. Nothing is looked for here. A kind keeps its name for good:
 * scripts go by it. */
#include "core/verify/verify-internal.h"

static const ProblemInfo infos[_PROBLEM_KIND_MAX] = {
        [PROBLEM_RELATIVE_REDIRECT] = { "relative-redirect",
                                        "its redirect is relative, which a directory that does not ask the "
                                        "lower layer cannot resolve: a file gives EIO, a directory is empty",
                                        "verify --repair makes it absolute where that is proven right" },
        [PROBLEM_MISSING_REDIRECT] = { "missing-redirect",
                                       "its data is in a lower layer and nothing says where: it gives EIO",
                                       "verify --repair writes the redirect where that is proven right" },
        [PROBLEM_MALFORMED_REDIRECT] = { "malformed-redirect",
                                         "the kernel does not take its redirect: looking at it fails",
                                         "verify --repair writes one where it is known what is right" },
        [PROBLEM_LOWER_MISSING] = { "lower-missing",
                                    "what it stands for is not in the lower layers any more: a file gives "
                                    "EIO and cannot be removed through the overlay, a directory is empty",
                                    "put it back there; or 'prune', or 'refresh' its directory" },
        [PROBLEM_LOWER_OTHER_TYPE] = { "lower-other-type",
                                       "the lower layers hold something of another type in its place",
                                       "put it back there, or 'refresh' its directory" },
        [PROBLEM_LOWER_UNKNOWN] = { "lower-unknown", "the lower layers do not say what became of it",
                                    "see whether their servers answer, then verify again" },
        [PROBLEM_SIZE_CHANGED] = { "size-changed",
                                   "the lower file has another size than this entry shows: programs that go "
                                   "by the size read too much or too little",
                                   "'refresh' its directory" },
        [PROBLEM_REPLACED] = { "replaced",
                               "another file was put in the place of the one in the lower layer: size, "
                               "owner or times shown may be those of the old one",
                               "'refresh' its directory" },
        [PROBLEM_LOST_DIRECTORY] = { "lost-directory",
                                     "it was merged with a lower directory, and nothing says with which: "
                                     "only what is in the upper is seen",
                                     "set trusted.overlay.redirect to its lower path, with the overlay "
                                     "unmounted" },
        [PROBLEM_BAD_OPAQUE] = { "bad-opaque",
                                 "the kernel does not know this value of its opaque mark and ignores it",
                                 "with the overlay unmounted, set it to 'y' or remove it" },
        [PROBLEM_IDLE_WHITEOUT] = { "idle-whiteout",
                                    "it hides a lower name that is not there; should one appear, nobody "
                                    "would see it",
                                    "verify --repair removes it" },
        [PROBLEM_VISIBLE_WHITEOUT] = { "visible-whiteout",
                                       "it stands in listings although nothing can be found under its name",
                                       "verify --repair removes it" },
        [PROBLEM_WRONG_IMPURE] = { "wrong-impure",
                                   "its 'impure' mark is missing: inode numbers in listings are not those "
                                   "of stat()",
                                   "verify --repair sets it" },
        [PROBLEM_NO_RECORD] = { "no-record",
                                "it is finalized, but what it held then is not recorded: refresh and prune "
                                "leave it alone, unfinalize wants --force",
                                "none is needed; 'unfinalize --force' and 'finalize' make a record" },
        [PROBLEM_IDLE_RECORD] = { "idle-record",
                                  "a record in the state directory is about directories that are gone, or "
                                  "merged again",
                                  "verify --repair removes it" },
        [PROBLEM_DAMAGED_RECORD] = { "damaged-record", "records in the state directory cannot be read",
                                     "verify --repair moves them aside" },
        [PROBLEM_LEFTOVER_STAGING] = { "leftover-staging", "work that was interrupted left it behind",
                                       "start ovlfind: it finishes or removes it; what is in 'kept' belongs "
                                       "to somebody, only a person removes it" },
        [PROBLEM_LEFTOVER_OLD_TREE] = { "leftover-old-tree",
                                        "it was kept for processes standing in it, and what was known about "
                                        "it is gone",
                                        "take out of it what is still needed, then remove it" },
        [PROBLEM_LEFTOVER_WORK] = { "leftover-work", "a crash left it in the work directory",
                                    "verify --offline --repair removes it, as the next mount does" },
        [PROBLEM_UNREADABLE] = { "unreadable", "the upper layer itself cannot be read there",
                                 "check the file system of the upper layer" },
};

const ProblemInfo *problem_info(ProblemKind kind) {
        return kind >= 0 && kind < _PROBLEM_KIND_MAX ? infos + kind : NULL;
}

int verify_found(Verify *v, ProblemKind kind, const char *path, const char *detail, bool is_repaired) {
        const Problem p = { .kind = kind, .path = path, .detail = detail, .is_repaired = is_repaired };

        v->n_problems++;
        v->n_repaired += is_repaired;
        return v->func(&p, v->userdata);
}
