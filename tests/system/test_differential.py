# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two overlays of the same layers, the same random operations through both; the directories of one are finalized, unfinalized,
refreshed and mounted anew all the while. Whatever is asked of them, both answer alike.

Allowed differences (docs/architecture.md lists them): inode numbers of directories, link counts and times of directories, and
lower additions below finalized directories, which are not made here. OVLFIND_EXAMPLES sets how many examples are run."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ovltest import Scene, assert_same, snapshot
from ovltest.daemon import wait_for
from ovltest.env import run

EXAMPLES = int(os.environ.get("OVLFIND_EXAMPLES", "40"))
SEED = int(os.environ.get("OVLFIND_SEED", "1"))

NAMES = ["a", "b", "c", "ü \n\\,:"]
DIRS = ["d", "e", "f"]
names = st.sampled_from(NAMES)
dirs = st.sampled_from(DIRS)
paths = st.lists(dirs, max_size=3).map("/".join)


@st.composite
def layers(draw):
    """One to three layers of path -> content: str of a file, None of a directory, ("link", target), "whiteout"."""
    result = []
    for i in range(draw(st.integers(1, 3))):
        layer = {}
        for directory in draw(st.lists(paths, min_size=1, max_size=4)):
            for name in draw(st.lists(names, max_size=4)):
                kinds = ["file", "empty", "link"] + (["whiteout"] if i > 0 else [])
                layer[os.path.join(directory, name)] = draw(st.sampled_from(kinds))
        result.insert(0, layer)
    return result


operation = st.one_of(
    st.tuples(st.sampled_from(["write", "append", "unlink", "rmtree", "mkdir", "chmod", "chown", "utime", "xattr", "acl", "read",
                               "list", "stat", "truncate", "symlink", "fifo"]), paths, names),
    st.tuples(st.sampled_from(["rename", "link", "renamedir", "exchange"]), paths, names, paths, names),
    st.tuples(st.sampled_from(["finalize", "unfinalize", "refresh", "finalize-data", "remount"]), paths))


