/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding configuration files the way systemd does, and reading one. What a section or a key means is not
 * known here (config.c). Of files of the same name the first folder wins; an empty file or a link to
 * /dev/null hides those of the folders after it. */
#pragma once

#include "base/macro.h"

/* The file `name` of the first folder that has it. folders is NULL-terminated. *ret is NULL when there is
 * none, or when it is masked. */
int config_file_find(char *const *folders, const char *name, char **ret);
/* All *.conf of the subfolder `name`, sorted by file name, as paths. */
int config_file_list(char *const *folders, const char *name, char ***ret);

typedef struct ConfigLine {
        const char *file;
        unsigned line; /* where the assignment begins */
        const char *section;
        const char *key;
        const char *value;
} ConfigLine;

typedef void (*config_line_func)(const ConfigLine *line, void *userdata);
/* func is called with key NULL (and the text as value) for a line that is no assignment. '#' and ';' begin
 * comments; at the end of a line only a '#' after a blank does. A '\' at the end of a line continues it. */
int config_file_parse(const char *path, config_line_func func, void *userdata);
