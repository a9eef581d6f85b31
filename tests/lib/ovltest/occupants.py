# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that stand at several depths of a tree (occupant.py), what they are given to do, and a model of what must be there
then. Everybody has names of his own, which begin with his letter, in all directories: so the model is right in whatever order
things happen."""

import json
import os
import stat
import subprocess
from pathlib import Path

from .env import spawn
from .tree import age

PROGRAM = Path(__file__).with_name("occupant.py").read_text(encoding="utf-8")  # others may not come to where it lies
PLACES = ("", "sub", "sub/deep", "other")
LETTERS = "abc"
STILL = "still-"  # nobody changes these
SIZES = (100, 600, 2000)


class File:
    """Several names may have it."""

    def __init__(self, content):
        self.content = content


class Model(dict):
    """path -> File, [target of a symlink], or None for a directory."""

    def inside(self, path):
        return [p for p in self if p.startswith(path + "/")]

    def own(self, place, letter, what=object):
        """Paths of somebody's entries in a place."""
        top = os.path.join(place, letter + "-")
        return [p for p, e in self.items() if p.startswith(top) and "/" not in p[len(top):] and
                (what is object or isinstance(e, what))]

    def rename(self, old, new):
        if self[old] is not None and self[old] is self.get(new):
            return  # two names of one file stay
        for p in [old, *self.inside(old)]:
            self[new + p[len(old):]] = self.pop(p)

    def remove(self, path):
        for p in [path, *self.inside(path)]:
            del self[p]

    @classmethod
    def of(cls, top):
        """What is there: names of one file have one."""
        model, files = cls(), {}
        for directory, dirs, names in os.walk(top):
            for name in dirs + names:
                path = os.path.join(directory, name)
                st = os.lstat(path)
                entry = None
                if stat.S_ISLNK(st.st_mode):
                    entry = [os.readlink(path)]
                elif stat.S_ISREG(st.st_mode) and (entry := files.get((st.st_dev, st.st_ino))) is None:
                    with open(path, encoding="utf-8") as f:
                        entry = files[st.st_dev, st.st_ino] = File(f.read())
                model[os.path.relpath(path, top)] = entry
        return model

    def tree(self, place="", prefix=""):
        """As an occupant sees it."""
        top, result = place + "/" if place else "", {}
        for path, entry in sorted(self.items()):
            if path.startswith(top + prefix):
                *parents, name = path[len(top):].split("/")
                directory = result
                for parent in parents:
                    directory = directory[parent]
                directory[name] = {} if entry is None else entry.content if isinstance(entry, File) else entry
        return result

def source(top):
    """Makes the tree of the lower; returns the model of it."""
    model = Model()
    for place in PLACES:
        os.makedirs(os.path.join(top, place), exist_ok=True)
        if place:
            model[place] = None
        for letter in LETTERS:
            model[os.path.join(place, f"{letter}-dir")] = None
        names = [f"{STILL}{i}" for i in range(3)] + [f"{letter}-{i}" for letter in LETTERS for i in range(10)]
        names += [f"{letter}-dir/{i}" for letter in LETTERS for i in range(5)]
        for name in names:
            path = os.path.join(place, name)
            model[path] = File(f"lower {path}")
            os.makedirs(os.path.dirname(os.path.join(top, path)), exist_ok=True)
            with open(os.path.join(top, path), "w", encoding="utf-8") as f:
                f.write(model[path].content)
    age(top)
    return model


class OldTree:
    """What the rule of Standing=keep says of paths, while and after somebody works in an old tree. The model is what he sees there."""

    def __init__(self, model):
        self.model = model
        self.had = {path: [entry] for path, entry in model.items()}  # all that a name ever was in the old tree
        self.placed = set()  # names that stay in the new tree
        self.others = {}  # what others put there by path, None for what they removed

    def note(self, path):
        for p in (path, *self.model.inside(path)):
            self.had.setdefault(p, []).append(self.model[p])

    def settle(self, seen):
        """All has been replayed: from now on nothing is taken out of the new tree, and maybe already since somebody, after a long
        pause, made and removed names, which then are seen by path."""
        self.placed = set(self.model)
        stale = {path: self.had[path] for path in seen.keys() & self.had.keys() - self.model.keys()}
        self.had = {path: [entry] for path, entry in self.model.items()} | stale

    def may_stay(self, path):
        """Whether its place may be taken by what the new tree keeps: a directory by that name, or of a directory above."""
        parts = path.split("/")
        for i in range(1, len(parts) + 1):
            kinds = {entry is None for entry in self.had.get("/".join(parts[:i]), [])}
            if len(kinds) > 1:
                return True
        return False

    def check(self, seen):
        """seen: by path, flat. Returns what is wrong, and what has no place in the new tree (contents of files, targets)."""
        wrong, without = [], []
        for path, entry in self.model.items():
            if path in self.others:
                continue
            if path not in seen or seen[path] != shown(entry):
                if not self.may_stay(path):
                    wrong.append(f"{path} is {seen.get(path)}, not {shown(entry)}")
                elif entry is not None:
                    without.append(entry.content if isinstance(entry, File) else entry[0])
        for path in self.placed - self.model.keys() - seen.keys() - self.others.keys():
            wrong.append(f"{path} was removed in the old tree only, and is gone")
        for path, content in seen.items():
            had = [shown(e) for e in self.had.get(path, [])]
            if path not in self.model and path not in self.others and content not in had:
                wrong.append(f"{path} is {content}, not one of {had}")
        return wrong, without


