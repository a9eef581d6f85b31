# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a swap does to mounts: those in the overlay, those around it, and how all of them are mounted."""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess

import dbus
import pytest

from ovltest import run
from ovltest.daemon import wait_for
from ovltest.env import mount
from ovltest.holders import Shell
from ovltest.tree import age, write

SET = "--set=metacopy=on,redirect_dir=on"


def table(point, pid="self"):
    """Lines of the mount table for a mount point, the topmost last."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
        return [line.split() for line in f if line.split()[4] == point]


def optional(line):
    """The optional fields: peer groups."""
    return line[6:line.index("-")]


def below(top):
    """Everything that is mounted in an overlay, and how, with the ids left out."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        lines = [line.split() for line in f if line.split()[4].startswith(top + "/")]
    return sorted((line[2:6], optional(line)) for line in lines)


def tmpfs(point, flags=0):
    os.makedirs(point, exist_ok=True)
    mount("inner", point, "tmpfs", flags, "size=1m")
    write(os.path.join(point, "mark"), point.encode())


pytestmark = pytest.mark.beneath


@pytest.fixture
def source(scene):
    top = scene.source()
    for i in range(8):
        write(os.path.join(top, "t", f"d{i % 4}", f"f{i}"), f"content {i}\n".encode())
    age(top)
    return top


@pytest.fixture
def plain(scene, source):
    return scene.overlay(source, metacopy=None, redirect_dir=None)


def test_mounts_that_come_and_go_in_the_last_moment(scene, plain):
    daemon = scene.daemon(killer=True, soft=plain)
    tmpfs(plain / "t/d0")
    tmpfs(plain / "t/d1")
    tmpfs(plain / "t/d2")
    daemon.arm(3, call="beneath", hold=True)  # twice it is asked whether the kernel can
    job = daemon.manager().Remount("soft", dbus.Dictionary({"method": "swap"}, signature="sv"))
    assert daemon.held(job)
    run("umount", plain / "t/d0")
    tmpfs(plain / "t/d1/nested")
    tmpfs(plain / "t/d3")
    before = below(plain.point)
    assert len(before) == 4
    daemon.release(everything=True)
    result = daemon.wait_job(job)
    assert result["State"] == "done", result
    assert len(table(plain.point)) == 1
    assert below(plain.point) == before
    assert os.path.exists(plain / "t/d0/f0") and os.path.exists(plain / "t/d1/nested/mark") and os.path.exists(plain / "t/d3/mark")


@pytest.mark.parametrize("around", ["private", "shared"])
def test_mounts_inside_keep_their_peers(scene, source, around):
    stage = scene.subdir("stage")
    run("mount", "--bind", stage, stage)
    run("mount", f"--make-{around}", stage)
    scene._stack.callback(run, "umount", "-l", stage, check=False)
    overlay = scene.overlay(source, metacopy=None, redirect_dir=None)
    overlay.umount()
    overlay.point = os.path.join(stage, "ovl")
    os.mkdir(overlay.point)
    overlay.mount()
    daemon = scene.daemon(soft=overlay)
    peers = {}
    for kind in ("shared", "private"):
        peers[kind] = scene.subdir(kind)
        tmpfs(overlay / f"t/{kind}")
        run("mount", f"--make-{kind}", overlay / f"t/{kind}")
        run("mount", "--bind", overlay / f"t/{kind}", peers[kind])
        scene._stack.callback(run, "umount", "-R", "-l", peers[kind], check=False)
    # The other way round: what is mounted at the master shows up in the overlay.
    master = scene.subdir("master")
    tmpfs(master)
    scene._stack.callback(run, "umount", "-R", "-l", master, check=False)
    run("mount", "--make-shared", master)
    os.mkdir(overlay / "t/slave")
    run("mount", "--bind", master, overlay / "t/slave")
    run("mount", "--make-slave", overlay / "t/slave")
    run("mount", f"--make-{around}", overlay.point)
    before = below(overlay.point)
    daemon.ctl("remount", "soft", "--method=swap", SET).ok()
    assert "metacopy=on" in table(overlay.point)[-1][-1]
    assert below(overlay.point) == before
    tmpfs(overlay / "t/shared/new")
    assert os.path.exists(os.path.join(peers["shared"], "new/mark"))
    tmpfs(overlay / "t/private/new")
    assert not os.path.exists(os.path.join(peers["private"], "new/mark"))
    tmpfs(os.path.join(master, "new"))
    assert os.path.exists(overlay / "t/slave/new/mark")


