# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users change in the very moment what a refresh or a prune replaces or removes, and the worker dies in that moment as well:
what they did is there afterwards, at its path wherever that can be."""

import os
import shutil
import signal

import dbus
import pytest

from ovltest import assert_same, snapshot
from ovltest.daemon import wait_for
from ovltest.oldtree import find, kept_files, traces
from ovltest.tree import age, write

D = "soft"
MINE = b"mine, and nobody else's"


def to_file(path):
    shutil.rmtree(path)
    write(path, b"a file by now")


def to_directory(path):
    os.unlink(path)
    write(os.path.join(path, "inner"), b"a directory by now")


# What the lower does to an entry, where a user writes meanwhile, and what is kept: a directory of ours that was seen
# for a moment may hold more than one can tell.
CHANGES = {
    "file": ("file", lambda p: write(p, b"fixed in place"), "file", []),
    "directory-to-file": ("dir", to_file, "dir/made-here", []),
    "file-to-directory": ("whole", to_directory, "whole", [b"a directory by now"]),
}


@pytest.fixture
def source(scene):
    top = scene.source()
    write(os.path.join(top, D, "file"), b"as it was")
    write(os.path.join(top, D, "whole"), b"as it was")
    write(os.path.join(top, D, "dir/inner"))
    age(top)
    return top


@pytest.fixture
def stage(scene, source):
    """An overlay on which D is finalized, with data, and its daemon, which has a killer."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.ctl("finalize", "--data", overlay / D).ok()
    return overlay, daemon


def begin(overlay, daemon):
    """A refresh that has found out what has changed, and is held before its first replacement. Its job."""
    daemon.arm(1, call="renameat2", hold=True)
    job = daemon.manager().Refresh(overlay / D, dbus.Dictionary(signature="sv"))
    assert daemon.held(job)
    while not find(overlay, "copy"):
        daemon.release()
        assert daemon.held(job)
    return job


def settled(overlay, daemon, job, keeps):
    """Once whoever took over has come to an end, nothing of ours is left but what is kept."""
    wait_for(lambda: daemon.job(job)["State"] in ("done", "failed"), "the job to end")
    wait_for(lambda: not daemon.workers(), "the survey to end")
    assert kept_files(overlay) == keeps
    assert keeps or not traces(overlay)


def kill_worker(daemon, job):
    assert daemon.held(job)
    for pid in daemon.workers():
        os.kill(pid, signal.SIGKILL)
    daemon.release(everything=True)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_and_killed_after_the_exchange(source, stage, change):
    overlay, daemon = stage
    name, alter, written, keeps = CHANGES[change]
    alter(os.path.join(source, D, name))
    job = begin(overlay, daemon)
    write(overlay / f"{D}/{written}", MINE)
    before = snapshot(overlay / f"{D}/{name}")
    daemon.release()
    kill_worker(daemon, job)
    settled(overlay, daemon, job, keeps)
    assert_same(before, snapshot(overlay / f"{D}/{name}"), ignore={"nlink"})
    assert f"'{D}/{written}'" in daemon.log() or name in daemon.log()


@pytest.mark.parametrize("change", CHANGES)
def test_killed_after_the_exchange(source, stage, change):
    """Nobody has changed anything: nothing is kept."""
    overlay, daemon = stage
    name, alter, *_ = CHANGES[change]
    alter(os.path.join(source, D, name))
    daemon.arm(1, call="exchange")
    job = daemon.manager().Refresh(overlay / D, dbus.Dictionary(signature="sv"))
    settled(overlay, daemon, job, [])
    assert daemon.struck()
    assert_same(snapshot(os.path.join(source, D)), snapshot(overlay / D), ignore={"nlink", "mtime"})


def test_written_to_before_it_is_removed(source, stage):
    """Taken up first is what is new; meanwhile somebody writes to what is to go."""
    overlay, daemon = stage
    write(os.path.join(source, D, "new/inner"))
    os.unlink(os.path.join(source, D, "whole"))
    job = begin(overlay, daemon)
    write(overlay / f"{D}/whole", MINE)
    daemon.release(everything=True)
    settled(overlay, daemon, job, [])
    with open(overlay / f"{D}/whole", "rb") as f:
        assert f.read() == MINE


@pytest.mark.parametrize("verb", ("refresh", "prune"))
def test_open_for_writing_when_it_is_to_be_removed(source, stage, verb):
    overlay, daemon = stage
    with open(overlay / f"{D}/whole", "r+b") as f:
        os.unlink(os.path.join(source, D, "whole"))
        assert "whole" in daemon.ctl(verb, overlay / D).ok().err
        f.write(MINE)
    with open(overlay / f"{D}/whole", "rb") as f:
        assert f.read() == MINE


@pytest.mark.parametrize("how", ["replaced", "written to"])
def test_changed_while_it_is_finalized(scene, source, how):
    """Between the listing and the copying: it is theirs, for every refresh that follows."""
    names = [f"file{i}" for i in range(8)]
    for name in names:
        write(os.path.join(source, D, "many", name), b"of the lower layer")
    age(source)
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=(overlay, {"CopyUp": {"Workers": "1"}}))
    daemon.arm(0, call="linkat", hold=True)
    job = daemon.finalize(overlay / f"{D}/many")
    assert daemon.held(job)
    for name in names:
        if how == "replaced":
            write(overlay / f"{D}/{name}.new", MINE)
            os.rename(overlay / f"{D}/{name}.new", overlay / f"{D}/many/{name}")
        else:
            write(overlay / f"{D}/many/{name}", MINE)
    daemon.release(everything=True)
    assert daemon.wait_job(job)["State"] == "done"
    daemon.ctl("refresh", overlay / D).ok()
    for name in names:
        with open(overlay / f"{D}/many/{name}", "rb") as f:
            assert f.read() == MINE, name
