# SPDX-License-Identifier: LGPL-2.1-or-later
"""File systems for upper layers: images on loop devices, or tmpfs."""

import contextlib
import os

from .env import run, tmpfs_keeps_user_xattrs

UPPERS = ("ext4-256", "ext4-512", "xfs", "btrfs", "tmpfs")

_MKFS = {
    "ext4-128": ("mkfs.ext4", "-q", "-F", "-m", "0", "-I", "128"),  # keeps times in seconds
    "ext4-256": ("mkfs.ext4", "-q", "-F", "-m", "0", "-I", "256"),
    "ext4-512": ("mkfs.ext4", "-q", "-F", "-m", "0", "-I", "512"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}


def default_kind():
    """What is there at once and keeps everything that tests put on files."""
    return "tmpfs" if tmpfs_keeps_user_xattrs() else "ext4-256"


def make_image(path, kind, size_mib):
    """A new file system in a sparse file."""
    with open(path, "wb") as f:
        f.truncate(size_mib << 20)
    run(*_MKFS[kind], path)


class Upper:
    """A mounted file system with an upper and a work directory in it. The loop device goes with the mount (autoclear).
    kind: one of UPPERS; without one, the default."""

    def __init__(self, directory, kind=None, size_mib=320):
        self.kind = kind = kind or default_kind()
        self.point = os.path.join(directory, "upperfs")
        self.image = os.path.join(directory, "upper.img")
        os.mkdir(self.point)
        if kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=755", "upper", self.point)
        else:
            make_image(self.image, kind, size_mib)
            run("mount", "-o", "loop", self.image, self.point)
        self.upper = os.path.join(self.point, "upper")
        self.work = os.path.join(self.point, "work")
        os.mkdir(self.upper)
        os.mkdir(self.work)

    def used_bytes(self):
        s = os.statvfs(self.point)
        return (s.f_blocks - s.f_bfree) * s.f_frsize

    def used_inodes(self):
        s = os.statvfs(self.point)
        return s.f_files - s.f_ffree

    def free_bytes(self):
        s = os.statvfs(self.point)
        return s.f_bavail * s.f_frsize

    def fill(self, leave_bytes=0):
        """Takes the free space but leave_bytes with a directory beside the upper directory; returns its path."""
        path = os.path.join(self.point, "filler")
        os.mkdir(path)
        with open(os.path.join(path, "data"), "wb") as f:
            block = bytes(64 * 1024)
            try:
                while self.free_bytes() > leave_bytes:
                    f.write(block)
                    f.flush()
            except OSError:
                pass
        # ext4 keeps some blocks back that only metadata may have, which is all that a metadata copy-up needs.
        with contextlib.suppress(OSError):
            for i in range(20_000 if leave_bytes == 0 else 0):
                os.mkdir(os.path.join(path, f"directory-{i}"))
        return path

    def close(self):
        if run("umount", self.point, check=False).returncode != 0:
            run("umount", "-l", self.point, check=False)
        if os.path.exists(self.image):
            os.unlink(self.image)
