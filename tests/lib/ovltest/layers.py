# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mounts by descriptor: lowers that are attached nowhere, with id maps, and overlays made of them."""

import ctypes
import os
import subprocess

_libc = ctypes.CDLL(None, use_errno=True)

_MOUNT_SETATTR, _OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 442, 428, 429, 430, 431, 432
_OPEN_TREE_CLONE = 1
_SET_STRING, _SET_FD, _CREATE = 1, 5, 6
_ATTR_IDMAP = 0x00100000
_MOVE_FROM_EMPTY = 4
_AT_EMPTY_PATH, _AT_FDCWD = 0x1000, -100


def _call(number, *args):
    r = _libc.syscall(number, *args)
    if r < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return r


def detached(path):
    """A descriptor of a mount of path that is attached nowhere."""
    return _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC)


class _MountAttr(ctypes.Structure):
    _fields_ = [("set", ctypes.c_uint64), ("clear", ctypes.c_uint64), ("propagation", ctypes.c_uint64),
                ("userns", ctypes.c_uint64)]


def map_ids(fd, *ranges):
    """Gives a detached mount an id map: (id on the file system, id as seen, count) ..."""
    p = subprocess.Popen(["unshare", "-U", "cat"], stdin=subprocess.PIPE)
    try:
        while os.readlink(f"/proc/{p.pid}/ns/user") == os.readlink("/proc/self/ns/user"):
            pass
        for kind in ("uid", "gid"):
            with open(f"/proc/{p.pid}/{kind}_map", "w", encoding="ascii") as f:
                f.write("".join("{} {} {}\n".format(*r) for r in ranges))
        ns = os.open(f"/proc/{p.pid}/ns/user", os.O_RDONLY)
        attr = _MountAttr(_ATTR_IDMAP, 0, 0, ns)
        _call(_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, ctypes.byref(attr), ctypes.sizeof(attr))
        os.close(ns)
    finally:
        p.stdin.close()
        p.wait()
    return fd


def attach(fd, point):
    """Attaches a detached mount."""
    os.makedirs(point, exist_ok=True)
    _call(_MOVE_MOUNT, fd, b"", _AT_FDCWD, os.fsencode(point), _MOVE_FROM_EMPTY)
    os.close(fd)


def mount_overlay(point, upper, layers=(), data=()):
    """layers and data: descriptors (which are closed), or paths. upper: an Upper. Linux 6.13 takes descriptors."""
    fs = _call(_FSOPEN, b"overlay", 1)
    try:
        for key, values in ((b"lowerdir+", layers), (b"datadir+", data)):
            for v in values:
                if isinstance(v, int):
                    _call(_FSCONFIG, fs, _SET_FD, key, None, v)
                else:
                    _call(_FSCONFIG, fs, _SET_STRING, key, os.fsencode(v), 0)
        for key, value in (("upperdir", upper.upper), ("workdir", upper.work), ("metacopy", "on"), ("redirect_dir", "on"),
                           ("index", "off")):
            _call(_FSCONFIG, fs, _SET_STRING, key.encode(), os.fsencode(value), 0)
        _call(_FSCONFIG, fs, _CREATE, None, None, 0)  # only now the overlay has mounts of its own
        attach(_call(_FSMOUNT, fs, 1, 0), point)
    finally:
        for fd in [fs, *(v for v in (*layers, *data) if isinstance(v, int))]:
            os.close(fd)
