/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes one state file outside of the loop: a thread a write, so that a file system that is slow or hangs
 * holds up nobody. It knows nothing of what the text says. One write at a time; of what comes meanwhile only
 * the newest is written. So after a crash the file is as old as the last write took, and never a mixture. */
#pragma once

#include <systemd/sd-event.h>

#include "base/macro.h"

typedef struct StateWriter StateWriter;

/* on_idle (may be NULL) is called when all that was given has been written, or could not be; not by the two
 * functions below. name is borrowed. */
int state_writer_new(
        sd_event *event,
        const char *dir,
        const char *name,
        void (*on_idle)(void *userdata),
        void *userdata,
        StateWriter **ret);
/* Waits a few seconds until all is written; takes NULL. */
StateWriter *state_writer_free(StateWriter *w);
DEFINE_CLEANUP(StateWriter *, state_writer_free);

/* Takes the text; NULL: out of memory, which is logged, as is a write that fails. */
void state_writer_write(StateWriter *w, char *text);
bool state_writer_is_idle(const StateWriter *w) _pure_;
