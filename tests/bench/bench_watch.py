#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What watching many directories costs: memory of the daemon and of the watcher per directory, and of the kernel per watch,
wakeups while nothing happens, time from the start until the daemon answers and until all is watched.
Usage: bench_watch.py [DIRECTORIES [SECONDS]]"""

import glob
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from ovltest.bench import playground, scene_in  # noqa: E402
from ovltest.daemon import wait_for  # noqa: E402

SETTLE_SECONDS = 8  # one more walk follows the first after 5 seconds, the next 40 seconds later
# What a watch is made of, and what it keeps in memory.
WATCH_SLABS = ("inotify_inode_mark", "fsnotify_mark_connector", "ovl_inode")


def private_bytes(pid):
    """Memory that is this process's own."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return sum(int(line.split()[1]) * 1024 for line in f if line.startswith(("Private_Clean:", "Private_Dirty:")))


def kernel_bytes():
    """Of one watch; None where the kernel does not tell."""
    total = 0
    for slab in WATCH_SLABS:
        try:
            with open(f"/sys/kernel/slab/{slab}/object_size", encoding="ascii") as f:
                total += int(f.read())
        except FileNotFoundError:
            return None
    return total


def wakeups(pid):
    """Of all its threads."""
    n = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="ascii") as f:
            n += next(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt_switches:"))
    return n


def tree(top, n):
    for i in range(0, n, 1000):
        group = os.path.join(top, f"group{i // 1000:03}")
        os.mkdir(group)
        for j in range(i, min(i + 1000, n)):
            os.mkdir(os.path.join(group, f"directory{j:06}"))


def watching(daemon):
    path = daemon.manager().ListOverlays()[0][1]
    return daemon.properties(path, "org.ovlfind1.Overlay")


def measure(scene, n, idle_seconds):
    """(memory of daemon, of watcher, seconds to ready, to watching, wakeups of both in idle_seconds)"""
    source = scene.source()
    tree(source, n)
    overlay = scene.overlay(source)
    daemon = scene.daemon(start=False, soft=(overlay, {"Watch": {"MaxWatches": "1000000"}, "Finalize": {"Automatic": "yes"}}))
    begin = time.monotonic()
    daemon.start()
    ready = time.monotonic() - begin
    wait_for(lambda: watching(daemon)["Watching"] in ("on", "partly"), "all to be watched", 900, step=0.2)
    done = time.monotonic() - begin
    pids = daemon.process.pid, daemon.workers()[0]
    known = int(watching(daemon)["NKnown"]), int(watching(daemon)["NWatches"])
    time.sleep(SETTLE_SECONDS if idle_seconds else 1)
    before = [wakeups(pid) for pid in pids]
    time.sleep(idle_seconds)
    woken = [wakeups(pid) - b for pid, b in zip(pids, before)]
    memory = [private_bytes(pid) for pid in pids]
    daemon.stop()
    return memory, ready, done, woken, known


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    idle_seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    results = []
    with playground() as base:
        for count, seconds in ((10, 0), (n, idle_seconds)):
            with scene_in(base) as scene:
                results.append(measure(scene, count, seconds))
    (few, *_), (many, ready, done, woken, (known, watches)) = results
    daemon, watcher = ((m - f) / n for m, f in zip(many, few))
    print(f"{known:,} directories known, {watches:,} watches\n"
          f"  answers after {ready:.2f} s, all watched after {done:.1f} s\n"
          f"  bytes per directory: daemon {daemon:.0f}, watcher {watcher:.0f}; in all {many[0] / 1e6:.1f} and {many[1] / 1e6:.1f} MB\n"
          f"  beside it, in the kernel, for each watch: {kernel_bytes() or '?'} bytes, most of it the inode it holds\n"
          f"  wakeups per second while nothing happens: daemon {woken[0] / idle_seconds:.2f}, watcher {woken[1] / idle_seconds:.2f}")
    return 0 if daemon + watcher < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
