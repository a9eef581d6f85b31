/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>
#include <sys/sysmacros.h>

#include "core/mount/overlay.h"

static void strv_done(char ***v) {
        for (char **s = *v; s && *s; s++)
                free(*s);
        free(*v);
}
#define _cleanup_strv_ _cleanup_(strv_done)

/* Joined with '|', which no row uses. */
static void join(char *const *v, char *buffer, size_t size) {
        size_t used = 0;

        buffer[0] = '\0';
        for (; *v; v++)
                used += (size_t) snprintf(buffer + used, size - used, used > 0 ? "|%s" : "%s", *v);
}

static void test_split(void **state) {
        static const struct {
                const char *value, *lower, *data; /* lower NULL: refused */
        } rows[] = {
                { "/a", "/a", "" },
                { "/a:/b", "/a|/b", "" },
                { "a:b", "a|b", "" },
                { "/a\\:b:/c", "/a:b|/c", "" },
                { "/a\\\\:/c", "/a\\|/c", "" },
                { "/a\\\\\\:/c", "/a\\:/c", "" },
                { "/a\\,b", "/a,b", "" },
                { "/a,b", "/a,b", "" },
                { "/a\\054b", "/a054b", "" },
                { "\\:\\:", "::", "" },
                { "/a\\", "/a", "" },
                { "/a::/d", "/a", "/d" },
                { "/a:/b::/d::/e", "/a|/b", "/d|/e" },
                { "/a::/d\\:", "/a", "/d:" },
                { "/a\n:/b \t", "/a\n|/b \t", "" },
                { "/\xff:/\xc3", "/\xff|/\xc3", "" },
                { "", NULL },
                { ":", NULL },
                { "::", NULL },
                { ":/a", NULL },
                { "::/a", NULL },
                { "/a:", NULL },
                { "/a::", NULL },
                { "/a:::/b", NULL },
                { "/a::::/b", NULL },
                { "/a::/d:/b", NULL },
                { "\\", NULL },
                { "/a:\\", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_strv_ char **lower = NULL, **data = NULL;
                int r = overlay_split_lowerdir(rows[i].value, &lower, &data);
                char buffer[256];

                assert_int_equal(r, rows[i].lower ? 0 : -EINVAL);
                if (!rows[i].lower)
                        continue;
                join(lower, buffer, sizeof(buffer));
                assert_string_equal(buffer, rows[i].lower);
                join(data, buffer, sizeof(buffer));
                assert_string_equal(buffer, rows[i].data);
        }
}

static void random_string(uint64_t *seed, const char *alphabet, char *buffer, size_t size) {
        size_t n = random_next(seed) % size, k = strlen(alphabet);

        for (size_t i = 0; i < n; i++)
                buffer[i] = alphabet[random_next(seed) % k];
        buffer[n] = '\0';
}

/* Anything may stand in a mount table. What is accepted has no empty layer and at least one. */
static void test_split_any(void **state) {
        uint64_t seed = 3;

        for (size_t i = 0; i < 100000; i++) {
                _cleanup_strv_ char **lower = NULL, **data = NULL;
                char value[12];

                random_string(&seed, ":\\:\\,/a\n", value, sizeof(value));
                if (overlay_split_lowerdir(value, &lower, &data) < 0)
                        continue;
                assert_non_null(lower[0]);
                for (char **l = lower; *l; l++)
                        assert_true((*l)[0] != '\0');
                for (char **l = data; *l; l++)
                        assert_true((*l)[0] != '\0');
        }
}

/* A mount table and module parameters made up for a test. */
typedef struct Machine {
        Path mountinfo, parameters;
        OverlaySources sources;
} Machine;

static void machine_init(Machine *m, const char *text) {
        m->mountinfo = at("mountinfo");
        m->parameters = at("parameters");
        m->sources = (OverlaySources){ .mountinfo = m->mountinfo.s, .parameters = m->parameters.s };
        make_text(m->mountinfo.s, text);
        make_directory(m->parameters.s);
}

static void machine_set(const char *parameter, const char *value) {
        make_text(at("parameters/%s", parameter).s, value);
}

#define ROOT "1 0 8:1 / / rw - ext4 d rw\n"
#define MOUNT(options) ROOT "2 1 0:40 / /o rw,relatime shared:3 - overlay src rw," options "\n"
#define LAYERS "upperdir=/u,workdir=/w"

static Overlay *load(const char *text, const char *mount_point) {
        Failure f = FAILURE_INIT;
        Overlay *o = NULL;
        Machine m;

        machine_init(&m, text);
        if (overlay_load(&m.sources, mount_point, NULL, &o, &f) < 0)
                fail_msg("%s: %s", text, f.message);
        return o;
}

static void test_load(void **state) {
        _cleanup_(overlay_freep) Overlay *o = load(MOUNT("lowerdir=/l:/m::/d," LAYERS ",metacopy=on"), "/o");

        assert_string_equal(o->mount_point, "/o");
        assert_string_equal(o->source, "src");
        assert_int_equal(o->mount_id, 2);
        assert_true(o->device == makedev(0, 40));
        assert_int_equal(o->n_lower, 2);
        assert_string_equal(o->lower[0], "/l");
        assert_string_equal(o->lower[1], "/m");
        assert_null(o->lower[2]);
        assert_int_equal(o->n_data, 1);
        assert_string_equal(o->data[0], "/d");
        assert_string_equal(o->upper, "/u");
        assert_string_equal(o->work, "/w");
        assert_string_equal(o->vfs_options, "rw,relatime");
        assert_false(o->is_read_only);
        assert_false(o->is_userxattr);
        assert_false(o->is_volatile);
        assert_int_equal(o->metacopy, TRI_YES);
}

static void test_layers(void **state) {
        static const struct {
                const char *text, *lower, *data, *upper, *work;
        } rows[] = {
                { MOUNT("lowerdir+=/l\\054\\134x,lowerdir+=/m:n,datadir+=/d," LAYERS), "/l,\\x|/m:n", "/d",
                  "/u", "/w" },
                { MOUNT("lowerdir=/l\\134\\054x:/m\\134:n\\040," LAYERS), "/l,x|/m:n ", "", "/u", "/w" },
                { MOUNT("lowerdir=/l,upperdir=/u\\054x,workdir=/w\\134\\054\\134\\134"), "/l", "", "/u,x",
                  "/w,\\" },
                { MOUNT("lowerdir=/l,upperdir=/u:x,workdir=/w\\134:"), "/l", "", "/u:x", "/w:" },
                { MOUNT("lowerdir=/l\\012\\011#," LAYERS), "/l\n\t#", "", "/u", "/w" },
                { MOUNT("lowerdir=/l\"," LAYERS ",x=\""), "/l\"", "", "/u", "/w" },
                { MOUNT("lowerdir=/a\\134\\054upperdir=/evil\\134\\054workdir=/evil," LAYERS),
                  "/a,upperdir=/evil,workdir=/evil", "", "/u", "/w" },
                { MOUNT("lowerdir=/l\xff," LAYERS), "/l\xff", "", "/u", "/w" },
                { MOUNT("lowerdir=/../l//x/," LAYERS), "/../l//x/", "", "/u", "/w" },
                { MOUNT("lowerdir=/l"), "/l", "", NULL, NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(overlay_freep) Overlay *o = load(rows[i].text, "/o");
                char buffer[256];

                join(o->lower, buffer, sizeof(buffer));
                assert_string_equal(buffer, rows[i].lower);
                join(o->data, buffer, sizeof(buffer));
                assert_string_equal(buffer, rows[i].data);
                assert_int_equal(o->upper != NULL, rows[i].upper != NULL);
                if (!rows[i].upper)
                        continue;
                assert_string_equal(o->upper, rows[i].upper);
                assert_string_equal(o->work, rows[i].work);
        }
}

static const struct {
        const char *text;
        int error;
        FailureKind kind;
        const char *words[3];
} refusals[] = {
        { ROOT, -ENOENT, FAILURE_NOT_MANAGED, { "nothing", "'/o'" } },
        { ROOT "2 1 0:40 / /o2 rw - overlay s rw,lowerdir=/l\n",
          -ENOENT,
          FAILURE_NOT_MANAGED,
          { "nothing" } },
        { ROOT "2 1 0:40 / /o/p rw - overlay s rw,lowerdir=/l\n",
          -ENOENT,
          FAILURE_NOT_MANAGED,
          { "nothing" } },
        { ROOT "2 1 0:2 / /o rw - xfs s rw\n",
          -EMEDIUMTYPE,
          FAILURE_NOT_MANAGED,
          { "no overlay", "xfs", "'/o'" } },
        { MOUNT("lowerdir=/l") "3 2 0:2 / /o rw - tmpfs cover rw\n",
          -EMEDIUMTYPE,
          FAILURE_NOT_MANAGED,
          { "covered", "tmpfs", "cover" } },
        { ROOT "2 1 0:40 / /a/o rw - overlay s rw,lowerdir=/l\n3 1 0:2 / /a rw - tmpfs t rw\n",
          -EMEDIUMTYPE,
          FAILURE_NOT_MANAGED,
          { "covered", "tmpfs", "'/a'" } },
        { ROOT "2 1 0:40 /sub /o rw - overlay s rw,lowerdir=/l\n",
          -ENOTSUP,
          FAILURE_PRECONDITION,
          { "bind mount", "'/sub'" } },
        { MOUNT("lowerdir=l," LAYERS), -ENOTSUP, FAILURE_PRECONDITION, { "'l'", "lowerdir", "LowerDir=" } },
        { MOUNT("lowerdir=/l:m," LAYERS), -ENOTSUP, FAILURE_PRECONDITION, { "'m'", "LowerDir=" } },
        { MOUNT("lowerdir=/l::d," LAYERS), -ENOTSUP, FAILURE_PRECONDITION, { "'d'", "data-only" } },
        { MOUNT("lowerdir=/l,upperdir=./u,workdir=/w"),
          -ENOTSUP,
          FAILURE_PRECONDITION,
          { "'./u'", "UpperDir=" } },
        { MOUNT("lowerdir=/l,upperdir=/u,workdir=w"),
          -ENOTSUP,
          FAILURE_PRECONDITION,
          { "'w'", "WorkDir=" } },
        { MOUNT("lowerdir=/l,upperdir=/u"), -ENOTSUP, FAILURE_PRECONDITION, { "no workdir" } },
        { MOUNT("lowerdir=/l,upperdir=,workdir=/w"), -ENOTSUP, FAILURE_PRECONDITION, { "UpperDir=" } },
        { MOUNT(LAYERS), -ENOTSUP, FAILURE_PRECONDITION, { "lower layers", "LowerDir=" } },
        { MOUNT("lowerdir=," LAYERS), -ENOTSUP, FAILURE_PRECONDITION, { "LowerDir=" } },
        { MOUNT("lowerdir=/l::/d:/e," LAYERS),
          -ENOTSUP,
          FAILURE_PRECONDITION,
          { "/l::/d:/e", "LowerDir=" } },
};

static void test_refused(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(refusals); i++) {
                const char *path = strstr(refusals[i].text, " /a/o ") ? "/a/o" : "/o";
                _cleanup_failure_ Failure f = FAILURE_INIT;
                Overlay *o = NULL;
                Machine m;

                machine_init(&m, refusals[i].text);
                assert_int_equal(overlay_load(&m.sources, path, NULL, &o, &f), refusals[i].error);
                assert_null(o);
                assert_int_equal(f.kind, refusals[i].kind);
                for (size_t k = 0; k < ELEMENTSOF(refusals[i].words) && refusals[i].words[k]; k++)
                        assert_contains(f.message, refusals[i].words[k]);
        }
}

static void test_no_table(void **state) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        OverlaySources sources = { .mountinfo = "/nonexistent/mountinfo" };
        Overlay *o = NULL;

        assert_int_equal(
                overlay_load(&sources, "/o", NULL, &o, &f), -EIO); /* not -ENOENT: nothing is known */
        assert_contains(f.message, "/nonexistent/mountinfo");
}

