# SPDX-License-Identifier: LGPL-2.1-or-later
"""Those who stand in a directory while it is finalized work on in its old tree: what they do there arrives, what others do
meanwhile stays, and the old tree goes in the end, whatever happens."""

import contextlib
import ctypes
import errno
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
from ovltest.oldtree import KEEP, STAGING, await_gone, await_kept, await_removed, kept_files, old_trees, traces
from ovltest.tree import age, write

P, D = "p", "p/d"
ALICE, BOB = 1000, 1001
RENAME_EXCHANGE = 2

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def source(scene):
    top = scene.source()
    for i in range(1, 4):
        write(os.path.join(top, D, f"f{i}"))
        write(os.path.join(top, D, "sub", f"g{i}"))
    write(os.path.join(top, D, "a", "x"), b"A")
    write(os.path.join(top, D, "b", "x"), b"B")
    write(os.path.join(top, P, "beside", "file"))
    for name, uid in (("alice", ALICE), ("bob", BOB)):
        home = os.path.join(top, D, "home", name)
        write(os.path.join(home, "f"))
        for path in (home, os.path.join(home, "f")):
            os.chown(path, uid, uid)
    os.mkdir(os.path.join(top, D, "tmp"))
    os.chmod(os.path.join(top, D, "tmp"), 0o1777)
    age(top)
    return top


@pytest.fixture
def daemon(scene, overlay):
    return scene.daemon(soft=(overlay, {"Finalize": KEEP}))


@pytest.fixture
def stand(scene, overlay, daemon):
    """stand(directory, uid): a shell that stands there, through a finalize of D."""
    def start(directory=D, uid=None, verb="finalize"):
        shell = scene.keep(Shell(overlay / directory, uid))
        daemon.ctl(verb, overlay / D).ok()
        await_kept(daemon)
        return shell
    return start


def content(path):
    with open(path, "rb") as f:
        return f.read()


def arrives(path, what=None):
    wait_for(lambda: os.path.lexists(path), what or f"{path} to arrive", 5, 0.002)


def leave(shell, overlay, daemon):
    """The shell ends; the daemon notices and removes the old tree."""
    shell.close()
    await_gone(overlay, daemon)


# A shell works on

@pytest.mark.parametrize("uid", [None, ALICE], ids=["root", "user"])
def test_a_shell_works_on(scene, overlay, daemon, stand, uid):
    """What it makes by relative paths is found by absolute ones at once."""
    home = f"{D}/home/alice"
    archive = os.path.join(scene.dir, "archive.tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(os.path.join(overlay / D, "sub"), "unpacked/sub")
    shell = stand(home, uid)
    shell.do("mkdir x && cd x && touch f && mkdir -p deeper/still && echo text > deeper/still/file")
    arrives(overlay / f"{home}/x/f")
    wait_for(lambda: os.path.exists(overlay / f"{home}/x/deeper/still/file") and
             content(overlay / f"{home}/x/deeper/still/file") == b"text\n", "the file in new directories", 5)
    shell.do(f"tar xf {archive}")
    before = {n: v["content"] for n, v in snapshot(overlay / f"{D}/sub").items()}
    wait_for(lambda: os.path.isdir(overlay / f"{home}/x/unpacked/sub") and
             {n: v["content"] for n, v in snapshot(overlay / f"{home}/x/unpacked/sub").items()} == before,
             "the archive's content", 5)
    shell.do("cd .. && echo more >> f && mv x y && rm -r y/unpacked")
    wait_for(lambda: os.path.isdir(overlay / f"{home}/y") and not os.path.lexists(overlay / f"{home}/x") and
             os.listdir(overlay / f"{home}/y") and not os.path.lexists(overlay / f"{home}/y/unpacked"), "a rename", 5)
    assert content(overlay / f"{home}/f").endswith(b"more\n")
    shell.do("cd y")
    owner = os.lstat(overlay / f"{home}/y").st_uid
    assert owner == (0 if uid is None else uid)
    leave(shell, overlay, daemon)
    assert content(overlay / f"{home}/y/deeper/still/file") == b"text\n"
    assert sorted(os.listdir(overlay / f"{home}/y")) == ["deeper", "f"]
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
    assert daemon.state_of(overlay / D) in ("merged", "copied-up")
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})


def test_several_stand(scene, overlay, daemon):
    """In D, in a child, with a descriptor only; and through a second exchange."""
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    shells = [scene.keep(Shell(overlay / d)) for d in (D, f"{D}/sub", f"{D}/a")]
    holder = scene.keep(Shell("/"))
    holder.do(f"exec 7<{overlay / D}/b")
    before = snapshot(overlay / D)
    daemon.ctl("unfinalize", overlay / D).ok()
    await_kept(daemon)
    late = scene.keep(Shell(overlay / f"{D}/sub"))
    daemon.ctl("finalize", overlay / D).ok()
    await_kept(daemon, 2)
    shells[1].do("echo first > first")
    late.do("echo second > second")
    for name in ("first", "second"):
        arrives(overlay / f"{D}/sub/{name}")
        os.unlink(overlay / f"{D}/sub/{name}")
    for shell in (*shells, late):
        shell.close()
    # What is done in the older tree gets to the directory by way of the later one.
    holder.do("cd /proc/self/fd/7; exec 7<&-; echo third > third")
    arrives(overlay / f"{D}/b/third")
    os.unlink(overlay / f"{D}/b/third")
    await_kept(daemon, 2)
    holder.do("cd /")
    await_gone(overlay, daemon)
    assert_same(before, snapshot(overlay / D), ignore={"mtime"})


