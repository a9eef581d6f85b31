# SPDX-License-Identifier: LGPL-2.1-or-later
"""What people did before: copy everything up by touching it, list it, and mount anew."""

from .env import run


def finalize_by_hand(overlay, directory):
    """directory: below the overlay's mount point. On a stock kernel this copies everything up and stops no lookup."""
    path = overlay / directory
    run("chown", "-R", "-h", "root:root", path, timeout=900)
    run("ls", "-lR", path, timeout=900)
    overlay.remount()
