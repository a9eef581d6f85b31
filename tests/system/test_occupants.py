# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes stand in a tree and work there by relative names, at random against a model, as shells, editors, build tools, package
managers and git do; the tree is finalized, refreshed and unfinalized meanwhile. Nothing is lost, nothing comes back, nothing is set
aside (ovltest/occupants.py). OVLFIND_OCCUPANT_ROUNDS sets how many rounds are run by option (auto, wait, keep), over all file
systems; OVLFIND_OCCUPANT_SEED which ones."""

import io
import json
import os
import random
import re
import shlex
import tarfile
import time
from contextlib import closing

import dbus
import pytest

from ovltest import Scene, run
from ovltest.daemon import wait_for
from ovltest.holders import Shell
from ovltest.oldtree import STAGING, await_kept, await_removed, content, kept_by_path, kept_files, old_trees
from ovltest.occupant import Occupant, first_difference
from ovltest.occupants import LETTERS, PLACES, STILL, File, Model, OldTree, Process, Script, flat, source
from ovltest.tree import write

ROUNDS = int(os.environ.get("OVLFIND_OCCUPANT_ROUNDS", "20"))
SEED = int(os.environ.get("OVLFIND_OCCUPANT_SEED", "1"))
UPPERS = ("ext4-256", "xfs", "btrfs", "tmpfs")
OPTIONS = ("auto", "wait")
PER_SEED = 30  # rounds; then all is made anew
TOP = "p/t"
ALICE = 1000
SOFT = {"Finalize": {"QuietSec": "0"}}


class Rounds:
    """What one seed says."""

    is_nothing_set_aside = True

    def __init__(self, scene, upper, seed):
        self.scene, self.seed, self.dice = scene, seed, random.Random(seed)
        self.source = scene.source()
        self.model = source(os.path.join(self.source, TOP))
        self.overlay = scene.overlay(self.source, upper=scene.upper(upper, size_mib=512))
        self.daemon = scene.daemon(soft=(self.overlay, SOFT))
        self.writers = [scene.keep(Process(letter)) for letter in LETTERS]
        self.reader = scene.keep(Process("reader", ALICE))
        self.top, self.round, self.what, self.is_finalized = self.overlay / TOP, 0, "", False
        self.options = []  # that come next
        self.coming = {}  # to the lower: it shows when a refresh is done

    def fail(self, *wrong):
        story = [line for p in (*self.writers, self.reader) for line in p.story()]
        pytest.fail("\n".join((f"OVLFIND_OCCUPANT_SEED={self.seed}, round {self.round}: {self.what}", *map(str, wrong), *story)),
                    pytrace=False)

    def check(self, when):
        """By path."""
        seen = Occupant().see(self.top, "")
        for path in (self.coming.keys() - self.model.keys()) & flat(seen).keys():
            self.model[path] = self.coming[path]
        if seen != (expected := self.model.tree()):
            self.fail(f"by path {when}: {first_difference(TOP, seen, expected)}")
        if self.is_nothing_set_aside and (set_aside := kept_files(self.overlay)):
            self.fail(f"set aside {when}: {set_aside}")

    def await_gone(self):
        wait_for(lambda: self.daemon.kept() == 0 and not self.daemon.workers(), "the old tree to go")

    def start(self, verb, standing):
        return getattr(self.daemon.manager(), verb)(self.top, dbus.Dictionary({"standing": standing}, "sv"))

    def choose_job(self):
        """Both options as often."""
        verb = self.dice.choice(("Unfinalize", "Unfinalize", "Refresh")) if self.is_finalized else "Finalize"
        if not self.options:
            self.options = self.dice.sample(OPTIONS, len(OPTIONS))
        standing = self.options.pop()
        self.what = f"{verb} {standing}"
        return verb, standing, lambda: self.start(verb, standing)

    def ended(self, job, verb):
        p = self.daemon.wait_job(job)
        if p["State"] != "done":
            self.fail(f"the job: {p['State']}: {p['Reason']}")
        self.model.update(self.coming)
        if verb != "Refresh":
            self.is_finalized = verb == "Finalize"

    def add_to_lower(self):
        path = os.path.join(self.dice.choice(PLACES), f"lower-{self.round}")
        self.coming[path] = File(f"came in round {self.round}")
        write(os.path.join(self.source, TOP, path), self.coming[path].content.encode())

    def work(self, scripts, between=lambda: None):
        """All at once."""
        for process, script in scripts:
            process.start(*script.take())
        between()
        if wrong := [w for process, _ in scripts for w in process.finish()]:
            self.fail(*wrong)

    def choose_scripts(self):
        writers = self.dice.sample(self.writers, self.dice.choice((1, 1, 2, 3)))
        return [(p, Script(self.model, p.letter, self.dice.choice(PLACES), self.dice)) for p in writers]

    def choose_and_work(self, scripts, most):
        for _, script in scripts:
            script.choose(self.dice.randrange(1, most + 1))
        self.work(scripts)

    def enter(self, scripts):
        for process, script in scripts:
            process.stand(self.top, script.place, self.dice.choice(("cwd", "fd")))

    def go(self):
        """One round."""
        self.round += 1
        scripts, (verb, standing, start) = self.choose_scripts(), self.choose_job()
        if verb != "Refresh" and self.dice.random() < 0.25:
            self.come_late(scripts, verb, start)
            return
        readers, jobs = self.dice.choice(([], [], [self.reader])), []
        for reader in readers:
            place = self.dice.choice(PLACES)
            reader.stand(self.top, place, self.dice.choice(("cwd", "fd")))
            reader.start(["keep_expecting", ".", STILL, self.model.tree(place, STILL)])
        self.enter(scripts)
        if verb == "Refresh":
            self.add_to_lower()
        for begins in self.dice.sample((True, False, False), 3):
            for _, script in scripts:
                script.choose(self.dice.randrange(1, 4))
            self.work(scripts, lambda: jobs.append(start()) if begins else None)
        self.leave(scripts, verb, standing, jobs[0], readers)

    def come_late(self, scripts, verb, start):
        """While the job builds, or exchanges: who comes after its last look has an old tree, and the rule is that of keep."""
        old_tree, told = OldTree(self.model), len(self.daemon.log())
        for _, script in scripts:
            script.old_tree = old_tree
        job = start()
        time.sleep(self.dice.random() * 0.4)
        self.enter(scripts)
        self.choose_and_work(scripts, 4)
        for process, _ in scripts:
            process.leave()
        self.ended(job, verb)
        self.await_gone()
        log = self.daemon.log()[told:]
        if "stays until" not in log and "in the old tree that stands beside it" not in log:  # the latter alone: they left at once
            self.check("when all have left")
            return
        if wrong := old_tree.check(flat(Occupant().see(self.top, "")))[0]:
            self.fail("they came at the last moment:", *wrong)
        self.model = Model.of(self.top)

    def waits_for(self, job, processes):
        """All of them, whom it names if they are few, and nobody else."""
        p = wait_for(lambda: (p := self.daemon.job(job))["State"] in ("waiting", "done", "failed") and p, "the job to wait")
        named = {int(pid) for pid in re.findall(r"(\d+) \(python3", p["Reason"])}
        number = re.search(r"(\d+) process", p["Reason"])
        expected = {n.pid for n in processes}
        if p["State"] != "waiting" or not named or not named <= expected or int(number[1]) != len(expected):
            self.fail(f"it should wait for {expected}: {p['State']}: {p['Reason']}")

    def still_waits(self, job):
        time.sleep(self.dice.choice((0, 0, 0, 0.4)))
        if (p := self.daemon.job(job))["State"] != "waiting":
            self.fail(f"it should wait: {p['State']}: {p['Reason']}")

    def leave(self, scripts, verb, standing, job, readers):
        """One after the other; the job waits for the last one who could change names."""
        writers, waits = [p for p, _ in scripts], verb != "Refresh"
        if waits:
            self.waits_for(job, writers + (readers if standing == "wait" else []))
        self.check("while they stand there")  # who looks stands there, too: not before it is said who does
        while writers:
            if waits:
                self.still_waits(job)
            writers.pop().leave()
        for reader in readers:
            if waits and standing == "wait":
                self.still_waits(job)
            else:
                self.ended(job, verb)
                self.check("while the reader stands there")
            reader.start()
            if wrong := reader.finish() + reader.finish():
                self.fail(*wrong)
            reader.leave()
        self.ended(job, verb)
        self.check("when all have left")
        self.await_gone()
        self.check("when all is done")

    def remount(self):
        self.daemon.stop()
        self.overlay.remount()
        self.check("after a remount")
        self.daemon.start()

    def finish(self):
        wait_for(lambda: not os.path.exists(self.overlay / STAGING) and not old_trees(self.overlay), "all of ours to go")
        self.remount()
        self.daemon.ctl("verify", "soft").ok()

    def play(self, n):
        for i in range(n):
            self.go()
            if i % 10 == 9:
                self.remount()
        self.finish()


def play(kind, scene, upper, rounds):
    """Seed after seed, each in a scene of its own."""
    for seed in range(SEED, SEED + -(-rounds // PER_SEED)):
        with closing(Scene(scene.subdir("seed"))) as s:
            scene.daemons = s.daemons
            kind(s, upper, seed).play(min(PER_SEED, rounds))


@pytest.mark.timeout(120 + 20 * ROUNDS)
@pytest.mark.parametrize("upper", UPPERS)
def test_who_can_change_names_is_waited_for(scene, upper):
    play(Rounds, scene, upper, len(OPTIONS) * max(ROUNDS // len(UPPERS), 1))


class KeepRounds(Rounds):
    """They work in the old tree; what shows by path is what the rule says of it."""

    is_nothing_set_aside = False

    def seen(self):
        return flat(Occupant().see(self.top, ""))

    def check_rule(self, old_tree, when, timeout=0):
        """Returns contents of files without a place."""
        deadline = time.monotonic() + timeout
        while True:
            wrong, without = old_tree.check(self.seen())
            if not wrong:
                return without
            if time.monotonic() > deadline:
                self.fail(f"by path {when}:", *wrong[:20])
            time.sleep(0.05)

    def go(self):
        self.round += 1
        verb = "Unfinalize" if self.is_finalized else "Finalize"
        self.what = f"{verb} keep"
        scripts, told, before = self.choose_scripts(), len(self.daemon.log()), kept_by_path(self.overlay)
        old_tree = OldTree(self.model)
        for _, script in scripts:
            script.old_tree = old_tree
        self.enter(scripts)
        self.choose_and_work(scripts, 2)
        self.check("before")
        job = self.start(verb, "keep")
        if self.dice.random() < 0.5:
            self.choose_and_work(scripts, 3)
        self.ended(job, verb)
        wait_for(lambda: self.daemon.kept() == 1, "the old tree to be kept")
        self.check_rule(old_tree, "after the exchange", 100)
        old_tree.settle(self.seen())
        for _ in range(self.dice.randrange(1, 4)):
            self.choose_and_work(scripts, 3)
            if self.dice.random() < 0.5:
                self.check_rule(old_tree, "while they stand there", 100)
        self.check_rule(old_tree, "while they stand there", 100)
        aside = self.others_come(old_tree, scripts)
        for process, script in scripts:
            process.ask(*script.take())
        self.check_rule(old_tree, "after others came", 100)
        if refreshes := self.is_finalized and self.dice.random() < 0.5:
            self.refresh_in_vain(old_tree, scripts)
        for process, _ in scripts:
            process.leave()
        self.await_gone()
        if refreshes:
            self.ended(self.start("Refresh", "keep"), "Refresh")
        aside += self.check_rule(old_tree, "when all have left")
        kept = {what for path, what in kept_by_path(self.overlay).items() if path not in before}
        self.check_told(old_tree, aside, sorted(kept), self.daemon.log()[told:])
        self.end_round()

    def refresh_in_vain(self, old_tree, scripts):
        """What is new in the lower is not taken up as long as they stand there, and they are named."""
        self.add_to_lower()
        p = self.daemon.wait_job(self.start("Refresh", "keep"))
        notes = [n for n in p["Notes"] if f"/lower-{self.round}: " in n]
        if p["State"] != "done" or len(notes) != 1 or not any(f"{process.pid} (python3" in notes[0] for process, _ in scripts):
            self.fail(f"a refresh while they stand there: {p['State']}: {p['Reason']}", *p["Notes"])
        self.check_rule(old_tree, "after a refresh while they stand there")

    def others_come(self, old_tree, scripts):
        """By path others replace or remove what is his, and then he may replace that. Returns contents that must be set aside."""
        aside = []
        for process, script in scripts:
            names = [p for place in PLACES for p in self.model.own(place, process.letter, File) if p in old_tree.placed]
            names = [p for p in names if not old_tree.may_stay(p) and not p.endswith(".tmp")]  # that he takes to replace others
            for path in self.dice.sample(names, min(len(names), 4)):
                is_removed, at = self.dice.random() < 0.5, os.path.join(self.top, path)
                if is_removed:
                    os.unlink(at)
                    old_tree.others[path] = None
                else:
                    old_tree.others[path] = File(f"others {script.content()}")
                    write(at + ".others", old_tree.others[path].content.encode())
                    os.rename(at + ".others", at)
                if self.dice.random() < 0.5:
                    script.replace_name(path, "create")  # a stale one may be another name of the file, which a rename leaves
                    if is_removed:
                        del old_tree.others[path]
                    else:
                        aside.append(self.model[path].content.encode())
        self.check_others(old_tree)
        return aside

    def check_told(self, old_tree, aside, kept, log):
        aside = sorted({a if isinstance(a, bytes) else a.encode() for a in aside})
        if aside != kept:
            self.fail(f"set aside: {kept}, not {aside}")
        if log.count("/kept/") < len(kept):
            self.fail(f"not all that was set aside is told: {kept}", log)
        removals = log.count("names were removed or renamed in the old tree")
        if removals > 1 or (removals == 0 and old_tree.placed - self.model.keys()):
            self.fail(f"removals were told {removals} times")
        self.check_others(old_tree)

    def check_others(self, old_tree):
        seen = self.seen()
        for path, entry in old_tree.others.items():
            if seen.get(path) != (entry and entry.content):
                self.fail(f"{path} is {seen.get(path)}, not {entry and entry.content} as others have left it")

    def end_round(self):
        """What is seen now is where the next round begins, as it is or undone."""
        before, self.model = self.seen(), Model.of(self.top)
        if self.is_finalized and self.dice.random() < 0.3:
            self.ended(self.start("Unfinalize", "wait"), "Unfinalize")
        if self.dice.random() < 0.2:
            self.remount()
        after = self.seen()
        if after != before:
            self.fail("afterwards:", *[f"{p}: {before.get(p)} is now {after.get(p)}" for p in before.keys() | after.keys()
                                       if before.get(p) != after.get(p)])

    def play(self, n):
        for _ in range(n):
            self.go()


@pytest.mark.first
@pytest.mark.timeout(120 + 20 * ROUNDS)
@pytest.mark.parametrize("upper", UPPERS)
def test_an_old_tree_is_theirs(scene, upper):
    play(KeepRounds, scene, upper, max(ROUNDS // len(UPPERS), 1))


GIT = "GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b git"

CONFIGURE = """#!/bin/sh
set -e
: >config.log
for f in stdio.h unistd.h no_such.h; do
        rm -f conftest*
        printf '#include <%s>\\nint main(void) { return 0; }\\n' $f >conftest.c
        if gcc -c conftest.c -o conftest.o 2>>config.log; then
                echo "#define HAVE_$(echo $f | tr a-z. A-Z_) 1" >>confdefs.h
        fi
