# SPDX-License-Identifier: LGPL-2.1-or-later
"""Installed and started as an administrator would, under a real systemd, system bus and journal."""

import json

import pytest

from ovltest.ctl import run_ctl
from ovltest.daemon import wait_for
from ovltest.machine import registered

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
# As if the one's lower were on a server; the other is not waited for at boot.
FSTAB = """
for n in net late; do
        mkdir -p /srv/upper/u-$n /srv/upper/w-$n /$n
        printf '[Overlay]\\nMountPoint=/%s\\n' $n >/etc/ovlfind/overlays.d/$n.conf
        o=lowerdir=/srv/lower,upperdir=/srv/upper/u-$n,workdir=/srv/upper/w-$n,metacopy=on,redirect_dir=on
        test $n = net && o=$o,_netdev || o=$o,nofail,x-systemd.before=ovlfind.service
        echo "ovl /$n overlay $o 0 0" >>/etc/fstab
done
printf '[Unit]\\nConflicts=net.mount late.mount remote-fs.target ovlfind.service\\n' >/etc/systemd/system/end.target
systemctl daemon-reload
systemctl reload ovlfind
"""
CONFIGURE = "sed s,^MountPoint=.*,MountPoint=/ovl, /usr/share/doc/ovlfind/example.conf >/etc/ovlfind/overlays.d/soft.conf"


def from_outside(machine):
    """ovlfinctl -M: the bus, the overlays and the paths are those of the container."""
    def box(*args, **kwargs):
        return run_ctl("--machine=box", *args, **kwargs)

    with registered("box", machine.pid):
        assert box("is-finalized", "/ovl/prog/lib").ok().out == "finalized\n"
        assert box("unfinalize", "/ovl/prog").ok().out.startswith("/ovl/prog unfinalized")
        assert box("finalize", "/ovl/prog").ok().out.startswith("/ovl/prog finalized")
        assert [o["name"] for o in box("list", "--json=short").ok().json["overlays"]] == ["soft"]
        # What only the machine itself can see is left out.
        here = {s["name"] for s in json.loads(machine.sh("ovlfinctl metrics --json=short"))["metrics"]}
        there = {s["name"] for s in box("metrics", "--json=short").ok().json["metrics"]}
        assert len(here - there) == 4 and all(n.startswith("ovlfind_upper_") for n in here - there)
        assert "has been" not in box("status", "soft").ok().out.partition("Jobs:")[2]


@pytest.mark.timeout(180)
def test_installed(machine):
    machine.sh(PREPARE + CONFIGURE)
    machine.sh("systemctl enable --now ovlfind")
    assert machine.show("ActiveState") == "active"
    assert machine.show("StatusText") == "1 overlay, 0 directories finalized, 0 jobs running"
    # A mount namespace of its own would hide the mounts it is about.
    assert len(set(machine.sh(f"readlink /proc/1/ns/mnt /proc/{machine.show('MainPID')}/ns/mnt").split())) == 1
    machine.sh(MOUNT)
    wait_for(lambda: " active " in machine.sh("ovlfinctl list"), "the overlay")
    machine.sh("ovlfinctl finalize /ovl/prog && ovlfinctl is-finalized /ovl/prog/lib")
    wait_for(lambda: "2 directories finalized, 0 jobs" in machine.show("StatusText"), "the status")

    entry = machine.journal("OVLFIND_PATH=/ovl/prog", "PRIORITY=5")[-1]
    assert (entry["OVLFIND_OVERLAY"], entry["OVLFIND_JOB"], entry["OVLFIND_METHOD"]) == ("soft", "1", "exchange")
    assert int(entry["OVLFIND_ENTRIES"]) > 0 and int(entry["OVLFIND_DURATION_USEC"]) > 0
    assert "/ovl/prog has been finalized" in machine.run("journalctl", "-x", f"MESSAGE_ID={entry['MESSAGE_ID']}").stdout

    machine.sh("systemctl reload ovlfind && systemctl service-log-level ovlfind debug")
    assert machine.sh("systemctl service-log-level ovlfind").strip() == "debug"

    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert "soft" in machine.run(*nobody, "ovlfinctl", "list").stdout
    assert machine.run(*nobody, "ovlfinctl", "unfinalize", "/ovl/prog", check=False).returncode == 5
    from_outside(machine)

    # After a crash it is there again, and after a clean end when somebody asks for it.
    pid = machine.show("MainPID")
    machine.sh("systemctl kill -s KILL --kill-whom=main ovlfind")  # all: fails while a worker is just ending
    wait_for(lambda: machine.show("NRestarts") == "1" and machine.show("ActiveState") == "active", "the restart")
    assert machine.show("MainPID") != pid
    machine.sh("systemctl stop ovlfind")
    assert machine.show("Result") == "success"
    wait_for(lambda: "1 overlay, 2 directories finalized" in machine.sh("ovlfinctl status"), "the survey")
    assert machine.sh("stat -c %a /var/lib/ovlfind").strip() == "700"
    assert not [e for e in machine.journal() if int(e.get("PRIORITY", 6)) <= 3 and e.get("_COMM") == "ovlfind"]

    mounts_of_fstab(machine)


def mounts_of_fstab(machine):
    """They are taken up when they appear, and when all ends the daemon ends before them."""
    machine.sh(FSTAB + "systemctl start remote-fs.target")
    assert machine.show("ActiveState", "net.mount") == "active"
    wait_for(lambda: machine.sh("ovlfinctl list").count(" active ") == 2, "the first")
    machine.sh("systemctl start late.mount")
    wait_for(lambda: machine.sh("ovlfinctl list").count(" active ") == 3, "the other one")
    machine.sh("systemctl start end.target")  # all at once, as at shutdown
    for unit in ("ovlfind.service", "net.mount", "late.mount"):  # end.target does not wait for them
        wait_for(lambda unit=unit: machine.show("ActiveState", unit) == "inactive", f"the end of {unit}")
    ended = int(machine.show("InactiveEnterTimestampMonotonic"))
    assert all(int(machine.show("ActiveExitTimestampMonotonic", f"{n}.mount")) >= ended > 0 for n in ("net", "late"))


@pytest.mark.timeout(180)
def test_blockers(machine):
    """The sandbox of the unit lets the daemon see what it has to, and the sandboxes of other services do not count, unless
    they keep mounts from spreading."""
    machine.sh(PREPARE + MOUNT + CONFIGURE)
    machine.sh("systemctl start ovlfind")
    wait_for(lambda: " active " in machine.sh("ovlfinctl list"), "the overlay")
    service = ["systemd-run", "-q", "-p", "Type=exec"]
    machine.run(*service, "--unit=spread", "-p", "PrivateTmp=yes", "sleep", "infinity")
    machine.run(*service, "--unit=alone", "-p", "MountFlags=private", "sleep", "infinity")
    machine.run(*service, "--unit=listens", "-p", "PrivateNetwork=yes", "python3", "-c",
                "import os, socket, time; os.chdir('/ovl'); s = socket.socket(socket.AF_UNIX); s.bind('s'); s.listen();"
                "os.chdir('/'); time.sleep(1e6)")
    pid = {name: int(machine.show("MainPID", name)) for name in ("spread", "alone", "listens")}

    def found():
        blockers = json.loads(machine.sh("ovlfinctl blockers soft --json=short"))["blockers"]
        return {(b.get("pid"), b["kind"], b["blocks"]) for b in blockers}

    wait_for(lambda: found() == {(pid["alone"], "mount", True), (pid["listens"], "socket", True)}, lambda: f"{found()} of {pid}")
    machine.sh("systemctl stop spread alone listens")
    assert found() == set()
