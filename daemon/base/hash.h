/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FNV-1a, 64 bits: tells things apart that nobody makes alike on purpose. It resists no one. */
#pragma once

#include "base/macro.h"

/* FNV-1a, 64 bits: tells things apart that nobody makes alike on purpose. It resists no one. */
uint64_t hash_bytes(const void *data, size_t size) _pure_;
