# SPDX-License-Identifier: LGPL-2.1-or-later
"""Method mark: directories are finalized where they stand, one level at a time; what is in use stays as it is, with the
reason; nothing that users do to entries before, meanwhile or after makes any of them lead elsewhere."""

import os
import shutil

import pytest

from ovltest import assert_same, run, snapshot
from ovltest.daemon import wait_for
from ovltest.env import handles_need_not_open, redirect_max
from ovltest.holders import OpenFile, Shell, Watches
from ovltest.tree import PROG as D
from ovltest.tree import write
from ovltest.uppers import UPPERS

def directories_below(top):
    return [d for d, _, _ in os.walk(top)]


def left(daemon):
    """Path to state and reason of every directory that is not finalized, as the last job left it."""
    listed = daemon.ctl("directories", "--json=short").ok().json["directories"]
    return {e["path"]: (e["state"], e.get("reason", "")) for e in listed if e["state"] != "finalized"}


def marked(overlay, path):
    try:
        return os.getxattr(overlay.upper_path(path), "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def overlay_forget(daemon, overlay):
    """Nothing is cached any more."""
    assert daemon.stop() == 0
    overlay.remount()


@pytest.mark.parametrize("upper", UPPERS)
def test_every_upper(scene, source, upper):
    """What tells that a mark is in effect differs by file system."""
    lower = scene.lower(source)
    overlay = scene.overlay(lower, upper=upper)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    if upper == "btrfs" and not handles_need_not_open():
        assert daemon.ctl("finalize", "--method=mark", d).code != 0
        assert "this kernel does not tell" in left(daemon)[d][1]
        overlay_forget(daemon, overlay)
        daemon.start()
    else:
        daemon.ctl("finalize", "--method=mark", d).ok()
        assert daemon.state_of(d) == "finalized"
    assert scene.absent_lookups(lower, directories_below(d), 5).enoent == 0
    daemon.ctl("unfinalize", d).ok()
    assert daemon.state_of(d) == "copied-up"


def test_a_tree_and_back(scene, lower, overlay, daemon):
    d = overlay / D
    before = snapshot(d)
    inode = os.stat(os.path.join(d, "lib", "libpart0.so.1.0")).st_ino
    daemon.ctl("finalize", "--method=mark", d).ok()
    assert_same(before, snapshot(d))
    assert scene.absent_lookups(lower, directories_below(d), 5).enoent == 0
    assert daemon.state_of(d) == "finalized" and daemon.state_of(overlay / "software") != "finalized"
    assert os.stat(os.path.join(d, "lib", "libpart0.so.1.0")).st_ino == inode
    assert not [n for n in os.listdir(overlay.point) if n.startswith(".ovlfind")]
    daemon.stop()
    overlay.remount()
    assert_same(before, snapshot(d))
    assert scene.absent_lookups(lower, directories_below(d), 5).enoent == 0
    daemon.start()
    os.unlink(os.path.join(d, "bin", "prog-wrapper"))
    os.rename(os.path.join(d, "lib", "python3"), os.path.join(d, "moved"))
    write(os.path.join(d, "lib", "local"))
    changed = snapshot(d)
    os.mkdir(os.path.join(d, "lib", "python3"))  # the lower has that name, too: it must not show through
    changed = snapshot(d)
    daemon.restart()
    overlay_forget(daemon, overlay)
    assert_same(changed, snapshot(d))
    daemon.start()
    daemon.ctl("unfinalize", d).ok()
    assert_same(changed, snapshot(d))
    assert daemon.state_of(d) == "copied-up"
    write(os.path.join(lower.source, D, "lib", "added"))
    lower.invalidate()
    overlay.remount()
    assert os.path.exists(os.path.join(d, "lib", "added"))


@pytest.mark.parametrize("hold", ["file", "directory"])
def test_a_directory_in_use_waits(scene, lower, overlay, daemon, hold):
    """Pending, with who uses it; what nobody uses is finalized all the same. Later it works."""
    d = overlay / D
    before = snapshot(d)
    lib = os.path.join(d, "lib")
    holder = OpenFile(os.path.join(lib, "libpart1.so.1.0")) if hold == "file" else Shell(lib)
    pid = os.getpid() if hold == "file" else holder.process.pid
    r = daemon.ctl("finalize", "--method=mark", d)
    assert r.code == 1 and str(pid) in r.err, r.err
    assert left(daemon).keys() == {d, lib}
    for state, reason in left(daemon).values():
        assert state == "pending" and str(pid) in reason, reason
    assert not marked(overlay, D) and not marked(overlay, D + "/lib")
    assert daemon.state_of(os.path.join(d, "bin")) == "finalized"
    assert_same(before, snapshot(d))
    holder.close()
    daemon.ctl("finalize", "--method=mark", d).ok()
    assert scene.absent_lookups(lower, directories_below(d), 5).enoent == 0
    assert_same(before, snapshot(d))


def test_less_than_a_subtree_and_more(scene, lower, overlay, daemon):
    d = overlay / D
    before = snapshot(d)
    daemon.ctl("finalize", "--depth=0", d).ok()
    states = {p: daemon.state_of(p) for p in directories_below(d)}
    assert states.pop(d) == "finalized" and "finalized" not in states.values()
    daemon.ctl("finalize", "--method=mark", "--depth=1", "--parents", os.path.join(d, "lib")).ok()
    done = {p for p in directories_below(overlay.point) if daemon.state_of(p) == "finalized"}
    assert done == {overlay / p for p in ("software", D, D + "/lib", D + "/lib/python3")}
    assert scene.absent_lookups(lower, sorted(done), 5).enoent == 0
    assert_same(before, snapshot(d))
    daemon.ctl("unfinalize", overlay / "software").ok()
    assert not [p for p in directories_below(overlay.point) if daemon.state_of(p) == "finalized"]
    assert_same(before, snapshot(d))


def test_options_that_contradict_each_other(overlay, daemon):
    for options in (["--method=exchange", "--depth=0"], ["--method=exchange", "--parents"]):
        r = daemon.ctl("finalize", *options, overlay / D)
        assert r.code != 0 and "mark" in r.err
    assert daemon.ctl("unfinalize", "--depth=0", overlay / D).code != 0


def test_around_what_cannot_be_exchanged(scene, lower, source):
    """Method auto: the exchange takes what it can, marks take the directories around the rest, one by one."""
    os.link(os.path.join(source, D, "share/doc/README"), os.path.join(source, D, "share/doc/LICENSE"))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    before = snapshot(d)
    daemon.ctl("finalize", d).ok()
    doc = os.path.join(d, "share/doc")
    assert left(daemon).keys() == {doc} and left(daemon)[doc][0] == "excluded" and "hard links" in left(daemon)[doc][1]
    done = [p for p in directories_below(d) if p != doc]
    assert {daemon.state_of(p) for p in done} == {"finalized"}
    assert scene.absent_lookups(lower, done, 5).enoent == 0
    assert_same(before, snapshot(d))
    r = daemon.ctl("unfinalize", d)
    assert r.code == 1 and "--offline" in r.err, r.err
    assert_same(before, snapshot(d))


def test_a_mount_below(scene, lower, overlay, daemon):
    """Holds all directories above it in memory; the others are marked."""
    d = overlay / D
    point = os.path.join(d, "share/doc")
    run("mount", "-t", "tmpfs", "below", point)
    try:
        r = daemon.ctl("finalize", "--method=mark", d)
        assert r.code == 1 and point in r.err, r.err
        assert left(daemon).keys() == {d, os.path.dirname(point), point} and not marked(overlay, D)
        assert daemon.state_of(os.path.join(d, "lib")) == "finalized"
    finally:
        run("umount", point)
    daemon.ctl("finalize", "--method=mark", d).ok()
    assert scene.absent_lookups(lower, directories_below(d), 5).enoent == 0


def test_watched_entries_are_renamed(scene, lower, overlay, daemon):
    """A watch on a child directory: the kernel would write a relative redirect when it is renamed, and below an opaque
    directory its content would vanish. It is pending; a watched file is no hindrance."""
    d = overlay / D
    lib = os.path.join(d, "lib")
    watches = scene.keep(Watches(os.path.join(lib, "python3"), os.path.join(lib, "libpart0.so.1.0")))
    r = daemon.ctl("finalize", "--method=mark", "--depth=0", lib)
    assert r.code == 1 and str(watches.process.pid) in r.err and "python3" in r.err, r.err
    assert not marked(overlay, D + "/lib")
    content = snapshot(os.path.join(lib, "python3"))
    os.rename(os.path.join(lib, "python3"), os.path.join(lib, "python4"))
    watches.close()
    watches = scene.keep(Watches(os.path.join(lib, "libpart0.so.1.0"), lib))
    daemon.ctl("finalize", "--method=mark", "--depth=0", lib).ok()
    before = snapshot(lib)
    os.rename(os.path.join(lib, "libpart0.so.1.0"), os.path.join(lib, "renamed"))
    os.rename(os.path.join(lib, "python4"), os.path.join(lib, "python5"))
    watches.close()
    overlay_forget(daemon, overlay)
    assert_same(content, snapshot(os.path.join(lib, "python5")))
    assert before["libpart0.so.1.0"] == snapshot(lib)["renamed"]


def test_a_watched_file_with_a_long_path(scene, lower, overlay, daemon, source):
    """The kernel stores redirects up to a limit only; it is raised as long as it must be."""
    path = "/".join(c * 100 for c in "abc")
    write(os.path.join(source, path, "f"))
    lower.invalidate()
    overlay.remount()
    d = overlay / path
    before = snapshot(d)
    watches = scene.keep(Watches(os.path.join(d, "f")))
    daemon.ctl("finalize", "--method=mark", "--depth=0", d).ok()
    wait_for(lambda: redirect_max() == 256, "redirect_max to be set back")  # others may need it raised just now
    os.rename(os.path.join(d, "f"), overlay / "g")
    os.rename(overlay / "g", os.path.join(d, "f"))
    watches.close()
    overlay_forget(daemon, overlay)
    assert before["f"]["content"] == snapshot(d)["f"]["content"]


def test_a_moved_directory(scene, lower, overlay, source):
    """What stands in the lower under the new name is another directory's: redirects follow the old one, also those of
    entries that were watched, then moved elsewhere."""
    os.makedirs(os.path.join(source, "software/new"))
    for name in ("libpart0.so.1.0", "python3/x"):
        write(os.path.join(source, "software/new", name), b"another")
    lower.invalidate()
    overlay.remount()
    daemon = scene.daemon(soft=overlay)  # which would keep it busy
    new = overlay / "software/moved"
    lib = os.path.join(overlay / D, "lib")
    content = snapshot(lib)
    os.rename(lib, new)
    os.rename(overlay / "software/new", overlay / "software/away")
    os.rename(new, overlay / "software/new")
    new = overlay / "software/new"
    watches = scene.keep(Watches(os.path.join(new, "libpart0.so.1.0"), os.path.join(new, "libpart2.so.1.0")))
    daemon.ctl("finalize", "--method=mark", new).ok()
    assert scene.absent_lookups(lower, [new], 5).enoent == 0
    os.mkdir(overlay / "elsewhere")
    os.rename(os.path.join(new, "libpart0.so.1.0"), overlay / "elsewhere/a")
    os.link(os.path.join(new, "libpart2.so.1.0"), overlay / "elsewhere/b")
    os.rename(os.path.join(new, "python3"), overlay / "elsewhere/python3")
    watches.close()
    daemon.stop()
    overlay.remount()
    assert snapshot(overlay / "elsewhere")["a"]["content"] == content["libpart0.so.1.0"]["content"]
    assert snapshot(overlay / "elsewhere")["b"]["content"] == content["libpart2.so.1.0"]["content"]
    assert_same({k[8:]: v for k, v in content.items() if k.startswith("python3/")},
                {k: v for k, v in snapshot(overlay / "elsewhere/python3").items() if k})


@pytest.mark.parametrize("method", ["exchange", "mark"])
def test_what_covers_a_lower_name_stays_deleted(overlay, daemon, method):
    """A child that was finalized before, and what users made in the place of lower entries: deleted while their directory is
    finalized, nothing of the lower comes back with the undo."""
    d = overlay / D
    daemon.ctl("finalize", os.path.join(d, "bin")).ok()
    for name in ("lib", "share"):
        shutil.rmtree(os.path.join(d, name))
    os.mkdir(os.path.join(d, "lib"))
    write(os.path.join(d, "share"), b"a file now")
    daemon.ctl("finalize", f"--method={method}", d).ok()
    shutil.rmtree(os.path.join(d, "bin"))
    os.rmdir(os.path.join(d, "lib"))
    os.unlink(os.path.join(d, "share"))
    daemon.ctl("unfinalize", d).ok()
    assert os.listdir(d) == ["odd"]
