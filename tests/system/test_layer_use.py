# SPDX-License-Identifier: LGPL-2.1-or-later
"""Another overlay has a directory of this one for a layer: an exchange would leave it with the old tree, which is removed.
So such a directory stays as it is, and the other overlay shows what it showed."""

import os

import pytest

from ovltest import run
from ovltest.daemon import wait_for
from ovltest.env import alive
from ovltest.oldtree import await_gone, await_kept, await_removed
from ovltest.overlay import escape_layer
from ovltest.stacked import Elsewhere, Stacked, detached, kernel, mount_with
from ovltest.tree import age, small_tree, write

P, D = "p", "p/d"
# Overlays are one for all tests that run on the machine. Of one that two daemons ask in the same moment only one is told, and
# the other one takes a relative name for any directory that is called so.
NAME = f"unlike-any-other-{os.getpid()}"
UNLIKE = f"{P}/{NAME}"

pytestmark = pytest.mark.killer


@pytest.fixture
def source(scene):
    top = scene.source()
    small_tree(os.path.join(top, D))
    small_tree(os.path.join(top, P, "a:b,c\\d"))
    write(os.path.join(top, P, "other", "file"))
    small_tree(os.path.join(top, UNLIKE))
    age(top)
    return top


@pytest.fixture
def plain(scene):
    """A directory on another file system."""
    top = scene.source()
    write(os.path.join(top, "plain"))
    return top


def entries(daemon):
    return {e["path"]: e for e in daemon.ctl("directories", "--json=short").ok().json["directories"]}


def layers(daemon, path):
    """Of `blockers`: (path, mount point, pid) of each layer."""
    found = daemon.ctl("blockers", path, "--json=short").ok().json["blockers"]
    return [(b.get("path"), b["mount_point"], b["pid"]) for b in found if b["kind"] == "layer"]


def assert_left_alone(daemon, overlay, point, path=D):
    """path is not finalized and says which overlay uses it, what is beside it is done, and the other overlay shows what it
    did."""
    result = daemon.ctl("finalize", overlay / path)
    assert result.code == 1 and "layer of the overlay" in result.err and f"'{point}'" in result.err, result
    entry = entries(daemon)[overlay / path]
    assert entry["state"] == "pending" and f"'{point}'" in entry["reason"], entry
    assert daemon.ctl("is-finalized", overlay / path).code == 1
    daemon.ctl("finalize", overlay / f"{P}/other").ok()


def assert_goes_on(daemon, overlay, path=D):
    """Nothing is in the way any more."""
    daemon.ctl("finalize", overlay / path).ok()
    assert daemon.state_of(overlay / path) == "finalized"
    await_gone(overlay, daemon)
    assert layers(daemon, overlay / path) == []


def lower(*paths):
    return "lowerdir=" + ":".join(escape_layer(p) for p in paths)


def by_symlink(scene, overlay, plain):
    link = os.path.join(scene.subdir("links"), "link")
    os.symlink(overlay / D, link)
    return lower(link, plain)


def by_moved_symlink(scene, overlay, plain):
    """It leads elsewhere by now."""
    link = os.path.join(scene.subdir("links"), "link")
    os.symlink(overlay / D, link)

    def go(point):
        Stacked(point, lower(link, plain))
        os.unlink(link)
        os.symlink(overlay / f"{P}/other", link)
    return go


def by_bind(scene, overlay, plain):
    """Which is unmounted again."""
    bound = scene.source()

    def go(point):
        run("mount", "--bind", overlay / P, bound)
        Stacked(point, lower(os.path.join(bound, "d"), plain))
        run("umount", bound)
    return go


def by_descriptor(scene, overlay, plain):
    """Of a mount that was never attached: the mount table has "/"."""
    if kernel() < (6, 13):
        pytest.skip("needs Linux 6.13")

    def go(point):
        fd = detached(overlay / D)
        mount_with(point, ("lowerdir+", fd), ("lowerdir+", plain))
        os.close(fd)
    return go


def one_by_one(scene, overlay, plain):
    if kernel() < (6, 7):
        pytest.skip("needs Linux 6.7")
    return lambda point: mount_with(point, ("lowerdir+", plain), ("lowerdir+", overlay / D))


def with_an_upper(scene, overlay, plain):
    return lower(overlay / D) + f",upperdir={scene.subdir('u')},workdir={scene.subdir('w')}"


