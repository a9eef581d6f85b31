/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include "core/paths/paths-internal.h"
#include "unit.h"

typedef struct Found {
        char text[4096];
        unsigned n;
} Found;

static void note(const char *path, void *userdata) {
        Found *f = userdata;
        size_t n = strlen(f->text);

        f->n++;
        (void) snprintf(f->text + n, sizeof(f->text) - n, "%s ", path);
}

static void expect(const char *block, size_t size, char *const *patterns, const char *paths) {
        Found f = { 0 };

        paths_from_environment(block, size, patterns, note, &f);
        assert_string_equal(f.text, paths);
}

static void test_environment(void **state) {
        static const char block[] = "HOME=/home/a\0PATH=/usr/bin:/ovl/bin:\0LD_LIBRARY_PATH=/a;/b/:./c\0"
                                    "TCLLIBPATH={/t c} /u\0LUA_PATH=/l/?.lua;/m/?/init.lua;?.lua\0"
                                    "CLASSPATH=/jars/*:/x.jar\0MY_PATH=/mine\0SECRET=/secret:/path\0PATH";
        char *const mine[] = { (char *) "*_PATH", NULL };

        expect(block, sizeof(block) - 1, NULL, "/usr/bin /ovl/bin /a /b /t /u /l /m /jars /x.jar ");
        expect(block, sizeof(block) - 1, mine, "/usr/bin /ovl/bin /a /b /t /u /l /m /jars /x.jar /mine ");
        expect("", 0, mine, "");
}

/* Whatever anybody may have in it. */
static void test_odd_environments(void **state) {
        _cleanup_free_ char *block = calloc(1, 3 * PATH_MAX);

        expect("PATH=\0PATH=:::\0PATH=relative:..:.\0=/a\0\0\0PATH=/\0PATH=/..", 52, NULL, "");
        assert_non_null(block);
        memset(block, 'a', 3 * PATH_MAX - 1); /* no '=' at all */
        expect(block, 3 * PATH_MAX - 1, NULL, "");
        memcpy(block, "PATH=/", 6); /* a name that is too long */
        expect(block, 3 * PATH_MAX - 1, NULL, "");
        for (size_t i = 6; i < 3 * PATH_MAX - 1; i++)
                block[i] = i % 100 == 0 ? '/' : 'a'; /* a path that is */
        expect(block, 3 * PATH_MAX - 1, NULL, "");
}

static void test_simplify(void **state) {
        static const struct {
                const char *path, *origin, *simple; /* NULL: none */
        } cases[] = {
                { "/a//b/./c/", NULL, "/a/b/c" },
                { "/a/../../b", NULL, "/b" },
                { "/a/b/..", NULL, "/a" },
                { "a/b", NULL, NULL },
                { "/", NULL, NULL },
                { "$ORIGIN/../lib", "/p/bin", "/p/lib" },
                { "${ORIGIN}", "/p/bin", "/p/bin" },
                { "$ORIGINAL/lib", "/p/bin", NULL },
                { "$ORIGIN/../lib", NULL, NULL },
                { "/x/$ORIGIN", "/p", "/x/$ORIGIN" },
        };
        char path[PATH_MAX];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                bool is_one = paths_simplify(cases[i].path, strlen(cases[i].path), cases[i].origin, path);

                assert_int_equal(is_one, cases[i].simple != NULL);
                if (is_one)
                        assert_string_equal(path, cases[i].simple);
        }
}

static void test_python(void **state) {
        Found f = { 0 };

        paths_from_python("/v", "python3.11", note, &f);
        assert_string_equal(
                f.text, "/v/lib/python3.11 /v/lib/python3.11/lib-dynload /v/lib/python3.11/site-packages ");
        paths_from_python("/v", "perl", note, &f);
        assert_int_equal(f.n, 3);
}

/* Executables. */

typedef struct Memory {
        uint64_t begin;
        const void *data;
        size_t size;
        unsigned n_reads;
} Memory;

