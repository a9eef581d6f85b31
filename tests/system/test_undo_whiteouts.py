# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an undo leaves covered are the names of the lower that were deleted, and no others: a name that was only ever made here
is free for what the lower gets under it."""

import os
import shutil
import stat

import pytest

from ovltest import run
from ovltest.tree import write

D = "d"


@pytest.fixture
def source(scene):
    top = scene.source()
    for name in ("f", "g", "h", "below/f", "below/deeper/f", "covered", "copied"):
        write(os.path.join(top, D, name), b"of the lower")
    os.symlink("f", os.path.join(top, D, "link"))
    write(os.path.join(top, "other/x"))
    write(os.path.join(top, "other/directory/x"))
    return top


@pytest.fixture
def overlay(scene, source):
    return scene.overlay(source)


@pytest.fixture
def daemon(scene, overlay):
    return scene.daemon(soft=overlay)


def whiteouts(overlay, top=D):
    found = set()
    for directory, _, files in os.walk(overlay.upper_path(top)):
        for name in files:
            st = os.lstat(os.path.join(directory, name))
            if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                found.add(os.path.relpath(os.path.join(directory, name), overlay.upper_path(top)))
    return found


def names(top):
    return {os.path.relpath(os.path.join(d, n), top) for d, dirs, files in os.walk(top) for n in (*dirs, *files)}


def remove(*paths):
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def add(source, *paths):
    """To the lower, where none of them is."""
    for path in paths:
        assert not os.path.lexists(os.path.join(source, D, path))
        write(os.path.join(source, D, path), b"added")


def assert_shown(overlay, shown, hidden=()):
    """Now, and when nothing is cached."""
    for _ in range(2):
        found = names(overlay / D)
        assert set(shown) <= found and not set(hidden) & found, found
        overlay.remount()


@pytest.mark.parametrize("method", ("exchange", "mark"))
def test_a_name_that_the_lower_never_had(overlay, daemon, source, method):
    d = overlay / D
    write(os.path.join(d, "w1"))
    write(os.path.join(d, "below/deeper/w2"))
    daemon.ctl("finalize", "--depth=2" if method == "mark" else "--method=exchange", d).ok()
    remove(os.path.join(d, "w1"), os.path.join(d, "below/deeper/w2"), os.path.join(d, "f"))
    daemon.ctl("unfinalize", d).ok()
    assert whiteouts(overlay) == {"f"}
    assert daemon.ctl("verify", overlay.point).code == 0
    daemon.stop()
    add(source, "w1", "below/deeper/w2")
    assert_shown(overlay, ("w1", "below/deeper/w2"), ("f",))


@pytest.mark.parametrize("method", ("exchange", "mark"))
def test_all_ways_to_make_a_name(overlay, daemon, source, method):
    d = overlay / D

    def at(name):
        return os.path.join(d, name)

    with open(at("g"), "ab") as f:
        f.write(b" and of the upper")  # its data is in the upper: nothing there tells the name it had
    os.rename(at("f"), at("renamed"))
    os.rename(at("g"), at("renamed-with-data"))
    os.rename(overlay / "other/x", at("moved-in"))
    os.rename(overlay / "other/directory", at("directory-moved-in"))
    os.rename(at("h"), overlay / "other/moved-out")
    os.link(at("copied"), at("hard-link"))
    os.symlink("nowhere", at("symlink"))
    os.makedirs(at("made/inside"))
    write(at("made/inside/file"))
    made = ["renamed", "renamed-with-data", "moved-in", "directory-moved-in", "hard-link", "symlink", "made"]
    daemon.ctl("finalize", f"--method={method}", d).ok()
    remove(*map(at, made))
    daemon.ctl("unfinalize", d).ok()
    assert whiteouts(overlay) == {"f", "g", "h"}
    daemon.stop()
    add(source, *made)
    assert_shown(overlay, made, ("f", "g", "h"))


@pytest.mark.parametrize("method", ("exchange", "mark"))
def test_what_the_lower_has_stays_deleted(overlay, daemon, method):
    """However little of it the upper still tells."""
    d = overlay / D

    def at(name):
        return os.path.join(d, name)

    remove(at("covered"), at("link"), at("below"))
    write(at("covered"), b"made here")  # in its place
    os.symlink("elsewhere", at("link"))
    os.makedirs(at("below"))
    write(at("below/f"), b"made here")
    with open(at("copied"), "ab") as f:
        f.write(b" and of the upper")
    os.rename(at("g"), at("h"))  # replaces it
    daemon.ctl("finalize", f"--method={method}", d).ok()
    lower_names = ("covered", "link", "below", "copied", "f", "h")
    remove(*map(at, lower_names))
    daemon.ctl("unfinalize", d).ok()
    assert whiteouts(overlay) == {*lower_names, "g"}
    daemon.stop()
    assert_shown(overlay, (), (*lower_names, "g"))
    assert os.listdir(d) == []


def test_several_layers(scene):
    """What a layer covers of the one below is no name of the lower."""
    top, bottom = scene.source(), scene.source()
    for name in ("in-the-bottom", "covered-by-the-top"):
        write(os.path.join(bottom, D, name))
    write(os.path.join(top, D, "in-the-top"))
    os.mknod(os.path.join(top, D, "covered-by-the-top"), stat.S_IFCHR, 0)
    overlay = scene.overlay(top, bottom)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    for name in ("in-the-bottom", "in-the-top"):
        remove(os.path.join(d, name))
        write(os.path.join(d, name))
    write(os.path.join(d, "covered-by-the-top"))
    write(os.path.join(d, "w1"))
    daemon.ctl("finalize", d).ok()
    remove(*(os.path.join(d, n) for n in os.listdir(d)))
    daemon.ctl("unfinalize", d).ok()
    assert whiteouts(overlay) == {"in-the-bottom", "in-the-top"}
    daemon.stop()
    os.unlink(os.path.join(top, D, "covered-by-the-top"))
    add(bottom, "w1")
    assert_shown(overlay, ("w1", "covered-by-the-top"), ("in-the-bottom", "in-the-top"))


def test_a_lower_that_does_not_tell(overlay, daemon, source):
    """By the path of the layer something else is seen, which has such a directory, too: then a name counts as the lower's."""
    d = overlay / D
    remove(os.path.join(d, "covered"))
    for name in ("covered", "w1"):
        write(os.path.join(d, name))
    run("mount", "-t", "tmpfs", "elsewhere", source)
    try:
        write(os.path.join(source, D, "of-another"))
        daemon.ctl("finalize", d).ok()
    finally:
        run("umount", source)
    remove(os.path.join(d, "covered"), os.path.join(d, "w1"))
    daemon.ctl("unfinalize", d).ok()
    assert whiteouts(overlay) == {"covered", "w1"}


