# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk that loses power. What a file system writes goes through dm-log-writes, which notes each write and flush in the order
in which they reached the disk. From that, what was on the disk at any moment can be made again: all that was flushed before,
and of what stood in the disk's cache at that moment, any part."""

import fcntl
import os
import struct
import zlib
from dataclasses import dataclass

from .env import run

SUPER, ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")
MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
DM_IOCTL = struct.Struct("=3IIIIiIIIQ128s129s7s")
DM_TARGET_MSG = 3 << 30 | DM_IOCTL.size << 16 | 0xFD << 8 | 0x0E


@dataclass
class Entry:
    flags: int
    offset: int  # on the disk
    size: int
    at: int  # where in the log its data is
    text: str = ""  # of a mark


class LoggedDisk:
    """image: what is on the disk at first; it stays as it is. log: a file to be made."""

    def __init__(self, image, log, name="ovlfind-cut", log_mib=2048):
        self.name, self.log, self.copy = name, log, image + ".logged"
        run("cp", "--sparse=always", image, self.copy)
        with open(log, "wb") as f:
            f.truncate(log_mib << 20)
        run("modprobe", "dm-log-writes")
        self.loops = [run("losetup", "--find", "--show", path).stdout.strip() for path in (self.copy, log)]
        self.device = f"/dev/mapper/{name}"
        table = f"0 {os.path.getsize(image) // 512} log-writes {' '.join(self.loops)}"
        run("dmsetup", "create", name, "--table", table)  # returns when udev has made the device's name
        self._control = os.open("/dev/mapper/control", os.O_RDWR | os.O_CLOEXEC)

    def mark(self, text):
        """Notes in the log, in one word, that what was synced before is there by now."""
        message = struct.pack("=Q", 0) + f"mark {text}\0".encode()
        size = DM_IOCTL.size + len(message)
        request = DM_IOCTL.pack(4, 0, 0, size, DM_IOCTL.size, 0, 0, 0, 0, 0, 0, self.name.encode(), b"", b"")
        fcntl.ioctl(self._control, DM_TARGET_MSG, bytearray(request + message))

    def close(self):
        """The log is complete afterwards."""
        if not self.loops:
            return
        os.close(self._control)
        run("dmsetup", "remove", "--retry", self.name)
        for loop in self.loops:
            run("losetup", "--detach", loop)
        self.loops = []
        os.unlink(self.copy)


def read_log(path):
    """The entries of a log, in their order."""
    entries = []
    with open(path, "rb") as f:
        magic, _, n, sector_size = SUPER.unpack(f.read(SUPER.size))
        if magic != MAGIC:
            raise ValueError(f"{path} is no log of dm-log-writes")
        position = sector_size
        for _ in range(n):
            f.seek(position)
            sector, n_sectors, flags, data_len = ENTRY.unpack(f.read(ENTRY.size))
            text = f.read(data_len).decode().rstrip("\0") if flags & MARK else ""
            entries.append(Entry(flags, sector * sector_size, n_sectors * sector_size, position + sector_size, text))
            position += sector_size + (0 if flags & DISCARD else n_sectors * sector_size)
    return entries


class Cuts:
    """Makes what was on the disk at moments (numbers of entries) one after the other, earliest first."""

    def __init__(self, image, log, directory):
        self.entries = read_log(log)
        self.log, self.directory = log, directory
        self.flushed = os.path.join(directory, "flushed.img")
        self._n_flushed = 0
        run("cp", "--sparse=always", image, self.flushed)

    def marks(self, moment):
        """Of those before it."""
        return [e.text for e in self.entries[:moment] if e.flags & MARK]

    def make(self, moment, rng):
        """Returns (image, how many writes it lacks that the disk had in its cache)."""
        flushes = (i for i in range(moment - 1, self._n_flushed - 1, -1) if self.entries[i].flags & FLUSH)
        n_flushed = next(flushes, self._n_flushed - 1) + 1
        self._apply(self.flushed, self.entries[self._n_flushed:n_flushed])
        self._n_flushed = n_flushed
        image = os.path.join(self.directory, "cut.img")
        run("cp", "--sparse=always", self.flushed, image)
        cached = [e for e in self.entries[n_flushed:moment] if not e.flags & MARK]
        share = rng.choice((0, 0.5, 0.5, 1))
        kept = [e for e in cached if e.flags & FUA or rng.random() < share]
        self._apply(image, kept)
        return image, len(cached) - len(kept)

    def _apply(self, image, entries):
        with open(self.log, "rb") as log, open(image, "r+b") as f:
            for e in entries:
                if e.flags & MARK or not e.size:
                    continue
                log.seek(e.at)
                f.seek(e.offset)
                f.write(bytes(e.size) if e.flags & DISCARD else log.read(e.size))


def seed_of(*words):
    """The same for the same words, in every process."""
    return zlib.crc32(" ".join(map(str, words)).encode())
