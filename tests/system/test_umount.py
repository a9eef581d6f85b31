# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever unmounts an overlay, and then the file systems of its layers, is not told that they are busy because we look at
them. In these tests all of it succeeds at the first try, at whatever moment."""

import contextlib
import os
import random
import socket
import threading
import time

import pytest

from ovltest.daemon import wait_for
from ovltest.env import binary, mount, run, umount
from ovltest.overlay import OverlayMount
from ovltest.tree import many
from ovltest.wire import ask, records, start

# Daemons of other tests ask each overlay of the machine for its layers (core/mount/layer-probe.c).
pytestmark = pytest.mark.alone

N_ENTRIES = 10_000
UNMOUNTED = 76  # WORKER_EXIT_UNMOUNTED


class Layer:
    """A file system on a loop device with a mount beside the one under test, lest the device goes with that."""

    def __init__(self, fs, point):
        self.fs, self.point = fs, point
        self.device = run("findmnt", "-no", "SOURCE", fs.point).stdout.strip()
        self.upper, self.work = (os.path.join(point, name) for name in ("upper", "work"))
        os.makedirs(point)
        self.mount()

    def mount(self):
        mount(self.device, self.point, "ext4", 0, None)

    def umount(self):
        umount(self.point)

    def close(self):
        run("umount", "-l", self.point, check=False)


class Stage:
    """An overlay whose layers are mounted for it alone, with a directory of many entries."""

    def __init__(self, scene):
        self.lower = scene.keep(Layer(scene.upper("ext4-512"), os.path.join(scene.dir, "lowerfs")))
        many(os.path.join(self.lower.upper, "d"), N_ENTRIES)
        self.upper = scene.keep(Layer(scene.upper("ext4-512"), os.path.join(scene.dir, "upperfs")))
        self.overlay = scene.keep(OverlayMount(os.path.join(scene.dir, "ovl"), [self.lower.upper], self.upper))
        self.state = scene.subdir("state")

    def mount(self):
        for what in (self.lower, self.upper, self.overlay):
            what.mount()

    def umount(self):
        """Each one exactly once."""
        for target in (self.overlay.point, self.upper.point, self.lower.point):
            umount(target)

    def request(self, verb, **more):
        return {"VERB": verb, "OVERLAY": "soft", "MOUNT_POINT": self.overlay.point, "PATH": "", "STATE_DIR": self.state,
                "QUIET_USEC": 0, **more}

    def finalize(self):
        answer, status = ask(binary("ovlfind-worker"), **{**self.request("finalize"), "PATH": "d"})
        assert (answer[-1]["name"], status) == ("None", 0), answer[-1]


@pytest.fixture
def stage(scene):
    return Stage(scene)


class Looker:
    """A worker at work."""

    def __init__(self, request, environment=None):
        self.connection, self.pid = start(binary("ovlfind-worker"), environment)
        self.answer = []
        self.thread = threading.Thread(target=lambda: self.answer.extend(records(self.connection, request)))
        self.thread.start()

    def end(self, stop=False):
        if stop:
            self.connection.shutdown(socket.SHUT_WR)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.thread.join()
        self.connection.close()
        return status


class HeldLooker(Looker):
    """One that waits before its nth call of a kind, until the block ends."""

    def __init__(self, scene, request, n, call):
        self.log, self.hold = (os.path.join(scene.dir, name) for name in ("log", "hold"))
        with open(self.hold, "w", encoding="ascii"):
            super().__init__(request, {
                "LD_PRELOAD": binary("killat"), "KILLAT": str(n), "KILLAT_CALL": call, "KILLAT_LOG": self.log,
                "KILLAT_HOLD": self.hold, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"})

    def is_held(self):
        """Else it came to its end without so many calls."""
        return wait_for(lambda: os.path.exists(self.log) and "held" or self.answer and self.answer[-1]["kind"] == "result" and "over",
                        "a call") == "held"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for path in (self.hold, self.log):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def how_long(stage, request):
    """What looking takes when nobody disturbs it."""
    begin = time.monotonic()
    looker = Looker(request)
    if request["VERB"] == "watch":
        wait_for(lambda: any(r["kind"] == "watch" and r["state"] == 0 for r in looker.answer), "the first walk")
    else:
        assert looker.end() == 0, looker.answer
    took = time.monotonic() - begin
    if request["VERB"] == "watch":
        stage.umount()
        assert looker.end() == UNMOUNTED
        stage.mount()
    return took


VERBS = {"compare": 30, "survey": 20, "watch": 40, "check": 10}


def looking(stage, verb):
    return stage.request(verb, **{"DIRECTORIES": "**"} if verb == "watch" else {})


@pytest.mark.parametrize("verb", VERBS)
def test_a_look_lets_go(stage, verb):
    stage.finalize()
    request = looking(stage, verb)
    took, chance = how_long(stage, request), random.Random(verb)
    for _ in range(VERBS[verb]):
        looker = Looker(request)
        time.sleep(chance.uniform(0, max(took, 0.2)))  # any moment is one at which it has to succeed
        stage.umount()
        status = looker.end()
        assert status in (0, UNMOUNTED) or looker.answer[-1]["kind"] == "result", (status, looker.answer)
        stage.mount()


@pytest.mark.parametrize("verb", VERBS)
def test_a_look_that_is_met_lets_go(scene, stage, verb):
    """Unmounted while it is held at a call, so it is met however fast it is: it leaves out of the call."""
    stage.finalize()
    n_met = 0
    for n in (1, 2, 3, 5, 10, 50):
        with HeldLooker(scene, looking(stage, verb), n, "openat2,readdir,getxattr") as looker:
            if not looker.is_held():
                assert looker.end() == 0, looker.answer
                break
            n_met += 1
            stage.umount()
            assert looker.end() == UNMOUNTED
        stage.mount()
    assert n_met >= 3


def test_a_daemon_lets_go(scene, stage):
    """Survey, walk, the rest after it; a hundred times."""
    daemon = scene.daemon(soft=(stage.overlay, {"Watch": {"MaxWatches": "8192"}, "Finalize": {"Automatic": "yes"}}))
    daemon.ctl("finalize", stage.overlay / "d").ok()
    chance = random.Random(7)
    for _ in range(100):
        stage.umount()
        wait_for(lambda: daemon.overlay_states()["soft"] == "absent", "the daemon to see that")
        stage.mount()
        time.sleep(chance.uniform(0.05, 0.25))  # see above
    wait_for(lambda: daemon.overlay_states()["soft"] == "active", "the survey")
    assert daemon.state_of(stage.overlay / "d") == "finalized"
    assert "is refused" not in daemon.log() and "not watched" not in daemon.log()


def test_comparison_of_a_daemon(scene, stage):
    daemon = scene.daemon(soft=stage.overlay)
    daemon.ctl("finalize", stage.overlay / "d").ok()
    daemon.restart()
    wait_for(lambda: daemon.workers_for("compare"), "the comparison")
    stage.umount()
    wait_for(lambda: not daemon.workers(), "its end")


def test_file_systems_go(scene, stage):
    """Nothing of theirs is left once the looker has gone: the loop devices go as well."""
    stage.finalize()
    looker = Looker(stage.request("watch", DIRECTORIES="**"))
    wait_for(lambda: looker.answer, "the walk")
    stage.umount()
    for layer in (stage.lower, stage.upper):
        umount(layer.fs.point)
    assert looker.end() == UNMOUNTED
    for layer in (stage.lower, stage.upper):
        wait_for(lambda: not run("losetup", "-j", layer.fs.image).stdout, "the loop device to go")  # pylint: disable=W0640


class Other:
    """An overlay of which each layer has a file system of its own; none of ours looks after it."""

    def __init__(self, directory):
        self.lower, self.upper, self.point = (os.path.join(directory, name) for name in ("lower", "upper", "ovl"))
        for path in (self.lower, self.upper, self.point):
            os.makedirs(path)
        self.mount()

    def mount(self):
        for path in (self.lower, self.upper):
            mount("tmpfs", path, "tmpfs", 0, None)
        for path in ("lower/l/d", "upper/u", "upper/w"):
            os.makedirs(os.path.join(os.path.dirname(self.lower), path))
        mount("overlay", self.point, "overlay", 0, f"lowerdir={self.lower}/l,upperdir={self.upper}/u,workdir={self.upper}/w")

    def umount(self):
        for target in (self.point, self.upper, self.lower):
            umount(target)

    def close(self):
        for target in (self.point, self.upper, self.lower):
            run("umount", "-l", target, check=False)


def test_another_overlay_is_asked(scene, stage):
    """Whoever looks at the layers of an overlay that is not his holds nothing of it, at whatever call he is."""
    other = scene.keep(Other(scene.subdir("other")))
    n_held = 0
    for n in range(1, 20):
        with HeldLooker(scene, stage.request("finalize", PATH="d", DRY_RUN=1), n, "fanotify_mark") as looker:
            is_held = looker.is_held()
            if is_held:
                n_held += 1
                other.umount()
        assert looker.end() == 0 and looker.answer[-1]["name"] == "None", looker.answer
        if not is_held:
            break
        other.mount()
    assert n_held >= 4, "a mark on each layer that is read, one on the file system, and those that are taken back"


def test_who_asked_uses_it(scene, stage):
    """A job that somebody asked for is a use of the overlay, as any program is; and it is not when the job is over."""
    looker = Looker(stage.request("finalize", ASKED=1, RATE=1000))
    wait_for(lambda: any(r["kind"] == "progress" for r in looker.answer), "the job to begin")
    with pytest.raises(OSError, match="busy"):
        umount(stage.overlay.point)
    os.kill(looker.pid, 9)
    assert looker.end() == -9
    stage.umount()
    stage.mount()
