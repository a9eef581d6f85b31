# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server goes away in the middle of something, and comes back: nothing is wrong afterwards, and the daemon answers all the
while."""

import json
import os
import subprocess
import threading
import time

import pytest

from ovltest import assert_same, run
from ovltest.daemon import wait_for
from ovltest.env import spawn
from ovltest.nfs import NfsServer, seen
from ovltest.replay import ProgramStart
from ovltest.tree import many, write
from ovltest.tree import release as make_release

CONFIGURATION = "[Overlay]\nMountPoint=/mnt/ovl\n[Finalize]\nAutomatic=no\nQuietSec=50ms\n"
ENDS = ("done", "failed", "canceled")
HARD, SOFT = "hard,actimeo=1", "soft,timeo=10,retrans=1,actimeo=1"
SITES = [("3", HARD), ("4.2", HARD), ("3", SOFT), ("4.2", SOFT)]
PROG = "prog"
ADDED = "added"  # how names begin that the lower got later

VERBS = ("finalize", "refresh", "unfinalize")
# What happens to the server; start() ends each.
OUTAGES = {"stopped": NfsServer.stop, "replaced": NfsServer.replace, "denied": NfsServer.deny}


@pytest.fixture
def start(export):
    return ProgramStart(export, n_directories=12, n_names=12)


@pytest.fixture
def release(export, start):
    make_release(os.path.join(export, PROG, "app"))
    many(os.path.join(export, PROG, "many"), 200, per_directory=20)
    return start


class Status:
    """Somebody who asks for the status again and again, from start() on."""

    def __init__(self):
        self.n, self.longest, self.error = 0, 0.0, None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.start = self._thread.start

    def _run(self):
        while not self._ends.is_set():
            begin = time.monotonic()
            try:
                run("ovlfinctl", "status", timeout=120)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                self.error = self.error or e
            self.longest = max(self.longest, time.monotonic() - begin)
            self.n += 1

    def await_more(self, n):
        wanted = self.n + n
        wait_for(lambda: self.n >= wanted or self.error, f"{n} answers to status", timeout=300)

    def close(self):
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()


def without_added(entries):
    """What was there at first."""
    for entry in entries.values():
        if isinstance(entry["content"], list):
            entry["content"] = [n for n in entry["content"] if not n.startswith(ADDED)]
    return {p: e for p, e in entries.items() if not os.path.basename(p).startswith(ADDED)}


def jobs():
    return {j["id"]: j for j in json.loads(run("ovlfinctl", "jobs", "--json=short").stdout)["jobs"]}


def newest(known):
    """The job that was not known, as soon as it is there."""
    return wait_for(lambda: next((j for n, j in jobs().items() if n not in known), None), "the job", timeout=300)["id"]


def interrupted(server, outage, verb, path, status):
    """Starts a job, lets the outage happen as soon as it has begun, and end. Returns what the job was doing then, and how it ended."""
    known = set(jobs())
    client = spawn("ovlfinctl", verb, path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    job = newest(known)
    wait_for(lambda: jobs()[job]["state"] in ENDS or jobs()[job].get("entries_done", 0) > 0, "the job to begin", timeout=300)
    OUTAGES[outage](server)
    status.await_more(5)
    meanwhile = jobs()[job]["state"]
    server.start()
    wait_for(lambda: jobs()[job]["state"] in ENDS, f"{verb} to end after the server was {outage}", timeout=600)
    client.wait(300)
    return meanwhile, jobs()[job]["state"]


@pytest.fixture
def status():
    s = Status()
    yield s
    s.close()


@pytest.mark.parametrize("site", SITES, indirect=True, ids=" ".join)
def test_the_server_goes_away_and_comes_back(site, service, export, start, status, record_result):
    """Each outage in the middle of one verb, of all pairs of them a third; the mounts share them out."""
    prog, shift = site.overlay / PROG, SITES.index((site.nfs.version, site.nfs.options))
    before = seen(prog)
    service.start(CONFIGURATION)
    status.start()
    told = []
    for n, outage in enumerate(OUTAGES):
        verb = VERBS[(n + shift) % len(VERBS)]
        if verb != "finalize":
            service.ctl("finalize", prog)
        if verb == "refresh":
            write(os.path.join(export, PROG, "app", "lib", f"{ADDED}{n}"))
        meanwhile, end = interrupted(site.server, outage, verb, prog, status)
        told.append(f"{outage} during {verb}: {meanwhile} meanwhile, then {end}")
        print(f"{told[-1]}; longest status {status.longest:.2f} s", flush=True)
        if end != "done":
            service.ctl(verb, prog)
        service.ctl("verify", prog)
        assert not status.error, status.error
        assert_same(before, without_added(seen(prog)))
    service.ctl("finalize", prog)
    site.fresh()
    with site.measure() as again:
        start.run(site.overlay.point)
    assert again["enoents"] == 0
    record_result({"outages": told, "version": site.nfs.version, "options": site.nfs.options, "status": status.n,
                   "longest": round(status.longest, 2)})


@pytest.mark.parametrize("site", [("3", "hard"), ("4.2", "hard")], indirect=True, ids=" ".join)
def test_what_was_copied_with_its_data_needs_no_server(site, service):
    prog = site.overlay / PROG
    before = seen(prog)
    service.start(CONFIGURATION)
    service.ctl("finalize", "--data=all", prog)
    service.stop()
    site.fresh()
    site.server.withdraw()
    try:
        assert_same(before, seen(prog))
    finally:
        site.server.start()
