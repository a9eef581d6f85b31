# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever changes in the lower layer below a finalized directory is noticed: each kind of change by itself, in directories
that were exchanged and in marked ones, on file systems with reliable change times and without. Taken up on request or
by itself; or told."""

import os
import shutil
import stat

import pytest

from ovltest import assert_same, run, snapshot, visible
from ovltest.daemon import wait_for
from ovltest.records import as_before_marks_had_digests
from ovltest.tree import age, write

D = "soft"


def acl(entries):
    return lambda path: run("setfacl", "-m", entries, path)


def replace(path, make):
    """Another entry in place of what stands there."""
    (shutil.rmtree if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)
    make(path)


def same_size_and_time(path):
    """Nothing but the file is another one."""
    st = os.stat(path)
    write(path + ".new", b"x" * st.st_size)
    os.utime(path + ".new", ns=(st.st_atime_ns, st.st_mtime_ns))
    os.rename(path + ".new", path)


# What is done to "file", "dir" (with a file in it) or "." of a directory of that name.
KINDS = {
    "content": ("file", lambda p: write(p, b"another content")),
    "mode": ("file", lambda p: os.chmod(p, 0o4711)),
    "owner": ("file", lambda p: os.chown(p, 12345, 54321)),
    "xattr": ("file", lambda p: os.setxattr(p, "trusted.note", b"new")),
    "xattr-changed": ("noted", lambda p: os.setxattr(p, "trusted.note", b"of another value")),
    "xattr-removed": ("noted", lambda p: os.removexattr(p, "trusted.note")),
    "acl": ("file", acl("u:12345:r")),
    "acl-removed": ("dir", lambda p: run("setfacl", "-b", p)),
    "symlink": ("link", lambda p: replace(p, lambda q: os.symlink("elsewhere", q))),
    "symlink-owner": ("link", lambda p: os.lchown(p, 12345, 54321)),
    "file-to-symlink": ("file", lambda p: replace(p, lambda q: os.symlink("target", q))),
    "symlink-to-file": ("link", lambda p: replace(p, write)),
    "file-to-fifo": ("file", lambda p: replace(p, lambda q: (os.mkfifo(q), acl("u:12345:r")(q)))),
    "file-to-directory": ("file", lambda p: replace(p, lambda q: write(q + "/deep/file"))),
    "symlink-to-directory": ("link", lambda p: replace(p, os.mkdir)),
    "directory-to-file": ("dir", lambda p: replace(p, write)),
    "directory-to-symlink": ("dir", lambda p: replace(p, lambda q: os.symlink("file", q))),
    "directory-mode": ("dir", lambda p: os.chmod(p, 0o2750)),
    "directory-owner": ("dir", lambda p: os.chown(p, 12345, 54321)),
    "directory-acl": ("dir", acl("g:54321:rwx,d:u:12345:rx")),
    "directory-xattr": (".", lambda p: os.setxattr(p, "trusted.note", b"new")),
    "removed": ("file", os.unlink),
    "added": ("new", write),
}

# What its file system must tell of for it to be seen.
NEEDS_HANDLES = {"replaced": ("file", same_size_and_time)}


def make(top):
    for kind in (*KINDS, *NEEDS_HANDLES, "untouched"):
        d = os.path.join(top, D, kind)
        write(os.path.join(d, "file"))
        os.setxattr(write(os.path.join(d, "noted")), "trusted.note", b"old")
        write(os.path.join(d, "dir", "below", "inside"))
        run("setfacl", "-m", "u:12345:rwx", os.path.join(d, "dir"))
        os.symlink("file", os.path.join(d, "link"))
    age(top)


def change(top, kinds):
    for kind, (name, func) in kinds.items():
        func(os.path.normpath(os.path.join(top, D, kind, name)))


@pytest.fixture
def source(scene):
    top = scene.source()
    make(top)
    return top


def finalized(scene, source, lower, method, **settings):
    overlay = scene.overlay(source if lower == "handles" else scene.lower(source, timeout=0))
    daemon = scene.daemon(soft=(overlay, {"Finalize": settings} if settings else {}))
    daemon.ctl("finalize", f"--method={method}", overlay / D).ok()
    return overlay, daemon


def problems(daemon):
    return daemon.ctl("verify", "soft", "--json=short").ok().json["problems"]


CASES = [("handles", "exchange"), ("handles", "mark"), ("none", "exchange"), ("none", "mark")]


@pytest.mark.parametrize("lower, method", CASES)
def test_every_kind_of_change_is_taken_up(scene, source, lower, method):
    overlay, daemon = finalized(scene, source, lower, method)
    assert "nothing to do" in daemon.ctl("refresh", overlay / D).ok().out
    before = snapshot(overlay.upper.upper)
    change(source, KINDS)
    plan = daemon.ctl("refresh", overlay / D, "--dry-run", "--json=short").ok().json["jobs"][0]["plan"]
    touched = {os.path.relpath(step["path"], overlay / D).split("/")[0] for step in plan}
    assert touched == set(KINDS)
    assert_same(before, snapshot(overlay.upper.upper))
    daemon.ctl("refresh", overlay / D).ok()
    expected = visible(snapshot(os.path.join(source, D)))
    assert_same(expected, visible(snapshot(overlay / D)))
    before = snapshot(overlay.upper.upper)
    daemon.ctl("refresh", overlay / D).ok()
    assert_same(before, snapshot(overlay.upper.upper))
    assert problems(daemon) == []
    assert daemon.stop() == 0
    overlay.remount()
    daemon.start()
    assert_same(expected, visible(snapshot(overlay / D)))
    for directory, _, _ in os.walk(overlay / D):
        assert daemon.state_of(directory) == "finalized", directory
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_same(expected, visible(snapshot(overlay / D)))
    assert problems(daemon) == []


@pytest.mark.parametrize("lower, method", [("handles", "mark"), ("none", "exchange")])
def test_every_kind_of_change_is_told(scene, source, lower, method):
    overlay, daemon = finalized(scene, source, lower, method, OnLowerChange="keep")
    kinds = {**KINDS, **(NEEDS_HANDLES if lower == "handles" else {})}
    before = visible(snapshot(overlay / D))
    change(source, kinds)
    assert daemon.stop() == 0
    daemon.start()

    def stale():
        listed = daemon.ctl("directories", "soft", "--state=stale", "--json=short").ok().json["directories"]
        return {os.path.relpath(e["path"], overlay / D).split("/")[0] for e in listed}

    wait_for(lambda: stale() == set(kinds), "the comparison")
    assert daemon.state_of(overlay / f"{D}/untouched") == "finalized"
    without = {p: e for p, e in before.items() if "inside" not in p}
    if lower == "handles":  # what the kernel has in its cache is there; elsewhere a file that is gone is gone
        assert without.keys() <= visible(snapshot(overlay / D)).keys()
    daemon.ctl("refresh", overlay / D).ok()
    assert stale() == set()


def test_every_kind_of_change_is_taken_up_by_itself(scene, source):
    overlay, daemon = finalized(scene, source, "handles", "mark", OnLowerChange="refresh", OnLowerRemoved="prune")
    change(source, {**KINDS, **NEEDS_HANDLES})
    assert daemon.stop() == 0
    daemon.start()

    def is_same():
        try:
            return visible(snapshot(overlay / D)) == visible(snapshot(os.path.join(source, D)))
        except OSError:  # what a file was made of is none any more
            return False

    wait_for(is_same, "the refresh")
    shutil.rmtree(os.path.join(source, D))
    write(os.path.join(source, "other"))
    assert daemon.stop() == 0
    overlay.remount()
    daemon.start()
    wait_for(lambda: not os.path.lexists(overlay / D), "the prune")
    wait_for(lambda: not os.path.lexists(overlay.upper_path(D)), "the prune")


LABELS = {"security.selinux": b"system_u:object_r:here_t:s0", "security.SMACK64": b"here"}


def test_labels_set_here_stay(scene, source):
    """What the lower changes comes, the label of before stays; signatures go with the content they are of."""
    overlay, daemon = finalized(scene, source, "handles", "exchange")
    here, there = (os.path.join(top, D, "mode") for top in (overlay.point, source))
    for name, value in LABELS.items():
        for path in ("", "file", "link", "noted"):
            os.setxattr(os.path.join(here, path), name, value, follow_symlinks=False)
    write(os.path.join(there, "file"), b"fixed in place")
    os.setxattr(os.path.join(there, "file"), "security.selinux", b"system_u:object_r:there_t:s0")
    os.setxattr(os.path.join(there, "file"), "security.ima", b"signature")
    replace(os.path.join(there, "link"), lambda p: os.symlink("elsewhere", p))
    replace(os.path.join(there, "noted"), os.mkfifo)
    os.setxattr(os.path.join(there, "noted"), "security.SMACK64", b"there")
    os.chmod(there, 0o2751)
    daemon.ctl("refresh", overlay / D).ok()
    with open(os.path.join(here, "file"), "rb") as f:
        assert f.read() == b"fixed in place"
    assert os.readlink(os.path.join(here, "link")) == "elsewhere" and stat.S_IMODE(os.stat(here).st_mode) == 0o2751
    for name, value in LABELS.items():
        for path in ("", "file", "link"):
            assert os.getxattr(os.path.join(here, path), name, follow_symlinks=False) == value, (path, name)
    assert os.getxattr(os.path.join(here, "file"), "security.ima") == b"signature"
    assert os.getxattr(os.path.join(here, "noted"), "security.SMACK64") == b"there"


def test_what_cannot_be_taken_up_is_not_tried_over_and_over(scene, source):
    """A finalized directory that is a file by now, in a directory that is not finalized: nobody can replace it."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": {"OnLowerChange": "refresh"}}))
    for kind in ("mode", "owner"):
        daemon.ctl("finalize", overlay / f"{D}/{kind}/dir").ok()
    replace(os.path.join(source, D, "mode/dir"), write)
    assert daemon.stop() == 0
    overlay.remount()
    daemon.start()
    wait_for(lambda: "is no directory in the lower layers any more" in daemon.log(), "the refresh")
    write(os.path.join(source, D, "owner/dir/added"))
    daemon.arm(1)
    daemon.ctl("finalize", overlay / f"{D}/xattr")  # its worker dies: a survey and a comparison follow
    wait_for(lambda: os.path.exists(overlay / f"{D}/owner/dir/added"), "the other refresh")
    assert daemon.struck() and daemon.log().count("is no directory in the lower layers any more") == 1
    state = daemon.ctl("status", overlay / f"{D}/mode/dir", "--json=short").ok().json["directories"][0]
    assert state["state"] == "stale" and "no directory" in state["reason"]