@pytest.mark.parametrize("command,gone,there", [
    ("rm f1", "f1", None), ("mv f2 renamed", "f2", "renamed"), ("rm -r sub", "sub", None), ("mv a sub/a", "a", "sub/a"),
    ("echo made > made", None, "made"), ("mkdir -p new/dir", None, "new/dir")])
def test_changes_in_an_old_tree_while_the_next_exchange_runs(scene, overlay, daemon, command, gone, there):
    """What was not taken over yet when its target became an old tree itself arrives all the same."""
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    shell = scene.keep(Shell(overlay / D))
    daemon.ctl("unfinalize", overlay / D).ok()
    await_kept(daemon)
    before = set(os.listdir(overlay / D))
    # Nobody cleans up: other names are made there as well.
    shell.do(f"echo witness > witness; {command}")
    daemon.ctl("finalize", overlay / D).ok()
    leave(shell, overlay, daemon)
    assert gone is None or not os.path.lexists(overlay / f"{D}/{gone}"), f"{gone} came back"
    assert there is None or os.path.lexists(overlay / f"{D}/{there}"), f"{there} is lost"
    assert before - set(os.listdir(overlay / D)) <= {gone}
    assert daemon.state_of(overlay / D) == "finalized"


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
    wait_for(lambda: "names were removed in the old tree" in daemon.log() or before - set(os.listdir(overlay / D)),
             "the decision about them")
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


def test_waiting_for_an_older_tree_costs_little(scene, overlay, daemon):
    """Nobody stands in the later of two old trees, and whoever stands in the older one is busy there."""
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    shell = scene.keep(Shell(overlay / D))
    daemon.ctl("unfinalize", overlay / D).ok()
    await_kept(daemon)
    older, = daemon.workers()
    daemon.ctl("finalize", overlay / D).ok()
    await_kept(daemon, 2)
    later, = set(daemon.workers()) - {older}
    before = cpu_seconds(older), cpu_seconds(later)
    shell.do("for i in {1..150}; do echo > t$i; sleep 0.01; done")
    arrives(overlay / f"{D}/t150")
    used_older, used_later = (cpu_seconds(pid) - b for pid, b in zip((older, later), before))
    assert used_later < 2 * used_older + 0.1, "each event is a search through /proc"


def test_removed_by_path_while_somebody_stands_there(overlay, daemon, stand):
    shell = stand()
    shutil.rmtree(overlay / D)
    shell.do("echo late > late")
    worker = daemon.workers()[0]
    before = cpu_seconds(worker)
    os.mkdir(overlay / f"{P}/marker")  # time for the worker to see the event
    wait_for(lambda: daemon.kept() == 1, "the old tree")
    shell.do("sleep 1")
    assert not os.path.lexists(overlay / D)
    assert cpu_seconds(worker) - before < 0.5, "the worker spins"
    shell.close()
    await_removed(overlay, daemon)
    assert not os.path.lexists(overlay / D)
    assert kept_files(overlay) in ([], [b"late\n"])  # its directory is gone, but it is somebody's


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
    assert not os.path.lexists(overlay / f"{D}/t2")


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
    wait_for(lambda: content_of(overlay) == {"a": b"B", "b": b"A"}, f"the exchange to arrive: {content_of(overlay)}", 10)
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
    wait_for(lambda: os.path.exists(overlay / f"{D}/sub/f1"), "the last rename to arrive", 10)
    wait_for(lambda: content_of(overlay) == {"a": b"B", "b": b"A"}, f"the renames to arrive: {content_of(overlay)}", 10)
    leave(shell, overlay, daemon)
    assert sorted(os.listdir(overlay / f"{D}/sub")) == ["f1", "new"]
    assert sorted(os.listdir(overlay / f"{D}/home/sub")) == ["g1", "g2", "g3"]
    assert content_of(overlay) == {"a": b"B", "b": b"A"}


@pytest.mark.parametrize("call", ["unlinkat", "renameat2"])
@pytest.mark.parametrize("n", [1, 4])
def test_an_error_while_the_old_tree_is_removed(scene, overlay, call, n):
    """A lower that failed for a moment, a full disk: it is tried again, and goes."""
    daemon = scene.daemon(start=False, soft=(overlay, {"Finalize": KEEP}))
    daemon.use_killer()
    daemon.start()
    before = snapshot(overlay / D)
    shell = scene.keep(Shell(overlay / D))
    daemon.arm(n, call=call, error=errno.EIO)
    result = daemon.ctl("finalize", overlay / D)
    shell.close()
    wait_for(lambda: daemon.kept() == 0 and not traces(overlay), f"{traces(overlay)} to be cleaned up", 40)
    assert_same(before, snapshot(overlay / D), ignore={"mtime"})
    if result.code == 0:
        assert daemon.state_of(overlay / D) == "finalized"
    daemon.ctl("finalize", overlay / D).ok()


