# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a job leaves behind for a while: staging, and old trees that somebody stands in."""

import contextlib
import os

from .daemon import wait_for
from .env import run
from .holders import Shell
from .tree import age, write

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


def kept_by_path(overlay):
    """Path -> content of each file, or target of each symlink, that was set aside because it may be somebody's."""
    found = {}
    for d, dirs, files in os.walk(overlay / STAGING):
        for path in (os.path.join(d, n) for n in dirs + files if "/kept" in d):
            if os.path.islink(path):
                found[path] = os.fsencode(os.readlink(path))
            elif not os.path.isdir(path):
                found[path] = content(path)
    return found


def kept_files(overlay):
    return list(kept_by_path(overlay).values())


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


# What the tests of kept trees have in common: a shell stands in D of an overlay while that is finalized.

P, D = "p", "p/d"
ALICE, BOB = 1000, 1001


def make_source(scene):
    """The lower: D with files, directories, homes of two users, and a directory beside it."""
    top = scene.source()
    for i in range(1, 4):
        write(os.path.join(top, D, f"f{i}"))
        write(os.path.join(top, D, "sub", f"g{i}"))
    write(os.path.join(top, D, "a", "x"), b"A")
    write(os.path.join(top, D, "b", "x"), b"B")
    write(os.path.join(top, P, "beside", "file"))
    for name, uid in (("alice", ALICE), ("bob", BOB)):
        home = os.path.join(top, D, "home", name)
        write(os.path.join(home, "f"))
        for path in (home, os.path.join(home, "f")):
            os.chown(path, uid, uid)
    os.mkdir(os.path.join(top, D, "tmp"))
    os.chmod(os.path.join(top, D, "tmp"), 0o1777)
    age(top)
    return top


def occupant(scene, overlay, daemon):
    """stand(directory, uid): a shell that stands there, through a finalize of D."""
    def stand(directory=D, uid=None, verb="finalize"):
        shell = scene.keep(Shell(overlay / directory, uid))
        daemon.ctl(verb, overlay / D).ok()
        await_kept(daemon)
        return shell
    return stand


def content(path):
    with open(path, "rb") as f:
        return f.read()


def arrives(path, what=None):
    wait_for(lambda: os.path.lexists(path), what or f"{path} to arrive", 5, 0.002)


def leave(shell, overlay, daemon):
    """The shell ends; the daemon notices and removes the old tree."""
    shell.close()
    await_gone(overlay, daemon)
