# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a container cannot be reached. That it can is seen by test_service.py, which boots one; hosts are in tests/ctl/test_host.py."""

import subprocess

import pytest

from ovltest.ctl import EXIT_NO_DAEMON, run_ctl
from ovltest.env import spawn
from ovltest.machine import registered

# Says so when it has a /run of its own, and nothing in it.
INIT = "mount -t tmpfs run /run && echo ready && exec sleep infinity"


@pytest.fixture
def container(world):
    p = spawn("unshare", "-m", "-p", "-n", "-f", "--kill-child", "--mount-proc", "sh", "-c", INIT, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    with open(f"/proc/{p.pid}/task/{p.pid}/children", encoding="ascii") as f:
        yield int(f.read().split()[0])
    p.kill()  # it ignores SIGTERM, and takes its child along
    p.wait(20)
    p.stdout.close()


@pytest.mark.parametrize("kind, uid, advice", [
    ("container", 0, "no system bus runs in there: is dbus installed"), ("container", 65534, "only root may enter a container"),
    ("vm", 0, "is it a virtual machine? Then use --host=")])
def test_why_not(container, kind, uid, advice):
    with registered("box", container, kind):
        r = run_ctl("-Mbox", "list", uid=uid)
    assert (r.code, r.out, len(r.err.splitlines())) == (EXIT_NO_DAEMON, "", 1)
    assert r.err.startswith("ovlfinctl: cannot list the overlays: no connection to the bus of machine 'box': ") and advice in r.err
