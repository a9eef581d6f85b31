#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part of tests/demo that runs: see there."""

import os
import shutil
import sys
import tempfile
import time

from ovltest import Scene, enter_namespace, missing_privilege, run
from ovltest.replay import ProgramStart

DELAY_USEC = 500  # a lower layer in the same data centre


def measure(start, overlay, lower):
    """Starts the program once; returns (lower lookups, ENOENTs at the lower, seconds)."""
    with lower.measure() as counts:
        begin = time.monotonic()
        start.run(overlay.point)
        seconds = time.monotonic() - begin
    return counts.lookup, counts.enoent, seconds


def forget(overlay, lower):
    """As after a reboot: nothing is cached of either."""
    overlay.umount()
    lower.invalidate()
    overlay.mount()


def say(*lines):
    print(*lines, sep="\n", flush=True)


def finalize(daemon, overlay, lower):
    say("", "$ ovlfinctl finalize prog")
    with lower.measure() as cost:
        begin = time.monotonic()
        result = daemon.ctl("finalize", "prog", cwd=overlay.point).ok()
        seconds = time.monotonic() - begin
    say((result.err + result.out).rstrip(), f"({seconds:.1f} s and {cost.total:,} requests to the lower, once)", "")


def demonstrate(scene):
    source = scene.source()
    start = ProgramStart(source)
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    lower.delay(DELAY_USEC)
    say(f"An overlay on a lower layer that takes {DELAY_USEC / 1000} ms for every request.",
        "A program starts that searches 40 library and Python directories.")
    columns = {"before": measure(start, overlay, lower)}
    daemon = scene.daemon(software=overlay)
    finalize(daemon, overlay, lower)
    columns["after"] = measure(start, overlay, lower)
    daemon.stop()
    forget(overlay, lower)
    columns["after reboot"] = measure(start, overlay, lower)
    say(f"{'one program start':<22}" + "".join(f"{name:>14}" for name in columns))
    for name, i, form in (("lower lookups", 0, ",d"), ("ENOENTs at the lower", 1, ",d"), ("seconds", 2, ".3f")):
        say(f"{name:<22}" + "".join(f"{column[i]:>14{form}}" for column in columns.values()))
    return columns["after"][1] == columns["after reboot"][1] == 0


def main():
    if reason := missing_privilege():
        sys.exit(f"demo: cannot run here: {reason}")
    enter_namespace()
    base = tempfile.mkdtemp(prefix="ovlfind-demo-")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "ovlfind-demo", base)
    scene = Scene(base)
    try:
        ok = demonstrate(scene)
    finally:
        scene.close()
        run("umount", "-l", base, check=False)
        shutil.rmtree(base, ignore_errors=True)
    # The last word belongs to what was measured, not to the program that was to bring it about.
    say("", "No lookup in vain reaches the lower any more." if ok else "Lookups still reach the lower: something is wrong.")
    return 0 if ok and not os.path.exists(base) else 1


if __name__ == "__main__":
    sys.exit(main())