def shown(entry):
    """As flat() has it."""
    return {} if entry is None else entry.content if isinstance(entry, File) else entry


def flat(tree, top=""):
    """Of what an occupant sees: path -> content, [target], or {} for a directory."""
    result = {}
    for name, entry in tree.items():
        result[top + name] = {} if isinstance(entry, dict) else entry
        if isinstance(entry, dict):
            result.update(flat(entry, f"{top}{name}/"))
    return result


class Script:
    """Operations of one occupant, as programs do them. What is chosen is done to the model at once."""

    def __init__(self, model, letter, place, dice, old_tree=None):
        self.model, self.letter, self.place, self.dice, self.old_tree = model, letter, place, dice, old_tree
        self.operations = []
        self.n = 0

    def rel(self, path):
        return os.path.relpath(path or ".", self.place or ".")

    def new(self, place, suffix=""):
        """A name nobody has."""
        while (path := os.path.join(place, f"{self.letter}-{self.dice.randrange(10_000)}{suffix}")) in self.model:
            pass
        return path

    def content(self):
        self.n += 1
        return f"{self.letter} {self.dice.randrange(1 << 30):x} {self.n}"

    def pick(self, place, what=object):
        """Somebody's entry there, or none."""
        own = self.model.own(place, self.letter, what)
        return self.dice.choice(own) if own else None

    # Calls

    def _add(self, kind, *args):
        self.operations.append([kind, *args])

    def _made(self, path):
        if self.old_tree:
            self.old_tree.note(path)

    def write(self, path, kind="write"):
        if path in self.model and (kind == "create" or not isinstance(self.model[path], File)):
            self.remove(path)  # stale: a name that was renamed in an old tree only is still there by path
        content = self.content()
        self._add(kind, self.rel(path), content)
        if kind == "append":
            self.model[path].content += content
        elif isinstance(self.model.get(path), File):
            self.model[path].content = content
        else:
            self.model[path] = File(content)
            self._made(path)

    def rename(self, old, new):
        self._add("rename", self.rel(old), self.rel(new))
        if not (self.model[old] is not None and self.model[old] is self.model.get(new)) and new in self.model:
            self.model.remove(new)
        self.model.rename(old, new)
        self._made(new)

    def link(self, old, new):
        self._add("link", self.rel(old), self.rel(new))
        self.model[new] = self.model[old]
        self._made(new)

    def symlink(self, path):
        if path in self.model:
            self.remove(path)  # stale
        self._add("symlink", self.content(), self.rel(path))
        self.model[path] = [self.operations[-1][1]]
        self._made(path)

    def mkdir(self, path):
        self._add("mkdir", self.rel(path))
        self.model[path] = None
        self._made(path)

    def remove(self, path):
        self._add("remove", self.rel(path))
        self.model.remove(path)

    def pause(self, msec=None):
        self._add("pause", self.dice.choice((0, 0, 1, 5, 30)) if msec is None else msec)

    # What programs do

    def save_with_backup(self, place):
        path = self.pick(place, File) or self.new(place)
        for _ in range(self.dice.randrange(1, 8)):
            self.write(path + ".new", "create")
            if path in self.model:
                self.rename(path, path + "~")
            self.rename(path + ".new", path)
            self.pause()

    def replace(self, place):
        path = self.pick(place, File) or self.new(place)
        for _ in range(self.dice.randrange(1, 8)):
            self.replace_name(path)

    def replace_name(self, path, kind="write"):
        self.write(path + ".tmp", kind)
        self.rename(path + ".tmp", path)

    def in_place(self, place):
        if path := self.pick(place, File):
            self.write(path, self.dice.choice(("write", "append")))

    def lock_file(self, place):
        """As git writes its index and its references."""
        path = self.pick(place, File) or self.new(place)
        self.write(path + ".lock", "create")
        self.pause()
        self.write(path + ".lock", "append")
        self.rename(path + ".lock", path)

    def loose_object(self, place):
        """As git writes objects."""
        temporary, path = self.new(place, ".tmp"), self.new(place)
        self.write(temporary, "create")
        self.link(temporary, path)
        self.remove(temporary)

    def upgrade(self, place):
        """As dpkg does it."""
        if path := self.pick(place, File):
            self.write(path + ".dpkg-new", "create")
            if path + ".dpkg-tmp" not in self.model:
                self.link(path, path + ".dpkg-tmp")
            self.pause()
            self.rename(path + ".dpkg-new", path)
            if self.dice.random() < 0.8:
                self.remove(path + ".dpkg-tmp")

    def unpack(self, place):
        """As npm and others install: beside, then in the place of what was there, which is removed then."""
        path, beside, old = self.pick(place, type(None)) or self.new(place), self.new(place, ".part"), self.new(place, ".old")
        self.mkdir(beside)
        for i in range(self.dice.randrange(1, 12)):
            self.write(f"{beside}/{i}")
        self.mkdir(f"{beside}/bin")
        self.write(f"{beside}/bin/run")
        if path in self.model:
            self.rename(path, old)
        self.rename(beside, path)
        self.pause()
        if old in self.model and self.dice.random() < 0.8:
            self.remove(old)

    def remake(self, place):
        """rm -rf of all, and the same names anew."""
        paths = self.model.own(place, self.letter)
        kept = {p: self.model[p] is None for p in paths}
        for path in paths:
            self.remove(path)
        self.pause(self.dice.choice((0, 0, 1, 20, 100)) if self.dice.random() < 0.97 else 3500)
        for path, is_directory in kept.items():
            if is_directory:
                self.mkdir(path)
                self.write(f"{path}/made")
            else:
                self.write(path)

    def many(self, place):
        path, n = self.new(place, ".many"), self.dice.choices(SIZES, (12, 3, 1))[0]
        self.mkdir(path)
        content = self.content()
        self._add("create_many", self.rel(path), "", n, content)
        self.model.update({f"{path}/{i}": File(content) for i in range(n)})
        self._made(path)
        self.pause()
        if self.dice.random() < 0.8:
            self.remove(path)

    def move_directory(self, place):
        if path := self.pick(place, type(None)):
            self.rename(path, self.new(self.dice.choice(PLACES)))

    def move(self, place):
        if path := self.pick(place):
            self.rename(path, self.new(self.dice.choice(PLACES)))

    def link_beside(self, place):
        if path := self.pick(place, File):
            self.link(path, self.new(self.dice.choice(PLACES)))

    def link_symbolically(self, place):
        path = self.new(place)
        self.symlink(path + ".tmp")
        self.rename(path + ".tmp", path)

    def tidy(self, place):
        own = self.model.own(place, self.letter)
        for path in self.dice.sample(own, min(len(own), max(len(own) - 25, 3))):
            self.remove(path)

    KINDS = {save_with_backup: 4, replace: 4, in_place: 2, lock_file: 2, loose_object: 2, upgrade: 2, unpack: 3, remake: 2, many: 1,
             move_directory: 2, move: 2, link_beside: 2, link_symbolically: 1, tidy: 1}

    def choose(self, n):
        for kind in self.dice.choices(list(self.KINDS), self.KINDS.values(), k=n):
            kind(self, self.dice.choice((self.place, *PLACES)))
            self.pause()

    def take(self):
        """What was chosen so far, with a look at what is there then."""
        for place in PLACES:
            self._add("expect", self.rel(place), self.letter + "-", self.model.tree(place, self.letter + "-"))
        taken, self.operations = self.operations, []
        return taken


