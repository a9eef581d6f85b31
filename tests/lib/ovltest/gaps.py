# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sweeps: a worker is killed after its first change, the next one after its second, until one survives."""

import os

from .tree import age


def stage(scene, build, n):
    """A lower, an overlay and its daemon, which has a killer. For each gap t/d000, t/d001 …, as build(path) makes them."""
    source = scene.source()
    for i in range(n):
        build(os.path.join(source, "t", f"d{i:03}"))
    age(source)
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    # Every thread has a directory of its own in staging, and more of them add nothing but more of the same gaps.
    daemon = scene.daemon(start=False, soft=(overlay, {"CopyUp": {"Workers": "2"}}))
    daemon.use_killer()
    return lower, overlay, daemon.start()