@pytest.mark.parametrize("method", ["exchange", "mark"])
def test_what_is_somebodys_stays(scene, source, method):
    """Each against a change of the lower that concerns it; listed, and not changed by a second refresh either."""
    overlay, daemon = finalized(scene, source, "handles", method)
    d = overlay / D
    os.chmod(os.path.join(d, "mode/file"), 0o600)
    os.setxattr(os.path.join(d, "xattr/file"), "trusted.note", b"mine")
    os.setxattr(os.path.join(d, "acl/file"), "trusted.mine", b"mine")
    os.chmod(os.path.join(d, "directory-mode/dir"), 0o711)
    os.setxattr(os.path.join(d, "directory-xattr"), "trusted.note", b"mine")
    write(os.path.join(d, "directory-to-file/dir/below/mine"), b"mine")
    os.rename(os.path.join(d, "untouched/file"), os.path.join(d, "directory-to-symlink/dir/moved"))
    write(os.path.join(d, "file-to-directory/file"), b"mine")
    os.unlink(os.path.join(d, "content/file"))
    os.rename(os.path.join(d, "untouched/link"), os.path.join(d, "untouched/renamed"))
    names = ["mode", "xattr", "acl", "directory-mode", "directory-xattr", "directory-to-file", "directory-to-symlink",
             "file-to-directory"]
    before = {n: visible(snapshot(os.path.join(d, n))) for n in (*names, "content", "untouched")}
    change(source, {k: v for k, v in KINDS.items() if k in before})
    result = daemon.ctl("refresh", d).ok()
    for n in names:
        assert f"/{n}" in result.err, result.err
    again = daemon.ctl("refresh", d).ok()
    assert "nothing to do" in again.out
    # What is below a directory that is none any more has no content: it is not looked at, and it is there.
    for n in ("directory-to-file", "directory-to-symlink"):
        assert os.listdir(os.path.join(d, n, "dir/below"))[-1:] and before.pop(n)
    assert open(os.path.join(d, "directory-to-file/dir/below/mine"), "rb").read() == b"mine"
    assert os.path.exists(os.path.join(d, "directory-to-symlink/dir/moved"))
    for n, entries in before.items():
        assert_same(entries, visible(snapshot(os.path.join(d, n))))


