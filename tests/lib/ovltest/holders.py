# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that use a directory while something happens to it, and can say afterwards whether they noticed."""

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import socket
import struct
import subprocess
import sys
import time

from .env import end, spawn
from .tree import bind_socket


class OpenFile:
    """Holds a file open and mapped."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "rb")
        self.before = self.file.read()
        self.map = mmap.mmap(self.file.fileno(), 0, prot=mmap.PROT_READ)

    def check(self):
        self.file.seek(0)
        assert self.file.read() == self.before
        assert self.map[:] == self.before

    def close(self):
        self.map.close()
        self.file.close()


class Locks:
    """Holds a flock and a POSIX lock, each on a file of its own, in another process; check() sees that both still exclude
    whoever opens the files by path now."""

    CODE = ("import fcntl,sys,time\n"
            "a=open(sys.argv[1],'rb'); fcntl.flock(a,fcntl.LOCK_EX)\n"
            "b=open(sys.argv[2],'rb'); fcntl.lockf(b,fcntl.LOCK_SH)\n"
            "print('held',flush=True); sys.stdin.read()\n")

    def __init__(self, flock_path, posix_path):
        self.flock_path, self.posix_path = flock_path, posix_path
        self.process = spawn(sys.executable, "-c", self.CODE, flock_path, posix_path, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "held\n"

    def check(self):
        with open(self.flock_path, "rb") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                raise AssertionError("flock does not exclude any more")
        # A write lock needs a descriptor open for writing, which would copy the data up: F_GETLK asks without locking.
        with open(self.posix_path, "rb") as f:
            query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            found = struct.unpack("hhqqi4x", fcntl.fcntl(f, fcntl.F_GETLK, query))
            assert found[0] == fcntl.F_RDLCK and found[4] == self.process.pid, "the POSIX lock is not seen any more"

    def close(self):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()


class Shell:
    """A shell standing in a directory. uid: as that user."""

    def __init__(self, directory, uid=None):
        become = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        self.process = spawn(*become, "bash", "--norc", cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        self.ask("pwd -P")

    def do(self, command):
        """Runs a command that has to succeed; returns its output."""
        status, output = self.ask(command)
        assert status == 0, f"{command}: exit {status}: {output}"
        return output

    def ask(self, command):
        """Runs a command in it; returns (exit status, output)."""
        self.process.stdin.write(f"{command}; printf '\\n=%d\\n' $?\n")
        self.process.stdin.flush()
        lines = []
        while not (line := self.process.stdout.readline()).startswith("="):
            assert line, "the shell is gone"
            lines.append(line)
        return int(line[1:]), "".join(lines)[:-1]

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()


class Listener:
    """A unix socket bound at a path, by this process."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        bind_socket(self.socket, path)
        self.socket.listen(4)
        self.socket.settimeout(5)

    def check(self):
        fd = os.open(os.path.dirname(self.path), os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"/proc/self/fd/{fd}/{os.path.basename(self.path)}")
                server, _ = self.socket.accept()
                server.sendall(b"x")
                assert client.recv(1) == b"x"
                server.close()
        finally:
            os.close(fd)

    def close(self):
        self.socket.close()


class Fifo:
    """A FIFO whose reading end is open."""

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def check(self):
        writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(writer, b"through")
            assert os.read(self.fd, 64) == b"through"
        finally:
            os.close(writer)

    def close(self):
        os.close(self.fd)


class Running:
    """A program of the directory, running. It has to be there already (a copy of sleep)."""

    @staticmethod
    def install(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(shutil.which("sleep"), path)

    def __init__(self, path):
        self.path = path
        self.process = spawn(path, "3600")
        time.sleep(0.05)

    def check(self):
        assert self.process.poll() is None, "the program ended"
        try:
            fd = os.open(self.path, os.O_WRONLY)
        except OSError as e:
            assert e.errno == errno.ETXTBSY, e  # still the same inode
        else:
            os.close(fd)
            raise AssertionError("a running program could be opened for writing")

    def close(self):
        end(self.process)


class Watches:
    """A user's inotify watches: they hold inodes in memory that no descriptor tells of."""

    def __init__(self, *paths):
        self.process = spawn(sys.executable, "-c", WATCH, *paths, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
        assert self.process.stdout.readline() == "watching\n"

    def close(self):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()


WATCH = """import ctypes, os, sys
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
for path in sys.argv[1:]:
    assert libc.inotify_add_watch(fd, os.fsencode(path), 0x2) >= 0  # IN_MODIFY
print("watching", flush=True)
sys.stdin.read()
"""
