/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Layers of any names: as the kernel shows them in the mount table they are found again, byte for byte, and
 * so are they in what ovlfind prints for mount -o. Input: how, then upper, work and lower layers, each ended
 * by NUL; with "how" 1 beside the layers what stands behind them as it is. */
#include <string.h>

#include "base/str.h"
#include "core/mount/mount-table.h"
#include "core/mount/overlay-options.h"
#include "core/mount/overlay.h"
#include "fuzz.h"

#define LAYERS_MAX 8

typedef struct Layers {
        char *upper, *work;
        char *lower[LAYERS_MAX + 1];
        size_t n;
} Layers;

/* No path is longer, and no line of a mount table; all are absolute. */
static char *take_path(Input *in) {
        _cleanup_free_ char *s = input_string(in);

        return str_format("/%.*s", 200, s);
}

static void layers_take(Layers *l, Input *in) {
        *l = (Layers){ .upper = take_path(in), .work = take_path(in) };
        do
                l->lower[l->n++] = take_path(in);
        while (l->n < LAYERS_MAX && !input_is_empty(in) && *in->at != '\0');
        (void) input_byte(in);
}

static void layers_done(Layers *l) {
        free(l->upper);
        free(l->work);
        for (size_t i = 0; i < l->n; i++)
                free(l->lower[i]);
}

/* With a backslash before every byte of special: as one mounts. */
static void put_escaped(FILE *f, const char *s, const char *special) {
        for (; *s; s++)
                (void) fprintf(f, "%s%c", strchr(special, *s) ? "\\" : "", *s);
}

/* As seq_show_option() does. */
static void put_shown(FILE *f, const char *s) {
        for (; *s; s++)
                if (strchr(", \t\n\\", *s))
                        (void) fprintf(f, "\\%03o", (unsigned char) *s);
                else
                        (void) fputc(*s, f);
}

static void put_option(FILE *f, const char *key, const char *value) {
        (void) fprintf(f, ",%s=", key);
        put_shown(f, value);
}

static char *lowerdir(const Layers *l) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        for (size_t i = 0; i < l->n; i++) {
                (void) fputs(i > 0 ? ":" : "", f);
                put_escaped(f, l->lower[i], ":\\");
        }
        (void) fclose(f);
        return text;
}

/* upperdir= and workdir= are shown as they were given, with their escapes. */
static char *escaped(const char *path) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        put_escaped(f, path, "\\");
        (void) fclose(f);
        return text;
}

static char *table(const Layers *l, bool one_by_one, const char *rest) {
        _cleanup_free_ char *lower = lowerdir(l), *upper = escaped(l->upper), *work = escaped(l->work);
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        (void) fprintf(
                f, "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 21 0:40 / /ovl rw,relatime - overlay none rw");
        for (size_t i = 0; one_by_one && i < l->n; i++)
                put_option(f, "lowerdir+", l->lower[i]);
        if (!one_by_one)
                put_option(f, "lowerdir", lower);
        put_option(f, "upperdir", upper);
        put_option(f, "workdir", work);
        (void) fprintf(f, "%s%s\n", *rest ? "," : "", rest);
        (void) fclose(f);
        return text;
}

static void check_same(const Overlay *o, const Layers *l) {
        HOLDS(o->n_lower == l->n && o->n_data == 0);
        for (size_t i = 0; i < l->n; i++)
                HOLDS(strcmp(o->lower[i], l->lower[i]) == 0);
        HOLDS(strcmp(o->upper, l->upper) == 0 && strcmp(o->work, l->work) == 0);
}

/* As mount(8) takes -o apart, and the kernel what comes of it: at ',' without a backslash before it. */
static void check_formatted(const Overlay *o) {
        _cleanup_free_ char *options = overlay_format_options(o), **lower = NULL, **data = NULL;
        char *from, *to;

        HOLDS(options);
        from = strstr(options, "lowerdir=");
        HOLDS(from == options);
        from += strlen("lowerdir=");
        for (to = from; *to && *to != ','; to++)
                to += *to == '\\' && to[1];
        *to = '\0';
        HOLDS(overlay_split_lowerdir(from, &lower, &data) == 0);
        for (size_t i = 0; i < o->n_lower; i++) {
                HOLDS(lower[i] && strcmp(lower[i], o->lower[i]) == 0);
                free(lower[i]);
        }
        for (size_t i = 0; data[i]; i++)
                free(data[i]);
}

/* What is carried over to a new superblock is what a running one like it has. */
static void check_carried(const Overlay *o, const char *set) {
        _cleanup_(overlay_options_done) OverlayOptions l = { 0 };
        _cleanup_failure_ Failure failure = FAILURE_INIT, other = FAILURE_INIT;
        int r = overlay_options_carry(o, *set ? set : NULL, &l, &failure);

        HOLDS(r >= 0 || failure.kind != FAILURE_NONE);
        (void) overlay_has_options(o, set, &other);
        if (r >= 0 && !*set) {
                _cleanup_failure_ Failure f = FAILURE_INIT;

                HOLDS(overlay_options_verify(o, o, &l, &f) == 0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const char parameters[] = "/nowhere";
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_free_ char *text = NULL, *rest = NULL, *set = NULL;
        Input in = input_begin(data, size);
        uint8_t how = input_byte(&in);
        Layers l;

        layers_take(&l, &in);
        set = input_string(&in);
        rest = how & 1 ? input_rest(&in, NULL)
                       : strdup("metacopy=on,redirect_dir=on,index=off,nfs_export=off,xino=off");
        for (char *p = rest; *p; p++) /* one line, one field */
                if (strchr(" \t\r\n", *p))
                        *p = '_';
        text = table(&l, how & 2, rest);
        if (overlay_load(
                    &(OverlaySources){ .mountinfo = fuzz_file(text, strlen(text)),
                                       .parameters = parameters },
                    "/ovl", NULL, &o, &failure) >= 0) {
                if (!strstr(rest, "dir"))
                        check_same(o, &l);
                check_formatted(o);
                check_carried(o, set);
        } else
                HOLDS(how & 1);
        layers_done(&l);
        return 0;
}
