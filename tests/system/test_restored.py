# SPDX-License-Identifier: LGPL-2.1-or-later
"""A lower layer that was restored from a copy, or moved to another server: the same content, other inodes and change times.
Nothing of it is copied into the upper."""

import os
import shutil

import pytest

from ovltest import assert_same, run, snapshot, visible
from ovltest.daemon import wait_for
from ovltest.tree import age, write

D = "soft"
N_FILES, SIZE = 20, 200_000


@pytest.fixture
def source(scene):
    top = scene.source()
    for i in range(N_FILES):
        write(os.path.join(top, D, f"sub{i % 3}", f"file{i}"), os.urandom(SIZE), 0o640 + i % 2)
    os.setxattr(os.path.join(top, D, "sub0", "file0"), "trusted.note", b"kept")
    os.symlink("file0", os.path.join(top, D, "sub0", "link"))
    age(top)
    return top


def restore(scene, source, change=lambda top: None, whole=False):
    """Each file is another one afterwards; whole: and so are the directories."""
    copy = os.path.join(scene.subdir("copy"), D)
    run("cp", "-a", os.path.join(source, D), copy)
    change(copy)
    if whole:
        os.rename(os.path.join(source, D), os.path.join(scene.dir, "before"))
        os.rename(copy, os.path.join(source, D))
        return
    for directory, _, names in os.walk(copy):
        there = os.path.join(source, D, os.path.relpath(directory, copy))
        for name in names:
            run("cp", "-a", os.path.join(directory, name), os.path.join(there, ".new"))
            os.rename(os.path.join(there, ".new"), os.path.join(there, name))
        shutil.copystat(directory, there)


def files(overlay):
    return [os.path.join(d, f) for d, _, names in os.walk(overlay.upper_path(D)) for f in names if f.startswith("file")]


def data_in_upper(overlay):
    """Paths of files whose data is there, and the bytes that all files take."""
    whole = set()
    for path in files(overlay):
        try:
            os.getxattr(path, "trusted.overlay.metacopy")
        except OSError:
            whole.add(os.path.basename(path))
    return whole, sum(os.lstat(path).st_blocks * 512 for path in files(overlay))


def plan(daemon, overlay):
    return daemon.ctl("refresh", overlay / D, "--dry-run", "--json=short").ok().json["jobs"][0].get("plan", [])


def settle(daemon, overlay):
    """A change time of the last two seconds is not relied upon: once that is over, each file is known as what it is now."""
    wait_for(lambda: (daemon.ctl("refresh", overlay / D).ok(), plan(daemon, overlay))[1] == [], "nothing more to do")


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("method", ["exchange", "mark"])
def test_restored(scene, source, method, whole):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", f"--method={method}", overlay / D).ok()
    expected, before = visible(snapshot(overlay / D)), data_in_upper(overlay)
    assert before[0] == set()
    restore(scene, source, whole=whole)
    steps = [s for s in plan(daemon, overlay) if "/file" in s["path"]]
    assert len(steps) == N_FILES and sum(s["bytes"] for s in steps) == 0
    daemon.ctl("refresh", overlay / D).ok()
    assert data_in_upper(overlay) == before
    settle(daemon, overlay)
    assert data_in_upper(overlay) == before
    assert_same(expected, visible(snapshot(overlay / D)))
    overlay.remount()
    assert_same(expected, visible(snapshot(overlay / D)))
    assert daemon.ctl("verify", "soft", "--json=short").ok().json["problems"] == []
    for directory, _, _ in os.walk(overlay / D):
        assert daemon.state_of(directory) == "finalized", directory
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_same(expected, visible(snapshot(overlay / D)))


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
@pytest.mark.parametrize("method", ["exchange", "mark"])
def test_on_another_server(scene, source, method, kind):
    """Another file system, where nothing is the inode of before, and the overlay is mounted anew with it."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", f"--method={method}", overlay / D).ok()
    expected, before = visible(snapshot(overlay / D)), data_in_upper(overlay)
    assert daemon.stop() == 0
    overlay.umount()
    moved = os.path.join(scene.upper(kind).point, "moved")
    run("cp", "-a", source, moved)
    shutil.rmtree(source)
    overlay.lowers = [moved]
    overlay.mount()
    assert_same(expected, visible(snapshot(overlay / D)))
    daemon.start()
    assert sum(s["bytes"] for s in plan(daemon, overlay)) == 0
    daemon.ctl("refresh", overlay / D).ok()
    settle(daemon, overlay)
    assert data_in_upper(overlay) == before
    write(os.path.join(moved, D, "sub1/new"))
    os.unlink(os.path.join(moved, D, "sub2/file2"))
    daemon.ctl("refresh", overlay / D).ok()
    expected = visible(snapshot(os.path.join(moved, D)))
    assert_same(expected, visible(snapshot(overlay / D)))
    overlay.remount()
    assert_same(expected, visible(snapshot(overlay / D)))
    assert daemon.ctl("verify", "soft", "--json=short").ok().json["problems"] == []
    for directory, _, _ in os.walk(overlay / D):
        assert daemon.state_of(directory) == "finalized", directory


def test_what_differs_is_copied(scene, source):
    """One file has another time, one another length: these, and no other. Of one that has another owner it is that alone."""
    def change(top):
        os.utime(os.path.join(top, "sub1", "file1"), ns=(1, 1_700_000_000_000_000_001))
        os.chown(os.path.join(top, "sub2", "file2"), 12345, 54321)
        with open(os.path.join(top, "sub0", "file3"), "ab") as f:
            f.write(b"more")

    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    restore(scene, source, change)
    daemon.ctl("refresh", overlay / D).ok()
    assert data_in_upper(overlay)[0] == {"file1", "file3"}
    expected = visible(snapshot(os.path.join(source, D)))
    assert_same(expected, visible(snapshot(overlay / D)))
    overlay.remount()
    assert_same(expected, visible(snapshot(overlay / D)))


def test_index(scene, source):
    """With index=on the kernel goes by the file itself, not by its path: copied, as what shows there would fail."""
    overlay = scene.overlay(source, index="on")
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    expected = visible(snapshot(overlay / D))
    restore(scene, source)
    daemon.ctl("refresh", overlay / D).ok()
    assert_same(expected, visible(snapshot(overlay / D)))
    overlay.remount()
    assert_same(expected, visible(snapshot(overlay / D)))


def remove_some(source):
    os.unlink(os.path.join(source, D, "sub0", "file0"))
    shutil.rmtree(os.path.join(source, D, "sub1"))


def is_pruned(overlay):
    names = [f"{D}/sub0/file0", f"{D}/sub1"]
    return not any(os.path.lexists(path) for name in names for path in (overlay / name, overlay.upper_path(name)))


@pytest.mark.parametrize("method", ["exchange", "mark"])
def test_what_is_removed_later_is_pruned(scene, source, method):
    """The record knows the directories of the copy, so that what they lack is known to be removed."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", f"--method={method}", overlay / D).ok()
    restore(scene, source, whole=True)
    daemon.ctl("refresh", overlay / D).ok()
    remove_some(source)
    assert "out of reach" not in daemon.ctl("prune", overlay / D).ok().err
    assert is_pruned(overlay)


