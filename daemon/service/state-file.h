/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small text files in the state directory: a line with the name and version of the format, lines of fields
 * separated by blanks, and "end", so that one that was cut off is known as such. Replaced in one step, not
 * synced. Read when the daemon begins; written by service/state-writer.h. */
#pragma once

#include "base/macro.h"

/* Writes a text as a field of its own: no blanks, never empty. */
void state_file_write_field(FILE *f, const char *s);
/* Takes a line apart; NULL for those that are not there. */
void state_file_split(char *line, char **ret_fields, size_t n);
/* In place; NULL for what is not written so. */
const char *state_file_parse_field(char *s);
/* -EBADMSG */
int state_file_parse_number(const char *s, uint64_t max, uint64_t *ret);

/* The whole text of a file: what stands between header and end is written to f. NULL on out of memory. */
typedef struct StateText {
        FILE *f;
        char *text;
        size_t size;
} StateText;

FILE *state_text_begin(StateText *t, const char *header);
char *state_text_end(StateText *t); /* owned by the caller */
/* Blocks as long as the file system does. Not by file_write_atomic(): that one syncs, which nobody needs
 * here, and leaves a file of another name each time it is killed; NAME.new is written over by the next one.
 */
int state_file_replace(const char *state_dir, const char *name, const char *text);
/* Calls line for each line (which it may change) between header and end. -ENOENT: there is none. -EBADMSG:
 * not understood, or line said so: the file is renamed to NAME.bad. */
int state_file_load(
        const char *state_dir,
        const char *name,
        const char *header,
        int (*line)(char *line, void *userdata),
        void *userdata);
