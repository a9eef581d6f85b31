# SPDX-License-Identifier: LGPL-2.1-or-later
"""Standing=keep: those who stand in a directory while it is finalized have its old tree, which is never altered while they do. A
name they make or replace there appears in the directory if its place there is free or still holds what was put there, else it stays
with them and is told; what they remove or rename away changes nothing there, and is told once. What never found a place is kept
in the end."""

import ctypes
import fcntl
import os
import shutil
import stat
import tarfile

import pytest

from ovltest import assert_same, diff, run, snapshot
from ovltest.daemon import wait_for
from ovltest.env import alive, end, spawn
from ovltest.holders import Shell
from ovltest.oldtree import (ALICE, BOB, KEEP, STAGING, D, P, arrives, await_gone, await_kept, await_removed, content,
                             kept_files, leave, make_source, occupant, old_trees)
from ovltest.tree import write

RENAME_EXCHANGE = 2

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def source(scene):
    return make_source(scene)


@pytest.fixture
def daemon(scene, overlay):
    return scene.daemon(soft=(overlay, {"Finalize": KEEP}))


@pytest.fixture
def stand(scene, overlay, daemon):
    return occupant(scene, overlay, daemon)


# A shell works on

@pytest.mark.parametrize("uid", [None, ALICE], ids=["root", "user"])
def test_a_shell_works_on(scene, overlay, daemon, stand, uid):
    """What it makes by relative paths is found by absolute ones at once."""
    home = f"{D}/home/alice"
    archive = os.path.join(scene.dir, "archive.tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(os.path.join(overlay / D, "sub"), "unpacked/sub")
    shell = stand(home, uid)
    shell.do("mkdir x && touch x/f && mkdir -p x/deeper/still && echo text > x/deeper/still/file")
    arrives(overlay / f"{home}/x/f")
    wait_for(lambda: os.path.exists(overlay / f"{home}/x/deeper/still/file") and
             content(overlay / f"{home}/x/deeper/still/file") == b"text\n", "the file in new directories", 5)
    shell.do(f"tar xf {archive} -C x")
    before = {n: v["content"] for n, v in snapshot(overlay / f"{D}/sub").items()}
    wait_for(lambda: os.path.isdir(overlay / f"{home}/x/unpacked/sub") and
             {n: v["content"] for n, v in snapshot(overlay / f"{home}/x/unpacked/sub").items()} == before,
             "the archive's content")
    shell.do("echo more >> f && mv x y && rm -r y/unpacked")
    wait_for(lambda: os.path.exists(overlay / f"{home}/y/deeper/still/file"), "the new name of a directory")
    assert content(overlay / f"{home}/f").endswith(b"more\n")
    assert shell.do("ls y").split() == ["deeper", "f"] and shell.ask("ls x")[0] != 0
    shell.do("cd y")
    owner = os.lstat(overlay / f"{home}/y").st_uid
    assert owner == (0 if uid is None else uid)
    leave(shell, overlay, daemon)
    for name in ("x", "y"):  # the first one stays
        assert content(overlay / f"{home}/{name}/deeper/still/file") == b"text\n"
    assert sorted(os.listdir(overlay / f"{home}/x")) == ["deeper", "f", "unpacked"]
    assert "names were removed or renamed in the old tree" in daemon.log()
    assert daemon.state_of(overlay / D) == "finalized"


def test_paths_upwards(overlay, daemon, stand):
    """../x and ../../x from within, by somebody who is not root, lead where they led."""
    shell = stand(f"{D}/home", ALICE)
    assert shell.do("cat ../f1") == content(overlay / f"{D}/f1").decode()
    assert shell.do("cat ../../beside/file") == content(overlay / f"{P}/beside/file").decode()
    shell.do("test -d ../../d/sub && ls ../../.. >/dev/null && ls ..")
    shell.do("cd alice && touch ../../tmp/by-alice && touch ../alice/here")
    arrives(overlay / f"{D}/tmp/by-alice")
    arrives(overlay / f"{D}/home/alice/here")
    shell.do(f"cd {overlay / D}/home/alice && test -e here")
    await_gone(overlay, daemon)  # it has left by itself


def test_changes_by_path_stay(overlay, daemon, stand):
    """Others work by path meanwhile: theirs is what counts where both did something."""
    shell = stand(f"{D}/sub")
    d = overlay / D
    write(os.path.join(d, "sub", "mine"), b"by path")
    os.unlink(os.path.join(d, "sub", "g1"))
    os.rename(os.path.join(d, "sub", "g2"), os.path.join(d, "sub", "renamed"))
    shell.do("echo by cwd > mine; echo by cwd > other")
    arrives(os.path.join(d, "sub", "other"))
    shell.close()
    await_removed(overlay, daemon)
    assert kept_files(overlay) == [b"by cwd\n"]
    assert content(os.path.join(d, "sub", "mine")) == b"by path"
    assert sorted(os.listdir(os.path.join(d, "sub"))) == ["g3", "mine", "other", "renamed"]


def test_no_second_exchange_while_an_old_tree_is_kept(scene, overlay, daemon):
    """It would have to be replayed in another old tree: the next exchange of the directory, of one in it, or around it is refused
    with the names, or waits for them."""
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    shell = scene.keep(Shell(overlay / f"{D}/sub"))
    daemon.ctl("unfinalize", overlay / D).ok()
    await_kept(daemon)
    for path in (D, f"{D}/sub", P):
        result = daemon.ctl("finalize", overlay / path)
        assert result.code == 1 and (str(shell.process.pid) in result.err or "processes still stand" in result.err)
    for mode in ("auto", "wait"):
        job = daemon.finalize(overlay / D, standing=mode)
        wait_for(lambda j=job: str(shell.process.pid) in daemon.job(j)["Reason"], "the job to wait")
        daemon.ctl("cancel", str(job).rpartition("/")[2]).ok()
        assert daemon.wait_job(job)["State"] == "canceled"
    job = daemon.finalize(overlay / D, standing="auto")
    wait_for(lambda: str(shell.process.pid) in daemon.job(job)["Reason"], "the job to wait")
    shell.do("echo made > made")
    arrives(overlay / f"{D}/sub/made")
    shell.close()
    assert daemon.wait_job(job)["State"] == "done"
    await_gone(overlay, daemon)
    assert daemon.state_of(overlay / D) == "finalized" and content(overlay / f"{D}/sub/made") == b"made\n"


def test_unfinalize_waits_for_those_who_stand(overlay, daemon, stand):
    """An undone directory shows the lower again, which the old tree they stand in still does: done when they have left."""
    shell = stand(f"{D}/sub")
    before = snapshot(overlay / D)
    result = daemon.ctl("unfinalize", overlay / D)
    assert result.code == 1 and "try again" in result.err and f"{shell.process.pid} (" in result.err
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})
    assert daemon.state_of(overlay / D) == "finalized"
    leave(shell, overlay, daemon)
    daemon.ctl("unfinalize", overlay / D).ok()
    assert daemon.state_of(overlay / D) == "copied-up"
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})


