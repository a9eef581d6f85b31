# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian package of this tree, built once for a run, and what a later version of it would be."""

import os
import shutil
from pathlib import Path

from .env import ROOT, run



def left_out(folder, names):
    """Builds and other leftovers."""
    return [n for n in names if n in (".git", "__pycache__", ".pytest_cache", ".hypothesis") or
            (Path(folder) == ROOT and n.startswith("build"))]


class Package:
    def __init__(self, directory):
        self.directory = Path(directory)
        source = self.directory / "source"
        shutil.copytree(ROOT, source, ignore=left_out, symlinks=True)
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LC_ALL": "C.UTF-8", "DEB_BUILD_OPTIONS": "nocheck parallel=2"}
        self.log = run("dpkg-buildpackage", "-us", "-uc", "-b", "-Pnocheck", cwd=source, env=env, timeout=400).stdout
        shutil.rmtree(source)
        self.deb = next(p for p in self.directory.glob("ovlfind_*.deb"))
        self.changes = next(self.directory.glob("*.changes"))

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

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def put(machine, path):
    """Copies a file to the machine; returns its path there."""
    target = f"/var/tmp/{os.path.basename(path)}"
    shutil.copy(path, machine.root + target)
    return target
