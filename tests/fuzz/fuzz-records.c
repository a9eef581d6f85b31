/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A folder of records with any bytes in its files: all are looked at, what is damaged is counted, and what
 * was found by a comparison is read as it was written. Input: findings (handle, state, reason, each ended by
 * NUL; 0x01 ends them), then a record as fuzz-manifest.c takes it, without how. */
#include <stdlib.h>
#include <string.h>

#include "base/fs-util.h"
#include "core/record/manifest.h"
#include "core/record/recorded.h"
#include "fuzz.h"

static int count(const Tree *t, void *userdata) {
        HOLDS(t->upper && t->id);
        ++*(unsigned *) userdata;
        return 0;
}

static void check_lookups(const Records *records) {
        const char *known = NULL;
        unsigned n = 0;

        HOLDS(records_foreach(records, count, &n) == 0 && n + records_n_damaged(records) <= 2);
        HOLDS(!records_find(records, "no such handle"));
        (void) records_identity_for(records, "a/b", &known);
        HOLDS(known);
}

/* Not every byte of a handle or a reason comes back, for NUL ends them; all else does. */
static void check_findings(int dfd, int upper_fd, Input *in) {
        _cleanup_(records_freep) Records *records = NULL;
        Finding *items = NULL;
        size_t n = 0;

        while (!input_is_empty(in) && *in->at != 1) {
                HOLDS((items = reallocarray(items, n + 1, sizeof(Finding))));
                items[n] = (Finding){ .handle = input_string(in) };
                items[n].state = (DirectoryState) (input_byte(in) % _DIRECTORY_STATE_MAX);
                items[n++].reason = input_string(in);
        }
        (void) input_byte(in);
        HOLDS(findings_write(dfd, items, n) == 0 && records_load(dfd, upper_fd, &records) == 0);
        for (size_t i = 0; i < n; i++) {
                const Finding *f = records_find_finding(records, items[i].handle);

                HOLDS(f && strcmp(f->handle, items[i].handle) == 0);
                if (i == 0)
                        HOLDS(f->state == items[0].state && strcmp(f->reason, items[0].reason) == 0);
        }
        findings_free(items, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(records_freep) Records *records = NULL;
        _cleanup_free_ char *text = NULL;
        Input in = input_begin(data, size);
        int dfd = fuzz_dir();
        size_t text_size;
        unsigned n_damaged;

        check_findings(dfd, dfd, &in);
        text = input_record(&in, &text_size);
        fuzz_write(".findings", text, text_size);
        fuzz_write("0123456789abcdef", text, text_size);
        fuzz_write("fedcba9876543210", text, text_size / 2);
        HOLDS(records_load(dfd, dfd, &records) == 0);
        n_damaged = records_n_damaged(records);
        check_lookups(records);
        HOLDS(records_set_damaged_aside(dfd) == 0);
        records = records_free(records);
        HOLDS(records_load(dfd, dfd, &records) == 0);
        HOLDS(records_n_damaged(records) == 0 && n_damaged <= 2);
        check_lookups(records);
        return 0;
}
