# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a swap carries over: layers, however they are spelled, options and flags, compared in the mount table."""

import ctypes
import os

import pytest

from ovltest import run, snapshot
from ovltest.daemon import wait_for
from ovltest.env import can_mount_beneath, mount, overlay_takes_any_path, overlay_takes_descriptors
from ovltest.overlay import escape_layer, escape_value
from ovltest.tree import write

MS = {"nosuid": 2, "nodev": 4, "noexec": 8, "nosymfollow": 256, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21,
      "strictatime": 1 << 24, "lazytime": 1 << 25, "sync": 16, "dirsync": 128}
LONG = ["l" * 120, "m" * 120, "n" * 120]
ODD = 'a:b,c\\d e\nf"g#h\'i'

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *args):
    r = libc.syscall(number, *(os.fsencode(a) if isinstance(a, str) else a for a in args))
    if r < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}{args}")
    return r


def mount_one_by_one(point, pairs, flags=0):
    """As mount(8) of the new mount API: each option by itself."""
    context = call(430, "overlay", 0)  # fsopen
    try:
        for key, value in pairs:
            call(431, context, 1, key, value, 0)  # fsconfig, FSCONFIG_SET_STRING
        call(431, context, 6, None, None, 0)  # FSCONFIG_CMD_CREATE
        fd = call(432, context, 0, flags)  # fsmount
        try:
            call(429, fd, "", -100, point, 4)  # move_mount, MOVE_MOUNT_F_EMPTY_PATH
        finally:
            os.close(fd)
    finally:
        os.close(context)


def entry(point):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        lines = [line.split() for line in f if line.split()[4] == point]
    assert len(lines) == 1 or not can_mount_beneath(), lines
    line = lines[-1]
    at = line.index("-")
    return {"flags": line[5], "peers": line[6:at], "source": line[at + 2],
            "options": [o for o in line[at + 3].split(",") if not o.startswith("workdir=")]}


class Place:
    """An overlay somewhere, with a daemon for it. Layers are directories below here."""

    def __init__(self, scene, *deep):
        self.scene, self.daemon = scene, None
        self.base = scene.subdir("place")
        run("mount", "-t", "tmpfs", "layers", self.base)
        scene._stack.callback(run, "umount", "-l", self.base, check=False)
        self.top = os.path.join(self.base, *deep)
        self.point = os.path.join(scene.subdir("point"), "ovl")
        os.mkdir(self.point)
        scene._stack.callback(run, "umount", "-l", self.point, check=False)
        self.upper, self.work = self.layer("upper"), self.layer("work")

    def layer(self, name, *files):
        path = os.path.join(self.top, name)
        os.makedirs(path)
        for f in files:
            write(os.path.join(path, f), f"{name}: {f}".encode())
        return path

    def mount(self, lower, flags=0, **options):
        options = [f"lowerdir={lower}", f"upperdir={escape_value(self.upper)}", f"workdir={escape_value(self.work)}",
                   *(k if v is True else f"{k}={v}" for k, v in options.items())]
        mount("my overlay", self.point, "overlay", flags, ",".join(options))

    def remount(self, *arguments):
        if not self.daemon:
            self.daemon = self.scene.daemon(start=False)
            self.daemon.add_overlay("soft", self.point, Remount={"CoverOld": "yes"})  # for where nothing can be mounted beneath
            self.daemon.start()
        return self.daemon.ctl("remount", "soft", "--method=swap", *arguments)

    def swap(self, *arguments):
        """Swaps; returns what the mount table said before and after. Content and the rights to write it are as before."""
        before, content = entry(self.point), snapshot(self.point)
        self.remount(*arguments).ok()
        after = entry(self.point)
        assert snapshot(self.point) == content
        for name in os.listdir(self.point):
            if name != "moved" and os.path.isfile(os.path.join(self.point, name)):
                with open(os.path.join(self.point, name), "rb") as f:
                    assert f.read()
                os.rename(os.path.join(self.point, name), os.path.join(self.point, "moved"))
                assert os.path.exists(os.path.join(self.upper, "moved"))
                break
        works = wait_for(lambda: len(names := [n for n in os.listdir(os.path.dirname(self.work)) if
                                               n.startswith(os.path.basename(self.work) + ".ovlfind")]) == 1 and names, "one work dir")
        assert not works[0].endswith(".probe")
        return before, after


@pytest.mark.parametrize("flags", [(), ("nosuid", "nodev", "noexec"), ("noatime",), ("nodiratime", "relatime"), ("strictatime",),
                                   ("nosymfollow",), ("lazytime",), ("sync",), ("dirsync", "nosuid")], ids="-".join)
def test_flags(scene, flags):
    place = Place(scene)
    place.mount(place.layer("lower", "a", "b"), sum(MS[f] for f in flags))
    before, after = place.swap()
    assert after == before


