# SPDX-License-Identifier: LGPL-2.1-or-later
"""finalize --data: what is copied never asks the lower again, not even for the inode number of before; nobody who uses a file
at that moment notices."""

import ctypes
import os
import shutil
import stat
import struct
import sys

import dbus
import pytest

from ovltest import assert_same, run, snapshot, visible
from ovltest.env import end, spawn
from ovltest.holders import Fifo, Locks, OpenFile
from ovltest.tree import odd_entries, release, write

ORIGIN = "trusted.overlay.origin"
READ_ALL = """import os, stat, sys
for directory, dirs, files in os.walk(sys.argv[1]):
    for name in files + dirs:
        path = os.path.join(directory, name)
        st = os.lstat(path)
        if stat.S_ISLNK(st.st_mode):
            os.readlink(path)
        elif stat.S_ISREG(st.st_mode):
            os.listxattr(path)
            with open(path, "rb") as f:
                f.read()
"""


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, "prog"))
    odd_entries(os.path.join(top, "prog/odd"))
    return top


@pytest.fixture
def lower(scene, source):
    return scene.lower(source, handles=True)


def is_live(path):
    """Whether the kernel looks for its origin."""
    try:
        value = os.getxattr(path, ORIGIN, follow_symlinks=False)
    except OSError:
        return False
    return value[:1] == b"\0"


def live(overlay, top="prog"):
    """Of what is no directory."""
    return sorted(os.path.relpath(os.path.join(d, name), overlay.upper_path(top))
                  for d, _, files in os.walk(overlay.upper_path(top)) for name in files if is_live(os.path.join(d, name)))


def forget(overlay):
    run("mount", "--options-mode=ignore", "-o", "remount", overlay.point)


def identity(path):
    st = os.lstat(path)
    return st.st_dev, st.st_ino


def fresh(daemon, overlay, lower):
    """A fresh mount, and nothing of the lower in the kernel's memory."""
    assert daemon.stop() == 0
    overlay.remount()
    lower.invalidate()


def read_with_lower_gone(lower, path):
    """What is asked below there; the first question is not answered. (Others on the machine may look at its root.)"""
    lower.trace(True)
    lower.hang("prog")
    reader = spawn(sys.executable, "-c", READ_ALL, path)
    try:
        assert reader.wait(60) == 0
    finally:
        lower.recover()
        end(reader)
    return [line for line in lower.traced() if "/prog" in line]


@pytest.mark.parametrize("kind", ("ext4-256", "xfs", "btrfs", "tmpfs"))
def test_with_the_lower_gone_everything_opens(scene, lower, kind):
    overlay = scene.overlay(lower, upper=kind)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / "prog")
    daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert live(overlay) == []
    assert_same(before, snapshot(overlay / "prog"))
    fresh(daemon, overlay, lower)
    assert read_with_lower_gone(lower, overlay / "prog") == []
    assert_same(before, snapshot(overlay / "prog"))


def test_one_that_cannot_be_changed(scene, lower):
    """It keeps no other file from being made independent."""
    overlay = scene.overlay(lower, upper="ext4-256")
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "prog").ok()
    package = "lib/python3/site-packages/prog"
    name = min(name for name in os.listdir(overlay / f"prog/{package}") if name.startswith("mod"))
    os.close(os.open(overlay / f"prog/{package}/{name}", os.O_WRONLY))
    run("chattr", "+i", overlay.upper_path(f"prog/{package}/{name}"))
    try:
        result = daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
        assert "1 of its files cannot be looked up, or not be changed" in result.out + result.err, result
        assert live(overlay) == [f"{package}/{name}"]
    finally:
        run("chattr", "-i", overlay.upper_path(f"prog/{package}/{name}"))
    daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert live(overlay) == []


