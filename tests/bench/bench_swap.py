#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The longest that any of 8 readers had to wait for an operation, with swaps and without, in turns of the same length.
With more readers than processors, most of it is waiting for a processor. Usage: bench_swap.py [SWAPS [READERS]]"""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from ovltest.bench import playground, scene_in  # noqa: E402
from ovltest.tree import many  # noqa: E402


def measure(scene, overlay, n_readers, work):
    readers = scene.readers(overlay.point, processes=n_readers)
    begin = time.monotonic()
    work()
    seconds = time.monotonic() - begin
    return readers.close(), seconds


def turns(scene, n_swaps, n_readers):
    source = scene.source()
    many(f"{source}/software", 500)
    overlay = scene.overlay(source, metacopy=None, redirect_dir=None)
    daemon = scene.daemon(soft=overlay)
    ok = True
    print(f"{n_readers} readers, {os.cpu_count()} processors: the longest operation of each turn")
    for _ in range(n_swaps):
        def swap():
            daemon.ctl("remount", "soft", "--method=swap", "--set=metacopy=on,redirect_dir=on", "--force").ok()

        with_swap, seconds = measure(scene, overlay, n_readers, swap)
        without, _ = measure(scene, overlay, n_readers, lambda seconds=seconds: time.sleep(seconds))
        ok = ok and with_swap.failures == without.failures == 0
        print(f"  with a swap {with_swap.longest_msec:8.2f} ms   without {without.longest_msec:8.2f} ms   "
              f"failed operations {with_swap.failures} of {with_swap.operations:,}", flush=True)
    pauses = [line.rpartition("at most ")[2] for line in daemon.log().splitlines() if line.startswith("Remounted")]
    print(f"  the calls that take the place lasted {', '.join(pauses)}")
    return ok


def main():
    n_swaps = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    n_readers = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    with playground() as base, scene_in(base) as scene:
        ok = turns(scene, n_swaps, n_readers)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
