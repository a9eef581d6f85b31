/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A lower layer that was restored from a copy has other directories, too. As long as a record says that they
 * are those of before, nothing below them counts as removed (lower_is_removed()). So once all that was
 * looked at is there under its name, the record learns what they are now. A mount that is missing shows no
 * such names. */
#include <string.h>

#include "base/path-util.h"
#include "core/release/refresh-identity.h"

static int add(const Node ***items, size_t *n, const Node *node) {
        if (!ARRAY_GROW(*items, *n))
                return -ENOMEM;
        (*items)[(*n)++] = node;
        return 0;
}

void identities_done(Identities *i) {
        free(i->seen);
        free(i->doubtful);
}

int identities_note(Identities *i, const Node *n, bool is_doubtful) {
        int r = is_doubtful ? add(&i->doubtful, &i->n_doubtful, node_find_identity(n)) : 0;

        return r >= 0 && n->lower_identity ? add(&i->seen, &i->n_seen, n) : r;
}

static bool shows_any(const Lower *l, const Node *n) {
        ENTRY_FOREACH (n, e) {
                _cleanup_free_ char *path = path_join(n->lower, e->name);
                struct stat st;

                if (!e->is_local && e->type != DT_WHT && path && lower_stat(l, path, &st) >= 0)
                        return true;
        }
        return false;
}

bool identity_is_another(const Lower *l, const Node *n, char **ret) {
        _cleanup_free_ char *now = NULL;

        /* A lower that does not tell stays what it was. */
        if (!n->lower_identity || lower_identify(l, n->lower, &now) < 0 ||
            strcmp(now, n->lower_identity) == 0 || !shows_any(l, n))
                return false;
        *ret = TAKE_PTR(now);
        return true;
}

static int set_identity(Node *n, void *userdata) {
        char *copy = strdup(userdata);

        if (!copy)
                return -ENOMEM;
        free(n->lower_identity);
        n->lower_identity = copy;
        return 0;
}

static bool is_doubtful(const Identities *i, const Node *n) {
        for (size_t k = 0; k < i->n_doubtful; k++)
                if (i->doubtful[k] == n)
                        return true;
        return false;
}

int identities_take(const Identities *i, Prune *p) {
        int r = 0;

        for (size_t k = 0; r >= 0 && k < i->n_seen; k++) {
                const Node *n = i->seen[k];
                _cleanup_free_ char *now = NULL;

                if (!is_doubtful(i, n) && identity_is_another(p->lower, n, &now))
                        r = record_edit(&p->editor, n, set_identity, now);
        }
        return r;
}