# Whatever is done to the trees

def test_removing_the_old_tree_by_name_removes_nothing_else(overlay, daemon, stand):
    """An administrator takes it for a leftover."""
    before = snapshot(overlay / D)
    shell = stand()
    assert old_trees(overlay)
    for path in old_trees(overlay):
        shutil.rmtree(path, ignore_errors=True)
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})
    shell.do(f"test -e {overlay / D}/f1")
    leave(shell, overlay, daemon)
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})
    assert daemon.state_of(overlay / D) == "finalized"


def test_removing_the_old_tree_by_name_while_somebody_is_busy_in_it(scene, overlay, daemon, stand):
    """A program that makes names all the time does not mean all the others."""
    for i in range(100):
        write(overlay / f"{D}/many{i}")
    shell = stand()
    busy = scene.keep(Busy(f"/proc/{shell.process.pid}/cwd"))
    arrives(overlay / f"{D}/log1")
    before = set(os.listdir(overlay / D))
    run("find", *old_trees(overlay), "-mindepth", "1", "!", "-name", "log*", "-delete")
    wait_for(lambda: "names were removed or renamed in the old tree" in daemon.log(), "it to be told")
    busy.close()
    assert before <= set(os.listdir(overlay / D))
    leave(shell, overlay, daemon)
    assert before <= set(os.listdir(overlay / D))


class Busy:
    """Makes files in a directory, one after the other."""

    def __init__(self, directory):
        self.process = spawn("bash", "-c", "for ((i = 1; ; i++)); do echo > log$i; sleep 0.05; done", cwd=directory)

    def close(self):
        end(self.process)