static void test_topmost(void **state) {
        _cleanup_(overlay_freep) Overlay *o =
                load(ROOT "5 2 0:41 / /o rw - overlay top rw,lowerdir=/top\n"
                          "2 1 0:40 / /o rw - overlay below rw,lowerdir=/below\n",
                     "/o");

        assert_string_equal(o->source, "top");
        assert_string_equal(o->lower[0], "/top");
}

static void test_configured(void **state) {
        char *lower[] = { (char *) "/cl", (char *) "/cm", NULL };
        OverlayLayers layers = { .lower = lower, .upper = (char *) "/cu", .work = (char *) "/cw" };
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Machine m;

        machine_init(&m, MOUNT("lowerdir=l:m,upperdir=u,workdir=w"));
        assert_return_code(overlay_load(&m.sources, "/o", &layers, &o, &f), 0);
        assert_int_equal(o->n_lower, 2);
        assert_string_equal(o->lower[1], "/cm");
        assert_string_equal(o->upper, "/cu");
        assert_string_equal(o->work, "/cw");
}

static void test_configured_wrong(void **state) {
        char *lower[] = { (char *) "/cl", NULL };
        OverlayLayers layers = { .lower = lower }, relative = { .upper = (char *) "cu" };
        char *spelled[] = { (char *) "/ca", (char *) "cb", NULL };
        OverlayLayers relative_lower = { .lower = spelled };
        _cleanup_failure_ Failure f = FAILURE_INIT, g = FAILURE_INIT, h = FAILURE_INIT;
        Overlay *o = NULL;
        Machine m;

        machine_init(&m, MOUNT("lowerdir=/l:/m," LAYERS));
        assert_int_equal(overlay_load(&m.sources, "/o", &layers, &o, &f), -ENOTSUP);
        assert_contains(f.message, "1 layer,");
        assert_contains(f.message, "mounted with 2");
        assert_int_equal(overlay_load(&m.sources, "/o", &relative, &o, &g), -ENOTSUP);
        assert_contains(g.message, "UpperDir=");
        assert_int_equal(overlay_load(&m.sources, "/o", &relative_lower, &o, &h), -ENOTSUP);
        assert_contains(h.message, "LowerDir= names the relative path 'cb'");
}

