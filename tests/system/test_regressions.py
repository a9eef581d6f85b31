# SPDX-License-Identifier: LGPL-2.1-or-later
"""What went wrong once, or was found by thinking about what could: bad moments to be killed, renames at the worst time,
mounts where nobody looks."""

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import dbus
import pytest

from ovltest import assert_same, run, snapshot
from ovltest.daemon import wait_for
from ovltest.env import SWEEP, end, redirect_max, spawn
from ovltest.holders import Shell
from ovltest.oldtree import KEEP, await_gone, await_kept, await_removed, kept_files, surviving, traces
from ovltest.tree import age, hard_links, small_tree, write

P, D = "p", "p/d"

pytestmark = pytest.mark.killer


@pytest.fixture
def source(scene):
    top = scene.source()
    small_tree(os.path.join(top, D))
    for name in ("other", "third"):
        write(os.path.join(top, P, name, "file"))
    age(top)
    return top


def entries(daemon):
    return {e["path"]: e for e in daemon.ctl("directories", "--json=short").ok().json["directories"]}


def content(path):
    with open(path, "rb") as f:
        return f.read()


# Killed at a bad moment, while users work on

@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("call,ns", [("unlinkat", (1, 2, 4, 7, 11)), ("renameat2", (1, 2, 4, 8)),
                                     ("openat", (1, 4)), ("linkat", (1, 8))])
def test_killed_while_somebody_works_in_the_old_tree(scene, call, ns):
    """The worker that keeps an old tree dies between taking something out of D and deleting it; users have put things of
    their own into what it was about to delete. They are all still there, if need be in staging."""
    source = scene.source()
    for n in ns:
        small_tree(os.path.join(source, P, f"d{n}"))
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(killer=True, soft=(overlay, {"CopyUp": {"Workers": "2"}, "Finalize": KEEP}))
    struck = []
    for n in ns[::SWEEP]:
        d = overlay / f"{P}/d{n}"
        shell = scene.keep(Shell(d))
        daemon.arm(n, call=call)
        daemon.ctl("finalize", d)
        write(os.path.join(d, "by-path"), b"by path %d" % n)
        write(os.path.join(d, "sub", "mydir", "mine"), b"mine %d" % n)
        shell.do(f"echo by cwd > by-cwd; mkdir new; echo new {n} > new/file")
        shell.do("rm -f f1 f2; mv f3 sub/f4; rm -rf sub/below; mv sub sub2; rm -rf sub2")
        write(os.path.join(d, "late"), b"late %d" % n)
        wait_for(lambda: os.path.lexists(os.path.join(d, "by-cwd")), f"what was made in {d}'s old tree ({call} {n})")
        shell.close()
        await_removed(overlay, daemon)
        for precious in (b"by path %d" % n, b"mine %d" % n, b"late %d" % n, b"new %d\n" % n):
            assert surviving(overlay, precious), f"{precious} is lost: killed at {daemon.struck()}"
        for name in ("by-path", "late", "new/file"):
            assert os.path.lexists(os.path.join(d, name)), f"{name}: killed at {daemon.struck()}"
        struck.append(daemon.struck())
    assert 2 * sum(map(bool, struck)) >= len(struck), struck
    daemon.restart()
    for n in ns[::SWEEP]:
        assert surviving(overlay, b"mine %d" % n)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("call,ns", [("unlinkat", (1, 2, 5, 9, 12)), ("exchange", (1,)), ("renameat2", (1,))])
