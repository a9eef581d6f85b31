# SPDX-License-Identifier: LGPL-2.1-or-later
"""Workers that keep old trees die, are canceled or told to end at a bad moment, or fail: whoever takes over does what they
would have done, soon, and tries again what could not be done at once."""

import errno
import os
import signal
import subprocess

import dbus
import pytest

from ovltest import assert_same, snapshot
from ovltest.daemon import wait_for
from ovltest.holders import Shell
from ovltest.oldtree import KEEP, await_gone, await_kept, await_removed, find, kept_files, old_trees, surviving, traces
from ovltest.records import cut_appended
from ovltest.tree import age, write

P, D = "p", "p/d"
ALICE = 1000


@pytest.fixture
def source(scene):
    top = scene.source()
    for i in range(1, 4):
        write(os.path.join(top, D, f"f{i}"))
        write(os.path.join(top, D, "sub", f"g{i}"))
    for name in (f"{D}/a", f"{D}/b", f"{P}/1", f"{P}/2", f"{P}/3"):
        write(os.path.join(top, name, "x"))
    age(top)
    return top


@pytest.fixture
def daemon(scene, overlay):
    return scene.daemon(killer=True, soft=(overlay, {"CopyUp": {"Workers": "2"}, "Finalize": KEEP}))


@pytest.fixture
def stand(scene, overlay, daemon):
    """A shell that stands in D, through a finalize."""
    shell = scene.keep(Shell(overlay / D))
    daemon.ctl("finalize", overlay / D).ok()
    await_kept(daemon)
    return shell


def arrives(path, timeout=100):
    wait_for(lambda: os.path.lexists(path), f"{path} to arrive", timeout, 0.002)


def empty(directory):
    subprocess.run(["find", directory, "-mindepth", "1", "-delete"], check=True)


def kill_keeper(daemon):
    worker, = daemon.workers_for("finalize")
    os.kill(worker, signal.SIGKILL)


def kill_all(daemon):
    """The daemon and, with it, its workers."""
    workers = daemon.workers()
    daemon.kill()
    wait_for(lambda: not [pid for pid in workers if os.path.exists(f"/proc/{pid}")], "the workers to die")


def leave_held(scene, overlay, daemon, call):
    """The one who stood in D's old tree has left, and its worker is held before the next such call."""
    shell = scene.keep(Shell(overlay / D))
    daemon.arm(1, call=call, hold="later")
    daemon.ctl("finalize", overlay / D).ok()
    await_kept(daemon)
    daemon.hold()
    shell.close()
    assert daemon.held()


def release_until(daemon, condition, job=None):
    """Lets held calls go on one by one."""
    while not condition():
        daemon.release()
        assert daemon.held(job)


# What stands in staging is the truth

def test_emptied_on_its_way_back(scene, overlay, daemon):
    """Somebody removes the old tree by name in the last moment; the worker dies before it has decided about that."""
    before = snapshot(overlay / D)
    leave_held(scene, overlay, daemon, "renameat2")
    empty(*old_trees(overlay))
    daemon.release(everything=True)
    wait_for(lambda: not old_trees(overlay), "the tree to go back")
    kill_keeper(daemon)
    await_gone(overlay, daemon)
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})


def test_a_decision_outlives_the_machine(overlay, daemon, stand):
    """What the directory keeps it keeps, even if all that was not synced is lost."""
    before = set(os.listdir(overlay / D))
    empty(*old_trees(overlay))
    wait_for(lambda: "names were removed or renamed in the old tree" in daemon.log(), "the note")
    kill_all(daemon)
    snapshot_file, = find(overlay, "snapshot")
    cut_appended(snapshot_file)
    stand.do("echo late > late")
    daemon.start()
    stand.close()
    await_gone(overlay, daemon)
    assert set(os.listdir(overlay / D)) == before | {"late"}


@pytest.mark.parametrize("version", ["this", "earlier"])
def test_what_was_taken_over_is_known(overlay, daemon, stand, version):
    """Who takes over knows what the directory was given: it does not come back once its users have removed it."""
    stand.do("echo late > late")
    arrives(os.path.join(overlay / D, "late"))
    os.unlink(os.path.join(overlay / D, "late"))
    stand.do("echo later > later")  # the state before is written before that is looked at
    arrives(os.path.join(overlay / D, "later"))
    kill_all(daemon)
    if version == "earlier":  # which wrote all of it anew, beside the first one
        path, = find(overlay, "snapshot")
        write(path + ".last", cut_appended(path))
    daemon.start()
    stand.close()
    await_gone(overlay, daemon)
    assert "late" not in os.listdir(overlay / D) and "later" in os.listdir(overlay / D)


def test_a_damaged_snapshot(scene, overlay, daemon):
    """Nobody can tell any more whose the tree in staging is."""
    leave_held(scene, overlay, daemon, "renameat2")
    daemon.release()
    wait_for(lambda: not old_trees(overlay), "the tree to go back")
    assert daemon.held()
    kill_all(daemon)
    daemon.release(everything=True)
    tree, = find(overlay, "tree")
    write(os.path.join(tree, "precious"), b"precious")
    for path in find(overlay, "snapshot*"):
        write(path, b"damaged")
    daemon.start()
    assert surviving(overlay, b"precious")


