# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Tab completes, in real shells and with a daemon that answers: overlays, jobs, paths."""

import os
import pty
import shutil
import subprocess

import pytest

from ovltest import ROOT
from ovltest.env import binary

COMPLETION = ROOT / "ctl" / "completion"
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_ovlfinctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


def environment(ctl):
    return {**ctl.env, "PATH": f"{os.path.dirname(binary('ovlfinctl'))}:{os.environ['PATH']}"}


def bash(ctl, *words, cwd="/"):
    p = subprocess.run(["bash", "-c", BASH, "bash", COMPLETION / "bash", "ovlfinctl", *words], env=environment(ctl), cwd=cwd,
                       stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    return set(p.stdout.split())


def zsh(ctl, line, tmp_path):
    """Types the line and Tab into an interactive zsh; returns the words that it makes of it."""
    shutil.copy(COMPLETION / "zsh", tmp_path / "_ovlfinctl")
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(ctl.directory)
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment(ctl))
    said = b""
    os.write(fd, f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -D -u; bindkey -e; PS1='rea''dy>'\n".encode())
    while b"ready>" not in said:
        said += os.read(fd, 4096)
    # Ctrl-A: what is there then is not run but printed, between marks that are not what was typed.
    os.write(fd, line.encode() + b"\t\x01print -r -- @''@ \x05 @''@\n")
    said = b""
    try:
        while said.count(b"@@") < 2:
            said += os.read(fd, 4096)
    finally:
        os.close(fd)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return said.split(b"@@")[1].decode().split()


def test_bash(ctl):
    ctl("finalize", "--no-block", ctl.point / "hang")
    assert {"soft", "away"} <= bash(ctl, "status", "")
    assert bash(ctl, "pause", "so") == {"soft"}
    assert bash(ctl, "cancel", "") == {"1"}
    assert "quick" in bash(ctl, "finalize", "qu", cwd=ctl.point)


@pytest.mark.parametrize("line, completed", [
    ("ovlfinctl pause so", "ovlfinctl pause soft"), ("ovlfinctl cancel ", "ovlfinctl cancel 1"),
    ("ovlfinctl unfin", "ovlfinctl unfinalize"), ("ovlfinctl finalize ovl/qui", "ovlfinctl finalize ovl/quick"),
    ("ovlfinctl jobs --state=cance", "ovlfinctl jobs --state=canceled")])
def test_zsh(ctl, line, completed, tmp_path):
    ctl("finalize", "--no-block", ctl.point / "hang")
    assert zsh(ctl, line, tmp_path) == completed.split()
