/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In the place of misses.c where ovlfind is built without libbpf. It counts nothing: the source of heat
 * "misses" is refused with the reason, and the other sources work as ever. */
#include "core/misses/misses.h"

int misses_run(const MissesConfig *c, Failure *reterr) {
        return failure_set(
                reterr, FAILURE_PRECONDITION, ENOTSUP,
                "this ovlfind was built without BPF (the option 'bpf' of meson)");
}
