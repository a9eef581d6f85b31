# SPDX-License-Identifier: LGPL-2.1-or-later
"""A swap by the installed service under a real systemd: mounts of fstab and of mount units in a shared tree, services with
mount namespaces of their own, and the rights of the new superblock."""

import json
import os

import pytest

from ovltest.daemon import wait_for

PREPARE = """
for n in 1 2; do
        mkdir -p /srv/lower$n /srv/upper$n /ovl$n
        mount -t tmpfs lower /srv/lower$n
        mount -t tmpfs upper /srv/upper$n
        mkdir -p /srv/lower$n/d /srv/upper$n/u /srv/upper$n/w
        cd /srv/lower$n/d
        for i in 1 2 3 gone; do echo $i >f$i; done
        cp /bin/true setuid; chmod 4755 setuid
        cp /bin/true caps; setcap cap_net_raw+ep caps
        echo other >other; chown 1234:1235 other; chmod 600 other
        mknod null c 1 3; chmod 600 null
        chmod 1777 .
done
o=lowerdir=/srv/lowerN,upperdir=/srv/upperN/u,workdir=/srv/upperN/w
echo "ovl /ovl1 overlay $(echo $o | sed s/N/1/g),nosuid 0 0" >>/etc/fstab
printf '[Mount]\\nWhat=ovl\\nWhere=/ovl2\\nType=overlay\\nOptions=%s\\n' $(echo $o | sed s/N/2/g) >/etc/systemd/system/ovl2.mount
systemctl daemon-reload
systemctl start ovl1.mount ovl2.mount
for n in 1 2; do printf '[Overlay]\\nMountPoint=/ovl%s\\n[Finalize]\\nAutomatic=no\\n' $n >/etc/ovlfind/overlays.d/o$n.conf; done
"""
READER = """
cd /ovl1/d; exec 9<f2; i=0
while :; do
        { cat /ovl1/d/f1 && cat f3 && ls /ovl1; } >/dev/null 2>&1 || echo "$(date) $i" >>/run/failed
        i=$((i+1)); echo $i >/run/reads
done
"""
# Everything a mounter's capabilities are needed for: facts of the kernel in docs/remounting.md.
RIGHTS = """
cd /ovl{n}/d
rm fgone; ! test -e fgone; stat -c %t:%T /srv/upper{n}/u/d/fgone | grep -qx 0:0
chmod 666 null; echo >null; stat -c %F null | grep -q character
chown 1234 setuid; chmod 4711 setuid; stat -c %a setuid | grep -qx 4711
touch caps; getcap caps | grep -q cap_net_raw
setfattr -n trusted.test -v x f1; getfattr --only-values -n trusted.test f1 | grep -qx x
setpriv --reuid=1234 --regid=1235 --clear-groups sh -c 'echo more >>other; mkdir own; echo x >own/x; mv own moved'
stat -c %u:%g:%a other | grep -qx 1234:1235:600
stat -c %u moved/x | grep -qx 1234
mv /ovl{n}/d /ovl{n}/renamed; test -e /ovl{n}/renamed/f3; mv /ovl{n}/renamed /ovl{n}/d
"""


def mount_state(machine, unit):
    return machine.sh(f"systemctl show -P ActiveState {unit}").strip()


def device(machine, path, unit=None):
    enter = f"nsenter -t $(systemctl show -P MainPID {unit}) -m " if unit else ""
    return machine.sh(f"{enter}stat -c %d {path}").strip()