def test_a_user_exchanges_the_trees(scene, overlay, daemon, stand):
    """alice may rename what stands in her directory, but remove nothing of root's; a survey does not do it for her."""
    os.chown(overlay / P, ALICE, ALICE)
    alice = scene.keep(Shell(overlay / P, ALICE))
    tree, = (os.path.basename(t) for t in old_trees(overlay))
    kill_all(daemon)
    assert alice.ask("rm -rf d/sub")[0] != 0
    alice.do(f"mv {tree} x; mv d {tree}")
    before = snapshot(overlay / f"{P}/{tree}")
    daemon.start()
    stand.close()
    await_kept(daemon, 0)
    assert_same(before, snapshot(overlay / f"{P}/{tree}"))


# Records

def test_the_record_stays_when_something_was_kept(overlay, daemon, stand):
    write(overlay / f"{D}/mine", b"by path")
    stand.do("echo by cwd > mine")
    stand.close()
    await_removed(overlay, daemon)
    assert kept_files(overlay) == [b"by cwd\n"]
    daemon.restart()
    daemon.ctl("unfinalize", overlay / D).ok()


def test_the_record_stays_when_the_last_step_is_interrupted(scene, overlay, daemon):
    """The worker dies between removing the snapshot and removing the directory it stood in."""
    leave_held(scene, overlay, daemon, "unlinkat")
    release_until(daemon, lambda: not find(overlay, "snapshot"))
    assert traces(overlay)
    kill_keeper(daemon)
    await_gone(overlay, daemon)
    daemon.ctl("unfinalize", overlay / D).ok()


# Who takes over, and when

def test_what_a_survey_cannot_finish_is_tried_again(overlay, daemon, stand):
    kill_all(daemon)
    stand.do("echo late > late")
    daemon.arm(1, call="mkdirat", error=errno.EIO, survey=True)
    daemon.start()
    assert daemon.struck() and not os.path.lexists(overlay / f"{D}/late")
    arrives(overlay / f"{D}/late")
    stand.close()
    await_gone(overlay, daemon)


def test_a_dead_keeper_is_replaced_at_once(scene, overlay, daemon, stand):
    """However many others live on."""
    worker, = daemon.workers_for("finalize")
    for n in range(1, 4):
        scene.keep(Shell(overlay / f"{P}/{n}"))
        daemon.ctl("finalize", overlay / f"{P}/{n}").ok()
        await_kept(daemon, n + 1)
    os.kill(worker, signal.SIGKILL)
    stand.do("echo late > late")
    arrives(overlay / f"{D}/late", 4)
    await_kept(daemon, 4)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_keeper_that_is_told_to_end_is_replaced(overlay, daemon, stand, signal_number):
    worker, = daemon.workers_for("finalize")
    os.kill(worker, signal_number)
    stand.do("echo late > late")
    arrives(overlay / f"{D}/late")
    wait_for(lambda: worker not in daemon.workers(), "the worker to end")
    stand.close()
    await_gone(overlay, daemon)


def cancel(daemon, job):
    daemon.manager().CancelJob(dbus.UInt32(str(job).rpartition("/")[2]))


def test_a_cancel_that_comes_too_late(scene, overlay, daemon):
    """The exchange is made, and somebody stands in the old tree: it is looked after by the one who made it."""
    shell = scene.keep(Shell(overlay / D))
    daemon.arm(1, call="exchange", hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    worker, = daemon.workers_for("finalize")
    cancel(daemon, job)
    daemon.release(everything=True)
    daemon.wait_job(job)
    shell.do("echo late > late")
    arrives(overlay / f"{D}/late")
    assert daemon.workers_for("finalize") == [worker]
    shell.close()
    await_gone(overlay, daemon)
    assert daemon.state_of(overlay / D) == "finalized"


def test_canceled_while_the_old_tree_is_removed(overlay, daemon):
    """Threads do not come back: the worker says so, and ends without them; a survey finishes what it left."""
    daemon.arm(1, call="unlinkat", hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    release_until(daemon, lambda: find(overlay, "remove"), job)
    cancel(daemon, job)
    properties = daemon.wait_job(job)
    assert properties["State"] == "canceled" and "does not answer" in properties["ErrorMessage"], properties
    daemon.release(everything=True)
    await_gone(overlay, daemon)
    assert daemon.state_of(overlay / D) == "finalized"


def test_told_to_end_while_the_old_tree_is_removed(scene, overlay, daemon):
    """The same of a keeper."""
    leave_held(scene, overlay, daemon, "unlinkat")
    release_until(daemon, lambda: find(overlay, "remove"))
    worker, = daemon.workers_for("finalize")
    os.kill(worker, signal.SIGTERM)
    await_gone(overlay, daemon)
    assert daemon.state_of(overlay / D) == "finalized"
