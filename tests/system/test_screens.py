# SPDX-License-Identifier: LGPL-2.1-or-later
"""What people look at: the captures that the pages show are what the programs show now; nothing is wider than the terminal, and
without colours where these are not wanted."""

import html
import os
import re
import sys

import pytest

from ovltest import ROOT, binary, run
from ovltest.ctl import ctl_environment
from ovltest.fakedaemon import Fake
from ovltest.terminal import run_on_terminal

SCREENS = ROOT / "docs" / "screens"
# How much is used; counts and bars of a job under way.
CHANGING = ((r"^[█░]+ +\d+ +\d+\.\d ", "HEAT "), (r"[█░]+ +\d+ %", "BAR"), (r"\b\d+/\d+\b", "N/N"), (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN"))


def lines(svg):
    text = [html.unescape(re.sub(r"<[^>]+>", "", row)) for row in re.findall(r"<text.*</text>", svg.read_text(encoding="utf-8"))]
    for pattern, word in CHANGING:
        text = [re.sub(pattern, word, line).rstrip() for line in text]
    return text


def test_captures_are_up_to_date(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    run(sys.executable, ROOT / "tests" / "tools" / "screens.py", tmp_path, env=env, timeout=100)
    shown = sorted(p.name for p in SCREENS.glob("*.svg"))
    assert shown == sorted(p.name for p in tmp_path.glob("*.svg"))
    for name in shown:
        assert lines(tmp_path / name) == lines(SCREENS / name), f"{name}: run tests/tools/screens.py docs/screens"
        assert max(len(line) for line in lines(tmp_path / name)) <= 80


def on_terminal(address, *arguments, **env):
    env = {**ctl_environment(address), "SYSTEMD_PAGER": "cat", "TERM": "xterm", "COLUMNS": "80", "LC_ALL": "C.UTF-8", **env}
    return run_on_terminal(binary("ovlfinctl"), *arguments, env=env)[1]


@pytest.mark.parametrize("env, is_colored", [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
                         ids=["terminal", "no-color", "empty", "dumb"])
def test_colors(scene, env, is_colored):
    fake = Fake(scene)
    for arguments in (["status"], ["status", "soft"], ["list"]):
        assert ("\x1b[" in on_terminal(scene.bus.address, *arguments, **env)) == is_colored, arguments
    assert "●" in on_terminal(scene.bus.address, "status")
    assert on_terminal(scene.bus.address, "status", LC_ALL="C").isascii()
    assert fake.daemon.is_running()
