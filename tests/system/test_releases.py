# SPDX-License-Identifier: LGPL-2.1-or-later
"""Releases come, are used, finalized, fixed in place, removed and pruned, one after the other, while daemon and workers are
killed at random. OVLFIND_RELEASES sets how many."""

import os
import random
import shutil

import pytest

from ovltest.daemon import wait_for
from ovltest.tree import age, write

RELEASES = int(os.environ.get("OVLFIND_RELEASES", "15"))
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
    def __init__(self, scene, rng):
        self.rng = rng
        self.source = scene.source()
        write(os.path.join(self.source, "prog/README"))
        self.overlay = scene.overlay(self.source)
        self.daemon = scene.daemon(soft=self.overlay)

    def ask(self, *args):
        """Until it is done: the daemon may be killed while it is at it."""
        for _ in range(20):
            if self.rng.random() < 0.25:
                self.daemon.ctl(*args, "--no-block")
                self.daemon.process.kill()
                self.daemon.process.wait()
                self.daemon.start()
            if self.daemon.ctl(*args).code == 0:
                return
        raise AssertionError(self.daemon.ctl(*args))

    def live(self, n):
        top = self.overlay / f"prog/release{n}"
        add(self.source, n)
        use(self.overlay, n)
        self.ask("finalize", top)
        use(self.overlay, n)
        if n % 2:
            fix(self.source, n)
            self.ask("refresh", top)
            use(self.overlay, n, fixed=True)
        if n % 5 == 0:
            self.ask("finalize", top, "--data")
            use(self.overlay, n, fixed=n % 2)

    def bury(self, n):
        shutil.rmtree(os.path.join(self.source, f"prog/release{n}"))
        if n % 3 == 0:
            wait_for(lambda: self.daemon.kept() == 0, "old trees to go")
            assert self.daemon.stop() == 0
            self.overlay.remount()
            self.daemon.start()
        self.ask("prune", "soft")
        assert not os.path.lexists(self.overlay / f"prog/release{n}")


def left(upper):
    return sorted(os.path.relpath(os.path.join(d, n), upper) for d, dirs, files in os.walk(upper) for n in dirs + files)


@pytest.mark.first
def test_releases(scene):
    life = Life(scene, random.Random(SEED))
    used = life.overlay.upper.used_bytes()
    for n in range(RELEASES):
        life.live(n)
        if n >= 2:
            life.bury(n - 2)
    for n in range(max(RELEASES - 2, 0), RELEASES):
        life.bury(n)
    wait_for(lambda: life.daemon.kept() == 0, "old trees to go")
    wait_for(lambda: left(life.overlay.upper.upper) == ["prog"], "staging to go")
    assert life.daemon.ctl("verify", "soft", "--json=short").ok().json == {"problems": []}
    assert os.listdir(life.overlay / "prog") == ["README"]
    assert life.overlay.upper.used_bytes() <= used + 64 * 1024
    records = [n for n in os.listdir(os.path.join(life.daemon.state, "records", "soft")) if not n.startswith(".")]
    assert records == []
