/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an executable asks the loader for, read from the memory of a process that runs it: no file is opened.
 * The process is anybody's and may change what is read at any time: all is bounded, and nothing of it is
 * used but a text. Executables of the machine's own word size only. */
#include <elf.h>
#include <link.h>
#include <string.h>

#include "core/paths/paths-internal.h"

#define HEADERS_MOST 64u
#define DYNAMIC_MOST 256u

typedef struct Image {
        paths_read_func read;
        void *userdata;
        uint64_t base; /* what is added to addresses in the file */
        uint64_t dynamic, n_dynamic;
} Image;

static int read_headers(Image *i, uint64_t headers, uint64_t n) {
        for (uint64_t k = 0; k < n && k < HEADERS_MOST; k++) {
                ElfW(Phdr) h;
                int r = i->read(headers + k * sizeof(h), &h, sizeof(h), i->userdata);

                if (r < 0)
                        return r;
                if (h.p_type == PT_PHDR)
                        i->base = headers - h.p_vaddr;
                if (h.p_type == PT_DYNAMIC) {
                        i->dynamic = h.p_vaddr;
                        i->n_dynamic = h.p_memsz / sizeof(ElfW(Dyn));
                }
        }
        return i->dynamic != 0;
}

/* The offset of the list in the string table; the loader may have made an address of that already. */
static int read_dynamic(const Image *i, uint64_t *ret_strings, uint64_t *ret_offset) {
        bool has_runpath = false, has_rpath = false;

        *ret_strings = 0;
        for (uint64_t k = 0; k < i->n_dynamic && k < DYNAMIC_MOST; k++) {
                ElfW(Dyn) d;
                int r = i->read(i->base + i->dynamic + k * sizeof(d), &d, sizeof(d), i->userdata);

                if (r < 0)
                        return r;
                if (d.d_tag == DT_NULL)
                        break;
                if (d.d_tag == DT_STRTAB)
                        *ret_strings = d.d_un.d_ptr < i->base ? i->base + d.d_un.d_ptr : d.d_un.d_ptr;
                if (d.d_tag == DT_RUNPATH || (d.d_tag == DT_RPATH && !has_runpath))
                        *ret_offset = d.d_un.d_val;
                has_runpath |= d.d_tag == DT_RUNPATH;
                has_rpath |= d.d_tag == DT_RPATH;
        }
        return *ret_strings != 0 && (has_runpath || has_rpath);
}

/* Byte by byte would be slow, and all at once may end behind what is mapped. */
static int read_text(const Image *i, uint64_t address, char ret[static PATH_MAX]) {
        for (size_t n = 0; n + 64 <= PATH_MAX; n += 64) {
                int r = i->read(address + n, ret + n, 64, i->userdata);

                if (r < 0)
                        return r;
                if (memchr(ret + n, '\0', 64))
                        return 1;
        }
        return 0;
}

int paths_from_elf(
        uint64_t headers,
        uint64_t n_headers,
        paths_read_func read,
        void *userdata,
        char ret[static PATH_MAX]) {
        Image i = { .read = read, .userdata = userdata };
        uint64_t strings, offset = 0;

        return read_headers(&i, headers, n_headers) > 0 && read_dynamic(&i, &strings, &offset) > 0 &&
                read_text(&i, strings + offset, ret) > 0;
}