def data_only(scene, overlay, plain):
    if kernel() < (6, 5):
        pytest.skip("needs Linux 6.5")
    return lower(plain) + "::" + escape_layer(overlay / D) + ",metacopy=on,redirect_dir=on"


SPELLINGS = {
    "first": lambda scene, overlay, plain: lower(overlay / D, plain),
    "last": lambda scene, overlay, plain: lower(plain, overlay / D),
    "dots": lambda scene, overlay, plain: lower(f"{overlay.point}/.//{P}/other/../d/", plain),
    "symlink": by_symlink,
    "moved-symlink": by_moved_symlink,
    "bind": by_bind,
    "descriptor": by_descriptor,
    "one-by-one": one_by_one,
    "upper": with_an_upper,
    "data-only": data_only,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling(scene, overlay, daemon, plain, spelling):
    stacked = scene.keep(Stacked(scene.source(), SPELLINGS[spelling](scene, overlay, plain)))
    before = stacked.seen()
    assert spelling == "data-only" or "f1" in before
    assert_left_alone(daemon, overlay, stacked.point)
    found = layers(daemon, overlay / D)
    assert {mount_point for _, mount_point, _ in found} == {stacked.point}, found
    assert all(pid > 0 for _, _, pid in found)
    if spelling in ("first", "last", "symlink", "one-by-one", "upper", "data-only"):
        assert [path for path, _, _ in found] == [overlay / D]
    assert stacked.seen() == before
    stacked.close()
    assert_goes_on(daemon, overlay)


def test_relative(scene, overlay, daemon, plain):
    """Nobody knows any more what it is relative to. The kernel tells which directory it is, and no other one waits."""
    stacked = scene.keep(Stacked(scene.source(), f"lowerdir={NAME}:{plain}", cwd=overlay / P))
    before = stacked.seen()
    assert_left_alone(daemon, overlay, stacked.point, UNLIKE)
    assert stacked.seen() == before
    stacked.close()
    assert_goes_on(daemon, overlay, UNLIKE)


def test_names_that_are_escaped(scene, overlay, daemon, plain):
    path = f"{P}/a:b,c\\d"
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / path, plain)))
    before = stacked.seen()
    assert_left_alone(daemon, overlay, stacked.point, path)
    assert [p for p, _, _ in layers(daemon, overlay / path)] == [overlay / path]
    assert stacked.seen() == before


def test_renamed_since(scene, overlay, daemon, plain):
    """What the mount table calls it is another directory now."""
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / D, plain)))
    os.rename(overlay / D, overlay / f"{P}/moved")
    os.mkdir(overlay / D)
    before = stacked.seen()
    assert_left_alone(daemon, overlay, stacked.point, f"{P}/moved")
    daemon.ctl("finalize", overlay / D)
    assert stacked.seen() == before


def test_in_another_namespace(scene, overlay, daemon, plain):
    stacked = scene.keep(Elsewhere(point := scene.source(), f"mount -t overlay x -o lowerdir={overlay / D}:{plain} {point}"))
    before = stacked.seen()
    assert "f1" in before
    assert_left_alone(daemon, overlay, stacked.point)
    assert layers(daemon, overlay / D) == [(overlay / D, point, stacked.process.pid)]
    assert stacked.seen() == before
    stacked.close()
    assert_goes_on(daemon, overlay)


def test_in_another_namespace_that_lost_this_overlay(scene, overlay, daemon, plain):
    """As runtimes do it: the layers were reached in a way that is gone when everything is mounted."""
    point, way = scene.source(), scene.source()
    stacked = scene.keep(Elsewhere(point, f"mount --bind {overlay / D} {way}",
                                   f"cd / && mount -t overlay x -o lowerdir={way}:{plain} {point}",
                                   f"umount {way}", f"umount -l {overlay.point}"))
    before = stacked.seen()
    assert_left_alone(daemon, overlay, stacked.point)
    assert stacked.seen() == before


