# SPDX-License-Identifier: LGPL-2.1-or-later
"""Directories that somebody moves out of an old tree while that is being removed, with a descriptor that nobody could see."""

import contextlib
import os
import shutil
import signal
import socket

import dbus
import pytest

from ovltest import assert_same, diff, snapshot
from ovltest.holders import Shell
from ovltest.oldtree import await_gone
from ovltest.tree import age, small_tree, write

P, D = "p", "p/d"
IGNORED = {"nlink", "mtime"}

pytestmark = pytest.mark.killer


@pytest.fixture
def source(scene):
    top = scene.source()
    small_tree(os.path.join(top, D))
    age(top)
    return top


@contextlib.contextmanager
def on_its_way(path):
    """A descriptor of a directory that is sent, but not received: /proc shows nobody who has it. Yields what receives it."""
    here, there = socket.socketpair()
    with here, there, contextlib.ExitStack() as stack:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        socket.send_fds(here, [b"."], [fd])
        os.close(fd)

        def receive():
            fd = socket.recv_fds(there, 1, 1)[1][0]
            stack.callback(os.close, fd)
            return fd
        yield receive


@contextlib.contextmanager
def held_removal(overlay, daemon, n):
    """D's old tree is being removed, before the nth removal. Yields a descriptor of it; in the end that goes on."""
    with on_its_way(overlay / D) as receive:
        daemon.arm(n, call="unlinkat", hold=True)
        job = daemon.finalize(overlay / D)
        assert daemon.held(job)
        yield receive()
    daemon.release(everything=True)
    assert daemon.wait_job(job)["State"] == "done"  # if need be by another worker
    await_gone(overlay, daemon)


def kill_worker(daemon):
    worker, = daemon.workers_for("finalize")
    os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("name", ["sub", "sub/below"])
@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
@pytest.mark.parametrize("n", [2, 5, 6, 8])
def test_moved_out(overlay, daemon, name, killed, n):
    """Nothing of it is lost: what had been removed by then is where it was, whole."""
    path, to = f"{D}/{name}", overlay / f"{P}/moved"
    before = snapshot(overlay / path)
    with held_removal(overlay, daemon, n) as fd:
        try:
            os.rename(name, to, src_dir_fd=fd)
        except FileNotFoundError:  # it is gone from there already
            to = overlay / path
        if killed:
            kill_worker(daemon)
    places = [snapshot(p) for p in (to, overlay / path) if os.path.lexists(p)]
    for entry, what in before.items():
        assert [p for p in places if entry in p and p[entry]["type"] == what["type"] and
                (p[entry]["content"] == what["content"] or entry in ("", "below"))], f"{entry} is lost"
    assert [p for p in places if not diff(before, p, ignore=IGNORED)], "it is nowhere whole"


@pytest.mark.parametrize("n", [5, 6])
def test_moved_into_what_took_its_place(overlay, daemon, n):
    """What cannot change places stays, and so does the new one: whole."""
    before = snapshot(overlay / f"{D}/sub")
    with held_removal(overlay, daemon, n) as fd:
        os.rename("sub", overlay / f"{D}/sub/within", src_dir_fd=fd)
    if not diff(before, snapshot(overlay / f"{D}/sub/within"), ignore=IGNORED):
        return  # it was moved before anything in it had been removed, and the new one has gone after it
    shutil.rmtree(overlay / f"{D}/sub/within")
    assert_same(before, snapshot(overlay / f"{D}/sub"), ignore=IGNORED)


@pytest.mark.parametrize("verb", ["Unfinalize", "Refresh"])
def test_asked_for_while_it_is_removed(scene, source, overlay, daemon, verb):
    """The job waits, says for what, can be canceled, and is done when the old tree has gone."""
    shown = snapshot(overlay / D)
    shell = scene.keep(Shell(overlay / D))
    daemon.arm(1, call="unlinkat", hold="later")
    assert daemon.wait_job(daemon.finalize(overlay / D, standing="keep"))["State"] == "done"
    daemon.hold()
    write(os.path.join(source, D, "sub", "added"))
    shell.close()
    assert daemon.held()

    def ask():
        job = getattr(daemon.manager(), verb)(overlay / D, dbus.Dictionary({}, "sv"))
        waiting = daemon.wait_job(job, ("waiting", "done", "failed"))
        assert waiting["State"] == "waiting" and "still being removed" in waiting["Reason"], waiting
        return job
    canceled = ask()
    daemon.ctl("cancel", str(canceled).rpartition("/")[2]).ok()
    assert daemon.wait_job(canceled)["State"] == "canceled"
    job = ask()
    assert not os.path.exists(overlay / f"{D}/sub/added")
    daemon.release(everything=True)
    assert daemon.wait_job(job)["State"] == "done"
    await_gone(overlay, daemon)
    os.unlink(overlay / f"{D}/sub/added")
    assert_same(shown, snapshot(overlay / D), ignore=IGNORED)
