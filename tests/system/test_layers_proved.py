# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands at the path of a lower layer may be something else: nothing is compared with it, refreshed from it or pruned
because of it, and everybody hears why. A layer that the overlay itself is seen to read is used, by whatever path."""

import errno
import os
import shutil
import stat

import pytest

from ovltest import assert_same, run, snapshot, visible
from ovltest.ctl import run_ctl
from ovltest.daemon import wait_for
from ovltest.layers import attach, detached, map_ids, mount_overlay
from ovltest.overlay import OverlayMount
from ovltest.tree import release, write

D = "software/prog"
ACT = {"Finalize": {"OnLowerChange": "refresh", "OnLowerRemoved": "prune"}}
WORDS = "it is not proved that"


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, D))
    return top


class Mounted(OverlayMount):
    """Of layers given as descriptors."""

    def __init__(self, scene, layers=(), data=(), upper="tmpfs"):
        self.layers, self.data = layers, data
        super().__init__(scene.subdir("ovl"), [], scene.upper(upper))

    def mount(self):
        mount_overlay(self.point, self.upper, self.layers, self.data)


def managed(scene, overlay, **sections):
    scene.keep(overlay)
    return scene.daemon(soft=(overlay, {**ACT, **sections}))


def compared(daemon):
    """Starts the daemon anew, and waits until its first comparison is over."""
    daemon.stop()
    n = len(daemon.log())
    daemon.start()
    wait_for(lambda: "Cannot compare overlay" in daemon.log()[n:] or "compared with" in daemon.log()[n:], "the comparison")


def assert_left_alone(daemon, overlay, before):
    """By the daemon itself, and by whoever asks."""
    compared(daemon)
    for verb, *options in (("refresh", "--dry-run"), ("prune", "--dry-run"), ("refresh",), ("prune",), ("verify",)):
        result = daemon.ctl(verb, *options, overlay / D if verb != "verify" else overlay.point)
        assert result.code != 0 and WORDS in result.err, (verb, options, result)
        assert "LowerDir=" in result.err
    assert_same(before, snapshot(overlay / D))
    assert not daemon.jobs() or all(j["State"] == "failed" for j in daemon.jobs() if j["Type"] in ("refresh", "prune"))


def lower_row(daemon, overlay):
    rows = daemon.ctl("check", overlay.point, "--json=short").json["checks"]
    return next(r for r in rows if r["id"] == "lower-path")


def test_detached_layer_is_left_alone(scene, source):
    overlay = Mounted(scene, [detached(source)])
    daemon = managed(scene, overlay)
    assert overlay.lowers == []
    daemon.ctl("finalize", overlay / D).ok()
    before = snapshot(overlay / D)
    assert_left_alone(daemon, overlay, before)
    daemon.ctl("is-finalized", overlay / D).ok()


def test_configured_path_of_a_detached_layer(scene, source):
    """LowerDir= helps to find it, and is proved like any other."""
    overlay = Mounted(scene, [detached(source)])
    daemon = managed(scene, overlay, Overlay={"LowerDir": source})
    daemon.ctl("finalize", overlay / D).ok()
    write(os.path.join(source, D, "lib/libnew.so"))
    daemon.ctl("refresh", overlay / D).ok()
    assert os.path.exists(overlay / f"{D}/lib/libnew.so")
    copy = scene.subdir("copy")
    run("cp", "-a", source + "/.", copy)
    shutil.rmtree(os.path.join(copy, D))
    daemon.add_overlay("soft", overlay.point, Overlay={"LowerDir": copy}, **ACT)
    assert_left_alone(daemon, overlay, snapshot(overlay / D))


def test_replaced_directory(scene, source):
    """Renamed away while it is mounted, with another one in its place."""
    overlay = scene.overlay(source)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    before = snapshot(overlay / D)
    os.rename(source, source + ".kept")
    shutil.copytree(source + ".kept", source, symlinks=True)
    shutil.rmtree(os.path.join(source, D, "share"))
    assert_left_alone(daemon, overlay, before)
    shutil.rmtree(source)
    os.rename(source + ".kept", source)
    daemon.ctl("refresh", overlay / D).ok()
    assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == {"problems": []}


@pytest.mark.parametrize("what", ("empty", "itself-below", "upper"))
def test_mounted_over(scene, source, what):
    overlay = scene.overlay(source)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    before = snapshot(overlay / D)
    if what == "empty":
        run("mount", "-t", "tmpfs", "over", source)
    else:
        run("mount", "--bind", os.path.join(source, "software") if what == "itself-below" else overlay.upper.upper, source)
    try:
        assert_left_alone(daemon, overlay, before)
    finally:
        run("umount", source)
    daemon.ctl("refresh", overlay / D).ok()


@pytest.mark.parametrize("kind", ("ext4-256", "xfs", "btrfs"))
def test_clone_of_the_file_system(scene, kind):
    """A copy of the image has the same inode numbers, handles, times and UUID."""
    lower = scene.upper(kind)
    source = os.path.join(lower.point, "source")
    release(os.path.join(source, D))
    run("sync", "-f", source)
    copy = lower.image + ".copy"
    clone = scene.subdir("clone")
    if kind == "btrfs":
        run("btrfs", "subvolume", "create", os.path.join(lower.point, "volume"))
        shutil.copytree(source, os.path.join(lower.point, "volume/source"), symlinks=True)
        run("btrfs", "subvolume", "snapshot", os.path.join(lower.point, "volume"), os.path.join(lower.point, "snapshot"))
        source, other = (os.path.join(lower.point, n, "source") for n in ("volume", "snapshot"))
    else:
        run("cp", lower.image, copy)
        run("mount", "-o", "loop" + (",nouuid" if kind == "xfs" else ""), copy, clone)
        other = os.path.join(clone, "source")
    try:
        overlay = scene.overlay(source)
        daemon = managed(scene, overlay)
        daemon.ctl("finalize", overlay / D).ok()
        before = snapshot(overlay / D)
        shutil.rmtree(os.path.join(other, D, "share"))
        run("mount", "--bind", other, source)
        try:
            assert_left_alone(daemon, overlay, before)
        finally:
            run("umount", source)
        daemon.ctl("refresh", overlay / D).ok()
    finally:
        if kind != "btrfs":
            run("umount", "-l", clone)


@pytest.mark.parametrize("n", (1, 2))
def test_layer_of_a_layer(scene, source, n):
    """A lower that is an overlay reads its own layers, too: one of those is not the layer."""
    below = scene.overlay(source)
    write(os.path.join(below.point, D, "lib/libnew.so"))
    overlay = scene.overlay(*[below, scene.source()][:n])
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    before = snapshot(overlay / D)
    if n == 1:
        daemon.ctl("refresh", overlay / D).ok()
    run("mount", "--bind", source, below.point)
    try:
        assert_left_alone(daemon, overlay, before)
    finally:
        run("umount", below.point)


def test_hard_linked_copy(scene, source):
    """cp -al: every file is the same inode."""
    overlay = scene.overlay(source)
    daemon = managed(scene, overlay, Finalize={**ACT["Finalize"], "HardLinks": "break"})
    copy = scene.subdir("copy")
    daemon.ctl("finalize", overlay / D).ok()
    run("cp", "-al", source + "/.", copy)
    before = snapshot(overlay / D)
    shutil.rmtree(os.path.join(copy, D, "share"))
    run("mount", "--bind", copy, source)
    try:
        assert_left_alone(daemon, overlay, before)
    finally:
        run("umount", source)


def test_id_map_of_a_layer(scene, source):
    """Read by its path, what the overlay shows as 0 would be 100000, and the other way round."""
    program = os.path.join(source, D, "bin/prog-setid")
    write(program, mode=0o4755)
    os.chown(program, 0, 0)
    other = os.path.join(source, D, "bin/other-setid")
    write(other)
    os.chown(other, 100000, 100000)
    os.chmod(other, 0o4755)
    layer = map_ids(detached(source), (0, 100000, 65536), (100000, 0, 65536))
    overlay = Mounted(scene, [layer])
    daemon = managed(scene, overlay, Overlay={"LowerDir": source})
    assert os.stat(overlay / f"{D}/bin/other-setid").st_uid == 0
    daemon.ctl("finalize", overlay / D).ok()
    before = snapshot(overlay / D)
    compared(daemon)
    result = daemon.ctl("refresh", overlay / D).ok()
    assert "nothing to do" in result.out
    assert_same(before, snapshot(overlay / D))
    # What is refreshed has the owner that the overlay shows.
    write(program, b"longer than it was before\n" * 20, mode=0o4755)
    daemon.ctl("refresh", overlay / D).ok()
    st = os.stat(overlay / f"{D}/bin/prog-setid")
    assert (st.st_uid, stat.S_IMODE(st.st_mode), st.st_size) == (100000, 0o4755, 520)


def test_id_map_of_the_path(scene, source):
    """The path has an id map, and the layer none."""
    os.chown(os.path.join(source, D, "bin/prog"), 100000, 100000)
    overlay = scene.overlay(source)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    before = snapshot(overlay / D)
    attach(map_ids(detached(source), (0, 100000, 65536), (100000, 0, 65536)), source)
    try:
        compared(daemon)
        assert "nothing to do" in daemon.ctl("refresh", overlay / D).ok().out
        assert_same(before, snapshot(overlay / D))
    finally:
        run("umount", source)


def test_id_map_of_one_of_several_layers(scene, source):
    """Their merged view is made by their paths, so it is not used."""
    second = scene.source()
    write(os.path.join(second, D, "bin/added"), mode=0o4755)
    overlay = Mounted(scene, [map_ids(detached(source), (0, 100000, 65536)), second])
    daemon = managed(scene, overlay, Overlay={"LowerDir": f"{source}:{second}"})
    daemon.ctl("finalize", overlay / D).ok()
    write(os.path.join(source, D, "bin/prog"), b"another one, and longer\n" * 50, mode=0o755)
    before = snapshot(overlay / D)
    compared(daemon)
    result = daemon.ctl("refresh", overlay / D)
    assert result.code != 0 and "id map" in result.err
    assert_same(before, snapshot(overlay / D))


def test_id_map_that_shows_below_only(scene, source):
    """The roots of all layers look the same, and few files do not."""
    program = os.path.join(source, D, "bin/prog")
    os.chown(program, 1000, 1000)
    second = scene.source()
    write(os.path.join(second, "other/one"))
    overlay = Mounted(scene, [map_ids(detached(source), (0, 0, 1000), (1000, 5000, 1000)), second])
    daemon = managed(scene, overlay, Overlay={"LowerDir": f"{source}:{second}"})
    assert os.stat(overlay / f"{D}/bin/prog").st_uid == 5000
    daemon.ctl("finalize", overlay / D).ok()
    os.chmod(program, 0o700)
    daemon.ctl("refresh", overlay / D)
    assert os.stat(overlay / f"{D}/bin/prog").st_uid == 5000


def test_owner_that_another_layer_has_too(scene, source):
    """What is known of one layer says nothing about the next."""
    program = os.path.join(source, D, "lib/libpart1.so.1.0")
    os.chown(program, 1000, 1000)
    top = scene.source()
    for name in ("first", "bin/first", "lib/a-first", "lib/z-first", "share/first"):
        write(os.path.join(top, D, name))
        os.chown(os.path.join(top, D, name), 1000, 1000)
    overlay = Mounted(scene, [top, map_ids(detached(source), (0, 0, 1000), (1000, 5000, 1000))])
    daemon = managed(scene, overlay, Overlay={"LowerDir": f"{top}:{source}"})
    assert os.stat(overlay / f"{D}/lib/libpart1.so.1.0").st_uid == 5000
    daemon.ctl("finalize", overlay / D).ok()
    os.chmod(program, 0o700)
    daemon.ctl("refresh", overlay / D)
    assert os.stat(overlay / f"{D}/lib/libpart1.so.1.0").st_uid == 5000


@pytest.mark.parametrize("is_mapped", (True, False))
def test_owner_behind_a_redirect(scene, source, is_mapped):
    """The file has another path in its layer."""
    upper = scene.upper()
    changes = OverlayMount(scene.subdir("changes"), [source], upper)
    os.rename(changes / f"{D}/lib", changes / f"{D}/moved")
    changes.umount()
    program, shown = os.path.join(source, D, "lib/libpart1.so.1.0"), f"{D}/moved/libpart1.so.1.0"
    os.chown(program, 1000, 1000)
    layer = detached(source)
    overlay = Mounted(scene, [upper.upper, map_ids(layer, (0, 0, 1000), (1000, 5000, 1000)) if is_mapped else layer])
    daemon = managed(scene, overlay, Overlay={"LowerDir": f"{upper.upper}:{source}"})
    daemon.ctl("finalize", overlay / D).ok()
    os.chmod(program, 0o700)
    daemon.ctl("refresh", overlay / D)
    st = os.stat(overlay / shown)
    assert (st.st_uid, stat.S_IMODE(st.st_mode)) == ((5000, 0o755) if is_mapped else (1000, 0o700))


def test_several_layers(scene, source):
    """One that is not proved is enough, and so is another order."""
    second = scene.source()
    release(os.path.join(second, "software/other"))
    overlay = scene.overlay(source, second)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / "software").ok()
    daemon.ctl("refresh", overlay / D).ok()
    before = snapshot(overlay / D)
    run("mount", "-t", "tmpfs", "over", second)
    try:
        assert_left_alone(daemon, overlay, before)
    finally:
        run("umount", second)
    daemon.add_overlay("soft", overlay.point, Overlay={"LowerDir": f"{second}:{source}"}, **ACT)
    assert_left_alone(daemon, overlay, before)


def test_the_one_that_is_not_proved_is_named(scene, source):
    """Also where the layers have only finalized directories in common."""
    layers = [source, scene.source(), scene.source()]
    for layer in layers[1:]:
        release(os.path.join(layer, "software", os.path.basename(layer)))
    overlay = scene.overlay(*layers)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / "software").ok()
    run("mount", "-t", "tmpfs", "over", layers[2])
    try:
        assert f"{WORDS} '{layers[2]}'" in daemon.ctl("refresh", overlay / D).err
    finally:
        run("umount", layers[2])


def test_no_fanotify_group_is_left(scene, source):
    """Others have used them up: no path would help."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(start=False, soft=(overlay, ACT))
    daemon.use_killer()
    daemon.start()
    daemon.ctl("finalize", overlay / D).ok()
    daemon.arm(1, call="fanotify_init", error=errno.EMFILE, always=True)
    result = daemon.ctl("refresh", overlay / D)
    assert result.code == 1 and WORDS in result.err and "max_user_groups" in result.err and "LowerDir=" not in result.err, result


