#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""check-headers refuses what it is there to refuse."""

import subprocess
import sys
import tempfile
from pathlib import Path

CHECK = Path(__file__).with_name("check-headers")

LICENCE = "/* SPDX-License-Identifier: LGPL-2.1-or-later */\n"
SHORT = "/* Adds numbers. */\n"
FULL = "/* Adds numbers.\n * Knows no other.\n * The sum is right. */\n"
CODE = '#include "a.h"\n\nint add(void);\n'
LONG = CODE + "int x;\n" * 60

# What a.c and a.h (None: there is none) are, and whether that is right.
CASES = (
    (LICENCE + SHORT + CODE, None, True),
    (LICENCE + CODE, LICENCE + SHORT + "#pragma once\n", True),
    (LICENCE + CODE, LICENCE + "#pragma once\n\n" + SHORT + "\nint add(void);\n", True),
    (LICENCE + FULL + LONG, None, True),
    (LICENCE + LONG, LICENCE + FULL + "#pragma once\n", True),
    (LICENCE + SHORT + LONG, LICENCE + FULL + "#pragma once\n", True),
    (LICENCE + CODE, None, False),
    (LICENCE + CODE, LICENCE + "#pragma once\n", False),
    (LICENCE + SHORT + LONG, LICENCE + SHORT + "#pragma once\n", False),
    (LICENCE + CODE + FULL, None, False),  # not where the file begins
    (LICENCE + CODE, LICENCE + "#pragma once\n\n" + SHORT + "int add(void);\n", False),  # about a function
    (LICENCE + SHORT + "#define N 1\n" + CODE, None, False),  # about a number
)


def run(source, header):
    with tempfile.TemporaryDirectory() as top:
        for folder in ("daemon/core", "ctl"):
            (Path(top) / folder).mkdir(parents=True)
        (Path(top) / "daemon/core/a.c").write_text(source, encoding="utf-8")
        if header:
            (Path(top) / "daemon/core/a.h").write_text(header, encoding="utf-8")
        return subprocess.run([CHECK, top], stdout=subprocess.PIPE, text=True, check=False)


for number, (text, header_text, is_right) in enumerate(CASES):
    done = run(text, header_text)
    if (done.returncode == 0) != is_right or ("daemon/core/a.c: " in done.stdout) == is_right:
        sys.exit(f"case {number}: exit status {done.returncode}, {done.stdout}")
