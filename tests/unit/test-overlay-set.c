/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include "core/mount/overlay-set.h"
#include "unit.h"

static void expect(const OverlaySet *s, const char *path, const char *name, const char *relative) {
        const char *rest = NULL;
        const OverlayPlace *p = overlay_set_find(s, path, &rest);

        if (!name) {
                assert_null(p);
                return;
        }
        assert_non_null(p);
        assert_string_equal(p->name, name);
        assert_string_equal(rest, relative);
}

static void test_packets(void **state) {
        OverlaySet s = { 0 };

        assert_int_equal(overlay_set_take(&s, "overlay a 0:41 /ovl"), 1);
        assert_int_equal(overlay_set_take(&s, "overlay b 0:42 /ovl/in a\nname"), 1);
        expect(&s, "/ovl/d/e", "a", "d/e");
        expect(&s, "/ovl", "a", "");
        expect(&s, "/ovl/in a\nname/d", "b", "d");
        expect(&s, "/ovl2/d", NULL, NULL);
        assert_true(s.items[1].device == makedev(0, 42));

        assert_int_equal(overlay_set_take(&s, "overlay a 0:50 /ovl"), 1); /* after a swap */
        assert_int_equal(s.n, 2);
        assert_true(s.items[0].device != makedev(0, 41) && s.items[1].device != makedev(0, 41));
        assert_int_equal(overlay_set_take(&s, "gone b"), 1);
        expect(&s, "/ovl/in a\nname/d", "a", "in a\nname/d");
        assert_int_equal(overlay_set_take(&s, "gone b"), 1);
        overlay_set_done(&s);
}

static void test_nonsense(void **state) {
        static const char *const packets[] = {
                "", "overlay", "overlay a", "overlay a 0:1", "overlay a 0:1 ovl", "gone"
        };
        OverlaySet s = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(packets); i++)
                assert_int_equal(overlay_set_take(&s, packets[i]), 0);
        assert_int_equal(s.n, 0);
}

static void test_socket(void **state) {
        OverlaySet s = { 0 };
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
        assert_int_equal(overlay_set_receive(&s, fds[0]), 0);
        assert_true(send(fds[1], "overlay a 0:41 /a", 17, 0) > 0);
        assert_true(send(fds[1], "overlay b 0:42 /b", 17, 0) > 0);
        assert_int_equal(overlay_set_receive(&s, fds[0]), 1);
        assert_int_equal(s.n, 2);
        assert_true(send(fds[1], "cancel", 6, 0) > 0);
        assert_int_equal(overlay_set_receive(&s, fds[0]), -ECANCELED);
        (void) close(fds[1]);
        assert_int_equal(overlay_set_receive(&s, fds[0]), -ECANCELED);
        (void) close(fds[0]);
        overlay_set_done(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_packets),
                cmocka_unit_test(test_nonsense),
                cmocka_unit_test(test_socket),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
