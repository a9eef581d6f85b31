# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drives tests/tools/torture: workers that change directories at random against a model."""

import os
import re
import subprocess
from dataclasses import dataclass, field

from .env import binary, end, spawn
from .tree import age, write


@dataclass
class TortureTotals:
    operations: int = 0
    wrong: int = 0
    wrong_fd: int = 0
    lost: int = 0
    notes: list = field(default_factory=list)


def torture_source(top, directories, workers, per_worker=6):
    """Names for every worker in every directory, so that there is something in the lower to be changed."""
    n = 0
    for directory in directories:
        for worker in range(workers):
            for i in range(per_worker):
                n += 1
                name = os.path.join(top, directory, f"w{worker}-lower{i}")
                write(os.path.join(name, "inside") if i == 0 else name, b"content %d\n" % n)
    age(top)


class Torture:
    def __init__(self, directories, seed=1, workers=4, descriptor_workers=1, pause_usec=0, hold=None, watch=0):
        self.process = spawn(binary("torture"), f"--seed={seed}", f"--workers={workers}",
                             f"--descriptor-workers={descriptor_workers}", f"--pause={pause_usec}",
                             f"--watch={watch}", *([] if hold is None else [f"--hold={hold}"]), *directories,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("torture does not start")

    def command(self, word):
        """stop, verify: returns the totals when all workers have done it."""
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        totals = TortureTotals()
        for line in self.process.stdout:
            if m := re.match(r"operations (\d+) wrong (\d+) wrong_fd (\d+) lost (\d+)", line):
                totals.operations, totals.wrong, totals.wrong_fd, totals.lost = map(int, m.groups())
                return totals
            totals.notes.append(line.strip())
        raise RuntimeError("torture is gone")

    def close(self):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()
