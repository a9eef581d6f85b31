/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/exchange/replay-rules.h"

static bool is_in_line(const Entry *e, const RawEntry *raw, const Node *node) {
        return e->is_placed && e->type == raw->type && (e->dir ? e->dir == node : e->inode == raw->inode);
}

Found replay_found(
        const Entry *e,
        const RawEntry *raw,
        const Node *node,
        bool has_new,
        bool is_kept,
        bool is_final_look) {
        bool is_told = e && e->aside == raw->inode && !is_final_look;

        if (is_told || (e && is_in_line(e, raw, node)))
                return FOUND_SETTLED;
        if (!has_new)
                return FOUND_HOMELESS;
        if (!e || !e->is_placed)
                return FOUND_NEW;
        if ((e->dir != NULL) == (raw->type == DT_DIR))
                return FOUND_REPLACED;
        return e->dir && is_kept ? FOUND_UNWELCOME : FOUND_OTHER_KIND;
}

/* Once the old tree is being removed, a directory that is not where it was may have been emptied by us. */
Missed replay_missed(const Entry *e, bool is_kept, bool is_removing) {
        if (e->type == DT_WHT)
                return MISSED_NOTHING;
        if (!e->is_placed)
                return e->type == DT_UNKNOWN ? MISSED_FORGET : MISSED_NOTHING;
        return is_kept || (is_removing && e->dir) ? MISSED_KEPT : MISSED_GONE;
}
