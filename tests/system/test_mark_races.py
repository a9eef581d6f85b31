# SPDX-License-Identifier: LGPL-2.1-or-later
"""Method mark against users who rename, mount and watch in the one moment that counts, and against odd lower trees."""

import os

import dbus
import pytest

from ovltest import assert_same, run, snapshot
from ovltest.holders import Watches
from ovltest.tree import write


@pytest.fixture
def source(scene):
    top = scene.source()
    for a in ("a", "b"):
        for name in ("f", "sub/g"):
            write(os.path.join(top, "t", a, "d", name), f"{a}/{name}".encode())
    return top


@pytest.fixture
def daemon(scene, overlay):
    return scene.daemon(killer=True, soft=overlay)


def swap(overlay):
    """What was a is b now, and the other way round."""
    for old, new in (("a", "x"), ("b", "a"), ("x", "b")):
        os.rename(overlay / f"t/{old}", overlay / f"t/{new}")


def marked(overlay, path):
    try:
        return os.getxattr(overlay.upper_path(path), "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def next_hold(daemon, job):
    """Lets the held call go on, and waits for the one after it. False: the job has ended."""
    daemon.release()
    return daemon.held(job)


def test_a_directory_above_is_swapped_and_back(overlay, daemon):
    """Whichever two reads of the upper the swap lies between: redirects name what the directory is, not what stood at its
    path for a moment."""
    before = contents(snapshot(overlay / "t"))
    for n in range(1, 13):
        daemon.arm(n, call="getxattr", hold=True)
        job = daemon.finalize(overlay / "t/a/d", method="mark", depth=dbus.UInt32(0))
        assert daemon.held(job)
        swap(overlay)
        next_hold(daemon, job)
        swap(overlay)
        daemon.release(everything=True)
        daemon.wait_job(job)
        forget(daemon, overlay)
        assert before == contents(snapshot(overlay / "t")), n
        empty_upper(overlay)
        daemon.start()


def contents(tree):
    return {path: entry.get("content") for path, entry in tree.items()}


def forget(daemon, overlay):
    assert daemon.stop() == 0
    overlay.remount()


def empty_upper(overlay):
    """An empty upper again."""
    overlay.umount()
    run("find", overlay.upper.upper, "-mindepth", "1", "-delete")
    overlay.mount()


def test_a_lower_name_like_ours(overlay, daemon, source, lower):
    write(os.path.join(source, "t/a/d/.ovlfind/x"))
    lower.invalidate()
    overlay.remount()
    d = overlay / "t/a/d"
    before = snapshot(d)
    assert ".ovlfind/x" in before
    r = daemon.ctl("finalize", "--method=mark", "--depth=0", d)
    assert r.code == 1 and ".ovlfind" in r.err, r.err
    forget(daemon, overlay)
    assert_same(before, snapshot(d))


def test_staging_is_taken_for_a_left_one(overlay, daemon):
    """By a survey that comes between making and locking it."""
    daemon.arm(1, call="flock", hold=True)
    job = daemon.finalize(overlay / "t/a/d", method="mark", depth=dbus.UInt32(0))
    assert daemon.held(job)
    base = overlay / ".ovlfind"
    (name,) = os.listdir(base)
    os.rmdir(os.path.join(base, name))
    os.rmdir(base)
    daemon.release(everything=True)
    assert daemon.wait_job(job)["State"] == "done"
    assert marked(overlay, "t/a/d")


def test_renamed_while_it_is_asked_for(scene, overlay, daemon):
    """A watched directory whose redirect in memory is relative already: renaming it writes nothing, so that only what is in
    memory tells."""
    os.rename(overlay / "t/a/d", overlay / "t/moved")
    d = overlay / "t/moved"
    os.rename(os.path.join(d, "sub"), os.path.join(d, "sub1"))
    scene.keep(Watches(os.path.join(d, "sub1")))
    for n in range(1, 90, 2):
        daemon.arm(n, call="fanotify_mark", hold=True)
        job = daemon.finalize(d, method="mark", depth=dbus.UInt32(0))
        if not daemon.held(job):
            break
        name = next(e for e in os.listdir(d) if e.startswith("sub"))
        os.rename(os.path.join(d, name), os.path.join(d, f"sub{n + 1}"))
        daemon.release(everything=True)
        daemon.wait_job(job)
        assert not marked(overlay, "t/moved"), n
    else:
        raise AssertionError("the job never came to its end")
    assert n > 4
