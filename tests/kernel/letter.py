#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Takes the figures of docs/kernel/finalized-directories.md from docs/kernels.md, which tests/kernels --page has written: no figure in the
letter is typed. To be run after that. Usage: letter.py"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LETTER = ROOT / "docs/kernel/finalized-directories.md"
SECTION = r"^## Linux (6\.12\S*), NFS 4\.2, `nocto,actimeo=3600`$(.*?)(?=^## |\Z)"
ROWS = ("start, merged", "start, copied up by hand", "start, finalized live", "start, fresh mount")
MARKS = "<!-- made by tests/kernel/letter.py -->", "<!-- end -->"


def main():
    found = re.search(SECTION, (ROOT / "docs/kernels.md").read_text(encoding="utf-8"), re.M | re.S)
    table = [line.split("|")[1:] for line in found[2].splitlines() if line.startswith("|")]
    rows = [r for r in table if r[0].strip() in ROWS or r in table[:2]]
    if len(rows) != 2 + len(ROWS):
        sys.exit("docs/kernels.md lacks a row")
    # Starts have no entries.
    text = "\n".join("|" + "|".join((r[0], r[1], r[2], r[5])) + "|" for r in rows)
    letter = re.sub(rf"{MARKS[0]}.*?{MARKS[1]}", lambda _: f"{MARKS[0]}\nOn Linux {found[1]}, NFS 4.2:\n\n{text}\n{MARKS[1]}",
                    LETTER.read_text(encoding="utf-8"), flags=re.S)
    LETTER.write_text(letter, encoding="utf-8")


if __name__ == "__main__":
    main()