def test_below_directories_that_are_finalized_as_well(scene, source, lower):
    shutil.copytree(os.path.join(source, "prog/lib"), os.path.join(source, "prog/deep/er/lib"), symlinks=True)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", "--data=all", "--method=mark", "--parents", overlay / "prog/deep/er").ok()
    fresh(daemon, overlay, lower)
    assert read_with_lower_gone(lower, overlay / "prog/deep/er") == []


def test_without_the_option_each_origin_is_asked_for(scene, lower):
    """What this is about: files that were copied in full, by whoever wrote to them."""
    overlay, package = scene.overlay(lower), "prog/lib/python3/site-packages/prog"
    names = [name for name in os.listdir(overlay / package) if name.startswith("mod")]
    for name in names:
        os.close(os.open(overlay / f"{package}/{name}", os.O_WRONLY))
    overlay.remount()
    lower.invalidate()
    lower.trace(True)
    for name in names:
        os.lstat(overlay / f"{package}/{name}")
    assert sum(line.startswith("lookup") and line.endswith("/.") for line in lower.traced()) == len(names) > 10


class Watch:
    """An inotify watch: it holds an inode, and no name."""

    LIBC = ctypes.CDLL(None)

    def __init__(self, path):
        self.fd = self.LIBC.inotify_init1(os.O_NONBLOCK)
        assert self.LIBC.inotify_add_watch(self.fd, os.fsencode(path), 0x4) >= 0  # IN_ATTRIB

    def hears(self):
        try:
            return len(os.read(self.fd, 4096)) >= struct.calcsize("iIII")
        except BlockingIOError:
            return False

    def close(self):
        os.close(self.fd)


def test_who_uses_a_file_notices_nothing(scene, source):
    """Open, mapped, locked, watched: they are left alone until they are let go and --data is asked for again."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    names = {kind: f"prog/lib/python3/site-packages/prog/mod{i}.py" for i, kind in
             enumerate(("open", "path", "flock", "posix", "watched"))}
    names["fifo"] = "prog/odd/fifo"
    paths = {kind: overlay / name for kind, name in names.items()}
    held, locks = OpenFile(paths["open"]), Locks(paths["flock"], paths["posix"])
    watch, fifo, path_fd = Watch(paths["watched"]), Fifo(paths["fifo"]), os.open(paths["path"], os.O_PATH)
    before, tree = {kind: identity(path) for kind, path in paths.items()}, snapshot(overlay / "prog")
    result = daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert f"{len(names)} of its files are in use" in result.err
    assert live(overlay) == sorted(os.path.relpath(name, "prog") for name in names.values())
    for _ in range(2):
        assert {kind: identity(path) for kind, path in paths.items()} == before
        held.check()
        locks.check()
        fifo.check()
        watch.hears()
        os.chmod(paths["watched"], 0o644)
        assert watch.hears()
        forget(overlay)
    for thing in (held, locks, watch, fifo):
        thing.close()
    os.close(path_fd)
    result = daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert "in use" not in result.err and live(overlay) == []
    assert_same(tree, snapshot(overlay / "prog"))


def test_several_names_stay_one_file(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "prog").ok()
    name = "lib/libpart0.so.1.0"
    os.link(overlay / f"prog/{name}", overlay / "prog/second")
    result = daemon.ctl("finalize", "--data", overlay / "prog").ok()
    assert "2 of its files have several names" in result.err
    assert live(overlay) == [name, "second"]
    forget(overlay)
    assert identity(overlay / f"prog/{name}") == identity(overlay / "prog/second")
    os.unlink(overlay / "prog/second")
    daemon.ctl("finalize", "--data", overlay / "prog").ok()
    assert live(overlay) == []


def test_with_index_the_origin_stays(scene, lower):
    """The kernel compares with it."""
    overlay = scene.overlay(lower, index="on")
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / "prog")
    result = daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert "index=on" in result.err
    assert len(live(overlay)) == sum(not stat.S_ISDIR(e["type"]) for e in before.values())
    assert_same(before, snapshot(overlay / "prog"))


@pytest.mark.parametrize("options", ({}, {"xino": "on"}))
def test_undone_it_is_as_before(scene, source, lower, options):
    overlay = scene.overlay(lower, **options)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / "prog")
    daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert live(overlay) == []
    assert_same(before, snapshot(overlay / "prog"))
    write(os.path.join(source, "prog/lib/new"))
    lower.invalidate()
    assert "new" not in os.listdir(overlay / "prog/lib")
    assert daemon.ctl("verify", "soft").ok()
    daemon.ctl("unfinalize", overlay / "prog").ok()
    overlay.remount()
    after = snapshot(overlay / "prog")
    assert after.pop("lib/new") and after["lib"]["content"].remove("new") is None
    assert_same(visible(before), visible(after))
    assert daemon.ctl("verify", "soft").ok()


def test_another_file_in_its_place_is_still_seen(scene, source):
    """The origin is kept, so that a refresh can tell."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    name = "prog/lib/libpart0.so.1.0"
    daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert live(overlay) == []
    st = os.stat(os.path.join(source, name))
    write(os.path.join(source, "new"), b"n" * st.st_size, stat.S_IMODE(st.st_mode))
    os.utime(os.path.join(source, "new"), ns=(st.st_mtime_ns, st.st_mtime_ns + 1))
    os.rename(os.path.join(source, "new"), os.path.join(source, name))
    daemon.ctl("refresh", overlay / "prog").ok()
    with open(overlay / name, "rb") as f:
        assert f.read() == b"n" * st.st_size


