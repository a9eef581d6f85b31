# SPDX-License-Identifier: LGPL-2.1-or-later
"""What counts as removed from the lower: nothing that is out of reach, or that a directory still lists, and so `prune` leaves it."""

import errno
import os
import shutil

import pytest

from ovltest import assert_same, run, snapshot
from ovltest.tree import PROG as D
from ovltest.tree import write


def refused(daemon, overlay, *options):
    before = snapshot(overlay.upper.upper)
    result = daemon.ctl("prune", "soft", *options)
    assert result.code != 0, result
    assert_same(before, snapshot(overlay.upper.upper))
    return result.err


def test_an_unmounted_export_is_no_removal(scene, source):
    """The layer's directory without what is mounted upon it: the release is not there, and was not removed."""
    point = scene.subdir("export")
    write(os.path.join(point, "software/unrelated"))
    run("mount", "--bind", source, point)
    overlay = scene.overlay(point)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    run("umount", "-l", point)
    try:
        assert "it is not proved that" in refused(daemon, overlay)
        assert daemon.state_of(overlay / D) == "finalized"
    finally:
        run("mount", "--bind", source, point)
    assert daemon.ctl("prune", "soft").ok().out.count("nothing to do") == 1
    run("umount", point)


def test_an_empty_lower_is_no_removal(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    os.rename(os.path.join(source, "software"), source + ".away")
    assert "is empty" in refused(daemon, overlay)
    os.mkdir(os.path.join(source, "software"))
    write(os.path.join(source, "software/unrelated"))
    assert "another one than before" in refused(daemon, overlay)
    shutil.rmtree(os.path.join(source, "software"))
    os.rename(source + ".away", os.path.join(source, "software"))


@pytest.mark.parametrize("error", ("EIO", "ESTALE", "EACCES", "ETIMEDOUT"))
def test_an_error_is_no_removal(scene, source, lower, error):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    lower.invalidate()
    lower.fail(error, D)
    refused(daemon, overlay, "--force")
    lower.recover()
    assert daemon.ctl("prune", "soft").ok().out.count("nothing to do") == 1


@pytest.mark.parametrize("error", ("ELOOP", "ENAMETOOLONG", "ENOTDIR", "ENOENT"))
def test_an_error_of_one_name_is_no_removal(scene, source, error):
    """What the lower directory lists was not removed, though a lookup says what might mean that it is not there."""
    name = f"errno-{getattr(errno, error)}"
    for odd in (f"{D}/lib/{name}", f"software/{name}/one", f"software/{name}/deep/two"):
        write(os.path.join(source, odd))
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "software").ok()
    lower.invalidate()
    lower.fail("name:lookup")
    said = refused(daemon, overlay)
    assert f"lib/{name}" in said and (error == "ENOENT") == ("lists it" in said), said
    if error != "ENOENT":
        refused(daemon, overlay, "--force")
    before = snapshot(overlay.upper.upper)
    daemon.ctl("refresh", overlay / "software")
    assert_same(before, snapshot(overlay.upper.upper))
    lower.recover()
    assert daemon.ctl("prune", "soft").ok().out.count("nothing to do") == 1
    os.unlink(os.path.join(source, D, "lib", name))
    shutil.rmtree(os.path.join(source, "software", name))
    lower.invalidate()
    daemon.ctl("prune", "soft").ok()
    assert not os.path.lexists(overlay / f"{D}/lib/{name}") and not os.path.lexists(overlay / f"software/{name}")


def test_a_file_moved_into_a_removed_directory_is_no_removal(scene, source):
    """What it was made of is elsewhere in the lower, and listed there."""
    write(os.path.join(source, "elsewhere/errno-2"), b"content")
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    os.chown(overlay / "elsewhere/errno-2", 3, 3)
    os.rename(overlay / "elsewhere/errno-2", overlay / f"{D}/lib/moved")
    shutil.rmtree(os.path.join(source, D, "lib"))
    lower.invalidate()
    lower.fail("name:lookup")
    result = daemon.ctl("prune", "soft")
    assert "lists it" in result.err, result
    assert os.listdir(overlay.upper_path(f"{D}/lib")) == ["moved"]
    lower.recover()
    os.unlink(os.path.join(source, "elsewhere/errno-2"))
    write(os.path.join(source, "elsewhere/more"))
    lower.invalidate()
    daemon.ctl("prune", "soft").ok()
    assert not os.path.lexists(overlay.upper_path(f"{D}/lib"))
