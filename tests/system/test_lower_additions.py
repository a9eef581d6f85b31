# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is added to the lower after a directory was finalized is not seen, until unfinalize brings it back."""

import os
import shutil
import stat
import subprocess
import sys
import time

import pytest

from ovltest import UPPERS, assert_same, snapshot
from ovltest.ctl import run_offline
from ovltest.tree import release, write

D = "software/prog"
ADDED = ("added", "lib/libadded.so", "lib/python3/site-packages/prog/added.py", "added-dir/inside")


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, D))
    release(os.path.join(top, "software/other"))
    return top


def add(lower):
    for name in ADDED:
        write(os.path.join(lower.source, D, name))


def seen(overlay):
    return [name for name in ADDED if os.path.lexists(os.path.join(overlay / D, name))]


def listed(overlay):
    return {os.path.relpath(os.path.join(d, n), overlay / D) for d, dirs, files in os.walk(overlay / D) for n in dirs + files}


def non_directories(entries):
    return {p: e for p, e in entries.items() if not stat.S_ISDIR(e["type"])}


@pytest.mark.parametrize("kind", UPPERS)
def test_additions_are_not_observed(scene, lower, kind):
    """The acceptance test of the kernel list's own finalize-dir patches: copy up, list, unmount, add a lower entry, mount
    again: it is not observed, and the marks are there."""
    overlay = scene.overlay(lower, upper=kind)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    os.listdir(overlay / D)
    assert daemon.stop() == 0
    overlay.umount()
    add(lower)
    overlay.mount()
    assert seen(overlay) == []
    assert_same(before, snapshot(overlay / D))
    assert os.getxattr(overlay.upper_path(D), "trusted.overlay.opaque") == b"y"
    name = f"{D}/lib/libpart0.so.1.0"
    assert os.getxattr(overlay.upper_path(name), "trusted.overlay.redirect") == f"/{name}".encode()


def test_without_finalizing_additions_are_observed(scene, lower):
    """The same by hand: what it is all compared with."""
    overlay = scene.overlay(lower)
    for directory, dirs, files in os.walk(overlay / D):
        for n in dirs + files:
            os.chown(os.path.join(directory, n), 0, 0, follow_symlinks=False)
    overlay.umount()
    add(lower)
    overlay.mount()
    assert seen(overlay) == list(ADDED)


