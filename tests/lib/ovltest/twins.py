# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two overlays of the same lower layers that get the same operations. A worker, asked without a daemon, finalizes and so on
directories of the first one; nothing else should tell it from the second."""

import ctypes
import errno
import os
import shutil
import stat
import struct
import time
from dataclasses import dataclass

from .env import binary
from .overlay import OverlayMount
from .snapshot import diff, snapshot, visible
from .wire import ask

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
OLD = 1_600_000_000  # when all was made that no operation made
ADDED = "added-to-the-lower-"  # how names begin that only the lower layers got

_libc = ctypes.CDLL(None, use_errno=True)


def acl(*named):
    """As an xattr: rw- for the owner, r-- for group and others, and what named says of users, in the order of their ids."""
    entries = [(0x01, 6, 0xFFFFFFFF), *((0x02, perm, uid) for uid, perm in named), (0x04, 4, 0xFFFFFFFF),
               (0x10, 7, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


# What an entry of a lower layer has beyond its content.
ATTRIBUTES = {
    "plain": lambda path: None,
    "mode": lambda path: os.path.islink(path) or os.chmod(path, 0o2751),
    "owner": lambda path: os.chown(path, 1234, 5678, follow_symlinks=False),
    "xattr": lambda path: os.setxattr(path, "trusted.note", b"\0of the lower\xff", follow_symlinks=False),
    "acl": lambda path: os.path.islink(path) or os.setxattr(path, "system.posix_acl_access", acl((77, 6), (88, 0))),
    "default-acl": lambda path: stat.S_ISDIR(os.lstat(path).st_mode) and
    os.setxattr(path, "system.posix_acl_default", acl((77, 7))),
}


def build(top, layer, n):
    """A lower layer. layer: path -> (kind, attribute)."""
    first = None
    for path, (kind, _) in layer.items():
        full = os.path.join(top, path)
        os.makedirs(full if kind in ("directory", "opaque") else os.path.dirname(full), exist_ok=True)
        if kind == "opaque":
            os.setxattr(full, "trusted.overlay.opaque", b"y")
        elif kind == "whiteout":
            os.mknod(full, stat.S_IFCHR, 0)
        elif kind == "link":
            os.symlink(f"nowhere/{n}", full)
        elif kind == "fifo":
            os.mkfifo(full)
        elif kind == "hard" and first:
            os.link(first, full)
        elif kind != "directory":
            first = first or full
            with open(full, "w", encoding="utf-8") as f:
                f.write("" if kind == "empty" else f"{n}:{path}" * 9)
    for path, (kind, attribute) in layer.items():
        if kind != "whiteout":
            ATTRIBUTES[attribute](os.path.join(top, path))
    for directory, dirs, files in os.walk(top, topdown=False):
        for name in dirs + files:
            os.utime(os.path.join(directory, name), (OLD + n, OLD + n), follow_symlinks=False)


class Side:
    """An overlay, and what is done through it. An operation returns what a program sees of it."""

    def __init__(self, overlay):
        self.overlay = overlay
        self.held = None

    def at(self, path, name=""):
        return os.path.join(self.overlay.point, path, name) if name else os.path.join(self.overlay.point, path)

    def do(self, kind, *args):
        try:
            return getattr(self, kind)(*args)
        except OSError as e:
            # xfs has a word of its own for a directory that is not empty.
            return "ENOTEMPTY" if kind == "rename" and e.errno == errno.EEXIST else errno.errorcode[e.errno]

    def _open(self, path, name, mode):
        """Never waits for the other end of a FIFO; appending makes no file."""
        unwanted = os.O_CREAT if mode == "ab" else 0
        return open(self.at(path, name), mode, opener=lambda p, flags: os.open(p, flags & ~unwanted | os.O_NONBLOCK, 0o644))

    def write(self, path, name):
        with self._open(path, name, "wb") as f:
            f.write(b"written")
        self._age(path, name, 0)

    def append(self, path, name):
        with self._open(path, name, "ab") as f:
            f.write(b"appended")
        self._age(path, name, 1)

    def truncate(self, path, name):
        os.truncate(self.at(path, name), 3)
        self._age(path, name, 2)

    def _age(self, path, name, n):
        """A time that both sides can have."""
        os.utime(self.at(path, name), (OLD + 1000 + n, OLD + 1000 + n), follow_symlinks=False)

    def unlink(self, path, name):
        os.unlink(self.at(path, name))

    def rmdir(self, path, name):
        os.rmdir(self.at(path, name))

    def rmtree(self, path, name):
        os.listdir(self.at(path, name))  # shutil opens whatever it is, and waits at a FIFO
        shutil.rmtree(self.at(path, name))

    def mkdir(self, path, name):
        os.mkdir(self.at(path, name))

    def chmod(self, path, name):
        os.chmod(self.at(path, name), 0o3640)

    def chown(self, path, name):
        os.chown(self.at(path, name), 5, 6, follow_symlinks=False)

    def utime(self, path, name):
        self._age(path, name, 3)

    def setxattr(self, path, name):
        os.setxattr(self.at(path, name), "trusted.note", b"note", follow_symlinks=False)

    def removexattr(self, path, name):
        os.removexattr(self.at(path, name), "trusted.note", follow_symlinks=False)

    def acl(self, path, name):
        os.setxattr(self.at(path, name), "system.posix_acl_access", acl((77, 5)))

    def read(self, path, name):
        if stat.S_ISLNK(os.lstat(self.at(path, name)).st_mode):
            return os.readlink(self.at(path, name))
        with self._open(path, name, "rb") as f:
            return f.read()

    def list(self, path, name):
        return sorted(n for n in os.listdir(self.at(path, name)) if not n.startswith((".ovlfind", ADDED)))

    def stat(self, path, name):
        s = os.lstat(self.at(path, name))
        return s.st_mode, s.st_uid, s.st_gid, None if stat.S_ISDIR(s.st_mode) else (s.st_size, s.st_mtime_ns)

    def symlink(self, path, name):
        os.symlink("nowhere/made", self.at(path, name))
        self._age(path, name, 4)

    def fifo(self, path, name):
        os.mkfifo(self.at(path, name))
        self._age(path, name, 5)

    def device(self, path, name):
        os.mknod(self.at(path, name), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        self._age(path, name, 6)

    def rename(self, path, name, to, to_name):
        os.rename(self.at(path, name), self.at(to, to_name))

    def _renameat2(self, flags, *names):
        if _libc.renameat2(-100, os.fsencode(self.at(*names[:2])), -100, os.fsencode(self.at(*names[2:])), flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    def exchange(self, *names):
        self._renameat2(RENAME_EXCHANGE, *names)

    def noreplace(self, *names):
        self._renameat2(RENAME_NOREPLACE, *names)

    def link(self, path, name, to, to_name):
        os.link(self.at(path, name), self.at(to, to_name), follow_symlinks=False)

    # A file that stays open while its directory becomes another one.

    def hold(self, path, name):
        self.drop()
        self.held = os.open(self.at(path, name), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        self._age(path, name, 8)  # the kernel brings the data to where the metadata is, and takes that for a change

    def use_held(self, *_):
        if self.held is None:
            return None
        if not stat.S_ISREG(os.fstat(self.held).st_mode):
            return "special"
        data = os.pread(self.held, 100, 0)
        os.pwrite(self.held, b"held", 1)
        os.utime(self.held, (OLD + 1007, OLD + 1007))
        return data, os.fstat(self.held).st_size

    def drop(self, *_):
        if self.held is not None:
            os.close(self.held)
            self.held = None


@dataclass
class Half:
    """Upper and work directory of one of the two, for OverlayMount."""
    upper: str
    work: str


class Twins:
    """directory: on the file system that the uppers are to be on. source: where lower layers are made."""

    def __init__(self, directory, source, layers):
        self.lowers = [os.path.join(source, f"lower{i}") for i in range(len(layers))]
        self.state = os.path.join(source, "state")
        for path in (*self.lowers, self.state):
            os.makedirs(path)
        for i, (top, layer) in enumerate(zip(self.lowers, layers)):
            build(top, layer, i)
        self.has_hard_links = any(kind == "hard" for layer in layers for kind, _ in layer.values())
        self.began_ns = time.time_ns() - 20_000_000  # file systems take times from a clock that is late by a tick
        self.sides = [Side(self._mount(directory, source, name)) for name in ("worked-on", "left-alone")]
        self.n_added = 0
        self.was_killed = False

    def _mount(self, directory, source, name):
        half = Half(*(os.path.join(directory, name, part) for part in ("upper", "work")))
        os.makedirs(half.upper)
        os.makedirs(half.work)
        return OverlayMount(os.path.join(source, name), self.lowers, half)

    def close(self):
        for side in self.sides:
            side.drop()
            side.overlay.umount()

    def _existing(self):
        """Directories and other entries, in an order of their own."""
        top, all_directories, others = self.sides[1].overlay.point, [""], []
        for directory, dirs, files in os.walk(top):
            all_directories += [os.path.relpath(os.path.join(directory, n), top) for n in dirs]
            others += [os.path.relpath(os.path.join(directory, n), top) for n in files if not n.startswith(ADDED)]
        return sorted(all_directories), sorted(others)

    def directory(self, number):
        found = self._existing()[0]
        return found[number % len(found)]

    def _place(self, place):
        """An entry as directory and name. place: the number of one that is there, or such a pair itself."""
        if isinstance(place, tuple):
            return place
        found = [*self._existing()[0][1:], *self._existing()[1]] or ["a"]
        return os.path.split(found[place % len(found)])

    def do(self, kind, *places):
        """The same through both. What one of them does not show of the lower would be in the way of removing its directory."""
        if kind in ("rmdir", "rename", "exchange", "noreplace") and self.hidden():
            return
        names = [name for place in places for name in self._place(place)]
        results = [side.do(kind, *names) for side in self.sides]
        assert results[0] == results[1], (kind, names, results)

    # What happens to one of the two only

    def ask(self, verb, path="", kill=None, **request):
        """The worker's records. kill: after so many changes to a file system it is killed."""
        environment = {} if kill is None else {
            "LD_PRELOAD": binary("killat"), "KILLAT": str(kill),
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        answer, status = ask(binary("ovlfind-worker"), environment, VERB=verb, PATH=path, OVERLAY="twin",
                             MOUNT_POINT=self.sides[0].overlay.point, STATE_DIR=self.state, QUIET_USEC=0, WORKERS=2, **request)
        self.was_killed |= status == -9
        assert status == 0 or (kill is not None and status == -9), (verb, path, status, answer)
        return answer

    def remount(self):
        side = self.sides[0]
        for s in self.sides:  # both, or one would go on with a file that has no name any more
            s.drop()
        side.overlay.umount()
        side.overlay.mount()

    def add(self, path):
        """A new file in the uppermost lower layer that has the directory."""
        for top in self.lowers:
            if os.path.isdir(os.path.join(top, path)):
                self.n_added += 1
                full = os.path.join(top, path, f"{ADDED}{self.n_added}")
                with open(full, "wb") as f:
                    f.write(b"added")
                os.utime(full, (OLD, OLD))
                return

    def fill(self, names):
        """The lower layers get each of the names in every directory that has nothing of that name; both are mounted anew."""
        for side in self.sides:
            side.drop()
            side.overlay.umount()
        for directory, _, _ in os.walk(self.lowers[0]):
            for name in names:
                path = os.path.relpath(os.path.join(directory, name), self.lowers[0])
                if not any(os.path.lexists(os.path.join(top, path)) for top in self.lowers):
                    with open(os.path.join(directory, name), "wb") as f:
                        f.write(b"filled in")
        for side in self.sides:
            side.overlay.mount()

    # What both show

    def _seen(self, side):
        entries = snapshot(side.overlay.point, without=".ovlfind")
        for e in entries.values():
            if stat.S_ISDIR(e["type"]):
                e["content"] = None  # its names are entries themselves
                if e["mtime"] >= self.began_ns:
                    e["mtime"] = "now"
        return entries

    def listings(self):
        """Of the first one: directory -> names in it, and its time."""
        top = self.sides[0].overlay.point
        return {os.path.relpath(d, top): ({n for n in (*dirs, *files) if not n.startswith(".ovlfind")}, os.stat(d).st_mtime_ns)
                for d, dirs, files in os.walk(top)}

    def hidden(self):
        """What was added to the lower and is not shown by the first one."""
        if self.n_added == 0:
            return []
        return [p for p in self._seen(self.sides[1]) if os.path.basename(p).startswith(ADDED)
                and not os.path.lexists(self.sides[0].at(p))]

    def state_of(self, path):
        return next(r["state"] for r in self.ask("inspect", path) if r["kind"] == "directory")

    def compare(self, times=True):
        """Both show the same, but for what was added to the lower below a directory that is finalized. times: of directories.
        Daemons of other tests list the root of each overlay for a moment, and who lists it then gets the same list, without what
        was added since (ovl_cache_get()): that is looked at again."""
        for _ in range(20):
            lines = self._differences(times)
            if not lines or not all(f"{ADDED}" in line and line.endswith(": appeared") for line in lines):
                break
            time.sleep(0.1)
        assert not lines, "\n".join(lines)

    def _differences(self, times):
        worked_on, left_alone = map(self._seen, self.sides)
        if self.was_killed or not times:  # with it went what it knew of the time of a directory in which it was at work
            worked_on, left_alone = visible(worked_on), visible(left_alone)
        for p in [p for p in left_alone if os.path.basename(p).startswith(ADDED)]:
            # A directory in the upper has the time of then, one in the lower that of the addition.
            left_alone[os.path.dirname(p)]["mtime"] = worked_on[os.path.dirname(p)]["mtime"]
            if p not in worked_on:
                assert (state := self.state_of(os.path.dirname(p))) in ("finalized", "stale"), f"{p!r} is not shown, {state}"
                del left_alone[p]
        # A copy is a file of its own (see HardLinks=).
        return diff(left_alone, worked_on, ignore=("nlink",) if self.has_hard_links else ())
