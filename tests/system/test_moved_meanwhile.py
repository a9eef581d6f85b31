# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory gives its name to another one while the tree is built, before each time a directory is opened: a path that was
true a moment ago leads elsewhere, and what is read and linked by it is not what it was taken for."""

import os
import shutil

import dbus
import pytest

from ovltest import assert_same, gaps, snapshot
from ovltest.env import SWEEP
from ovltest.tree import write

MOST = 200  # times a directory is opened by such a path; a job of this size does it less often


def build(top):
    for app in ("app", "app.part"):
        for name in ("one", "two", "bin/run", f"only-in-{app}/file"):
            write(os.path.join(top, app, name), f"{name} of {app}".encode())


def replace(d):
    """As package managers do."""
    os.rename(os.path.join(d, "app"), os.path.join(d, "app.old"))
    os.rename(os.path.join(d, "app.part"), os.path.join(d, "app"))


def exchange(d):
    os.rename(os.path.join(d, "app"), os.path.join(d, "between"))
    os.rename(os.path.join(d, "app.part"), os.path.join(d, "app"))
    os.rename(os.path.join(d, "between"), os.path.join(d, "app.part"))


def make_anew(d):
    shutil.rmtree(os.path.join(d, "app"))
    write(os.path.join(d, "app", "one"), b"anew")
    write(os.path.join(d, "app", "bin/new"), b"anew")


CASES = [(verb, move) for verb in ("Finalize", "Unfinalize") for move in (replace, exchange, make_anew)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("verb", "move"), CASES)
def test_another_directory_by_its_name(scene, verb, move, capsys):
    """Before each sixth time, each case another one (OVLFIND_MOVES=all: before each time; fewer with sanitizers)."""
    step = 1 if os.environ.get("OVLFIND_MOVES") == "all" else len(CASES) * min(SWEEP, 4)
    first = 1 + CASES.index((verb, move)) * step // len(CASES)
    _, overlay, daemon = gaps.stage(scene, build, MOST)
    held = 0
    for n in range(first, MOST, step):
        d = overlay / f"t/d{n:03}"
        if verb == "Unfinalize":
            daemon.ctl("finalize", d).ok()
        daemon.arm(n, call="openat2", path="app", hold=True)
        job = getattr(daemon.manager(), verb)(d, dbus.Dictionary({}, "sv"))
        if not daemon.held(job):
            break
        held += 1
        move(d)
        expected = snapshot(d)
        daemon.release(everything=True)
        assert daemon.wait_job(job)["State"] == "done"
        assert_same(expected, snapshot(d), ignore={"nlink", "mtime"})
        if verb == "Finalize":
            daemon.ctl("unfinalize", d).ok()  # each record that there is would be opened by the next one
    else:
        raise AssertionError(f"{MOST} are not enough")
    with capsys.disabled():
        print(f"\n{verb}, {move.__name__}: before {held} times that a directory was opened")
    assert held * step > 20


def build_itself(top):
    for suffix in ("", ".new"):
        for name in ("one", "two"):
            write(os.path.join(top + suffix, name), f"{name}{suffix}".encode())


def test_the_directory_itself(scene):
    _, overlay, daemon = gaps.stage(scene, build_itself, MOST)
    for n in range(1, MOST):
        d = overlay / f"t/d{n:03}"
        daemon.arm(n, call="openat2", path=os.path.basename(d), hold=True)
        job = daemon.finalize(d)
        if not daemon.held(job):
            break
        before = snapshot(d), snapshot(f"{d}.new")
        os.rename(d, f"{d}.old")
        os.rename(f"{d}.new", d)
        daemon.release(everything=True)
        daemon.wait_job(job)  # the directory that was asked for may be the one that left
        for _ in range(2):
            assert_same(before[0], snapshot(f"{d}.old"), ignore={"nlink", "mtime"})
            assert_same(before[1], snapshot(d), ignore={"nlink", "mtime"})
            daemon.ctl("finalize", d).ok()
        daemon.ctl("unfinalize", d).ok()
    else:
        raise AssertionError(f"{MOST} are not enough")
    assert n > 3