@pytest.mark.timeout(180)
def test_swap_by_the_installed_service(machine):
    machine.sh(PREPARE)
    with open(os.path.join(machine.root, "usr/local/bin/reader"), "w", encoding="ascii") as f:
        f.write("#!/bin/sh\n" + READER)
    machine.sh("chmod +x /usr/local/bin/reader; systemd-run --unit=follower -p PrivateTmp=yes /usr/local/bin/reader; "
               "systemd-run --unit=hermit -p MountFlags=private -p PrivateTmp=yes sleep infinity")
    machine.sh("systemctl enable --now ovlfind")
    wait_for(lambda: machine.sh("ovlfinctl list").count("refused") == 2, "both overlays")
    before = device(machine, "/ovl1")
    propagation = machine.sh("findmnt -no PROPAGATION,SOURCE,VFS-OPTIONS /ovl1").strip()
    assert device(machine, "/ovl1", "follower") == before == device(machine, "/ovl1", "hermit")
    for n in (1, 2):
        noted = machine.run("ovlfinctl", "remount", f"o{n}", "--method=swap", "--set=metacopy=on,redirect_dir=on", "--force").stderr
        assert "lacks redirect_dir=on,metacopy=on" in noted
        assert mount_state(machine, f"ovl{n}.mount") == "active"
        assert machine.sh(f"findmnt -no TARGET /ovl{n}").split() == [f"/ovl{n}"]
        assert "metacopy=on" in machine.sh(f"findmnt -no FS-OPTIONS /ovl{n}")
    assert machine.sh("findmnt -no PROPAGATION,SOURCE,VFS-OPTIONS /ovl1").strip() == propagation
    # Who receives mounts has the new one, who does not goes on with the old one.
    after = device(machine, "/ovl1")
    assert after != before
    assert device(machine, "/ovl1", "follower") == after
    assert device(machine, "/ovl1", "hermit") == before
    machine.sh("nsenter -t $(systemctl show -P MainPID hermit) -m cat /ovl1/d/f1")
    reads = int(machine.sh("cat /run/reads"))
    wait_for(lambda: int(machine.sh("cat /run/reads") or 0) > reads + 5, "the reader to go on")
    assert machine.sh("cat /run/failed 2>/dev/null || true") == ""
    for n in (1, 2):
        machine.sh(RIGHTS.format(n=n))
    wait_for(lambda: machine.sh("ovlfinctl list").count(" active ") == 2, "both overlays to be active")
    machine.sh("ovlfinctl finalize /ovl2/d && ovlfinctl is-finalized /ovl2/d")

    # The next boot is told of, and what stands there is still right.
    for n, where in ((1, "/etc/fstab"), (2, "/etc/systemd/system/ovl2.mount")):
        check = machine.run("ovlfinctl", "check", f"o{n}", check=False).stdout
        assert f"'{where}' lacks redirect_dir=on,metacopy=on" in check, check
        machine.sh(f"sed -i 's|upper{n}/u,|upper{n}/u,redirect_dir=on,metacopy=on,|' {where}; systemctl daemon-reload")
        checks = json.loads(machine.run("ovlfinctl", "check", "--json=short", f"o{n}", check=False).stdout)["checks"]
        assert [c["level"] for c in checks if c["id"] == "boot-entry"] == ["ok"]
    assert "draining" in machine.sh("ovlfinctl status o1").lower()
    machine.sh("systemctl stop follower hermit")
    for n in (1, 2):
        wait_for(lambda n=n: "draining" not in machine.sh(f"ovlfinctl status o{n}").lower(), "the old superblock to go")
        machine.sh(f"systemctl stop ovl{n}.mount")
        assert machine.sh(f"findmnt -no TARGET /ovl{n} || true") == ""
        machine.sh(f"systemctl start ovl{n}.mount; cat /ovl{n}/d/f1; test ! -e /ovl{n}/d/fgone")
        wait_for(lambda n=n: machine.sh(f"ls /srv/upper{n}").split() == ["u", "w"], "work directories to be removed")
    machine.sh("journalctl --sync")
    entry = machine.sh("journalctl -u ovlfind -o json OVLFIND_METHOD=swap | head -1")
    assert '"OVLFIND_PAUSE_USEC"' in entry and '"OVLFIND_DURATION_USEC"' in entry
