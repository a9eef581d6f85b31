# SPDX-License-Identifier: LGPL-2.1-or-later
"""finalize and unfinalize --offline: an overlay that is not mounted, without a daemon."""

import os
from functools import partial
from types import SimpleNamespace

import pytest

from ovltest import assert_same, run, snapshot
from ovltest.ctl import run_ctl, run_offline
from ovltest.daemon import wait_for
from ovltest.env import binary, write_killer
from ovltest.overlay import OverlayMount
from ovltest.tree import PROG as D
from ovltest.tree import write

@pytest.fixture
def stage(scene, overlay):
    """(overlay, what D looks like, ctl): not mounted, with local changes."""
    d = overlay / D
    write(os.path.join(d, "local"))
    os.unlink(os.path.join(d, "bin", "prog-wrapper"))
    before = snapshot(d)
    overlay.umount()
    state = scene.subdir("state")
    ctl = partial(run_offline, overlay, state)
    ctl.state = state
    return overlay, before, ctl


def beside(overlay):
    return sorted(os.listdir(overlay.upper.point))


def directories_below(top):
    return [d for d, _, _ in os.walk(top)]


@pytest.mark.parametrize("method", ["exchange", "mark"])
def test_finalize_then_mount(scene, lower, stage, method):
    overlay, before, ctl = stage
    was = beside(overlay)
    ctl("finalize", f"--method={method}", D).ok()
    assert beside(overlay) == was and not overlay.is_mounted()
    overlay.mount()
    assert_same(before, snapshot(overlay / D))
    assert scene.absent_lookups(lower, directories_below(overlay / D), 5).enoent == 0
    os.unlink(overlay / D + "/lib/libpart0.so")
    before = snapshot(overlay / D)
    overlay.umount()
    ctl("unfinalize", D).ok()
    overlay.mount()
    assert_same(before, snapshot(overlay / D))
    assert scene.absent_lookups(lower, overlay / D, 5).enoent > 0


def test_undo_of_what_cannot_be_rebuilt(scene, lower, source, stage):
    """Marked around a directory with hard links: an exchange cannot undo it, but where nobody looks on, marks can go."""
    overlay, before, ctl = stage
    os.link(os.path.join(source, D, "share/doc/README"), os.path.join(source, D, "share/doc/LICENSE"))
    ctl("finalize", D).ok()
    overlay.mount()
    d = overlay / D
    done = [p for p in directories_below(d) if not p.endswith("doc")]
    assert scene.absent_lookups(lower, done, 5).enoent == 0
    os.rename(d + "/lib", d + "/moved")
    os.mkdir(d + "/lib")
    os.unlink(d + "/bin/prog")
    before = snapshot(d)
    overlay.umount()
    ctl("unfinalize", D).ok()
    overlay.mount()
    assert_same(before, snapshot(d))
    write(os.path.join(source, D, "added"))
    overlay.remount()
    assert os.path.exists(d + "/added") and not os.path.exists(d + "/lib/libpart0.so.1.0")
    assert not os.path.exists(d + "/bin/prog")


def test_the_daemon_goes_on_with_it(scene, stage):
    """Also with the record of what the directories held."""
    overlay, before, ctl = stage
    r = ctl("finalize", "--json=short", D).ok().json["jobs"][0]
    assert (r["path"], r["state"]) == (D, "done") and r["entries_done"] > 20
    overlay.mount()
    daemon = scene.daemon(start=False, soft=overlay)
    run("cp", "-a", ctl.state + "/.", daemon.state)
    daemon.start()
    assert daemon.state_of(overlay / D) == "finalized"
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / D))


def test_refusals(scene, lower, stage):
    overlay, _, ctl = stage
    was = beside(overlay)
    r = ctl("finalize", D, lowers="/nonexistent/lower")
    assert r.code == 1 and "/nonexistent/lower" in r.err
    assert ctl("finalize", "nothing/here").code == 1
    assert ctl("finalize", "--dry-run", D).code == 2
    assert run_ctl("finalize", "--upper=/x", D).code == 2
    overlay.mount()
    r = ctl("finalize", D)
    assert r.code == 1 and "in use" in r.err, r.err
    run("umount", "-l", overlay.point)
    with_index = scene.overlay(lower, upper=scene.upper(), index="on")
    with_index.umount()
    r = ctl("finalize", f"--upper={with_index.upper.upper}", D)
    assert r.code == 1 and "index=on" in r.err, r.err
    assert beside(overlay) == was


