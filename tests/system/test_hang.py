# SPDX-License-Identifier: LGPL-2.1-or-later
"""A lower layer that does not answer: its worker hangs in the kernel, deaf to SIGKILL, and nothing else does."""

import glob
import os

import dbus
import pytest

from ovltest.daemon import ERROR, PATH, wait_for
from ovltest.tree import age, write

MANAGER = "org.ovlfind1.Manager"


def build(scene):
    source = scene.source()
    for i in range(3):
        write(os.path.join(source, "d", f"f{i}"))
        write(os.path.join(source, "d", "sub", f"f{i}"))
    age(source)
    return scene.lower(source)


@pytest.fixture
def stage(scene):
    """Two overlays: the lower of the first one will hang."""
    lower = build(scene)
    bad, good = scene.overlay(lower), scene.overlay(build(scene))
    daemon = scene.daemon(bad=bad, good=good)
    yield lower, bad, good, daemon
    lower.recover()


def hanging_job(lower, overlay, daemon):
    lower.hang()
    job = daemon.finalize(overlay / "d")
    wait_for(lower.is_held, "the worker to ask the lower for something")
    assert daemon.job(job)["State"] == "running"
    return job


def assert_answers(lower, daemon):
    """While the lower does not."""
    daemon.properties(PATH, MANAGER)
    assert lower.is_held()


@pytest.mark.timeout(120)
def test_cancel_recover(stage):
    lower, bad, good, daemon = stage
    job = hanging_job(lower, bad, daemon)
    assert_answers(lower, daemon)
    # The other overlay does not notice.
    daemon.ctl("finalize", good / "d").ok()
    assert daemon.state_of(good / "d") == "finalized"
    daemon.manager().CancelJob(dbus.UInt32(str(job).rpartition("/")[2]))
    properties = daemon.wait_job(job)
    assert properties["State"] == "canceled" and properties["ErrorName"] == ERROR + "Canceled"
    assert_answers(lower, daemon)
    lower.recover()
    wait_for(lambda: not daemon.workers(), "the worker to end")
    wait_for(lambda: daemon.overlay_states()["bad"] == "active", "the survey")
    wait_for(lambda: not os.path.lexists(bad / ".ovlfind"), "staging to be cleaned up")
    daemon.ctl("finalize", bad / "d").ok()
    assert daemon.state_of(bad / "d") == "finalized"


@pytest.mark.timeout(120)
def test_cancel_while_threads_hang(stage):
    """The worker itself says that it was canceled when only its threads hang, and ends without them."""
    lower, bad, _, daemon = stage
    lower.delay(30_000)
    job = daemon.finalize(bad / "d")
    wait_for(lambda: glob.glob(bad / ".ovlfind/*/tree"), "the new tree to be begun")
    lower.hang()
    wait_for(lower.is_held, "a thread to ask the lower for something")
    daemon.manager().CancelJob(dbus.UInt32(str(job).rpartition("/")[2]))
    properties = daemon.wait_job(job)
    assert lower.is_held()
    assert properties["State"] == "canceled" and properties["ErrorName"] == ERROR + "Canceled"
    assert "does not answer" in properties["ErrorMessage"]
    lower.recover()
    wait_for(lambda: not daemon.workers(), "the worker to end")
    daemon.restart()
    wait_for(lambda: not os.path.lexists(bad / ".ovlfind"), "staging to be cleaned up")
    daemon.ctl("finalize", bad / "d").ok()


@pytest.mark.timeout(120)
def test_stop(stage):
    """The daemon does not wait for ever; what is left is put in order at the next start."""
    lower, bad, _, daemon = stage
    hanging_job(lower, bad, daemon)
    assert daemon.stop() == 0
    assert lower.is_held()
    lower.recover()
    daemon.start()
    assert daemon.overlay_states()["bad"] == "active"
    wait_for(lambda: not os.path.lexists(bad / ".ovlfind"), "staging to be cleaned up")
    daemon.ctl("finalize", bad / "d").ok()


@pytest.mark.timeout(120)
def test_unmounted_meanwhile(stage):
    lower, bad, good, daemon = stage
    job = hanging_job(lower, bad, daemon)
    bad.close()
    properties = daemon.wait_job(job)
    assert properties["ErrorName"] == ERROR + "NotManaged"
    assert daemon.overlay_states() == {"bad": "absent", "good": "active"}
    daemon.ctl("finalize", good / "d").ok()
