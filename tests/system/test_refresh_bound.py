# SPDX-License-Identifier: LGPL-2.1-or-later
"""A refresh that nobody asked for copies no large files, and takes no room that is to stay free: what it leaves is stale, with
how much that is and what to run. Who asks gets it."""

import os

import pytest

from ovltest import assert_same, snapshot, visible
from ovltest.daemon import wait_for
from ovltest.tree import age, write

D = "soft"
LARGE = 3_000_000


@pytest.fixture
def source(scene):
    top = scene.source()
    write(os.path.join(top, D, "large/file"), b"old")
    write(os.path.join(top, D, "large/other"), b"old")
    write(os.path.join(top, D, "small/file"), b"old")
    age(top)
    return top


def change(source):
    write(os.path.join(source, D, "large/file"), os.urandom(LARGE))
    write(os.path.join(source, D, "large/other"), b"new, and longer")
    write(os.path.join(source, D, "small/file"), b"new, and longer")


def settings(**copy_up):
    return {"Finalize": {"OnLowerChange": "refresh"}, "CopyUp": copy_up}


def begin(scene, source, overlay, **copy_up):
    daemon = scene.daemon(soft=(overlay, settings(**copy_up)))
    daemon.ctl("finalize", overlay / D).ok()
    change(source)
    assert daemon.stop() == 0
    daemon.start()
    return daemon


def stale(daemon, overlay, path):
    status = daemon.ctl("status", overlay / path, "--json=short").ok().json["directories"][0]
    return status["state"] == "stale" and status["reason"]


def refused(overlay, daemon):
    """Once the large one was left alone, and the small one taken up."""
    wait_for(lambda: f"ovlfinctl refresh {overlay / D}/large" in daemon.log(), "the refresh of the large one")
    wait_for(lambda: os.path.getsize(overlay / f"{D}/small/file") == len("new, and longer"), "the refresh of the small one")
    wait_for(lambda: all(j["State"] == "done" for j in daemon.jobs()), "the comparisons")


def test_large_files_wait_for_somebody(scene, source):
    overlay = scene.overlay(source)
    daemon = begin(scene, source, overlay)
    refused(overlay, daemon)
    reason, command = stale(daemon, overlay, f"{D}/large"), f"ovlfinctl refresh {overlay / D}/large"
    assert f"{LARGE + len('new, and longer')} bytes" in reason and command in reason
    assert f"{LARGE + len('new, and longer')} bytes" in daemon.log()
    for name in ("file", "other"):  # nothing of that directory, rather than a part
        assert os.getxattr(overlay.upper_path(f"{D}/large/{name}"), "trusted.overlay.metacopy") is not None
    plan = daemon.ctl("refresh", overlay / D, "--dry-run", "--json=short").ok().json["jobs"][0]["plan"]
    assert sum(s["bytes"] for s in plan) == LARGE + len("new, and longer")
    daemon.ctl(*command.split()[1:]).ok()
    assert_same(visible(snapshot(os.path.join(source, D))), visible(snapshot(overlay / D)))
    assert daemon.state_of(overlay / f"{D}/large") == "finalized"


@pytest.mark.parametrize("data", ["all", "4M"])
def test_data_allows_more(scene, source, data):
    overlay = scene.overlay(source)
    daemon = begin(scene, source, overlay, Data=data)
    wait_for(lambda: visible(snapshot(overlay / D)) == visible(snapshot(os.path.join(source, D))), "the refresh")
    wait_for(lambda: daemon.state_of(overlay / f"{D}/large") == "finalized", "the comparison")


def test_room_that_is_to_stay_free(scene, source):
    """It is not taken in part either, and who asks is told how much is missing."""
    overlay = scene.overlay(source)
    st = os.statvfs(overlay.upper.upper)
    daemon = begin(scene, source, overlay, Data="all", MinFreeSpace=str(st.f_bavail * st.f_frsize - LARGE // 2))
    refused(overlay, daemon)
    assert "MinFreeSpace=" in stale(daemon, overlay, f"{D}/large")
    result = daemon.ctl("refresh", overlay / f"{D}/large")
    assert result.code == 1 and "no space for" in result.err and "MinFreeSpace=" in result.err
