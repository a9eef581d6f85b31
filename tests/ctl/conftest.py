# SPDX-License-Identifier: LGPL-2.1-or-later
"""ovlfinctl against a fake daemon on a private bus: no root, no mounts."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "lib"))

from ovltest.bus import PrivateBus  # noqa: E402
from ovltest.env import binary, end, spawn  # noqa: E402

SANITIZER_REPORT = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:")
JOBS = ("quick", "slow", "away", "away-for-long", "hang", "crash", "denied", "pending", "fail-NotManaged", "fail-NoSpace", "fail-AccessDenied",
        "hang/stubborn", "parts/links")


class Result:
    def __init__(self, process):
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr
        assert not any(s in self.err for s in SANITIZER_REPORT), self.err


class Fake:
    """The fake daemon, its bus, and an ovlfinctl that talks to it."""

    def __init__(self, directory):
        self.directory = directory
        self.bus = PrivateBus(str(directory))
        self.point = directory / "ovl"
        for name in JOBS:
            (self.point / name).mkdir(parents=True)
        self.env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=self.bus.address, TERM="xterm", LC_ALL="C.UTF-8", TZ="UTC",
                        OVLFIND_WORKER=str(HERE / "fake_worker.py"))
        for key in ("NO_COLOR", "COLUMNS", "PAGER", "SYSTEMD_PAGER"):
            self.env.pop(key, None)
        self.process = None

    def start(self, *more):
        """With overlays at more mount points."""
        self.process = spawn("/usr/bin/python3", HERE / "fake_ovlfind.py", self.bus.address, self.point, *more,
                             stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def stop(self):
        if self.process:
            end(self.process)
            self.process.stdout.close()
            self.process = None

    def __call__(self, *args, env=None, cwd=None, timeout=20):
        return Result(subprocess.run([binary("ovlfinctl"), *map(str, args)], env={**self.env, **(env or {})}, cwd=cwd,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                     timeout=timeout, check=False))

    def close(self):
        self.stop()
        self.bus.close()


@pytest.fixture
def bus():
    """The bus alone: nobody owns the name."""
    with tempfile.TemporaryDirectory(prefix="ovl", dir="/tmp") as directory:  # short: tables have paths in them
        fake = Fake(Path(directory))
        yield fake
        fake.close()


@pytest.fixture
def ctl(bus):
    bus.start()
    return bus
