/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/target.h"

#include <string.h>

#include "base/path-util.h"
#include "base/utf8.h"
#include "dbus/names.h"

bool argument_is_path(const char *s) {
        return strchr(s, '/') || strcmp(s, ".") == 0 || strcmp(s, "..") == 0;
}

/* What a path elsewhere stands for cannot be looked up from here. */
static int path_simplify_remote(const char *what, const char *argument, char **ret) {
        _cleanup_free_ char *path = strdup(argument);

        if (!path)
                return print_oom();
        if (path[0] != '/' || path_simplify(path) < 0) {
                print_error(
                        "cannot %s '%s': with --host= and --machine= a path is absolute, and without '..'",
                        what, argument);
                return EXIT_CODE_USAGE;
        }
        *ret = utf8_escape(path);
        return *ret ? 0 : print_oom();
}

int path_resolve(const Ctl *c, const char *what, const char *argument, char **ret) {
        _cleanup_free_ char *path = NULL;

        if (endpoint_is_remote(&c->client.endpoint))
                return path_simplify_remote(what, argument, ret);
        path = realpath(argument, NULL);
        if (!path) {
                print_error("cannot %s '%s': %m", what, argument);
                return EXIT_CODE_FAILURE;
        }
        *ret = utf8_escape(path);
        return *ret ? 0 : print_oom();
}

const Record *overlay_find(const RecordList *list, const char *argument) {
        const Record *best = NULL;
        size_t best_length = 0;

        for (size_t i = 0; i < list->n; i++) {
                const char *name = record_get_string(&list->items[i], "name");
                const char *mount_point = record_get_string(&list->items[i], "mount_point");

                if (!argument_is_path(argument)) {
                        if (name && strcmp(name, argument) == 0)
                                return &list->items[i];
                } else if (
                        mount_point && path_startswith(argument, mount_point) &&
                        strlen(mount_point) > best_length) {
                        best = &list->items[i];
                        best_length = strlen(mount_point);
                }
        }
        return best;
}

static int set_below(const Record *overlay, const char *path, char **ret_below) {
        const char *rest = path_startswith(path, record_get_string(overlay, "mount_point"));

        if (!ret_below || !rest || *rest == '\0')
                return 0;
        *ret_below = strdup(path);
        return *ret_below ? 0 : print_oom();
}

int overlay_resolve(Ctl *c, const char *what, const char *argument, char **ret_name, char **ret_below) {
        _cleanup_record_list_ RecordList list = { 0 };
        _cleanup_free_ char *path = NULL;
        const Record *overlay;
        int r;

        if (ret_below)
                *ret_below = NULL;
        if (!argument_is_path(argument)) {
                *ret_name = strdup(argument);
                return *ret_name ? 0 : print_oom();
        }
        r = path_resolve(c, what, argument, &path);
        if (r != 0)
                return r;
        r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, &list);
        if (r < 0)
                return client_report(&c->client, r, "%s '%s'", what, argument);
        overlay = overlay_find(&list, path);
        if (!overlay || !record_get_string(overlay, "name")) {
                print_error("cannot %s '%s': it is not on an overlay that ovlfind manages", what, argument);
                return EXIT_CODE_NOT_MANAGED;
        }
        *ret_name = strdup(record_get_string(overlay, "name"));
        return *ret_name ? set_below(overlay, path, ret_below) : print_oom();
}

int directory_get(Ctl *c, const char *what, const char *argument, Record *ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_record_ Record record = { 0 };
        _cleanup_free_ char *path = NULL;
        int r = path_resolve(c, what, argument, &path);

        if (r != 0)
                return r;
        r = client_call(&c->client, "GetDirectory", &reply, "s", path);
        if (r >= 0)
                r = record_read(&record, reply);
        if (r < 0)
                return client_report(&c->client, r, "%s '%s'", what, argument);
        record_drop_unknown(&record);
        *ret = TAKE_STRUCT(record);
        return 0;
}