def test_removed_by_path_while_somebody_stands_there(overlay, daemon, stand):
    shell = stand()
    shutil.rmtree(overlay / D)
    shell.do("echo late > late")
    worker, = daemon.workers_for("finalize")
    before = cpu_seconds(worker)
    os.mkdir(overlay / f"{P}/marker")  # time for the worker to see the event
    wait_for(lambda: daemon.kept() == 1, "the old tree")
    shell.do("sleep 1")
    assert not os.path.lexists(overlay / D)
    assert cpu_seconds(worker) - before < 0.5, "the worker spins"
    shell.close()
    await_removed(overlay, daemon)
    assert not os.path.lexists(overlay / D)
    assert kept_files(overlay) == [b"late\n"]  # its directory is gone, but it is somebody's


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_moved_by_path_while_somebody_stands_there(overlay, daemon, stand):
    shell = stand()
    os.rename(overlay / D, overlay / "elsewhere")
    shell.do("echo follows > follows")
    arrives(overlay / "elsewhere/follows")
    assert not os.path.lexists(overlay / D)
    leave(shell, overlay, daemon)
    assert os.path.exists(overlay / "elsewhere/sub/g1")


def test_parent_moved_by_path_while_somebody_stands_there(overlay, daemon, stand):
    shell = stand()
    os.rename(overlay / P, overlay / "q")
    shell.do("echo follows > follows")
    arrives(overlay / "q/d/follows")
    leave(shell, overlay, daemon)
    assert os.path.exists(overlay / "q/d/sub/g1")


def test_lower_gains_names_while_an_old_tree_is_kept(source, lower, overlay, daemon, stand):
    """The old tree is a merged directory still: the new names show in it, and cannot be removed from it."""
    shell = stand()
    before = snapshot(overlay / D)
    for name in ("added", "sub/added", "new-dir/file"):
        write(os.path.join(source, D, name))
    lower.invalidate()
    leave(shell, overlay, daemon)
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})


def test_a_refresh_names_who_keeps_it_from_taking_up_what_is_new(source, overlay, daemon, stand):
    shell = stand()
    write(os.path.join(source, D, "sub/new"), b"new")
    r = daemon.ctl("refresh", overlay / D).ok()
    assert f"{D}/sub/new: processes stand in what" in r.err and f"{shell.process.pid} (bash, cwd); try again when" in r.err, r.err
    assert not os.path.exists(overlay / f"{D}/sub/new")
    leave(shell, overlay, daemon)
    daemon.ctl("refresh", overlay / D).ok()
    assert content(overlay / f"{D}/sub/new") == b"new"


def test_same_file_replaced_on_both_sides(overlay, daemon, stand):
    shell = stand()
    write(overlay / f"{D}/t", b"by path")
    os.rename(overlay / f"{D}/t", overlay / f"{D}/f1")
    shell.do("echo by cwd > t2 && mv t2 f1")
    shell.do("echo arrived > witness")
    arrives(overlay / f"{D}/witness")
    assert content(overlay / f"{D}/f1") == b"by path"
    shell.close()
    await_removed(overlay, daemon)
    assert kept_files(overlay) == [b"by cwd\n"]
    assert content(overlay / f"{D}/f1") == b"by path"


