# SPDX-License-Identifier: LGPL-2.1-or-later
"""Releases come, are used, finalized, fixed in place, removed and pruned, ten at a time, while daemon and workers are killed at
random. OVLFIND_RELEASES sets how many."""

import os
import random
import shutil
import time

import pytest

from ovltest.daemon import wait_for
from ovltest.tree import age, write

RELEASES = int(os.environ.get("OVLFIND_RELEASES", "60"))
BATCH = 10
KILL_WITHIN_SECONDS = 0.5
SEED = int(os.environ.get("OVLFIND_SEED", "1"))
FILES = 12


def add(source, n):
    top = os.path.join(source, f"prog/release{n}")
    for i in range(FILES):
        write(os.path.join(top, f"lib/part{i % 3}/file{i}"), b"%d %d\n" % (n, i) * 50)
    os.symlink("part0", os.path.join(top, "lib/current"))
    age(top)


def use(overlay, n, fixed=False):
    for i in range(FILES):
        with open(overlay / f"prog/release{n}/lib/part{i % 3}/file{i}", "rb") as f:
            data, size = f.read(), os.fstat(f.fileno()).st_size
        assert len(data) == size
        assert data == (b"fixed" * 333 if fixed and i == 0 else b"%d %d\n" % (n, i) * 50)


def fix(source, n):
    path = os.path.join(source, f"prog/release{n}/lib/part0/file0")
    write(path + ".new", b"fixed" * 333)
    os.rename(path + ".new", path)


class Life:
    """Of releases, which come and go in batches."""

    def __init__(self, scene, rng):
        self.rng = rng
        self.source = scene.source()
        write(os.path.join(self.source, "prog/README"))
        self.overlay = scene.overlay(self.source)
        self.daemon = scene.daemon(soft=self.overlay)

    def ask(self, verb, of, *options):
        """Until it is done: the daemon may be killed while it is at it."""
        if not of:
            return
        args = (verb, *options, *of)
        for _ in range(20):
            if self.rng.random() < 0.25:
                self.daemon.ctl(*args, "--no-block")
                time.sleep(self.rng.random() * KILL_WITHIN_SECONDS)
                self.daemon.kill()
                self.daemon.start()
            if self.daemon.ctl(*args).code == 0:
                return
        raise AssertionError(self.daemon.ctl(*args))

    def tops(self, batch):
        return [self.overlay / f"prog/release{n}" for n in batch]

    def live(self, batch):
        for n in batch:
            add(self.source, n)
            use(self.overlay, n)
        self.ask("finalize", self.tops(batch))
        for n in batch:
            use(self.overlay, n)
        odd = [n for n in batch if n % 2]
        for n in odd:
            fix(self.source, n)
        self.ask("refresh", self.tops(odd))
        self.ask("finalize", self.tops(n for n in batch if n % 5 == 0), "--data")
        for n in batch:
            use(self.overlay, n, fixed=n % 2)

    def remove(self, batch):
        for n in batch:
            shutil.rmtree(os.path.join(self.source, f"prog/release{n}"))
        if self.rng.random() < 0.3:
            wait_for(lambda: self.daemon.kept() == 0, "old trees to go")
            assert self.daemon.stop() == 0
            self.overlay.remount()
            self.daemon.start()
        self.ask("prune", ["soft"])
        assert [top for top in self.tops(batch) if os.path.lexists(top)] == []


def left(upper):
    return sorted(os.path.relpath(os.path.join(d, n), upper) for d, dirs, files in os.walk(upper) for n in dirs + files)


@pytest.mark.first
@pytest.mark.timeout(120 + RELEASES)
def test_releases(scene):
    life = Life(scene, random.Random(SEED))
    used = life.overlay.upper.used_bytes()
    batches = [range(n, min(n + BATCH, RELEASES)) for n in range(0, RELEASES, BATCH)]
    for i, batch in enumerate(batches):
        life.live(batch)
        if i > 0:
            life.remove(batches[i - 1])
    life.remove(batches[-1])
    wait_for(lambda: life.daemon.kept() == 0, "old trees to go")
    wait_for(lambda: left(life.overlay.upper.upper) == ["prog"], "staging to go")
    assert life.daemon.ctl("verify", "soft", "--json=short").ok().json == {"problems": []}
    assert os.listdir(life.overlay / "prog") == ["README"]
    assert life.overlay.upper.used_bytes() <= used + 64 * 1024
    records = [n for n in os.listdir(os.path.join(life.daemon.state, "records", "soft")) if not n.startswith(".")]
    assert records == []
