# SPDX-License-Identifier: LGPL-2.1-or-later
"""The checks of pages refuse what they are there for, in a copy of the tree."""

import shutil
import subprocess

import pytest

from ovltest import ROOT


@pytest.fixture
def tree(tmp_path):
    for name in ("docs", "daemon/core"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("README.md", "NEWS.md", "CONTRIBUTING.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("dbus/org.ovlfind1.policy", "tests/dependencies"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(tree, pattern, old, new):
    """In the one file below the tree that holds it."""
    found = [p for p in tree.rglob(pattern) if old in p.read_text(encoding="utf-8")]
    assert len(found) == 1, f"{old}: {found}"
    found[0].write_text(found[0].read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def refusal(tree, check):
    p = subprocess.run([ROOT / "tests/tools" / check, tree], stdout=subprocess.PIPE, text=True, check=False, timeout=30)
    return p.stdout if p.returncode != 0 else ""


def test_what_is_there_is_well(tree):
    assert refusal(tree, "check-pages") == refusal(tree, "check-reasons") == ""


@pytest.mark.parametrize("pattern, old, new, said", [
    ("scan.c", '"Exclude= says so"', '"somebody says so"', "shows nowhere: somebody says so"),
    ("error-scope.c", '"it is running: try again when it has ended"', '"it runs"', "shows nowhere: cannot … '…': …; it runs"),
    ("compare.c", '"its lower directory \'/%s\' was removed"', '"\'/%s\' is not there"', "shows nowhere: '/…' is not there"),
    ("settle.c", "is never quiet: ", "is always loud: ", "shows nowhere: '…/…' is always loud: "),
    ("check.c", '{ "volatile", ', '{ "not-synced", ', "'not-synced' is in one of them only"),
    ("reasons.md", "### Hard links\n", "", "shows nowhere: '…' has several hard links"),
    ("reasons.md", "Exclude= says so\n", "", "shows nowhere: Exclude= says so"),
    ("reasons.md", "### Gone\n", "", "lacks the state gone"),
    ("checks.md", "## casefold\n", "", "'casefold' is in one of them only"),
], ids=lambda v: v if v and " " not in v else None)
def test_a_reason_or_row_without_a_section(tree, pattern, old, new, said):
    change(tree, pattern, old, new)
    assert said in refusal(tree, "check-reasons")


@pytest.mark.parametrize("pattern, old, new, said", [
    ("checks.md", "## casefold\n", "", "'#casefold': there is no such heading"),
    ("releases.md", "(#what-a-change-is)", "(#no)", "its table of contents lacks a section"),
    ("README.md", "(docs/remounting.md)", "(docs/remount.md)", "leads nowhere"),
    ("README.md", "# ovlfind\n", "# ovlfind\n" + "\n" * 150, "README.md has more than"),
], ids=["heading", "contents", "page", "length"])
def test_a_link_that_leads_nowhere(tree, pattern, old, new, said):
    found = next(tree.glob(pattern), None) or tree / "docs" / pattern
    text = found.read_text(encoding="utf-8")
    assert old in text
    found.write_text(text.replace(old, new), encoding="utf-8")
    assert said in refusal(tree, "check-pages")