/* A list that makes no sense is replaced as a whole; an upper cannot be configured into being. */
static void test_configured_replaces(void **state) {
        char *lower[] = { (char *) "/cl", NULL };
        OverlayLayers layers = { .lower = lower, .upper = (char *) "/cu", .work = (char *) "/cw" };
        _cleanup_(overlay_freep) Overlay *o = NULL;
        Machine m;

        machine_init(&m, MOUNT("lowerdir=:::"));
        assert_return_code(overlay_load(&m.sources, "/o", &layers, &o, NULL), 0);
        assert_string_equal(o->lower[0], "/cl");
        assert_int_equal(o->n_data, 0);
        assert_null(o->upper);
        assert_null(o->work);
}

static void test_features(void **state) {
        static const struct {
                const char *options, *parameter; /* of all parameters; NULL: they cannot be read */
                Tristate metacopy, index, nfs_export, xino;
                OverlayRedirect redirect;
                bool follows;
        } rows[] = {
                { "", "Y\n", TRI_YES, TRI_YES, TRI_YES, TRI_YES, REDIRECT_ON, true },
                { "", "N\n", TRI_NO, TRI_NO, TRI_NO, TRI_NO, REDIRECT_OFF, false },
                { "", NULL, TRI_UNKNOWN, TRI_UNKNOWN, TRI_UNKNOWN, TRI_UNKNOWN, REDIRECT_OFF, false },
                { "", "", TRI_UNKNOWN, TRI_UNKNOWN, TRI_UNKNOWN, TRI_UNKNOWN, REDIRECT_OFF, false },
                { ",metacopy=on,index=on,nfs_export=on,xino=on,redirect_dir=on", "N\n", TRI_YES, TRI_YES,
                  TRI_YES, TRI_YES, REDIRECT_ON, true },
                { ",metacopy=off,index=off,nfs_export=off,xino=off,redirect_dir=nofollow", "Y\n", TRI_NO,
                  TRI_NO, TRI_NO, TRI_NO, REDIRECT_NOFOLLOW, false },
                { ",xino=auto,redirect_dir=follow", "N\n", TRI_NO, TRI_NO, TRI_NO, TRI_YES, REDIRECT_FOLLOW,
                  true },
                { ",redirect_dir=off", "Y\n", TRI_YES, TRI_YES, TRI_YES, TRI_YES, REDIRECT_OFF, true },
                { ",metacopy=maybe,redirect_dir=maybe", "N\n", TRI_UNKNOWN, TRI_NO, TRI_NO, TRI_NO,
                  REDIRECT_NOFOLLOW, false },
        };
        static const char *const parameters[] = { "metacopy",     "index",     "nfs_export",
                                                  "redirect_dir", "xino_auto", "redirect_always_follow" };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(overlay_freep) Overlay *o = NULL;
                char text[512];
                Machine m;

                (void) snprintf(
                        text, sizeof(text), ROOT "2 1 0:4 / /o rw - overlay s rw,lowerdir=/l%s\n",
                        rows[i].options);
                machine_init(&m, text);
                for (size_t k = 0; k < ELEMENTSOF(parameters); k++)
                        if (rows[i].parameter)
                                machine_set(parameters[k], rows[i].parameter);
                        else
                                (void) unlink(at("parameters/%s", parameters[k]).s);
                assert_return_code(overlay_load(&m.sources, "/o", NULL, &o, NULL), 0);
                assert_int_equal(o->metacopy, rows[i].metacopy);
                assert_int_equal(o->index, rows[i].index);
                assert_int_equal(o->nfs_export, rows[i].nfs_export);
                assert_int_equal(o->xino, rows[i].xino);
                assert_int_equal(o->redirect, rows[i].redirect);
                assert_int_equal(o->follows_redirects, rows[i].follows);
        }
}

