/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose bus is asked: this machine's, one by its address, that of a host by ssh, or that of a container. The
 * transports are sd-bus's own, as systemd's tools have them. When there is no connection, sd-bus gives an
 * errno only, so what to do is said here; what ssh says goes to standard error by itself. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

typedef struct Endpoint {
        /* At most one is set; borrowed. None: the system bus. */
        const char *address;
        const char *host;    /* [USER@]HOST[:PORT][/CONTAINER] */
        const char *machine; /* [USER@]CONTAINER */
} Endpoint;

/* Whether paths, processes and file systems there are not those of the caller. */
static inline bool endpoint_is_remote(const Endpoint *e) {
        return e->host || e->machine;
}

/* Connects, and waits for the end of the handshake. Negative errno. */
int endpoint_open(const Endpoint *e, sd_bus **ret);
/* " of host 'NAME'", " of machine 'NAME'", or "". Allocated; NULL on out of memory. */
char *endpoint_text(const Endpoint *e);
/* What to do after endpoint_open() has failed with r, to follow its errno: "; …". Allocated, or NULL:
 * nothing is known. */
char *endpoint_advice(const Endpoint *e, int r);
