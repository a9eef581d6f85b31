/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* polkit's agent for terminals: it asks the user for a password there when no desktop does. Who may do what
 * is polkit's to decide. Nobody is asked where nobody can answer: without a terminal, or for root. */
#pragma once

#include "base/macro.h"

/* Starts it and waits until it can be asked; it ends with this program. False when there is nobody to ask
 * (no terminal, or root) or no agent (package polkitd). Blocks for a moment.
 */
bool agent_open(void);
