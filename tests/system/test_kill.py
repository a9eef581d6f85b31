# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL of the worker, or of the daemon, between any two of the changes a job makes: every path works, the next start
continues or cleans up, and nothing stays in staging. All gaps are tried, not a sample
(OVLFIND_SWEEP=N: every Nth)."""

import os
import shutil

import pytest

from ovltest import assert_same, gaps, snapshot, visible
from ovltest.daemon import wait_for
from ovltest.env import SWEEP, redirect_max
from ovltest.tree import write

MOST = 400  # gaps; a job of this size has far fewer
FEWER = 150  # of a refresh


def build(top):
    """Small, with one of each: file, symlink, child directory."""
    write(os.path.join(top, "a"), mode=0o4755)
    write(os.path.join(top, "b"))
    os.symlink("a", os.path.join(top, "link"))
    write(os.path.join(top, "sub", "c"))
    write(os.path.join(top, "deleted"))


@pytest.fixture
def stage(scene):
    return gaps.stage(scene, build, MOST)


def leftovers(overlay):
    return [os.path.join(d, n) for d in ("", "t") for n in os.listdir(overlay / d) if n.startswith(".ovlfind")]


def await_jobs(daemon):
    """The next daemon goes on with the job of the last one."""
    wait_for(lambda: all(j["State"] in ("done", "failed", "canceled") for j in daemon.jobs()), "the jobs to end")


def check_recovered(scene, lower, overlay, daemon, d, before):
    """After the next start. The state is one of those a user can make sense of, and tells the truth."""
    await_jobs(daemon)
    wait_for(lambda: not leftovers(overlay), f"{leftovers(overlay)} to be cleaned up")
    assert_same(before, snapshot(d))
    state = daemon.state_of(d)
    reached = scene.absent_lookups(lower, [d, os.path.join(d, "sub")], 2).enoent
    assert state in ("merged", "copied-up", "finalized")
    assert reached == (0 if state == "finalized" else 4), state
    daemon.ctl("finalize", d).ok()
    assert scene.absent_lookups(lower, [d, os.path.join(d, "sub")], 2).enoent == 0
    assert_same(before, snapshot(d))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["worker", "daemon"])
@pytest.mark.parametrize("verb", ["finalize", "unfinalize"])
def test_killed_between_any_two_steps(scene, stage, verb, victim, capsys):
    lower, overlay, daemon = stage
    struck = []
    for n in range(0, MOST, SWEEP):
        d = overlay / f"t/d{n:03}"
        os.unlink(os.path.join(d, "deleted"))
        write(os.path.join(d, "local"))
        if verb == "unfinalize":
            daemon.ctl("finalize", d).ok()
        before = snapshot(d)
        daemon.arm(n, parent=victim == "daemon")
        result = daemon.ctl(verb, d)
        at = daemon.struck()
        if at is None:
            result.ok()
            break
        # A worker that died is replaced, so the job may well have succeeded; a daemon that died has nobody to say so.
        assert result.code != 0 or victim == "worker", f"killed at {at}, but reported as done"
        struck.append(at)
        in_between = snapshot(d)
        if victim == "daemon":
            daemon.process.wait(100)
            daemon.start()
        else:
            daemon.restart()
        try:
            assert_same(before, in_between, ignore={"nlink"})
            check_recovered(scene, lower, overlay, daemon, d, before)
        except Exception as e:
            raise AssertionError(f"after {victim} was killed at {at}: {e}") from e
    else:
        raise AssertionError(f"{MOST} gaps are not enough")
    wait_for(lambda: redirect_max() == 256, "redirect_max to be set back")  # others may need it raised just now
    with capsys.disabled():
        print(f"\n{verb}, {victim} killed in each of {len(struck)} gaps")
    assert len(struck) * SWEEP > 40
    daemon.stop()
    overlay.remount()
    assert all(os.path.exists(overlay / f"t/d{n:03}/sub/c") for n in range(MOST))


def change(lower):
    """A release that is fixed, extended and cut."""
    write(os.path.join(lower, "a"), b"fixed", mode=0o755)
    os.unlink(os.path.join(lower, "b"))
    os.unlink(os.path.join(lower, "link"))
    write(os.path.join(lower, "link/inside"))
    shutil.rmtree(os.path.join(lower, "sub"))
    write(os.path.join(lower, "sub"))
    write(os.path.join(lower, "new/deep/file"))


def remove(lower):
    shutil.rmtree(lower)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["worker", "daemon"])
@pytest.mark.parametrize(("verb", "change_lower", "least"), [("refresh", change, 60), ("prune", remove, 20)], ids=["refresh", "prune"])
def test_a_release_that_changes(scene, verb, change_lower, least, victim, capsys):
    """The lower changes below what is finalized: killed while it is taken up, it is taken up in the end."""
    source = scene.source()
    for n in range(FEWER):
        build(os.path.join(source, f"t/d{n:03}"))
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=(overlay, {"CopyUp": {"Workers": "2"}}))
    daemon.ctl("finalize", overlay / "t").ok()
    # What a daemon does that comes back is the same in all gaps.
    struck, step = [], SWEEP if victim == "worker" else 4 * SWEEP
    for n in range(0, FEWER, step):
        d, lower = overlay / f"t/d{n:03}", os.path.join(source, f"t/d{n:03}")
        change_lower(lower)
        daemon.arm(n, parent=victim == "daemon")
        daemon.ctl(verb, d)
        at = daemon.struck()
        if at is None:
            break
        struck.append(at)
        if victim == "daemon":
            daemon.process.wait(100)
            daemon.start()
            await_jobs(daemon)
        try:
            if os.path.lexists(d):
                daemon.ctl(verb, d).ok()
            if verb == "refresh":
                assert_same(visible(snapshot(lower)), visible(snapshot(d)))
            assert os.path.lexists(d) == os.path.lexists(lower)
            wait_for(lambda: not leftovers(overlay), f"{leftovers(overlay)} to be cleaned up")
        except Exception as e:
            raise AssertionError(f"after {victim} was killed at {at} ({n}): {e}") from e
    else:
        raise AssertionError(f"{FEWER} gaps are not enough")
    daemon.ctl("prune", "soft").ok()
    problems = daemon.ctl("verify", "soft", "--json=short").json["problems"]
    assert problems == [], struck
    with capsys.disabled():
        print(f"\n{verb}, {victim} killed in each of {len(struck)} gaps")
    assert len(struck) * step > least
