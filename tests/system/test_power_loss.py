# SPDX-License-Identifier: LGPL-2.1-or-later
"""The power fails right after a job: what the upper's file system had not written by then is gone, and the daemon's state, on another
disk, is as new as can be. tests/kernel/test_power_cut.py cuts in the midst of jobs, and takes parts of what the disk had in its cache."""

import errno
import os
import shutil

import pytest

from ovltest import assert_same, run, snapshot
from ovltest.env import SWEEP
from ovltest.oldtree import traces
from ovltest.tree import age, write

KINDS = ("ext4-256", "xfs", "btrfs")


@pytest.fixture
def source(scene):
    top = scene.source()
    for directory in ("t", "t/sub", "t/goes"):
        for i in range(4):
            write(os.path.join(top, directory, f"f{i}"), f"content of {directory} {i}\n".encode(), mode=0o644)
    os.symlink("f1", os.path.join(top, "t", "link"))
    age(top)
    return top


def fsync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


class Machine:
    """An overlay and its daemon, which can lose power."""

    def __init__(self, scene, source, kind, **kwargs):
        self.source = source
        self.upper = scene.upper(kind)
        self.overlay = scene.overlay(source, upper=self.upper)
        self.daemon = scene.daemon(soft=self.overlay, **kwargs)
        self.n_saved = 0
        self.sync()

    def sync(self):
        """All that was done until now is on the disk."""
        run("sync", "--file-system", self.upper.point)

    def save(self):
        """What is on the disks."""
        self.n_saved += 1
        saved = [(path, f"{path}.{self.n_saved}") for path in (self.upper.image, self.daemon.state)]
        for path, copy in saved:
            run("cp", "-a", "--sparse=always", path, copy)
        return saved

    def restore(self, saved):
        """The machine boots with that on its disks."""
        self.daemon.kill()
        self.overlay.umount()
        run("umount", self.upper.point)
        for path, copy in saved:
            run("rm", "-rf", path)
            run("cp", "-a", "--sparse=always", copy, path)
        run("mount", "-o", "loop", self.upper.image, self.upper.point)
        self.overlay.mount()

    def cut(self):
        """The power fails now, and comes back."""
        self.restore(self.save())

    def assert_as_lower(self, names=None):
        """But for when names in a directory changed, which is another time here. names: only what is at or below these, which may
        be missing as a whole."""
        there, here = snapshot(os.path.join(self.source, "t")), snapshot(self.overlay / "t")
        for entry in (*there.values(), *here.values()):
            if isinstance(entry["content"], list):
                entry["mtime"] = None
        if names:
            present = [n for n in names if n in here]
            there, here = ({p: e for p, e in tree.items() if p.split("/")[0] in present} for tree in (there, here))
        assert_same(there, here, ignore={"nlink"})


@pytest.fixture(params=KINDS)
def machine(scene, source, request):
    return Machine(scene, source, request.param)


def change_lower(top):
    """One of each kind of change."""
    write(os.path.join(top, "t", "new"), b"new")
    write(os.path.join(top, "t", "newdir", "deep", "file"), b"new, and deep")
    write(os.path.join(top, "t", "f0"), b"another content, which is longer")
    os.chmod(os.path.join(top, "t", "f1"), 0o4755)
    os.setxattr(os.path.join(top, "t", "f2"), "user.new", b"1")
    os.unlink(os.path.join(top, "t", "f3"))
    os.chmod(os.path.join(top, "t", "sub"), 0o700)
    shutil.rmtree(os.path.join(top, "t", "goes"))


@pytest.mark.parametrize("is_synced", [False, True], ids=["", "directory-synced"])
def test_after_a_refresh(machine, is_synced):
    machine.daemon.ctl("finalize", machine.overlay / "t").ok()
    machine.sync()
    change_lower(machine.source)
    machine.daemon.ctl("refresh", machine.overlay / "t").ok()
    machine.assert_as_lower()
    if is_synced:
        fsync(machine.overlay / "t")
    machine.cut()
    machine.daemon.start()
    machine.daemon.ctl("refresh", machine.overlay / "t").ok()
    machine.assert_as_lower()
    machine.daemon.ctl("verify", machine.overlay / "t").ok()


@pytest.mark.parametrize("verb", ["finalize", "refresh", "prune", "unfinalize"])
def test_a_disk_that_cannot_be_synced(scene, source, verb):
    """The job says so, nothing claims to be done, and the next one does it."""
    machine = Machine(scene, source, "ext4-256", killer=True)
    if verb != "finalize":
        machine.daemon.ctl("finalize", machine.overlay / "t").ok()
    if verb == "prune":
        os.unlink(os.path.join(source, "t/f3"))
    if verb == "refresh":
        change_lower(source)
    machine.daemon.arm(1, call="syncfs", error=errno.EIO)
    result = machine.daemon.ctl(verb, machine.overlay / "t")
    assert result.code != 0 and f"cannot sync the file system of '{machine.upper.upper}'" in result.err, result
    machine.daemon.ctl(verb, machine.overlay / "t").ok()
    machine.assert_as_lower()
    assert not traces(machine.overlay)


