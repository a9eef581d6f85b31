/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an executable asks the loader for, read from its file. The file is anybody's and may change while it
 * is read: all is bounded, and nothing of it is used but a text. Executables of the machine's own word size
 * and byte order only. */
#include <elf.h>
#include <link.h>
#include <string.h>

#include "core/paths/paths-internal.h"

#define HEADERS_MOST 64u
#define DYNAMIC_MOST 256u
#define OWN_CLASS (sizeof(ElfW(Addr)) == 8 ? ELFCLASS64 : ELFCLASS32)
#define OWN_DATA (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB)

typedef struct Image {
        paths_read_func read;
        void *userdata;
        ElfW(Phdr) headers[HEADERS_MOST];
        size_t n_headers;
} Image;

static bool read_headers(Image *i) {
        ElfW(Ehdr) e;

        if (i->read(0, &e, sizeof(e), i->userdata) < 0 || memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 ||
            e.e_ident[EI_CLASS] != OWN_CLASS || e.e_ident[EI_DATA] != OWN_DATA ||
            e.e_phentsize != sizeof(ElfW(Phdr)) || e.e_phnum > HEADERS_MOST)
                return false;
        i->n_headers = e.e_phnum;
        return i->read(e.e_phoff, i->headers, e.e_phnum * sizeof(ElfW(Phdr)), i->userdata) >= 0;
}

/* Where in the file an address of the program is. */
static bool find_offset(const Image *i, uint64_t address, uint64_t *ret) {
        for (size_t k = 0; k < i->n_headers; k++) {
                const ElfW(Phdr) *h = i->headers + k;

                if (h->p_type == PT_LOAD && address >= h->p_vaddr && address - h->p_vaddr < h->p_filesz) {
                        *ret = h->p_offset + (address - h->p_vaddr);
                        return true;
                }
        }
        return false;
}

/* Where in the file the list is. RUNPATH goes before RPATH. */
static bool read_dynamic(const Image *i, const ElfW(Phdr) * h, uint64_t *ret) {
        bool has_runpath = false, has_rpath = false, has_strings = false;
        uint64_t strings = 0, list = 0;

        for (uint64_t k = 0; k < h->p_filesz / sizeof(ElfW(Dyn)) && k < DYNAMIC_MOST; k++) {
                ElfW(Dyn) d;

                if (i->read(h->p_offset + k * sizeof(d), &d, sizeof(d), i->userdata) < 0)
                        return false;
                if (d.d_tag == DT_NULL)
                        break;
                if (d.d_tag == DT_STRTAB)
                        has_strings = find_offset(i, d.d_un.d_ptr, &strings);
                if (d.d_tag == DT_RUNPATH || (d.d_tag == DT_RPATH && !has_runpath))
                        list = d.d_un.d_val;
                has_runpath |= d.d_tag == DT_RUNPATH;
                has_rpath |= d.d_tag == DT_RPATH;
        }
        *ret = strings + list;
        return has_strings && (has_runpath || has_rpath);
}

/* Byte by byte would be slow, and all at once may end behind the file. */
static bool read_text(const Image *i, uint64_t offset, char ret[static PATH_MAX]) {
        for (size_t n = 0; n + 64 <= PATH_MAX; n += 64) {
                if (i->read(offset + n, ret + n, 64, i->userdata) < 0)
                        return false;
                if (memchr(ret + n, '\0', 64))
                        return true;
        }
        return false;
}

bool paths_from_elf(paths_read_func read, void *userdata, char ret[static PATH_MAX]) {
        Image i = { .read = read, .userdata = userdata };
        uint64_t offset;

        if (!read_headers(&i))
                return false;
        for (size_t k = 0; k < i.n_headers; k++)
                if (i.headers[k].p_type == PT_DYNAMIC)
                        return read_dynamic(&i, i.headers + k, &offset) && read_text(&i, offset, ret);
        return false;
}