@pytest.mark.parametrize("where", [P, "", f"{D}/sub"])
def test_above_and_below(scene, overlay, daemon, plain, where):
    """Lookups through a layer remember the directories below it; and whoever is above takes it along."""
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / where if where else overlay.point, plain)))
    before = stacked.seen()
    result = daemon.ctl("finalize", overlay / D)
    assert result.code == 1 and f"'{stacked.point}'" in result.err, result
    entry = entries(daemon)[overlay / D]
    assert entry["state"] == "pending" and f"'{stacked.point}'" in entry["reason"], entry
    assert stacked.seen() == before
    assert [p for p, _, _ in layers(daemon, overlay / D)] == [overlay / where if where else overlay.point]
    if where == f"{D}/sub":  # what is beside it is done, and itself not
        assert daemon.ctl("is-finalized", overlay / f"{D}/sub").code == 1
    stacked.close()
    assert_goes_on(daemon, overlay)


def test_an_undo_waits_as_well(scene, overlay, daemon, plain):
    daemon.ctl("finalize", overlay / D).ok()
    await_gone(overlay, daemon)
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / D, plain)))
    before = stacked.seen()
    result = daemon.ctl("unfinalize", overlay / D)
    assert result.code == 1 and f"'{stacked.point}'" in result.err, result
    assert daemon.state_of(overlay / D) == "finalized"
    assert stacked.seen() == before
    stacked.close()
    daemon.ctl("unfinalize", overlay / D).ok()
    assert daemon.state_of(overlay / D) != "finalized"


def test_marks_wait_as_well(scene, overlay, daemon, plain):
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / D, plain)))
    before = stacked.seen()
    result = daemon.ctl("finalize", "--method=mark", overlay / D)
    assert result.code == 1 and f"'{stacked.point}'" in result.err, result
    assert stacked.seen() == before
    stacked.close()
    daemon.ctl("finalize", "--method=mark", overlay / D).ok()


def test_a_dry_run_says_so(scene, overlay, daemon, plain):
    scene.keep(Stacked(scene.source(), lower(overlay / f"{D}/sub", plain)))
    steps = daemon.ctl("finalize", "--dry-run", overlay / D, "--json=short").ok().json
    assert "layer of another overlay" in str(steps), steps


def test_one_made_while_a_job_runs(scene, overlay, daemon, plain):
    """Before the exchange: it does not happen."""
    daemon.arm(3, call="linkat", hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / D, plain)))
    before = stacked.seen()
    daemon.release(everything=True)
    done = daemon.wait_job(job)
    assert done["State"] == "failed" and stacked.point in done["ErrorMessage"], done
    assert stacked.seen() == before
    stacked.close()
    assert_goes_on(daemon, overlay)


@pytest.mark.parametrize("where", [f"{D}/sub", P])
def test_one_made_in_the_moment_of_the_exchange(scene, overlay, daemon, plain, where):
    """After the last look: the exchange happens, the old tree stays for it, and goes with it."""
    daemon.arm(1, call="exchange", hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / where, plain)))
    before = stacked.seen()
    daemon.release(everything=True)
    assert daemon.wait_job(job)["State"] == "done"
    assert daemon.state_of(overlay / D) == "finalized"
    await_kept(daemon)
    assert stacked.seen() == before
    assert f"the layer of the overlay at '{stacked.point}'" in daemon.log()
    stacked.close()
    await_gone(overlay, daemon)


def has_ended(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/task")) <= 1 and not alive(pid)
    except FileNotFoundError:
        return True


def test_the_old_tree_stays_over_a_crash(scene, overlay, daemon, plain):
    daemon.arm(1, call="exchange", hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / D, plain)))
    before = stacked.seen()
    daemon.release(everything=True)
    daemon.wait_job(job)
    await_kept(daemon)
    workers = daemon.workers()
    daemon.kill()
    wait_for(lambda: all(map(has_ended, workers)), "the workers to die")  # they hold the lock on the old tree
    daemon.start()
    await_kept(daemon)
    assert stacked.seen() == before
    stacked.close()
    await_gone(overlay, daemon)


def test_a_layer_in_a_kept_old_tree(scene, overlay, daemon, plain):
    """Somebody stands there, mounts an overlay of what he sees, and leaves."""
    fd = os.open(overlay / D, os.O_RDONLY | os.O_DIRECTORY)
    try:
        daemon.ctl("finalize", "--standing=keep", overlay / D).ok()
        await_kept(daemon)
        stacked = scene.keep(Stacked(scene.source(), lower(f"/proc/self/fd/{fd}", plain)))
    finally:
        os.close(fd)
    before = stacked.seen()
    assert "f1" in before
    # It is looked at every few seconds: nothing has gone when somebody has looked after the last one left.
    wait_for(lambda: f"the layer of the overlay at '{stacked.point}'" in daemon.log(), daemon.log)
    assert stacked.seen() == before
    stacked.close()
    await_removed(overlay, daemon)