@pytest.mark.parametrize("own", ["private", "shared"])
def test_a_namespace_that_receives_mounts_has_one_overlay_afterwards(scene, source, own):
    stage = scene.subdir("stage")
    run("mount", "--bind", stage, stage)
    run("mount", "--make-shared", stage)
    scene._stack.callback(run, "umount", "-l", stage, check=False)
    overlay = scene.overlay(source, metacopy=None, redirect_dir=None)
    overlay.umount()
    overlay.point = os.path.join(stage, "ovl")
    os.mkdir(overlay.point)
    overlay.mount()
    run("mount", f"--make-{own}", overlay.point)
    daemon = scene.daemon(soft=overlay)
    with subprocess.Popen(["unshare", "-m", "--propagation", "slave", "sh", "-c", "echo ready; read line"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as follower:
        try:
            assert follower.stdout.readline() == b"ready\n"
            daemon.ctl("remount", "soft", "--method=swap", SET).ok()
            here, there = table(overlay.point), table(overlay.point, follower.pid)
            assert [line[2] for line in there] == [line[2] for line in here] and len(here) == 1
            assert bool(optional(here[0])) == (own == "shared")
        finally:
            follower.stdin.close()
    wait_for(lambda: len(overlay.swap_workdirs()) == 1 and not daemon.workers(), "the old superblock to go")


class Watch:
    """Whom a swap waits for, and nobody else."""

    def __init__(self, path):
        libc = ctypes.CDLL(None)
        self.fd = libc.inotify_init()
        assert libc.inotify_add_watch(self.fd, os.fsencode(path), 2) > 0

    def close(self):
        os.close(self.fd)


def waiting_swap(daemon):
    job = daemon.manager().Remount("soft", dbus.Dictionary({"method": "swap"}, signature="sv"))
    daemon.wait_job(job, ("waiting",))
    return job


def test_what_happens_while_a_swap_waits(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    with contextlib.closing(Watch(overlay / "t/d0")):
        job = waiting_swap(daemon)
        daemon.ctl("finalize", overlay / "t/d1").ok()
        daemon.ctl("remount", "soft", "--method=reconfigure").ok()
        mount("overlay", overlay.point, None, 32 | 2, "")  # remount,nosuid
        assert daemon.job(job)["State"] == "waiting"
    assert daemon.wait_job(job)["State"] == "done"
    assert "nosuid" in table(overlay.point)[-1][5]
    assert daemon.state_of(overlay / "t/d1") == "finalized"


def test_a_swap_that_waits_keeps_nobody_from_unmounting(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    with contextlib.closing(Watch(overlay / "t/d0")):
        job = waiting_swap(daemon)
        run("umount", overlay.point)
        result = daemon.wait_job(job)
        assert result["State"] == "failed"
    wait_for(lambda: daemon.overlay_states() == {"soft": "absent"}, "the overlay to be gone")
    assert overlay.swap_workdirs() == []


def draining(daemon):
    path = next(p for n, p in daemon.manager().ListOverlays() if n == "soft")
    return [{k: str(v) if k == "who" else v for k, v in d.items()} for d in daemon.properties(path, "org.ovlfind1.Overlay")["Draining"]]


def records(daemon):
    return os.listdir(os.path.join(daemon.state, "draining", "soft"))


@pytest.mark.parametrize("victim", ["daemon", "worker"])
def test_an_old_superblock_is_looked_after_again(scene, source, victim):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    write(overlay / "local")
    with contextlib.closing(Shell(overlay / "t/d1")) as shell:
        with open(overlay / "local", "r+b") as f:
            daemon.ctl("remount", "soft", "--method=swap", "--force").ok()
            wait_for(lambda: draining(daemon), "draining")
            if victim == "daemon":
                daemon.restart()
            else:
                before = daemon.workers()
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                wait_for(lambda: not set(before) & set(daemon.workers()), "the worker to be gone")
            state = wait_for(lambda: draining(daemon), "draining again")[0]
            assert not state["read_only"] and str(shell.process.pid) in state["who"], state
            f.write(b"not lost")
        wait_for(lambda: draining(daemon)[0]["read_only"], "the old superblock to be read-only")
        assert "Read-only" in shell.do("touch new 2>&1 || true")
        write(overlay / "t/d1/new")
    wait_for(lambda: not draining(daemon) and not records(daemon), "the old superblock to go")
    with open(overlay / "local", "rb") as f:
        assert f.read().startswith(b"not lost")
    daemon.restart()
    assert not draining(daemon)


def test_an_old_superblock_that_nobody_seems_to_hold_is_looked_after_again(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("remount", "soft", "--method=swap").ok()
    old = set(overlay.swap_workdirs())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = os.open(overlay / "t/d1", os.O_PATH)
        socket.send_fds(ours, [b"a directory"], [fd])
        os.close(fd)
        daemon.ctl("remount", "soft", "--method=swap", "--force").ok()
        daemon.restart()
        assert wait_for(lambda: draining(daemon), "a look at who holds the old superblock")[0]["who"] == "something that /proc does not show"
        assert old < set(overlay.swap_workdirs())
    wait_for(lambda: not old & set(overlay.swap_workdirs()) and not records(daemon), "the work directory of the old superblock to go")


def test_a_work_directory_that_a_survey_looks_at_is_removed_after_all(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("remount", "soft", "--method=swap").ok()
    old = set(overlay.swap_workdirs())
    work = os.open(os.path.join(os.path.dirname(overlay.upper.work), *old), os.O_RDONLY)
    fcntl.flock(work, fcntl.LOCK_EX)  # as a survey does for a moment
    with open(overlay / "t/d1/f1", "rb"):
        daemon.ctl("remount", "soft", "--method=swap").ok()
    wait_for(lambda: draining(daemon) and draining(daemon)[0]["who"] == "something that /proc does not show", "the work directory to be waited for")
    assert old < set(overlay.swap_workdirs()) and records(daemon)
    os.close(work)
    wait_for(lambda: not old & set(overlay.swap_workdirs()) and not records(daemon), "the work directory of the old superblock to go")


def test_an_old_superblock_in_another_namespace_is_found_again(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    with subprocess.Popen(["unshare", "-m", "sh", "-c", "echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hermit:
        try:
            assert hermit.stdout.readline() == b"ready\n"
            daemon.ctl("remount", "soft", "--method=swap", "--force").ok()
            daemon.restart()
            wait_for(lambda: draining(daemon) and draining(daemon)[0]["read_only"], "draining")
        finally:
            hermit.stdin.close()
    wait_for(lambda: not draining(daemon) and not records(daemon), "the old superblock to go")


def test_a_swap_that_was_killed_before_it_changed_anything_leaves_nothing_to_look_after(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=overlay)
    with contextlib.closing(Shell(overlay / "t/d1")) as shell:
        daemon.arm(3, call="beneath", hold=True)
        job = daemon.manager().Remount("soft", dbus.Dictionary({"method": "swap"}, signature="sv"))
        assert daemon.held(job) and len(records(daemon)) == 1
        daemon.process.kill()
        daemon.process.wait()
        daemon.start()
        wait_for(lambda: records(daemon) == [] and daemon.overlay_states() == {"soft": "active"}, "the record to go")
        assert not draining(daemon)
        assert shell.do("touch new && echo made").strip() == "made"
    daemon.release(everything=True)


def test_a_swap_that_was_killed_during_its_proof_leaves_no_mark(scene, plain):
    daemon = scene.daemon(killer=True, soft=plain)
    daemon.arm(2, call="fsetxattr", parent=True)  # the first is a check
    daemon.ctl("remount", "soft", "--method=swap", SET)
    daemon.process.wait(100)
    assert os.listxattr(plain.point)
    daemon.start()
    wait_for(lambda: daemon.overlay_states() == {"soft": "refused"}, "the survey")
    assert not os.listxattr(plain.point)