@pytest.mark.parametrize("what", ("copy", "id map", "data"))
def test_a_swap_of_other_layers_is_refused(scene, source, what):
    """A new superblock is made of the paths. Their roots look the same."""
    program, other = os.path.join(source, D, "bin/prog"), scene.source()
    os.chown(program, 1000, 1000)
    run("cp", "-a", source + "/.", other)
    shutil.rmtree(os.path.join(other, D, "share"))
    if what == "id map":
        overlay = Mounted(scene, [map_ids(detached(source), (0, 0, 1000), (1000, 5000, 1000))])
    else:
        overlay = Mounted(scene, [source], [scene.source()] if what == "data" else [])
    daemon = managed(scene, overlay, **({"Overlay": {"LowerDir": source}} if what == "id map" else {}))
    daemon.ctl("finalize", overlay / D).ok()
    before = snapshot(overlay / D)
    if what != "id map":
        run("mount", "--bind", other, source if what == "copy" else overlay.data[0])
    try:
        for dry in ([], ["--dry-run"]):
            result = daemon.ctl("remount", "soft", "--method=swap", *dry)
            assert result.code == 1, result
            assert {"copy": WORDS, "id map": "has another id map", "data": "data-only layers"}[what] in result.err
        assert_same(before, snapshot(overlay / D))
    finally:
        if what != "id map":
            run("umount", source if what == "copy" else overlay.data[0])
    if what == "copy":
        daemon.ctl("remount", "soft", "--method=swap").ok()
        assert_same(before, snapshot(overlay / D))


