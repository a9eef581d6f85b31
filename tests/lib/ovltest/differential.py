# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random lower layers, random operations through both of two overlays of them; one is finalized, unfinalized, refreshed,
mounted anew all the while, by workers that are killed now and then. Both answer alike, and look alike.

A program of its own, which sees no processes but its own: many of them run side by side, and what a worker spends on looking
through /proc is not what is tested.

    unshare -mpf --mount-proc env PYTHONPATH=tests/lib OVLFIND_BUILD=build \\
            /usr/bin/python3 -m ovltest.differential --seed=7 --examples=1000 --upper=xfs"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .env import enter_namespace, run
from .twins import ADDED, ATTRIBUTES, Twins
from .uppers import UPPERS, Upper

DIRECTORIES = ["d", "e", "f"]
NAMES = ["a", "b", "ü \n\\,:"]
ONE = ["write", "append", "truncate", "unlink", "rmdir", "rmtree", "mkdir", "chmod", "chown", "utime", "setxattr", "removexattr",
       "acl", "read", "list", "stat", "symlink", "fifo", "device", "hold", "use_held", "drop"]
TWO = ["rename", "rename", "exchange", "noreplace", "link"]
FINALIZE = [{}, {}, {"METHOD": "mark"}, {"DATA_BYTES": "1000"}, {"HARD_LINKS": "break"}, {"DEPTH": "0", "METHOD": "mark"},
            {"PARENTS": "1"}]
# Jobs that end in a failure with these leave everything as it was.
REFUSALS = {"Precondition", "Invalid", "NotManaged", "Busy"}

paths = st.lists(st.sampled_from(DIRECTORIES), max_size=2).map("/".join)
names = st.sampled_from(NAMES + DIRECTORIES)
# What is there, by number, or a name that may be there or not.
places = st.one_of(st.integers(0, 50), st.tuples(paths, names))
positions = st.integers(0, 20)
kills = st.one_of(st.none(), st.none(), st.integers(0, 60))
operation = st.one_of(
    st.tuples(st.sampled_from(ONE), places),
    st.tuples(st.sampled_from(TWO), places, places),
    st.tuples(st.just("finalize"), positions, st.sampled_from(FINALIZE), kills),
    st.tuples(st.just("finalize"), positions, st.just({}), st.none()),
    st.tuples(st.sampled_from(["unfinalize", "refresh", "survey", "prune"]), positions, st.just({}), kills),
    st.tuples(st.just("remount"), st.sampled_from(["anew", "reconfigure"])),
    st.tuples(st.just("add"), positions))


@st.composite
def layer(draw, is_lowest):
    """path -> (kind, attribute), without a file on the way to another path."""
    kinds = ["file"] * 4 + ["empty", "link", "fifo", "directory", "directory"]
    kinds += ["hard"] if draw(st.integers(0, 4)) == 0 else []
    kinds += [] if is_lowest else ["whiteout", "opaque"]
    entries = {}
    for directory in draw(st.lists(paths, min_size=1, max_size=4)):
        for name in draw(st.lists(names, max_size=4)):
            kind = draw(st.sampled_from(kinds))
            entries[os.path.join(directory, name)] = (kind, draw(st.sampled_from(list(ATTRIBUTES))))
    return {p: e for p, e in entries.items() if not is_covered(p, entries)}


def is_covered(path, entries):
    """By what is no directory; and a whiteout in an opaque directory would show."""
    above = [entries.get(path[:i], ("directory",))[0] for i, c in enumerate(path) if c == "/"]
    return any(kind not in ("directory", "opaque") for kind in above) or ("opaque" in above and entries[path][0] == "whiteout")


@st.composite
def layers(draw):
    """One to three, uppermost first. A directory of one layer alone is not merged, whiteouts in it would show: so all layers
    have the directories that hold some."""
    result = [draw(layer(is_lowest=i == 0)) for i in range(draw(st.integers(1, 3)))][::-1]
    for directory in {os.path.dirname(p) for entries in result for p, (kind, _) in entries.items() if kind == "whiteout"} - {""}:
        for entries in result:
            for i in (i for i, c in enumerate(directory + "/") if c == "/"):
                if entries.get(directory[:i], ("file",))[0] not in ("directory", "opaque"):
                    entries[directory[:i]] = ("directory", "plain")
    return result