def test_a_release_that_was_marked_is_removed(scene, source):
    """Its directories go, in whatever records and order they were marked, and what is somebody's stays."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    for path in ("acl", "", "acl/dir"):
        daemon.ctl("finalize", "--depth=0", os.path.join(d, path)).ok()
    daemon.ctl("finalize", "--method=mark", d).ok()
    mine = write(os.path.join(d, "mode/mine"), b"mine")
    moved = os.path.join(d, "mode/moved")
    os.makedirs(os.path.join(source, "other"))
    write(os.path.join(source, "other/file"), b"of another release")
    os.rename(overlay / "other/file", moved)
    shutil.rmtree(os.path.join(source, D))
    assert daemon.stop() == 0
    overlay.remount()
    daemon.start()
    daemon.ctl("prune", "soft").ok()
    assert [p for p, _, _ in os.walk(d)] == [d, os.path.join(d, "mode")]
    assert sorted(os.listdir(os.path.join(d, "mode"))) == ["mine", "moved"]
    assert open(moved, "rb").read() == b"of another release"
    os.unlink(mine)
    os.rename(moved, overlay / "other/back")
    daemon.ctl("prune", "soft").ok()
    assert not os.path.lexists(overlay.upper_path(D))
    assert problems(daemon) == []


def test_what_was_pruned_comes_back(scene, source):
    """A name that the lower has again is a new one, also where its directory and the one around it have records of
    their own."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    for path in ("", "acl", "mode"):
        daemon.ctl("finalize", "--depth=0", os.path.join(overlay / D, path)).ok()
    os.rename(os.path.join(source, D, "acl"), os.path.join(source, "away"))
    daemon.ctl("prune", "soft").ok()
    assert not os.path.lexists(overlay / f"{D}/acl")
    os.rename(os.path.join(source, "away"), os.path.join(source, D, "acl"))
    daemon.ctl("refresh", overlay / D).ok()
    assert_same(visible(snapshot(os.path.join(source, D, "acl"))), visible(snapshot(overlay / f"{D}/acl")))


