# SPDX-License-Identifier: LGPL-2.1-or-later
"""unfinalize --offline --reset: the upper is as if nothing had been finalized, but for what was changed in it."""

import os
import shutil
from functools import partial

import pytest

from ovltest import assert_same, run, snapshot, visible
from ovltest.ctl import run_offline
from ovltest.env import write_killer
from ovltest.tree import PROG as D
from ovltest.tree import release, write

@pytest.fixture
def state(scene):
    return scene.subdir("state")


@pytest.fixture
def offline(overlay, state):
    return partial(run_offline, overlay, state)


@pytest.fixture(params=("handles", "none"))
def overlay(scene, source, request):
    """On a lower whose files have handles, and on one whose files have none."""
    return scene.overlay(source if request.param == "handles" else scene.lower(source, timeout=0))


def names(top):
    return sorted(os.path.relpath(os.path.join(d, n), top) for d, dirs, files in os.walk(top) for n in (*dirs, *files))


def used_inodes(path):
    st = os.statvfs(path)
    return st.f_files - st.f_ffree


def look(overlay):
    overlay.mount()
    try:
        return visible(snapshot(overlay / "software"))
    finally:
        overlay.umount()


@pytest.mark.parametrize("method", ("exchange", "mark"))
def test_as_if_never_touched(overlay, offline, method):
    upper = overlay.upper.upper
    before = snapshot(overlay / "software")
    overlay.umount()
    untouched = names(upper), used_inodes(upper)
    offline("finalize", f"--method={method}", D).ok()
    assert len(names(upper)) > 60 and used_inodes(upper) > untouched[1] + 60
    result = offline("unfinalize", "--reset", D).ok()
    assert "nothing but a copy" in result.err
    assert (names(upper), used_inodes(upper)) == untouched
    overlay.mount()
    assert_same(before, snapshot(overlay / "software"))
    overlay.umount()
    assert "nothing but a copy" not in offline("unfinalize", "--reset", D).ok().err
    assert (names(upper), used_inodes(upper)) == untouched


@pytest.mark.parametrize("kind", ("ext4-256", "xfs", "btrfs"))
def test_on_other_file_systems(scene, source, state, kind):
    """ACLs and times look the same on the upper as on the lower, however it stores them."""
    overlay = scene.overlay(source, upper=kind)
    overlay.umount()
    run_offline(overlay, state, "finalize", D).ok()
    run_offline(overlay, state, "unfinalize", "--reset", D).ok()
    assert names(overlay.upper.upper) == []