def test_users_work_on_after_a_kill(scene, call, ns):
    """Worker and daemon die; until the next start users change what is there. That is theirs, not ours to clean up."""
    source = scene.source()
    for n in ns:
        small_tree(os.path.join(source, P, f"d{n}"))
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(killer=True, soft=(overlay, {"CopyUp": {"Workers": "1"}}))
    for n in ns:
        d = overlay / f"{P}/d{n}"
        daemon.arm(n, parent=True, call=call)
        assert daemon.ctl("finalize", d).code != 0 and daemon.struck(), n
        daemon.process.wait(100)
        daemon.start(survey=False)  # the workers of the first one are gone by then
        daemon.kill()
        os.unlink(os.path.join(d, "f1"))
        os.rename(os.path.join(d, "f2"), os.path.join(d, "moved"))
        write(os.path.join(d, "sub", "mine"), b"mine %d" % n)
        os.rename(os.path.join(d, "sub"), os.path.join(d, "sub2"))
        write(os.path.join(d, "sub", "new"), b"new %d" % n)
        before = snapshot(d)
        daemon.start()
        await_removed(overlay, daemon)
        assert_same(before, snapshot(d), ignore={"nlink", "mtime"})
        daemon.ctl("finalize", d).ok()
        assert_same(before, snapshot(d), ignore={"nlink", "mtime"})
        await_removed(overlay, daemon)