def test_additions_while_mounted(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    before = listed(overlay)
    add(lower)
    assert seen(overlay) == []
    assert listed(overlay) == before
    write(os.path.join(lower.source, "software/other/added"))
    assert os.path.exists(overlay / "software/other/added")  # a directory nobody finalized stays merged


@pytest.mark.parametrize("kind", UPPERS)
def test_unfinalize_brings_them_back(scene, lower, kind):
    overlay = scene.overlay(lower, upper=kind)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    add(lower)
    daemon.ctl("unfinalize", overlay / D).ok()
    assert seen(overlay) == list(ADDED)
    assert daemon.ctl("is-finalized", overlay / D).code == 1
    after = snapshot(overlay / D)
    assert_same(before, {p: e for p, e in after.items() if p in before}, ignore={"content", "mtime"})
    assert_same(non_directories(before), {p: e for p, e in non_directories(after).items() if p in before})
    assert daemon.stop() == 0
    overlay.remount()
    assert_same(after, snapshot(overlay / D))
    # Merged means merged: the lower is asked again.
    assert scene.absent_lookups(lower, os.path.join(overlay / D, "lib"), 10).enoent == 10


def test_unfinalize_keeps_local_changes(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    os.unlink(os.path.join(d, "lib", "libpart1.so"))  # before
    daemon.ctl("finalize", d).ok()
    os.unlink(os.path.join(d, "lib", "libpart2.so"))  # while
    shutil.rmtree(os.path.join(d, "share"))
    os.rename(os.path.join(d, "lib", "libpart3.so.1.0"), os.path.join(d, "lib", "renamed"))
    with open(os.path.join(d, "lib", "libpart4.so.1.0"), "wb") as f:
        f.write(b"replaced here")
    write(os.path.join(d, "lib", "made-here"), b"made here")
    local = snapshot(d)
    daemon.ctl("unfinalize", d).ok()
    assert_same(local, snapshot(d))
    add(lower)
    assert seen(overlay) == list(ADDED)
    assert not os.path.lexists(os.path.join(d, "lib", "libpart1.so"))
    assert not os.path.lexists(os.path.join(d, "lib", "libpart2.so"))
    assert not os.path.lexists(os.path.join(d, "share"))
    daemon.stop()
    overlay.remount()
    assert seen(overlay) == list(ADDED)
    for name in ("lib/libpart1.so", "lib/libpart2.so", "lib/libpart3.so.1.0", "share"):
        assert not os.path.lexists(os.path.join(d, name)), name


def test_unfinalize_after_a_restart(scene, lower):
    """What a directory held when it was finalized is remembered over a restart of everything."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    os.unlink(os.path.join(overlay / D, "lib", "libpart2.so"))
    assert daemon.stop() == 0
    overlay.umount()
    add(lower)
    overlay.mount()
    daemon.start()
    daemon.ctl("unfinalize", overlay / D).ok()
    assert seen(overlay) == list(ADDED)
    assert not os.path.lexists(os.path.join(overlay / D, "lib", "libpart2.so"))


def test_finalize_unfinalize_finalize(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    for _ in range(3):
        daemon.ctl("finalize", overlay / D).ok()
        assert scene.absent_lookups(lower, os.path.join(overlay / D, "lib"), 10).enoent == 0
        assert_same(before, snapshot(overlay / D))
        daemon.ctl("unfinalize", overlay / D).ok()
        assert scene.absent_lookups(lower, os.path.join(overlay / D, "lib"), 10).enoent == 10
        assert_same(before, snapshot(overlay / D))


def test_unfinalize_what_is_merged(scene, lower):
    """Asking for a state that already holds is success."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("unfinalize", overlay / D).ok()
    assert seen(overlay) == []


def test_unfinalize_after_another_upper_was_mounted(scene, lower):
    """The wrong disk, mounted once, costs no record of the right one."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    os.unlink(os.path.join(overlay / D, "lib", "libpart2.so"))
    right = overlay.upper
    for upper in (scene.upper(), right):
        assert daemon.stop() == 0
        overlay.umount()
        overlay.upper = upper
        overlay.mount()
        daemon.start()
    add(lower)
    daemon.ctl("unfinalize", overlay / D).ok()
    assert seen(overlay) == list(ADDED)
    assert not os.path.lexists(os.path.join(overlay / D, "lib", "libpart2.so"))
    assert os.listdir(os.path.join(daemon.state, "records", "soft")) == []


def times(top):
    return {os.path.relpath(d, top): os.stat(d).st_mtime_ns for d, _, _ in os.walk(top)}


GAINED = {".", "lib", "lib/python3/site-packages/prog"}


# What refresh puts into a directory gives it a time as what anybody puts there: on ext4-128 it may be the same second.
@pytest.mark.parametrize("verb, kind", (*(("unfinalize", k) for k in (*UPPERS, "ext4-128")), *(("refresh", k) for k in UPPERS)))
def test_times_tell_of_names_that_appear(scene, source, verb, kind):
    """Programs that keep the listing of a directory go by its modification time."""
    overlay = scene.overlay(source, upper=kind)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    for name in ADDED:
        write(os.path.join(source, D, name))
    os.unlink(overlay / f"{D}/lib/libpart1.so")
    os.utime(overlay / f"{D}/lib")  # just now, which is another time all the same
    before = times(overlay / D)
    daemon.ctl(verb, overlay / D).ok()
    assert seen(overlay) == list(ADDED)
    after = times(overlay / D)
    assert {p for p in before if before[p] != after[p]} == GAINED
    assert all(abs(after[p] - time.time_ns()) < 60 * 10**9 for p in GAINED)
    daemon.stop()
    overlay.remount()
    assert after == times(overlay / D)


def test_times_when_a_mark_is_taken_away(scene, source):
    overlay = scene.overlay(source)
    state = scene.subdir("state")
    overlay.umount()
    run_offline(overlay, state, "finalize", "--method=mark", D).ok()
    overlay.mount()
    before = times(overlay / D)
    overlay.umount()
    for name in ADDED:
        write(os.path.join(source, D, name))
    run_offline(overlay, state, "unfinalize", D).ok()
    overlay.mount()
    assert seen(overlay) == list(ADDED)
    after = times(overlay / D)
    assert {p for p in before if before[p] != after[p]} == GAINED


IMPORTER = """
import importlib, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
for line in sys.stdin:
    try:
        importlib.import_module(line.strip())
        print("found", flush=True)
    except ImportError as e:
        print(e, flush=True)
"""


@pytest.mark.parametrize("verb", ("unfinalize", "refresh"))
def test_an_interpreter_sees_them(scene, source, verb):
    """Its import system keeps the listings of directories, and believes them as long as their time is the same."""
    package = os.path.join(source, D, "lib/python3/site-packages/prog")
    write(os.path.join(package, "__init__.py"), b"")
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    with subprocess.Popen([sys.executable, "-c", IMPORTER, overlay / f"{D}/lib/python3/site-packages"], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as interpreter:

        def find(module):
            interpreter.stdin.write(module + "\n")
            interpreter.stdin.flush()
            return interpreter.stdout.readline().strip()

        assert find("prog") == "found"
        assert find("prog.added") == "No module named 'prog.added'"
        write(os.path.join(package, "added.py"), b"")
        write(os.path.join(source, D, "lib/python3/site-packages/new.py"), b"")
        assert find("new") == "No module named 'new'"
        daemon.ctl(verb, overlay / D).ok()
        assert find("prog.added") == "found"
        assert find("new") == "found"
        interpreter.stdin.close()
