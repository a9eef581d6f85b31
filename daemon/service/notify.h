/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the service manager hears, see sd_notify(3). It does not use sd_notify() itself, which blocks when
 * the other side does not read. What cannot be sent now is sent later, in order; of several states of the
 * daemon only the last. Nothing happens where nobody listens. */
#pragma once

#include <systemd/sd-event.h>

#include "base/macro.h"

typedef struct Notifier Notifier;

/* Talks to $NOTIFY_SOCKET. */
int notifier_new(sd_event *event, Notifier **ret);
Notifier *notifier_free(Notifier *n);
DEFINE_CLEANUP(Notifier *, notifier_free);

void notifier_ready(Notifier *n);
void notifier_reloading(Notifier *n);
void notifier_stopping(Notifier *n);
/* One line for "systemctl status"; sent only when it is another one than before. */
void notifier_status(Notifier *n, const char *text);