def test_replaced_at_the_moment_of_the_exchange(overlay, daemon):
    """Between the last look and the exchange D becomes another directory; and again before that is put right."""
    write(overlay / f"{P}/d2/precious", b"precious")
    daemon.arm(1, call="exchange", hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    os.rename(overlay / D, overlay / f"{P}/d.bak")
    os.rename(overlay / f"{P}/d2", overlay / D)
    daemon.release()
    if daemon.held(job):  # about to exchange back
        os.rename(overlay / D, overlay / f"{P}/d.x")
        os.mkdir(overlay / D)
        write(overlay / f"{D}/third", b"third")
    daemon.release(everything=True)
    daemon.wait_job(job)
    daemon.restart()
    wait_for(lambda: daemon.kept() == 0, "the old tree to go")
    for precious in (b"precious", b"third", content(os.path.join(overlay.lowers[0], D, "f1"))):
        assert surviving(overlay, precious), f"{precious} is lost"


def test_removed_at_the_moment_of_the_exchange(overlay, daemon):
    daemon.arm(1, call="exchange", hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    shutil.rmtree(overlay / D)
    daemon.release(everything=True)
    assert daemon.wait_job(job)["State"] == "failed"
    assert not os.path.lexists(overlay / D)
    await_gone(overlay, daemon)


def start_job(daemon, verb, path):
    daemon.ctl("--no-block", verb, path).ok()
    return daemon.manager().ListJobs()[-1][1]


@pytest.mark.parametrize("verb", ["finalize", "unfinalize"])
def test_what_was_moved_in_moves_out_again(overlay, daemon, verb):
    """Merged directories that were moved into a finalized one are work of their own; one is gone when its turn comes."""
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    for name in ("other", "third"):
        os.rename(overlay / f"{P}/{name}", overlay / f"{D}/{name}")
    daemon.arm(1, call="exchange", hold=True)
    job = start_job(daemon, verb, overlay / D)
    assert daemon.held(job)
    for name in ("other", "third"):
        os.rename(overlay / f"{D}/{name}", overlay / f"{P}/{name}")
    daemon.release(everything=True)
    properties = daemon.wait_job(job)
    assert properties["State"] == "done", properties
    assert not {"other", "third"} & set(os.listdir(overlay / D))


@pytest.mark.parametrize("moved", ["other", "third"])
def test_renamed_when_it_is_its_turn(overlay, daemon, moved):
    """Done means all of them, wherever they are by then."""
    for name in ("other", "third"):
        daemon.ctl("finalize", overlay / f"{P}/{name}").ok()
    await_gone(overlay, daemon)
    daemon.arm(1, call="exchange", hold=True)
    job = start_job(daemon, "unfinalize", overlay / P)
    assert daemon.held(job)
    os.rename(overlay / f"{P}/{moved}", overlay / f"{P}/z")
    daemon.release(everything=True)
    properties = daemon.wait_job(job)
    states = {name: daemon.state_of(overlay / f"{P}/{name}") for name in {"other", "third", "z"} - {moved}}
    assert (properties["State"], "finalized" in states.values()) == ("done", False), states


@pytest.mark.parametrize("times", [1, 9])
def test_moved_in_and_renamed_when_it_is_its_turn(overlay, daemon, times):
    """The same the other way round; there is an end to patience."""
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    os.rename(overlay / f"{P}/other", overlay / f"{D}/m0")
    daemon.arm(1, call="exchange", hold=True)
    job = start_job(daemon, "finalize", overlay / D)
    n = 0
    while n < times and daemon.held(job):
        os.rename(overlay / f"{D}/m{n}", overlay / f"{D}/m{n + 1}")
        n += 1
        daemon.release()
    daemon.release(everything=True)
    properties = daemon.wait_job(job)
    state = daemon.state_of(overlay / f"{D}/m{n}")
    if times == 1:
        assert (properties["State"], state) == ("done", "finalized")
    else:
        assert properties["ErrorName"] == "org.ovlfind1.Error.Busy" and "renamed" in properties["ErrorMessage"], properties


@pytest.mark.parametrize("there,gone", [
    (lambda d: os.rename(d / "sub", d / "z"), lambda d: shutil.rmtree(d / "z")),
    (lambda d: os.rename(d / "sub/below", d / "below"), lambda d: shutil.rmtree(d / "below")),
    (lambda d: (os.unlink(d / "f1"), os.rename(d / "sub", d / "f1")), lambda d: shutil.rmtree(d / "f1")),
    (lambda d: (shutil.rmtree(d / "sub"), os.rename(d / "f1", d / "sub")), lambda d: os.unlink(d / "sub")),
], ids=["directory", "up", "directory over a file", "file over a directory"])
def test_names_that_go_at_the_moment_of_the_exchange(scene, overlay, there, gone):
    """Names of the lower that something was moved away from, or to, do not come back when the directory is unfinalized."""
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": {"QuietSec": "0"}}))
    daemon.arm(1, call="exchange", hold=True)
    job = daemon.finalize(overlay / D)
    ticks = 0
    while not daemon.struck():  # what changes while the new tree is built makes it write its record once more
        write(overlay / f"{D}/tick", b"%d" % ticks)
        os.rename(overlay / f"{D}/tick", overlay / f"{D}/tock{ticks % 2}")
        ticks += 1
    there(Path(overlay / D))
    daemon.release(everything=True)
    assert daemon.wait_job(job)["State"] == "done" and ticks > 2
    await_gone(overlay, daemon)
    gone(Path(overlay / D))
    before = snapshot(overlay / D)
    daemon.ctl("unfinalize", overlay / D).ok()
    await_gone(overlay, daemon)
    assert_same(before, snapshot(overlay / D), ignore={"nlink", "mtime"})


# Renames while the new tree is built

@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("call", ["fchmod", "mkdirat", "linkat", "fchown", "utimensat", "futimens"])
def test_a_directory_renamed_while_it_is_copied(scene, call):
    """mv sub sub2 at any time of the build: whatever becomes of the job, every directory keeps owner and mode."""
    source = scene.source()
    ns = (1, 2, 3, 5, 8, 13)
    for n in ns:
        for i in range(6):
            d = os.path.join(source, P, f"d{n}", "sub", f"d{i}")
            write(os.path.join(d, "file"), mode=0o640)
            os.chmod(d, 0o2750)
            os.chown(d, 12, 34)
        os.chmod(os.path.join(source, P, f"d{n}", "sub"), 0o751)
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(killer=True, soft=(overlay, {"CopyUp": {"Workers": "2"}, "Finalize": {"QuietSec": "100ms"}}))
    held = []
    for n in ns[::SWEEP]:
        d = overlay / f"{P}/d{n}"
        before = snapshot(os.path.join(d, "sub"))
        daemon.arm(n, call=call, hold=True)
        job = daemon.finalize(d)
        was_held = daemon.held(job)
        held.append(was_held)
        os.rename(os.path.join(d, "sub"), os.path.join(d, "sub2"))
        daemon.release(everything=True)
        properties = daemon.wait_job(job)
        after = snapshot(os.path.join(d, "sub2"))
        assert_same(before, after, ignore={"nlink", "mtime"} if was_held else {"nlink"})
        assert os.listdir(d) == ["sub2"], properties
    assert 2 * sum(held) >= len(held), held
    await_gone(overlay, daemon)


def test_a_directory_replaced_while_it_is_copied(scene, lower):
    """rmdir and mkdir give a new directory the inode number of the removed one."""
    overlay = scene.overlay(lower, upper="ext4-512")
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"QuietSec": "1s", **KEEP}}))
    shell = scene.keep(Shell(overlay / D))
    os.mkdir(overlay / f"{D}/new")
    for _ in range(3):
        os.unlink(write(overlay / f"{D}/new/changed-just-now"))
        job = daemon.finalize(overlay / D)
        wait_for(lambda: daemon.job(job)["State"] == "waiting", "the job to wait for quiet", step=0.005)
        os.rmdir(overlay / f"{D}/new")
        os.mkdir(overlay / f"{D}/new", 0o700)
        write(overlay / f"{D}/new/precious", b"precious")
        assert daemon.wait_job(job)["State"] == "done"
        assert content(overlay / f"{D}/new/precious") == b"precious"
        assert stat.S_IMODE(os.lstat(overlay / f"{D}/new").st_mode) == 0o700
        shell.ask("cd /")
        await_gone(overlay, daemon)
        assert os.listdir(overlay / f"{D}/new") == ["precious"]
        os.unlink(overlay / f"{D}/new/precious")
        daemon.ctl("unfinalize", overlay / D).ok()
        await_gone(overlay, daemon)
        shell.do(f"cd {overlay / D}")


