# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many hosts that share a server: each has a client of its own, with its own caches, an overlay, a bus and a daemon. What the server sees
is what reaches the clients' source, summed up."""

import threading
import time

from .bus import PrivateBus
from .daemon import Daemon, wait_for
from .heat import use, watched
from .lower import Counts
from .tree import age, many, write

RELEASE = "geo"
SAMPLE_SEC = 1.0


def build_release(scene, n_files):
    source = scene.source()
    many(f"{source}/{RELEASE}", n_files)
    for name in ("file", "other"):
        write(f"{source}/{RELEASE}/{name}")
    age(source)
    return source


class Host:
    """Its overlay has a name of its own: all of them have one machine id here, and delays follow from both."""

    def __init__(self, scene, source, number, delay_usec, spread):
        self.name = f"host{number:03}"
        self.lower = scene.lower(source)
        self.overlay = scene.overlay(self.lower)
        self.daemon = scene.keep(Daemon(scene.subdir("d"), scene.keep(PrivateBus(scene.subdir("bus")))))
        self.daemon.add_overlay(self.name, self.overlay.point, Watch={}, Finalize={"Automatic": "yes", "RandomizedDelaySec": spread})
        self.daemon.start()
        watched(self.daemon, self.name)
        self.lower.delay(delay_usec)

    def heat(self):
        """The release becomes hot; the job that is made of it does not start yet."""
        self.daemon.manager().Pause(self.name)
        use(self.overlay, RELEASE, times=60)
        wait_for(lambda: self.daemon.manager().ListJobs(), f"a job of {self.name}")

    def is_done(self):
        """By its jobs: to look at the directory would ask the server."""
        jobs = [self.daemon.job(path) for _, path in self.daemon.manager().ListJobs()]
        failed = [str(j["ErrorMessage"]) for j in jobs if j["State"] == "failed"]
        assert not failed, failed
        return all(j["State"] == "done" for j in jobs)


class Fleet:
    def __init__(self, scene, source, n, delay_usec=0, spread="0"):
        self.hosts = [Host(scene, source, i, delay_usec, spread) for i in range(n)]

    def counts(self):
        total = Counts()
        for host in self.hosts:
            for kind, n in host.lower.counts().items():
                total[kind] = total.get(kind, 0) + n
        return total

    def finalize(self):
        """All hosts find the release hot. Returns the Counts of what the server saw of the jobs, the seconds from their first to their
        last request, and the most requests in a second."""
        for host in self.hosts:
            host.heat()
        before, samples, over = self.counts(), [], threading.Event()

        def sample():
            while not over.wait(SAMPLE_SEC):
                samples.append((time.monotonic(), self.counts()["total"]))

        thread = threading.Thread(target=sample)
        samples.append((time.monotonic(), before["total"]))
        thread.start()
        try:
            for host in self.hosts:
                host.daemon.manager().Resume(host.name)
            for host in self.hosts:
                wait_for(host.is_done, f"the release on {host.name}", timeout=900, step=0.2)
        finally:
            over.set()
            thread.join()
        samples.append((time.monotonic(), self.counts()["total"]))
        rates = [((b - a) / (t - s), s, t) for (s, a), (t, b) in zip(samples, samples[1:]) if b > a and t - s >= SAMPLE_SEC / 2]
        return self.counts() - before, (rates[-1][2] - rates[0][1]) if rates else 0, max((r for r, _, _ in rates), default=0)
