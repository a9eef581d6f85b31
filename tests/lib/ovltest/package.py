# SPDX-License-Identifier: LGPL-2.1-or-later
"""The packages of this tree, built once for a run, and what a later version of the Debian one would be."""

import os
import re
import shutil
from pathlib import Path

from .env import ROOT, run

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LC_ALL": "C.UTF-8"}
# What systems with rpm define, and Debian's rpm does not. The build is the one that the Debian package was made from, so that
# only what the spec file wants otherwise is compiled anew.
MACROS = r"""
%meson meson configure $DEBIAN_BUILD --prefix=%{_prefix}
%meson_build ninja -C $DEBIAN_BUILD
%meson_install DESTDIR=%{buildroot} meson install -C $DEBIAN_BUILD --no-rebuild --quiet
%systemd_post() if [ $1 -eq 1 ]; then systemctl --no-reload preset %*; fi
%systemd_preun() if [ $1 -eq 0 ]; then systemctl --no-reload disable --now %*; fi
%systemd_postun_with_restart() systemctl daemon-reload; if [ $1 -ge 1 ]; then systemctl try-restart %*; fi
"""


def rpm(*args):
    """What rpm says, without looking at what is installed here."""
    return run("rpm", *args, env=ENVIRONMENT).stdout


def left_out(folder, names):
    """Builds and other leftovers."""
    return [n for n in names if n in (".git", "__pycache__", ".pytest_cache", ".hypothesis") or
            (Path(folder) == ROOT and n.startswith("build"))]


class Package:
    COMMAND = ["dpkg-buildpackage", "-us", "-uc", "-b"]

    def __init__(self, directory):
        self.directory = Path(directory)
        self.source = self.directory / "source"
        shutil.copytree(ROOT, self.source, ignore=left_out, symlinks=True)
        env = {**ENVIRONMENT, "DEB_BUILD_OPTIONS": "nocheck parallel=2"}
        self.log = run(*self.COMMAND, "-Pnocheck", cwd=self.source, env=env, timeout=400).stdout
        self.deb = next(p for p in self.directory.glob("ovlfind_*.deb"))
        self.changes = next(self.directory.glob("*.changes"))

    def files(self):
        """What the Debian package holds but for documentation, where other systems look for it."""
        names = [line.split()[5].removeprefix(".") for line in run("dpkg-deb", "-c", self.deb).stdout.splitlines()]
        names = [re.sub("^/lib/", "/usr/lib/", n).removesuffix(".gz") for n in names if not n.endswith("/")]
        return {n for n in names if not n.startswith("/usr/share/doc/")}

    def lintian(self):
        """What it says, a line each."""
        p = run("lintian", "--allow-root", self.changes, check=False, timeout=120)
        return (p.stdout + p.stderr).splitlines()

    def later(self, version):
        """The same as another version."""
        tree = self.directory / "later"
        run("dpkg-deb", "-R", self.deb, tree)
        control = tree / "DEBIAN" / "control"
        text = control.read_text(encoding="utf-8")
        old = next(line for line in text.splitlines() if line.startswith("Version:"))
        control.write_text(text.replace(old, f"Version: {version}"), encoding="utf-8")
        deb = self.directory / f"later_{version}.deb"
        run("dpkg-deb", "--root-owner-group", "-b", tree, deb)
        return deb

    def rpm(self):
        """Path of what ovlfind.spec makes of a tarball."""
        top = self.directory / "rpmbuild"
        top.mkdir()
        (top / "macros").write_text(f"%_topdir {top}\n{MACROS}", encoding="utf-8")
        spec = self.source / "ovlfind.spec"
        name = rpm("-q", "--qf", "%{NAME}-%{VERSION}", "--specfile", spec)
        run("tar", "-czf", top / f"{name}.tar.gz", "--exclude=debian", "--exclude=obj-*", f"--transform=s,^\\.,{name},", "-C", self.source, ".")
        env = {**ENVIRONMENT, "DEBIAN_BUILD": next(self.source.glob("obj-*"))}
        run("rpmbuild", "--nodeps", f"--load={top}/macros", f"--define=_sourcedir {top}", "-bb", spec, env=env, timeout=200)
        return next(top.glob("RPMS/*/*.rpm"))

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def put(machine, path):
    """Copies a file to the machine; returns its path there."""
    target = f"/var/tmp/{os.path.basename(path)}"
    shutil.copy(path, machine.root + target)
    return target
