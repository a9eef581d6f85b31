# SPDX-License-Identifier: LGPL-2.1-or-later
"""Standing=auto: the job waits for those who stand in the directory and could change names in it, says who they are, and
exchanges it at once under the feet of all others."""

import ctypes
import os
import signal
import subprocess
import sys

import dbus
import pytest

from ovltest import assert_same, run, snapshot
from ovltest.daemon import wait_for
from ovltest.env import end, spawn
from ovltest.holders import Running, Shell
from ovltest.oldtree import await_gone, await_kept, old_trees, traces
from ovltest.tree import age, write

P, D = "p", "p/d"
ALICE, BOB, TEAM = 1000, 1001, 2000
MODES = ("auto", "keep", "wait")

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def source(scene):
    top = scene.source()
    for directory in (D, f"{D}/sub", f"{D}/sub/deep", f"{D}/other"):
        write(os.path.join(top, directory, "file"))
    write(os.path.join(top, P, "beside"))
    age(top)
    return top


class Occupant:
    """A shell that stands in a directory, as whoever the words before it make of it."""

    def __init__(self, directory, *become):
        self.process = spawn(*become, "bash", "--norc", cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        self.directory = directory

    ask, do, close = Shell.ask, Shell.do, Shell.close

    def can_change_names(self):
        """Tries, in every directory of D."""
        up = os.path.relpath("d", os.path.relpath(self.directory, self.directory[:self.directory.index("/p/d") + 3]))
        return "yes" in self.ask(f"find {up} -type d | while read d; do mkdir $d/probe 2>/dev/null && rmdir $d/probe && echo yes; done")[1]


def as_user(uid=ALICE, gid=None, groups=(), *more):
    named = [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    return ("setpriv", f"--reuid={uid}", f"--regid={uid if gid is None else gid}", *named, *more)


def chown(path, uid, gid):
    for d, _, files in os.walk(path):
        for p in (d, *(os.path.join(d, f) for f in files)):
            os.chown(p, uid, gid)


NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
OVERRIDES = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
OWN_NAMESPACE = (*as_user(), "unshare", "-U", "--map-root-user")

# (who, what is done to D before): whether he can is what he finds out himself.
PEOPLE = {
    "root": ((), lambda d: None),
    "user": (as_user(), lambda d: None),
    "user, a directory of all below": (as_user(), lambda d: os.chmod(f"{d}/other", 0o1777)),
    "user, one that all may write and none enter": (as_user(), lambda d: os.chmod(f"{d}/sub/deep", 0o772)),
    "owner of one below": (as_user(), lambda d: os.chown(f"{d}/sub/deep", ALICE, 0)),
    "group": (as_user(ALICE, TEAM), lambda d: (os.chown(f"{d}/sub", 0, TEAM), os.chmod(f"{d}/sub", 0o775))),
    "supplementary group": (as_user(ALICE, ALICE, (7, TEAM)), lambda d: (os.chown(f"{d}/sub", 0, TEAM), os.chmod(f"{d}/sub", 0o775))),
    "another group": (as_user(ALICE, ALICE, (7, TEAM + 1)), lambda d: (os.chown(f"{d}/sub", 0, TEAM), os.chmod(f"{d}/sub", 0o775))),
    "a group that may less than others": (as_user(ALICE, TEAM), lambda d: (os.chown(f"{d}/sub", 0, TEAM), os.chmod(f"{d}/sub", 0o757))),
    "ACL, user": (as_user(), lambda d: run("setfacl", "-m", f"u:{ALICE}:rwx", f"{d}/other")),
    "ACL, another user": (as_user(BOB), lambda d: run("setfacl", "-m", f"u:{ALICE}:rwx", f"{d}/other")),
    "ACL, masked": (as_user(), lambda d: run("setfacl", "-m", f"u:{ALICE}:rwx,m::rx", f"{d}/other")),
    "ACL, user who may less than his group": (as_user(ALICE, TEAM), lambda d: run("setfacl", "-m", f"u:{ALICE}:rx,g:{TEAM}:rwx", f"{d}/other")),
    "ACL, group": (as_user(ALICE, ALICE, (TEAM,)), lambda d: run("setfacl", "-m", f"g:{TEAM}:rwx", f"{d}/other")),
    "root without capabilities": (NO_CAPABILITIES, lambda d: None),
    "root without capabilities in others' directories": (NO_CAPABILITIES, lambda d: chown(d, ALICE, ALICE)),
    "capability": (OVERRIDES, lambda d: None),
    "root of a user namespace": (OWN_NAMESPACE, lambda d: None),
    "root of a user namespace, a directory of its own": (OWN_NAMESPACE, lambda d: chown(f"{d}/other", ALICE, ALICE)),
}


def waits(daemon, job, *processes):
    """Until the job waits and names them."""
    p = daemon.wait_job(job, ("waiting", "done", "failed"))
    assert p["State"] == "waiting"
    wait_for(lambda: all(str(n.pid) in str(daemon.job(job)["Reason"]) for n in processes), f"names in {daemon.job(job)['Reason']}")


@pytest.mark.parametrize("who", PEOPLE)
def test_whoever_can_change_names_is_waited_for(scene, overlay, daemon, who):
    become, prepare = PEOPLE[who]
    prepare(overlay / D)
    occupant = scene.keep(Occupant(overlay / f"{D}/sub", *become))
    can = occupant.can_change_names()
    before = snapshot(overlay / D)
    job = daemon.finalize(overlay / D)
    if not can:
        assert daemon.wait_job(job)["State"] == "done"
        await_kept(daemon)
        assert occupant.do("cat ../file && ls ../other") and not occupant.can_change_names()
    else:
        waits(daemon, job, occupant.process)
        assert occupant.do("pwd -P").strip() == overlay / f"{D}/sub"
    occupant.close()
    assert daemon.wait_job(job)["State"] == "done"
    await_gone(overlay, daemon)
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})


