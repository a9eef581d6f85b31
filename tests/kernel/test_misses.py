# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lookups that find nothing, counted in the kernel: as many as an NFS server sees, nothing of ours, at a cost that is printed; and
what becomes of it by itself. Only here is a kernel that lets programs trace it, and a server that says what it was asked."""

import json
import os
import re
import signal
import time

import pytest

from ovltest import run
from ovltest.daemon import wait_for
from ovltest.overlay import OverlayMount
from ovltest.replay import ProgramStart
from ovltest.tree import write

CACHED = "nocto,actimeo=3600"
VERSIONS = [("3", CACHED), ("4.2", CACHED)]
COUNTED = "[Overlay]\nMountPoint=/mnt/ovl\n[Watch]\nSources=misses\n[Finalize]\nAutomatic=no\n"
BY_MISSES = "[Overlay]\nMountPoint=/mnt/ovl\n[Watch]\nSources=misses\n"
UNTOUCHED = "[Overlay]\nMountPoint=/mnt/ovl\n"
EXACT = 0.02
LIBRARIES = [f"libs/part{i:02}/lib" for i in range(20)]
COMMANDS = [f"path/part{i:03}/bin" for i in range(160)]
PATIENCE = 900  # a guest may be emulated


class Misses:
    """What the service has counted."""

    def __init__(self, service, overlay):
        self.service, self.overlay, self.n = service, overlay, 0

    def total(self, answer):
        """Of the whole overlay; answer: lower or upper."""
        found = re.search(rf'^ovlfind_misses_total\{{.*answer="{answer}".*\}} (\d+)', self.service.ctl("metrics").stdout, re.M)
        return int(found[1]) if found else 0

    def state(self):
        listed = json.loads(self.service.ctl("status", "--json=short", "ovl").stdout)
        text = json.dumps(listed)
        found = re.search(r'\{[^{}]*"name": ?"misses"[^{}]*\}', text)
        return json.loads(found[0])["state"] if found else text

    def is_on(self):
        wait_for(lambda: self.state() == "on", "lookups to be counted", PATIENCE)
        self.settle()

    def settle(self):
        """Waits until all that was looked up so far is counted: what is looked up now comes after it."""
        before = self.total("lower")
        self.n += 1
        assert not os.path.exists(self.overlay / f"settle-{os.getpid()}-{self.n}")
        wait_for(lambda: self.total("lower") > before, "a lookup to be counted", PATIENCE)

    def measure(self, answer="lower"):
        """Returns a function that tells what has been counted meanwhile, without what it takes to know."""
        self.settle()
        before, n = self.total(answer), self.n

        def since():
            self.settle()
            return self.total(answer) - before - (self.n - n if answer == "lower" else 0)

        return since


@pytest.fixture
def start(export):
    return ProgramStart(export, n_directories=24, n_names=24)


@pytest.fixture
def release(export, start):
    """What programs search: libraries and modules; a path for the loader, whose last directory has the library; a path of
    commands, a tenth of which has one."""
    del start
    for directory in LIBRARIES:
        write(os.path.join(export, directory, "readme"))
    for i, directory in enumerate(COMMANDS):
        write(os.path.join(export, directory, f"command{i}" if i % 10 == 9 else "readme"), b"#!/bin/sh\n", 0o755)
    run("cp", "/lib/x86_64-linux-gnu/libtinfo.so.6", os.path.join(export, LIBRARIES[-1]))


@pytest.fixture
def misses(service, site):
    return Misses(service, site.overlay)


def forget():
    """What the kernel has cached of names: as after a reboot, or when memory is short."""
    run("sync")
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3\n")


def is_close(counted, seen):
    return abs(counted - seen) <= EXACT * seen


@pytest.mark.parametrize("site", VERSIONS, indirect=True, ids=" ".join)
def test_as_many_as_the_server_sees(site, service, misses, start):
    service.start(COUNTED)
    misses.is_on()
    forget()
    asked = misses.measure()
    with site.measure() as merged:
        in_vain, _ = start.run(site.overlay.point)
    counted = asked()
    print(f"looked up in vain {in_vain}, counted {counted}, answered by the server with ENOENT {merged['enoents']}")
    assert in_vain > 500
    assert is_close(counted, merged["enoents"]) and is_close(counted, in_vain)

    asked = misses.measure()
    start.run(site.overlay.point)
    assert asked() == 0  # the kernel knows the answers
    service.ctl("finalize", site.overlay / "prog")
    assert asked() == 0  # nothing of ours counts

    forget()
    asked, saved = misses.measure(), misses.measure("upper")
    with site.measure() as finalized:
        assert start.run(site.overlay.point)[0] == in_vain
    assert asked() == finalized["enoents"] == 0
    assert is_close(saved(), in_vain)
    print(service.ctl("top", "-n", "1").stdout)
    print(service.ctl("status", "ovl").stdout)


@pytest.mark.parametrize("site", [VERSIONS[1]], indirect=True, ids=" ".join)
def test_whiteouts_and_directories_of_one_s_own(site, service, misses, scene):
    """A name that was deleted here is asked for nowhere, nor is anything in a directory that was made here."""
    service.start(COUNTED)
    misses.is_on()
    top = site.overlay.point
    names = [os.path.join(top, d, "readme") for d in LIBRARIES[:7]]
    for name in names:
        os.unlink(name)
    os.mkdir(os.path.join(top, "mine"))
    forget()
    asked, saved = misses.measure(), misses.measure("upper")
    for name in names:
        assert not os.path.exists(name)
    for i in range(9):
        assert not os.path.exists(os.path.join(top, "mine", f"absent{i}"))
    assert (asked(), saved()) == (0, 9)
    other = scene.keep(OverlayMount("/mnt/other", [scene.source()], scene.upper("ext4-512")))
    asked = misses.measure()
    assert not os.path.exists(other / "absent")  # nobody manages it
    assert asked() == 0


def load(top):
    """A program for which the loader looks through all of LIBRARIES."""
    run("bash", "-c", "true", env={**os.environ, "LD_LIBRARY_PATH": ":".join(os.path.join(top, d) for d in LIBRARIES)})


def command(top):
    """A shell that looks for a command in all of COMMANDS, in each tenth of which it finds one."""
    path = ":".join(os.path.join(top, d) for d in COMMANDS)
    run("/bin/sh", "-c", "\n".join(f"command{i}" for i in range(9, len(COMMANDS), 10)), env={"PATH": path}, timeout=600)


def finalized(service, top):
    listed = json.loads(service.ctl("directories", "--json=short").stdout)
    return {os.path.relpath(d["path"], top) for d in listed["directories"] if d["state"] == "finalized"}


@pytest.mark.parametrize("configuration", [BY_MISSES, UNTOUCHED], ids=["misses", "auto"])
@pytest.mark.parametrize("program, directories", [(load, LIBRARIES), (command, COMMANDS)], ids=["loader", "shell"])
@pytest.mark.parametrize("site", [VERSIONS[1]], indirect=True, ids=" ".join)
def test_by_itself_where_nothing_is_ever_opened(site, service, misses, program, directories, configuration):
    top = site.overlay.point
    forget()
    with site.measure() as before:
        program(top)
    service.start(configuration)
    wait_for(lambda: misses.state() == "on", "lookups to be counted", PATIENCE)
    # In the last directory of the shell's path nothing is ever missed.
    expected = set(directories[:-1] if (program, configuration) == (command, BY_MISSES) else directories)
    deadline = time.monotonic() + PATIENCE
    while not finalized(service, top) >= expected:  # where something is found there are fewer misses
        assert time.monotonic() < deadline, expected - finalized(service, top)
        forget()
        program(top)
    service.stop()
    site.fresh()
    with site.measure() as after:
        program(top)
    assert before["enoents"] >= len(directories) - 1
    assert after["enoents"] == 0


def source_process():
    return run("pgrep", "-f", "ovlfind-worker misses", check=False).stdout.split()


@pytest.mark.parametrize("site", [VERSIONS[1]], indirect=True, ids=" ".join)
def test_killed_and_unloaded(site, service, misses):
    service.start(COUNTED)
    misses.is_on()
    pid = source_process()
    os.kill(int(pid[0]), signal.SIGKILL)
    wait_for(lambda: source_process() not in ([], pid), "another one", PATIENCE)
    misses.is_on()
    site.overlay.umount()
    wait_for(lambda: not source_process(), "the process to end", PATIENCE)
    wait_for(lambda: run("rmmod", "overlay", check=False).returncode == 0, "the module to be unloaded", PATIENCE)
    run("modprobe", "overlay")
    site.overlay.mount()
    misses.is_on()


N_LOOKUPS = 4000


def nsec_per_lookup(directory, tag):
    names = [os.path.join(directory, f"absent-{tag}-{i}") for i in range(N_LOOKUPS)]
    begin = time.perf_counter_ns()
    for name in names:
        os.access(name, os.F_OK)
    return (time.perf_counter_ns() - begin) / N_LOOKUPS


@pytest.mark.parametrize("site", [VERSIONS[1]], indirect=True, ids=" ".join)
def test_what_it_costs(site, service, misses):
    """Printed: a time is no reason to fail. Of a directory that has no lower layer, where a lookup is quickest; half of a name's
    time is that of the interpreter, which is the same in both."""
    directory = os.path.join(site.overlay.point, "mine")
    os.mkdir(directory)
    without = [nsec_per_lookup(directory, f"a{i}") for i in range(5)]
    service.start(COUNTED)
    misses.is_on()
    counted = [nsec_per_lookup(directory, f"b{i}") for i in range(5)]
    print(f"ns per lookup without the program {min(without):.0f}, with it {min(counted):.0f}")