def test_mounted_where_nobody_looks(stage):
    """In another mount namespace, and detached: still in use."""
    overlay, _, ctl = stage
    overlay.mount()
    with open(os.path.join(overlay / D, "local"), "rb"):
        run("umount", "-l", overlay.point)
        r = ctl("finalize", D)
        assert r.code == 1 and "in use" in r.err, r.err
    wait_for(lambda: ctl("finalize", D).code == 0, "the last user to be gone")


def test_in_use_by_a_second_superblock(scene, stage):
    """The kernel takes an upper for in use as long as the first one lives, which after a swap of superblocks is gone."""
    overlay, _, ctl = stage
    overlay.mount()
    work = os.path.join(overlay.upper.point, "work2")
    os.mkdir(work)
    upper = SimpleNamespace(upper=overlay.upper.upper, work=work)
    scene.keep(OverlayMount(scene.subdir("second"), overlay.lowers, upper, **overlay.options))
    overlay.umount()
    was = beside(overlay)
    r = ctl("finalize", D)
    assert r.code == 1 and "another overlay" in r.err, r.err
    assert beside(overlay) == was


@pytest.mark.slow
def test_killed(scene, lower, stage):
    """At some of the gaps: whatever is left, the next one takes over."""
    overlay, before, ctl = stage
    log = os.path.join(ctl.state, "killat")
    killer = os.path.join(ctl.state, "worker")
    write_killer(killer, log)
    was = beside(overlay)
    for n in (1, 5, 9, 20, 60, 100):
        if os.path.exists(log):
            os.unlink(log)
        r = ctl("finalize", "--method=mark", D, OVLFIND_WORKER=killer, N=str(n))
        assert r.code == 1 and os.path.exists(log), n
        overlay.mount()
        assert_same(before, snapshot(overlay / D))
        overlay.umount()
    ctl("finalize", "--method=mark", D).ok()
    assert beside(overlay) == was
    overlay.mount()
    assert_same(before, snapshot(overlay / D))
    assert scene.absent_lookups(lower, directories_below(overlay / D), 5).enoent == 0


def finalize_here_and_there(daemon, overlay):
    """In several places, one of them with both methods, by their marks. A whole overlay is undone by one command."""
    daemon.ctl("finalize", overlay / f"{D}/lib").ok()
    daemon.ctl("finalize", overlay / f"{D}/share/doc").ok()
    daemon.ctl("finalize", "--method=mark", "--depth=0", overlay / f"{D}/bin").ok()


def marks(overlay):
    """Directories of the upper that keep lookups from the lower."""
    found = run("getfattr", "-R", "-h", "-P", "--absolute-names", "-n", "trusted.overlay.opaque", overlay.upper.upper,
                check=False).stdout
    return [line for line in found.splitlines() if line.startswith("# file:")]


def test_a_whole_overlay_is_undone(scene, source):
    overlay = scene.overlay(source)
    before = snapshot(overlay.point)
    daemon = scene.daemon(soft=overlay)
    finalize_here_and_there(daemon, overlay)
    assert marks(overlay)
    daemon.ctl("unfinalize", overlay.point).ok()
    assert not marks(overlay)
    assert daemon.ctl("directories", "soft", "--state=finalized", "--json=short").ok().json["directories"] == []
    assert_same(before, snapshot(overlay.point), ignore={"nlink", "mtime"})


@pytest.mark.parametrize("root", ("/", "."))
def test_a_whole_overlay_is_undone_offline(scene, source, root):
    overlay = scene.overlay(source)
    before = snapshot(overlay.point)
    daemon = scene.daemon(soft=overlay)
    finalize_here_and_there(daemon, overlay)
    assert daemon.stop() == 0
    overlay.umount()
    run_ctl("unfinalize", "--offline", f"--upper={overlay.upper.upper}", f"--lower={source}", root,
            env={"OVLFIND_WORKER": binary("ovlfind-worker"), "STATE_DIRECTORY": daemon.state}).ok()
    assert not marks(overlay)
    overlay.mount()
    assert_same(before, snapshot(overlay.point), ignore={"nlink", "mtime"})


def test_more_than_can_be_said(scene):
    """Nobody waits for a worker that was not asked."""
    result = run_ctl("unfinalize", "--offline", f"--upper={scene.subdir('upper')}", f"--lower={':'.join(['/lower'] * 12000)}", "/",
                     env={"OVLFIND_WORKER": binary("ovlfind-worker"), "STATE_DIRECTORY": scene.subdir("state")})
    assert result.code == 1 and "cannot ask the worker" in result.err, result
