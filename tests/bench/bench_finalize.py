#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares `ovlfinctl finalize` with the procedure by hand (chown -R -h, ls -lR, umount, mount) on the same tree: elapsed
time and operations at the lower, as ratios from one run. Usage: bench_finalize.py [FILES [DELAY_USEC...]]"""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from ovltest.bench import playground, scene_in  # noqa: E402
from ovltest.byhand import finalize_by_hand  # noqa: E402
from ovltest.tree import many  # noqa: E402

D = "software"


def timed(lower, work):
    """(seconds, operations at the lower) of work()."""
    with lower.measure() as counts:
        begin = time.monotonic()
        work()
        seconds = time.monotonic() - begin
    return seconds, counts.total


def fresh(scene, source, delay_usec):
    """A lower and an overlay nobody has looked at yet."""
    lower = scene.lower(source)
    overlay = scene.overlay(lower, upper="ext4-512")
    lower.delay(delay_usec)
    return lower, overlay


def by_hand(scene, source, delay_usec):
    lower, overlay = fresh(scene, source, delay_usec)
    return *timed(lower, lambda: finalize_by_hand(overlay, D)), scene.absent_lookups(lower, overlay / D, 20).enoent


def by_ovlfind(scene, source, delay_usec):
    lower, overlay = fresh(scene, source, 0)
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"QuietSec": "2s"}}))  # as installed
    lower.delay(delay_usec)
    result = timed(lower, lambda: daemon.ctl("finalize", overlay / D, timeout=900).ok())
    return *result, scene.absent_lookups(lower, overlay / D, 20).enoent


def compare(base, n_files, delay_usec):
    results = {}
    for name, procedure in (("by hand", by_hand), ("ovlfind", by_ovlfind)):
        with scene_in(base) as scene:
            source = scene.source()
            many(f"{source}/{D}", n_files)
            results[name] = procedure(scene, source, delay_usec)
    hand, ours = results["by hand"], results["ovlfind"]
    print(f"{n_files} files, {delay_usec / 1000:g} ms per operation of the lower")
    for name, (seconds, operations, reached) in results.items():
        print(f"  {name:<10}{seconds:>9.2f} s{operations:>10,} operations   "
              f"of 20 absent names looked up afterwards {reached} reach the lower")
    print(f"  ratio     {hand[0] / ours[0]:>9.1f} x{hand[1] / ours[1]:>10.2f} x", flush=True)
    return ours[2] == 0


def main():
    n_files = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    delays = [int(a) for a in sys.argv[2:]] or [0, 1000]
    with playground() as base:
        ok = [compare(base, n_files, delay) for delay in delays]
    return 0 if all(ok) else 1


if __name__ == "__main__":
    sys.exit(main())
