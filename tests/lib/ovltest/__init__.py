# SPDX-License-Identifier: LGPL-2.1-or-later
"""Helpers of the whole-system tests: a private world of mounts, a counting lower, a private bus, the real programs."""

from .bus import PrivateBus
from .ctl import CtlResult, run_ctl
from .daemon import Daemon
from .env import BUILD, ROOT, binary, enter_namespace, missing_privilege, run
from .lower import CountingLower, Counts
from .overlay import OverlayMount
from .readers import Readers
from .scene import Scene
from .snapshot import assert_same, diff, snapshot, visible
from .uppers import UPPERS, Upper

__all__ = [
    "BUILD", "ROOT", "UPPERS", "CountingLower", "Counts", "CtlResult", "Daemon", "OverlayMount", "PrivateBus", "Readers",
    "Scene", "Upper", "assert_same", "binary", "diff", "enter_namespace", "missing_privilege", "run", "run_ctl", "snapshot",
    "visible",
]
