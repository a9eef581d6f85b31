# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel does what docs/overlayfs.md says: each session of docs/overlayfs-sessions.md is typed, and prints what it says there."""

import re
import subprocess

import pytest

from ovltest.env import ROOT

SESSIONS = re.findall(r"^## ([\d.]+)\n+```console\n(.*?)^```", (ROOT / "docs/overlayfs-sessions.md").read_text(encoding="utf-8"),
                      re.M | re.S)
PROMPT = "@prompt@"


def typed(commands):
    """What a shell prints at each of the commands."""
    script = "\n".join([f". {ROOT}/tests/tools/overlay-shell", *(f"echo {PROMPT}\n{command}" for command in commands)])
    p = subprocess.run(["unshare", "-m", "--propagation", "private", "sh"], input=script, text=True, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, check=False, timeout=60,
                       env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"})
    before, *outputs = p.stdout.split(PROMPT + "\n")
    assert before == "", f"no overlay to try things on: {before}"
    return outputs


@pytest.mark.parametrize("session", [text for _, text in SESSIONS], ids=[number for number, _ in SESSIONS])
def test_session(world, session):  # world: who may not mount is told so
    commands = re.findall(r"^\$ (.*)", session, re.M)
    outputs = typed(commands)
    assert "".join(f"$ {command}\n{output}" for command, output in zip(commands, outputs)) == session


def test_every_session_is_found():
    text = (ROOT / "docs/overlayfs-sessions.md").read_text(encoding="utf-8")
    assert len(SESSIONS) == text.count("```console") > 30
