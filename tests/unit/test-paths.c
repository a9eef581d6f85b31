/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "core/paths/paths-internal.h"
#include "unit.h"

typedef struct Found {
        char text[4096];
        unsigned n;
} Found;

static bool note(const char *path, void *userdata) {
        Found *f = userdata;
        size_t n = strlen(f->text);

        f->n++;
        (void) snprintf(f->text + n, sizeof(f->text) - n, "%s ", path);
        return f->n < 100;
}

static void
expect_of(const char *program, const char *block, size_t size, char *const *patterns, const char *paths) {
        Found f = { 0 };

        paths_from_environment(block, size, program, patterns, note, &f);
        assert_string_equal(f.text, paths);
}

static void expect(const char *block, size_t size, char *const *patterns, const char *paths) {
        expect_of("sh", block, size, patterns, paths);
}

static void test_environment(void **state) {
        static const char block[] = "HOME=/home/a\0PATH=/usr/bin:/ovl/bin:\0LD_LIBRARY_PATH=/a;/b/:./c\0"
                                    "TCLLIBPATH={/t c} /u\0LUA_PATH=/l/?.lua;/m/?/init.lua;?.lua\0"
                                    "CLASSPATH=/jars/*:/x.jar\0MY_PATH=/mine\0SECRET=/secret:/path\0PATH";
        char *const mine[] = { (char *) "*_PATH", NULL };

        expect(block, sizeof(block) - 1, NULL, "/usr/bin /ovl/bin /a /b ");
        expect(block, sizeof(block) - 1, mine, "/usr/bin /ovl/bin /a /b /l /m /mine ");
        expect("", 0, mine, "");
}

/* A variable counts where a program searches by it. */
static void test_programs(void **state) {
        static const struct {
                const char *program, *paths;
        } cases[] = {
                { "python3.11", "/py " },
                { "perl5.36.0", "/pl " },
                { "man", "/m " },
                { "mandb", "/m " },
                { "java", "/jars /x " },
                { "x86_64-linux-gnu-pkg-config", "/pc " },
                { "pkgconf", "/pc " },
                { "cmake", "/pc " },
                { "ruby3.1", "/r " },
                { "node", "/n " },
                { "tclsh8.6", "/t /u " },
                { "lua5.4", "/l /k " },
                { "luajit", "/l /k " },
                { "true", "" },
                { "", "" },
        };
        static const char block[] = "PYTHONPATH=/py\0PERL5LIB=/pl\0MANPATH=/m\0CLASSPATH=/jars/*:/x\0"
                                    "PKG_CONFIG_PATH=/pc\0RUBYLIB=/r\0NODE_PATH=/n\0TCLLIBPATH={/t} /u\0"
                                    "LUA_PATH=/l/?.lua;/k/?/init.lua;?.lua";

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                expect_of(cases[i].program, block, sizeof(block) - 1, NULL, cases[i].paths);
}

/* Who has enough is told nothing more. */
static void test_endless_environment(void **state) {
        _cleanup_free_ char *block = calloc(1, 256 * 1024);
        Found f = { 0 };

        assert_non_null(block);
        for (size_t i = 0; i + 3 < 256 * 1024; i += 3)
                memcpy(block + i, "/a:", 3);
        memcpy(block, "PATH=", 5);
        memcpy(block + 128 * 1024, "\0PATH=", 6);
        paths_from_environment(block, 256 * 1024 - 1, "sh", NULL, note, &f);
        assert_int_equal(f.n, 100);
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

typedef struct Bytes {
        const void *data;
        size_t size;
        unsigned n_reads;
} Bytes;

static int read_bytes(uint64_t offset, void *buffer, size_t size, void *userdata) {
        Bytes *b = userdata;

        b->n_reads++;
        if (offset > b->size || size > b->size - offset)
                return -ENODATA;
        memcpy(buffer, (const char *) b->data + offset, size);
        return 0;
}

#define ADDRESS 0x400000u

typedef struct Program {
        ElfW(Ehdr) header;
        ElfW(Phdr) headers[2];
        ElfW(Dyn) dynamic[3];
        char strings[256];
} Program;

static Program make_program(int64_t tag) {
        return (Program){
                .header = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3,
                                         sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32,
                                         __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB
                                                                                   : ELFDATA2MSB },
                            .e_phoff = offsetof(Program, headers),
                            .e_phentsize = sizeof(ElfW(Phdr)),
                            .e_phnum = 2 },
                .headers = { { .p_type = PT_LOAD,
                               .p_offset = 0,
                               .p_vaddr = ADDRESS,
                               .p_filesz = sizeof(Program) },
                             { .p_type = PT_DYNAMIC,
                               .p_offset = offsetof(Program, dynamic),
                               .p_filesz = 3 * sizeof(ElfW(Dyn)) } },
                .dynamic = { { .d_tag = tag, .d_un.d_val = 4 },
                             { .d_tag = DT_STRTAB, .d_un.d_ptr = ADDRESS + offsetof(Program, strings) },
                             { .d_tag = DT_NULL } },
                .strings = "abc\0$ORIGIN/../lib",
        };
}