# Records

def test_another_upper_seen_once(scene, lower, overlay, daemon):
    """Somebody mounts something else at the mount point for a while: the records of the first one are not lost."""
    write(overlay / f"{D}/deleted-later")
    os.unlink(overlay / f"{D}/f1")
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    os.unlink(overlay / f"{D}/f2")
    before = snapshot(overlay / D)
    overlay.umount()
    wait_for(lambda: daemon.overlay_states()["soft"] == "absent", "the overlay to go")
    first, overlay.upper = overlay.upper, scene.upper()
    overlay.mount()
    wait_for(lambda: daemon.overlay_states()["soft"] == "active", "the other one to be looked through")
    assert daemon.state_of(overlay / D) == "merged"
    daemon.ctl("finalize", overlay / f"{P}/other").ok()
    overlay.umount()
    wait_for(lambda: daemon.overlay_states()["soft"] == "absent", "the overlay to go")
    overlay.upper = first
    overlay.mount()
    wait_for(lambda: daemon.overlay_states()["soft"] == "active", "the first one to come back")
    assert daemon.state_of(overlay / D) == "finalized"
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})


# Waiting

def test_standing_wait_goes_on_by_itself(scene, lower, overlay):
    """Standing=wait: the job waits and can be canceled, follows what happens, and goes on when the last one has left."""
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"Standing": "wait"}}))
    shells = [scene.keep(Shell(overlay / d)) for d in (D, f"{D}/sub")]
    job = daemon.finalize(overlay / D)
    wait_for(lambda: daemon.job(job)["State"] == "waiting", "the job to wait")
    shells[1].do("echo made > made; rm g1; mkdir newdir; echo more > newdir/file")
    shells[0].close()
    assert shells[1].do("pwd -P").strip() == overlay / f"{D}/sub"
    assert daemon.job(job)["State"] == "waiting"
    before = snapshot(overlay / D)
    shells[1].close()
    assert daemon.wait_job(job)["State"] == "done"
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})
    assert daemon.kept() == 0
    assert scene.absent_lookups(lower, [overlay / D, overlay / f"{D}/sub"], 5).enoent == 0
    shell = scene.keep(Shell(overlay / f"{P}/other"))
    job = daemon.finalize(overlay / f"{P}/other")
    wait_for(lambda: daemon.job(job)["State"] == "waiting", "the job to wait")
    daemon.ctl("cancel", str(job).rpartition("/")[2]).ok()
    assert daemon.wait_job(job)["State"] == "canceled"
    shell.do("test -e file")
    await_gone(overlay, daemon)