def test_after_a_prune(machine):
    machine.daemon.ctl("finalize", machine.overlay / "t").ok()
    machine.sync()
    os.unlink(os.path.join(machine.source, "t", "f3"))
    shutil.rmtree(os.path.join(machine.source, "t", "goes"))
    machine.daemon.ctl("prune", machine.overlay / "t").ok()
    machine.cut()
    machine.daemon.start()
    machine.daemon.ctl("prune", machine.overlay / "t").ok()
    machine.assert_as_lower()
    machine.daemon.ctl("verify", machine.overlay / "t").ok()


@pytest.mark.parametrize("is_synced", [False, True], ids=["", "directory-synced"])
def test_after_a_finalize(machine, is_synced):
    machine.daemon.ctl("finalize", machine.overlay / "t").ok()
    if is_synced:
        fsync(machine.overlay / "t")
        fsync(machine.overlay / "t/sub")
    machine.cut()
    machine.assert_as_lower()
    machine.daemon.start()
    machine.assert_as_lower()
    machine.daemon.ctl("verify", machine.overlay / "t").ok()
    machine.daemon.ctl("finalize", machine.overlay / "t").ok()
    machine.assert_as_lower()
    assert not traces(machine.overlay)


def test_after_an_undo(machine):
    machine.daemon.ctl("finalize", machine.overlay / "t").ok()
    machine.sync()
    write(machine.overlay / "t/mine", b"local")
    os.unlink(machine.overlay / "t/mine")
    machine.daemon.ctl("unfinalize", machine.overlay / "t").ok()
    fsync(machine.overlay / "t")
    machine.cut()
    machine.assert_as_lower()
    machine.daemon.start()
    machine.assert_as_lower()
    machine.daemon.ctl("verify", machine.overlay / "t").ok()
    machine.daemon.ctl("unfinalize", machine.overlay / "t").ok()
    machine.assert_as_lower()


@pytest.mark.slow
@pytest.mark.parametrize("sync", [fsync, None], ids=["directory-synced", ""])
def test_at_every_step_of_a_refresh(scene, source, sync):
    """Killed there, and perhaps somebody syncs the directory: on btrfs that writes its names, and nothing of what else was done."""
    machine = Machine(scene, source, "btrfs", killer=True)
    machine.daemon.ctl("finalize", machine.overlay / "t").ok()
    machine.sync()
    saved = machine.save()
    change_lower(machine.source)
    n = 0
    while at := killed_at(machine, n):
        try:
            if sync:
                sync(machine.overlay / "t")
            machine.cut()
            machine.assert_as_lower(names=("new", "newdir"))
            machine.daemon.start()
            machine.assert_as_lower(names=("new", "newdir"))
            machine.daemon.ctl("refresh", machine.overlay / "t").ok()
            machine.assert_as_lower()
        except Exception as e:
            raise AssertionError(f"killed at {at}: {e}") from e
        machine.restore(saved)
        machine.daemon.start()
        n += SWEEP
    assert n > 20


def killed_at(machine, n):
    machine.daemon.arm(n)
    machine.daemon.ctl("refresh", machine.overlay / "t")
    return machine.daemon.struck()


@pytest.mark.parametrize("verb", ["prune", "refresh"])
def test_a_name_that_is_there_again_after_a_kill(scene, source, verb):
    """What a job removed before it was killed, at each step, nobody has deleted: if the lower has it again, so has the overlay. What
    somebody has deleted stays so."""
    machine = Machine(scene, source, "ext4-256", killer=True)
    machine.daemon.ctl("finalize", machine.overlay / "t").ok()
    os.unlink(machine.overlay / "t/f1")
    there = [os.path.join(source, "t", name) for name in ("f1", "f2", "f3")]
    n, struck = 0, True
    while struck:
        for path in there:
            os.unlink(path)
        machine.daemon.arm(n)
        machine.daemon.ctl(verb, machine.overlay / "t")
        struck = machine.daemon.struck()
        for path in there:
            write(path, b"again")
        machine.daemon.restart()
        machine.daemon.ctl("refresh", machine.overlay / "t").ok()
        names = sorted(os.listdir(machine.overlay / "t"))
        assert names == ["f0", "f2", "f3", "goes", "link", "sub"], f"killed at {struck}"
        n += SWEEP
    assert n > 8
