# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests for xfstests (tests/fstests), with a stand-in for the helper functions of that."""

import os
import subprocess

import pytest

from ovltest import ROOT
from ovltest.env import binary

FSTESTS = ROOT / "tests" / "fstests"


@pytest.fixture
def run_fstest(scene):
    """Runs one on this file system; returns what it printed, and why it did not run."""
    folders = {name: scene.subdir(name) for name in ("results", "base", "mnt")}
    env = {**os.environ, "RESULT_DIR": folders["results"], "OVL_BASE_SCRATCH_MNT": folders["base"], "SCRATCH_MNT": folders["mnt"]}

    def run(name, **more):
        # As xfstests' check does: from where common/ is.
        p = subprocess.run(["bash", FSTESTS / "overlay" / name], cwd=FSTESTS / "standin", env={**env, **more}, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        assert p.returncode == 0, p.stdout
        assert not os.path.ismount(folders["mnt"])
        try:
            with open(f"{folders['results']}/{name}.notrun", encoding="utf-8") as f:
                return p.stdout, f.read().strip()
        except FileNotFoundError:
            return p.stdout, None

    return run


def golden(name):
    return (FSTESTS / "overlay" / f"{name}.out").read_text(encoding="utf-8")


def test_marks_by_hand(run_fstest):
    assert run_fstest("901") == (golden("901"), None)


def test_marks_of_ovlfind(scene, run_fstest):
    assert run_fstest("901", OVLFINCTL_PROG=binary("ovlfinctl"), OVLFIND_WORKER=binary("ovlfind-worker"),
                      STATE_DIRECTORY=scene.subdir("state")) == (golden("901"), None)


def test_opaque_z(run_fstest):
    """Honoured by a patched kernel; others say that it is not run."""
    out, reason = run_fstest("902")
    assert (out, reason) in ((golden("902"), None),
                             ("QA output created by 902\n", "overlayfs of this kernel does not honour finalized directories"))


def test_they_notice(scene, run_fstest):
    """Without the marks what was added is observed: the golden output is not just what any directory gives."""
    nothing = os.path.join(scene.subdir("bin"), "ovlfinctl")
    with open(nothing, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\n")
    os.chmod(nothing, 0o755)
    out, _ = run_fstest("901", OVLFINCTL_PROG=nothing)
    assert "dir/new is observed by lookup" in out and out != golden("901")
