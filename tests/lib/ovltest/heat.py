# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a daemon knows of how much directories are used."""

import os

import dbus

from .daemon import wait_for
from .tree import age, write

OVERLAY = "org.ovlfind1.Overlay"
NAMES = ("file", "other")
AUTOMATIC = {"Finalize": {"Automatic": "yes"}, "Watch": {}}
WATCH_ONLY = {"Watch": {}}


def build(scene, directories):
    source = scene.source()
    for d in directories:
        for name in NAMES:
            write(os.path.join(source, d, name))
    age(source)
    return source


def properties(daemon, name="soft"):
    return next(daemon.properties(path, OVERLAY) for n, path in daemon.manager().ListOverlays() if n == name)


def watched(daemon, name="soft", state="on"):
    return wait_for(lambda: (p := properties(daemon, name))["Watching"] == state and p, f"watching to be {state}")


def hot(daemon, overlay, value="opens"):
    """Opens (or heat) by path relative to the overlay."""
    listed = daemon.manager().ListHot("", dbus.UInt32(0))
    return {os.path.relpath(d["path"], overlay.point): int(d[value]) for d in listed}


def use(overlay, directory, times=30):
    """Never the same file twice in a row: the kernel makes one event of that."""
    for i in range(times):
        with open(overlay / os.path.join(directory, NAMES[i % 2]), "rb"):
            pass


def is_counted(daemon, overlay, directory, more_than=0):
    return wait_for(lambda: (n := hot(daemon, overlay).get(directory, 0)) > more_than and n, f"{directory} to be hot")


def finalized(daemon):
    return {str(d["path"]) for d in daemon.manager().ListDirectories("", dbus.Dictionary({"state": "finalized"}, "sv"))}


def is_settled(daemon):
    return daemon.properties("/org/ovlfind1", "org.ovlfind1.Manager")["NJobs"] == 0