def test_listings_without_types(scene):
    """While somebody holds a listing of the root, directories below are looked for, which this file system does not tell."""
    point, image = scene.subdir("untyped"), os.path.join(scene.dir, "untyped.img")
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    run("mkfs.ext4", "-q", "-F", "-O", "^filetype", image)
    run("mount", "-o", "loop", image, point)
    try:
        release(os.path.join(point, "layer", D))
        overlay = scene.overlay(os.path.join(point, "layer"))
        daemon = managed(scene, overlay)
        daemon.ctl("finalize", overlay / D).ok()
        with os.scandir(overlay.point) as entries:
            next(entries)
            daemon.ctl("refresh", overlay / D).ok()
        daemon.stop()
        overlay.close()
    finally:
        run("umount", "-l", point)


def test_lower_without_handles(scene, source):
    """FUSE: proved as any other, and another mount of the same server is another file system."""
    lower, other = scene.lower(source), scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    daemon.ctl("refresh", overlay / D).ok()
    before = snapshot(overlay / D)
    run("mount", "--bind", other.point, lower.point)
    try:
        assert_left_alone(daemon, overlay, before)
    finally:
        run("umount", lower.point)
    daemon.ctl("refresh", overlay / D).ok()


def test_everything_copied_up(scene, source):
    """There is nothing left that shows through."""
    overlay = scene.overlay(source)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / "software", "--data=1G").ok()
    before = snapshot(overlay / D)
    run("mount", "-t", "tmpfs", "over", source)
    try:
        assert_left_alone(daemon, overlay, before)
    finally:
        run("umount", source)
    daemon.ctl("refresh", overlay / D).ok()


