# SPDX-License-Identifier: LGPL-2.1-or-later
"""verify finds each kind of damage in uppers broken by hand, --repair mends what can be mended, and neither touches a healthy
one. With a daemon on the mounted overlay, and without one on its layers."""

import os
import shutil
import stat

import pytest

from ovltest import assert_same, run_ctl, snapshot
from ovltest.tree import odd_entries, release, write

D = "software/prog"
FILE = f"{D}/lib/libpart0.so.1.0"
OVL = "trusted.overlay."


@pytest.fixture
def lowers(scene):
    """Plain directories, two layers: handles and kernels' own rules take part."""
    tops = [scene.source(), scene.source()]
    release(os.path.join(tops[0], D))
    release(os.path.join(tops[1], "software/other"))
    odd_entries(os.path.join(tops[1], "odd"))
    write(os.path.join(tops[0], "loose/file"))
    write(os.path.join(tops[0], "loose/dir/inside"))
    write(os.path.join(tops[1], "loose/below"))
    return tops


@pytest.fixture
def finalized(scene, lowers):
    """An overlay with a finalized directory, somebody's changes in it, a hand-made copy-up, and a daemon."""
    overlay = scene.overlay(*lowers)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    write(overlay / f"{D}/lib/mine")
    os.unlink(overlay / f"{D}/lib/libpart3.so")
    os.rename(overlay / f"{D}/lib/python3", overlay / f"{D}/lib/snake")
    os.chown(overlay / "loose/file", 3, 3)
    os.unlink(overlay / "loose/below")
    os.rename(overlay / "loose/dir", overlay / f"{D}/moved")
    return overlay, daemon


def verify(overlay, daemon, *options):
    """The problems, as (path, kind) -> mended; paths relative to the overlay."""
    result = daemon.ctl("verify", "--json=short", overlay.point, *options)
    problems = {(os.path.relpath(p["path"], overlay.point), p["kind"]): p["mended"] for p in result.json["problems"]}
    assert all(p["text"] and (p["advice"] or p["mended"]) for p in result.json["problems"]), result.out
    assert result.code == (0 if all(problems.values()) else 1)
    return problems


def look_offline(overlay, *options):
    layers = [f"--upper={overlay.upper.upper}", "--lower=" + ":".join(overlay.lowers), f"--work={overlay.upper.work}"]
    result = run_ctl("verify", "--offline", *layers, "--json=short", *options)
    problems = {(os.path.relpath(p["path"], overlay.upper.upper), p["kind"]): p["mended"] for p in result.json["problems"]}
    assert result.code == (0 if all(problems.values()) else 1), result
    return problems


def verify_offline(overlay, *options):
    overlay.umount()
    problems = look_offline(overlay, *options)
    overlay.mount()
    return problems


def tree_of(top):
    """All of an upper with its marks."""
    result = {}
    for directory, dirs, files in os.walk(top):
        for name in (".", *dirs, *files):
            path = os.path.join(directory, name)
            st = os.lstat(path)
            marks = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)}
            result[os.path.relpath(path, top)] = (st.st_mode, st.st_size, st.st_mtime_ns, st.st_ino, marks)
    return result


@pytest.mark.parametrize("kind", ("ext4-256", "xfs", "btrfs"))
def test_healthy(scene, lowers, kind):
    overlay = scene.overlay(*lowers, upper=kind)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "software").ok()
    write(overlay / f"{D}/lib/mine")
    os.unlink(overlay / f"{D}/lib/libpart3.so")
    os.rename(overlay / f"{D}/lib/python3", overlay / f"{D}/lib/snake")
    os.rename(overlay / f"{D}/lib/libpart1.so.1.0", overlay / f"{D}/bin/moved")
    shutil.rmtree(overlay / "software/other/share")
    os.chown(overlay / "loose/file", 3, 3)
    os.rename(overlay / "loose/dir", overlay / f"{D}/moved")
    os.rename(overlay / D, overlay / "software/renamed")
    before = tree_of(overlay.upper.upper)
    assert verify(overlay, daemon, "--repair") == {}
    assert tree_of(overlay.upper.upper) == before
    daemon.ctl("unfinalize", overlay / "software").ok()
    assert verify(overlay, daemon) == {}
    assert daemon.stop() == 0
    assert verify_offline(overlay, "--repair") == {}


def test_healthy_counting_lower(scene):
    """A lower without file handles."""
    source = scene.source()
    release(os.path.join(source, D))
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    assert verify(overlay, daemon) == {}


def mark(overlay, path, name, value):
    full = overlay.upper_path(path)
    if value is None:
        os.removexattr(full, OVL + name)
    else:
        os.setxattr(full, OVL + name, value)