done
rm -f conftest*
mv confdefs.h config.h.new
mv config.h.new config.h
echo "#define SRCDIR \\"$(pwd -P)\\"" >>config.h
sed "s|@srcdir@|$(pwd -P)|" Makefile.in >Makefile.new
mv -f Makefile.new Makefile
"""
MAKEFILE = """all: program
OBJECTS = main.o $(patsubst %,part%.o,1 2 3 4 5 6 7 8)
program: $(OBJECTS)
\tgcc -o $@.tmp $(OBJECTS) && mv -f $@.tmp $@
%.o: @srcdir@/%.c config.h
\tgcc -MD -MP -I. -c $< -o $@.tmp && mv -f $@.tmp $@
clean:
\trm -f *.o *.d program
-include $(OBJECTS:.o=.d)
"""


def have_files(top):
    for i in range(60):
        write(os.path.join(top, f"d{i % 7}", str(i)))


def have_repository(top):
    have_files(top)
    run("sh", "-ec", f"git() {{ env {GIT} \"$@\"; }}; git init -q -b master && git add . && git commit -qm first && git tag first", cwd=top)


def have_sources(top):
    write(os.path.join(top, "configure"), CONFIGURE.encode(), 0o755)
    write(os.path.join(top, "Makefile.in"), MAKEFILE.encode())
    parts = [f"part{i}" for i in range(1, 9)]
    for part in parts:
        write(os.path.join(top, f"{part}.c"), f"int {part}(void) {{ return 1; }}\n".encode())
    declared, called = "".join(f"int {part}(void);\n" for part in parts), " + ".join(f"{part}()" for part in parts)
    write(os.path.join(top, "main.c"), f"""#include <stdio.h>
