# SPDX-License-Identifier: LGPL-2.1-or-later
"""The counting lower: starts countfs and talks to it."""

import contextlib
import os
import socket
import time

from .env import binary, end, run, spawn


class Counts(dict):
    """Operations by kind; counts.enoent and the like for reading convenience."""

    __getattr__ = dict.__getitem__

    def __sub__(self, other):
        return Counts({k: v - other[k] for k, v in self.items()})


class CountingLower:
    """Shows `source` read-only at `point` and counts every operation that reaches it. handles: as on NFS, to open a file
    handle asks for it (a lookup) if the file is not in memory; without, that fails."""

    def __init__(self, source, point, control, timeout=3600, handles=False):
        self.source, self.point, self.control = str(source), str(point), str(control)
        os.makedirs(self.point, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.control)
        options = [f"--timeout={timeout}", *(["--handles"] if handles else [])]
        self.process = spawn(binary("countfs"), *options, self.source, self.point, self.control)
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + 100
        while True:
            try:
                self.command("counts")
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("countfs does not come up") from None
                time.sleep(0.01)

    def command(self, line):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(100)
            s.connect(self.control)
            s.sendall(line.encode() + b"\n")
            answer = b""
            while part := s.recv(65536):
                answer += part
        text = answer.decode(errors="surrogateescape")
        if text.startswith("error"):
            raise ValueError(text.strip())
        return text

    @staticmethod
    def _numbers(text):
        return Counts({k: int(v) for k, v in (line.split() for line in text.splitlines())})

    def counts(self):
        """Since the last reset."""
        return self._numbers(self.command("counts"))

    def under(self, path):
        """lookup and enoent of the directory `path` (relative to the source) and everything below it."""
        return self._numbers(self.command(f"under {path}"))

    def reset(self):
        self.command("reset")

    @contextlib.contextmanager
    def measure(self):
        """Yields Counts that are filled in at the end of the block with what reached the lower during it."""
        before, result = self.counts(), Counts()
        yield result
        result.update(self.counts() - before)

    def delay(self, usec):
        self.command(f"delay {usec}")

    def timeout(self, seconds):
        self.command(f"timeout {seconds}")

    def hang(self, path=""):
        self.command(f"hang on {path}".strip())

    def is_held(self):
        """After hang(), with no path: whether a request waits, which it does until recover()."""
        return self.counts().waiting > 0

    def fail(self, name="EIO", path=""):
        self.command(f"fail {name} {path}".strip())

    def recover(self):
        """Ends hang and fail."""
        self.command("hang off")

    def trace(self, on):
        self.command(f"trace {'on' if on else 'off'}")

    def traced(self):
        return self.command("trace").splitlines()

    def invalidate(self):
        """Makes the kernel drop what it has cached of the lower."""
        return int(self.command("invalidate").split()[1])

    def close(self):
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.command("hang off")
        end(self.process, 5)
        run("umount", "-l", self.point, check=False)