static bool run_path(const Program *p, char ret[static PATH_MAX]) {
        Bytes b = { p, sizeof(*p), 0 };
        bool is_one = paths_from_elf(read_bytes, &b, ret);

        assert_true(b.n_reads < 1000);
        return is_one;
}

static void test_executable(void **state) {
        char list[PATH_MAX];
        Program p = make_program(DT_RUNPATH);

        assert_true(run_path(&p, list));
        assert_string_equal(list, "$ORIGIN/../lib");
        p = make_program(DT_RPATH);
        assert_true(run_path(&p, list));
        p = make_program(DT_NEEDED);
        assert_false(run_path(&p, list));
        p = make_program(DT_RUNPATH);
        p.header.e_ident[EI_CLASS] ^= 3; /* of the other word size */
        assert_false(run_path(&p, list));
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
                        (void) run_path(&q, list);
                }
        p.headers[1].p_filesz = (typeof(p.headers[1].p_filesz)) -1;
        (void) run_path(&p, list);
        p = make_program(DT_RUNPATH);
        memset(p.strings, 'a', sizeof(p.strings)); /* no end */
        assert_false(run_path(&p, list));
}

static int read_own(uint64_t offset, void *buffer, size_t size, void *userdata) {
        return pread(*(int *) userdata, buffer, size, (off_t) offset) == (ssize_t) size ? 0 : -EFAULT;
}

/* A real one: this program, which meson has given a run path to. */
static void test_real_executable(void **state) {
        int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        char list[PATH_MAX];

        assert_true(fd >= 0);
        assert_true(paths_from_elf(read_own, &fd, list));
        assert_string_equal(list, "$ORIGIN/../some/lib");
        (void) close(fd);
}

/* Processes. */

static int open_process(pid_t pid) {
        char name[32];
        int fd;

        (void) snprintf(name, sizeof(name), "/proc/%i", pid);
        fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
}

/* Which a server forks is no start of a program. */
static void test_forked(void **state) {
        PathsProcess own = { 0 }, child = { 0 };
        pid_t pid = fork();
        int fd;

        assert_true(pid >= 0);
        if (pid == 0) {
                (void) pause();
                _exit(0);
        }
        fd = open_process(getpid());
        assert_true(paths_process_begin(&own, fd, getpid()) && paths_process_read(&own));
        assert_true(own.has_executed && !own.is_elsewhere && own.uid == geteuid() && own.gid == getegid());
        assert_true(own.start_usec <= now_boottime_usec());
        (void) close(fd);
        fd = open_process(pid);
        assert_true(paths_process_begin(&child, fd, pid) && paths_process_read(&child));
        assert_false(child.has_executed);
        assert_true(child.start_usec >= own.start_usec && child.id != own.id);
        assert_true(child.credentials == own.credentials);
        (void) close(fd);
        assert_true(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
}

/* For files only, and not for good. */
static void test_rights(void **state) {
        PathsProcess p = { .uid = 65534, .gid = 65534, .groups = { 4321 }, .n_groups = 1 };
        char directory[] = "/tmp/ovlfind-test-XXXXXX";
        int fd;

        if (geteuid() != 0)
                skip();
        assert_non_null(mkdtemp(directory)); /* mode 0700 */
        fd = open(directory, O_PATH | O_CLOEXEC);
        assert_true(paths_act_as(&p));
        assert_int_equal(openat(fd, ".", O_RDONLY | O_CLOEXEC), -1);
        assert_int_equal(getegid() + geteuid(), 0);
        paths_act_as_root(&p);
        assert_int_equal(faccessat(fd, ".", R_OK | X_OK, AT_EACCESS), 0);
        assert_int_equal(getgroups(0, NULL), 0);
        (void) close(fd);
        (void) rmdir(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_environment),
                cmocka_unit_test(test_odd_environments),
                cmocka_unit_test(test_simplify),
                cmocka_unit_test(test_python),
                cmocka_unit_test(test_executable),
                cmocka_unit_test(test_hostile_executable),
                cmocka_unit_test(test_real_executable),
                cmocka_unit_test(test_programs),
                cmocka_unit_test(test_endless_environment),
                cmocka_unit_test(test_forked),
                cmocka_unit_test(test_rights),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
