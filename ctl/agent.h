/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* polkit's agent for terminals: asks the user for a password there when no desktop does. */
#pragma once

#include "base/macro.h"

/* Starts it and waits until it can be asked; it ends with this program. False when there is nobody to ask
 * (no terminal, or root) or no agent (package polkitd). Blocks for a moment.
 */
bool agent_open(void);
