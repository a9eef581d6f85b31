/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copying up data, so that a file is never looked for in the lower again. The kernel copies; a file is
 * opened for writing for that, and nothing is written to it. Its modification time stays what it was. A file
 * that is being executed, or that cannot be copied, is left as it is and noted. */
#pragma once

#include "core/context/context.h"

/* Copies up the data of every file at or below path of which only metadata is in the upper and that is not
 * larger than max_bytes; counts it in context->bytes_copied. A program that runs keeps its file as it is:
 * noted. FAILURE_NO_SPACE before the upper has less left than guard_room() asks for. Blocks on the lower. */
int data_copy_up(Context *context, const char *path, uint64_t max_bytes, Failure *reterr);
