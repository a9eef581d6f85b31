/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All of core and base, linked whole and without libsystemd: that this links is the test. */
int main(void) {
        return 0;
}
