# SPDX-License-Identifier: LGPL-2.1-or-later
"""The power fails while directories are finalized, refreshed and undone, and somebody works in them. Each write to the disk of the
upper is recorded in its order (writelog.py); the disk as it was at random moments is then what the next boot finds. Not shown: a
disk that loses what it said was flushed, or part of a sector; the boot itself. btrfs of Linux 6.1 loses a name now and then that was
synced, also where nobody finalizes anything: there, what the file system has lost may be lost, and nothing else."""

import contextlib
import os
import random
import subprocess

import pytest

from ovltest import assert_same, run, snapshot
from ovltest.daemon import wait_for
from ovltest.oldtree import STAGING, traces
from ovltest.overlay import OverlayMount
from ovltest.promises import Writer
from ovltest.tree import age, write
from ovltest.uppers import make_image
from ovltest.writelog import Cuts, LoggedDisk, seed_of

CUTS = int(os.environ.get("OVLFIND_CUTS") or "10")
SEED = os.environ.get("OVLFIND_SEED") or "1"
JOBS = 24  # until the recording ends
DIRECTORIES = [f"t/d{i}" for i in range(4)]
DISK, TOP = "/mnt/cut/disk", "/mnt/cut/ovl"
ADDED = "added"  # how names begin that the lower got later


class Upper:
    """On a disk that is a file, or a device; the daemon's state is there as well."""

    def __init__(self, source):
        run("mount", "-o", ("loop," if os.path.isfile(source) else "") + "nodiscard", source, DISK)
        self.upper, self.work, self.state = (os.path.join(DISK, n) for n in ("upper", "work", "state"))
        for directory in (self.upper, self.work, self.state):
            os.makedirs(directory, exist_ok=True)

    @staticmethod
    def close():
        """Workers of the daemon may take a moment to end."""
        wait_for(lambda: run("umount", DISK, check=False).returncode == 0, f"{DISK} to be unmounted")


@pytest.fixture
def space(tmp_path):
    """A directory for images: /tmp may be in memory."""
    path = f"/var/tmp/cuts-{tmp_path.name}"
    os.makedirs(path)
    for point in (DISK, TOP):
        os.makedirs(point, exist_ok=True)
    yield path
    run("rm", "-rf", path)


@pytest.fixture
def source(scene):
    top = scene.source()
    for directory in DIRECTORIES:
        for i in range(6):
            write(os.path.join(top, directory, f"lower{i}"))
        write(os.path.join(top, directory, "sub", "deep"), mode=0o4755)
        os.symlink("lower1", os.path.join(top, directory, "link"))
    age(top)
    return top


@contextlib.contextmanager
def machine(scene, device, source):
    """What is there from boot to power cut: the disk, the overlay, the daemon (which is yielded with it, not started)."""
    with contextlib.ExitStack() as stack:
        upper = Upper(device)
        stack.callback(upper.close)
        overlay = OverlayMount(TOP, [source], upper)
        stack.callback(overlay.close)
        daemon = scene.daemon(start=False, soft=overlay)
        daemon.state = upper.state
        stack.callback(daemon.stop)
        yield overlay, daemon


def seen(overlay):
    """What nobody has changed: all but the writer's files and what is new."""
    mine = ("w0", "w1", "w2", "w3", "lower0", ".scratch", ".ovlfind", ADDED)
    entries = snapshot(overlay / "t", without=mine)
    for entry in entries.values():
        if isinstance(entry["content"], list):  # of a directory
            entry["content"] = [n for n in entry["content"] if not n.startswith(mine)]
            entry["mtime"] = None
    return entries


