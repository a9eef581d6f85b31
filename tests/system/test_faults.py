# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each system call of a worker fails once, with the errors its manual names, or the worker is killed before it: every path is
right at once, the message says what failed, the next attempt does what was asked for, and nothing is left in staging, in the
records, or mounted. A sample in CI, chosen by OVLFIND_SEED; OVLFIND_FAULTS=all tries all of them, OVLFIND_FAULTS=N so many of
each verb."""

import os
import random
import shutil
from functools import partial

import pytest

from ovltest import diff, faults, snapshot, visible
from ovltest.daemon import wait_for
from ovltest.env import binary, is_sanitized, redirect_max
from ovltest.tree import age, write
from ovltest.wire import ask

FAULTS = os.environ.get("OVLFIND_FAULTS", "")
SEED = int(os.environ.get("OVLFIND_SEED", "1"))


def build(top):
    write(os.path.join(top, "a"), mode=0o4755)
    write(os.path.join(top, "b"))
    os.symlink("a", os.path.join(top, "link"))
    write(os.path.join(top, "sub", "c"))


def change(lower):
    """As a release does."""
    write(os.path.join(lower, "a"), b"fixed", mode=0o755)
    os.unlink(os.path.join(lower, "link"))
    write(os.path.join(lower, "new/file"))


class Stage:
    """An overlay without a daemon, and a directory t/dNNN for each fault."""

    def __init__(self, scene, n):
        self.source = scene.source()
        for i in range(n + 2):
            build(os.path.join(self.source, f"t/d{i:05}"))
        age(self.source)
        self.overlay = scene.overlay(self.source)
        self.state, self.log = scene.subdir("state"), os.path.join(scene.dir, "faults")
        self.request = {"QUIET_USEC": 0, "OVERLAY": "soft", "MOUNT_POINT": self.overlay.point, "STATE_DIR": self.state, "WORKERS": 1}
        self.n, self.known = -1, set()
        self.mounts = self.count_mounts()

    def next(self):
        """A path of its own, relative to the overlay."""
        self.n += 1
        return f"t/d{self.n:05}"

    @staticmethod
    def count_mounts():
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            return len(f.readlines())

    def ask(self, path, **request):
        """Without a fault: it succeeds."""
        answer, status = ask(binary("ovlfind-worker"), **self.request, PATH=path, **request)
        assert status == 0 and answer[-1]["name"] == "None", answer[-1]

    def leftovers(self):
        found = [os.path.join(self.overlay.point, d, n) for d in ("", "t") for n in os.listdir(self.overlay / d)
                 if n.startswith(".ovlfind")]
        records = os.path.join(self.state, "records/soft")
        if os.path.isdir(records):
            found += [n for n in os.listdir(records) if n.startswith(".") and n != ".findings"]
        if self.count_mounts() != self.mounts:
            found.append(f"{self.count_mounts() - self.mounts} mounts")
        return [n for n in found if n not in self.known]

    def is_opaque(self, path):
        try:
            return os.getxattr(self.overlay.upper_path(path), "trusted.overlay.opaque") == b"y"
        except OSError:
            return False


class Verb:
    """What is asked for, and what has to hold. Times of directories change where names come and go."""
    request: dict = {}
    ignored = {"nlink"}
    ignored_in_the_end: set = set()

    def prepare(self, stage, path):
        """Before the fault."""

    @staticmethod
    def shown(stage, path):
        return snapshot(stage.overlay / path)

    def wrong(self, stage, path, before):
        """What the tree may not look like, a line each."""
        return diff(before, self.shown(stage, path), self.ignored)

    def check_done(self, stage, path):
        """After an attempt that succeeded."""


class Finalize(Verb):
    request = {"VERB": "finalize"}

    def check_done(self, stage, path):
        assert stage.is_opaque(path)


class Mark(Finalize):
    request = {"VERB": "finalize", "METHOD": "mark"}


class Unfinalize(Verb):
    request = {"VERB": "unfinalize"}

    def prepare(self, stage, path):
        stage.ask(path, VERB="finalize")

    def check_done(self, stage, path):
        assert not stage.is_opaque(path)


class Survey(Verb):
    """Of what a finalize left that was killed in the middle: as long as it is there, files have a link more."""
    request = {"VERB": "survey"}
    ignored_in_the_end = {"nlink"}

    def prepare(self, stage, path):
        faults.strike(stage.log, stage.killed_at, "renameat2", None, **stage.request, PATH=path, VERB="finalize")


class Verify(Verb):
    request = {"VERB": "verify", "REPAIR": "1"}

    def prepare(self, stage, path):
        stage.ask(path, VERB="finalize")


class Refresh(Verb):
    request = {"VERB": "refresh"}
    change = staticmethod(change)

    def prepare(self, stage, path):
        stage.ask(path, VERB="finalize")
        self.change(os.path.join(stage.source, path))

    def wanted(self, stage, path):
        lower = os.path.join(stage.source, path)
        return visible(snapshot(lower)) if os.path.exists(lower) else {}

    def wrong(self, stage, path, before):
        """Each entry is what it was, or what it is to be."""
        after, wanted = self.shown(stage, path), self.wanted(stage, path)
        return [f"{name!r}: {entry}" for name, entry in after.items()
                if not any(same(entry, of.get(name)) for of in (before, wanted))]

    def check_done(self, stage, path):
        lines = diff(self.wanted(stage, path), self.shown(stage, path), {"nlink"})
        assert not lines, lines

    @staticmethod
    def shown(stage, path):
        return visible(snapshot(stage.overlay / path)) if os.path.lexists(stage.overlay / path) else {}


class Prune(Refresh):
    """Nothing can be read any more but names."""
    request = {"VERB": "prune"}
    change = staticmethod(shutil.rmtree)

    @staticmethod
    def shown(stage, path):
        return {os.path.join(d, n): {"content": None} for d, dirs, files in os.walk(stage.overlay / path) for n in (*dirs, *files)}


def same(a, b):
    """Two entries, of directories but for what is in them."""
    is_directory = b is not None and isinstance(a["content"], list)
    return b is not None and all(a[k] == b[k] or k == "nlink" or (is_directory and k in ("content", "mtime")) for k in a)


def result_of(answer):
    """Not always the last record: a worker that keeps an old tree lives on."""
    return next((record for record in answer if record["kind"] == "result"), None)


def check_answer(fault, answer, status):
    """What a worker says of it. One that could not send says nothing."""
    if fault.error is None:
        assert status < 0
        return
    assert status >= 0, f"ended by signal {-status}"
    if fault.call in ("sendto", "recvfrom"):  # who does not hear, or is not heard, takes whoever asked for gone
        return
    result = result_of(answer)
    assert result, f"no result, exit status {status}: {answer[-1:]}"
    assert result["name"] == "None" or result["text"]


def check(stage, verb, path, before, fault, answer, status):
    check_answer(fault, answer, status)
    lines = verb.wrong(stage, path, before)
    assert not lines, f"at once: {lines}"
    if status < 0 or (result_of(answer) or {}).get("state") == 1:
        stage.ask("", VERB="survey")  # as the daemon does when a worker was killed, or could not clear away all
    if verb.request["VERB"] != "prune" or os.path.lexists(stage.overlay / path):
        stage.ask(path, **verb.request)
    left = stage.leftovers()
    stage.known |= set(left)
    is_told = any(record["kind"] == "note" and " kept as " in record["text"] for record in answer)
    assert not left or is_told, f"left: {left}"
    if not isinstance(verb, Refresh):
        lines = diff(before, snapshot(stage.overlay / path), verb.ignored_in_the_end)
        assert not lines, f"in the end: {lines}"
    verb.check_done(stage, path)
    wait_for(lambda: redirect_max() == 256, "redirect_max to be set back")  # others may need it raised just now


VERBS = {"finalize": Finalize, "unfinalize": Unfinalize, "mark": Mark, "survey": Survey, "verify": Verify, "refresh": Refresh,
         "prune": Prune}
# In CI, by what a fault of each costs.
SAMPLES = {"finalize": 10, "unfinalize": 6, "mark": 10, "survey": 10, "verify": 12, "refresh": 8, "prune": 8}


def sweep(stage, name, strikes, capsys):
    """strikes(path, request) yields what came of each fault."""
    verb = VERBS[name]()
    n, problems = 0, []
    for strike in strikes:
        path = stage.next()
        verb.prepare(stage, path)
        before = verb.shown(stage, path)
        fault, answer, status = strike(**stage.request, PATH="" if name == "survey" else path, **verb.request)
        if fault is None:  # there were fewer calls this time
            continue
        n += 1
        try:
            check(stage, verb, path, before, fault, answer, status)
        except AssertionError as e:
            problems.append(f"{fault}\n    {e}")
    with capsys.disabled():
        print(f"\n{name}: {n} faults")
    assert not problems, f"{len(problems)} of {n}:\n" + "\n".join(problems)
    assert n > 0


def make_stage(scene, name, most):
    """With what the verb needs."""
    stage = Stage(scene, min(most, 20_000))
    if name == "survey":
        found = faults.calls(stage.log, **stage.request, PATH=stage.next(), VERB="finalize")
        stage.killed_at = next(n for n, call, _ in found if call == "renameat2")
    return stage


@pytest.mark.slow
@pytest.mark.timeout(0 if FAULTS else 600)
@pytest.mark.skipif(is_sanitized(), reason="a sanitizer makes calls by itself")
@pytest.mark.parametrize("name", VERBS)
def test_a_call_fails(scene, name, capsys):
    most = 1 << 20 if FAULTS == "all" else int(FAULTS or SAMPLES[name])
    stage, verb = make_stage(scene, name, most), VERBS[name]()
    path = stage.next()
    verb.prepare(stage, path)
    found = faults.calls(stage.log, **stage.request, PATH="" if name == "survey" else path, **verb.request)
    sweep(stage, name, (partial(faults.strike, stage.log, *fault) for fault in faults.choose(found, most, f"{SEED} {name}")), capsys)


@pytest.mark.slow
@pytest.mark.timeout(0 if FAULTS else 600)
@pytest.mark.skipif(is_sanitized(), reason="a sanitizer allocates by itself")
@pytest.mark.parametrize("name", VERBS)
def test_there_is_no_memory(scene, name, capsys):
    most = 8_000 if FAULTS == "all" else int(FAULTS or SAMPLES[name] // 2)
    chance = random.Random(f"{SEED} {name}")
    numbers = range(1, most) if FAULTS == "all" else [int(2 ** chance.uniform(4, 11)) for _ in range(most)]
    stage = make_stage(scene, name, most)
    sweep(stage, name, (partial(faults.starve, stage.log, at) for at in numbers), capsys)


@pytest.mark.slow
@pytest.mark.skipif(is_sanitized(), reason="a sanitizer makes calls by itself")
@pytest.mark.parametrize("name", ["finalize", "mark"])
def test_staging_that_stays(scene, name):
    """What cannot be removed is told: the daemon has a survey clear it away."""
    stage, verb = make_stage(scene, name, 40), VERBS[name]()
    path = stage.next()
    verb.prepare(stage, path)
    found = faults.calls(stage.log, **stage.request, PATH=path, **verb.request)
    removals = [n for n, call, what in found if call == "unlinkat" and what.startswith("/.ovlfind/")]
    assert removals
    for at in removals:
        path = stage.next()
        verb.prepare(stage, path)
        fault, answer, status = faults.strike(stage.log, at, "unlinkat", "EIO", **stage.request, PATH=path, **verb.request)
        result = result_of(answer)
        assert status == 0 and result["name"] == "None", f"{fault}: {answer}"
        # On a busy machine another call may have that number, that of the empty directory around, which the next job removes.
        assert not stage.leftovers() or result["state"] == 1 or not fault.what.strip().startswith("/.ovlfind/"), \
            f"{fault}: {stage.leftovers()} {answer}"
        stage.ask("", VERB="survey")
        assert not stage.leftovers(), str(fault)