@pytest.mark.parametrize("n", (1, 2))
def test_listing_that_somebody_holds(scene, source, n):
    """The kernel answers from memory what somebody reads at the same time; the layers are proved nevertheless."""
    second = scene.source()
    release(os.path.join(second, "software/other"))
    layers = [source, second][:n]
    overlay = scene.overlay(*layers)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    with os.scandir(overlay.point) as entries:
        next(entries)
        daemon.ctl("refresh", overlay / D).ok()
        run("mount", "--bind", os.path.join(layers[-1], "software"), layers[-1])
        try:
            assert WORDS in daemon.ctl("refresh", overlay / D).err
        finally:
            run("umount", layers[-1])


def test_layers_that_changed_places(scene, source):
    """Each is read, but in another order; that shows while somebody holds a listing of the root, too."""
    second = scene.source()
    run("cp", "-a", source + "/.", second)
    write(os.path.join(second, D, "lib/libpart1.so.1.0"), b"the second one's")
    overlay = scene.overlay(source, second)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    before = snapshot(overlay / D)
    os.rename(source, source + ".kept")
    os.rename(second, source)
    os.rename(source + ".kept", second)
    with os.scandir(overlay.point) as entries:
        next(entries)
        result = daemon.ctl("refresh", overlay / D)
    assert result.code != 0 and WORDS in result.err and "another order" in result.err
    assert_left_alone(daemon, overlay, before)


