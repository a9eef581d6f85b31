#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every message identity of the daemon is used, is unique, and has an entry in the catalog, which names a page that is
installed; the catalog has no others."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def is_there(uri):
    page, _, fragment = uri.removeprefix("file:///usr/share/doc/ovlfind/").partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.M) if (ROOT / page).is_file() else None
    return headings is not None and (not fragment or fragment in (re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings))


def problems():
    header = (ROOT / "daemon/service/messages.h").read_text()
    catalog = (ROOT / "units/ovlfind.catalog").read_text()
    ids = dict(re.findall(r'#define (MESSAGE_\w+) "([0-9a-f]{32})"', header))
    entries = re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.M)
    code = "".join(p.read_text() for p in (ROOT / "daemon").rglob("*.c"))
    if header.count("#define") != len(ids):
        yield "messages.h: a define that is no message identity"
    if len(set(ids.values())) != len(ids) or len(set(entries)) != len(entries):
        yield "the same identity twice"
    for name, value in ids.items():
        if value not in entries:
            yield f"{name} has no entry in the catalog"
        if not re.search(rf"\b{name}\b", code):
            yield f"{name} is never used"
    for value in set(entries) - set(ids.values()):
        yield f"the catalog has {value}, messages.h does not"
    for entry in re.split(r"^-- ", catalog, flags=re.M)[1:]:
        found = re.fullmatch(r"[0-9a-f]{32}\nSubject: .+\nDefined-By: ovlfind\nDocumentation: man:.+\nDocumentation: (.+)\n\n(?s:.+)",
                             entry.strip())
        if not found:
            yield f"malformed entry {entry[:32]}"
        elif not is_there(found.group(1)):
            yield f"entry {entry[:32]}: {found.group(1)} leads nowhere"


found = list(problems())
print("\n".join(found) or "ok")
sys.exit(bool(found))