#include "config.h"
{declared}
int main(void) {{ printf("%s %d\\n", SRCDIR, {called}); return 0; }}
""".encode())


# What is written with the working directory in it has the path of an old tree there.
NAMED_IN_AN_OLD_TREE = ("grep -rlF .ovlfind env || echo none", "echo none")

NPM = "npm_config_cache=$PWD/.npm npm --offline --no-audit --no-fund --no-update-notifier"
FUNCTIONS = f'git() {{ env {GIT} "$@"; }}; npm() {{ env {NPM} "$@"; }};'


def have_packages(top):
    """An application, and what it needs as files: nothing comes from elsewhere."""
    have_files(top)
    write(os.path.join(top, "app.js"), b"console.log(require('left')(require('right')))\n")
    write(os.path.join(top, "package.json"), b'{"name": "app", "version": "1.0.0"}\n')
    for name, source in (("left", "module.exports = (f) => 'left of ' + f();\n"), ("right", "module.exports = () => 'right';\n")):
        with tarfile.open(os.path.join(top, f"{name}.tgz"), "w:gz") as archive:
            for path, text in (("package.json", json.dumps({"name": name, "version": "1.0.0"})), ("index.js", source),
                               *((f"lib/part{i}.js", source) for i in range(40))):
                member = tarfile.TarInfo(f"package/{path}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))


# What is there, what the shell does (the job begins after the first of it), what shows afterwards that it is right, and that.
PROGRAMS = {
    "git": (
        have_repository,
        ["echo changed >d1/1 && git commit -qam second",
         "git checkout -qb branch first && git rm -rq d2 && git commit -qm third",
         "git gc -q --prune=now && git config some.thing set",
         "git checkout -q master && git merge -q branch -m fourth",
         "git repack -adfq && echo x >new && git add new && git commit -qm fifth"],
        "git fsck --full --strict && git status --porcelain && git log --format=%s | sort && git config some.thing && "
        "cat d1/1 && ls",
        "fifth\nfirst\nfourth\nsecond\nthird\nset\nchanged\nd0\nd1\nd3\nd4\nd5\nd6\nnew\n"),
    "venv": (
        have_files,
        ["mkdir d0/made", "/usr/bin/python3 -m venv env", ". env/bin/activate && pip --version && deactivate"],
        "env/bin/pip --version >/dev/null && "
        "env/bin/python -c 'import os, sys; print(sys.prefix == os.getcwd() + \"/env\")' && grep -rlF .ovlfind env || echo none",
        "True\nnone\n"),
    "npm": (
        have_packages,
        ["npm install ./left.tgz", "npm install ./right.tgz && node app.js", "rm -rf node_modules && npm install",
         "npm uninstall left && npm install ./left.tgz"],
        "node app.js && ls && ls node_modules/left/lib | wc -l",
        "left of right\napp.js\nd0\nd1\nd2\nd3\nd4\nd5\nd6\nleft.tgz\nnode_modules\npackage-lock.json\npackage.json\nright.tgz\n40\n"),
    "make": (
        have_sources,
        ["./configure", "make -s", "make -s clean && make -s -j2", "touch part3.c && ./configure && make -s"],
        "./program | sed \"s|^$(pwd -P) ||\" && make -q && echo all is made",
        "8\nall is made\n"),
}


@pytest.fixture(name="made")
def fixture_made(scene, request):
    """An overlay with what a program works on, and a shell that stands there."""
    source_top = scene.source()
    os.makedirs(os.path.join(source_top, TOP))
    PROGRAMS[request.param][0](os.path.join(source_top, TOP))
    overlay = scene.overlay(source_top, upper="ext4-256")
    shell = scene.keep(Shell(overlay / TOP))
    shell.do(f"{FUNCTIONS} true")
    return overlay, shell, *PROGRAMS[request.param][1:]


@pytest.mark.parametrize("made", PROGRAMS, indirect=True)
def test_programs(scene, made):
    """The job waits until the shell has left."""
    overlay, shell, commands, ask, expected = made
    daemon = scene.daemon(soft=(overlay, SOFT))

    def answer():
        return run("sh", "-c", f"{FUNCTIONS} {ask}", cwd=overlay / TOP).stdout

    job = None
    for command in commands:
        shell.do(command)
        job = job or daemon.finalize(overlay / TOP)
    p = daemon.wait_job(job, ("waiting", "done", "failed"))
    assert p["State"] == "waiting" and str(shell.process.pid) in p["Reason"]
    assert answer() == expected
    shell.close()
    assert daemon.wait_job(job)["State"] == "done"
    assert answer() == expected and not kept_files(overlay)
    daemon.ctl("unfinalize", overlay / TOP).ok()
    assert answer() == expected and not kept_files(overlay)
    daemon.stop()
    overlay.remount()
    assert answer() == expected


def contents(top):
    """Path -> content of each file, target of each symlink."""
    found = {}
    for d, dirs, names in os.walk(top):
        for path in (os.path.join(d, n) for n in dirs + names):
            if os.path.islink(path):
                found[os.path.relpath(path, top)] = os.fsencode(os.readlink(path))
            elif os.path.isfile(path):
                found[os.path.relpath(path, top)] = content(path)
    return found


@pytest.mark.parametrize("made", PROGRAMS, indirect=True)
def test_programs_in_an_old_tree(scene, made):
    """It is the shell's, and so all works there; each file it has in the end is by path, or set aside."""
    overlay, shell, commands, ask, expected = made
    daemon = scene.daemon(soft=(overlay, SOFT))
    shell.do(commands[0])
    assert daemon.wait_job(daemon.finalize(overlay / TOP, standing="keep"))["State"] == "done"
    await_kept(daemon)
    for command in commands[1:]:
        shell.do(command)
    assert shell.do(f"sh -c {shlex.quote(FUNCTIONS + ask.replace(*NAMED_IN_AN_OLD_TREE))}") == expected
    theirs = contents(f"/proc/{shell.process.pid}/cwd/")
    shell.close()
    await_removed(overlay, daemon)
    by_path, aside = contents(overlay / TOP), kept_files(overlay)
    lost = [path for path, what in theirs.items() if by_path.get(path) != what and what not in aside]
    assert len(theirs) > 30 and not lost, (lost, daemon.log())
