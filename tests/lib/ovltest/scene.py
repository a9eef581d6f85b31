# SPDX-License-Identifier: LGPL-2.1-or-later
"""One test's world: a directory, and everything started or mounted in it, taken down in reverse order."""

import os
from contextlib import ExitStack

from .bus import PrivateBus
from .daemon import Daemon
from .lower import CountingLower
from .overlay import OverlayMount
from .readers import Readers, absent_names
from .uppers import Upper


class Scene:
    def __init__(self, directory):
        self.dir = str(directory)
        self._stack = ExitStack()
        self._n = 0
        self.daemons = []
        self._bus = None

    def subdir(self, name):
        """A new directory for a part of the scene."""
        self._n += 1
        path = os.path.join(self.dir, f"{name}{self._n}")
        os.mkdir(path)
        return path

    def keep(self, thing):
        """Registers something with a close() for the end."""
        self._stack.callback(thing.close)
        return thing

    def source(self):
        """An empty source directory for a lower."""
        return self.subdir("source")

    def lower(self, source, **kwargs):
        d = self.subdir("lower")
        return self.keep(CountingLower(source, os.path.join(d, "fs"), os.path.join(d, "ctl"), **kwargs))

    def upper(self, kind=None, **kwargs):
        return self.keep(Upper(self.subdir("up"), kind, **kwargs))

    def overlay(self, *lowers, upper="", **options):
        """Mounts an overlay on lowers (CountingLower or paths, uppermost first). upper: an Upper, a kind of one ("": the
        default), or None for a read-only overlay."""
        if isinstance(upper, str):
            upper = self.upper(upper)
        paths = [getattr(lower, "point", lower) for lower in lowers]
        return self.keep(OverlayMount(self.subdir("ovl"), paths, upper, **options))

    @property
    def bus(self):
        if self._bus is None:
            self._bus = self.keep(PrivateBus(self.subdir("bus")))
        return self._bus

    def daemon(self, start=True, conf=None, killer=False, **overlays):
        """A daemon that manages overlays: NAME=OverlayMount or NAME=(OverlayMount, sections). killer: see
        Daemon.use_killer()."""
        d = self.keep(Daemon(self.subdir("d"), self.bus))
        self.daemons.append(d)
        if conf:
            d.configure(conf)
        if killer:
            d.use_killer()
        for name, overlay in overlays.items():
            overlay, sections = overlay if isinstance(overlay, tuple) else (overlay, {})
            d.add_overlay(name, overlay.point, **sections)
        return d.start() if start else d

    def readers(self, *paths, **kwargs):
        return self.keep(Readers(*paths, **kwargs))

    @staticmethod
    def absent_lookups(lower, directories, n=50):
        """Looks up n names that are in none of the directories, in each of them; returns the Counts of what reached the
        lower."""
        with lower.measure() as counts:
            for directory in [directories] if isinstance(directories, str) else directories:
                for name in absent_names(n):
                    try:
                        os.lstat(os.path.join(directory, name))
                    except FileNotFoundError:
                        continue
                    raise AssertionError(f"{directory}/{name} exists")
        return counts

    def close(self):
        self._stack.close()
