# SPDX-License-Identifier: LGPL-2.1-or-later
"""remount --method=swap: a running overlay gets another superblock, and nobody notices."""

import ast
import contextlib
import ctypes
import errno
import os
import subprocess
import sys

import dbus
import pytest

from ovltest import assert_same, run, snapshot
from ovltest.daemon import wait_for
from ovltest.env import SWEEP, is_sanitized, mount, overlay_takes_any_path, spawn
from ovltest.holders import Fifo, Listener, Locks, OpenFile, Running, Shell
from ovltest.tree import age, write

SET = "--set=metacopy=on,redirect_dir=on"


def mounts(point):
    """Lines of the mount table for a mount point, the topmost last."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return [line.split() for line in f if line.split()[4] == point]


def options(point):
    return mounts(point)[-1][-1].split(",")


def draining(daemon):
    path = next(p for n, p in daemon.manager().ListOverlays() if n == "soft")
    return daemon.properties(path, "org.ovlfind1.Overlay")["Draining"]


@pytest.fixture
def source(scene):
    top = scene.source()
    for i in range(20):
        write(os.path.join(top, "t", f"d{i % 4}", f"f{i}"), f"content {i}\n".encode())
    Running.install(os.path.join(top, "t", "program"))
    age(top)
    return top


@pytest.fixture
def plain(scene, source):
    """An overlay as most are: mounted without what finalizing needs."""
    return scene.overlay(source, metacopy=None, redirect_dir=None)


@pytest.mark.beneath
def test_swap_to_options_that_finalizing_needs_with_readers_inside(scene, plain):
    daemon = scene.daemon(soft=plain)
    assert daemon.overlay_states() == {"soft": "refused"}
    held = [scene.keep(h) for h in (OpenFile(plain / "t/d1/f1"), Running(plain / "t/program"), Shell(plain / "t/d2"))]
    before = snapshot(plain / "t")
    readers = scene.readers(plain.point)
    daemon.ctl("remount", "soft", "--method=swap", SET).ok()
    totals = readers.close()
    assert totals.operations > 0 and (totals.failures, totals.messages) == (0, []), totals
    assert len(mounts(plain.point)) == 1
    assert {"metacopy=on", "redirect_dir=on"} <= set(options(plain.point))
    held[0].check()
    assert held[1].process.poll() is None
    assert held[2].do("cat f2").strip() == "content 2"
    assert_same(before, snapshot(plain / "t"))
    wait_for(lambda: daemon.overlay_states() == {"soft": "active"}, "the overlay to be active")
    daemon.ctl("finalize", plain / "t").ok()
    assert daemon.state_of(plain / "t") == "finalized"
    wait_for(lambda: draining(daemon), "the first look at who still uses the old superblock")
    assert "draining" in daemon.ctl("status", "soft").ok().out.lower()
    who = str(draining(daemon)[0]["who"])
    assert str(held[2].process.pid) in who or "others" in who, who
    for h in held:
        h.close()
    wait_for(lambda: not draining(daemon), "the old superblock to go")
    assert len(plain.swap_workdirs()) == 1


@pytest.mark.beneath
def test_forgotten_while_a_swap_waits(scene, plain):
    """An overlay that is not configured any more takes along what should have mended it, and the daemon goes on."""
    daemon = scene.daemon(soft=plain)
    with open(plain / "t/written", "wb"):
        waiting = daemon.start_ctl("remount", "soft", "--method=swap", SET)
        wait_for(lambda: [p for _, p in daemon.manager().ListJobs() if daemon.job(p)["State"] == "waiting"], "the job to wait")
        os.unlink(os.path.join(daemon.overlays_d, "soft.conf"))
        daemon.manager().Reload()
        _, err = waiting.communicate(timeout=200)
        assert waiting.returncode != 0 and "not configured any more" in err, err
    assert daemon.overlay_states() == {}
    wait_for(lambda: not daemon.workers(), "its worker to end")
    assert len(mounts(plain.point)) == 1 and not plain.swap_workdirs()


@pytest.mark.beneath
def test_configured_options_are_swapped_in_without_being_asked_for(scene, plain):
    daemon = scene.daemon(soft=(plain, {"Remount": {"Options": "metacopy=on,redirect_dir=on"}}))
    wait_for(lambda: daemon.overlay_states() == {"soft": "active"}, "the swap")
    assert {"metacopy=on", "redirect_dir=on"} <= set(options(plain.point))
    wait_for(lambda: not draining(daemon), "the old superblock to go")
    daemon.restart()
    assert len(plain.swap_workdirs()) == 1, "swapped again although it has the options"


def test_what_cannot_be_swapped_is_refused_and_left_alone(scene, source):
    indexed = scene.overlay(source, index="on", nfs_export="off")
    volatile = scene.overlay(source, volatile=True)
    good = scene.overlay(source)
    # Which they are not for want of mounting beneath.
    overlays = {"indexed": indexed, "volatile": volatile, "good": good}
    daemon = scene.daemon(**{name: (o, {"Remount": {"CoverOld": "yes"}}) for name, o in overlays.items()})
    for name, overlay, arguments, reason in (
            ("indexed", indexed, (), "index=on"), ("volatile", volatile, (), "volatile"),
            ("good", good, ("--set=index=on",), "cannot be set"), ("good", good, ("--set=redirect_dir=off",), "needs redirect_dir"),
            # Without the new mount API the kernel says what it minds in its log only.
            ("good", good, ("--set=xino=maybe",), "xino" if overlay_takes_any_path() else "does not take the options")):
        before = mounts(overlay.point)
        result = daemon.ctl("remount", name, "--method=swap", *arguments)
        assert result.code != 0 and reason in result.err, (name, arguments, result.err)
        assert mounts(overlay.point) == before and not overlay.swap_workdirs()


def test_reconfigure_makes_new_lower_names_visible(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    before = mounts(overlay.point)
    assert not os.path.exists(overlay / "t/new")
    with open(os.path.join(source, "t", "new"), "w", encoding="ascii"):
        pass
    assert not os.path.exists(overlay / "t/new"), "nothing is cached: this test tells nothing"
    daemon.ctl("remount", "soft", "--method=reconfigure").ok()
    assert os.path.exists(overlay / "t/new")
    assert mounts(overlay.point) == before


@pytest.mark.beneath
def test_mounts_inside_come_along_and_stay_what_they_were(scene, plain):
    daemon = scene.daemon(soft=plain)
    inner, deep = plain / "t/d1", plain / "t/d1/deep"
    mount("inner", inner, "tmpfs", 2, "size=1m")  # nosuid
    os.mkdir(deep)
    mount("deep", deep, "tmpfs", 0, "size=1m")
    write(os.path.join(deep, "x"))
    before = [line[2:6] for line in mounts(inner) + mounts(deep)]
    readers = scene.readers(inner)
    daemon.ctl("remount", "soft", "--method=swap", SET).ok()
    assert readers.close().failures == 0
    assert [line[2:6] for line in mounts(inner) + mounts(deep)] == before
    assert os.path.exists(os.path.join(deep, "x"))
    run("umount", deep)
    run("umount", inner)
    assert os.path.exists(plain / "t/d1/f1")


@pytest.mark.beneath
def test_the_old_superblock_is_read_only_once_nobody_writes_through_it(scene, plain):
    daemon = scene.daemon(soft=plain)
    write(plain / "local")
    with open(plain / "local", "r+b") as f:
        result = daemon.ctl("remount", "soft", "--method=swap", SET, "--force")
        result.ok()
        state = wait_for(lambda: draining(daemon), "draining")[0]
        assert not state["read_only"]
        f.write(b"through the old one")
        f.flush()
        with open(plain / "local", "rb") as g:
            assert g.read().startswith(b"through the old one")
    wait_for(lambda: not draining(daemon), "the old superblock to go")


class Watch:
    """An inotify watch."""

    def __init__(self, path):
        libc = ctypes.CDLL(None)
        self.fd = libc.inotify_init()
        assert libc.inotify_add_watch(self.fd, os.fsencode(path), 2) > 0

    def close(self):
        os.close(self.fd)


def made(path, make, *args):
    make(path, *args)
    return path


BLOCKERS = {
    "open-write": lambda top: open(made(top / "local", write), "r+b"),
    "lock": lambda top: Locks(top / "t/d1/f1", top / "t/d1/f5"),
    "socket": lambda top: Listener(top / "socket"),
    "fifo": lambda top: Fifo(made(top / "fifo", os.mkfifo)),
    "watch": lambda top: Watch(top / "t"),
}


@pytest.mark.beneath
@pytest.mark.parametrize("kind", BLOCKERS)
def test_a_swap_waits_for_whom_it_would_cut_apart_or_does_not(scene, plain, kind):
    daemon = scene.daemon(soft=plain)
    with contextlib.closing(BLOCKERS[kind](plain)):
        job = daemon.manager().Remount("soft", dbus.Dictionary({"method": "swap"}, signature="sv"))
        daemon.wait_job(job, ("waiting",))
        assert kind in str(daemon.job(job)["Notes"][0])
        assert len(mounts(plain.point)) == 1 and not plain.swap_workdirs()
    assert daemon.wait_job(job)["State"] == "done"
    wait_for(lambda: not draining(daemon), "the old superblock to go")
    for name in ("socket", "fifo", "local"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(plain / name)
    with contextlib.closing(BLOCKERS[kind](plain)) as holder:
        daemon.ctl("remount", "soft", "--method=swap", "--force").ok()
        if kind == "open-write":
            holder.write(b"not lost")
            holder.flush()
            with open(plain / "local", "rb") as f:
                assert f.read().startswith(b"not lost")
        wait_for(lambda: draining(daemon), "draining")
    wait_for(lambda: not draining(daemon), "the old superblock to go")


def test_a_kernel_that_cannot_mount_beneath(scene, plain):
    daemon = scene.daemon(killer=True, soft=plain)
    daemon.arm(1, call="beneath", error=errno.EINVAL, always=True)
    result = daemon.ctl("remount", "soft", "--method=swap", SET)
    assert result.code != 0 and "CoverOld=yes" in result.err
    assert not plain.swap_workdirs()
    daemon.add_overlay("soft", plain.point, Remount={"CoverOld": "yes"})
    daemon.ctl("reload").ok()
    wait_for(lambda: not daemon.workers(), "the survey after the failure")
    readers = scene.readers(plain.point)
    daemon.arm(1, call="beneath", error=errno.EINVAL, always=True)
    daemon.ctl("remount", "soft", "--method=swap", SET).ok()
    assert readers.close().failures == 0
    assert len(mounts(plain.point)) == 2 and "metacopy=on" in options(plain.point)
    # Once: a stack that grows is a leak.
    daemon.arm(1, call="beneath", error=errno.EINVAL, always=True)
    result = daemon.ctl("remount", "soft", "--method=swap")
    assert result.code != 0 and "unmount it twice and mount it anew" in result.err
    plain.umount()
    plain.umount()
    plain.options.update(metacopy="on", redirect_dir="on")
    plain.mount()
    wait_for(lambda: daemon.overlay_states() == {"soft": "active"}, "the overlay to be active")
    daemon.arm(1, call="beneath", error=errno.EINVAL, always=True)
    daemon.ctl("remount", "soft", "--method=swap").ok()
    assert len(mounts(plain.point)) == 2


MOST = 400  # gaps


@pytest.mark.beneath
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["worker", "daemon"])
def test_killed_between_any_two_steps_of_a_swap(scene, plain, victim, capsys):
    daemon = scene.daemon(killer=True, soft=plain)
    mount("inner", plain / "t/d3", "tmpfs", 0, "size=1m")
    write(plain / "t/d3/inside")
    write(plain / "local")
    before = snapshot(plain / "t")
    readers = scene.readers(plain / "t", processes=2)
    struck = []
    for n in range(0, MOST, SWEEP):
        daemon.arm(n, parent=victim == "daemon")
        result = daemon.ctl("remount", "soft", "--method=swap", SET)
        at = daemon.struck()
        if at is None:
            result.ok()
            break
        struck.append(at)
        # Before anybody cleans up: one overlay answers, and no path fails.
        assert_same(before, snapshot(plain / "t"))
        if victim == "daemon":
            daemon.process.wait(100)
            daemon.start()
        else:
            daemon.restart()
        try:
            wait_for(lambda: len(mounts(plain.point)) == 1, "one mount")
            current = next(o for o in options(plain.point) if o.startswith("workdir=")).rpartition("/")[2]
            wait_for(lambda: set(plain.swap_workdirs()) <= {current}, f"{plain.swap_workdirs()} to be removed, but for {current}")
            assert_same(before, snapshot(plain / "t"))
            write(plain / f"created{n}")
            os.unlink(plain / f"created{n}")
        except Exception as e:
            raise AssertionError(f"after {victim} was killed at {at}: {e}") from e
    else:
        raise AssertionError(f"{MOST} gaps are not enough")
    assert readers.close().failures == 0
    with capsys.disabled():
        print(f"\nswap, {victim} killed in each of {len(struck)} gaps: {', '.join(struck)}")
    assert SWEEP > 1 or {"beneath", "umount2"} <= {s.split()[1] for s in struck}
    assert len(struck) > 20 // SWEEP


WRITER = """
import collections, errno, os, sys
top, failures, n = sys.argv[1], collections.Counter(), 0
print("ready", flush=True)
while os.path.exists(sys.argv[2]):
    n += 1
    a, b = f"{top}/file{n}", f"{top}/renamed{n}"
    steps = [("create", lambda: open(a, "x").write("content")), ("rename", lambda: os.rename(a, b)),
             ("read", lambda: open(b).read() == "content" or sys.exit("wrong content")), ("unlink", lambda: os.unlink(b)),
             ("mkdir", lambda: os.mkdir(a)), ("rename directory", lambda: os.rename(a, b)), ("rmdir", lambda: os.rmdir(b))]
    for what, step in steps:
        try:
            step()
        except OSError as e:
            failures[f"{what}: {errno.errorcode[e.errno]}"] += 1
            if what.startswith("rename") and e.errno == errno.EXDEV:
                step()  # as mv would