def test_old_records_of_marks(scene, source):
    """Of a program that recorded nothing of the lower: what depends on that is refused, the rest works."""
    overlay, daemon = finalized(scene, source, "handles", "mark")
    assert daemon.stop() == 0
    as_before_marks_had_digests(os.path.join(daemon.state, "records/soft"))
    daemon.start()
    os.chmod(os.path.join(source, D, "mode/file"), 0o4711)
    os.unlink(os.path.join(source, D, "removed/file"))
    assert daemon.ctl("refresh", overlay / f"{D}/mode").ok()
    result = daemon.ctl("prune", "soft")
    assert result.code != 0 and "not recorded" in result.err, result.err
    assert stat.S_IMODE(os.stat(overlay / f"{D}/mode/file").st_mode) == 0o644
    write(os.path.join(source, D, "added/new"))
    daemon.ctl("refresh", overlay / f"{D}/added").ok()
    assert os.path.exists(overlay / f"{D}/added/new")
    daemon.ctl("unfinalize", overlay / f"{D}/added").ok()


def test_an_export_that_is_away_is_no_removal_of_what_is_marked(scene, source):
    overlay, daemon = finalized(scene, source, "handles", "mark")
    before = snapshot(overlay.upper.upper)
    os.rename(os.path.join(source, D), source + ".away")
    write(os.path.join(source, D, "of-another-export"), b"")
    result = daemon.ctl("prune", "soft")
    assert result.code != 0 and "another one than before" in result.err, result.err
    assert_same(before, snapshot(overlay.upper.upper))
    shutil.rmtree(os.path.join(source, D))
    os.rename(source + ".away", os.path.join(source, D))
    assert "nothing to do" in daemon.ctl("prune", "soft").ok().out