# While a job is at work: before its first entry is put in place, and when all is ready to be exchanged.
HELD = {"begin": {"n": 1, "call": "linkat"}, "end": {"n": 1, "call": "exchange"}}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("verb", ("finalize", "unfinalize"))
def test_while_a_job_is_at_work(scene, overlay, source, verb, held):
    d = overlay / D

    def at(name):
        return os.path.join(d, name)

    daemon = scene.daemon(killer=True, soft=overlay)
    local = ["file", "renamed", "below/file", "replacing"]
    for name in local:
        write(at(name))
    for name in ("directory", "below/directory-renamed"):
        os.makedirs(at(name))
        write(at(f"{name}/inside"))
    if verb == "unfinalize":
        daemon.ctl("finalize", d).ok()
    daemon.arm(**HELD[held], hold=True)
    job = daemon.start_ctl(verb, d)
    assert daemon.held()
    remove(at("file"), at("below/file"), at("directory"))
    os.rename(at("renamed"), at("renamed-2"))
    os.rename(at("below/directory-renamed"), at("directory-renamed-2"))
    os.rename(at("replacing"), at("f"))
    remove(at("f"))
    os.rename(at("g"), at("lower-renamed"))
    write(at("made"))
    write(at("made-and-removed"))
    remove(at("made-and-removed"))
    daemon.release(everything=True)
    output = job.communicate(timeout=200)
    assert job.returncode == 0, output
    remove(at("renamed-2"), at("directory-renamed-2"), at("lower-renamed"), at("made"), at("h"))
    if verb == "finalize":
        daemon.ctl("unfinalize", d).ok()
    assert whiteouts(overlay) == {"f", "g", "h"}
    daemon.stop()
    gone = ("file", "renamed", "below/file", "replacing", "directory", "below/directory-renamed", "renamed-2",
            "directory-renamed-2", "lower-renamed", "made", "made-and-removed")
    add(source, *gone)
    assert_shown(overlay, gone, ("f", "g", "h"))