def build(top, layer, n):
    for path, kind in layer.items():
        full = os.path.join(top, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if kind == "whiteout":
            os.mknod(full, stat.S_IFCHR, 0)
            continue
        if kind == "link":
            os.symlink(f"to-{n}", full)
        else:
            with open(full, "w", encoding="utf-8") as f:
                f.write("" if kind == "empty" else f"{n}:{path}" * 9)
        os.utime(full, (1_600_000_000 + n, 1_600_000_000 + n), follow_symlinks=False)


class Side:
    """An overlay, and what is done through it."""

    def __init__(self, overlay):
        self.overlay = overlay

    def at(self, path, name=""):
        return os.path.join(self.overlay.point, path, name) if name else os.path.join(self.overlay.point, path)

    def do(self, kind, *args):
        """What a program sees of it: its result, or its error."""
        try:
            return getattr(self, kind.replace("-", "_"))(*args)
        except OSError as e:
            return errno.errorcode[e.errno]
        except shutil.Error as e:
            return str(len(e.args))

    def write(self, path, name):
        with open(self.at(path, name), "wb") as f:
            f.write(b"written")
        os.utime(self.at(path, name), (1_700_000_000, 1_700_000_000))

    def append(self, path, name):
        with open(self.at(path, name), "r+b") as f:
            f.seek(0, 2)
            f.write(b"appended")
        os.utime(self.at(path, name), (1_700_000_001, 1_700_000_001))

    def truncate(self, path, name):
        os.truncate(self.at(path, name), 3)
        os.utime(self.at(path, name), (1_700_000_002, 1_700_000_002))

    def unlink(self, path, name):
        os.unlink(self.at(path, name))

    def rmtree(self, path, _):
        if not path:
            return "root"
        shutil.rmtree(self.at(path))
        return "removed"

    def mkdir(self, path, _):
        os.mkdir(self.at(path))

    def chmod(self, path, name):
        os.chmod(self.at(path, name), 0o640)

    def chown(self, path, name):
        os.chown(self.at(path, name), 5, 6, follow_symlinks=False)

    def utime(self, path, name):
        os.utime(self.at(path, name), (1_650_000_000, 1_650_000_000), follow_symlinks=False)

    def xattr(self, path, name):
        os.setxattr(self.at(path, name), "user.note", b"note")

    def acl(self, path, name):
        return run("setfacl", "-m", "u:77:rw", self.at(path, name), check=False).returncode

    def read(self, path, name):
        with open(self.at(path, name), "rb") as f:
            return f.read()

    def list(self, path, _):
        return sorted(n for n in os.listdir(self.at(path)) if not n.startswith(".ovlfind"))

    def stat(self, path, name):
        s = os.lstat(self.at(path, name))
        return s.st_mode, s.st_uid, s.st_gid, None if stat.S_ISDIR(s.st_mode) else (s.st_size, s.st_mtime_ns)

    def symlink(self, path, name):
        os.symlink("made", self.at(path, name))
        os.utime(self.at(path, name), (1_700_000_003, 1_700_000_003), follow_symlinks=False)

    def fifo(self, path, name):
        os.mkfifo(self.at(path, name))
        os.utime(self.at(path, name), (1_700_000_004, 1_700_000_004))

    def rename(self, path, name, to, to_name):
        os.rename(self.at(path, name), self.at(to, to_name))

    def exchange(self, path, name, to, to_name):
        return run("/usr/bin/python3", "-c", EXCHANGE, self.at(path, name), self.at(to, to_name)).stdout

    def renamedir(self, path, _, to, __):
        os.rename(self.at(path), self.at(to))

    def link(self, path, name, to, to_name):
        os.link(self.at(path, name), self.at(to, to_name), follow_symlinks=False)


EXCHANGE = """import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
print(libc.renameat2(-100, os.fsencode(sys.argv[1]), -100, os.fsencode(sys.argv[2]), 2) and ctypes.get_errno())"""


def visible(top):
    entries = snapshot(top, without=".ovlfind")
    for e in entries.values():
        if stat.S_ISDIR(e["type"]):
            e["mtime"] = e["content"] = None
    return entries


def steer(daemon, side, kind, path):
    """What happens to one of the two only. Directories that cannot be finalized, or are not there, are no failure."""
    if kind == "remount":
        wait_for(lambda: daemon.kept() == 0, "old trees to go", 30)
        wait_for(lambda: run("umount", side.overlay.point, check=False).returncode == 0, "the overlay to be free", 30)
        side.overlay.mount()
        wait_for(lambda: daemon.overlay_states() == {"soft": "active"}, "the overlay to be active")
        return
    options = ["--data"] if kind == "finalize-data" else []
    result = daemon.ctl(kind.partition("-")[0], side.at(path), *options)
    assert result.code in (0, 1, 4), result


def arena(scene, layer_list):
    tops = [scene.source() for _ in layer_list]
    # A directory of one layer alone is not merged: whiteouts in it show in listings.
    for directory in {os.path.dirname(p) for layer in layer_list for p, kind in layer.items() if kind == "whiteout"}:
        for top in tops:
            os.makedirs(os.path.join(top, directory), exist_ok=True)
    for i, (top, layer) in enumerate(zip(tops, layer_list)):
        build(top, layer, i)
    sides = [Side(scene.overlay(*tops, upper=scene.upper("tmpfs"))) for _ in range(2)]
    return sides, scene.daemon(soft=sides[0].overlay)


@contextlib.contextmanager
def new_scene(world):
    """Each example has a scene of its own."""
    directory = tempfile.mkdtemp(prefix="x", dir=world)
    s = Scene(directory)
    try:
        yield s
    finally:
        s.close()
        shutil.rmtree(directory, ignore_errors=True)


def without_files_on_the_way(layer):
    return {p: k for p, k in layer.items() if not any(q.startswith(p + "/") for q in layer)}


@pytest.mark.first
@settings(max_examples=EXAMPLES, deadline=None, derandomize=SEED == 1, database=None,
          phases=(Phase.explicit, Phase.generate),
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large])
@given(layer_list=layers(), operations=st.lists(operation, min_size=3, max_size=14))
def test_both_answer_alike(world, layer_list, operations):
    with new_scene(world) as scene:
        sides, daemon = arena(scene, [without_files_on_the_way(layer) for layer in layer_list])
        for kind, *args in operations:
            if kind in ("finalize", "unfinalize", "refresh", "finalize-data", "remount"):
                steer(daemon, sides[0], kind, args[0])
                continue
            results = [side.do(kind, *args) for side in sides]
            assert results[0] == results[1], (kind, args)
        assert_same(visible(sides[1].overlay.point), visible(sides[0].overlay.point), ignore=("nlink",))
        steer(daemon, sides[0], "remount", "")
        assert_same(visible(sides[1].overlay.point), visible(sides[0].overlay.point), ignore=("nlink",))
        daemon.stop()
        daemon.start()  # a survey puts in order what an unmount in the middle of a job has left
        problems = daemon.ctl("verify", "soft", "--json=short").json["problems"]
        assert [p for p in problems if p["kind"] not in ("idle-whiteout", "leftover-staging")] == []
