/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The note beside what a refresh replaces: any bytes are refused or taken, and a name of any bytes comes
 * back. Input: how, then the note, or with "how" odd a name. */
#include "core/release/refresh-aside.c" /* for read_note() */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = input_begin(data, size);
        uint8_t how = input_byte(&in);
        _cleanup_free_ char *s = how & 1 ? input_string(&in) : NULL, *text = NULL;
        _cleanup_(note_done) Note n = { 0 };
        int dfd = fuzz_dir(), r;
        size_t text_size;

        if (s) {
                text = str_format("1 2 3 %d\n4 5 6 %d\n0badcafe\n%s", how >> 5, how >> 4 & 1, s);
                text_size = strlen(text);
        } else
                text = input_rest(&in, &text_size);
        fuzz_write(NOTE, text, text_size);
        r = read_note(dfd, &n);
        HOLDS(r == 0 || r == -EBADMSG || (r == -E2BIG && text_size > NOTE_MAX));
        HOLDS(r < 0 || (n.handle && n.name && !strchr(n.handle, '\n')));
        if (s && r == 0)
                HOLDS(strcmp(n.name, s) == 0 && strcmp(n.handle, "0badcafe") == 0 && n.own.inode == 4);
        return 0;
}