class Steering:
    """What happens to one of the two only, and how it went."""

    def __init__(self, twins, outcomes):
        self.twins, self.outcomes = twins, outcomes
        self.was_killed = False

    def survey(self):
        """Puts in order what a kill has left, as the daemon does before it starts another job."""
        if self.was_killed:
            self.was_killed = False
            self.job("survey", "", {})

    def job(self, verb, path, request, kill=None):
        answer = self.twins.ask(verb, path, kill, **request)
        result = next((r for r in answer if r["kind"] == "result"), None)
        self.was_killed = kill is not None and result is None
        name = result["name"] if result else "killed"
        self.outcomes[f"{verb} {name}"] += 1
        if result and name != "None":
            assert name in REFUSALS, (verb, path, request, answer)
            self.outcomes[f"{verb}: {result['text']}"] += 1
        return name == "None"

    def run(self, verb, number, request, kill):
        self.survey()
        path = self.twins.directory(number)
        before = self.twins.listings()
        is_done = self.job(verb, path, request, kill)
        if not self.was_killed:
            self.check_times(before, self.twins.listings(), verb)
        if is_done and verb == "refresh":
            hidden = [p for p in self.twins.hidden() if p.startswith(path + "/") or path == ""]
            assert hidden == [], hidden

    @staticmethod
    def check_times(before, after, verb):
        """A directory has another time if names came or went in it, and only then; refresh exchanges entries as anybody would. What
        the lower layers have got shows in a merged directory once the kernel forgets its listing, for whatever reason. That of an
        overlay's root is held by each daemon of another test that asks what it is made of."""
        for p in before.keys() & after.keys():
            (names, mtime), (names_after, mtime_after) = before[p], after[p]
            if (verb == "prune" or p == ".") and {n for n in names ^ names_after if not n.startswith(ADDED)} == set():
                names = names_after
            if names != names_after or verb not in ("refresh", "prune"):
                assert (names != names_after) == (mtime != mtime_after), (verb, p, before[p], after[p])

    def problems(self, **request):
        return [(r["name"], r["path"], r["text"]) for r in self.twins.ask("verify", **request) if r["kind"] == "problem"]

    def remount(self, method):
        self.survey()
        if method == "anew":
            self.twins.remount()
        else:
            self.job("remount", "", {"REMOUNT": method})


def example(twins, operations, outcomes):
    steering = Steering(twins, outcomes)
    for kind, *args in operations:
        if kind == "add":
            twins.add(twins.directory(*args))
        elif kind == "remount":
            steering.remount(*args)
        elif kind in ("finalize", "unfinalize", "refresh", "survey", "prune"):
            steering.run(kind, *args)
        else:
            twins.do(kind, *args)
    steering.survey()
    twins.compare()
    twins.remount()
    twins.compare()
    steering.job("survey", "", {})  # takes up what users left behind, as every start does
    # A whiteout in a directory that was opaque when it was made, and the record of a mark that a kill prevented: no harm.
    problems = steering.problems(REPAIR=1)
    assert {name for name, *_ in problems} <= {"idle-whiteout", "idle-record"}, problems
    if problems:
        assert steering.problems() == []
        twins.compare()
    if steering.job("unfinalize", "", {}):
        assert twins.hidden() == []
        twins.compare()
        twins.fill(NAMES + DIRECTORIES)  # what nobody has deleted shows, however often its name was in use here
        twins.compare(times=False)


def run_examples(args):
    base = tempfile.mkdtemp(prefix="ovltest-")
    run("mount", "-t", "tmpfs", "-o", "size=2g,mode=755", "ovltest", base)
    upper = Upper(base, args.upper)
    outcomes, numbers = Counter(), itertools.count()

    @seed(args.seed)
    @settings(max_examples=args.examples, deadline=None, database=None, print_blob=False,
              phases=(Phase.generate, *([Phase.shrink] if args.shrink else [])), suppress_health_check=list(HealthCheck))
    @given(layer_list=layers(), operations=st.lists(operation, min_size=3, max_size=18))
    def both_answer_alike(layer_list, operations):
        n = next(numbers)
        directories = [os.path.join(top, f"x{n}") for top in (upper.point, base)]
        twins = Twins(*directories, layer_list)
        try:
            example(twins, operations, outcomes)
        finally:
            twins.close()
            for directory in directories:
                shutil.rmtree(directory)

    try:
        both_answer_alike()
    finally:
        upper.close()
        run("umount", "-l", base, check=False)
        os.rmdir(base)
    if args.outcomes:
        for outcome, n in sorted(outcomes.items(), key=lambda item: -item[1]):
            print(n, outcome)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--upper", choices=UPPERS, default="tmpfs")
    parser.add_argument("--outcomes", action="store_true", help="count how jobs ended")
    parser.add_argument("--shrink", action="store_true", help="make an example that fails as small as it can be")
    args = parser.parse_args()
    enter_namespace()
    run("mount", "-t", "proc", "proc", "/proc")
    run_examples(args)


if __name__ == "__main__":
    sys.exit(main())
