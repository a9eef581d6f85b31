# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users without privileges, who own a part of what root finalizes and mean harm: the worker moves, changes and removes
nothing for them that they could not themselves, shows them nothing, and does not get stuck."""

import os
import shutil
import stat
import subprocess
import sys
import time

import pytest

from ovltest import assert_same, run, snapshot
from ovltest.daemon import wait_for
from ovltest.env import end, spawn
from ovltest.holders import Shell
from ovltest.oldtree import KEEP, await_kept, await_removed, kept_files, old_trees, traces
from ovltest.tree import age, write

P, D = "p", "p/d"
HOME = f"{D}/home/alice"
ALICE, BOB = 1000, 1001
SECRET = b"top secret\n"


@pytest.fixture
def source(scene):
    top = scene.source()
    for name, uid in (("alice", ALICE), ("bob", BOB)):
        home = os.path.join(top, D, "home", name)
        for path in ("f", "dir/x/f", "dir/y/f", "dir/x/key"):
            write(os.path.join(home, path), path.encode())
        for d, dirs, files in os.walk(home):
            for path in (d, *(os.path.join(d, n) for n in (*dirs, *files))):
                os.lchown(path, uid, uid)
    write(os.path.join(top, D, "lib", "f"))
    write(os.path.join(top, P, "secret", "x", "key"), SECRET)
    os.chmod(os.path.join(top, P, "secret"), 0o700)
    age(top)
    return top


@pytest.fixture
def outside(scene):
    """A directory that is on no overlay at all, and root's."""
    top = scene.source()
    write(os.path.join(top, "x", "key"), SECRET)
    write(os.path.join(top, "x", "f"), SECRET)
    os.chmod(top, 0o700)
    return top


