# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that makes sure of what it writes, as a database or an editor does. What it has synced is a promise: whatever happens
to the machine, it is there afterwards."""

import os
import threading
import time
from dataclasses import dataclass, field


@dataclass
class Step:
    """What an operation made of paths: their content, or None where there is nothing."""
    number: int
    changes: dict
    scratch: list = field(default_factory=list)  # names that are there for a moment only


class Model:
    """Contents of a writer's files after any number of its steps."""

    def __init__(self, files):
        self.files, self.steps = dict(files), []

    def after(self, n):
        """(path to content or None, what the next step may have begun) after n steps."""
        state = dict(self.files)
        for step in self.steps[:n]:
            state.update(step.changes)
        return state, self.steps[n] if n < len(self.steps) else None

    def wrong(self, read, n):
        """Compares what read(path) says (bytes, or None where there is nothing) with the state after n steps; the one after that
        may have been at work. Returns lines."""
        state, begun = self.after(n)
        changes = begun.changes if begun else {}
        scratch = begun.scratch if begun else ()
        lines = []
        for path, content in sorted(state.items()):
            found = read(path)
            if found == content or path in scratch:
                continue
            if path in changes and (found == changes[path] or is_between(found, content, changes[path])):
                continue
            lines.append(f"{path}: {describe(found)}, promised was {describe(content)}")
        return lines


def is_between(found, before, after):
    """Something was appended to it, or it was just made."""
    return found is not None and after is not None and after.startswith(found) and found.startswith(before or b"")


def describe(content):
    return "nothing" if content is None else f"{len(content)} bytes, {content[-24:]!r}"


class Writer(threading.Thread):
    """Makes, replaces, appends to, renames and removes files in directories below top until closed, and syncs each; promise(n)
    is called when step n is done, on the disk too. files: what is there at first, path to content."""

    def __init__(self, top, directories, files, dice, promise):
        super().__init__(daemon=True)
        self.top, self.directories, self.dice, self.promise = top, directories, dice, promise
        self.model = Model({**{f"{d}/{n}": None for d in directories for n in ("w0", "w1", "w2", "w3", ".scratch")}, **files})
        self.state = dict(self.model.files)
        self.error = None
        self._ends = threading.Event()

    def run(self):
        try:
            while not self._ends.is_set():
                self.step()
                time.sleep(self.dice.uniform(0, 0.3))
        except OSError as e:
            self.error = e

    def close(self):
        self._ends.set()
        self.join(300)
        if self.error:
            raise self.error

    def step(self):
        path = self.dice.choice([p for p in self.state if not p.endswith("/.scratch")])
        there = [self.replace, self.append, self.remove, self.rename]
        (self.dice.choice(there) if self.state[path] is not None else self.create)(path)

    def done(self, touched):
        """touched: paths whose directories are synced."""
        for directory in sorted({os.path.dirname(p) for p in touched}):
            sync(os.path.join(self.top, directory))
        step = self.model.steps[-1]
        self.state.update(step.changes)
        self.promise(step.number)

    def begin(self, changes, scratch=()):
        self.model.steps.append(Step(len(self.model.steps) + 1, changes, list(scratch)))

    def content(self):
        return f"step {len(self.model.steps)}\n".encode() * self.dice.choice((1, 40, 3000))

    def create(self, path):
        content = self.content()
        self.begin({path: content})
        self.put(path, content, os.O_CREAT | os.O_EXCL)
        self.done([path])

    def append(self, path):
        more = self.content()
        self.begin({path: self.state[path] + more})
        self.put(path, more, os.O_APPEND)
        self.done([path])

    def replace(self, path):
        content, scratch = self.content(), os.path.join(os.path.dirname(path), ".scratch")
        self.begin({path: content}, [scratch])
        self.put(scratch, content, os.O_CREAT | os.O_EXCL)
        os.rename(os.path.join(self.top, scratch), os.path.join(self.top, path))
        self.done([path])

    def remove(self, path):
        self.begin({path: None})
        os.unlink(os.path.join(self.top, path))
        self.done([path])

    def rename(self, path):
        other = f"{self.dice.choice(self.directories)}/w{self.dice.randrange(4)}"
        if other == path:
            return
        self.begin({other: self.state[path], path: None})
        os.rename(os.path.join(self.top, path), os.path.join(self.top, other))
        self.done([path, other])

    def put(self, path, content, flags):
        fd = os.open(os.path.join(self.top, path), os.O_WRONLY | flags, 0o644)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)


def sync(directory):
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
