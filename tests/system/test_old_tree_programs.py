# SPDX-License-Identifier: LGPL-2.1-or-later
"""Standing=keep: what programs do with files arrives as they meant it, also when much is removed and made anew at once, when a
call of ours fails meanwhile, and when the lower does."""

import contextlib
import errno
import os

import pytest

from ovltest import assert_same, run, snapshot
from ovltest.daemon import wait_for
from ovltest.holders import Shell
from ovltest.oldtree import (KEEP, D, arrives, await_gone, await_removed, content, kept_files, leave, make_source, occupant,
                             old_trees, traces)
from ovltest.tree import write


@pytest.fixture
def source(scene):
    return make_source(scene)


@pytest.fixture
def daemon(scene, overlay):
    return scene.daemon(soft=(overlay, {"Finalize": KEEP}))


@pytest.fixture
def stand(scene, overlay, daemon):
    return occupant(scene, overlay, daemon)


def rule_holds(scene, overlay, daemon, shell, directory, expected):
    """The shell has its own work, by path it is there as well, and nothing was set aside."""
    for name, what in expected.items():
        assert shell.do(f"cat {name}") == what, name
    wait_for(lambda: {n: content_or_none(f"{directory}/{n}") for n in expected} ==
             {n: what.encode() for n, what in expected.items()}, "all to arrive")
    shell.close()
    await_gone(overlay, daemon)
    assert kept_files(overlay) == []
    assert {n: content_or_none(f"{directory}/{n}") for n in expected} == {n: what.encode() for n, what in expected.items()}


def content_or_none(path):
    with contextlib.suppress(FileNotFoundError):
        return content(path)
    return None


@pytest.mark.parametrize("n", [20, 64, 100])
def test_all_is_removed_and_made_anew_after_a_pause(scene, overlay, daemon, stand, n):
    """As by a build, or a package manager."""
    for i in range(n):
        write(overlay / f"{D}/many/{i}", b"before\n")
    shell = stand(f"{D}/many")
    shell.do("rm -rf *")
    wait_for(lambda: "names were removed or renamed in the old tree" in daemon.log(), "it to be seen")
    assert shell.do("ls") == ""
    shell.do(f"for ((i = 0; i < {n}; i++)); do echo after > $i; done")
    rule_holds(scene, overlay, daemon, shell, overlay / f"{D}/many", {str(i): "after\n" for i in range(n)})


def test_saved_with_a_backup(scene, overlay, daemon, stand):
    """y -> y~, y.new -> y, hundreds of times."""
    write(overlay / f"{D}/sub/y", b"0\n")
    shell = stand(f"{D}/sub")
    shell.do("for ((i = 1; i <= 400; i++)); do echo $i > y.new; mv y y~; mv y.new y; (( i % 20 )) || sleep 0.02; done")
    rule_holds(scene, overlay, daemon, shell, overlay / f"{D}/sub", {"y": "400\n", "y~": "399\n"})


def test_replaced_atomically(scene, overlay, daemon, stand):
    shell = stand(f"{D}/sub")
    shell.do("for ((i = 1; i <= 600; i++)); do echo $i > g1.new; mv g1.new g1; (( i % 20 )) || sleep 0.02; done")
    rule_holds(scene, overlay, daemon, shell, overlay / f"{D}/sub", {"g1": "600\n"})


@pytest.mark.parametrize("n,made_there", [(100, False), (2000, True)])
def test_many_are_removed(scene, overlay, daemon, stand, n, made_there):
    """They stay in the directory, which is told once."""
    if not made_there:
        for i in range(600):
            write(overlay / f"{D}/old/{i}")
    shell = stand()
    if made_there:
        shell.do(f"mkdir old; for ((i = 0; i < {n}; i++)); do : > old/$i; done")
        wait_for(lambda: len(os.listdir(overlay / f"{D}/old")) == n, "all to arrive")
    before = set(os.listdir(overlay / f"{D}/old"))
    shell.do(f"for ((i = 0; i < {n}; i++)); do echo old/$i; done | xargs rm")
    shell.do("echo witness > witness")
    arrives(overlay / f"{D}/witness")
    assert len(shell.do("ls old").split()) == len(before) - n
    leave(shell, overlay, daemon)
    assert set(os.listdir(overlay / f"{D}/old")) == before
    assert daemon.log().count("names were removed or renamed in the old tree") == 1


def test_a_directory_is_removed_and_made_anew(scene, overlay, daemon, stand):
    """rm -rf and mkdir, with others' files in it meanwhile."""
    shell = stand()
    for i in range(5):
        shell.do(f"rm -rf sub; mkdir -p sub/deep; echo {i} > sub/g1; echo {i} > sub/deep/new")
        write(overlay / f"{D}/sub/by-path{i}", b"by path")
        wait_for(lambda i=i: content_or_none(overlay / f"{D}/sub/deep/new") == b"%d\n" % i, "the new one to arrive")
    rule_holds(scene, overlay, daemon, shell, overlay / D, {"sub/g1": "4\n", "sub/deep/new": "4\n"})
    assert sorted(os.listdir(overlay / f"{D}/sub")) == [*(f"by-path{i}" for i in range(5)), "deep", "g1", "g2", "g3"]