print(n, dict(failures), flush=True)
"""


def kernel_objects(daemon):
    """What a leak would add to."""
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as f:
        memory = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return {"mounts": len(f.readlines()), "descriptors": len(os.listdir(f"/proc/{daemon.process.pid}/fd")), "kib": memory}


@pytest.mark.beneath
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_swaps_in_a_row_leak_nothing(scene, plain, capsys):
    n_swaps = int(os.environ.get("OVLFIND_SWAPS", "25"))
    daemon = scene.daemon(soft=plain)
    running = os.path.join(scene.dir, "running")
    write(running)
    os.mkdir(plain / "scratch")
    readers = scene.readers(plain / "t", processes=4)
    writer = spawn(sys.executable, "-c", WRITER, plain / "scratch", running, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                   text=True)
    assert writer.stdout.readline() == "ready\n"
    before = None
    for i in range(n_swaps):
        option = ("metacopy=on,redirect_dir=on", "metacopy=off,redirect_dir=on")[i % 2]
        daemon.ctl("remount", "soft", "--method=swap", f"--set={option}", "--force").ok()
        assert option.split(",", maxsplit=1)[0] in options(plain.point) or i % 2
        if i == 4:
            wait_for(lambda: not draining(daemon) and not daemon.workers(), "old superblocks to go")
            before = kernel_objects(daemon)
    os.unlink(running)
    operations, _, failures = writer.communicate(timeout=200)[0].partition(" ")
    totals = readers.close()
    wait_for(lambda: not draining(daemon) and not daemon.workers(), "old superblocks to go")
    # One may be open for a moment, as it may have been before; what leaks stays.
    after = wait_for(lambda: (k := kernel_objects(daemon))["mounts"] <= before["mounts"] and
                     k["descriptors"] <= before["descriptors"] and k, lambda: f"{before} -> {kernel_objects(daemon)}")
    with capsys.disabled():
        print(f"\n{n_swaps} swaps: {totals.operations} reads, {totals.failures} failed; {operations} rounds of a writer, "
              f"failed: {failures.strip()}; {before} -> {after}")
    assert (totals.failures, totals.messages) == (0, [])
    # Both paths of a rename may be resolved on either side of a swap.
    assert set(ast.literal_eval(failures)) <= {"rename: EXDEV", "rename directory: EXDEV"}
    # Sanitizers keep what is freed for a while.
    assert is_sanitized() or after["kib"] < before["kib"] + 2048
    wait_for(lambda: len(plain.swap_workdirs()) == 1, "old work directories to go")