def exchange(dfd, a, b):
    if libc.renameat2(dfd, os.fsencode(a), dfd, os.fsencode(b), RENAME_EXCHANGE) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def test_directories_exchanged_in_the_old_tree(overlay, daemon, stand):
    """Through the old working directory; nothing is lost on either side."""
    shell = stand()
    fd = os.open(f"/proc/{shell.process.pid}/cwd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        exchange(fd, "a", "b")
    finally:
        os.close(fd)
    wait_for(lambda: content_of(overlay) == {"a": b"B", "b": b"A"}, f"the exchange to arrive: {content_of(overlay)}")
    leave(shell, overlay, daemon)
    assert content_of(overlay) == {"a": b"B", "b": b"A"}


def content_of(overlay):
    found = {}
    for name in ("a", "b"):
        try:
            found[name] = content(overlay / f"{D}/{name}/x")
        except FileNotFoundError:
            found[name] = None
    return found


def test_directories_renamed_around_in_the_old_tree(overlay, daemon, stand):
    """Faster than anybody could follow: a through t to b and back, one into another, a new one in its place."""
    shell = stand()
    shell.do("mv a t && mv b a && mv t b && mv sub home/sub && mkdir sub && echo new > sub/new && mv f1 sub/f1")
    arrives(overlay / f"{D}/sub/f1", "the last rename to arrive")
    wait_for(lambda: content_of(overlay) == {"a": b"B", "b": b"A"}, f"the renames to arrive: {content_of(overlay)}")
    leave(shell, overlay, daemon)
    assert sorted(os.listdir(overlay / f"{D}/sub")) == ["f1", "g1", "g2", "g3", "new"]
    assert sorted(os.listdir(overlay / f"{D}/home/sub")) == ["g1", "g2", "g3"]
    assert content_of(overlay) == {"a": b"B", "b": b"A"}
    assert os.path.lexists(overlay / f"{D}/f1")


# Who owns what

def mode_and_owner(path):
    st = os.lstat(path)
    return stat.S_IMODE(st.st_mode), st.st_uid


def test_attributes_set_by_path_stay(overlay, daemon, stand):
    """What was taken away from somebody by path, he does not get back through the old tree."""
    alice = overlay / f"{D}/home/alice"
    shell = stand(f"{D}/home/alice", ALICE)
    for path in (alice, os.path.join(alice, "f")):
        os.chown(path, 0, 0)
    os.chmod(alice, 0o700)
    shell.ask("chmod 777 . ; touch evil; chmod 777 f; chmod 755 ..")
    # By then the worker has seen what alice did.
    os.mkdir(overlay / f"{D}/home/bob/marker")
    shell.ask("cd ..; sleep 1")
    assert mode_and_owner(alice) == (0o700, 0)
    assert mode_and_owner(os.path.join(alice, "f"))[1] == 0
    leave(shell, overlay, daemon)
    assert mode_and_owner(alice) == (0o700, 0)
    assert mode_and_owner(os.path.join(alice, "f"))[1] == 0


def test_an_occupant_takes_over_nobodys_directory(scene, overlay, daemon, stand):
    """In a sticky directory: the same name made by another user by path."""
    tmp = overlay / f"{D}/tmp"
    alice = stand(f"{D}/tmp", ALICE)
    bob = scene.keep(Shell("/", BOB))
    bob.do(f"umask 077; mkdir {tmp}/victim && echo secret > {tmp}/victim/key && chmod 644 {tmp}/victim/key")
    alice.ask("mkdir victim; echo planted > victim/planted; chmod 777 victim; sleep 1; chmod 777 victim; mkdir witness")
    arrives(f"{tmp}/witness")
    assert mode_and_owner(f"{tmp}/victim") == (0o700, BOB)
    assert os.listdir(f"{tmp}/victim") == ["key"]
    assert alice.ask(f"cat {tmp}/victim/key")[0] != 0
    alice.ask("rm -rf victim; mv victim gone; ln -s / victim; sleep 0.5")
    assert mode_and_owner(f"{tmp}/victim") == (0o700, BOB)
    alice.close()
    await_removed(overlay, daemon)
    assert mode_and_owner(f"{tmp}/victim") == (0o700, BOB)
    assert content(f"{tmp}/victim/key") == b"secret\n"


def test_others_files_are_not_removed_through_the_old_tree(overlay, daemon, stand):
    """A name that alice may remove in the old tree, and that is bob's by path meanwhile."""
    tmp = overlay / f"{D}/tmp"
    alice = stand(f"{D}/tmp", ALICE)
    alice.do("echo alice > name")
    arrives(f"{tmp}/name")
    os.unlink(f"{tmp}/name")
    write(f"{tmp}/name", b"bob", 0o600)
    os.chown(f"{tmp}/name", BOB, BOB)
    alice.ask("rm -f name; mkdir witness")
    arrives(f"{tmp}/witness")
    assert content(f"{tmp}/name") == b"bob"
    leave(alice, overlay, daemon)
    assert content(f"{tmp}/name") == b"bob"


def test_nothing_of_a_kept_tree_is_managed(overlay, daemon, stand):
    """An old tree is no directory to be finalized, and no verb shows it."""
    shell = stand()
    tree = old_trees(overlay)[0]
    assert daemon.ctl("finalize", tree).code != 0
    listed = daemon.ctl("directories", "--json=short").ok().json["directories"]
    assert not [e["path"] for e in listed if ".ovlfind" in e["path"]]
    before = snapshot(overlay / D)
    leave(shell, overlay, daemon)
    assert diff(before, snapshot(overlay / D), ignore={"nlink"}) == []


def test_a_killed_worker_that_takes_long_to_die(overlay, daemon, stand):
    """It has the lock on the work it did until then, longer than a survey waits: another survey takes the work over."""
    shell = stand()
    workers = daemon.workers()
    daemon.kill()
    wait_for(lambda: not any(map(alive, workers)), "the workers to die")
    work, = (d.path for d in os.scandir(overlay / STAGING) if len(d.name) == 16)
    lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        daemon.start()
        wait_for(lambda: "is ready, 8 directories finalized" in daemon.log(), daemon.log)
        assert daemon.kept() == 0
    finally:
        os.close(lock)
    await_kept(daemon)
    shell.close()
    await_gone(overlay, daemon)