@pytest.mark.parametrize("restart", [False, True], ids=["", "restarted"])
def test_a_file_in_the_place_of_a_directory_and_the_other_way_round(overlay, daemon, stand, restart):
    shell = stand()
    shell.do("rm -r sub; echo file > sub; rm f1; mkdir f1; echo in > f1/in")
    arrives(overlay / f"{D}/f1/in")
    if restart:
        daemon.restart()
    assert os.path.isdir(overlay / f"{D}/sub") and shell.do("cat sub") == "file\n"
    shell.do("echo again > sub2; mv sub2 sub")
    shell.close()
    await_removed(overlay, daemon)
    assert kept_files(overlay) == [b"again\n"] and f"{D}/sub" in daemon.log()
    assert sorted(os.listdir(overlay / f"{D}/sub")) == ["g1", "g2", "g3"]


def test_a_place_that_becomes_free(overlay, daemon, stand):
    """A name that was taken when it was made, and is not any more when it is made again, or in the end."""
    shell = stand()
    for name in ("mine", "late"):
        write(overlay / f"{D}/{name}", b"by path")
        shell.do(f"echo first > {name}")
        wait_for(lambda name=name: f"{D}/{name}': made while the name was taken" in daemon.log(), "it to be told")
        os.unlink(overlay / f"{D}/{name}")
    shell.do("rm mine; echo second > mine")
    arrives(overlay / f"{D}/mine")
    leave(shell, overlay, daemon)
    assert (content(overlay / f"{D}/mine"), content(overlay / f"{D}/late")) == (b"second\n", b"first\n")


@pytest.mark.parametrize("call", ["unlinkat", "renameat2"])
@pytest.mark.parametrize("n", [1, 4])
def test_an_error_while_the_old_tree_is_removed(scene, overlay, call, n):
    """A lower that failed for a moment, a full disk: it is tried again, and goes."""
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": KEEP}))
    before = snapshot(overlay / D)
    shell = scene.keep(Shell(overlay / D))
    daemon.arm(n, call=call, error=errno.EIO)
    result = daemon.ctl("finalize", overlay / D)
    shell.close()
    wait_for(lambda: daemon.kept() == 0 and not traces(overlay), f"{traces(overlay)} to be cleaned up")
    assert_same(before, snapshot(overlay / D), ignore={"mtime"})
    assert daemon.struck()
    if result.code == 0:
        assert daemon.state_of(overlay / D) == "finalized"
    daemon.ctl("finalize", overlay / D).ok()


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("call", ["linkat", "renameat2"])
def test_an_error_while_changes_arrive(scene, overlay, call, n):
    """One that fails takes none of the others with it, and is done later."""
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": KEEP}))
    shell = scene.keep(Shell(overlay / D))
    daemon.arm(n + 10 * (call == "linkat"), call=call, error=errno.EIO)
    daemon.ctl("finalize", overlay / D)
    shell.do("echo 1 > n1; echo 2 > n2; mkdir nd; echo 3 > nd/n3; echo 4 > g; mv g f1")
    shell.close()
    await_gone(overlay, daemon)
    assert daemon.struck()
    assert [content_or_none(overlay / f"{D}/{name}") for name in ("n1", "n2", "nd/n3", "f1")] == [b"1\n", b"2\n", b"3\n", b"4\n"]


def test_changes_below_a_mount_arrive(overlay, daemon, stand):
    """The directory they belong to cannot be reached, and the one who made them has left."""
    shell = stand()
    wait_for(lambda: old_trees(overlay), "the old tree to stand beside")
    run("mount", "-t", "tmpfs", "over", overlay / f"{D}/sub")
    try:
        shell.do("echo new > sub/new")
        shell.close()
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not traces(overlay), "the old tree to go, which it should not", 3)
    finally:
        run("umount", overlay / f"{D}/sub")
    await_gone(overlay, daemon)
    assert sorted(os.listdir(overlay / f"{D}/sub")) == ["g1", "g2", "g3", "new"]


def test_a_directory_below_takes_the_place_of_one_that_left(overlay, daemon, stand):
    """D keeps what left; the one below comes back under its name."""
    for n in range(70):
        write(overlay / f"{D}/big/{n}")
    write(overlay / f"{D}/big/child/x", b"x")
    shell = stand()
    shell.do(f"mv big {overlay / 'out'}")
    wait_for(lambda: "the directory keeps them" in daemon.log(), "it to be told")
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
    await_gone(overlay, daemon)
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
