# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a job leaves behind for a while: staging, and old trees that somebody stands in."""

import contextlib
import os

from .daemon import wait_for
from .env import run

STAGING = ".ovlfind"
# For those who stand where they could change names, which they mostly do not here.
KEEP = {"Standing": "keep"}
OLD_TREE = ".ovlfind-old-"


def find(overlay, pattern):
    """Paths of what has such a name, without what is below it. find(1): os.walk does not get to the bottom of deep trees."""
    p = run("find", overlay.point, "-name", pattern, "-prune", "-print0", check=False)
    return sorted(path for path in p.stdout.split("\0") if path)


def old_trees(overlay):
    """Paths of the old trees beside their directories, anywhere on the overlay."""
    return find(overlay, OLD_TREE + "*")


def traces(overlay):
    """Paths of everything of ours on the overlay."""
    return find(overlay, STAGING + "*")


def await_kept(daemon, n=1, name="soft"):
    """Until the daemon says that it keeps n old trees."""
    wait_for(lambda: daemon.kept(name) == n, f"{n} old trees to be kept, not {daemon.kept(name)}")


def await_removed(overlay, daemon, name="soft"):
    """Until no old tree is kept; what was set aside because it collided may stay in staging."""
    wait_for(lambda: daemon.kept(name) == 0 and not old_trees(overlay), f"the old trees to go\n{traces(overlay)}")


def await_gone(overlay, daemon, name="soft"):
    """Until no old tree is kept and nothing of ours is left."""
    await_removed(overlay, daemon, name)
    wait_for(lambda: not traces(overlay), f"{traces(overlay)} to be cleaned up")


def kept_files(overlay):
    """Contents of the files that were set aside because they may be somebody's."""
    found = []
    for d, _, files in os.walk(overlay / STAGING):
        if "/kept" in d:
            for n in files:
                with open(os.path.join(d, n), "rb") as f:
                    found.append(f.read())
    return found


def surviving(overlay, content):
    """Paths at which a file with this content is found on the overlay, with our own directories."""
    found = []
    for d, _, files in os.walk(overlay.point):
        for n in files:
            path = os.path.join(d, n)
            with contextlib.suppress(FileNotFoundError):  # of ours, and just going
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as f:
                        if f.read() == content:
                            found.append(path)
    return found
