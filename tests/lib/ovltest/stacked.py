# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other overlays that have directories of the one under test for layers."""

import ctypes
import os
import platform
import subprocess
import sys

from .env import end, mount, spawn
from .overlay import OverlayMount

_libc = ctypes.CDLL(None, use_errno=True)
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 428, 429, 430, 431, 432
SET_STRING, SET_FD, CREATE = 1, 5, 6
AT_EMPTY_PATH, OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, AT_FDCWD = 0x1000, 1, 4, -100


def _call(number, *args):
    r = _libc.syscall(ctypes.c_long(number), *[ctypes.c_char_p(os.fsencode(a)) if isinstance(a, (str, os.PathLike)) else
                                               ctypes.c_long(a) if a is not None else None for a in args])
    if r < 0:
        err = ctypes.get_errno()
        raise OSError(err, f"system call {number} {args}: {os.strerror(err)}")
    return r


def kernel():
    return tuple(int(n) for n in platform.release().split("-")[0].split(".")[:2])


def detached(path):
    """A descriptor of a mount of path that is attached nowhere."""
    return _call(OPEN_TREE, AT_FDCWD, path, OPEN_TREE_CLONE | os.O_CLOEXEC)


def mount_with(point, *options):
    """A new overlay at point, option by option: ("lowerdir+", "/path") or ("lowerdir+", DESCRIPTOR)."""
    fs = _call(FSOPEN, "overlay", 1)
    try:
        _call(FSCONFIG, fs, SET_STRING, "source", "stacked", 0)
        for key, value in options:
            if isinstance(value, int):
                _call(FSCONFIG, fs, SET_FD, key, None, value)
            else:
                _call(FSCONFIG, fs, SET_STRING, key, value, 0)
        _call(FSCONFIG, fs, CREATE, None, None, 0)
        mounted = _call(FSMOUNT, fs, 1, 0)
        try:
            _call(MOVE_MOUNT, mounted, "", AT_FDCWD, point, MOVE_MOUNT_F_EMPTY_PATH)
        finally:
            os.close(mounted)
    finally:
        os.close(fs)


class Stacked:
    """One that is mounted in this namespace. options: as for mount -o, or a function that mounts it at the path it is
    given; cwd: where whoever mounts it stands."""

    def __init__(self, point, options, cwd="/"):
        self.point = str(point)
        self._before = os.getcwd()
        os.chdir(cwd)
        try:
            if callable(options):
                options(self.point)
            else:
                mount("stacked", self.point, "overlay", 0, options)
        finally:
            os.chdir(self._before)

    def seen(self):
        """Every path below it, and the content of files, looked at from the outside."""
        return seen(self.point)

    def close(self):
        if os.path.ismount(self.point):
            OverlayMount.umount(self)


class Elsewhere:
    """One that is mounted in a mount namespace of its own, by a process that stays there; before: commands run there first."""

    CODE = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from ovltest.stacked import seen
for command in sys.argv[3:]:
    subprocess.run(["sh", "-ec", command], check=True)
print("ready", flush=True)
for _ in sys.stdin:
    print(repr(seen(sys.argv[2])), flush=True)
"""

    def __init__(self, point, *commands):
        self.point = str(point)
        lib = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.process = spawn("unshare", "-m", "--propagation", "private", sys.executable, "-c", self.CODE, lib, self.point,
                             *commands, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def seen(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return eval(self.process.stdout.readline())  # pylint: disable=eval-used

    def close(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
            end(self.process)
            self.process.stdout.close()


def seen(top):
    found = {}
    for directory, dirs, files in os.walk(top):
        for name in dirs:
            found[os.path.relpath(os.path.join(directory, name), top)] = None
        for name in files:
            path = os.path.join(directory, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, top)] = f.read()
    return found
