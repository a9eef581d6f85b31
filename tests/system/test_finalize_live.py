# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finalizing a directory of a live overlay that is in use in every way: nobody notices, and nothing more is asked of the
lower."""

import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from ovltest import UPPERS, assert_same, diff, snapshot
from ovltest.byhand import finalize_by_hand
from ovltest.daemon import wait_for
from ovltest.env import end, spawn
from ovltest.holders import Fifo, Listener, Locks, OpenFile, Running, Shell
from ovltest.replay import ProgramStart
from ovltest.tree import odd_entries, release, write

D = "software/prog"


def directories_below(top):
    return [d for d, _, _ in os.walk(top)]


def hidden_names(overlay):
    """Names of ours that users should not have to live with for longer than needed."""
    return [n for d in ("", "software") for n in os.listdir(overlay / d) if n.startswith(".ovlfind")]


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, D))
    odd_entries(os.path.join(top, D, "lib", "odd"))
    Running.install(os.path.join(top, D, "bin", "sleeper"))
    release(os.path.join(top, "software/other"))
    return top


@pytest.mark.parametrize("kind", UPPERS)
def test_in_use(scene, lower, kind):
    overlay = scene.overlay(lower, upper=kind)
    daemon = scene.daemon(soft=overlay)
    d, other = overlay / D, overlay / "software/other"
    lib = os.path.join(d, "lib")

    listener = scene.keep(Listener(os.path.join(d, "bin", "live-socket")))
    before, before_other = snapshot(d), snapshot(other)
    before_upper = snapshot(overlay.upper.upper)
    holders = [
        listener,
        scene.keep(OpenFile(os.path.join(lib, "libpart0.so.1.0"))),
        scene.keep(Locks(os.path.join(lib, "libpart1.so.1.0"), os.path.join(lib, "libpart2.so.1.0"))),
        scene.keep(Fifo(os.path.join(lib, "odd", "fifo"))),
    ]
    program = scene.keep(Running(os.path.join(d, "bin", "sleeper")))
    shell = scene.keep(Shell(os.path.join(lib, "python3", "site-packages")))
    readers = scene.readers(d, other)

    daemon.ctl("finalize", "--standing=keep", d).ok()
    # From the first lookup on, in every directory below, and with a shell still standing in the old tree.
    counts = scene.absent_lookups(lower, directories_below(d), 50)
    assert (counts.enoent, counts.lookup) == (0, 0)

    assert daemon.ctl("is-finalized", d).code == 0
    for holder in (*holders, program):
        holder.check()
    assert shell.ask("cat prog/mod0.py")[0] == 0
    assert shell.ask("test -e ../site-packages/prog/mod1.py")[0] == 0
    readers.go_on(10_000)
    totals = readers.close()
    assert totals.failures == 0, totals.messages
    assert totals.operations > 1000

    assert_same(before_other, snapshot(other))
    # Of the directory nothing differs but what a second name until the old tree is gone shows.
    assert_same(before, snapshot(d), ignore={"nlink"})
    # Both stand in the old tree: one by its working directory, the other by the name of its executable.
    shell.close()
    program.close()
    wait_for(lambda: not hidden_names(overlay), "the old tree to go after they left")
    assert_same(before, snapshot(d))
    for holder in holders:
        holder.check()
    changed = {line.split("'")[1].split("/")[0] for line in diff(before_upper, snapshot(overlay.upper.upper))}
    assert changed <= {"", "software"}
    assert not os.path.exists(overlay.upper_path("software/other"))


@pytest.mark.parametrize("kind", UPPERS)
def test_survives_a_remount(scene, lower, kind):
    overlay = scene.overlay(lower, upper=kind)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    before = snapshot(d)
    daemon.ctl("finalize", d).ok()
    assert daemon.stop() == 0
    overlay.remount()
    assert_same(before, snapshot(d))
    assert scene.absent_lookups(lower, directories_below(d), 50).enoent == 0
    daemon.start()
    assert daemon.ctl("is-finalized", d).code == 0
    assert scene.absent_lookups(lower, directories_below(d), 50).enoent == 0


def test_metadata_only(scene, lower):
    """Finalizing copies no data: the upper would fill up, and the lower would be read whole."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    with lower.measure() as counts:
        daemon.ctl("finalize", overlay / D).ok()
    assert counts.read == 0
    os.getxattr(overlay.upper_path(f"{D}/lib/libpart0.so.1.0"), "trusted.overlay.metacopy")