@pytest.mark.parametrize("n_owners", (200, 300))
def test_who_cannot_be_told_is_waited_for(scene, overlay, daemon, n_owners):
    """More owners than are looked at: one who can change no name counts as one who can."""
    for uid in range(3000, 3000 + n_owners):
        os.mkdir(overlay / f"{D}/other/{uid}")
        os.chown(overlay / f"{D}/other/{uid}", uid, uid)
    occupant = scene.keep(Occupant(overlay / f"{D}/sub", *as_user()))
    assert not occupant.can_change_names()
    job = daemon.finalize(overlay / D)
    if n_owners == 300:
        waits(daemon, job, occupant.process)
        occupant.close()
    assert daemon.wait_job(job)["State"] == "done"
    occupant.close()
    await_gone(overlay, daemon)


def test_all_is_said(scene, overlay, daemon):
    """The job, the directory, blockers, the command that waits and the journal name who is waited for."""
    shell = scene.keep(Shell(overlay / f"{D}/sub"))
    ctl = daemon.start_ctl("finalize", overlay / D)
    job, = wait_for(daemon.jobs, "the job")
    waits(daemon, f"/org/ovlfind1/job/{job['Id']}", shell.process)
    directory = daemon.manager().GetDirectory(overlay / D)
    assert directory["state"] == "pending" and str(shell.process.pid) in directory["reason"]
    blockers = daemon.ctl("blockers", overlay / D, "--json=short").ok().json["blockers"]
    assert (shell.process.pid, "bash", "cwd") in [(b["pid"], b["command"], b["kind"]) for b in blockers]
    assert not traces(overlay)  # nothing is built in vain
    shell.do("cd /")
    _, err = ctl.communicate(timeout=200)
    assert ctl.returncode == 0 and f"waits: 1 process stands there and could change names: {shell.process.pid} (bash, cwd)" in err
    assert f"waits: 1 process stands there and could change names: {shell.process.pid} (bash, cwd)" in daemon.log()
    assert not old_trees(overlay)


@pytest.mark.parametrize("configured,asked,verb", [
    ("auto", None, "Finalize"), ("keep", None, "Finalize"), ("wait", None, "Finalize"), ("wait", "auto", "Finalize"),
    ("auto", "keep", "Finalize"), ("keep", "wait", "Finalize"), ("auto", None, "Unfinalize"), ("wait", "keep", "Unfinalize")])
def test_for_one_job(scene, overlay, configured, asked, verb):
    """What a job asks for counts, else what is configured."""
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"Standing": configured}}))
    if verb == "Unfinalize":
        daemon.ctl("finalize", overlay / D).ok()
    root, user = (scene.keep(Occupant(overlay / D, *become)) for become in ((), as_user()))
    job = getattr(daemon.manager(), verb)(overlay / D, dbus.Dictionary({"standing": asked} if asked else {}, signature="sv"))
    mode = asked or configured
    if mode != "keep":
        waits(daemon, job, root.process)
        assert (str(user.process.pid) in daemon.job(job)["Reason"]) == (mode == "wait")
    root.close()
    if mode == "wait":
        assert daemon.job(job)["State"] == "waiting"
        user.close()
    assert daemon.wait_job(job)["State"] == "done"
    if mode != "wait":
        await_kept(daemon)
        user.close()
    await_gone(overlay, daemon)


def test_a_wrong_word(overlay, daemon):
    r = daemon.ctl("finalize", "--standing=maybe", overlay / D)
    assert r.code == 2 and "auto, keep or wait" in r.err
    with pytest.raises(Exception, match="auto, keep or wait"):
        daemon.finalize(overlay / D, standing="maybe")


@pytest.mark.parametrize("mode", MODES)
def test_dry_run(scene, overlay, daemon, mode):
    scene.keep(Shell(overlay / D))
    steps = daemon.ctl("finalize", "--dry-run", f"--standing={mode}", overlay / D).ok().out
    assert ("wait for those" in steps) == (mode != "keep") and ("keep the old tree" in steps) == (mode != "wait")


def test_a_directory_that_is_open(scene, overlay, daemon):
    shell = scene.keep(Shell("/"))
    shell.do(f"exec 7<{overlay / D}/sub")
    job = daemon.finalize(overlay / D)
    waits(daemon, job, shell.process)
    shell.do("exec 7<&-")
    assert daemon.wait_job(job)["State"] == "done"


