# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that stands in a directory and works by relative names, as a shell or a build tool does (occupants.py drives it).
It takes a line of JSON at a time, and answers each with a list of what went wrong."""

import json
import os
import select
import shutil
import stat
import time


class Occupant:
    def __init__(self):
        self.fd = None  # else the working directory
        self.read = b""

    def stand(self, path, how):
        if how == "cwd":
            os.chdir(path)
        else:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def leave(self):
        os.chdir("/")
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _open(self, path, flags):
        return os.open(path, flags, 0o644, dir_fd=self.fd)

    def _put(self, path, content, flags):
        fd = self._open(path, os.O_WRONLY | flags)
        os.write(fd, content.encode())
        os.close(fd)

    def write(self, path, content):
        self._put(path, content, os.O_CREAT | os.O_TRUNC)

    def create(self, path, content):
        self._put(path, content, os.O_CREAT | os.O_EXCL)

    def append(self, path, content):
        self._put(path, content, os.O_APPEND)

    def rename(self, old, new):
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def link(self, old, new):
        os.link(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def symlink(self, target, path):
        os.symlink(target, path, dir_fd=self.fd)

    def mkdir(self, path):
        os.mkdir(path, dir_fd=self.fd)

    def unlink(self, path):
        os.unlink(path, dir_fd=self.fd)

    def remove(self, path):
        """rm -rf"""
        if stat.S_ISDIR(os.stat(path, dir_fd=self.fd, follow_symlinks=False).st_mode):
            shutil.rmtree(path, dir_fd=self.fd)
        else:
            self.unlink(path)

    def create_many(self, directory, stem, n, content):
        for i in range(n):
            self.create(f"{directory}/{stem}{i}", content)

    @staticmethod
    def pause(msec):
        time.sleep(msec / 1000)

    # What it sees: a file is its content, a symlink [target], a directory a dict.

    def _see(self, fd, name):
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            return [os.readlink(name, dir_fd=fd)]
        if stat.S_ISDIR(mode):
            return self._list(os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd))
        with open(os.open(name, os.O_RDONLY, dir_fd=fd), encoding="utf-8") as f:
            return f.read()

    def _list(self, fd, prefix=""):
        try:
            return {n: self._see(fd, n) for n in os.listdir(fd) if n.startswith(prefix)}
        finally:
            os.close(fd)

    def see(self, path, prefix):
        return self._list(self._open(path, os.O_RDONLY | os.O_DIRECTORY), prefix)

    def expect(self, path, prefix, expected):
        seen = self.see(path, prefix)
        if seen != expected:
            raise ValueError(first_difference(path, seen, expected))

    def keep_expecting(self, *what):
        """Until it is asked for more."""
        while not self.read and not select.select([0], [], [], 0.005)[0]:
            self.expect(*what)

    def line(self):
        """What it is asked for next, or nothing at the end."""
        while b"\n" not in self.read:
            part = os.read(0, 1 << 20)
            if not part:
                return b""
            self.read += part
        line, _, self.read = self.read.partition(b"\n")
        return line


def first_difference(path, seen, expected):
    while isinstance(seen, dict) and isinstance(expected, dict):
        name = min(n for n in seen.keys() | expected.keys() if seen.get(n) != expected.get(n))
        path, seen, expected = f"{path}/{name}", seen.get(name), expected.get(name)
    return f"{path} is {seen}, not {expected}"


def main():
    occupant = Occupant()
    os.chdir("/")
    for line in iter(occupant.line, b""):
        wrong = []
        for number, (kind, *args) in enumerate(json.loads(line)):
            try:
                getattr(occupant, kind)(*args)
            except (OSError, ValueError) as e:
                wrong.append(f"operation {number}, {kind} {args if len(str(args)) < 200 else ''}: {e}")
        print(json.dumps(wrong), flush=True)


if __name__ == "__main__":
    main()
