# SPDX-License-Identifier: LGPL-2.1-or-later
"""An overlay mount under test."""

import os

from .env import beside_others, mount, run, umount

DEFAULTS = {"metacopy": "on", "redirect_dir": "on", "index": "off"}


def escape_layer(path):
    return str(path).replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def escape_value(path):
    return str(path).replace("\\", "\\\\").replace(",", "\\,")


class OverlayMount:
    """lowers: uppermost first; upper: an Upper, or None for a read-only overlay. An option set to None is left out."""

    def __init__(self, point, lowers, upper, mounted=True, **options):
        self.point = str(point)
        self.lowers = [str(p) for p in lowers]
        self.upper = upper
        self.options = {**DEFAULTS, **options}
        os.makedirs(self.point, exist_ok=True)
        if mounted:
            self.mount()

    def __truediv__(self, name):
        return os.path.join(self.point, name)

    def mount(self):
        options = ["lowerdir=" + ":".join(map(escape_layer, self.lowers))]
        if self.upper is not None:
            options += ["upperdir=" + escape_value(self.upper.upper), "workdir=" + escape_value(self.upper.work)]
        options += [k if v is True else f"{k}={v}" for k, v in self.options.items() if v is not None]
        beside_others(mount, "overlay", self.point, "overlay", 0, ",".join(options))  # with index=on

    def umount(self):
        beside_others(umount, self.point)

    def remount(self):
        """Unmounts and mounts anew: nothing is cached any more. The lower's own caches stay."""
        self.umount()
        self.mount()

    def is_mounted(self):
        return os.path.ismount(self.point)

    def upper_path(self, name=""):
        return os.path.join(self.upper.upper, name)

    def swap_workdirs(self):
        """Names of the work directories of swaps."""
        return sorted(n for n in os.listdir(self.upper.point) if n.startswith("work."))

    def close(self):
        while os.path.ismount(self.point):
            if run("umount", self.point, check=False).returncode != 0:
                run("umount", "-l", self.point, check=False)
