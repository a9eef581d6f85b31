#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program in the foreground notices: latency of stat and open on a slow lower, alone, while ovlfind finalizes other
directories by itself, and while chown -R -h copies them up instead. The three take turns in one run, so that whatever else
the machine does meets all of them. Usage: bench_foreground.py [TURNS [SECONDS [DELAY_USEC]]]"""

import contextlib
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from ovltest.bench import playground, scene_in  # noqa: E402
from ovltest.daemon import wait_for  # noqa: E402
from ovltest.tree import many  # noqa: E402

N_FILES = 20_000  # for each of the two; more than can be done in the time
PAUSE = 0.002     # of the client, between two looks
MANAGER = ("/org/ovlfind1", "org.ovlfind1.Manager")


def client(directory, seconds, numbers):
    """Looks up names that are not there and opens one that is; seconds each took. A number makes a name nobody has asked for."""
    took = []
    names = sorted(os.listdir(directory))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        n = next(numbers)
        begin = time.perf_counter()
        os.path.exists(os.path.join(directory, f"absent{n}"))
        with open(os.path.join(directory, names[n % len(names)]), "rb"):
            pass
        took.append(time.perf_counter() - begin)
        time.sleep(PAUSE)
    return took


class Ovlfind:
    """Automatic jobs for directories that somebody has used."""
    name = "with ovlfind"

    def __init__(self, scene, overlay):
        self.overlay = overlay
        self.daemon = scene.daemon(soft=(overlay, {"Watch": {"HotOpens": "8", "Directories": "ovlfind/*"},
                                                   "Finalize": {"Automatic": "yes"}}))
        path = self.daemon.manager().ListOverlays()[0][1]
        wait_for(lambda: self.daemon.properties(path, "org.ovlfind1.Overlay")["Watching"] == "on", "watching", 120)
        self.daemon.manager().Pause("")

    def _is_running(self):
        return any(job["State"] not in ("queued", "done") for job in self.daemon.jobs())

    def prepare(self):
        for entry in os.scandir(self.overlay / "ovlfind"):
            for name in sorted(os.listdir(entry))[:10]:
                os.close(os.open(os.path.join(entry, name), os.O_RDONLY))
        wait_for(self.daemon.jobs, "jobs", 60)

    @contextlib.contextmanager
    def at_work(self):
        self.daemon.manager().Resume("")
        wait_for(self._is_running, "a job", 60)
        yield
        self.daemon.manager().Pause("")
        wait_for(lambda: not self._is_running(), "rest", 60)

    def done(self):
        return f"{int(self.daemon.properties(*MANAGER)['NFinalized']) * 100} files"


class Chown:
    name = "with chown"

    def __init__(self, _, overlay):
        self.overlay = overlay
        self.process = None

    def prepare(self):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(["chown", "-R", "-h", "0:0", self.overlay / "chown"])
        self.process.send_signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def at_work(self):
        self.process.send_signal(signal.SIGCONT)
        yield
        self.process.send_signal(signal.SIGSTOP)

    def done(self):
        self.process.kill()
        self.process.wait()
        return f"{sum(len(f) for _, _, f in os.walk(os.path.join(self.overlay.upper_path(), 'chown')))} files"


class Nothing:
    name = "alone"

    def prepare(self):
        pass

    def at_work(self):
        return contextlib.nullcontext()

    def done(self):
        return "nothing"


def first_of_all(lower):
    """The server of a real lower has processors of its own."""
    for task in os.listdir(f"/proc/{lower.process.pid}/task"):
        os.setpriority(os.PRIO_PROCESS, int(task), -20)


def measure(scene, turns, seconds, delay_usec):
    source = scene.source()
    for name, n in (("ovlfind", N_FILES), ("chown", N_FILES), ("foreground", 100)):
        many(os.path.join(source, name), n)
    lower = scene.lower(source)
    first_of_all(lower)
    overlay = scene.overlay(lower)
    others = [Nothing(), Ovlfind(scene, overlay), Chown(scene, overlay)]
    took = {o.name: [] for o in others}
    for o in others:
        o.prepare()
    lower.delay(delay_usec)
    numbers = itertools.count()
    for _ in range(turns):
        for o in others:
            with o.at_work():
                took[o.name] += client(overlay / "foreground/dir0000", seconds, numbers)
    lower.delay(0)
    print(f"stat and open of a client, {delay_usec / 1000:g} ms per operation of the lower, milliseconds")
    first = None
    for o in others:
        cuts = statistics.quantiles(took[o.name], n=100)
        first = first or cuts
        print(f"  {o.name:<14} median {cuts[49] * 1000:6.2f} ({cuts[49] / first[49]:.2f} x)   "
              f"99 % {cuts[98] * 1000:6.2f} ({cuts[98] / first[98]:.2f} x)   {len(took[o.name])} looks, {o.done()}", flush=True)


def main():
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1
    delay_usec = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    with playground() as base, scene_in(base) as scene:
        measure(scene, turns, seconds, delay_usec)
    return 0


if __name__ == "__main__":
    sys.exit(main())
