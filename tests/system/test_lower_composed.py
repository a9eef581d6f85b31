# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lower layers that need each other: content in data-only layers, redirects, opaque directories and whiteouts in layers.
They are compared, refreshed and pruned as the kernel sees them."""

import errno
import os
import shutil
import stat
from functools import partial

import pytest

from ovltest import assert_same, run, snapshot, visible
from ovltest.ctl import run_offline
from ovltest.env import mount
from ovltest.layers import detached, map_ids, mount_overlay
from ovltest.overlay import OverlayMount
from ovltest.tree import release, write

D = "software/prog"
NO_PROBLEMS = {"problems": []}


def metadata_layer(scene, source):
    """What image tools make of a tree: a layer with its names and metadata, and the content under other names."""
    meta, data = scene.source(), scene.source()
    run("cp", "-a", "--attributes-only", source + "/.", meta)
    n = 0
    for directory, _, files in os.walk(source):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                continue
            at = os.path.join(meta, os.path.relpath(path, source))
            n += 1
            shutil.copyfile(path, os.path.join(data, f"object{n}"))
            os.truncate(at, os.path.getsize(path))
            shutil.copystat(path, at)
            os.setxattr(at, "trusted.overlay.metacopy", b"")
            os.setxattr(at, "trusted.overlay.redirect", f"/object{n}".encode())
    for directory, _, _ in os.walk(source, topdown=False):
        shutil.copystat(directory, os.path.join(meta, os.path.relpath(directory, source)))
    return meta, data


class Composed(OverlayMount):
    def __init__(self, scene, layers, data):
        self.layers, self.data = layers, data
        super().__init__(scene.subdir("ovl"), layers, scene.upper())

    def mount(self):
        lower = ":".join(self.layers) + "".join("::" + d for d in self.data)
        mount("overlay", self.point, "overlay", 0, f"lowerdir={lower},upperdir={self.upper.upper},workdir={self.upper.work},"
              "metacopy=on,redirect_dir=on,index=off")


class Described(Composed):
    """The data-only layers are descriptors, as image runtimes give them: no path leads to them."""

    def __init__(self, scene, layers, data, *ranges):
        self.ranges = ranges
        super().__init__(scene, layers, data)

    def mount(self):
        fds = [detached(d) for d in self.data]
        mount_overlay(self.point, self.upper, self.layers, [map_ids(fd, *self.ranges) if self.ranges else fd for fd in fds])


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, D))
    return top


@pytest.mark.parametrize("n", (1, 2))
def test_data_only(scene, source, n):
    """Behind one ordinary layer, and behind two."""
    meta, data = metadata_layer(scene, source)
    top = scene.source()
    write(os.path.join(top, D, "bin/added"), mode=0o755)
    overlay = scene.keep(Composed(scene, [top, meta][2 - n:], [data]))
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    if n == 1:
        assert_same(visible(snapshot(os.path.join(source, D))), visible(before))
    daemon.ctl("finalize", overlay / D).ok()
    assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == NO_PROBLEMS
    assert "nothing to do" in daemon.ctl("refresh", overlay / D).ok().out
    assert "nothing to do" in daemon.ctl("prune", "soft").ok().out
    assert_same(visible(before), visible(snapshot(overlay / D)))
    write(os.path.join(meta, D, "lib/libnew.so"))
    os.chmod(os.path.join(meta, D, "lib/libpart0.so.1.0"), 0o700)
    daemon.ctl("refresh", overlay / D).ok()
    assert os.path.exists(overlay / f"{D}/lib/libnew.so")
    st = os.stat(overlay / f"{D}/lib/libpart0.so.1.0")
    assert stat.S_IMODE(st.st_mode) == 0o700
    with open(overlay / f"{D}/lib/libpart0.so.1.0", "rb") as a, open(os.path.join(source, D, "lib/libpart0.so.1.0"), "rb") as b:
        assert a.read() == b.read()
    daemon.ctl("unfinalize", overlay / D).ok()
    overlay.remount()
    assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == NO_PROBLEMS


def test_content_that_a_data_layer_lacks(scene, source):
    """The metadata of a file is there: nobody is changing it, and a later try would not do."""
    meta, data = metadata_layer(scene, source)
    overlay = scene.keep(Composed(scene, [meta], [data]))
    daemon = scene.daemon(soft=overlay)
    lost, later = (os.path.join(D, f"lib/{name}") for name in ("python3/site-packages/prog/mod0.py", "libpart0.so.1.0"))
    contents = {name: data + os.getxattr(os.path.join(meta, name), "trusted.overlay.redirect").decode() for name in (lost, later)}
    os.unlink(contents[lost])
    result = daemon.ctl("finalize", overlay / D).ok()
    assert f"'{overlay / lost}'" in result.err and "its content is in no lower layer" in result.err, result
    assert daemon.state_of(overlay / f"{D}/lib") == "finalized"
    os.unlink(contents[later])
    os.utime(os.path.join(meta, later), (1, 1))
    write(os.path.join(meta, D, "lib/libnew.so"))
    result = daemon.ctl("refresh", overlay / D).ok()
    assert f"'{overlay / later}': {os.strerror(errno.EIO)}" in result.err, result
    assert os.path.exists(overlay / f"{D}/lib/libnew.so")


def test_data_of_content_that_is_lost(scene, source):
    """After the directory was finalized: the file is there, and its content is not. The others get theirs."""
    meta, data = metadata_layer(scene, source)
    overlay = scene.keep(Composed(scene, [meta], [data]))
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    lost, beside = (os.path.join(D, f"lib/libpart{i}.so.1.0") for i in range(2))
    os.unlink(data + os.getxattr(os.path.join(meta, lost), "trusted.overlay.redirect").decode())
    result = daemon.ctl("finalize", "--data=all", overlay / D).ok()
    assert f"'{overlay / lost}': {os.strerror(errno.ENOENT)}; its content is in no lower layer" in result.err, result
    assert os.stat(overlay.upper_path(beside)).st_blocks and not os.stat(overlay.upper_path(lost)).st_blocks


def test_content_of_another_data_layer(scene, source):
    """What is mounted over it has the same names and other content."""
    meta, data = metadata_layer(scene, source)
    overlay = scene.keep(Composed(scene, [meta], [data]))
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    os.chmod(os.path.join(meta, D, "lib/libpart0.so.1.0"), 0o700)
    os.utime(os.path.join(meta, D, "lib/libpart0.so.1.0"), (1_500_000_000, 1_500_000_000))
    before = snapshot(overlay / D)
    other = scene.source()
    for name in os.listdir(data):
        write(os.path.join(other, name), b"x" * os.path.getsize(os.path.join(data, name)))
    run("mount", "--bind", other, data)
    try:
        result = daemon.ctl("refresh", overlay / D)
        assert "not proved" in result.err and "LowerDir=" in result.err
        assert_same(before, snapshot(overlay / D))
        assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == NO_PROBLEMS
    finally:
        run("umount", data)
    daemon.ctl("refresh", overlay / D).ok()
    assert stat.S_IMODE(os.stat(overlay / f"{D}/lib/libpart0.so.1.0").st_mode) == 0o700


def test_data_layers_that_changed_places(scene, source):
    """Each is one of the overlay's, and which comes first does not show: a file that two of them have is left as it is."""
    meta, data = metadata_layer(scene, source)
    other = scene.source()
    objects = sorted(os.listdir(data))
    for name in objects[:len(objects) // 2]:
        os.rename(os.path.join(data, name), os.path.join(other, name))
    with open(os.path.join(data, objects[-1]), "rb") as f:
        write(os.path.join(other, objects[-1]), bytes(byte ^ 1 for byte in f.read()))
    overlay = Composed(scene, [meta], [data, other])
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    before = visible(snapshot(overlay / D))
    os.rename(data, data + ".kept")
    os.rename(other, data)
    os.rename(data + ".kept", other)
    for directory, _, files in os.walk(os.path.join(meta, D)):
        for name in files:
            os.utime(os.path.join(directory, name), (1, 1), follow_symlinks=False)
    daemon.ctl("refresh", overlay / D)
    after = visible(snapshot(overlay / D))
    assert {k: v["content"] for k, v in before.items() if v.get("content")} == \
        {k: v["content"] for k, v in after.items() if v.get("content")}
    assert sum(v["mtime"] == 10**9 for v in after.values()) > 10


@pytest.mark.parametrize("ranges", [(), ((0, 0, 1000), (1000, 5000, 1000))], ids=["plain", "id-mapped"])
def test_data_layer_by_descriptor(scene, source, ranges):
    """Nothing is copied out of what cannot be told to be that layer; what needs no content is done."""
    meta, data = metadata_layer(scene, source)
    overlay = scene.keep(Described(scene, [meta], [data], *ranges))
    daemon = scene.daemon(soft=overlay)
    before = visible(snapshot(overlay / D))
    daemon.ctl("finalize", overlay / D).ok()
    assert_same(before, visible(snapshot(overlay / D)))
    changed = os.path.join(D, "lib/libpart0.so.1.0")
    os.utime(os.path.join(meta, changed), (1_500_000_000, 1_500_000_000))
    result = daemon.ctl("refresh", overlay / D)
    assert "not proved" in result.err, result
    assert not os.stat(overlay.upper_path(changed)).st_blocks
    assert_same(before, visible(snapshot(overlay / D)))
    overlay.remount()
    assert_same(before, visible(snapshot(overlay / D)))


@pytest.fixture
def offline(scene, source):
    """Not mounted: the overlay, what it looks like, and how to work on it."""
    meta, data = metadata_layer(scene, source)
    overlay = scene.keep(Composed(scene, [meta], [data]))
    before = visible(snapshot(overlay / D))
    overlay.umount()
    state = scene.subdir("state")

    ctl = partial(run_offline, overlay, state, lowers=f"{meta}::{data}")
    ctl.state = state
    return overlay, before, ctl


def names(top):
    return [name for _, directories, files in os.walk(top) for name in (*directories, *files)]


COPIED = f"{D}/lib/libpart0.so.1.0"


def copy_up_data(overlay):
    """Of one file, which is the same afterwards."""
    overlay.mount()
    st = os.stat(overlay / COPIED)
    with open(overlay / COPIED, "ab"):
        pass
    os.utime(overlay / COPIED, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert os.stat(overlay.upper_path(COPIED)).st_blocks
    overlay.umount()


def test_offline(scene, offline):
    """With data-only layers behind the ordinary one, as lowerdir= spells them."""
    overlay, before, ctl = offline
    ctl("finalize", D).ok()
    assert ctl("verify", "--json=short").ok().json == NO_PROBLEMS
    copy_up_data(overlay)
    overlay.mount()
    daemon = scene.daemon(start=False, soft=overlay)
    run("cp", "-a", ctl.state + "/.", daemon.state)
    daemon.start()
    assert daemon.state_of(overlay / D) == daemon.state_of(overlay / f"{D}/lib") == "finalized"
    assert daemon.stop() == 0
    assert_same(before, visible(snapshot(overlay / D)))
    overlay.umount()
    ctl("unfinalize", "--reset", D).ok()
    assert names(overlay.upper.upper) == []
    overlay.mount()
    assert_same(before, visible(snapshot(overlay / D)))


def test_reset_with_a_data_layer_that_is_not_proved(offline):
    """Each of its files has two names, and tells nothing: a copy of content stays, copies of metadata go."""
    overlay, before, ctl = offline
    data, = overlay.data
    for name in os.listdir(data):
        os.link(os.path.join(data, name), os.path.join(data, name + ".linked"))
    ctl("finalize", D).ok()
    copy_up_data(overlay)
    result = ctl("unfinalize", "--reset", D).ok()
    assert "cannot be compared with the lower layer" in result.err and "not proved" in result.err, result
    assert sorted(names(overlay.upper.upper)) == sorted(COPIED.split("/"))
    overlay.mount()
    assert_same(before, visible(snapshot(overlay / D)))


def layered(scene, source):
    """A layer that an overlay has written above source: a directory and a file that were moved, one made anew, one gone."""
    upper = scene.upper()
    with_changes = scene.overlay(source, upper=upper)
    top = os.path.join(with_changes.point, D)
    os.rename(os.path.join(top, "lib/python3"), os.path.join(top, "python"))
    os.rename(os.path.join(top, "lib/libpart0.so.1.0"), os.path.join(top, "bin/moved"))
    os.chmod(os.path.join(top, "lib/libpart1.so.1.0"), 0o600)
    shutil.rmtree(os.path.join(top, "share"))
    write(os.path.join(top, "share/doc/NEWS"))
    os.unlink(os.path.join(top, "lib/libpart2.so.1.0"))
    with_changes.umount()
    return upper.upper


def test_layers_with_redirects(scene, source):
    layer = layered(scene, source)
    overlay = scene.overlay(layer, source)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    assert "python/site-packages/prog/mod0.py" in before and "share/doc/README" not in before
    daemon.ctl("finalize", overlay / D).ok()
    assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == NO_PROBLEMS
    assert "nothing to do" in daemon.ctl("refresh", overlay / D).ok().out
    assert "nothing to do" in daemon.ctl("prune", "soft").ok().out
    assert_same(visible(before), visible(snapshot(overlay / D)))
    # What changes where the redirects lead to is taken up, by the names that it has here.
    write(os.path.join(source, D, "lib/python3/site-packages/prog/added.py"))
    write(os.path.join(source, D, "share/doc/hidden"))
    os.unlink(os.path.join(source, D, "lib/python3/site-packages/prog/mod0.py"))
    daemon.ctl("refresh", overlay / D).ok()
    after = snapshot(overlay / D)
    assert "python/site-packages/prog/added.py" in after and "python/site-packages/prog/mod0.py" not in after
    assert "share/doc/hidden" not in after
    overlay.remount()
    assert_same(visible(snapshot(overlay / D)), visible(after))


@pytest.mark.parametrize("n", (1, 2))
def test_whiteouts_by_xattr(scene, source, n):
    """The root of a layer says that there are any (Linux 6.7). Where nothing is merged the kernel lists them, and has no such
    name, so that directory is left out."""
    layer = source if n == 1 else scene.source()
    gone = "lib/gone" if n == 1 else "lib/libpart0.so.1.0"
    write(os.path.join(layer, D, gone), b"")
    os.setxattr(os.path.join(layer, D, gone), "trusted.overlay.whiteout", b"")
    for path in (layer, os.path.join(layer, D, "lib")):
        os.setxattr(path, "trusted.overlay.opaque", b"x")
    overlay = scene.overlay(*[layer, source][:n])
    if os.path.lexists(overlay / f"{D}/{gone}"):
        pytest.skip("this kernel knows no such whiteouts")
    daemon = scene.daemon(soft=overlay)
    result = daemon.ctl("finalize", overlay / D)
    if n == 2:
        assert result.code == 0 and os.path.basename(gone) not in os.listdir(overlay / f"{D}/lib")
    assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == NO_PROBLEMS
    assert "nothing to do" in daemon.ctl("refresh", overlay / D).ok().out
    assert not os.path.lexists(overlay / f"{D}/{gone}")


def test_content_that_is_nowhere(scene, source):
    """A file that becomes one whose content is in no layer: the kernel refuses it, and no zeros are taken for its content."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    name = "lib/libpart0.so.1.0"
    path = os.path.join(source, D, name)
    os.unlink(path)
    write(path, b"")
    os.truncate(path, 10000)
    os.setxattr(path, "trusted.overlay.metacopy", b"")
    assert os.strerror(errno.EIO) in daemon.ctl("refresh", overlay / D).err
    try:
        with open(overlay / f"{D}/{name}", "rb") as f:
            assert f.read(1) not in (b"\0", b"")
    except OSError:
        pass  # gone below, as before
