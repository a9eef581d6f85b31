# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names are bytes. What every verb prints of them is JSON with --json, safe for a terminal without, and the name can be got back."""

import json
import os
import re
import stat
import unicodedata

import pytest

from ovltest import run_ctl
from ovltest.ctl import ctl_environment
from ovltest.daemon import wait_for
from ovltest.env import binary, end, spawn
from ovltest.overlay import escape_layer
from ovltest.tree import write

# No UTF-8, what looks like our spelling of that, what means something to JSON, shells, terminals and readers of lines.
NAMES = [b"caf\xe9", b"caf\\xe9", b"caf\\x5cxe9", b"\\\xe9", b"\xff\xfe", b"\xed\xa0\x80", b'quo"te\'s', b"back\\slash\\", b"new\nline\r\t",
         b"\x01\x1b[31mred\x07", b"\x7f", b"\xc2\x9b1m", "\u202eexe".encode(), "\uffff".encode(), b"%s%n", b"--json", b" ", b"x" * 255,
         b"\xe9" * 255, "ü€😀".encode()]
TREE, LOOSE = b"tree", b"loose"


def decode(text):
    """The bytes that a string of JSON stands for, as org.ovlfind1(5) says it."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode())


def strings(value, key):
    """All strings of a member, however deep."""
    if isinstance(value, list):
        return [s for v in value for s in strings(v, key)]
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in ([v] if k == key else strings(v, key))]
    return []


def assert_terminal(text):
    """UTF-8 that moves no cursor and turns no direction."""
    text = text.encode(errors="surrogateescape").decode()
    assert not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Zl", "Zp") or c == "\u202e"], repr(text)


@pytest.fixture
def source(scene):
    top = os.path.join(os.fsencode(scene.source()), b'low\xe9r "\\x41"')
    for name in NAMES:
        write(os.path.join(top, TREE, name, name))
        write(os.path.join(top, TREE, b"dir", b"file"))
    write(os.path.join(top, LOOSE, b"file"))
    return top


@pytest.fixture
def overlay(scene, source):
    return scene.overlay(os.fsdecode(source))


@pytest.fixture
def at(overlay):
    """The directories with such names."""
    return {os.path.join(os.fsencode(overlay.point), TREE, name) for name in NAMES}


def break_it(overlay):
    """A problem for verify at every name: whiteouts that hide nothing."""
    os.chown(overlay / "loose", 1, 1)
    found = set()
    for name in NAMES:
        os.mknod(os.path.join(os.fsencode(overlay.upper_path("loose")), name), stat.S_IFCHR, 0)
        found.add(os.path.join(LOOSE, name))
    return found


class Verbs:
    """Runs verbs both ways; knows which were tried."""

    def __init__(self, run):
        self.run, self.tried = run, set()

    def __call__(self, verb, *args):
        self.tried.add(verb)
        arguments = [verb, *(os.fsdecode(a) for a in args)]
        plain = self.run(*arguments)
        assert_terminal(plain.out)
        assert_terminal(plain.err)
        result = self.run(*arguments, "--json=short")
        assert_terminal(result.err)
        if not result.out:
            return None
        text = result.out.encode(errors="surrogateescape").decode()  # or it is no UTF-8
        return json.loads(text)


def test_every_verb(scene, overlay, daemon, at):
    verbs = Verbs(daemon.ctl)
    monitor = scene.keep(Monitor(daemon, os.path.join(scene.dir, "signals")))
    wait_for(lambda: daemon.ctl("pause") and daemon.ctl("resume") and monitor.signals(), "the monitor")
    assert set(map(decode, strings(verbs("finalize", "--dry-run", *at), "path"))) >= at
    assert set(map(decode, strings(verbs("finalize", *at), "path"))) == at
    occupant = scene.keep(Occupant(min(at)))

    assert set(map(decode, strings(verbs("directories"), "path"))) == at
    found = {decode(d["path"]): d for d in verbs("status", *at)["directories"]}
    assert set(found) == at and {d["state"] for d in found.values()} == {"finalized"}
    assert all(decode(d["lower_path"]) == path[len(overlay.point):] for path, d in found.items())
    assert verbs("is-finalized", min(at))["directories"] == [found[min(at)]]
    assert len(at) == len({name for name in strings(verbs("directories"), "path")}), "two names are spelled alike"
    overlay_found, = verbs("status", "soft")["overlays"]
    assert decode(overlay_found["lower_dirs"][0]) == os.fsencode(overlay.lowers[0])
    assert min(at) in set(map(decode, strings(verbs("blockers"), "path")))
    occupant.close()  # or it would be waited for
    expected = {os.path.join(os.fsencode(overlay.point), path) for path in break_it(overlay)}
    assert expected <= set(map(decode, strings(verbs("verify"), "path")))
    for verb in ("status", "list", "jobs", "check", "metrics", "version", "help", "log-level", "reload", "pause", "resume"):
        assert verbs(verb) is not None or verb in ("log-level", "reload", "pause", "resume"), verb
    verbs("top", "--batch", "--iterations=1")
    verbs("remount", "--dry-run", "soft")
    for verb in ("refresh", "prune"):
        verbs(verb, "--dry-run", min(at))
    assert set(map(decode, strings(verbs("unfinalize", *at), "path"))) >= at
    assert {d["state"] for d in verbs("status", *at)["directories"]} == {"copied-up"}
    wait_for(lambda: at <= {decode(s["path"]) for s in monitor.signals() if s["signal"] == "DirectoryChanged"}, "all signals")
    assert_terminal(daemon.log())
    known = {v["name"] for v in daemon.ctl("help", "--json=short").json["verbs"]}
    assert known - verbs.tried == {"monitor", "cancel"}


class Monitor:
    """ovlfinctl monitor, into a file: a pipe that nobody reads would stop it."""

    def __init__(self, daemon, path):
        self.path = path
        with open(path, "wb") as f:
            self.process = spawn(binary("ovlfinctl"), "monitor", "--json=short", env=ctl_environment(daemon.bus.address), stdout=f)

    def signals(self):
        with open(self.path, encoding="utf-8") as f:
            return [json.loads(line) for line in f.read().split("\n")[:-1]]

    def close(self):
        end(self.process)


class Occupant:
    """A process in a directory."""

    def __init__(self, path):
        self.process = spawn("sleep", "600", cwd=path)

    def close(self):
        end(self.process)


@pytest.mark.parametrize("daemon_there", [True, False])
def test_errors(scene, overlay, daemon, at, daemon_there):
    """What is asked for is not there, not managed, or not possible: nothing on stdout, or JSON."""
    verbs = Verbs(daemon.ctl if daemon_there else run_ctl)
    outside = os.path.join(os.fsencode(scene.dir), NAMES[0])
    os.mkdir(outside)
    for verb in ("finalize", "unfinalize", "refresh", "prune", "verify", "status", "is-finalized", "check", "blockers"):
        for path in (outside, outside + b"/not\xffthere\n", *list(at)[:3 if verb != "unfinalize" else 0]):
            verbs(verb, path)
    for verb in ("directories", "top", "jobs", "pause", "resume", "remount", "cancel", "log-level"):
        verbs(verb, b"no\xff\x1b[31m such")


def test_without_a_daemon(scene, overlay, at):
    """check, and what works on the layers of an overlay that is not mounted."""
    verbs = Verbs(run_ctl)
    checks = verbs("check", min(at))["checks"]
    assert {decode(p) for p in strings(checks, "mount_point")} == {os.fsencode(overlay.point)}
    expected = break_it(overlay)
    overlay.umount()
    layers = [f"--upper={overlay.upper.upper}", f"--lower={escape_layer(overlay.lowers[0])}"]
    top = os.fsencode(overlay.upper.upper)
    found = set(map(decode, strings(verbs("verify", "--offline", *layers), "path")))
    assert {os.path.join(top, path) for path in expected} <= found
    state = scene.subdir("state")
    local = Verbs(lambda *args: run_ctl(*args, env={"STATE_DIRECTORY": state}))
    below = {os.path.relpath(path, os.fsencode(overlay.point)) for path in at}
    for verb in ("finalize", "unfinalize"):
        assert set(map(decode, strings(local(verb, "--offline", "--method=mark" if verb == "finalize" else "--force", *layers, *below),
                                       "path"))) == below
    local("finalize", "--offline", *layers, b"not\xffthere\n")