def is_kept(path):
    """What nobody may delete: it may be somebody's."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.basename(path) == STAGING and all("kept" in os.listdir(os.path.join(path, n)) for n in os.listdir(path))
    return False


def read_file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def work(daemon, overlay, source, dice, disk):
    """Jobs, one after the other, each with whatever result. Returns how many were done."""
    done = 0
    for n in range(JOBS):
        directory = dice.choice(DIRECTORIES)
        verb = dice.choice(("finalize", "finalize", "refresh", "unfinalize"))
        if verb == "refresh":
            write(os.path.join(source, directory, f"{ADDED}{n}"))
        disk.mark(f"{verb}:{directory}")
        job = daemon.start_ctl(verb, overlay / directory)
        try:
            job.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            job.kill()
            job.communicate()
        done += job.returncode == 0
    return done


def record(scene, image, log, source, dice):
    """Returns (what nobody changed, the writer's model, how many jobs were done)."""
    disk = LoggedDisk(image, log)
    try:
        with machine(scene, disk.device, source) as (overlay, daemon):
            before = seen(overlay)
            daemon.start()
            files = {f"{d}/lower0": read_file(overlay / f"{d}/lower0") for d in DIRECTORIES}
            disk.mark("begin")
            writer = Writer(overlay.point, DIRECTORIES, files, random.Random(dice.random()), lambda n: disk.mark(f"step:{n}"))
            writer.start()
            try:
                done = work(daemon, overlay, source, dice, disk)
            finally:
                writer.close()
            disk.mark("end")
    finally:
        disk.close()
    return before, writer.model, done


def after_the_cut(scene, image, source, before, wrong, forgets):
    """The next boot. wrong(): what is amiss with promises; forgets: the file system may have lost some by itself, but not more.
    Returns (how many were open before the daemon looked, and afterwards)."""
    with machine(scene, image, source) as (overlay, daemon):
        assert_same(before, seen(overlay), ignore={"nlink"})
        unkept = wrong(overlay)
        places = {os.path.relpath(os.path.join(d, n), overlay.upper.upper) for d, _, names in os.walk(overlay.upper.upper) for n in names}
        daemon.start()
        wait_for(lambda: all(j["State"] in ("done", "failed", "canceled") for j in daemon.jobs()), "the jobs to end")
        wait_for(lambda: all(map(is_kept, traces(overlay))), f"{traces(overlay)} to be cleaned up")
        lost = wrong(overlay)
        assert not lost or (forgets and set(lost) <= set(unkept)), \
            f"{lost}, at first {unkept}, where there was {sorted(places)}\n{daemon.log()}"
        assert_same(before, seen(overlay))
        # The kernel sets that mark before it copies up the first entry, and btrfs may keep the entry alone.
        found = daemon.ctl("verify", overlay / "t", "--repair", "--json=short").json["problems"]
        assert {p["kind"] for p in found} <= {"wrong-impure"} and all(p["mended"] for p in found), found
        daemon.ctl("finalize", overlay / "t").ok()
        assert daemon.state_of(overlay / "t") == "finalized"
        assert wrong(overlay) == lost
        assert_same(before, seen(overlay))
    return len(unkept), len(lost)


@pytest.mark.parametrize("kind", ["ext4-256", "xfs", "btrfs"])
def test_the_power_fails_at_any_moment(scene, space, source, kind, record_result):
    dice = random.Random(seed_of(kind, SEED))
    image, log = os.path.join(space, "disk.img"), os.path.join(space, "log")
    make_image(image, kind, 320)
    before, model, done = record(scene, image, log, source, dice)
    assert done >= JOBS // 3
    cuts = Cuts(image, log, space)
    marks = {e.text: i for i, e in enumerate(cuts.entries) if e.text}
    assert "end" in marks, "the log is too small"
    promises = unkept = forgotten = lost = 0
    for moment in sorted(dice.sample(range(marks["begin"] + 1, marks["end"]), CUTS)):
        cut, lacking = cuts.make(moment, dice)
        said = cuts.marks(moment)
        n = max((int(m.partition(":")[2]) for m in said if m.startswith("step:")), default=0)
        job = [m for m in said if not m.startswith("step:")][-2:]
        at = f"cut at entry {moment} of {len(cuts.entries)} of the log, without {lacking} writes, after step {n}, in {job} (seed {SEED})"
        try:
            n_unkept, n_forgotten = after_the_cut(scene, cut, source, before, lambda o, n=n: model.wrong(lambda p: read_file(o / p), n),
                                                  forgets=kind == "btrfs")
        except Exception as e:
            raise AssertionError(f"{kind}, {at}: {e}") from e
        promises += n
        unkept += n_unkept
        forgotten += n_forgotten
        lost += lacking
    record_result({"cuts": CUTS, "upper": kind, "promises": promises, "repaired": unkept, "forgotten": forgotten, "lost": lost, "jobs": done,
                   "writes": len(cuts.entries)})
