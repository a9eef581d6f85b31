/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In the place of misses.c where ovlfind is built without libbpf. */
#include "core/misses/misses.h"

int misses_run(const MissesConfig *c, Failure *reterr) {
        return failure_set(
                reterr, FAILURE_PRECONDITION, ENOTSUP,
                "this ovlfind was built without BPF (the option 'bpf' of meson)");
}
