# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two overlays of the same layers, the same random operations through both; the directories of one are finalized, unfinalized,
refreshed and mounted anew all the while. Whatever is asked of them, both answer alike (ovltest/differential.py).

OVLFIND_EXAMPLES sets how many examples are run, OVLFIND_SEED which ones."""

import os
import subprocess
import sys

import pytest

from ovltest import ROOT, snapshot
from ovltest.twins import Twins

EXAMPLES = int(os.environ.get("OVLFIND_EXAMPLES", "2000"))
SEED = int(os.environ.get("OVLFIND_SEED", "1"))
# Side by side, since a worker mostly waits: for late events after an exchange, for the kernel to take back watches.
UPPERS = ["tmpfs"] * 8 + ["ext4-256", "ext4-512", "xfs", "btrfs"]


def start(world, upper, seed):
    command = ["unshare", "-mpf", "--kill-child", "--mount-proc", sys.executable, "-m", "ovltest.differential",
               f"--seed={seed}", f"--examples={max(EXAMPLES // len(UPPERS), 1)}", f"--upper={upper}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "lib"), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": world}
    return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


@pytest.mark.first
@pytest.mark.slow
@pytest.mark.timeout(300 + EXAMPLES)
def test_both_answer_alike(world):
    processes = [start(world, upper, SEED * 1000 + i) for i, upper in enumerate(UPPERS)]
    try:
        said = [p.communicate()[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
    failed = [f"{p.args}\n{text}" for p, text in zip(processes, said) if p.returncode != 0]
    assert not failed, "\n\n".join(failed)


LAYER = {"d/a": ("file", "owner"), "d/hard": ("hard", "plain"), "d/e/b": ("link", "plain"), "f/c": ("file", "acl")}


@pytest.fixture
def twins(scene):
    return scene.keep(Twins(scene.upper("tmpfs").point, scene.source(), [LAYER]))


def test_allowed_differences(twins):
    """What docs/architecture.md lists is all that tells them apart, and is so indeed."""
    worked_on, left_alone = (side.overlay.point for side in twins.sides)
    twins.do("chmod", ("", "d"))  # both have it in the upper: what is merged there is a matter of marks
    directory, file = (os.stat(os.path.join(worked_on, p)) for p in ("d", "f/c"))
    for path in ("d", "f"):
        assert twins.ask("finalize", path, HARD_LINKS="break")[-1]["name"] == "None"
    twins.add("d/e")
    twins.compare()
    seen, expected = snapshot(os.path.join(worked_on, "d")), snapshot(os.path.join(left_alone, "d"))
    assert os.stat(os.path.join(worked_on, "d")).st_ino != directory.st_ino
    assert os.stat(os.path.join(worked_on, "f/c")).st_ino == file.st_ino
    assert [os.stat(os.path.join(top, "d")).st_nlink for top in (worked_on, left_alone)] == [3, 1]
    assert [entries["hard"]["nlink"] for entries in (seen, expected)] == [1, 2]
    assert expected.keys() - seen.keys() == {"e/added-to-the-lower-1"}
    for top in (worked_on, left_alone):
        os.close(os.open(os.path.join(top, "f/c"), os.O_RDWR))
    assert os.stat(os.path.join(worked_on, "f/c")).st_mtime > os.stat(os.path.join(left_alone, "f/c")).st_mtime
    os.utime(os.path.join(worked_on, "f/c"), ns=(file.st_atime_ns, file.st_mtime_ns))
    twins.ask("unfinalize")
    assert twins.hidden() == []
    twins.compare()


def test_a_difference_is_seen(twins):
    """The comparison itself: each property of an entry counts."""
    path = os.path.join(twins.sides[0].overlay.point, "f/c")
    for line, change in {"'f/c': mode": lambda: os.chmod(path, 0o600), "'f/c': uid": lambda: os.chown(path, 1, 0),
                         "'f/c': mtime": lambda: os.utime(path, (1, 1)), "'f/c': size": lambda: os.truncate(path, 1),
                         "'f/c': xattrs": lambda: os.setxattr(path, "trusted.more", b""), "'f': mtime": lambda: os.unlink(path),
                         "'f/c': is gone": lambda: None}.items():
        change()
        with pytest.raises(AssertionError, match=line):
            twins.compare()
