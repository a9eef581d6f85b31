/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon in one line, for "systemctl status": how many overlays, finalized directories and jobs there
 * are. It is told from memory; no overlay is looked at. */
#pragma once

typedef struct Manager Manager;

/* "2 overlays, 41 directories finalized, 1 job running"; owned by the caller, NULL on out of memory. */
char *status_format(const Manager *m);
/* Directories that are finalized, of all overlays. */
unsigned status_count_finalized(const Manager *m);
