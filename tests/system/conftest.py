# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every test runs as root in a mount namespace of its own, on a file system of its own: nothing it mounts, and no loop device
it uses, outlives the run, even when that is killed."""

import os
import shutil
import sys
import tempfile

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))

from ovltest import Scene, enter_namespace, missing_privilege, run  # noqa: E402
from ovltest.env import can_mount_beneath, tmpfs_keeps_user_xattrs  # noqa: E402
from ovltest.fakedaemon import Fake  # noqa: E402
from ovltest.machine import Machine  # noqa: E402
from ovltest.tree import PROG, odd_entries, release  # noqa: E402


def pytest_collection_modifyitems(items):
    """What takes long begins first, lest the others wait for it at the end."""
    items.sort(key=lambda item: not (item.get_closest_marker("slow") or item.get_closest_marker("first")))


def pytest_runtest_setup(item):
    if item.get_closest_marker("beneath") and not can_mount_beneath():
        pytest.skip("this kernel cannot mount beneath another mount")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hands out tests one by one: whole batches, and one process gets all that takes long."""
    from xdist.scheduler import LoadScheduling

    class OneByOne(LoadScheduling):
        def _send_tests(self, node, num):
            super()._send_tests(node, min(num, 2))

    return OneByOne(config, log)


def is_ci():
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def mount_image(point):
    """A new ext4 in a sparse file that goes with the mount."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="ovltest-") as image:
        os.truncate(image.name, 8 << 30)
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-I", "512", image.name)
        run("mount", "-o", "loop,noatime", image.name, point)
    os.rmdir(os.path.join(point, "lost+found"))


@pytest.fixture(scope="session")
def world():
    """The file system all scenes of this run live in: a tmpfs, or where that has no user.* xattrs, ext4."""
    reason = missing_privilege()
    if reason:
        # In CI a skipped test is a test that did not run, and nobody would notice.
        (pytest.fail if is_ci() else pytest.skip)(f"whole-system tests cannot run: {reason}")
    enter_namespace()
    base = tempfile.mkdtemp(prefix="ovltest-")
    if tmpfs_keeps_user_xattrs():
        run("mount", "-t", "tmpfs", "-o", "size=4g,mode=755", "ovltest", base)
    else:
        mount_image(base)
    yield base
    run("umount", "-l", base, check=False)
    os.rmdir(base)


@pytest.fixture
def scene(world, request):
    directory = tempfile.mkdtemp(prefix="t", dir=world)
    os.chmod(directory, 0o755)
    s = Scene(directory)
    try:
        yield s
    finally:
        try:
            s.close()
        finally:
            shutil.rmtree(directory, ignore_errors=True)


# What a test file gets by itself; one with another tree in mind has a fixture `source` of its own.

@pytest.fixture
def source(scene):
    """A directory to be the lower: a release, and entries of every kind."""
    top = scene.source()
    release(os.path.join(top, PROG))
    odd_entries(os.path.join(top, PROG, "odd"))
    return top


@pytest.fixture
def lower(scene, source):
    return scene.lower(source)


@pytest.fixture
def overlay(scene, lower):
    return scene.overlay(lower)


@pytest.fixture
def daemon(scene, overlay, request):
    if request.node.get_closest_marker("killer"):
        return scene.daemon(killer=True, soft=(overlay, {"CopyUp": {"Workers": "2"}}))
    return scene.daemon(soft=overlay)


@pytest.fixture
def fake(scene):
    """A daemon with a worker that touches no file."""
    return Fake(scene)


@pytest.fixture
def machine(scene):
    """What was built, installed on a system that has booted; not started."""
    if not os.path.exists("/lib/systemd/systemd") or not shutil.which("meson"):
        (pytest.fail if is_ci() else pytest.skip)("needs systemd and meson")
    m = scene.keep(Machine(scene.subdir("machine")))
    m.install()
    if not m.boot():
        with open(m.log, encoding="utf-8", errors="replace") as f:
            pytest.fail(f"systemd does not boot here:\n{f.read()}")
    return m


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the daemon said."""
    report = (yield).get_result()
    s = item.funcargs.get("scene") if hasattr(item, "funcargs") else None
    if report.failed and s:
        for daemon in s.daemons:
            report.sections.append(("ovlfind log", daemon.log()[-20_000:]))
