/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* docs: where the installed pages explain a state or a reason, as a URI of the kind that Documentation= of a
 * unit has. Nothing but people reads it: programs have states and the ids of checks. A reason without a
 * section of its own leads to that of its state. */
#pragma once

#define DOCS_URI "file://" DOCS_DIR "/"

/* The section of reasons.md about a directory in this state for this reason (NULL: not known): of the reason
 * where the page shows it, else of the state. NULL: neither needs one. Not allocated. */
const char *docs_find_reason(const char *state, const char *reason);
