#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""check-headers refuses what it is there to refuse, and says which file lacks what."""

import subprocess
import sys
import tempfile
from pathlib import Path

CHECK = Path(__file__).with_name("check-headers")

LICENCE = "/* SPDX-License-Identifier: LGPL-2.1-or-later */\n"
ONE = "/* Adds numbers. */\n"
TWO = "/* Adds numbers.\n * Knows no other. */\n"
THREE = "/* Adds numbers.\n * Knows no other.\n * The sum is right. */\n"
SIX = "/* Adds numbers,\n" + " * and numbers,\n" * 4 + " * and numbers. */\n"
SEVEN = SIX.replace("and", "and\n * and", 1)
PADDED = "/*\n * Adds numbers.\n *\n * Knows no other.\n */\n"  # two lines with words
ONCE = "#pragma once\n"
CODE = '#include "a.h"\n\nint add(void);\n'
LONG = CODE + "int x;\n" * 60

# What a.c and a.h (None: there is none) are, and what is said: None nothing, else parts of it.
CASES = (
    (LICENCE + TWO + CODE, None, None),
    (LICENCE + CODE, LICENCE + TWO + ONCE, None),
    (LICENCE + CODE, LICENCE + ONCE + "\n" + TWO + "\nint add(void);\n", None),
    (LICENCE + THREE + LONG, None, None),
    (LICENCE + LONG, LICENCE + THREE + ONCE, None),
    (LICENCE + TWO + LONG, LICENCE + THREE + ONCE, None),
    (LICENCE + SIX + LONG, None, None),
    (LICENCE + THREE + "\n" + SIX + CODE, None, None),  # the rest, in a second comment
    (LICENCE + CODE, None, ("daemon/core/a.c: ", "in no line(s) what it is for; at least 2 are", "at its beginning\n")),
    (LICENCE + CODE, LICENCE + ONCE, ("daemon/core/a.c: ", "in no line(s)", "or at that of its .h")),
    (LICENCE + ONE + CODE, None, ("daemon/core/a.c: ", "in 1 line(s) what it is for; at least 2 are")),
    (LICENCE + TWO + LONG, LICENCE + TWO + ONCE, ("daemon/core/a.c: ", "in 2 line(s) what it is for; at least 3 are")),
    (LICENCE + PADDED + LONG, None, ("daemon/core/a.c: ", "in 2 line(s) what it is for; at least 3 are")),
    (LICENCE + CODE + THREE, None, ("daemon/core/a.c: ", "in no line(s)")),  # not where the file begins
    # About a function, and about a number:
    (LICENCE + CODE, LICENCE + ONCE + "\n" + THREE + "int add(void);\n", ("daemon/core/a.c: ", "in no line(s)")),
    (LICENCE + THREE + "#define N 1\n" + CODE, None, ("daemon/core/a.c: ", "in no line(s)")),
    (LICENCE + SEVEN + CODE, None, ("daemon/core/a.c: the comment", "has 7 lines; 6 at most")),
    (LICENCE + THREE + CODE, LICENCE + SEVEN + ONCE, ("daemon/core/a.h: the comment", "has 7 lines")),
    (None, LICENCE + TWO + ONCE, None),
    (None, LICENCE + THREE + ONCE + LONG, None),
    (None, LICENCE + ONCE + "\nint add(void);\n", ("daemon/core/a.h: ", "in no line(s)", "at least 2 are", "at its beginning\n")),
    (None, LICENCE + ONE + ONCE, ("daemon/core/a.h: ", "in 1 line(s) what it is for; at least 2 are")),
    (None, LICENCE + TWO + ONCE + LONG, ("daemon/core/a.h: ", "in 2 line(s) what it is for; at least 3 are")),
)


def run(source, header):
    with tempfile.TemporaryDirectory() as top:
        for folder in ("daemon/core", "ctl"):
            (Path(top) / folder).mkdir(parents=True)
        for name, text in (("a.c", source), ("a.h", header)):
            if text:
                (Path(top) / "daemon/core" / name).write_text(text, encoding="utf-8")
        return subprocess.run([CHECK, top], stdout=subprocess.PIPE, text=True, check=False)


for number, (source_text, header_text, said) in enumerate(CASES):
    done = run(source_text, header_text)
    is_right = done.returncode == 1 and all(part in done.stdout for part in said) if said else done.returncode == 0
    if not is_right or done.stdout.count("\n") != 1:
        sys.exit(f"case {number}: exit status {done.returncode}, {done.stdout}")
