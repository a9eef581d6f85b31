# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lookups that find nothing are counted in the kernel, or it is said why not. That counts are right is tested where kernels let
programs trace them, by tests/kernel/test_misses.py."""

import os

import pytest

from ovltest import heat, wire
from ovltest.daemon import wait_for
from ovltest.env import binary
from ovltest.fakedaemon import Fake
from ovltest.heat import hot, properties

MISSING = "CAP_SYS_ADMIN, which is missing here"
BOTH = {"Watch": {"Sources": "opens misses"}}


@pytest.fixture
def unprivileged(scene):
    """A worker of which the one that counts may not do so."""
    path = os.path.join(scene.subdir("bin"), "worker")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"""#!/bin/sh
case ${{1:-misses}} in
misses) exec setpriv --bounding-set=-sys_admin '{binary("ovlfind-worker")}' "$@" ;;
*) exec '{binary("ovlfind-worker")}' "$@" ;;
esac
""")
    os.chmod(path, 0o755)
    return path


def sources(daemon):
    return {str(s["name"]): (str(s["state"]), str(s["reason"])) for s in properties(daemon)["Sources"]}


def test_what_is_missing_is_named(unprivileged):
    records, _ = wire.ask(unprivileged, VERB="misses")
    assert records[-1]["name"] == "Precondition" and MISSING in records[-1]["text"]
    assert {(r["kind"], r["state"]) for r in records[:-1]} == {("watch", 1)}  # it never said that it worked


def test_a_refusal_is_said_once_and_the_others_go_on(scene, unprivileged):
    overlay = scene.overlay(scene.lower(heat.build(scene, ["a"])))
    daemon = scene.daemon(start=False)
    daemon.worker = unprivileged
    daemon.add_overlay("soft", overlay.point, **BOTH)
    daemon.start()
    heat.watched(daemon)
    reason = wait_for(lambda: (s := sources(daemon)["misses"])[0] == "refused" and s[1], "the refusal")
    assert MISSING in reason and daemon.log().count(reason) == 1
    assert f"misses refused: {reason}" in " ".join(daemon.ctl("status", "soft").ok().out.split())
    heat.use(overlay, "a")
    heat.is_counted(daemon, overlay, "a")
    daemon.ctl("finalize", overlay / "a").ok()
    assert not daemon.workers_for("misses")


def test_it_counts_or_says_why(scene):
    """Whatever the kernel is that this runs on."""
    overlay = scene.overlay(scene.lower(heat.build(scene, ["a"])))
    daemon = scene.daemon(soft=(overlay, BOTH))
    state, reason = wait_for(lambda: (s := sources(daemon)["misses"])[0] != "starting" and s, "an answer")
    assert (state, reason) == ("on", "") or (state == "refused" and reason)


def test_what_has_no_directory_makes_none_hot(scene):
    """But counts for the overlay."""
    fake = Fake(scene, start=False)
    fake.daemon.add_overlay("soft", fake.overlay.point, Watch={"Sources": "auto", "Exclude": "b"})
    heats = [["send", {"kind": "heat", "text": "soft", "path": path, "misses": n, "saved": 1}] for path, n in (("", 40), ("b", 50), ("a", 60))]
    fake.play({"misses": [["send", {"kind": "watch", "state": 0}], *heats, ["wait-cancel", {}]]})
    fake.start()
    wait_for(lambda: hot(fake.daemon, fake.overlay, "heat") == {"a": 60}, "what was told")
    counters = properties(fake.daemon)["Counters"]
    assert counters["misses"] == 150 and counters["saved"] == 3
