# SPDX-License-Identifier: LGPL-2.1-or-later
"""This machine's own system, copied on write and booted with systemd as PID 1 in namespaces of its own: what is installed
and started in it is gone with it."""

import contextlib
import json
import os
import subprocess
import time

from .env import BUILD, mount, run, spawn

# What a system in a namespace must not do to the kernel it shares with others.
MASKED = ["systemd-sysctl.service", "systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
          "systemd-udev-trigger.service", "systemd-modules-load.service", "systemd-timesyncd.service", "systemd-binfmt.service",
          "systemd-remount-fs.service", "systemd-random-seed.service", "systemd-pstore.service", "networking.service",
          "ssh.service", "cron.service"]

INIT = """set -e
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755 dev dev
for d in null zero full random urandom tty fuse; do mknod -m 666 dev/$d c $(stat -c '%Hr %Lr' /dev/$d); done
mkdir dev/pts dev/shm .outside
mount -t devpts devpts dev/pts
mount -t tmpfs shm dev/shm
ln -s /proc/self/fd dev/fd
pivot_root . .outside
umount -l /.outside
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target
"""


@contextlib.contextmanager
def registered(name, pid, kind="container"):
    """As if systemd-machined had started what has this PID 1: sd-bus reads no more than this of it."""
    mount("machines", "/run", "tmpfs", 0, "mode=755")
    try:
        os.makedirs("/run/systemd/machines")
        with open(f"/run/systemd/machines/{name}", "w", encoding="ascii") as f:
            f.write(f"NAME={name}\nCLASS={kind}\nLEADER={pid}\n")
        yield
    finally:
        run("umount", "/run")


class Machine:
    def __init__(self, directory):
        self.root = os.path.join(directory, "root")
        self.log = os.path.join(directory, "log")
        self.pid = self._unshare = None
        for d in ("root", "u", "w"):
            os.mkdir(os.path.join(directory, d))
        mount("machine", self.root, "overlay", 0, f"lowerdir=/,upperdir={directory}/u,workdir={directory}/w")
        self._prepare()

    def _prepare(self):
        units = os.path.join(self.root, "etc/systemd/system")
        for unit in MASKED:
            path = os.path.join(units, unit)
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink("/dev/null", path)
        with open(os.path.join(self.root, "etc/fstab"), "w", encoding="ascii"):
            pass
        os.makedirs(os.path.join(self.root, "var/log/journal"), exist_ok=True)

    def install(self):
        """What `meson install` does with the build under test."""
        run("meson", "install", "-C", BUILD, "--no-rebuild", env={**os.environ, "DESTDIR": self.root})
        run("chroot", self.root, "journalctl", "--update-catalog")

    def boot(self, timeout=150):
        """False when there is no systemd after that time."""
        with open(self.log, "wb") as log:
            self._unshare = spawn("unshare", "-m", "-p", "-u", "-i", "-n", "-C", "-f", "--kill-child", "--propagation", "private", "sh",
                                  "-c", INIT, "init", self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._unshare.poll() is None:
            self.pid = self._find_init()
            if self.pid and self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                return True
            time.sleep(0.2)
        return False

    def _find_init(self):
        pid = self._unshare.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            children = f.read().split()
        for child in children:
            with open(f"/proc/{child}/comm", encoding="ascii") as f:
                if f.read() == "systemd\n":
                    return int(child)
        return None

    def run(self, *args, **kwargs):
        return run("nsenter", "-t", self.pid, "-a", *args, **kwargs)

    def sh(self, script, **kwargs):
        """What a shell script prints."""
        return self.run("sh", "-ec", script, **kwargs).stdout

    def show(self, name, unit="ovlfind"):
        """A property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def journal(self, *matches, unit="ovlfind"):
        """The entries of a unit, each as a dictionary."""
        self.run("journalctl", "--sync")
        out = self.run("journalctl", "-o", "json", "-u", unit, *matches).stdout
        return [json.loads(line) for line in out.splitlines()]

    def close(self):
        if self._unshare:  # it ignores SIGTERM, and takes its child along
            self._unshare.kill()
            self._unshare.wait(20)
        run("umount", "-l", self.root, check=False)