def test_a_marked_directory_that_moved(scene, lowers):
    """What it is moved into needs no mark for it: it keeps its origin, but is merged with nothing."""
    overlay = scene.overlay(*lowers)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", "--method=mark", overlay / "loose/dir").ok()
    os.rename(overlay / "loose/dir", overlay / "odd/empty-dir")
    assert verify(overlay, daemon) == {}


def relative_redirect(overlay, _):
    mark(overlay, FILE, "redirect", os.path.basename(FILE).encode())
    return FILE


def missing_redirect(overlay, _):
    mark(overlay, FILE, "redirect", None)
    return FILE


def malformed_redirect(overlay, _):
    mark(overlay, FILE, "redirect", b"/software//prog")
    return FILE


def idle_whiteout(overlay, _):
    os.mknod(overlay.upper_path("loose/nothing"), stat.S_IFCHR, 0)
    return "loose/nothing"


def visible_whiteout(overlay, _):
    os.mknod(overlay.upper_path(f"{D}/lib/nothing"), stat.S_IFCHR, 0)
    return f"{D}/lib/nothing"


def wrong_impure(overlay, _):
    mark(overlay, "loose", "impure", None)
    return "loose"


MENDABLE = (relative_redirect, missing_redirect, malformed_redirect, idle_whiteout, visible_whiteout, wrong_impure)


def lower_missing(overlay, lowers):
    os.unlink(os.path.join(lowers[0], FILE))
    return FILE


def lower_other_type(overlay, lowers):
    os.unlink(os.path.join(lowers[0], FILE))
    os.mkdir(os.path.join(lowers[0], FILE))
    return FILE


def size_changed(overlay, lowers):
    with open(os.path.join(lowers[0], FILE), "ab") as f:
        f.write(b"fixed in place")
    return FILE


def replaced(overlay, lowers):
    path = os.path.join(lowers[0], FILE)
    shutil.copy(path, path + ".new")
    os.rename(path + ".new", path)
    return FILE


def bad_opaque(overlay, _):
    mark(overlay, "loose", "opaque", b"yes")
    return "loose"


def lost_directory(overlay, _):
    os.chown(overlay / "software/other/share", 3, 3)
    mark(overlay, "software/other", "opaque", b"y")
    return "software/other/share"


def leftover_staging(overlay, _):
    os.makedirs(overlay / ".ovlfind/0123456789abcdef/kept/1", 0o700)
    os.chmod(overlay / ".ovlfind", 0o700)
    return ".ovlfind/0123456789abcdef"


def leftover_old_tree(overlay, _):
    os.mkdir(overlay / "loose/.ovlfind-old-0123456789abcdef")
    return "loose/.ovlfind-old-0123456789abcdef"


ONLY_TOLD = (lower_missing, lower_other_type, size_changed, replaced, bad_opaque, lost_directory, leftover_staging,
             leftover_old_tree)


def kind_of(damage):
    return damage.__name__.replace("_", "-")


@pytest.mark.parametrize("damage", MENDABLE, ids=kind_of)
@pytest.mark.parametrize("online", (True, False), ids=("online", "offline"))
def test_mended(finalized, lowers, damage, online):
    overlay, daemon = finalized
    before = snapshot(overlay.point)
    assert daemon.stop() == 0
    overlay.umount()
    path = damage(overlay, lowers)
    overlay.mount()
    daemon.start() if online else None

    def look(*options):
        return verify(overlay, daemon, *options) if online else verify_offline(overlay, *options)

    assert look() == {(path, kind_of(damage)): False}
    assert look("--repair") == {(path, kind_of(damage)): True}
    assert look() == {}
    assert_same(before, snapshot(overlay.point), ignore=("mtime",) if "whiteout" in damage.__name__ else ())
    daemon.stop()
    overlay.umount()
    overlay.mount()
    assert_same(before, snapshot(overlay.point), ignore=("mtime",) if "whiteout" in damage.__name__ else ())


@pytest.mark.parametrize("damage", ONLY_TOLD, ids=kind_of)
def test_told(finalized, lowers, damage):
    overlay, daemon = finalized
    path = damage(overlay, lowers)
    upper = tree_of(overlay.upper.upper)
    found = verify(overlay, daemon, "--repair")
    assert found[path, kind_of(damage)] is False
    assert not any(found.values())
    assert tree_of(overlay.upper.upper) == upper
    assert daemon.stop() == 0
    assert (path, kind_of(damage)) in verify_offline(overlay, "--repair")