def test_a_swap_waits(scene, overlay, daemon, plain):
    stacked = scene.keep(Stacked(scene.source(), lower(overlay / D, plain)))
    before = stacked.seen()
    ctl = daemon.start_ctl("remount", "soft", "--method=swap")
    wait_for(lambda: any(j["State"] == "waiting" and stacked.point in str(j) for j in daemon.jobs()), lambda: f"{daemon.jobs()}")
    assert stacked.seen() == before
    stacked.close()
    assert ctl.wait(60) == 0


def test_automatic_jobs_leave_it_alone(scene, overlay, plain):
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"Automatic": "yes"}, "Watch": {}}))
    stacked = scene.keep(Stacked(scene.source(), "lowerdir=" + escape_layer(overlay / D) + ":" + plain))
    before = stacked.seen()

    def open_all():
        for name in ("f1", "f2", "f3"):
            with open(overlay / f"{D}/{name}", "rb"):
                pass
        return [j for j in daemon.jobs() if j["Path"].startswith(overlay / D) and j["State"] in ("done", "failed")]
    job = wait_for(open_all, lambda: f"{daemon.jobs()}")[0]
    assert job["Automatic"] and job["State"] == "failed" and stacked.point in job["ErrorMessage"], job
    assert stacked.seen() == before


def test_other_overlays_are_no_hindrance(scene, overlay, daemon, plain):
    """On other layers, relative ones among them, in other namespaces, and one that somebody lists just now."""
    beside, name = os.path.split(plain)
    relative = os.path.join("..", os.path.basename(beside), name)
    scene.keep(Stacked(scene.source(), f"lowerdir={relative}:{scene.source()}", cwd=beside))
    listed = scene.keep(Stacked(scene.source(), lower(plain, scene.source())))
    fd = os.open(listed.point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.listdir(fd)
        scene.keep(Elsewhere(point := scene.source(), f"cd {beside} && mount -t overlay x -o lowerdir={relative}:{scene.source()} {point}"))
        daemon.ctl("finalize", overlay / D).ok()
    finally:
        os.close(fd)
    await_gone(overlay, daemon)


@pytest.mark.parametrize("spelling", ["absolute", "relative"])
def test_one_that_is_listed_meanwhile(scene, overlay, daemon, plain, spelling):
    """The kernel has its listing in memory, and reads no layer: what the mount table says is believed, and where that says
    little, it may be any directory of that name."""
    first = overlay / UNLIKE if spelling == "absolute" else NAME
    stacked = scene.keep(Stacked(scene.source(), f"lowerdir={first}:{plain}", cwd=overlay / P))
    fd = os.open(stacked.point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.listdir(fd)
        before = stacked.seen()
        result = daemon.ctl("finalize", overlay / UNLIKE)
        assert result.code == 1 and f"a layer of the overlay at '{stacked.point}'" in result.err, result
        assert stacked.seen() == before
    finally:
        os.close(fd)
    daemon.ctl("finalize", overlay / f"{P}/other").ok()


def test_one_that_does_not_answer(scene, overlay, daemon, plain):
    """It is not waited for. What its layers are called is known."""
    dead = scene.lower(plain, timeout=0)
    scene.keep(Stacked(scene.source(), lower(dead.point, scene.source())))
    uses = scene.keep(Stacked(scene.source(), lower(overlay / f"{P}/other", dead.point)))
    dead.hang()
    try:
        daemon.ctl("finalize", overlay / D).ok()
        result = daemon.ctl("finalize", overlay / f"{P}/other")
        assert result.code == 1 and f"'{uses.point}'" in result.err, result
    finally:
        dead.recover()


def test_other_overlays_can_be_unmounted(scene, overlay, daemon, plain):
    """Looking at them holds none of them."""
    others = [scene.keep(Stacked(scene.source(), lower(plain, scene.source()))) for _ in range(20)]
    daemon.ctl("finalize", overlay / D).ok()
    for other in others:
        run("umount", other.point)