class Attacker:
    """A program in Python, run as alice until it is closed."""

    PRELUDE = """
import contextlib, os, random, sys, time
point, p, d, home, secret, outside = sys.argv[1:7]
def homes():
    "Every tree of hers that she can find: in D, and in whatever stands beside it."
    yield home
    with contextlib.suppress(OSError):
        for n in os.listdir(p):
            if n.startswith('.ovlfind'):
                yield os.path.join(p, n, 'home/alice')
    yield os.path.join(point, '.ovlfind')
def attempt(f, *args):
    with contextlib.suppress(OSError):
        f(*args)
        return True
print('ready', flush=True)
"""

    def __init__(self, overlay, outside, program):
        arguments = [overlay.point, overlay / P, overlay / D, overlay / HOME, overlay / f"{P}/secret", outside]
        self.process = spawn("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", sys.executable, "-c",
                             self.PRELUDE + program, *arguments, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def said(self):
        """Waits for its next line."""
        return self.process.stdout.readline().strip()

    def close(self):
        end(self.process)
        self.process.stdout.close()


def others(overlay):
    """Everything but what is alice's, and what directories above it show of that."""
    everything = snapshot(overlay.point, without=".ovlfind")
    return {path: entry for path, entry in everything.items() if path != HOME and not path.startswith(HOME + "/")}


def assert_others_same(before, overlay):
    # Directories' times may have changed with the old tree beside; and what was linked shows until it is gone.
    after = others(overlay)
    for entry in (*before.values(), *after.values()):
        if entry["type"] == stat.S_IFDIR:
            entry["content"] = [n for n in entry["content"] if not n.startswith(".ovlfind")]
            entry["mtime"] = None
    assert_same(before, after, ignore={"nlink"})


def assert_nothing_leaked(overlay):
    """Nothing of the secret is where alice can read it."""
    p = subprocess.run(["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", "grep", "-rlF", "top secret",
                        overlay.point], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    assert p.stdout == ""
    for directory, dirs, files in os.walk(overlay / HOME):
        for name in (*dirs, *files):
            st = os.lstat(os.path.join(directory, name))
            assert st.st_uid == ALICE, f"{directory}/{name} belongs to {st.st_uid}"


TRAP = """
# Standing in her directory, she waits for a tree of ovlfind's that she can reach, and makes a trap of it: the directory
# the worker believes in is a link to where she cannot go.
os.chdir(home)
target = {target}
end = time.monotonic() + 20
while time.monotonic() < end:
    found = [h for h in homes() if h != home and os.path.isdir(h + '/dir')]
    if found:
        break
    if {busy}:
        open('keepbusy', 'w').close(); os.unlink('keepbusy')
for tree in found:
    attempt(os.rename, tree + '/dir', tree + '/dir_')
    attempt(os.symlink, target, tree + '/dir')
attempt(os.rename, home + '/dir/x', home + '/x')
attempt(os.rename, 'dir/y', 'y')
attempt(os.rename, 'dir_/x', 'x')
print('trapped', len(found), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "patient"])
@pytest.mark.parametrize("target", ["secret", "outside"])
def test_a_trap_in_a_tree_of_ours(scene, overlay, daemon, outside, target, busy):
    daemon.stop()
    daemon.add_overlay("soft", overlay.point, Finalize={"QuietSec": "700ms", **KEEP})
    daemon.start()
    before, before_outside = others(overlay), snapshot(outside)
    attacker = scene.keep(Attacker(overlay, outside, TRAP.format(target=target, busy=busy)))
    if busy:
        # She keeps the directory busy as long as there is no tree of ours: let her give up.
        job = daemon.finalize(overlay / D)
        wait_for(lambda: daemon.job(job)["State"] == "waiting", "the job to wait for quiet")
        assert not [t for t in old_trees(overlay)], "the new tree is in reach of its users"
        end(attacker.process)
        daemon.wait_job(job)
    else:
        daemon.ctl("finalize", overlay / D).ok()
        assert attacker.said().startswith("trapped")
        alice = scene.keep(Shell("/", ALICE))
        # What alice did is taken over by the time that something she does later is.
        await_arrival(overlay, alice, attacker)
    attacker.close()
    await_removed(overlay, daemon)
    assert_others_same(before, overlay)
    assert_same(before_outside, snapshot(outside))
    assert_nothing_leaked(overlay)


def await_arrival(overlay, shell, attacker):
    """Makes something in the old tree the attacker stands in, and waits until it is found by path."""
    shell.ask(f"touch /proc/{attacker.process.pid}/cwd/witness")
    wait_for(lambda: os.path.lexists(overlay / f"{HOME}/witness") or not old_trees(overlay), "what alice made")


RACE = """
# All she can think of, at random, in every tree of hers that she finds, by path and from within.
dice = random.Random({seed})
names = ['dir', 'dir/x', 'dir/y', 'x', 'y', 'a', 'b', 'f', 'dir/f', 'dir/x/key', 'key']
targets = [secret, outside, '/', '..', '../bob', '../..', secret + '/x', outside + '/x', 'dir']
attempt(os.chdir, home)
while True:
    for base in [*homes(), '.', '../alice']:
        for _ in range(6):
            one, other = (os.path.join(base, dice.choice(names)) for _ in range(2))
            what = dice.randrange(8)
            if what < 3: attempt(os.rename, one, other)
            elif what == 3: attempt(os.symlink, dice.choice(targets), one)
            elif what == 4: attempt(os.unlink, one)
            elif what == 5: attempt(os.mkdir, one)
            elif what == 6: attempt(os.link, one, other)
            else: attempt(lambda: open(one, 'x').close())
    if dice.random() < 0.02: attempt(os.chdir, home)
    if dice.random() < 0.05: attempt(os.chmod, '.', 0o777); attempt(os.chmod, home, 0o755)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_race_against_everything(scene, overlay, daemon, outside, seed):
    """Two of them, while root finalizes and undoes it over and over."""
    daemon.stop()
    daemon.add_overlay("soft", overlay.point, Finalize={"QuietSec": "0", **KEEP})
    daemon.start()
    before, before_outside = others(overlay), snapshot(outside)
    attackers = [scene.keep(Attacker(overlay, outside, RACE.format(seed=seed * 100 + n))) for n in range(2)]
    deadline, done = time.monotonic() + 8, 0
    while time.monotonic() < deadline or (done == 0 and time.monotonic() < deadline + 60):
        for verb in ("finalize", "unfinalize"):
            done += daemon.ctl(verb, overlay / D).code == 0
    for attacker in attackers:
        attacker.close()
    assert done > 0
    await_removed(overlay, daemon)
    assert_others_same(before, overlay)
    assert_same(before_outside, snapshot(outside))
    assert_nothing_leaked(overlay)
    daemon.ctl("finalize", overlay / D).ok()


def test_staging_that_is_not_ours(scene, overlay, daemon):
    """Where the overlay's root is open to all, somebody may have the name first."""
    os.chmod(overlay.point, 0o1777)
    alice = scene.keep(Shell(overlay.point, ALICE))
    alice.do("mkdir .ovlfind && chmod 777 .ovlfind && mkdir .ovlfind/0123456789abcdef")
    before = snapshot(overlay.point)
    result = daemon.ctl("finalize", overlay / D)
    assert result.code == 1 and ".ovlfind" in result.err
    assert_same(before, snapshot(overlay.point))
    daemon.restart()
    assert_same(before, snapshot(overlay.point))
    alice.do("rm -r .ovlfind && ln -s / .ovlfind")
    assert daemon.ctl("finalize", overlay / D).code == 1
    alice.do("rm .ovlfind")
    daemon.restart()
    daemon.ctl("finalize", overlay / D).ok()


def test_staging_is_closed(scene, overlay, daemon, lower):
    """Nobody but root sees into it while a job is at work."""
    alice = scene.keep(Shell(overlay.point, ALICE))
    lower.delay(20_000)
    job = daemon.finalize(overlay / D)
    wait_for(lambda: os.path.isdir(overlay / ".ovlfind"), "staging", 10, 0.001)
    assert os.lstat(overlay / ".ovlfind").st_uid == 0
    assert alice.ask("ls .ovlfind/")[0] != 0 and alice.ask("cd .ovlfind")[0] != 0
    lower.delay(0)
    assert daemon.wait_job(job)["State"] == "done"


def test_old_trees_of_others_making(scene, overlay, daemon):
    """A directory that merely looks like one of ours is no reason to remove anything, and keeps nothing from being finalized but
    what it lies in."""
    alice = scene.keep(Shell(overlay / HOME, ALICE))
    alice.do("mkdir .ovlfind-old-0123456789abcdef && echo mine > .ovlfind-old-0123456789abcdef/mine")
    before = snapshot(overlay / HOME)
    daemon.restart()
    assert daemon.ctl("finalize", overlay / D).code == 1
    states = {os.path.relpath(d["path"], overlay / D): d for d in daemon.ctl("directories", "--json=short").json["directories"]}
    assert states["home/alice"]["state"] == "pending" and "'.ovlfind-old-0123456789abcdef'" in states["home/alice"]["reason"]
    assert {p for p, d in states.items() if d["state"] != "finalized"} == {".", "home", "home/alice"}
    assert {"home/alice/dir", "home/bob", "lib"} <= set(states)
    assert_same(before, snapshot(overlay / HOME), ignore={"nlink", "mtime"})


def test_what_could_block(scene, overlay, daemon):
    """FIFOs that nobody writes to, files nobody may read, directories nobody may enter."""
    alice = scene.keep(Shell(overlay / HOME, ALICE))
    alice.do("mkfifo pipe && mkdir -m 0 closed && touch unreadable && chmod 0 unreadable && ln -s loop loop")
    before = snapshot(overlay / HOME)
    alice.do("cd /")
    daemon.ctl("finalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / HOME), ignore={"nlink"})
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / HOME), ignore={"nlink"})


DIVE = """
import os
for i in range(1100):
    if not os.path.isdir('deep1'):
        os.mkdir('deep1')
    os.chdir('deep1')
"""


def as_alice(directory, program):
    run("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", sys.executable, "-c", program, cwd=directory)


def test_a_tree_deeper_than_a_path(overlay, daemon):
    """What no path leads to is left out, and told; what is beside and above it is done, and nothing is left behind."""
    as_alice(overlay / HOME, DIVE + "open('bottom', 'w').write('bottom')")
    result = daemon.ctl("finalize", overlay / D).ok()
    assert daemon.is_running()
    assert "its path is longer than 4096 bytes" in result.err and "1 excluded" in result.out, result
    for name in (D, f"{D}/lib", HOME, f"{D}/home/bob/dir/x"):
        assert daemon.state_of(overlay / name) == "finalized", name
    as_alice(overlay / HOME, DIVE + "assert open('bottom').read() == 'bottom'")
    await_removed(overlay, daemon)
    assert not traces(overlay)
    run("rm", "-rf", overlay / HOME)  # shutil.rmtree does not get to the bottom


def test_names_as_data(scene, overlay, daemon):
    """Names that mean something to shells, terminals, record formats and the bus."""
    nasty = ["\n", "a\nb=c", "%s%n%d", "$(touch pwned)", "; rm -rf *", "\x1b[31mred", "-rf", "..,", "\t", "'\"`", "\\", "\x7f",
             b"\xff\xfe".decode(errors="surrogateescape"), "snapshot", "remove", "tree", "kept", "grave"]
    home = overlay / HOME
    for name in nasty:
        write(os.path.join(home, "dir", name, name), name.encode(errors="surrogateescape"))
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / D))
    listed = daemon.ctl("directories")
    assert listed.code == 0 and "\x1b[31m" not in listed.out
    daemon.restart()
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / D))


def test_an_occupant_cannot_keep_a_directory_from_root(scene, overlay, daemon):
    """Who stands in an old tree for ever keeps no job from its end, and no name from its owner. What he made there is kept."""
    alice = scene.keep(Shell(overlay / HOME, ALICE))
    daemon.ctl("finalize", "--standing=keep", overlay / D).ok()
    await_kept(daemon)
    shutil.rmtree(overlay / D)
    alice.ask("touch back; mkdir -p ../../again")
    write(overlay / f"{D}/lib/new")
    daemon.ctl("finalize", overlay / D).ok()
    # What the old tree itself stands in has to wait, and says for whom.
    result = daemon.ctl("finalize", overlay / P)
    assert result.code == 1 and "old tree" in result.err
    assert os.listdir(overlay / D) == ["lib"]
    alice.do("test -e back")
    alice.close()
    await_removed(overlay, daemon)
    daemon.ctl("finalize", overlay / P).ok()
    assert os.listdir(overlay / D) == ["lib"] and kept_files(overlay) == [b""]
