/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a worker reads its request: a switch, or a list of words. What they mean the verbs know. What is not
 * in the request is not looked for elsewhere. */
#include <string.h>

#include "worker/worker.h"

bool worker_asks_for(const Worker *w, const char *key) {
        const char *v = wire_request_get(&w->request, key);

        return v && strcmp(v, "1") == 0;
}

char **worker_split(const Worker *w, const char *key, char **buffer) {
        const char *value = wire_request_get(&w->request, key) ?: "";
        char **l = calloc(strlen(value) / 2 + 2, sizeof(char *)), *state;
        size_t n = 0;

        *buffer = strdup(value);
        if (!l || !*buffer) {
                free(l);
                return NULL;
        }
        for (char *s = strtok_r(*buffer, " ", &state); s; s = strtok_r(NULL, " ", &state))
                l[n++] = s;
        return l;
}