class Changer:
    """Makes and removes a name every 100 ms."""

    def __init__(self, directory):
        self.path, self.last, self._stop = os.path.join(directory, "changing"), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for(lambda: self.last, "the first change")

    def _run(self):
        while not self._stop.wait(0.1):
            self.last = time.monotonic()
            write(self.path)
            os.unlink(self.path)

    def close(self):
        self._stop.set()
        self._thread.join()


def test_quiet_sec(scene, overlay):
    """A directory in which names change waits, and is done when it has been quiet for that long."""
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"QuietSec": "1s"}}))
    changer = scene.keep(Changer(overlay / f"{D}/sub"))
    inode = os.lstat(overlay / D).st_ino
    job = daemon.finalize(overlay / D)
    wait_for(lambda: daemon.job(job)["State"] == "waiting", "the job to wait")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert daemon.job(job)["State"] == "waiting" and os.lstat(overlay / D).st_ino == inode
        time.sleep(0.1)
    daemon.ctl("finalize", overlay / f"{P}/other").ok()  # does not wait for it
    changer.close()
    exchanged = wait_for(lambda: os.lstat(overlay / D).st_ino != inode and time.monotonic(), "the exchange", step=0.005)
    assert exchanged - changer.last >= 0.95
    assert daemon.wait_job(job)["State"] == "done"


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.skipif(SWEEP > 1, reason="mostly waits")
def test_never_quiet(scene, overlay):
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"QuietSec": "1s"}}))
    scene.keep(Changer(overlay / f"{D}/sub"))
    before = snapshot(overlay / f"{P}/other")
    inode = os.lstat(overlay / D).st_ino
    job = daemon.wait_job(daemon.finalize(overlay / D), timeout=150)
    assert (job["State"], job["ErrorName"]) == ("failed", "org.ovlfind1.Error.Busy")
    assert "quiet" in job["ErrorMessage"] and os.lstat(overlay / D).st_ino == inode
    assert daemon.state_of(overlay / D) != "finalized"
    assert_same(before, snapshot(overlay / f"{P}/other"))
    await_gone(overlay, daemon)


# Links and mounts

def test_broken_hard_links(scene, source):
    hard_links(os.path.join(source, D, "sub"))
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"HardLinks": "break"}}))
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    for d in (D, f"{D}/sub", f"{D}/sub/below"):
        assert daemon.ctl("is-finalized", overlay / d).code == 0
    await_gone(overlay, daemon)
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})
    daemon.restart()
    assert daemon.ctl("is-finalized", overlay / D).code == 0
    assert entries(daemon)[overlay / f"{D}/sub"]["state"] == "finalized"


