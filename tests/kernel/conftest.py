# SPDX-License-Identifier: LGPL-2.1-or-later
"""These tests have a machine for themselves: a guest of tests/kernels, with the package installed. They mount where a user
would, and ask the service that systemd runs."""

import json
import os
import sys
import time
from contextlib import contextmanager

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))

from ovltest import Scene, run  # noqa: E402
from ovltest.nfs import NfsMount, NfsServer  # noqa: E402
from ovltest.overlay import OverlayMount  # noqa: E402
from ovltest.results import write_record  # noqa: E402
from ovltest.tree import age  # noqa: E402

EXPORT = "/srv/export"
CONFIGURATION = "/etc/ovlfind/overlays.d/ovl.conf"


def pytest_configure():
    if not os.path.exists("/srv/ovlfind/options"):
        pytest.exit("these tests change the whole machine: sudo tests/kernels runs them in guests", 2)


class Site:
    """An overlay with an upper of its own on a lower that is NFS, both at places of their own."""

    def __init__(self, scene, server, version, options):
        self.server = server
        self.nfs = scene.keep(NfsMount(server, "/mnt/nfs", version, options))
        self.overlay = scene.keep(OverlayMount("/mnt/ovl", [self.nfs.point], scene.upper("ext4-512")))

    def fresh(self):
        """As after a reboot: mounts both again, with nothing cached."""
        self.overlay.umount()
        self.nfs.umount()
        run("sync")
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3\n")
        self.nfs.mount()
        self.overlay.mount()

    @contextmanager
    def measure(self, step=None, entries=None):
        """Counts the requests meanwhile; yields a dict that has them afterwards. Both stay mounted meanwhile. With the name of a step
        it is recorded for docs/kernels.md."""
        result = {"version": self.nfs.version, "options": self.nfs.options, "step": step}
        operations, enoents, begin = self.nfs.operations(), self.server.enoents(), time.monotonic()
        yield result
        result["seconds"] = round(time.monotonic() - begin, 1)
        result["enoents"] = self.server.enoents() - enoents
        result["operations"] = {name: n - operations.get(name, 0) for name, n in self.nfs.operations().items()
                                if n != operations.get(name, 0)}
        result["requests"] = sum(result["operations"].values())
        if entries:
            result["entries"] = entries
        if step:
            write_record(result)

    def renew(self, upper):
        """Nothing is copied up any more."""
        self.overlay.umount()
        self.overlay.upper = upper
        self.overlay.mount()
        self.fresh()


class Service:
    """The installed service."""

    @staticmethod
    def start(text):
        """With this configuration of the overlay; returns when it manages it."""
        with open(CONFIGURATION, "w", encoding="ascii") as f:
            f.write(text)
        run("systemctl", "start", "ovlfind", timeout=120)
        deadline = time.monotonic() + 120
        while " active " not in run("ovlfinctl", "list").stdout:
            assert time.monotonic() < deadline, run("ovlfinctl", "list").stdout
            time.sleep(0.2)

    @staticmethod
    def stop():
        run("systemctl", "stop", "ovlfind", timeout=120)

    @staticmethod
    def ctl(*args):
        return run("ovlfinctl", *args, timeout=900)

    def close(self):
        self.stop()
        run("systemctl", "reset-failed", "ovlfind", check=False)
        os.unlink(CONFIGURATION)
        run("rm", "-rf", "/var/lib/ovlfind")


@pytest.fixture
def record_result():
    return write_record


@pytest.fixture
def scene(tmp_path):
    s = Scene(tmp_path)
    yield s
    s.close()


@pytest.fixture
def export():
    """An empty directory to be exported."""
    run("rm", "-rf", EXPORT)
    os.makedirs(EXPORT)
    return EXPORT


@pytest.fixture
def site(scene, export, request):
    """Needs a fixture `release` of the test file, which fills the export; parameters: NFS version, mount options, and options of the
    export if not the usual ones."""
    request.getfixturevalue("release")
    age(export)
    version, options, *export_options = request.param
    return Site(scene, scene.keep(NfsServer(export, *export_options)), version, options)


@pytest.fixture
def service(site, scene):  # pylint: disable=unused-argument
    """Ends before the mounts do."""
    s = Service()
    os.makedirs(os.path.dirname(CONFIGURATION), exist_ok=True)
    return scene.keep(s)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the service said."""
    report = (yield).get_result()
    if report.failed:
        log = run("journalctl", "-b", "-u", "ovlfind", "-n", "60", "--no-pager", "-o", "short-monotonic", check=False)
        report.sections.append(("journal of ovlfind", log.stdout))
