# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's own NFS server and its client on one machine, and what they say about the requests between them."""

import os
from pathlib import Path

from .env import run
from .snapshot import snapshot, visible

EXPORT_OPTIONS = "ro,no_root_squash,no_subtree_check,insecure,fsid=7"
SQUASHED = EXPORT_OPTIONS.replace("no_root_squash", "root_squash")
HERE, ELSEWHERE = "127.0.0.1", "192.0.2.1"
TRACING = Path("/sys/kernel/tracing")
EVENT = TRACING / "events/ovlfind/answer"
NOENT = int.from_bytes((2).to_bytes(4, "big"), "little")  # nfserr_noent, as it goes over the wire


def seen(top):
    """What a user sees. NFSv4 shows the ACL of the server as an xattr, which no other file system can keep: overlayfs loses it
    with any copy-up, whoever caused it."""
    entries = visible(snapshot(top))
    for entry in entries.values():
        entry["xattrs"].pop("system.nfs4_acl", None)
    return entries


class NfsServer:
    """Exports a directory. For the whole machine: there is one."""

    def __init__(self, directory, options=EXPORT_OPTIONS):
        self.directory, self.options = directory, options
        os.makedirs("/etc/nfs.conf.d", exist_ok=True)
        Path("/etc/nfs.conf.d/test.conf").write_text("[nfsd]\nthreads=4\ngrace-time=10\nlease-time=10\nvers3=y\nvers4.2=y\n")
        self._write_exports()
        run("systemctl", "start", "rpcbind.service", timeout=120)
        run("systemctl", "restart", "nfs-server.service", timeout=300)
        self._count_answers()

    def _write_exports(self, client=HERE, options=None):
        Path("/etc/exports").write_text(f"{self.directory} {client}({options or self.options})\n")

    # What may happen to a server, and how it ends.

    def stop(self):
        run("systemctl", "stop", "nfs-server.service", timeout=300)

    def start(self):
        """As it was at first."""
        self._write_exports()
        run("systemctl", "start", "nfs-server.service", timeout=300)
        self._export_again()

    def deny(self):
        """EACCES: it is for others only."""
        self._write_exports(ELSEWHERE)
        self._export_again()

    def replace(self):
        """ESTALE: as after a reboot with another file system in its place."""
        self._write_exports(options=self.options.replace("fsid=7", "fsid=8"))
        self._export_again()

    def withdraw(self):
        run("exportfs", "-ua", timeout=120)
        run("exportfs", "-f", timeout=120)

    @staticmethod
    def _export_again():
        for action in ("-ra", "-f"):
            run("exportfs", action, timeout=120)

    @staticmethod
    def _count_answers():
        """Has the kernel count what its server answers to lookups, those within a compound or an OPEN as well."""
        if not (TRACING / "kprobe_events").exists():
            run("mount", "-t", "tracefs", "tracefs", TRACING)
        if not EVENT.exists():
            (TRACING / "kprobe_events").write_text("r64:ovlfind/answer nfsd_lookup status=$retval:u32\n")
            (EVENT / "trigger").write_text("hist:keys=status\n")
            (EVENT / "enable").write_text("1\n")

    @staticmethod
    def enoents():
        """How many lookups the server has answered with ENOENT, to whomever."""
        for line in (EVENT / "hist").read_text().splitlines():
            words = line.replace("{", " ").replace("}", " ").replace(":", " ").split()
            if words[:2] == ["status", str(NOENT)]:
                return int(words[words.index("hitcount") + 1])
        return 0

    def close(self):
        run("systemctl", "stop", "nfs-server.service", check=False, timeout=120)


class NfsMount:
    """A mount of what an NfsServer exports."""

    def __init__(self, server, point, version, options):
        self.server, self.point, self.version, self.options = server, str(point), version, options
        os.makedirs(self.point, exist_ok=True)
        self.mount()

    def mount(self):
        options = f"ro,vers={self.version},{self.options}" + (",nolock" if self.version == "3" else "")
        run("mount", "-t", "nfs", "-o", options, f"127.0.0.1:{self.server.directory}", self.point, timeout=120)

    def umount(self):
        run("umount", self.point, timeout=120)

    def operations(self):
        """Requests since it was mounted: a dict of operation to number."""
        result, is_ours, is_operation = {}, False, False
        for line in Path("/proc/self/mountstats").read_text().splitlines():
            if line.startswith("device "):
                is_ours, is_operation = f" mounted on {self.point} " in line, False
            elif line.strip() == "per-op statistics":
                is_operation = is_ours
            elif is_operation and ":" in line:
                name, numbers = line.split(":", 1)
                result[name.strip()] = int(numbers.split()[0])
        return {name: n for name, n in result.items() if n}

    def close(self):
        if os.path.ismount(self.point) and run("umount", self.point, check=False).returncode != 0:
            run("umount", "-f", "-l", self.point, check=False)
