# SPDX-License-Identifier: LGPL-2.1-or-later
"""Installed and started as an administrator would, under a real systemd, system bus and journal."""

import json
import os
import shutil

import pytest

from ovltest.daemon import wait_for
from ovltest.machine import Machine

PREPARE = """
mkdir -p /srv/lower /srv/upper /ovl
mount -t tmpfs lower /srv/lower
mount -t tmpfs upper /srv/upper
mkdir -p /srv/lower/prog/lib /srv/upper/u /srv/upper/w
for i in 1 2 3; do echo $i >/srv/lower/prog/lib/f$i; done
"""
MOUNT = """
mount -t overlay -o lowerdir=/srv/lower,upperdir=/srv/upper/u,workdir=/srv/upper/w,metacopy=on,redirect_dir=on ovl /ovl
"""
CONFIGURE = "sed s,^MountPoint=.*,MountPoint=/ovl, /usr/share/doc/ovlfind/example.conf >/etc/ovlfind/overlays.d/soft.conf"


@pytest.fixture
def machine(scene):
    if not os.path.exists("/lib/systemd/systemd") or not shutil.which("meson"):
        pytest.skip("needs systemd and meson")
    m = scene.keep(Machine(scene.subdir("machine")))
    m.install()
    if not m.boot():
        with open(m.log, encoding="utf-8", errors="replace") as f:
            pytest.fail(f"systemd does not boot here:\n{f.read()}")
    return m


def journal(machine, *matches):
    machine.run("journalctl", "--sync")
    out = machine.run("journalctl", "-o", "json", "-u", "ovlfind", *matches).stdout
    return [json.loads(line) for line in out.splitlines()]


def show(machine, name):
    return machine.run("systemctl", "show", "-P", name, "ovlfind").stdout.strip()


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_installed(machine):
    machine.sh(PREPARE + CONFIGURE)
    machine.sh("systemctl enable --now ovlfind")
    assert show(machine, "ActiveState") == "active"
    assert show(machine, "StatusText") == "1 overlay, 0 directories finalized, 0 jobs running"
    # A mount namespace of its own would hide the mounts it is about.
    assert len(set(machine.sh(f"readlink /proc/1/ns/mnt /proc/{show(machine, 'MainPID')}/ns/mnt").split())) == 1
    machine.sh(MOUNT)
    wait_for(lambda: " active " in machine.sh("ovlfinctl list"), "the overlay")
    machine.sh("ovlfinctl finalize /ovl/prog && ovlfinctl is-finalized /ovl/prog/lib")
    wait_for(lambda: "2 directories finalized, 0 jobs" in show(machine, "StatusText"), "the status")

    entry = journal(machine, "OVLFIND_PATH=/ovl/prog", "PRIORITY=5")[-1]
    assert (entry["OVLFIND_OVERLAY"], entry["OVLFIND_JOB"], entry["OVLFIND_METHOD"]) == ("soft", "1", "exchange")
    assert int(entry["OVLFIND_ENTRIES"]) > 0 and int(entry["OVLFIND_DURATION_USEC"]) > 0
    assert "/ovl/prog has been finalized" in machine.run("journalctl", "-x", f"MESSAGE_ID={entry['MESSAGE_ID']}").stdout

    machine.sh("systemctl reload ovlfind && systemctl service-log-level ovlfind debug")
    assert machine.sh("systemctl service-log-level ovlfind").strip() == "debug"

    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert "soft" in machine.run(*nobody, "ovlfinctl", "list").stdout
    assert machine.run(*nobody, "ovlfinctl", "unfinalize", "/ovl/prog", check=False).returncode == 5

    # After a crash it is there again, and after a clean end when somebody asks for it.
    pid = show(machine, "MainPID")
    machine.sh("systemctl kill -s KILL ovlfind")
    wait_for(lambda: show(machine, "ActiveState") == "active" and show(machine, "MainPID") != pid, "the restart")
    machine.sh("systemctl stop ovlfind")
    assert show(machine, "Result") == "success"
    wait_for(lambda: "1 overlay, 2 directories finalized" in machine.sh("ovlfinctl status"), "the survey")
    assert machine.sh("stat -c %a /var/lib/ovlfind").strip() == "700"
    assert not [e for e in journal(machine) if int(e.get("PRIORITY", 6)) <= 3 and e.get("_COMM") == "ovlfind"]