def test_records(finalized):
    overlay, daemon = finalized
    records = os.path.join(daemon.state, "records", "soft")
    daemon.ctl("finalize", overlay / "odd").ok()
    idle, damaged = sorted(n for n in os.listdir(records) if not n.startswith("."))  # not what a comparison found
    shutil.rmtree(overlay / "odd")
    shutil.rmtree(overlay / D)
    with open(os.path.join(records, damaged), "r+b") as f:
        f.truncate(100)
    found = verify(overlay, daemon)
    assert sorted(kind for _, kind in found) == ["damaged-record", "idle-record"]
    assert all(verify(overlay, daemon, "--repair").values())
    assert verify(overlay, daemon) == {}
    assert idle not in os.listdir(records) and f".damaged-{damaged}" in os.listdir(records)


def test_lost_record(finalized):
    """Marks without a record: told, and nothing else changes."""
    overlay, daemon = finalized
    records = os.path.join(daemon.state, "records", "soft")
    for name in os.listdir(records):
        os.unlink(os.path.join(records, name))
    found = verify(overlay, daemon, "--repair")
    assert (f"{D}/bin", "no-record") in found and set(kind for _, kind in found) == {"no-record"}
    daemon.ctl("is-finalized", overlay / f"{D}/bin").ok()


def test_work_leftovers(finalized):
    overlay, daemon = finalized
    assert daemon.stop() == 0
    overlay.umount()
    write(os.path.join(overlay.upper.work, "work/#3f/deep/er"))
    for options, expected in ((), {"leftover-work": False}), (("--repair",), {"leftover-work": True}), ((), {}):
        assert {kind: mended for (_, kind), mended in look_offline(overlay, *options).items()} == expected


def test_offline_refuses_a_mounted_overlay(finalized):
    overlay, _ = finalized
    result = run_ctl("verify", "--offline", f"--upper={overlay.upper.upper}", "--lower=" + ":".join(overlay.lowers))
    assert result.code == 1 and overlay.point in result.err


def test_unreachable_lower(scene):
    """A lower that gives errors is no damage of the upper, and nothing is mended by guessing."""
    source = scene.source()
    release(os.path.join(source, D))
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    lower.invalidate()
    lower.fail("EIO", D)
    found = verify(overlay, daemon, "--repair")
    lower.recover()
    assert found and set(kind for _, kind in found) == {"lower-unknown"}
    assert verify(overlay, daemon) == {}


def test_each_is_told(finalized, lowers):
    """What is known of one and not of the next, but what to do about both only once."""
    overlay, daemon = finalized
    for name, size in (("libpart0.so.1.0", 70001), ("libpart1.so.1.0", 70002)):
        os.truncate(os.path.join(lowers[0], D, "lib", name), size)
    told = daemon.ctl("verify", overlay.point).out
    assert told.count("size-changed") == 2 and told.count("70001 in the") == told.count("70002 in the") == told.count("'refresh'") == 1, told


@pytest.mark.parametrize("why", ["name", "directory", "empty"])
def test_a_whiteout_of_what_may_be_there_again_stays(scene, why):
    """A server that does not find the name for a moment, or the directory, or what is mounted there, does not bring back what was
    deleted here."""
    source = scene.source()
    top = "loose/errno-2" if why == "directory" else "loose"
    gone = "errno-2" if why == "name" else "gone"
    for name in (gone, "kept"):
        write(os.path.join(source, top, name))
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower)
    os.unlink(overlay / f"{top}/{gone}")
    overlay.remount()
    if why == "empty":
        os.rename(os.path.join(source, top), os.path.join(source, "away"))
        os.mkdir(os.path.join(source, top))
    else:
        lower.fail("name:lookup")
    lower.invalidate()
    daemon = scene.daemon(soft=overlay)
    assert not any(verify(overlay, daemon, "--repair").values())
    lower.recover()
    if why == "empty":
        os.rmdir(os.path.join(source, top))
        os.rename(os.path.join(source, "away"), os.path.join(source, top))
    lower.invalidate()
    overlay.remount()
    assert os.listdir(overlay / top) == ["kept"]


def test_whiteouts_of_a_layer_that_was_an_upper(scene):
    """The kernel lists them where no other layer has the directory, and finds nothing by their names."""
    above, below = scene.source(), scene.source()
    for name in ("goes", "stays"):
        write(os.path.join(below, D, name), b"content")
    write(os.path.join(above, "more"))
    overlay = scene.overlay(above, below)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    daemon.stop()
    overlay.umount()
    os.makedirs(os.path.join(above, D))
    os.rename(os.path.join(below, D, "stays"), os.path.join(above, D, "stays"))
    os.mknod(os.path.join(above, D, "goes"), stat.S_IFCHR, 0)
    shutil.rmtree(os.path.join(below, D))
    write(os.path.join(below, "more"))
    overlay.mount()
    daemon.start()
    daemon.ctl("prune", "soft").ok()
    assert os.listdir(overlay / D) == ["stays"]