static void test_flags(void **state) {
        static const struct {
                const char *vfs, *options;
                bool is_read_only, is_userxattr, is_volatile, is_verity_required;
        } rows[] = {
                { "rw", "rw", false, false, false, false },
                { "ro", "rw", true, false, false, false },
                { "rw,noatime", "ro", true, false, false, false },
                { "rw", "rw,userxattr", false, true, false, false },
                { "rw", "rw,volatile", false, false, true, false },
                { "rw", "rw,fsync=volatile", false, false, true, false },
                { "rw", "rw,fsync=strict", false, false, false, false },
                { "rw", "rw,verity=require", false, false, false, true },
                { "rw", "rw,verity=on", false, false, false, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(overlay_freep) Overlay *o = NULL;
                char text[512];

                (void) snprintf(
                        text, sizeof(text), ROOT "2 1 0:4 / /o %s - overlay s %s,lowerdir=/l\n", rows[i].vfs,
                        rows[i].options);
                o = load(text, "/o");
                assert_int_equal(o->is_read_only, rows[i].is_read_only);
                assert_int_equal(o->is_userxattr, rows[i].is_userxattr);
                assert_int_equal(o->is_volatile, rows[i].is_volatile);
                assert_int_equal(o->is_verity_required, rows[i].is_verity_required);
        }
}

/* As seq_show_option() in the kernel prints a value. */
static void mangle(const char *s, char *out) {
        for (; *s; s++)
                if (strchr(", \t\n\\", *s))
                        out += sprintf(out, "\\%03o", (unsigned char) *s);
                else
                        *out++ = *s;
        *out = '\0';
}

static void compare_layers(char *const *a, char *const *b) {
        for (; *a && *b; a++, b++)
                assert_string_equal(*a, *b);
        assert_ptr_equal(*a, *b); /* both at their end */
}

/* Options are divided at a ',' without a backslash (ovl_next_opt()), and each is printed mangled. */
static void show_options(const char *options, char *out) {
        char one[256], *p = one;

        for (;; options++) {
                if (*options == ',' || *options == '\0') {
                        char *value;

                        *p = '\0';
                        value = strchr(one, '=') + 1;
                        out = mempcpy(out, one, (size_t) (value - one));
                        mangle(value, out);
                        out += strlen(out);
                        *out++ = *options == '\0' ? '\n' : ',';
                        p = one;
                }
                if (*options == '\0')
                        break;
                if (*options == '\\')
                        *p++ = *options++;
                if (p > one || *options != ',')
                        *p++ = *options;
        }
        *out = '\0';
}

static void check_round_trip(Overlay *made) {
        _cleanup_free_ char *options = overlay_format_options(made);
        _cleanup_(overlay_freep) Overlay *o = NULL;
        char text[2048];

        assert_non_null(options);
        show_options(options, stpcpy(text, ROOT "2 1 0:4 / /o rw - overlay s rw,"));
        o = load(text, "/o");
        compare_layers(o->lower, made->lower);
        compare_layers(o->data, made->data);
        assert_string_equal(o->upper, made->upper);
        assert_string_equal(o->work, made->work);
        assert_int_equal(o->metacopy, TRI_YES);
        assert_int_equal(o->redirect, REDIRECT_ON);
}

/* What is escaped for mount(2), and then by the kernel for the table, comes back as it was. */
static void test_round_trip(void **state) {
        uint64_t seed = 7;

        for (size_t i = 0; i < 2000; i++) {
                char names[6][8], *lower[3] = { names[0], names[1], NULL },
                                  *data[3] = { names[2], names[3], NULL };
                Overlay made = { .lower = lower, .data = data, .upper = names[4], .work = names[5] };

                for (size_t k = 0; k < ELEMENTSOF(names); k++) {
                        names[k][0] = '/';
                        random_string(
                                &seed,
                                ":\\,\n\t \"'#\xff"
                                "0a",
                                names[k] + 1, sizeof(names[k]) - 1);
                }
                data[i % 3] = NULL;
                lower[1 + i % 2] = NULL;
                check_round_trip(&made);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_split),
                cmocka_unit_test(test_split_any),
                unit_test_scratch(test_load),
                unit_test_scratch(test_layers),
                unit_test_scratch(test_refused),
                cmocka_unit_test(test_no_table),
                unit_test_scratch(test_topmost),
                unit_test_scratch(test_configured),
                unit_test_scratch(test_configured_wrong),
                unit_test_scratch(test_configured_replaces),
                unit_test_scratch(test_features),
                unit_test_scratch(test_flags),
                unit_test_scratch(test_round_trip),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
