/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where there is no libFuzzer: each file of the corpus once. Prints how many. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs-util.h"
#include "fuzz.h"

static unsigned n_files;

static int replay(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_free_ char *data = NULL;
        size_t size;

        HOLDS(file_read(dfd, name, 1 << 20, &data, &size) >= 0);
        /* So that the last line that is seen tells which one it was. */
        (void) fprintf(stderr, "%s\n", name);
        {
                _cleanup_free_ uint8_t *exact = malloc(size > 0 ? size : 1);

                HOLDS(exact);
                memcpy(exact, data, size);
                (void) LLVMFuzzerTestOneInput(exact, size);
        }
        n_files++;
        return 0;
}

int main(int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
                _cleanup_close_ int dfd = open(argv[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                HOLDS(dfd >= 0 && dir_foreach(dfd, replay, NULL) >= 0);
        }
        HOLDS(n_files > 0);
        (void) printf("%u inputs\n", n_files);
        return EXIT_SUCCESS;
}
