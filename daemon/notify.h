/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the service manager hears, see sd_notify(3). Nothing happens where nobody listens. */
#pragma once

#include "manager.h"

void notify_ready(const Manager *m);
void notify_reloading(const Manager *m);
void notify_stopping(const Manager *m);
void notify_status(const Manager *m);
/* "2 overlays, 41 directories finalized, 1 job running"; owned by the caller. */
char *notify_format_status(const Manager *m);
