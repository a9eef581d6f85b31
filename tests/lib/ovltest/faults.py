# SPDX-License-Identifier: LGPL-2.1-or-later
"""One system call of a worker fails (tests/tools/faultat), or the worker is killed before it: which calls there are, and with
which errors their manuals say that they fail. What says that something is not there is no fault but a lie, and left out."""

import errno
import os
import random

from .env import binary
from .wire import ask

OPEN = ("EMFILE", "ENOMEM", "EIO", "EACCES")
MAKE = ("ENOSPC", "EDQUOT", "EIO", "EROFS")
SET = ("EPERM", "EDQUOT", "EIO", "EROFS")
GET = ("EIO", "ENOMEM", "EACCES")
MOUNT = ("ENOMEM", "EPERM", "EBUSY")
ERRORS = {
    "open": OPEN, "openat": OPEN, "openat2": (*OPEN, "EAGAIN"), "open_by_handle_at": ("EMFILE", "ENOMEM"),
    "name_to_handle_at": ("EOVERFLOW", "EOPNOTSUPP", "EIO"),
    "open_tree": MOUNT, "move_mount": MOUNT, "fsopen": MOUNT, "fsconfig": MOUNT, "fsmount": MOUNT, "fspick": MOUNT,
    "mount": MOUNT, "umount2": MOUNT, "mount_setattr": MOUNT, "unshare": ("ENOMEM", "EPERM", "ENOSPC"), "setns": ("ENOMEM", "EPERM"),
    "mkdir": MAKE, "mkdirat": (*MAKE, "EMLINK"), "mknodat": (*MAKE, "EPERM"), "symlinkat": MAKE, "linkat": (*MAKE, "EMLINK", "EPERM"),
    "rename": MAKE, "renameat": MAKE, "renameat2": (*MAKE, "EBUSY"), "unlink": SET, "unlinkat": (*SET, "EBUSY"), "rmdir": (*SET, "EBUSY"),
    "fsync": ("EIO", "ENOSPC"), "fdatasync": ("EIO", "ENOSPC"), "syncfs": ("EIO", "ENOSPC"),
    "fchown": SET, "fchownat": SET, "fchmod": SET, "fchmodat": SET, "utimensat": SET,
    "setxattr": (*SET, "ENOSPC"), "lsetxattr": (*SET, "ENOSPC"), "fsetxattr": (*SET, "ENOSPC"), "removexattr": SET, "fremovexattr": SET,
    "read": ("EIO", "EINTR"), "pread64": ("EIO", "EINTR"), "write": ("ENOSPC", "EIO", "EINTR"), "copy_file_range": ("ENOSPC", "EIO"),
    "inotify_init1": ("EMFILE", "ENOMEM"), "inotify_add_watch": ("ENOSPC", "ENOMEM"), "fanotify_init": ("EMFILE", "ENOMEM"),
    "fanotify_mark": ("ENOSPC", "ENOMEM"), "clone3": ("EAGAIN",), "flock": ("EINTR", "ENOLCK"), "ioctl": ("ENOTTY", "EIO"),
    "pipe2": ("EMFILE",), "socket": ("EMFILE", "ENOMEM"), "sendto": ("ENOMEM", "EINTR"), "recvfrom": ("ENOMEM", "EINTR"),
}


class Fault:
    """What happened: which call was struck (None: there was none so far), with which error (None: killed)."""

    def __init__(self, at, call, what, error):
        self.at, self.call, self.what, self.error = at, call, what, error

    def __str__(self):
        return f"{self.call}({self.what.strip()}) [{self.at}]: {self.error or 'killed before it'}"


def _read(log):
    with open(log, encoding="utf-8", errors="replace") as f:
        return [(int(n), call, what) for n, call, what in (line.rstrip("\n").split(" ", 2) for line in f)]


def calls(log, **request):
    """Of a run without a fault: number, name, and what it is about, of each. Also the answer."""
    answer, status = ask(binary("ovlfind-worker"), {"FAULT_LOG": log}, [binary("faultat")], **request)
    assert status == 0 and answer[-1]["name"] == "None", answer
    return _read(log)


def strike(log, at, call, error, **request):
    """A run in which that call, or the next of its name, fails, or the worker dies. Returns the Fault, the answer and the exit status."""
    if os.path.exists(log):
        os.unlink(log)
    environment = {"FAULT_LOG": log, "FAULT_AT": str(at), "FAULT_CALL": call, **({"FAULT_ERRNO": str(getattr(errno, error))} if error else {})}
    answer, status = ask(binary("ovlfind-worker"), environment, [binary("faultat")], **request)
    struck = _read(log)
    return Fault(*struck[0], error) if struck else None, answer, status


def starve(log, at, **request):
    """A run in which an allocation fails; the same."""
    if os.path.exists(log):
        os.unlink(log)
    environment = {"LD_PRELOAD": binary("mallocat"), "MALLOC_AT": str(at), "MALLOC_LOG": log}
    answer, status = ask(binary("ovlfind-worker"), environment, **request)
    return Fault(at, "malloc", "", "ENOMEM") if os.path.exists(log) else None, answer, status


def choose(found, most, seed):
    """(number, name, error) of all that can fail, or of at most that many: each kind of call as often as others, however often it is
    made."""
    every = [(n, call, error) for n, call, _ in found for error in (*ERRORS.get(call, GET), None)]
    chance = random.Random(seed)
    chance.shuffle(every)
    if len(every) > most:
        by_call = {}
        for fault in every:
            by_call.setdefault(fault[1], []).append(fault)
        turns = [(i, chance.random(), fault) for faults in by_call.values() for i, fault in enumerate(faults)]
        every = [fault for _, _, fault in sorted(turns)[:most]]
    return every


def explains(fault, message):
    """Whether a message says what failed, and where."""
    return os.strerror(getattr(errno, fault.error)) in message and "/" in message