def test_listing_of_layers_with_nothing_in_common(scene, source):
    """Nothing shows their order while somebody holds a listing of the root, so nothing is done meanwhile."""
    second = scene.source()
    release(os.path.join(second, "more/prog"))
    overlay = scene.overlay(source, second)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    with os.scandir(overlay.point) as entries:
        next(entries)
        assert "holds a listing" in daemon.ctl("refresh", overlay / D).err
    daemon.ctl("refresh", overlay / D).ok()


@pytest.mark.parametrize("how", ("over-its-lower", "configured"))
def test_the_overlay_itself_at_the_path(scene, source, how):
    """It is listed, too, when it is listed, and is no layer of itself. What it shows is not taken for the lower's."""
    seen = scene.subdir("seen")
    run("mount", "--bind", source, seen)
    try:
        overlay = OverlayMount(source if how == "over-its-lower" else scene.subdir("ovl"), [source], scene.upper())
        path = source if how == "over-its-lower" else overlay.point
        daemon = managed(scene, overlay, Overlay={"LowerDir": path})
        write(overlay / f"{D}/lib/made-here")
        result = daemon.ctl("finalize", overlay / D).ok()
        assert WORDS in result.err and "the overlay itself" in result.err
        assert lower_row(daemon, overlay)["level"] == "warning"
        write(os.path.join(seen, D, "lib/libnew.so"))
        assert_left_alone(daemon, overlay, snapshot(overlay / D))
        # Where it can be seen, it is the layer, and what was made here stays.
        daemon.add_overlay("soft", overlay.point, Overlay={"LowerDir": seen}, **ACT)
        compared(daemon)
        daemon.ctl("refresh", overlay / D).ok()
        daemon.ctl("prune", overlay / D).ok()
        assert {"libnew.so", "made-here"} <= set(os.listdir(overlay / f"{D}/lib"))
    finally:
        run("umount", seen)