class Process:
    """An occupant. uid: as that user."""

    def __init__(self, letter, uid=None):
        become = () if uid is None else ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
        self.process = spawn(*become, "/usr/bin/python3", "-I", "-S", "-c", PROGRAM, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, cwd="/")
        self.letter, self.pid, self.place = letter, self.process.pid, None
        self.asked = []
        self.done = []  # since it stood there last

    def start(self, *operations):
        self.process.stdin.write(json.dumps(operations) + "\n")
        self.process.stdin.flush()
        self.asked += operations

    def finish(self):
        """Returns what went wrong."""
        line = self.process.stdout.readline()
        assert line, f"occupant {self.letter} is gone"
        self.done, self.asked = self.done + self.asked, []
        return [f"{self.letter}: {w}" for w in json.loads(line)]

    def ask(self, *operations):
        self.start(*operations)
        if wrong := self.finish():
            raise AssertionError("\n".join(wrong))

    def stand(self, top, place, how):
        self.done, self.place = [], place
        self.ask(["stand", os.path.join(top, place), how])

    def leave(self):
        self.ask(["leave"])
        self.place = None

    def story(self):
        """What it did there, a line each."""
        return [f"{self.letter}: " + " ".join(str(a) if len(str(a)) < 100 else "..." for a in operation)
                for operation in self.done + self.asked if operation[0] not in ("expect", "keep_expecting")]

    def close(self):
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