@pytest.mark.parametrize("options", [{}, {"xino": "on"}, {"xino": "off"}, {"uuid": "null"}, {"uuid": "off"}, {"uuid": "on"},
                                     {"userxattr": True}, {"redirect_dir": "follow"}, {"redirect_dir": "nofollow"},
                                     {"metacopy": "on", "verity": "on"}, {"metacopy": "on", "redirect_dir": "on"},
                                     {"default_permissions": True}, {"fsync": "strict"}],
                         ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()) or "none")
def test_options(scene, options):
    place = Place(scene)
    lower = place.layer("lower", "a", "b")
    run("mount", "-t", "tmpfs", "lower", lower)
    write(os.path.join(lower, "a"))
    try:
        place.mount(lower, **options)
    except OSError as e:
        run("umount", lower)
        pytest.skip(f"this kernel does not take {options}: {e}")
    before, after = place.swap()
    run("umount", "-l", lower)
    assert after == before


@pytest.mark.parametrize("name", ["plain", ODD, "x\\", "w" * 223], ids=lambda n: f"{n[:3]!r}{len(n)}")
def test_names_of_layers(scene, name):
    place = Place(scene)
    place.upper, place.work = place.layer("u" + name), place.layer("w" + name)
    one, two = place.layer("1" + name, "a"), place.layer("2" + name, "b")
    place.mount(f"{escape_layer(one)}:{escape_layer(two)}")
    if ("," in name and not overlay_takes_any_path()) or (len(name) > 200 and not overlay_takes_descriptors()):
        before = entry(place.point)
        assert "does not take the lower layers" in place.remount().err and entry(place.point) == before
        return
    before, after = place.swap()
    if len(name) < 200:  # else the layers have to be given one by one
        # A comma that was escaped for mount(2) is no longer.
        assert after["options"] == [o.replace("\\134\\054", "\\054") for o in before["options"]]
    if can_mount_beneath():  # else one old mount is covered, and no more
        place.swap()


def test_a_work_directory_with_a_name_too_long_to_add_to(scene):
    place = Place(scene)
    place.work = place.layer("w" * 225)
    place.mount(place.layer("lower", "a"))
    names, before = os.listdir(place.base), entry(place.point)
    daemon = scene.daemon(start=False)
    daemon.add_overlay("soft", place.point)
    daemon.start()
    assert "File name too long" in daemon.ctl("remount", "soft", "--method=swap").err
    assert os.listdir(place.base) == names and entry(place.point) == before


@pytest.mark.parametrize("spelled,deep", [("lowerdir", ()), ("lowerdir", LONG), ("lowerdir+", ())], ids=["short", "long", "by-one"])
def test_layers(scene, spelled, deep):
    """Several lower layers and data-only ones, in paths of more than 255 bytes or not."""
    place = Place(scene, *deep)
    lowers = [place.layer(f"lower{i}", f"f{i}", "same") for i in range(4)]
    data = [place.layer(f"data{i}", f"blob{i}") for i in range(2)]
    for i in range(2):
        size = os.path.getsize(os.path.join(data[i], f"blob{i}"))
        entry_path = os.path.join(lowers[1], f"from-data{i}")
        with open(entry_path, "wb") as f:
            f.truncate(size)
        os.setxattr(entry_path, "trusted.overlay.metacopy", b"")
        os.setxattr(entry_path, "trusted.overlay.redirect", f"/blob{i}".encode())
    rest = [("redirect_dir", "on"), ("metacopy", "on")]
    try:
        if spelled == "lowerdir":
            place.mount(":".join(lowers) + "".join(f"::{d}" for d in data), **dict(rest))
        else:
            mount_one_by_one(place.point, [("source", "my"), *(("lowerdir+", p) for p in lowers), *(("datadir+", p) for p in data),
                                           ("upperdir", place.upper), ("workdir", place.work), *rest])
    except OSError as e:
        if overlay_takes_any_path():
            raise
        pytest.skip(f"this kernel has no data-only layers: {e}")
    if deep and not overlay_takes_descriptors():
        before = entry(place.point)
        assert "does not take the lower layers" in place.remount().err and entry(place.point) == before
        return
    before, after = place.swap("--set=xino=off")
    assert {o for o in after["options"] if "dir" not in o} == {o for o in before["options"] if "dir" not in o}
    assert sum(o.startswith(("lowerdir", "datadir")) for o in after["options"]) in (1, 6)
    for i in range(2):
        name = "moved" if os.path.exists(os.path.join(place.upper, "moved")) and not os.path.exists(
            os.path.join(place.point, f"from-data{i}")) else f"from-data{i}"
        with open(os.path.join(place.point, name), encoding="ascii") as f:
            assert f.read() == f"data{i}: blob{i}"
