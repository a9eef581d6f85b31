# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every benchmark needs around it."""

import contextlib
import shutil
import sys
import tempfile

from .env import enter_namespace, missing_privilege, run
from .scene import Scene

SKIPPED = 77  # for meson


@contextlib.contextmanager
def playground():
    """A tmpfs of the benchmark's own, in a mount namespace of its own; ends the program where that cannot be had."""
    if reason := missing_privilege():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    enter_namespace()
    base = tempfile.mkdtemp(prefix="ovlbench-")
    run("mount", "-t", "tmpfs", "-o", "mode=755,nr_inodes=0", "ovlbench", base)
    try:
        yield base
    finally:
        run("umount", "-l", base, check=False)
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def scene_in(base):
    scene = Scene(tempfile.mkdtemp(dir=base))
    try:
        yield scene
    finally:
        scene.close()
        shutil.rmtree(scene.dir, ignore_errors=True)