def test_a_running_program_is_no_place_to_change_names_from(scene, overlay, daemon):
    program = os.path.join(overlay / D, "sub/program")
    Running.install(program)
    running = scene.keep(Running(program))
    daemon.ctl("finalize", overlay / D).ok()
    running.check()


def test_one_thread_may(scene, overlay, daemon):
    """Threads share where they stand, and need not share who they are."""
    code = ("import ctypes, os, sys, threading, time\n"
            "libc = ctypes.CDLL(None)\n"
            "threading.Thread(target=sys.stdin.read).start()\n"  # root
            "libc.syscall(117, 1000, 1000, 1000)\n"  # setresuid, of this thread alone
            "print(os.getresuid(), flush=True)\n")
    p = spawn(sys.executable, "-c", code, cwd=overlay / D, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "(1000, 1000, 1000)\n"
        job = daemon.finalize(overlay / D)
        waits(daemon, job, p)
    finally:
        p.stdin.close()
        end(p)
        p.stdout.close()
    assert daemon.wait_job(job)["State"] == "done"


ELSEWHERE = """mount --bind "$1" "$2" && umount "$1" && mount -o remount,bind,$3 "$2" && cd "$2/p/d/sub" && shift 3 && exec "$@" """


@pytest.mark.parametrize("mode,become,is_waited_for", [
    ("rw", ("setpriv",), True), ("ro", ("setpriv",), True), ("ro", ("setpriv", "--bounding-set=-sys_admin"), False)],
    ids=["", "read-only", "read-only for good"])
def test_in_another_mount_namespace(scene, overlay, daemon, mode, become, is_waited_for):
    """Where the overlay is mounted at another place."""
    at = scene.subdir("elsewhere")
    shell = scene.keep(Occupant("/", "unshare", "-m", "--propagation=private", "sh", "-c", ELSEWHERE, "sh", overlay.point, at,
                               mode, *become))
    assert shell.do("pwd -P").strip() == f"{at}/p/d/sub"
    job = daemon.finalize(overlay / D)
    if is_waited_for:
        waits(daemon, job, shell.process)
    else:
        assert shell.ask("touch probe")[0] != 0
        assert daemon.wait_job(job)["State"] == "done"
        await_kept(daemon)
    shell.close()
    assert daemon.wait_job(job)["State"] == "done"
    await_gone(overlay, daemon)


def test_waiting_takes_nobodys_turn(scene, source):
    """Three jobs that wait for somebody, and one that need not."""
    for n in range(4):
        write(os.path.join(source, f"x{n}", "file"))
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=overlay)
    shells = [scene.keep(Shell(overlay / f"x{n}")) for n in range(3)]
    jobs = [daemon.finalize(overlay / f"x{n}") for n in range(4)]
    for job, shell in zip(jobs, shells):
        waits(daemon, job, shell.process)
    assert daemon.wait_job(jobs[3])["State"] == "done"
    daemon.ctl("cancel", str(jobs[0]).rpartition("/")[2]).ok()
    assert daemon.wait_job(jobs[0])["State"] == "canceled"
    shells[1].close()
    assert daemon.wait_job(jobs[1])["State"] == "done"
    assert daemon.job(jobs[2])["State"] == "waiting"


def test_who_comes_while_it_is_built(scene, overlay):
    """Nobody stood there when the job began: what happens meanwhile is followed."""
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.arm(1, call="linkat", hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    shell = scene.keep(Shell(overlay / f"{D}/sub"))
    daemon.release(everything=True)
    waits(daemon, job, shell.process)
    shell.do("rm file; mkdir new; echo made > new/made; cd new")
    before = snapshot(overlay / D)
    shell.close()
    assert daemon.wait_job(job)["State"] == "done"
    await_gone(overlay, daemon)
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})


@pytest.mark.parametrize("mode", MODES)
def test_unasked_work_waits_for_nobody(scene, overlay, mode):
    """Nor does it keep an old tree of somebody who could change names: it is put off, and done when they have left."""
    daemon = scene.daemon(start=False, soft=(overlay, {"Finalize": {"Automatic": "yes", "Standing": mode},
                                                       "Watch": {"Directories": D, "HotOpens": "3"}}))
    shell = scene.keep(Shell(overlay / f"{D}/sub"))
    daemon.start()
    wait_for(lambda: daemon.ctl("directories", "--state=pending", "--json=short").json["directories"] or
             [open(os.path.join(overlay / D, "file"), "rb").close() for _ in range(3)][:0], "the directory to be hot", 30, 0.2)
    directory = daemon.manager().GetDirectory(overlay / D)
    assert str(shell.process.pid) in directory["reason"] and directory["state"] == "pending"
    # It has ended, is no failure, and is tried again later.
    wait_for(lambda: {j["State"] for j in daemon.jobs()} == {"canceled"}, "the job to end")
    assert "is put off until they have left" in (log := daemon.log()) and "failed" not in log
    assert not old_trees(overlay)
    shell.close()
    wait_for(lambda: daemon.state_of(overlay / D) == "finalized", "it to be done", 40, 0.2)
    os.kill(daemon.process.pid, signal.SIGHUP)