static int read_memory(uint64_t address, void *buffer, size_t size, void *userdata) {
        Memory *m = userdata;

        m->n_reads++;
        if (address < m->begin || address - m->begin > m->size || size > m->size - (address - m->begin))
                return -EFAULT;
        memcpy(buffer, (const char *) m->data + (address - m->begin), size);
        return 0;
}

typedef struct Program {
        ElfW(Phdr) headers[2];
        ElfW(Dyn) dynamic[3];
        char strings[256];
} Program;

static Program make_program(uint64_t tag) {
        return (Program){
                .headers = { { .p_type = PT_PHDR, .p_vaddr = 0 },
                             { .p_type = PT_DYNAMIC,
                               .p_vaddr = offsetof(Program, dynamic),
                               .p_memsz = 3 * sizeof(ElfW(Dyn)) } },
                .dynamic = { { .d_tag = (int64_t) tag, .d_un.d_val = 4 },
                             { .d_tag = DT_STRTAB, .d_un.d_ptr = offsetof(Program, strings) },
                             { .d_tag = DT_NULL } },
                .strings = "abc\0$ORIGIN/../lib",
        };
}

static int run_path(const Program *p, uint64_t base, char ret[static PATH_MAX]) {
        Memory m = { base, p, sizeof(*p), 0 };
        int r = paths_from_elf(base, ELEMENTSOF(p->headers), read_memory, &m, ret);

        assert_true(m.n_reads < 1000);
        return r;
}

static void test_executable(void **state) {
        char list[PATH_MAX];
        Program p = make_program(DT_RUNPATH);

        assert_int_equal(run_path(&p, 0x555500000000, list), 1);
        assert_string_equal(list, "$ORIGIN/../lib");
        p.dynamic[1].d_un.d_ptr += 0x555500000000; /* the loader has been there */
        assert_int_equal(run_path(&p, 0x555500000000, list), 1);
        p = make_program(DT_RPATH);
        assert_int_equal(run_path(&p, 0x555500000000, list), 1);
        p = make_program(DT_NEEDED);
        assert_int_equal(run_path(&p, 0x555500000000, list), 0);
}

/* Every byte another one: nothing is read that is not there, and it ends. */
static void test_hostile_executable(void **state) {
        static const unsigned char bytes[] = { 0, 1, 0x7f, 0xff };
        Program p = make_program(DT_RUNPATH);
        char list[PATH_MAX];

        for (size_t i = 0; i < offsetof(Program, strings); i++)
                for (size_t b = 0; b < ELEMENTSOF(bytes); b++) {
                        Program q = p;

                        ((unsigned char *) &q)[i] = bytes[b];
                        (void) run_path(&q, 0x555500000000, list);
                }
        p.headers[1].p_memsz = UINT64_MAX;
        (void) run_path(&p, 0x555500000000, list);
        p = make_program(DT_RUNPATH);
        memset(p.strings, 'a', sizeof(p.strings)); /* no end */
        assert_int_equal(run_path(&p, 0x555500000000, list), 0);
}

static int read_own(uint64_t address, void *buffer, size_t size, void *userdata) {
        return pread(*(int *) userdata, buffer, size, (off_t) address) == (ssize_t) size ? 0 : -EFAULT;
}

/* A real one: this program, which meson has given a run path to. */
static void test_real_executable(void **state) {
        int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        char list[PATH_MAX];

        assert_true(fd >= 0);
        assert_int_equal(paths_from_elf(getauxval(AT_PHDR), getauxval(AT_PHNUM), read_own, &fd, list), 1);
        assert_string_equal(list, "$ORIGIN/../some/lib");
        (void) close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_environment),     cmocka_unit_test(test_odd_environments),
                cmocka_unit_test(test_simplify),        cmocka_unit_test(test_python),
                cmocka_unit_test(test_executable),      cmocka_unit_test(test_hostile_executable),
                cmocka_unit_test(test_real_executable),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
