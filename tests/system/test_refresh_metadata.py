# SPDX-License-Identifier: LGPL-2.1-or-later
"""Owner, mode, xattrs or ACL of lower files change, their content does not: a refresh brings that over, and copies no data."""

import os
import shutil

import pytest

from ovltest import assert_same, run, snapshot, visible
from ovltest.daemon import wait_for
from ovltest.tree import age, write

D = "soft"


def acl(path, entries):
    run("setfacl", "-m", entries, path)


CHANGES = {
    "mode": lambda p: os.chmod(p, 0o600),
    "set-id": lambda p: os.chmod(p, 0o6755),
    "no-set-id": lambda p: os.chmod(p, 0o700),
    "owner": lambda p: os.chown(p, 12345, 54321),
    "owner-of-set-id": lambda p: (os.chown(p, 12345, 54321), os.chmod(p, 0o4751)),
    "capability": lambda p: run("setcap", "cap_net_raw+ep", p),
    "owner-of-capable": lambda p: (os.chown(p, 12345, -1), run("setcap", "cap_net_raw+ep", p)),
    "xattr": lambda p: os.setxattr(p, "trusted.note", b"new"),
    "xattr-removed": lambda p: os.removexattr(p, "trusted.old"),
    "acl": lambda p: acl(p, "u:12345:r"),
    "acl-removed": lambda p: run("setfacl", "-b", p),
}


@pytest.fixture
def source(scene):
    top = scene.source()
    for name in (*CHANGES, "untouched"):
        path = write(os.path.join(top, D, "sub", name), os.urandom(50_000))
        os.chmod(path, 0o4755 if "set-id" in name else 0o644)
        os.setxattr(path, "trusted.old", b"old")
        if name == "owner-of-capable":
            run("setcap", "cap_net_raw+ep", path)
        if name == "acl-removed":
            acl(path, "u:12345:rw")
    age(top)
    return top


def change(source):
    for name, func in CHANGES.items():
        func(os.path.join(source, D, "sub", name))


def with_data(overlay):
    """Files of which data is in the upper."""
    found = set()
    for directory, _, names in os.walk(overlay.upper_path(D)):
        for name in names:
            try:
                os.getxattr(os.path.join(directory, name), "trusted.overlay.metacopy")
            except OSError:
                found.add(name)
    return found


def seen(top):
    """As everybody sees it, capabilities included."""
    directory = os.path.join(top, D, "sub")
    return visible(snapshot(os.path.join(top, D))), sorted(run("getcap", "-r", directory).stdout.replace(str(directory), "").splitlines())


@pytest.mark.parametrize("method", ["exchange", "mark"])
@pytest.mark.parametrize("lower", ["handles", "none"])
def test_no_data_is_copied(scene, source, lower, method):
    overlay = scene.overlay(source if lower == "handles" else scene.lower(source, timeout=0))
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", f"--method={method}", overlay / D).ok()
    inodes = {name: os.stat(overlay / f"{D}/sub/{name}").st_ino for name in CHANGES}
    change(source)
    plan = daemon.ctl("refresh", overlay / D, "--dry-run", "--json=short").ok().json["jobs"][0]["plan"]
    assert {os.path.basename(s["path"]) for s in plan} == set(CHANGES) and not any(s["bytes"] for s in plan)
    with open(overlay / f"{D}/sub/mode", "rb") as held:
        daemon.ctl("refresh", overlay / D).ok()
        assert os.fstat(held.fileno()).st_mode & 0o7777 == 0o600  # the very file, also for who had it open
    assert with_data(overlay) == set()
    assert seen(overlay.point) == seen(source)
    assert inodes == {name: os.stat(overlay / f"{D}/sub/{name}").st_ino for name in CHANGES}
    before = snapshot(overlay.upper.upper)
    daemon.ctl("refresh", overlay / D).ok()
    assert_same(before, snapshot(overlay.upper.upper))
    overlay.remount()
    assert seen(overlay.point) == seen(source)
    assert daemon.ctl("verify", "soft", "--json=short").ok().json["problems"] == []
    daemon.ctl("unfinalize", overlay / D).ok()
    assert seen(overlay.point) == seen(source)


def test_taken_up_by_itself(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"OnLowerChange": "refresh"}}))
    daemon.ctl("finalize", overlay / D).ok()
    change(source)
    assert daemon.stop() == 0
    daemon.start()
    wait_for(lambda: seen(overlay.point) == seen(source), "the refresh")
    assert with_data(overlay) == set()


def test_data_that_is_here_stays(scene, source):
    """Copied up before: it is not read once more either."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", "--data=all", overlay / D).ok()
    inodes = {name: os.stat(overlay.upper_path(f"{D}/sub/{name}")).st_ino for name in CHANGES}
    change(source)
    daemon.ctl("refresh", overlay / D).ok()
    assert seen(overlay.point) == seen(source)
    assert inodes == {name: os.stat(overlay.upper_path(f"{D}/sub/{name}")).st_ino for name in CHANGES}


def test_what_is_somebodys_stays(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    os.chmod(overlay / f"{D}/sub/owner", 0o640)
    os.setxattr(overlay / f"{D}/sub/mode", "trusted.mine", b"mine")
    before = {n: os.stat(overlay / f"{D}/sub/{n}") for n in ("owner", "mode")}
    change(source)
    for _ in range(2):
        err = daemon.ctl("refresh", overlay / D).ok().err
        assert f"{D}/sub/owner" in err and f"{D}/sub/mode" in err
        for name, st in before.items():
            assert os.stat(overlay / f"{D}/sub/{name}") == st
    assert os.getxattr(overlay / f"{D}/sub/mode", "trusted.mine") == b"mine"


def test_killed(scene):
    """Before any step: the next start brings the rest over, and nothing counts as somebody's."""
    top = scene.source()
    path = write(os.path.join(top, D, "file"), os.urandom(10_000), 0o644)
    os.setxattr(path, "trusted.old", b"old")
    age(top)
    overlay = scene.overlay(top)
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": {"OnLowerChange": "keep"}}))
    daemon.ctl("finalize", overlay / D).ok()
    stages = set()
    for n in range(1, 60):
        os.chown(path, 1000 + n, 2000 + n)
        os.chmod(path, 0o600 + n % 8)
        os.setxattr(path, "trusted.note", str(n).encode())
        daemon.arm(n)
        daemon.ctl("refresh", overlay / D)
        struck = daemon.struck()
        wait_for(lambda: all(j["State"] in ("done", "failed", "canceled") for j in daemon.jobs()), "the job to end")
        result = daemon.ctl("refresh", overlay / D).ok()
        assert "stays as it is" not in result.err, (n, result.err)
        assert_same(visible(snapshot(os.path.join(top, D))), visible(snapshot(overlay / D)))
        assert with_data(overlay) == set()
        if not struck:
            break
        stages.add(struck)
    else:
        pytest.fail("it never came to an end")
    assert len(stages) > 3, stages