def test_nothing_is_recorded_of_another_layer(scene, source):
    """What stands at the path while a directory is finalized is not remembered: nothing is removed later because of it."""
    overlay = scene.overlay(source)
    daemon = managed(scene, overlay)
    other = scene.source()
    release(os.path.join(other, D))
    with open(os.path.join(other, D, "lib/libpart0.so.1.0"), "ab") as f:
        f.write(b"of another size")
    run("mount", "--bind", other, source)
    result = daemon.ctl("finalize", overlay / D).ok()
    assert WORDS in result.err
    run("umount", source)
    before = snapshot(overlay / D)
    compared(daemon)
    assert "nothing to do" in daemon.ctl("refresh", overlay / D).ok().out
    assert_same(before, snapshot(overlay / D))


@pytest.mark.parametrize("error", ("EACCES", "EPERM"))
def test_withdrawn_export(scene, source, error):
    """Where its root denies it, too, it is no matter of one directory: it is waited for, as for a server that is away."""
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower)
    daemon = managed(scene, overlay, CopyUp={"RetrySec": "1h"})
    before = snapshot(overlay / D)
    lower.fail(f"{error}:readdir,opendir,statfs")
    job = daemon.finalize(overlay / D)
    waiting = wait_for(lambda: (p := daemon.job(job))["State"] in ("waiting", "failed", "done") and p, "the job to wait")
    assert waiting["State"] == "waiting" and os.strerror(getattr(errno, error)) in waiting["Reason"]
    lower.recover()
    assert daemon.wait_job(job)["State"] == "done"
    assert_same(visible(before), visible(snapshot(overlay / D)))
    daemon.ctl("is-finalized", overlay / D).ok()


def test_it_is_said(scene, source):
    overlay = scene.overlay(source)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    assert lower_row(daemon, overlay)["level"] == "ok"
    run("mount", "-t", "tmpfs", "over", source)
    compared(daemon)
    row = lower_row(daemon, overlay)
    assert row["level"] == "warning" and WORDS in row["text"] and "LowerDir=" in row["advice"]
    status = daemon.ctl("status", "soft")
    assert WORDS in status.out
    assert daemon.log().count("Cannot compare overlay") == 1
    # As soon as the mount table changes it is asked again.
    run("umount", source)
    wait_for(lambda: WORDS not in daemon.ctl("status", "soft").out, "the proof")
    assert lower_row(daemon, overlay)["level"] == "ok"


def test_kind_of_file_system_is_asked_once(scene, source):
    """Of a layer, not of each entry that is compared."""
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower)
    daemon = managed(scene, overlay)
    daemon.ctl("finalize", overlay / D).ok()
    lower.reset()
    for verb in ("refresh", "verify"):
        daemon.ctl(verb, overlay.point).ok()
    counts = lower.counts()
    assert counts.lookup > 100 and counts.statfs <= 4, counts


def test_check_of_a_lower_that_hangs(scene, source):
    """All other rows are there, and that one says so."""
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    lower.hang()
    try:
        rows = {r["id"]: r for r in run_ctl("check", overlay.point, "--json=short").json["checks"]}
    finally:
        lower.recover()
    assert rows["metacopy"]["level"] == "ok" and len(rows) > 20
    assert rows["lower-path"]["level"] == "warning" and "does not answer" in rows["lower-path"]["text"]
