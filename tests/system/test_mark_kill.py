# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL of a worker that marks directories, between any two of its changes: every path works, the next start cleans up,
and a repeated job brings it to the end. Redirects that a crash of an older program left relative are mended."""

import os

import pytest

from ovltest import assert_same, gaps, snapshot
from ovltest.daemon import wait_for
from ovltest.env import SWEEP
from ovltest.oldtree import traces
from ovltest.tree import write

MOST = 80  # gaps; a job of this size has far fewer


def build(top):
    write(os.path.join(top, "a"), mode=0o4755)
    os.symlink("a", os.path.join(top, "link"))
    write(os.path.join(top, "sub", "c"))


@pytest.fixture
def stage(scene):
    return gaps.stage(scene, build, MOST)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_between_any_two_steps(scene, stage, capsys):
    lower, overlay, daemon = stage
    struck = []
    for n in range(0, MOST, SWEEP):
        d = overlay / f"t/d{n:03}"
        before = snapshot(d)
        daemon.arm(n, parent=True)
        daemon.ctl("finalize", "--method=mark", d)
        if not daemon.struck():
            break
        struck.append(daemon.struck())
        daemon.kill()
        assert_same(before, snapshot(d))
        daemon.start()
        wait_for(lambda: not traces(overlay), "staging to be cleaned up")
        assert_same(before, snapshot(d))
        both = [d, os.path.join(d, "sub")]
        for path in both:
            reached = scene.absent_lookups(lower, path, 2).enoent
            assert reached == (0 if daemon.state_of(path) == "finalized" else 2), (path, daemon.struck())
        os.rename(os.path.join(d, "a"), os.path.join(d, "b"))
        os.rename(os.path.join(d, "b"), os.path.join(d, "a"))
        before[""]["mtime"] = os.stat(d).st_mtime_ns
        daemon.ctl("finalize", "--method=mark", d).ok()
        assert scene.absent_lookups(lower, both, 2).enoent == 0
        assert_same(before, snapshot(d))
        daemon.ctl("unfinalize", d).ok()
        assert_same(before, snapshot(d))
    else:
        raise AssertionError("the job never came to its end")
    with capsys.disabled():
        print(f"\n{len(struck)} gaps: {' '.join(struck)}")
    assert SWEEP > 1 or any("xattr" in s for s in struck)


def test_relative_redirects_are_mended(scene, stage):
    """Below an opaque directory nothing resolves them; what they are relative to is on the directory itself."""
    _, overlay, daemon = stage
    d = overlay / "t/d000"
    before = snapshot(d)
    daemon.ctl("finalize", "--method=mark", "--depth=0", d).ok()
    write(os.path.join(d, "made/here"))
    before = snapshot(d)
    daemon.stop()
    overlay.umount()
    for name in ("a", "sub"):
        os.setxattr(overlay.upper_path(f"t/d000/{name}"), "trusted.overlay.redirect", name.encode())
    overlay.mount()
    daemon.start()
    assert_same(before, snapshot(d))
    assert daemon.state_of(d) == "finalized"