def change(top):
    """Whatever a user may do."""
    write(f"{top}/local", b"mine")
    write(f"{top}/local-dir/inside", b"mine")
    os.unlink(f"{top}/bin/prog-wrapper")
    shutil.rmtree(f"{top}/share")
    os.chmod(f"{top}/lib/libpart0.so.1.0", 0o700)
    os.chown(f"{top}/lib/libpart1.so.1.0", 12345, -1)
    os.utime(f"{top}/lib/libpart2.so.1.0", ns=(1, 1_600_000_000_000_000_001))
    os.setxattr(f"{top}/lib/libpart3.so.1.0", "user.note", b"mine")
    os.link(f"{top}/lib/libpart4.so.1.0", f"{top}/lib/linked")
    os.unlink(f"{top}/lib/libpart5.so")
    os.symlink("elsewhere", f"{top}/lib/libpart5.so")
    kept = os.stat(f"{top}/lib/libpart6.so.1.0")
    with open(f"{top}/lib/libpart6.so.1.0", "r+b") as f:
        f.write(b"C")
    os.utime(f"{top}/lib/libpart6.so.1.0", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    with open(f"{top}/lib/libpart7.so.1.0", "ab"):
        pass  # copied up, and the same
    os.chmod(f"{top}/lib/libpart8.so.1.0", 0o600)
    os.chmod(f"{top}/lib/libpart8.so.1.0", 0o755)
    os.chmod(f"{top}/odd/empty-dir", 0o700)
    os.setxattr(f"{top}/odd/acl-dir", "user.note", b"changed")


KEPT = {f"{D}/{n}" for n in (
    "bin", "bin/prog-wrapper", "lib", "lib/libpart0.so.1.0", "lib/libpart1.so.1.0", "lib/libpart2.so.1.0",
    "lib/libpart3.so.1.0", "lib/libpart4.so.1.0", "lib/linked", "lib/libpart5.so", "lib/libpart6.so.1.0", "local", "local-dir",
    "local-dir/inside", "odd", "odd/acl-dir", "odd/empty-dir", "share")} | {"software", D}


def finalize_and_change(overlay, offline):
    """What it looks like then; not mounted."""
    overlay.umount()
    offline("finalize", D).ok()
    overlay.mount()
    change(overlay / D)
    before = visible(snapshot(overlay / "software"))
    overlay.umount()
    return before


def test_local_changes_stay(overlay, offline):
    before = finalize_and_change(overlay, offline)
    offline("unfinalize", "--reset", D).ok()
    assert_same(before, look(overlay))
    # The file that was opened for writing has the time of that, which is a change.
    assert set(names(overlay.upper.upper)) - {f"{D}/lib/libpart7.so.1.0"} == KEPT


@pytest.mark.parametrize("overlay", ("handles",), indirect=True)
@pytest.mark.parametrize("verb", (("verify", "--repair"), ("unfinalize", "--reset", D)))
def test_wrong_lower(scene, overlay, offline, verb):
    """A copy in which a part is missing: nothing is lost by it, for whoever has the right one."""
    before = finalize_and_change(overlay, offline)
    right, wrong = overlay.lowers, scene.source()
    run("cp", "-a", right[0] + "/.", wrong)
    shutil.rmtree(os.path.join(wrong, D, "lib"))
    overlay.lowers = [wrong]
    assert offline(*verb).code == 1
    overlay.lowers = right
    assert_same(before, look(overlay))
    offline("verify").ok()


@pytest.mark.parametrize("overlay", ("handles",), indirect=True)
def test_data_goes_back(scene, source, overlay, state, offline):
    """finalize --data, and what became the same again."""
    upper = overlay.upper.upper
    free = os.statvfs(upper).f_bavail
    daemon = scene.daemon(start=False, soft=overlay)
    daemon.start()
    daemon.ctl("finalize", overlay / D, "--data").ok()
    before = visible(snapshot(overlay / "software"))
    assert os.statvfs(upper).f_bavail < free - 20
    assert daemon.stop() == 0
    overlay.umount()
    run("cp", "-a", daemon.state + "/.", state)
    offline("unfinalize", "--reset", D).ok()
    assert names(upper) == [] and os.statvfs(upper).f_bavail >= free - 2
    assert_same(before, look(overlay))


def test_moved_and_changed_below(source, overlay, offline):
    """What was renamed here stays where it is; what changed in the lower shows."""
    overlay.umount()
    offline("finalize", D).ok()
    overlay.mount()
    os.rename(overlay / f"{D}/lib/python3", overlay / f"{D}/python")
    os.rename(overlay / f"{D}/bin/prog", overlay / f"{D}/bin/renamed")
    expected = visible(snapshot(overlay / D))
    overlay.umount()
    write(os.path.join(source, D, "lib/libpart0.so.1.0"), b"replaced, and shorter", 0o755)
    os.unlink(os.path.join(source, D, "lib/libpart1.so.1.0"))
    write(os.path.join(source, D, "lib/libnew.so"))
    offline("unfinalize", "--reset", D).ok()
    overlay.mount()
    after = visible(snapshot(overlay / D))
    assert after.pop("lib/libnew.so") and expected.pop("lib/libpart1.so.1.0")
    lower = visible(snapshot(os.path.join(source, D)))
    expected["lib/libpart0.so.1.0"] = lower["lib/libpart0.so.1.0"]
    expected["lib"]["content"] = after["lib"]["content"]
    assert_same(expected, after)
    assert os.listdir(overlay.upper_path(f"{D}/lib")) == ["python3"], "the whiteout of what was moved"


def test_layers(scene, state):
    """What shows through is the merged view of all of them."""
    tops = [scene.source() for _ in range(3)]
    for i, top in enumerate(tops):
        release(os.path.join(top, D), version=f"{i}.0")
        write(os.path.join(top, D, "all"), f"layer {i}".encode())
    overlay = scene.overlay(*tops)
    before = snapshot(overlay / "software")
    overlay.umount()
    run_offline(overlay, state, "finalize", D).ok()
    run_offline(overlay, state, "unfinalize", "--reset", "software").ok()
    assert names(overlay.upper.upper) == []
    overlay.mount()
    assert_same(before, snapshot(overlay / "software"))


@pytest.mark.parametrize("overlay", ("handles",), indirect=True)
def test_a_lower_that_is_away_drops_nothing(scene, source, overlay, offline):
    overlay.umount()
    offline("finalize", D).ok()
    offline("unfinalize", D).ok()
    before = names(overlay.upper.upper)
    assert "nothing but a copy" not in offline("unfinalize", "--reset", D, lowers=scene.source()).ok().err
    assert names(overlay.upper.upper) == before
    offline("unfinalize", "--reset", D).ok()
    assert names(overlay.upper.upper) == []


@pytest.mark.parametrize("overlay", ("handles",), indirect=True)
def test_live_says_why_not(scene, overlay):
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    result = daemon.ctl("unfinalize", "--reset", overlay / D)
    assert result.code == 1 and "not mounted" in result.err and "--offline --reset --upper=" in result.err
    assert daemon.state_of(overlay / D) == "finalized"


@pytest.mark.parametrize("overlay", ("handles",), indirect=True)
def test_killed(overlay, offline, state):
    """At some of the gaps: each path is right, and the next one goes on."""
    log = os.path.join(state, "killat")
    killer = os.path.join(state, "worker")
    write_killer(killer, log)
    before = finalize_and_change(overlay, offline)
    left = []
    for n in (40, 120, 200, 0, *range(28, 53, 4)):
        if n == 0:
            offline("unfinalize", D).ok()
            continue
        if os.path.exists(log):
            os.unlink(log)
        offline("unfinalize", "--reset", D, OVLFIND_WORKER=killer, N=str(n))
        assert_same(before, look(overlay), ignore=("nlink",))
        if not os.path.exists(log) and len(set(left[3:])) > 2:
            break  # the ones before have left fewer changes than that
        assert os.path.exists(log), f"not killed after {n} calls"
        left.append(len(names(overlay.upper.upper)))
    offline("unfinalize", "--reset", D).ok()
    assert len(set(left[3:])) > 2, "none came while copies were dropped"
    assert_same(before, look(overlay))
    assert set(names(overlay.upper.upper)) - {f"{D}/lib/libpart7.so.1.0"} == KEPT