def test_every_directory_below_is_reported(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    daemon.ctl("finalize", d).ok()
    listed = {e["path"]: e["state"] for e in daemon.ctl("directories", "soft", "--json=short").ok().json["directories"]}
    for directory in directories_below(d):
        assert listed.get(directory) == "finalized", directory
    assert daemon.ctl("is-finalized", overlay / "software/other").code == 1
    entry = daemon.ctl("status", d, "--json=short").ok().json["directories"][0]
    assert entry["overlay"] == "soft" and entry["path"] == d and entry["state"] == "finalized"
    assert entry["lower_path"] == "/" + D and entry["scheme"] == "redirect"
    assert entry["entries"] == len(os.listdir(d))


def test_again_is_success_and_costs_nothing(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    inode = os.lstat(overlay / D).st_ino
    with lower.measure() as counts:
        daemon.ctl("finalize", overlay / D).ok()
    assert counts.open == 0 and counts.listxattr == 0
    assert os.lstat(overlay / D).st_ino == inode


def test_dry_run_changes_nothing(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay.upper.upper)
    result = daemon.ctl("finalize", "--dry-run", overlay / D).ok()
    assert D in result.out
    assert_same(before, snapshot(overlay.upper.upper))
    assert scene.absent_lookups(lower, overlay / D, 10).enoent == 10


def test_dry_run_tells_what_it_takes(scene, lower):
    """Space and inodes are estimated upwards, and not by far."""
    upper = scene.upper("ext4-256")
    overlay = scene.overlay(lower, upper=upper)
    daemon = scene.daemon(soft=overlay)
    plan = daemon.ctl("finalize", "--dry-run", "--json=short", overlay / D).ok().json["jobs"][0]["plan"]
    inodes, space = upper.used_inodes(), upper.used_bytes()
    daemon.ctl("finalize", overlay / D).ok()
    os.sync()
    inodes, space = upper.used_inodes() - inodes, upper.used_bytes() - space
    assert 0 < inodes <= sum(step["inodes"] for step in plan) <= inodes * 1.2 + 5
    assert 0 < space <= sum(step["bytes"] for step in plan)


def test_local_changes_stay(scene, lower):
    """What users had made, removed, moved and linked in D before is there afterwards, and nothing else."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    os.unlink(os.path.join(d, "lib", "libpart3.so"))
    shutil.rmtree(os.path.join(d, "share"))
    with open(os.path.join(d, "lib", "local.so"), "wb") as f:
        f.write(b"made here")
    os.link(os.path.join(d, "lib", "local.so"), os.path.join(d, "lib", "local-link.so"))
    with open(os.path.join(d, "lib", "libpart4.so.1.0"), "ab") as f:
        f.write(b"changed here")
    os.rename(os.path.join(d, "lib", "libpart5.so.1.0"), os.path.join(d, "bin", "moved"))
    os.rename(os.path.join(d, "lib", "python3"), os.path.join(d, "python-moved"))
    os.makedirs(os.path.join(d, "local-dir", "below"))
    before = snapshot(d)
    daemon.ctl("finalize", d).ok()
    assert_same(before, snapshot(d))
    assert scene.absent_lookups(lower, directories_below(d), 20).enoent == 0
    # A deleted name is absent like any other.
    with lower.measure() as counts:
        assert not os.path.exists(os.path.join(d, "lib", "libpart3.so"))
    assert counts.total == 0
    daemon.stop()
    overlay.remount()
    assert_same(before, snapshot(d))


def test_moved_directory(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    os.rename(overlay / D, overlay / "elsewhere")
    before = snapshot(overlay / "elsewhere")
    daemon.ctl("finalize", overlay / "elsewhere").ok()
    assert scene.absent_lookups(lower, directories_below(overlay / "elsewhere"), 20).enoent == 0
    assert_same(before, snapshot(overlay / "elsewhere"))
    entry = daemon.ctl("status", overlay / "elsewhere", "--json=short").ok().json["directories"][0]
    assert entry["lower_path"] == "/" + D


def test_everything_works_in_a_finalized_directory(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    d = overlay / D
    daemon.ctl("finalize", d).ok()
    with open(os.path.join(d, "lib", "libpart0.so.1.0"), "ab") as f:
        f.write(b"more")
    os.rename(os.path.join(d, "lib", "libpart1.so.1.0"), os.path.join(d, "lib", "renamed"))
    os.rename(os.path.join(d, "lib", "libpart2.so.1.0"), overlay / "software/other/moved-out")
    os.rename(os.path.join(d, "lib", "python3"), overlay / "software/other/python3")
    os.unlink(os.path.join(d, "lib", "libpart3.so.1.0"))
    shutil.rmtree(os.path.join(d, "share"))
    os.mkdir(os.path.join(d, "share"))
    after = snapshot(overlay.point)
    daemon.stop()
    overlay.remount()
    assert_same(after, snapshot(overlay.point))
    assert scene.absent_lookups(lower, [os.path.join(d, "lib"), os.path.join(d, "share")], 10).enoent == 0


def test_slow_lower_sees_many_requests_at_once(scene, source):
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    lower.delay(5_000)
    lower.reset()
    daemon.ctl("finalize", overlay / D).ok()
    assert lower.counts().waiting_max >= 8


def asked(lower, path):
    """What the lower was asked below a directory, by operation, but for its end."""
    return Counter(line.split()[0] for line in lower.traced() if f" /{path}/" in line and not line.startswith("release"))


def test_each_entry_is_asked_for_once(scene):
    """One lookup, one listing of xattrs, … for each entry, no more than by hand, also in a large directory."""
    source = scene.source()
    for i in range(130):
        write(os.path.join(source, f"prog/large/file{i}"))
        os.symlink(f"file{i}", os.path.join(source, f"prog/large/link{i}"))
        write(os.path.join(source, f"prog/small{i % 7}/file{i}"))
    lowers = [scene.lower(source) for _ in range(2)]
    overlays = [scene.overlay(lower) for lower in lowers]
    daemon = scene.daemon(soft=overlays[0])
    for lower in lowers:
        lower.trace(True)
    daemon.ctl("finalize", overlays[0] / "prog").ok()
    finalize_by_hand(overlays[1], "prog")
    ours, by_hand = (asked(lower, "prog") for lower in lowers)
    n_directories = 8
    assert ours["lookup"] == 3 * 130 + n_directories
    assert not [op for op in ("getattr", "readlink", "open", "ioctl", "getxattr", "listxattr")
                if ours[op] > by_hand[op] + n_directories], (ours, by_hand)


def test_program_start(scene):
    """40 search directories, as in the demo."""
    source = scene.source()
    start = ProgramStart(source)
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    with lower.measure() as before:
        in_vain, found = start.run(overlay.point)
    assert before.enoent == in_vain
    daemon.ctl("finalize", overlay / "prog").ok()
    with lower.measure() as after:
        assert start.run(overlay.point) == (in_vain, found)
    assert after.enoent == 0 and after.lookup <= found
    # And when nothing is cached any more, neither what exists nor what does not.
    assert daemon.stop() == 0
    overlay.umount()
    lower.invalidate()
    overlay.mount()
    with lower.measure() as cold:
        assert start.run(overlay.point) == (in_vain, found)
    assert cold.enoent == 0


LANDLOCKED = """
import ctypes, os, struct, sys
READ_FILE, READ_DIR, libc = 1 << 2, 1 << 3, ctypes.CDLL(None, use_errno=True)
path, wanted = sys.argv[1:3]
rights = READ_FILE | (READ_DIR if os.path.isdir(path) else 0)
ruleset = libc.syscall(444, struct.pack("=Q", READ_FILE | READ_DIR), 8, 0)
if ruleset < 0:
    print("no landlock", flush=True)
rule = struct.pack("=Qi", rights, fd := os.open(path, os.O_PATH))
libc.syscall(445, ruleset, 1, rule, 0)
os.close(fd)
libc.prctl(38, 1, 0, 0, 0)
libc.syscall(446, ruleset, 0)
while True:
    try:
        with open(wanted, "rb"):
            print("allowed", flush=True)
    except PermissionError:
        print("denied", flush=True)
    sys.stdin.readline()
"""


class Landlocked:
    """A process that may read what is at or below a path only, and tries to read a file whenever it is asked to."""

    def __init__(self, path, wanted):
        self.process = spawn(sys.executable, "-c", LANDLOCKED, path, wanted, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
        self.first = self.process.stdout.readline().strip()

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()


def test_landlock(scene, lower):
    """As docs/programs.md has it: rules are about directories as they were."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    file = f"{D}/lib/libpart0.so.1.0"
    processes = {path: scene.keep(Landlocked(overlay / path, overlay / file)) for path in ("software", D, f"{D}/lib", file)}
    if processes["software"].first == "no landlock":
        pytest.skip("the kernel has no Landlock")
    assert {p.first for p in processes.values()} == {"allowed"}
    daemon.ctl("finalize", overlay / D).ok()
    assert {path: p.ask() for path, p in processes.items()} == {
        "software": "allowed", D: "denied", f"{D}/lib": "denied", file: "allowed"}
    assert scene.keep(Landlocked(overlay / f"{D}/lib", overlay / file)).first == "allowed"
