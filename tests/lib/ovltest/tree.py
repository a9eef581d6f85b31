# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds source trees that look like program releases, with every kind of entry a lower layer may hold."""

import os
import shutil
import socket
import stat
import struct

from .env import run

EPOCH_NS = 1_600_000_000_123_456_789  # long ago, and not a whole second: a lost or rounded mtime shows

ODD_NAMES = ("with space", "with\nnewline", "colon:comma,", "back\\slash", 'quo"te\'s', "ümlaut-é", "-dash", "x" * 255)

# VFS_CAP_REVISION_2, cap_net_bind_service permitted and effective
CAP_NET_BIND = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def write(path, content=None, mode=0o644):
    """A file with content that is its own; parents are made."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data = content if content is not None else f"content of {path}\n".encode(errors="surrogateescape") * 7
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    return path


def age(top):
    """Gives everything below top an mtime of its own, deepest first."""
    n = 0
    for directory, dirs, files in os.walk(top, topdown=False):
        for name in sorted((*dirs, *files)):
            n += 1
            ns = EPOCH_NS + n * 1_000_003
            os.utime(os.path.join(directory, name), ns=(ns, ns), follow_symlinks=False)
    os.utime(top, ns=(EPOCH_NS, EPOCH_NS))


PROG = "software/prog"


def release(top, version="1.0", libraries=12, modules=12):
    """A program release: bin, lib with sonames, a Python package, data. Returns the directories on its search paths."""
    lib, bin_ = os.path.join(top, "lib"), os.path.join(top, "bin")
    package = os.path.join(lib, "python3", "site-packages", "prog")
    os.makedirs(bin_)
    shutil.copy("/bin/true", os.path.join(bin_, "prog"))
    write(os.path.join(bin_, "prog-wrapper"), b"#!/bin/sh\nexec prog \"$@\"\n", 0o755)
    for i in range(libraries):
        so = os.path.join(lib, f"libpart{i}.so.{version}")
        write(so, mode=0o755)
        for link in (f"libpart{i}.so.1", f"libpart{i}.so"):
            os.symlink(os.path.basename(so), os.path.join(lib, link))
    write(os.path.join(package, "__init__.py"), b"")
    for i in range(modules):
        write(os.path.join(package, f"mod{i}.py"))
    write(os.path.join(package, "data", "table.bin"), os.urandom(70_000))
    write(os.path.join(top, "share", "doc", "README"))
    age(top)
    return [lib, os.path.dirname(package), package, os.path.join(package, "data"), bin_]


def odd_entries(top):
    """One entry of each kind that something may go wrong with. No hard links: they have a policy of their own."""
    os.makedirs(top, exist_ok=True)
    write(os.path.join(top, "suid"), mode=0o4755)
    write(os.path.join(top, "sgid"), mode=0o2755)
    write(os.path.join(top, "empty"), b"")
    write(os.path.join(top, "mode-000"), mode=0)
    os.setxattr(write(os.path.join(top, "caps"), mode=0o755), "security.capability", CAP_NET_BIND)
    os.setxattr(write(os.path.join(top, "user-xattr")), "user.note", b"\0kept\xff")
    os.setxattr(write(os.path.join(top, "trusted-xattr")), "trusted.note", b"kept too")
    run("setfacl", "-m", "u:12345:rw,g:54321:r", write(os.path.join(top, "acl")))
    acl_dir = os.path.join(top, "acl-dir")
    write(os.path.join(acl_dir, "inside"))
    run("setfacl", "-m", "u:12345:rwx,d:u:12345:rx,d:g:54321:-", acl_dir)
    os.setxattr(acl_dir, "user.note", b"directory")
    os.chown(write(os.path.join(top, "owned")), 12345, 54321)
    os.symlink("nowhere/at/all", os.path.join(top, "dangling"))
    os.symlink("suid", os.path.join(top, "link"))
    os.lchown(os.path.join(top, "link"), 12345, 54321)
    os.mkfifo(os.path.join(top, "fifo"), 0o620)
    with socket.socket(socket.AF_UNIX) as s:
        bind_socket(s, os.path.join(top, "socket"))
    os.mknod(os.path.join(top, "null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkdir(os.path.join(top, "empty-dir"), 0o1777)
    for name in ODD_NAMES:
        write(os.path.join(top, "odd", name))
    age(top)


def bind_socket(s, path):
    """A socket's name may be longer than an address holds: bind through the directory's descriptor."""
    fd = os.open(os.path.dirname(path), os.O_PATH)
    try:
        s.bind(f"/proc/self/fd/{fd}/{os.path.basename(path)}")
    finally:
        os.close(fd)


def hard_links(top):
    """Two names of one file."""
    os.link(write(os.path.join(top, "hard-a")), os.path.join(top, "hard-b"))


def many(top, n, per_directory=100):
    """n regular files spread over directories. Returns the directories."""
    directories = []
    for i in range(0, n, per_directory):
        d = os.path.join(top, f"dir{i // per_directory:04}")
        os.makedirs(d)
        directories.append(d)
        for j in range(i, min(i + per_directory, n)):
            with open(os.path.join(d, f"file{j:06}"), "wb") as f:
                f.write(b"%d\n" % j)
    age(top)
    return directories


def small_tree(top):
    """Three files, a directory with three more, and one below that."""
    for i in range(1, 4):
        write(os.path.join(top, f"f{i}"))
        write(os.path.join(top, "sub", f"g{i}"))
    write(os.path.join(top, "sub", "below", "h"))