class OtherNamespace:
    """A process in a mount namespace of its own, where it runs a command first."""

    def __init__(self, *command):
        program = "import subprocess,sys\nsubprocess.run(sys.argv[1:], check=True)\nprint('ready', flush=True)\nsys.stdin.read()"
        self.process = spawn("unshare", "-m", "--propagation", "private", sys.executable, "-c", program, *command,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def close(self):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()


def test_a_mount_in_another_namespace(scene, overlay, daemon, lower):
    """It would be taken along by an exchange, and nobody in this namespace sees it."""
    other = scene.keep(OtherNamespace("mount", "-t", "tmpfs", "inner", overlay / f"{D}/sub/below"))
    result = daemon.ctl("finalize", overlay / D)
    listed = entries(daemon)
    assert listed[overlay / D]["state"] == "excluded" and "mount" in listed[overlay / D]["reason"], result
    assert daemon.ctl("is-finalized", overlay / D).code == 1
    p = run("nsenter", "-t", other.process.pid, "-m", "stat", "-f", "-c", "%T", overlay / f"{D}/sub/below", check=False)
    assert p.stdout.strip() == "tmpfs"
    other.close()
    daemon.ctl("finalize", overlay / D).ok()
    assert scene.absent_lookups(lower, [overlay / D, overlay / f"{D}/sub"], 5).enoent == 0


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_bind_mount_of_a_child(scene, overlay, daemon, lower, where):
    """It would go on showing the old tree: that directory stays as it is, its siblings need not."""
    target = scene.source()
    for name in ("one", "two"):
        write(overlay / f"{D}/{name}/file")
    if where == "here":
        run("mount", "--bind", overlay / f"{D}/sub", target)
    else:
        other = scene.keep(OtherNamespace("mount", "--bind", overlay / f"{D}/sub", target))
    try:
        daemon.ctl("finalize", overlay / D)
        listed = entries(daemon)
        sub = listed[overlay / f"{D}/sub"]
        assert sub["state"] == "pending" and "mount" in sub["reason"]
        assert target in sub["reason"]
        assert listed[overlay / D]["state"] == "pending"
        assert daemon.ctl("is-finalized", overlay / f"{D}/sub").code == 1
        # Below the bind mount, too, users of it would be left behind.
        write(overlay / f"{D}/sub/seen")
        if where == "here":
            assert os.path.exists(os.path.join(target, "seen"))
    finally:
        if where == "here":
            run("umount", target)
        else:
            other.close()
    daemon.ctl("finalize", overlay / D).ok()
    assert daemon.state_of(overlay / f"{D}/sub") == "finalized"


def test_siblings_of_a_bind_mount(scene, source, daemon, overlay, lower):
    target = scene.source()
    run("mount", "--bind", overlay / f"{D}/sub", target)
    try:
        result = daemon.ctl("finalize", overlay / P)
        listed = entries(daemon)
        assert listed[overlay / f"{D}/sub"]["state"] == "pending"
        assert listed[overlay / f"{P}/other"]["state"] == "finalized", result
        assert scene.absent_lookups(lower, overlay / f"{P}/other", 5).enoent == 0
    finally:
        run("umount", target)


@pytest.mark.parametrize("mode", ["-x", "-s"])
def test_the_limit_of_redirects_is_nobodys_to_lock(scene, mode):
    """Any user may open the module's parameter for reading, and lock it for as long as he likes."""
    source = scene.source()
    write(os.path.join(source, D, *["directory-with-a-rather-long-name"] * 12, "file"))
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=overlay)
    holder = spawn("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "flock", "-F", mode,
                   "/sys/module/overlay/parameters/redirect_max", "sh", "-c", "echo held; exec sleep 1000",
                   stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        daemon.ctl("finalize", overlay / D, timeout=20).ok()
        wait_for(lambda: redirect_max() == 256, "redirect_max to be set back")  # others may need it raised just now
    finally:
        end(holder)
        holder.stdout.close()


def test_nothing_is_left_in_staging_after_all_that(scene, overlay, daemon):
    """Finalize, undo, cancel, restart, over and over: nothing piles up on the upper."""
    before = snapshot(overlay / D)
    for _ in range(5):
        for verb in ("finalize", "unfinalize"):
            daemon.ctl(verb, overlay / D).ok()
    job = daemon.finalize(overlay / D)
    daemon.manager().CancelJob(dbus.UInt32(str(job).rpartition("/")[2]))
    daemon.wait_job(job)
    daemon.restart()
    await_gone(overlay, daemon)
    assert_same(before, snapshot(overlay / D))
    assert not traces(overlay) and not kept_files(overlay)
    wait_for(lambda: redirect_max() == 256, "redirect_max to be set back")  # others may need it raised just now
    assert await_nothing_kept(daemon)


def await_nothing_kept(daemon):
    await_kept(daemon, 0)
    return not daemon.workers() or wait_for(lambda: not daemon.workers(), "workers to end")
