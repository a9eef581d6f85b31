#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program in the foreground notices: latency of stat and open on a slow lower, alone, while ovlfind finalizes another
tree by itself, and while chown -R -h copies it up instead; side by side in one run.
Usage: bench_foreground.py [SECONDS [DELAY_USEC]]"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from ovltest import Scene, enter_namespace, missing_privilege, run  # noqa: E402
from ovltest.daemon import wait_for  # noqa: E402
from ovltest.tree import many  # noqa: E402

N_FILES = 20_000  # in the background; more than can be done in the time
PAUSE = 0.002     # of the client, between two looks


def client(directory, seconds):
    """Looks up names that are not there and opens one that is; seconds each took."""
    took, n = [], 0
    names = sorted(os.listdir(directory))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        n += 1
        begin = time.perf_counter()
        os.path.exists(os.path.join(directory, f"absent{n}"))
        with open(os.path.join(directory, names[n % len(names)]), "rb"):
            pass
        took.append(time.perf_counter() - begin)
        time.sleep(PAUSE)
    return took


def alone(overlay, daemon):
    return lambda: None, lambda: "nothing"


def by_ovlfind(overlay, daemon):
    """Somebody uses the directories, so that they are hot; the jobs are automatic ones."""
    stop = threading.Event()
    directories = sorted(os.listdir(overlay / "background"))

    def use():
        for d in directories:
            path = overlay / f"background/{d}"
            for i, name in enumerate(sorted(os.listdir(path))[:10]):
                if stop.is_set():
                    return
                with open(os.path.join(path, name), "rb"):
                    pass
    use()
    wait_for(lambda: any(daemon.job(p)["State"] == "running" for _, p in daemon.manager().ListJobs()), "a job", 60)
    return stop.set, lambda: f"{int(daemon.properties('/org/ovlfind1', 'org.ovlfind1.Manager')['NFinalized'])} directories finalized"


def by_chown(overlay, daemon):
    p = subprocess.Popen(["chown", "-R", "-h", "0:0", overlay / "background"])

    def end():
        p.terminate()
        p.wait()
    return end, lambda: f"{sum(len(f) for _, _, f in os.walk(overlay.upper_path()))} files copied up"


def measure(base, background, seconds, delay_usec):
    scene = Scene(tempfile.mkdtemp(dir=base))
    try:
        source = scene.source()
        many(os.path.join(source, "background"), N_FILES)
        many(os.path.join(source, "foreground"), 100)
        lower = scene.lower(source)
        overlay = scene.overlay(lower)
        daemon = None
        if background is by_ovlfind:
            daemon = scene.daemon(soft=(overlay, {"Watch": {"HotOpens": "8", "Directories": "background/*"},
                                                  "Finalize": {"Automatic": "yes"}}))
            path = daemon.manager().ListOverlays()[0][1]
            wait_for(lambda: daemon.properties(path, "org.ovlfind1.Overlay")["Watching"] == "on", "watching", 120)
        lower.delay(delay_usec)
        end, report = background(overlay, daemon)
        took = client(overlay / "foreground/dir0000", seconds)
        done = report()
        end()
        lower.delay(0)
        return took, done
    finally:
        scene.close()
        shutil.rmtree(scene.dir, ignore_errors=True)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 15
    delay_usec = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    if reason := missing_privilege():
        print(f"skipped: {reason}")
        return 77
    enter_namespace()
    base = tempfile.mkdtemp(prefix="ovlbench-")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "ovlbench", base)
    try:
        print(f"stat and open of a client, {delay_usec / 1000:g} ms per operation of the lower, milliseconds")
        first = None
        for name, background in (("alone", alone), ("with ovlfind", by_ovlfind), ("with chown", by_chown)):
            took, done = measure(base, background, seconds, delay_usec)
            cuts = statistics.quantiles(took, n=100)
            first = first or cuts
            print(f"  {name:<14} median {cuts[49] * 1000:6.2f} ({cuts[49] / first[49]:.2f} x)   "
                  f"99 % {cuts[98] * 1000:6.2f} ({cuts[98] / first[98]:.2f} x)   {len(took)} looks, {done}", flush=True)
    finally:
        run("umount", "-l", base, check=False)
        shutil.rmtree(base, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
