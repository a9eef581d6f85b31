# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readers in a tight loop, and lookups of names that are not there."""

import re
import signal
import subprocess
import uuid
from dataclasses import dataclass, field

from .daemon import wait_for
from .env import binary, end, spawn


@dataclass
class ReaderTotals:
    operations: int = 0
    failures: int = 0
    longest_msec: float = 0.0
    messages: list = field(default_factory=list)


class Readers:
    """Processes that stat, open and read everything below `paths` and compare it with the start, until closed."""

    def __init__(self, *paths, processes=8):
        self.totals = None
        self.process = spawn(binary("hammer"), f"--processes={processes}", *paths, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        line = self.process.stdout.readline()
        if line.strip() != "ready":
            self.process.wait(10)
            raise RuntimeError(f"readers do not start: {line}")

    @staticmethod
    def _take(line, totals):
        if m := re.match(r"operations (\d+) failures (\d+) longest_nsec (\d+)", line):
            totals.operations, totals.failures, totals.longest_msec = int(m[1]), int(m[2]), int(m[3]) / 1e6
        else:
            totals.messages.append(line.strip())
        return totals

    def so_far(self):
        """What they have done until now, without messages."""
        self.process.send_signal(signal.SIGUSR1)
        return self._take(self.process.stdout.readline(), ReaderTotals())

    def go_on(self, operations):
        """Waits until they have done so many more."""
        least = self.so_far().operations + operations
        wait_for(lambda: self.so_far().operations >= least, "the readers")

    def close(self):
        """Ends the readers and returns what they saw. May be called again."""
        if self.totals is None:
            end(self.process, 30)
            self.totals = ReaderTotals()
            for line in self.process.stdout:
                self._take(line, self.totals)
            self.process.stdout.close()
        return self.totals


def absent_names(n):
    """Names nobody has asked for before, so that no cache can answer for them."""
    unique = uuid.uuid4().hex[:12]
    return [f"absent-{unique}-{i}" for i in range(n)]
