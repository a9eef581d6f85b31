/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FNV-1a, 64 bits: a hash that tells things apart which nobody makes alike on purpose. It is not for secrets
 * or against attackers: who wants to can make two things with the same hash. */
#pragma once

#include "base/macro.h"

/* FNV-1a, 64 bits: tells things apart that nobody makes alike on purpose. It resists no one. */
uint64_t hash_bytes(const void *data, size_t size) _pure_;
