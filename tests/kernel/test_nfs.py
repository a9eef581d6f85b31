# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ovlfind is for, on NFS as it is: programs that search directories of a release which a server exports. What the server
is asked is counted, at the server and at the client."""

import json
import os
import time

import pytest

from ovltest import assert_same
from ovltest.byhand import finalize_by_hand
from ovltest.nfs import seen
from ovltest.replay import ProgramStart, SearchPath
from ovltest.tree import many, odd_entries
from ovltest.tree import release as make_release

CACHED = "nocto,actimeo=3600"
DEFAULT = "hard"
PROG = "prog"
BY_HAND = "[Overlay]\nMountPoint=/mnt/ovl\n[Finalize]\nAutomatic=no\n"
UNTOUCHED = "[Overlay]\nMountPoint=/mnt/ovl\n"
READS = ("READ", "READ_PLUS")


@pytest.fixture
def start(export):
    return ProgramStart(export, n_directories=64, n_names=64)


@pytest.fixture
def release(export, start):
    """A release with the directories that are searched, some more, and entries of every kind."""
    make_release(os.path.join(export, PROG, "app"))
    many(os.path.join(export, PROG, "many"), 300)
    odd_entries(os.path.join(export, PROG, "odd"))
    return start


def n_entries(top):
    return sum(len(dirs) + len(files) for _, dirs, files in os.walk(top)) + 1


@pytest.mark.parametrize("site", [("3", CACHED), ("4.2", CACHED), ("3", DEFAULT), ("4.2", DEFAULT)], indirect=True, ids=" ".join)
def test_a_program_start_asks_the_server_nothing_in_vain(site, service, start):
    prog = site.overlay / PROG
    entries = n_entries(os.path.join(site.server.directory, PROG))
    with site.measure("start, merged") as merged:
        in_vain, _ = start.run(site.overlay.point)
    assert in_vain > 5000
    assert merged["enoents"] >= in_vain
    before = seen(prog)

    site.fresh()
    service.start(BY_HAND)
    with site.measure("finalize", entries):
        service.ctl("finalize", prog)
    service.ctl("is-finalized", prog)
    with site.measure("start, finalized live") as live:
        assert start.run(site.overlay.point)[0] == in_vain
    assert_same(before, seen(prog))
    service.ctl("verify", prog)
    service.stop()

    site.fresh()
    with site.measure("start, fresh mount") as fresh:
        assert start.run(site.overlay.point)[0] == in_vain
    assert_same(before, seen(prog))
    assert live["enoents"] == fresh["enoents"] == 0

    service.start(BY_HAND)
    with site.measure("finalize --data=all", entries):
        service.ctl("finalize", "--data=all", prog)
    service.stop()
    site.fresh()
    with site.measure("read everything, data here", entries) as local:
        assert_same(before, seen(prog))
    assert not any(name in local["operations"] for name in READS)
    assert local["requests"] < entries / 10  # default options: for the directories above, again and again

    service.start(BY_HAND)
    service.ctl("unfinalize", prog)
    assert_same(before, seen(prog))
    service.stop()
    site.fresh()
    assert_same(before, seen(prog))
    with site.measure("start, unfinalized") as undone:
        start.run(site.overlay.point)
    assert undone["enoents"] >= in_vain


def n_requests(result):
    """Delegations are returned when the client sees fit."""
    return sum(n for name, n in result["operations"].items() if name not in ("DELEGRETURN", "SEQUENCE"))


@pytest.mark.parametrize("site", [("3", CACHED), ("4.2", CACHED)], indirect=True, ids=" ".join)
def test_finalize_asks_for_no_more_than_the_procedure_by_hand(site, scene, service, start):
    """Which on a stock kernel stops no lookup. Where a server has xattrs (4.2), each directory's are asked for once more, for the
    record of what it was."""
    entries = n_entries(os.path.join(site.server.directory, PROG))
    with site.measure("by hand", entries) as by_hand:
        finalize_by_hand(site.overlay, PROG)
    site.fresh()
    with site.measure("start, copied up by hand") as copied:
        in_vain, _ = start.run(site.overlay.point)
    assert copied["enoents"] >= in_vain
    site.renew(scene.upper("ext4-512"))
    service.start(BY_HAND)
    with site.measure() as finalized:
        service.ctl("finalize", site.overlay / PROG)
    directories = sum(1 for _ in os.walk(site.overlay / PROG)) if site.nfs.version == "4.2" else 0
    assert n_requests(finalized) <= n_requests(by_hand) + directories + 5, (finalized, by_hand)


class TestByItself:
    """With nothing configured but the mount point."""

    @pytest.fixture
    def start(self, export):
        return ProgramStart(export, n_directories=12, n_names=12)

    @pytest.fixture
    def release(self, start):
        return start

    @pytest.mark.parametrize("site", [("3", DEFAULT), ("4.2", DEFAULT)], indirect=True, ids=" ".join)
    def test_finalized_by_itself_is_where_programs_open_files(self, site, service, start):
        """Not where they only look for some: nobody tells of that. Python's modules here are directories with a file each."""
        top, before = site.overlay.point, seen(site.overlay / PROG)
        libraries = SearchPath(start.libraries)
        service.start(UNTOUCHED)
        wanted = {os.path.join(top, d) for d in start.libraries}
        deadline = time.monotonic() + 900
        while not wanted <= self.finalized(service):
            assert time.monotonic() < deadline, wanted - self.finalized(service)
            start.run(top, opens=True)
            time.sleep(0.5)  # opening a file over and over within a fifth of a second counts once
        with site.measure("search of libraries, finalized by itself") as live:
            libraries.run(top)
        assert_same(before, seen(site.overlay / PROG))
        service.stop()
        site.fresh()
        with site.measure("search of libraries, finalized by itself, fresh mount") as fresh:
            libraries.run(top)
        assert live["enoents"] == fresh["enoents"] == 0

    @staticmethod
    def finalized(service):
        listed = json.loads(service.ctl("directories", "--json=short").stdout)
        return {d["path"] for d in listed["directories"] if d["state"] == "finalized"}