def test_reset_and_finalized_again(scene, source, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / "prog")
    for _ in range(2):
        daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
        assert live(overlay) == []
        daemon.ctl("unfinalize", overlay / "prog").ok()
    daemon.ctl("finalize", overlay / "prog").ok()
    daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert_same(before, snapshot(overlay / "prog"))
    shutil.rmtree(os.path.join(source, "prog/lib/python3"))
    lower.invalidate()
    daemon.ctl("refresh", "--force", overlay / "prog").ok()
    assert not os.path.lexists(overlay / "prog/lib/python3")
    assert daemon.ctl("verify", "soft").ok()


@pytest.fixture
def held(scene, source):
    """An overlay on files with handles, finalized, and a daemon whose next worker can be held or killed."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(start=False, soft=overlay)
    daemon.use_killer()
    daemon.start()
    daemon.ctl("finalize", overlay / "prog").ok()
    return overlay, daemon


def test_what_comes_into_use_in_the_last_moment_is_put_back(held):
    """After the kernel has forgotten what nobody uses, and before the first is changed."""
    overlay, daemon = held
    top = overlay / "prog/lib"
    paths = [os.path.join(d, name) for d, _, files in os.walk(top) for name in files]
    for path in paths:
        if not os.path.islink(path):
            os.close(os.open(path, os.O_WRONLY))
    daemon.arm(0, call="setxattr", hold=True)
    job = daemon.finalize(top, data=dbus.UInt64(1 << 30))
    assert daemon.held(job)
    before = {path: identity(path) for path in paths}
    watches = {path: Watch(path) for path in paths if not os.path.islink(path)}
    daemon.release(everything=True)
    assert daemon.wait_job(job)["State"] == "done"
    assert live(overlay, "prog/lib") == sorted(os.path.relpath(path, top) for path in paths)
    forget(overlay)
    assert {path: identity(path) for path in paths} == before
    for path, watch in watches.items():
        os.chmod(path, 0o640)
        assert watch.hears(), path
        watch.close()


@pytest.mark.parametrize("n", (0, 1, 20))
def test_killed_in_the_middle(held, n):
    """What is done and what is not are both right, and the next worker does the rest."""
    overlay, daemon = held
    before = snapshot(overlay / "prog")
    daemon.arm(n, call="setxattr")
    daemon.ctl("finalize", "--data=all", overlay / "prog").ok()
    assert daemon.struck()
    assert_same(before, snapshot(overlay / "prog"))
    assert live(overlay) == []
    assert daemon.ctl("verify", "soft").ok()
