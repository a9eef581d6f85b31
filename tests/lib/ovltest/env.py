# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where things are, whether this machine lets the tests run, and how they start programs."""

import ctypes
import errno
import functools
import os
import struct
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("OVLFIND_BUILD", ROOT / "build")).resolve()

# Tests that go through all of many cases take every SWEEPth only.
SWEEP = int(os.environ.get("OVLFIND_SWEEP", "1"))

BINARIES = {
    "ovlfind": "daemon/ovlfind",
    "ovlfind-worker": "daemon/worker/ovlfind-worker",
    "ovlfinctl": "ctl/ovlfinctl",
    "countfs": "tests/tools/countfs",
    "faultat": "tests/tools/faultat",
    "hammer": "tests/tools/hammer",
    "killat": "tests/tools/libkillat.so",
    "mallocat": "tests/tools/libmallocat.so",
    "torture": "tests/tools/torture",
}

CLONE_NEWNS = 0x00020000
MS_REC = 16384
MS_PRIVATE = 1 << 18
SYS_MOVE_MOUNT, SYS_FSOPEN, SYS_FSCONFIG, FSCONFIG_SET_STRING = 429, 430, 431, 1
FSCONFIG_SET_FD = 5
MOVE_MOUNT_BENEATH = 0x200
AT_HANDLE_FID = 0x200

_libc = ctypes.CDLL(None, use_errno=True)


def is_sanitized():
    """Whether the programs under test are built with AddressSanitizer."""
    with open(binary("ovlfind"), "rb") as f:
        return b"__asan_init" in f.read()


def write_killer(path, log):
    """A worker for ovlfinctl that dies after its change number $N to a file system (tests/tools/killat)."""
    with open(path, "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\nASAN_OPTIONS=\"$ASAN_OPTIONS:verify_asan_link_order=0\" "
                f"exec env LD_PRELOAD='{binary('killat')}' KILLAT=$N KILLAT_LOG='{log}' '{binary('ovlfind-worker')}'\n")
    os.chmod(path, 0o755)


def redirect_max():
    """The overlay module's limit, one for the whole machine."""
    with open("/sys/module/overlay/parameters/redirect_max", encoding="ascii") as f:
        return int(f.read())


def binary(name):
    """The path of one of our programs in the build under test."""
    path = BUILD / BINARIES[name]
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: build first (meson compile -C {BUILD})")
    return str(path)


def missing_privilege():
    """Why whole-system tests cannot run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if "overlay" not in Path("/proc/filesystems").read_text():
        run("modprobe", "overlay", check=False)
        if "overlay" not in Path("/proc/filesystems").read_text():
            return "the kernel has no overlayfs"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        return "may not make a mount namespace"
    return None


def can_mount_beneath():
    """Whether the kernel knows MOVE_MOUNT_BENEATH: one that does not refuses the flag before it looks at anything else."""
    _libc.syscall(ctypes.c_long(SYS_MOVE_MOUNT), -1, b"none", -1, b"none", ctypes.c_uint(MOVE_MOUNT_BENEATH))
    return ctypes.get_errno() != errno.EINVAL


def overlay_takes_any_path():
    """Whether layers are given to overlayfs as they are. Before it had the new mount API, a string of all lower layers was taken, of
    255 bytes and without commas."""
    fd = _libc.syscall(ctypes.c_long(SYS_FSOPEN), b"overlay", 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "fsopen")
    _libc.syscall(ctypes.c_long(SYS_FSCONFIG), fd, FSCONFIG_SET_STRING, b"lowerdir", b"/nonexistent,", 0)
    result = ctypes.get_errno() != errno.EINVAL
    os.close(fd)
    return result


def overlay_takes_descriptors():
    """Whether layers are given to overlayfs as descriptors, so that a path of theirs may be longer than the 255 bytes of a string."""
    fd = _libc.syscall(ctypes.c_long(SYS_FSOPEN), b"overlay", 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "fsopen")
    layer = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    result = _libc.syscall(ctypes.c_long(SYS_FSCONFIG), fd, FSCONFIG_SET_FD, b"lowerdir+", None, layer) >= 0
    os.close(layer)
    os.close(fd)
    return result


def handles_need_not_open():
    """Whether the kernel knows file handles that are only to be compared (AT_HANDLE_FID), of which overlayfs has some."""
    ctypes.set_errno(0)
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 136)
    _libc.name_to_handle_at(-100, b"/", handle, ctypes.byref(ctypes.c_int()), AT_HANDLE_FID)
    return ctypes.get_errno() != errno.EINVAL


@functools.lru_cache(maxsize=None)
def tmpfs_keeps_user_xattrs():
    """Whether files in a tmpfs may have user.* xattrs. To be asked where mounts are private."""
    point = tempfile.mkdtemp(prefix="ovltest-")
    run("mount", "-t", "tmpfs", "probe", point)
    try:
        os.setxattr(point, "user.probe", b"")
    except OSError as e:
        if e.errno != errno.EOPNOTSUPP:
            raise
        return False
    finally:
        run("umount", point)
        os.rmdir(point)
    return True


def _syscall(name, *args):
    if getattr(_libc, name)(*args) != 0:
        err = ctypes.get_errno()
        raise OSError(err, f"{name}: {os.strerror(err)}")


def enter_namespace():
    """Moves this process into a mount namespace of its own: what it mounts dies with its last process, whatever happens."""
    _syscall("unshare", CLONE_NEWNS)
    mount("none", "/", None, MS_REC | MS_PRIVATE, None)


def mount(source, target, fstype, flags, options):
    """mount(2) itself: mount(8) has quoting rules of its own."""
    encoded = [None if a is None else os.fsencode(a) for a in (source, target, fstype, options)]
    _syscall("mount", *encoded[:3], ctypes.c_ulong(flags), encoded[3])


def umount(target):
    """umount(2) itself, for those who do it often."""
    _syscall("umount2", os.fsencode(target), 0)


def run(*args, check=True, timeout=200, **kwargs):
    """Runs a program to its end and returns it with its output; a failure shows what it said."""
    p = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                       text=True, timeout=timeout, check=False, **kwargs)
    if check and p.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, args))}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p


def spawn(*args, **kwargs):
    """Starts a program that does not outlive this process, even when that is killed."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, args)], **kwargs)


def end(process, timeout=60):
    """Ends a process that was started here, politely first. Returns its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout)
    return process.returncode


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def beside_others(func, *args):
    """Daemons of other tests look at every overlay of the machine, each for a moment: what says EBUSY for that is tried again.
    Whether umount succeeds at the first try where only its own daemon looks is told by test_umount."""
    for pause in (0.01, 0.1, 0.5):
        try:
            return func(*args)
        except OSError as e:
            if e.errno != errno.EBUSY:
                raise
        time.sleep(pause)
    return func(*args)
