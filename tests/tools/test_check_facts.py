#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""check-facts refuses what it is there to refuse: it is content with a small tree, and with no change of it for the worse."""

import subprocess
import sys
import tempfile
from pathlib import Path

CHECK = Path(__file__).with_name("check-facts")

GOOD = {
    "docs/overlayfs.md": "# Facts\n\n## 1. One\n\n### 1.1 First\n`a.c`, `test_a` (`test_a.py`), §1.2, [session](overlayfs-sessions.md#11)\n\n"
                         "### 1.2 Second\n\n### 1.10 Third\n\n## 2. Two\n\n### 2.1 Fourth\n",
    "docs/overlayfs-sessions.md": "# Sessions\n\n## 1.1\n",
    "docs/architecture.md": "See [there](overlayfs.md#21-fourth); `core/a.c` has `add()`.\n",
    "daemon/core/a.c": "/* So it is (docs/overlayfs.md 1.1, 1.2). */\nint add(void);\n"
                       "/* As b.h, ctl/b.h, core/a.c and (daemon/core/a.c) have it,\n * and fs/namei.c and <sched.h>. */\n",
    "ctl/b.h": "/* And so (ovl_rename(); docs/overlayfs.md 1.10). */\n",
    "tests/system/test_a.py": "def test_a():\n    pass\n",
}

# A file, what is replaced in it, by what, and a part of what is said then.
BAD = (
    ("daemon/core/a.c", "1.1, 1.2", "1.1, 1.2, 1.3", "a.c:1: there is no section 1.3"),
    ("daemon/core/a.c", "1.1, 1.2", "1.1, 1.2, 12.1", "there is no section 12.1"),
    ("daemon/core/a.c", "1.1, 1.2", "1.1", "nothing cites section 1.2"),
    ("daemon/core/a.c", " 1.1, 1.2", "\n * 1.1, 1.2", "a.c:1: cite a section in the same line"),
    ("daemon/core/a.c", "docs/", "", "a.c:1: cite a section in the same line, as 'docs/overlayfs.md"),
    ("ctl/b.h", "1.10", "1.1", "nothing cites section 1.10"),
    ("tests/system/test_a.py", "pass", "pass  # docs/overlayfs.md 3.1", "test_a.py:2: there is no section 3.1"),
    ("docs/architecture.md", "#21-fourth", "", "nothing cites section 2.1"),
    ("daemon/core/a.c", "ctl/b.h", "ctl/c.h", "a.c:3: there is no file 'ctl/c.h'"),
    ("daemon/core/a.c", "b.h,", "c.h,", "a.c:3: there is no file 'c.h'"),
    ("daemon/core/a.c", " core/a.c", " core/b.h", "a.c:3: there is no file 'core/b.h'"),  # another folder has it
    ("daemon/core/a.c", "(daemon/core/a.c)", "(daemon/a.c)", "a.c:3: there is no file 'daemon/a.c'"),
    ("daemon/core/a.c", "fs/namei.c", "docs/no.md", "a.c:4: there is no file 'docs/no.md'"),
    ("daemon/core/a.c", "<sched.h>", "sched.h", "a.c:4: there is no file 'sched.h'"),
    ("docs/architecture.md", "core/a.c", "core/c.c", "architecture.md: there is no file 'c.c'"),
    ("docs/architecture.md", "add()", "sub()", "architecture.md: there is no function 'sub'"),
    ("docs/overlayfs.md", "`a.c`", "`c.c`", "no file 'c.c'"),
    ("docs/overlayfs.md", "`test_a`", "`test_b`", "no test 'test_b'"),
    ("docs/overlayfs.md", "§1.2", "§1.5", "no section 1.5"),
    ("docs/overlayfs.md", "### 1.2 Second", "### Second", "has no number"),
    ("docs/overlayfs.md", "### 2.1 Fourth", "### 1.9 Fourth", "section 1.9 follows 1.10"),
    ("docs/overlayfs.md", "## 2. Two", "## 3. Two", "section 2.1 belongs to no chapter"),
    ("docs/overlayfs.md", "md#11", "md", "1.1 is a session of no section"),
    ("docs/overlayfs-sessions.md", "## 1.1", "## 1.1\n\n## 1.2", "1.2 is a session of no section"),
)


def check(files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return subprocess.run([sys.executable, CHECK, root], stdout=subprocess.PIPE, text=True, check=False, timeout=30)


def main():
    p = check(GOOD)
    failed = [] if p.returncode == 0 else [f"a good tree is refused:\n{p.stdout}"]
    for name, old, new, said in BAD:
        assert old in GOOD[name], f"'{old}' is not in {name}"
        p = check({**GOOD, name: GOOD[name].replace(old, new, 1)})
        if p.returncode != 1 or said not in p.stdout:
            failed.append(f"'{new}' in {name} should say \"{said}\", and exits with {p.returncode}:\n{p.stdout}")
    print("\n".join(failed) or f"{len(BAD)} mistakes are found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
