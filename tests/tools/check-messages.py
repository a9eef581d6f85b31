#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every message identity of the daemon is used, is unique, and has an entry in the catalog; the catalog has no others."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def problems():
    header = (ROOT / "daemon/messages.h").read_text()
    catalog = (ROOT / "units/ovlfind.catalog").read_text()
    ids = dict(re.findall(r'#define (MESSAGE_\w+) "([0-9a-f]{32})"', header))
    entries = re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.M)
    code = "".join(p.read_text() for p in (ROOT / "daemon").glob("*.c"))
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
        if not re.fullmatch(r"[0-9a-f]{32}\nSubject: .+\nDefined-By: ovlfind\nDocumentation: .+\n\n.+", entry.strip(), re.S):
            yield f"malformed entry {entry[:32]}"


found = list(problems())
print("\n".join(found) or "ok")
sys.exit(bool(found))