def replace_directories(scene, source):
    """Their files stay the same ones."""
    links = os.path.join(scene.subdir("links"), D)
    run("cp", "-al", os.path.join(source, D), links)
    shutil.rmtree(os.path.join(source, D))
    os.rename(links, os.path.join(source, D))


def test_other_directories_are_told(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    replace_directories(scene, source)
    assert daemon.stop() == 0
    daemon.start()
    wait_for(lambda: daemon.state_of(overlay / D) == "stale", "the comparison")
    status = daemon.ctl("status", overlay / D, "--json=short").ok().json["directories"][0]
    assert "is another one than before" in status["reason"]
    daemon.ctl("refresh", overlay / D).ok()
    assert daemon.state_of(overlay / D) == "finalized"


@pytest.mark.parametrize("change", [restore, replace_directories])
def test_taken_up_by_itself(scene, source, change):
    """Other files, or other directories; what is removed later is known to be."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"OnLowerChange": "refresh", "OnLowerRemoved": "prune"}}))
    daemon.ctl("finalize", overlay / D).ok()
    before = data_in_upper(overlay)
    assert daemon.stop() == 0
    change(scene, source)
    daemon.start()
    wait_for(lambda: "Refreshed" in daemon.log(), "the refresh")
    settle(daemon, overlay)
    assert data_in_upper(overlay) == before
    assert daemon.stop() == 0
    remove_some(source)
    daemon.start()
    wait_for(lambda: is_pruned(overlay), "the prune")


def test_a_copy_that_lacks_something_is_in_doubt(scene, source):
    """It may not be whole yet: nothing counts as removed, and so it stays, until there is all that is recorded."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    restore(scene, source, lambda top: os.rename(os.path.join(top, "sub2"), os.path.join(scene.dir, "late")), whole=True)
    for _ in range(2):
        assert "out of reach" in daemon.ctl("refresh", overlay / D).err
        daemon.ctl("prune", overlay / D)
        assert os.path.exists(overlay.upper_path(f"{D}/sub2/file2"))
    os.rename(os.path.join(scene.dir, "late"), os.path.join(source, D, "sub2"))
    daemon.ctl("refresh", overlay / D).ok()
    remove_some(source)
    daemon.ctl("prune", overlay / D).ok()
    assert is_pruned(overlay)


@pytest.mark.parametrize("first", ["file1", "file1.old"])
def test_a_copy_beside_what_it_was_made_of(scene, source, first):
    """Both are there from now on, also once one of them is written to: the kernel would know that by the inode of the other."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    path, old = (os.path.join(source, D, "sub1", name) for name in ("file1", "file1.old"))
    os.rename(path, old)
    shutil.copy2(old, path)
    daemon.ctl("refresh", overlay / D).ok()
    with open(old, "rb") as f:
        content = f.read()
    here = {name: overlay / f"{D}/sub1/{name}" for name in ("file1", "file1.old")}
    with open(here["file1"], "ab") as f:
        f.write(b"mine")
    for _ in range(2):
        for name in sorted(here, key=lambda n: n != first):
            with open(here[name], "rb") as f:
                assert f.read() == content + (b"mine" if name == "file1" else b""), name
        overlay.remount()
    assert daemon.ctl("verify", "soft", "--json=short").ok().json["problems"] == []


def test_one_that_was_moved_over_another_that_looks_the_same(scene):
    """Size and time say nothing of whose it is: what a user has moved there stays."""
    source = scene.source()
    for name in ("one", "other"):
        write(os.path.join(source, D, name), name.ljust(20).encode())
    age(source)
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    with open(overlay / f"{D}/one", "ab"):
        pass  # its data is here now
    os.rename(overlay / f"{D}/one", overlay / f"{D}/other")
    daemon.ctl("refresh", overlay / D).ok()
    with open(overlay / f"{D}/other", "rb") as f:
        assert f.read().rstrip() == b"one"
