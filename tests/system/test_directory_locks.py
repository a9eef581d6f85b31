# SPDX-License-Identifier: LGPL-2.1-or-later
"""Locks on directories belong to the directory that an exchange takes away: whoever holds one is waited for, whatever
Standing= says, and a second one who comes by path is excluded all the time."""

import fcntl
import os
import subprocess
import sys

import pytest

from ovltest.daemon import wait_for
from ovltest.env import end, spawn
from ovltest.oldtree import await_gone, await_kept
from ovltest.tree import age, small_tree

D = "p/d"


@pytest.fixture
def source(scene):
    top = scene.source()
    small_tree(os.path.join(top, D))
    age(top)
    return top


class Holder:
    """Another process with a lock on a directory, as a user who cannot write there."""

    CODE = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
whole = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
{"exclusive": lambda: fcntl.flock(fd, fcntl.LOCK_EX),
 "shared": lambda: fcntl.flock(fd, fcntl.LOCK_SH),
 "posix": lambda: fcntl.fcntl(fd, fcntl.F_SETLK, whole),
 "ofd": lambda: fcntl.fcntl(fd, 37, whole),
 "none": lambda: None}[sys.argv[2]]()
print("held", flush=True)
sys.stdin.readline()
fcntl.flock(fd, fcntl.LOCK_UN)
print("unlocked", flush=True)
sys.stdin.read()
"""

    def __init__(self, path, kind="exclusive"):
        self.process = spawn("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", sys.executable, "-c", self.CODE, path,
                             kind, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "held\n"

    def unlock(self):
        """And keeps the descriptor."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "unlocked\n"

    def close(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
            end(self.process)
            self.process.stdout.close()


def is_excluded(path):
    """A writer who comes by path now."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def waiting_for(daemon, holder):
    return wait_for(lambda: [j for j in daemon.jobs() if j["State"] == "waiting" and str(holder.process.pid) in j["Reason"]],
                    lambda: f"a job that waits for {holder.process.pid}: {daemon.jobs()}")[0]


@pytest.mark.parametrize("standing", ["auto", "keep", "wait"])
@pytest.mark.parametrize("where", [D, f"{D}/sub/below"])
def test_a_lock_is_waited_for(scene, overlay, daemon, standing, where):
    holder = scene.keep(Holder(overlay / where))
    ctl = daemon.start_ctl("finalize", f"--standing={standing}", overlay / D)
    job = waiting_for(daemon, holder)
    assert "holds a lock there" in job["Reason"] and "lock)" in job["Reason"] or standing == "wait", job
    assert is_excluded(overlay / where)
    directory = daemon.manager().GetDirectory(overlay / D)
    assert directory["state"] == "pending" and str(holder.process.pid) in directory["reason"], directory
    assert daemon.ctl("is-finalized", overlay / D).code == 1
    found = daemon.ctl("blockers", overlay / D, "--json=short").ok().json["blockers"]
    assert (holder.process.pid, "lock") in {(b["pid"], b["kind"]) for b in found}
    holder.close()
    assert ctl.wait(60) == 0
    assert daemon.state_of(overlay / D) == "finalized"
    await_gone(overlay, daemon)
    scene.keep(Holder(overlay / where))
    assert is_excluded(overlay / where)


@pytest.mark.parametrize("kind", ["shared", "posix", "ofd"])
def test_each_kind_of_lock(scene, overlay, daemon, kind):
    holder = scene.keep(Holder(overlay / D, kind))
    ctl = daemon.start_ctl("finalize", "--standing=keep", overlay / D)
    waiting_for(daemon, holder)
    holder.close()
    assert ctl.wait(60) == 0


def test_whoever_lets_go_may_stay(scene, overlay, daemon):
    """Without a lock he stands there as others do, and cannot change names."""
    holder = scene.keep(Holder(overlay / D))
    ctl = daemon.start_ctl("finalize", overlay / D)
    waiting_for(daemon, holder)
    holder.unlock()
    assert ctl.wait(60) == 0
    await_kept(daemon)
    assert daemon.state_of(overlay / D) == "finalized"
    holder.close()
    await_gone(overlay, daemon)


def test_no_lock_no_wait(scene, overlay, daemon):
    scene.keep(Holder(overlay / D, "none"))
    daemon.ctl("finalize", overlay / D).ok()
    await_kept(daemon)


def test_locks_beside_and_above_do_not_matter(scene, overlay, daemon):
    above = scene.keep(Holder(overlay / "p"))
    root = scene.keep(Holder(overlay.point))
    daemon.ctl("finalize", "--standing=keep", overlay / D).ok()
    assert is_excluded(overlay / "p") and is_excluded(overlay.point)
    above.close()
    root.close()


def test_an_undo_waits_as_well(scene, overlay, daemon):
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    holder = scene.keep(Holder(overlay / f"{D}/sub"))
    ctl = daemon.start_ctl("unfinalize", overlay / D)
    waiting_for(daemon, holder)
    assert is_excluded(overlay / f"{D}/sub") and daemon.state_of(overlay / D) == "finalized"
    holder.close()
    assert ctl.wait(60) == 0
    assert daemon.state_of(overlay / D) != "finalized"


def test_an_automatic_job_is_put_off(scene, overlay):
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"Automatic": "yes", "Standing": "keep"}, "Watch": {"HotOpens": "3"}}))
    scene.keep(Holder(overlay / D))

    def use():
        for name in ("f1", "f2", "f3"):
            with open(overlay / f"{D}/{name}", "rb"):
                pass
        return [j for j in daemon.jobs() if j["Path"] == overlay / D and j["State"] == "canceled"]
    job = wait_for(use, lambda: f"{daemon.jobs()}")[0]
    assert "put off" in job["ErrorMessage"] and "lock" in job["ErrorMessage"], job
    assert is_excluded(overlay / D)
