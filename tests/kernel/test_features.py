# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this kernel has of what kernels differ in, for docs/kernels.md. Which answer it is depends on the kernel; each of the system
tests that needs one asks the same way."""

import pytest

from ovltest.env import (can_mount_beneath, handles_need_not_open, overlay_takes_any_path, overlay_takes_descriptors,
                         tmpfs_keeps_user_xattrs)

FEATURES = {
    "mounts beneath another mount": (can_mount_beneath, "no: a swap covers the old mount, if `CoverOld=yes` allows it"),
    "layers of any path in a swap": (overlay_takes_any_path, "no: refused with commas, or more than 255 bytes for all lower layers"),
    "a layer in a path of more than 255 bytes in a swap": (overlay_takes_descriptors, "no: refused"),
    "marked directories are told from merged ones on btrfs": (handles_need_not_open, "no: what is marked there stays *pending*"),
    "`user.*` xattrs in a tmpfs": (tmpfs_keeps_user_xattrs, "no: an upper in a tmpfs cannot take such files"),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_can_be_asked_for(feature, record_result):
    has, instead = FEATURES[feature]
    record_result({"feature": feature, "has": has(), "instead": instead})