@pytest.mark.parametrize("n", [3, 4, 5])
def test_an_error_while_deletions_arrive(scene, overlay, n):
    """One that fails takes none of the others with it, and is done later."""
    daemon = scene.daemon(start=False, soft=(overlay, {"Finalize": KEEP}))
    daemon.use_killer()
    daemon.start()
    shell = scene.keep(Shell(overlay / D))
    daemon.arm(n, call="renameat2", error=errno.EIO)
    result = daemon.ctl("finalize", overlay / D)
    shell.do("rm f1 f2 f3 sub/g1 && rm -r a b")
    shell.close()
    await_gone(overlay, daemon, timeout=40)
    assert sorted(os.listdir(overlay / D)) == ["home", "sub", "tmp"], result.err
    assert sorted(os.listdir(overlay / f"{D}/sub")) == ["g2", "g3"]


def test_deletions_below_a_mount_arrive(overlay, daemon, stand):
    """The directory they belong to cannot be reached when they are decided about, and the one who made them has left."""
    shell = stand()
    wait_for(lambda: old_trees(overlay), "the old tree to stand beside")
    shell.do("rm sub/g1")
    run("mount", "-t", "tmpfs", "over", overlay / f"{D}/sub")
    try:
        shell.close()
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not traces(overlay), "the old tree to go, which it should not", 3)
    finally:
        run("umount", overlay / f"{D}/sub")
    await_gone(overlay, daemon)
    assert sorted(os.listdir(overlay / f"{D}/sub")) == ["g2", "g3"]


def test_a_directory_below_takes_the_place_of_one_that_left(overlay, daemon, stand):
    """It left with so many names that D keeps them; the one below comes back under its name."""
    for n in range(70):
        write(overlay / f"{D}/big/{n}")
    write(overlay / f"{D}/big/child/x", b"x")
    shell = stand()
    shell.do(f"mv big {overlay / 'out'}")
    wait_for(lambda: "the directory keeps them" in daemon.log(), "names to be kept")
    shell.do(f"mv {overlay / 'out/child'} big")
    leave(shell, overlay, daemon)
    assert sorted(os.listdir(overlay / "out")) == sorted(str(n) for n in range(70))
    assert content(overlay / f"{D}/big/child/x") == b"x"


def test_an_error_of_the_lower_while_the_old_tree_is_removed(lower, overlay, daemon, stand):
    shell = stand()
    before = snapshot(overlay / D)
    lower.fail("EIO", D)
    lower.invalidate()
    shell.close()
    with contextlib.suppress(TimeoutError):  # it may fail, or do without the lower
        wait_for(lambda: daemon.kept() == 0, "the old tree to go", 5)
    lower.recover()
    await_gone(overlay, daemon, timeout=40)
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})


@pytest.mark.parametrize("is_used", (False, True))
def test_the_lower_loses_files_while_an_old_tree_is_kept(source, lower, overlay, daemon, stand, is_used):
    """The old tree goes nevertheless, and what stands for the lost file is left to prune."""
    shell = stand()
    if is_used:
        shell.do("echo by cwd > sub/mine")
        arrives(overlay / f"{D}/sub/mine")
    before = snapshot(overlay / D)
    os.unlink(os.path.join(source, D, "f1"))
    os.unlink(os.path.join(source, D, "sub/g1"))
    lower.invalidate()
    daemon.ctl("remount", "soft", "--method=reconfigure").ok()
    with pytest.raises(OSError):
        os.stat(overlay / f"{D}/sub/g1")
    leave(shell, overlay, daemon)
    assert sorted(os.listdir(overlay.upper_path(f"{D}/sub"))) == ["g1", "g2", "g3"] + is_used * ["mine"]
    daemon.ctl("prune", overlay / D).ok()
    del before["f1"], before["sub/g1"]
    before[""]["content"].remove("f1")
    before["sub"]["content"].remove("g1")
    assert_same(before, snapshot(overlay / D), ignore={"nlink", "mtime"})
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / D), ignore={"nlink", "mtime"})


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


def test_attributes_of_what_nobody_else_touched_arrive(overlay, daemon, stand):
    shell = stand(f"{D}/home/alice", ALICE)
    shell.do("chmod 711 . && touch witness")
    wait_for(lambda: mode_and_owner(overlay / f"{D}/home/alice") == (0o711, ALICE), "the mode to arrive", 10)
    leave(shell, overlay, daemon)
    assert mode_and_owner(overlay / f"{D}/home/alice") == (0o711, ALICE)


def test_a_stander_takes_over_nobodys_directory(scene, overlay, daemon, stand):
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
