/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a refresh takes out of a directory stands in staging for a moment, and may be somebody's. It does so
 * under a name of which nothing is ever deleted but what is proved here to be nobody's, beside a note that
 * says how to tell, so that a later start decides in the same way. */
#pragma once

#include "core/context/staging.h"
#include "core/record/manifest.h"
#include "core/release/fingerprint.h"

/* Says in the note, and durably, what REFRESH_COPY is about to replace, name in the directory with this
 * handle in the upper, and moves it to STAGING_REPLACED. judged: what is there now, and nobody's. */
int aside_prepare(Staging *s, const Fingerprint *judged, const char *handle, const char *name);
/* The end of STAGING_REPLACED, whatever it is: 1 what was replaced was nobody's, and is gone; 0 it was put
 * back or kept, and that is noted, or nothing was replaced. */
int aside_settle(Staging *s, const Records *records);
/* After a crash. */
int aside_recover(Staging *s);
