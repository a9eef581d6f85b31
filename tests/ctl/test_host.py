# SPDX-License-Identifier: LGPL-2.1-or-later
"""ovlfinctl and the daemon of another host: a stand-in for ssh runs the real bridge here, against the private bus, which
ovlfinctl itself is not told of. What only root can show, containers, is in tests/system/test_container.py."""

import json
import os
import signal
import subprocess

import pytest

from ovltest.env import binary
from test_ctl import FAILURE, NOT_MANAGED, OK, UNREACHABLE, USAGE, lines, wait_for_job

SSH = """#!/bin/sh
echo "$@" >>{log}
[ "$1" = -xT ] || exit 2
while [ "$1" != -- ]; do shift; done
host=$2; shift 2
case $host in
gone) echo "ssh: Could not resolve hostname gone: Name or service not known" >&2; exit 255 ;;
bare) echo "bash: line 1: $1: command not found" >&2; exit 127 ;;
esac
exec "$@" --bus-path={bus}
"""


class Host:
    """ovlfinctl on a machine whose own bus is none."""

    def __init__(self, ctl):
        self.ctl, self.point, self.log = ctl, ctl.point, ctl.directory / "ssh.log"
        folder = ctl.directory / "bin"
        folder.mkdir()
        (folder / "ssh").write_text(SSH.format(log=self.log, bus=ctl.bus.address))
        (folder / "ssh").chmod(0o755)
        self.env = {"PATH": f"{folder}:{os.environ['PATH']}", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/dev/null"}

    def __call__(self, *args, **kwargs):
        return self.ctl(*args, **{"env": self.env, **kwargs})

    def calls(self):
        return lines(self.log.read_text())


@pytest.fixture
def host(ctl):
    return Host(ctl)


def test_verbs(host):
    assert host("status").code == UNREACHABLE, "the own bus is none"
    r = host("--host=root@web1", "list", "--no-legend")
    assert r.code == OK and "soft" in r.out
    assert host.calls() == ["-xT -- root@web1 systemd-stdio-bridge"]
    assert f"{host.point}/quick finalized: 61 entries" in host("-H", "web1", "finalize", host.point / "quick").out
    assert json.loads(host("-Hweb1:2222", "jobs", "--json=short").out)["jobs"][0]["state"] == "done"
    assert host.calls()[-1] == "-xT -p 2222 -- web1 systemd-stdio-bridge"


def test_paths_are_those_of_the_host(host):
    """They are not looked up here; what is here is not mistaken for what is there."""
    r = host("-Hweb1", "finalize", f"/{host.point}/./fail-NotManaged/")
    assert r.code == NOT_MANAGED and f"'/{host.point}/./fail-NotManaged/'" in r.err
    assert json.loads(host("-Hweb1", "jobs", "--json=short").out)["jobs"][0]["path"] == f"{host.point}/fail-NotManaged"
    for verb in ("finalize", "status", "check", "blockers", "is-finalized", "directories", "remount"):
        for path in ("./quick", f"{host.point}/quick/../slow"):
            r = host("-Hweb1", verb, path, cwd=host.point)
            assert (r.code, r.out, len(lines(r.err))) == (USAGE, "", 1)
            assert f"'{path}': with --host= and --machine= a path is absolute" in r.err
    assert not host.log.read_text().count("bridge") > 2, "nothing was asked"


def test_no_worker_of_this_machine(host):
    """No worker of this machine stands in for the daemon of the host."""
    host.ctl.stop()
    r = host("-Hweb1", "check", "/")
    assert (r.code, r.out) == (UNREACHABLE, "") and "ovlfind of host 'web1' cannot be reached" in r.err


@pytest.mark.parametrize("args", [
    ["verify", "--offline", "--upper=/u", "--lower=/l", "/"], ["finalize", "--offline", "--upper=/u", "--lower=/l", "/"],
    ["unfinalize", "--offline", "--reset", "--upper=/u", "--lower=/l", "/"]])
@pytest.mark.parametrize("where", ["--host=web1", "--machine=box"])
def test_offline_is_of_this_machine(bus, args, where):
    r = bus(where, *args)
    assert (r.code, r.out, len(lines(r.err))) == (USAGE, "", 1)
    assert "run it where they are" in r.err


@pytest.mark.parametrize("args", [["-Hweb1", "-Mbox"], ["-Hweb1", "--address=unix:path=/x"], ["-H", ""], ["-M", ""], ["-H"]])
def test_usage(bus, args):
    r = bus("list", *args)
    assert (r.code, r.out, len(lines(r.err))) == (USAGE, "", 1)


def test_why_not(host, tmp_path):
    """What ssh says is shown, and what has to work is said after it."""
    for name, said in (("gone", "Could not resolve"), ("bare", "command not found")):
        r = host(f"-H{name}", "list", "--json=short")
        assert (r.code, r.out) == (UNREACHABLE, "")
        ssh, ours = lines(r.err)
        assert said in ssh and ours.startswith(f"ovlfinctl: cannot list the overlays: no connection to the bus of host '{name}': ")
        assert f"'ssh {name} systemd-stdio-bridge --version' has to work" in ours
    r = host("-Hweb1", "list", env={**host.env, "PATH": str(tmp_path)})
    assert r.code == UNREACHABLE and "install it (package openssh-client)" in r.err
    r = host("-M", "no-such-box", "list")
    assert r.code == UNREACHABLE and "no container of that name runs here: 'machinectl list'" in r.err
    r = host("-M", "no/name", "list")
    assert r.code == UNREACHABLE and "it is written [USER@]NAME" in r.err
    r = host("-M", "me@no-such-box", "list", env={**host.env, "PATH": str(tmp_path)})
    assert r.code == UNREACHABLE and "no program 'systemd-run'" in r.err


def test_interrupt_cancels(host):
    """Ctrl-C goes to ssh as well, which takes the connection along; the cancel arrives nevertheless."""
    p = subprocess.Popen([binary("ovlfinctl"), "-Hweb1", "finalize", host.point / "hang"], env={**host.ctl.env, **host.env},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_job(host.ctl, "running")
    os.killpg(p.pid, signal.SIGINT)
    out, err = p.communicate(timeout=20)
    assert (p.returncode, out) == (FAILURE, "")
    assert lines(err)[-1] == "ovlfinctl: canceled the jobs; 'ovlfinctl --host=web1 jobs' shows how they end"
    assert wait_for_job(host.ctl, "canceled")
    assert len(host.calls()) == 2


def test_the_connection_is_lost(host):
    p = subprocess.Popen([binary("ovlfinctl"), "-Hweb1", "finalize", host.point / "hang"], env={**host.ctl.env, **host.env},
                         stderr=subprocess.PIPE, text=True)
    wait_for_job(host.ctl, "running")
    children = subprocess.run(["pgrep", "-P", str(p.pid)], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, err = p.communicate(timeout=20)
    assert p.returncode == FAILURE and "lost the connection" in err
    assert wait_for_job(host.ctl, "running"), "it goes on"