def test_a_name_made_anew_while_its_directory_is_listed(scene, overlay):
    """The listing did not show it, and its whiteout is gone when that is looked for."""
    d = overlay / D
    write(os.path.join(d, "errno-1"))
    remove(os.path.join(d, "f"))
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.arm(0, call="openat2", error="name", hold=True)  # on the entry of that name, and none fails
    job = daemon.start_ctl("finalize", d)
    assert daemon.held()
    write(os.path.join(d, "f"))
    daemon.release(everything=True)
    output = job.communicate(timeout=200)
    assert job.returncode == 0, output
    remove(os.path.join(d, "f"))
    daemon.ctl("unfinalize", d).ok()
    assert whiteouts(overlay) == {"f"}


@pytest.mark.parametrize("make", (write, os.mkdir), ids=("file", "directory"))
@pytest.mark.parametrize("anew", (False, True), ids=("gone", "made anew"))
def test_a_name_that_goes_while_its_directory_is_listed(scene, overlay, make, anew):
    """It was listed, and when it was looked at, the upper did not hold it: as it does not hold what is the lower's alone."""
    name = os.path.join(overlay / D, "errno-1")
    make(name)
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.arm(0, call="openat2,linkat", error="name", hold=True)  # on the entry of that name, and none fails
    job = daemon.start_ctl("finalize", overlay / D)
    assert daemon.held()
    remove(name)
    if anew:
        daemon.release()
        assert daemon.held()  # where it is opened, or put into the new tree
        make(name)
    daemon.release(everything=True)
    output = job.communicate(timeout=200)
    assert job.returncode == 0, output
    if anew:
        remove(name)
    daemon.ctl("unfinalize", overlay / D).ok()
    assert not whiteouts(overlay)


def test_names_of_here_that_the_lower_gets(overlay, daemon, source):
    """A refresh takes those that are free, leaves the others, and knows them for names of the lower from then on."""
    d = overlay / D

    def at(name):
        return os.path.join(d, name)

    def content(name):
        with open(at(name), "rb") as f:
            return f.read()

    for name in ("file", "file-gone", "file-to-directory", "file-gone-to-directory", "directory/x", "directory-gone/x",
                 "directory-to-file/x", "directory-gone-to-file/x"):
        write(at(name), b"made here")
    os.mkdir(at("empty"))
    os.rename(overlay / "other/directory", at("moved-in"))
    daemon.ctl("finalize", d).ok()
    remove(*map(at, ("file-gone", "file-gone-to-directory", "directory-gone", "directory-gone-to-file")))
    write(at("after"), b"made here")
    write(at("directory-after/x"), b"made here")
    stay = ("file", "file-to-directory", "directory/x", "directory-to-file/x", "after", "directory-after/x")
    come = ("file-gone", "file-gone-to-directory/y", "directory-gone/y", "directory-gone-to-file")
    files = ("file", "file-gone", "directory-to-file", "directory-gone-to-file", "after")
    add(source, *files, "file-to-directory/y", "file-gone-to-directory/y", "directory/y", "directory-gone/y", "directory-after/y",
        "empty/y", "moved-in/y")
    daemon.ctl("refresh", d).ok()
    assert {n: content(n) for n in stay} == dict.fromkeys(stay, b"made here")
    assert {n: content(n) for n in come} == dict.fromkeys(come, b"added")
    assert os.listdir(at("empty")) == [] and os.listdir(at("moved-in")) == ["x"]
    result = daemon.ctl("refresh", d).ok()
    assert "nothing to do" in result.out and not result.err, result
    assert daemon.ctl("verify", overlay.point).code == 0
    for name in files:
        os.unlink(os.path.join(source, D, name))
    daemon.ctl("refresh", d).ok()
    assert {n: content(n) for n in stay} == dict.fromkeys(stay, b"made here")
    assert not any(map(os.path.lexists, map(at, ("file-gone", "directory-gone-to-file"))))
    add(source, *files)
    daemon.ctl("refresh", d).ok()
    gone = ("file", "file-gone", "file-to-directory", "directory", "directory-gone", "after", "directory-after", "empty")
    remove(*map(at, gone))
    daemon.ctl("unfinalize", d).ok()
    assert whiteouts(overlay) == set(gone)
    assert_shown(overlay, ("directory-to-file/x", "directory-gone-to-file", "moved-in/x"), gone)