KINDS_BY_STEPS = ("file-to-symlink", "file-to-directory", "directory-to-file", "directory-acl", "directory-xattr", "acl")


def test_kills(scene):
    """What takes more than one step, killed after each fourth or so; OVLFIND_KILL_STEP=1 for each."""
    kinds = {k: KINDS[k] for k in KINDS_BY_STEPS}
    step, strikes = int(os.environ.get("OVLFIND_KILL_STEP", "17")), 0
    for n in range(0, 200, step):
        top = scene.source()
        for kind in kinds:
            write(os.path.join(top, D, kind, "file"))
            write(os.path.join(top, D, kind, "dir/below/inside"))
        overlay = scene.overlay(top)
        daemon = scene.daemon(killer=True, soft=overlay)
        daemon.ctl("finalize", overlay / D).ok()
        change(top, kinds)
        daemon.arm(n)
        daemon.ctl("refresh", overlay / D)
        struck = daemon.struck()
        strikes += struck is not None
        daemon.ctl("refresh", overlay / D).ok()
        assert_same(visible(snapshot(os.path.join(top, D))), visible(snapshot(overlay / D)))
        assert problems(daemon) == [], (n, struck)
        os.chmod(os.path.join(top, D, "directory-acl/dir"), 0o700)
        write(os.path.join(top, D, "file-to-directory/file/added"))
        write(os.path.join(top, D, "directory-to-file/dir"), b"another one again")
        daemon.ctl("refresh", overlay / D).ok()
        assert_same(visible(snapshot(os.path.join(top, D))), visible(snapshot(overlay / D)))
        daemon.stop()
        if struck is None:
            break
    else:
        raise AssertionError("killed to the end")
    assert strikes * step > 100


@pytest.mark.parametrize("guard", ["MinFreeSpace", "MinFreeInodes"])
def test_a_refresh_leaves_room(scene, source, guard):
    """A changed file is copied in full. What does not fit stays as it is, and comes when there is room."""
    upper = scene.upper("tmpfs", size_mib=40)
    overlay = scene.overlay(source, upper=upper)
    floor = "16M" if guard == "MinFreeSpace" else os.statvfs(upper.point).f_favail + 1
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"OnLowerChange": "keep"}}))
    daemon.ctl("finalize", overlay / D).ok()
    assert daemon.stop() == 0
    daemon.add_overlay("soft", overlay.point, CopyUp={guard: floor}, Finalize={"OnLowerChange": "keep"})
    daemon.start()
    path = os.path.join(source, D, "content/file")
    write(path, os.urandom(30 << 20))
    result = daemon.ctl("refresh", overlay / D)
    assert result.code == 1 and guard in result.err, result.err
    assert upper.free_bytes() > 30 << 20
    if guard == "MinFreeSpace":
        write(path, os.urandom(2 << 20))
        daemon.ctl("refresh", overlay / D).ok()
        assert_same(visible(snapshot(os.path.join(source, D, "content"))), visible(snapshot(overlay / f"{D}/content")))
