# SPDX-License-Identifier: LGPL-2.1-or-later
"""Method mark: directories are finalized where they stand, one level at a time; what is in use stays as it is, with the
reason; nothing that users do to entries before, meanwhile or after makes any of them lead elsewhere."""

import os

import pytest

from ovltest import assert_same, snapshot
from ovltest.holders import OpenFile, Shell
from ovltest.tree import odd_entries, release, write

D = "software/prog"


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, D))
    odd_entries(os.path.join(top, D, "odd"))
    return top


def directories_below(top):
    return [d for d, _, _ in os.walk(top)]


def reason(daemon, path):
    return daemon.ctl("status", path, "--json=short").ok().json["directories"][0].get("reason", "")


def test_a_tree_and_back(scene, lower, overlay, daemon):
    d = overlay / D
    before = snapshot(d)
    inode = os.stat(os.path.join(d, "lib", "libpart0.so.1.0")).st_ino
    daemon.ctl("finalize", "--method=mark", d).ok()
    assert_same(before, snapshot(d))
    assert scene.absent_lookups(lower, directories_below(d), 5).enoent == 0
    assert daemon.state_of(d) == "finalized" and daemon.state_of(overlay / "software") != "finalized"
    assert os.stat(os.path.join(d, "lib", "libpart0.so.1.0")).st_ino == inode
    assert not [n for n in os.listdir(overlay.point) if n.startswith(".ovlfind")]
    daemon.stop()
    overlay.remount()
    assert_same(before, snapshot(d))
    assert scene.absent_lookups(lower, directories_below(d), 5).enoent == 0
    daemon.start()
    os.unlink(os.path.join(d, "bin", "prog-wrapper"))
    os.rename(os.path.join(d, "lib", "python3"), os.path.join(d, "moved"))
    write(os.path.join(d, "lib", "local"))
    changed = snapshot(d)
    daemon.ctl("unfinalize", d).ok()
    assert_same(changed, snapshot(d))
    assert daemon.state_of(d) in ("merged", "copied-up")
    write(os.path.join(scene.sources[0] if hasattr(scene, "sources") else lower.source, D, "lib", "added"))
    lower.invalidate()
    overlay.remount()
    assert os.path.exists(os.path.join(d, "lib", "added"))
