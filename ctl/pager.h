/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pager in place of stdout, chosen by the same environment variables as in systemd's tools (see
 * less-variables.xml there, i.e. the "Environment" section of systemctl(1)). What is printed, and when one
 * is wanted, is term.h's affair. Somebody with raised privileges gets none that can start other programs. */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/* Starts the pager and makes stdout a pipe to it. Returns its PID, 0 when there is none to be had. */
pid_t pager_open(void);
/* Closes stdout and waits until the user has left the pager. */
void pager_close(pid_t pid);
