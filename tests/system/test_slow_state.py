# SPDX-License-Identifier: LGPL-2.1-or-later
"""A state directory whose file system takes its time: nobody who asks the daemon waits for it."""

import contextlib
import os
import xml.etree.ElementTree as ET

import dbus
import pytest

from ovltest import ROOT
from ovltest.daemon import MANAGER, NAME, PATH, PROPERTIES, wait_for
from ovltest.env import run
from ovltest.fakedaemon import DONE, Fake, directory

LOG_CONTROL = ("/org/freedesktop/LogControl1", "org.freedesktop.LogControl1")


@contextlib.contextmanager
def frozen(point):
    """Whoever writes to this file system waits in the kernel, for as long as it takes."""
    run("fsfreeze", "--freeze", point)
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", point)


def options(**kwargs):
    return dbus.Dictionary(kwargs, signature="sv")


def start(scene, state):
    """A daemon with its state there; a job of it goes on until it is canceled."""
    fake = Fake(scene, start=False)
    fake.daemon.state = state
    fake.play({"finalize": [["wait-cancel", {}]], "inspect": [directory("a", "merged"), DONE]})
    fake.start()
    return fake


@pytest.fixture
def slow(scene):
    """A daemon with its state on a disk of its own."""
    disk = scene.upper("ext4-256", size_mib=16)
    state = os.path.join(disk.point, "state")
    os.mkdir(state)
    fake = start(scene, state)
    fake.disk = disk
    return fake


def saved(fake):
    path = os.path.join(fake.daemon.state, "jobs")
    if not os.path.exists(path):
        return ""
    with open(path, encoding="ascii") as f:
        return f.read()


def call(fake, member, *args, path=PATH, interface=MANAGER):
    proxy = fake.daemon.connection().get_object(NAME, path, introspect=False)
    return getattr(proxy, member)(*args, dbus_interface=interface, timeout=10)


def members():
    """All that can be called or set, by what the interface says, with its place."""
    for interface in ET.parse(ROOT / "dbus/org.ovlfind1.xml").getroot().iter("interface"):
        for m in interface:
            if m.tag == "method" or (m.tag == "property" and "write" in m.get("access")):
                yield interface.get("name"), m.get("name")
    yield from ((LOG_CONTROL[1], name) for name in ("LogLevel", "LogTarget"))


def call_all(fake):
    """Calls each method and sets each property; returns (a job that ran, one that waited). Each call has to be answered, while nothing
    of the state directory is."""
    called = set()

    def ask(member, *args, path=PATH, interface=MANAGER):
        called.add((interface, member))
        return call(fake, member, *args, path=path, interface=interface)

    def write(name, value):
        called.add((LOG_CONTROL[1], name))
        call(fake, "Set", LOG_CONTROL[1], name, dbus.String(value, variant_level=1), path=LOG_CONTROL[0], interface=PROPERTIES)

    first, second = (ask("Finalize", fake.overlay / p, options()) for p in ("a", "a/b"))
    for member, name in (("Unfinalize", "x"), ("Refresh", "y"), ("Prune", "z"), ("Verify", "v")):
        ask(member, fake.overlay / name, options())
    ask("Remount", "soft", options(method="reconfigure"))
    for member, *args in (("Pause", ""), ("Resume", ""), ("Pause", "soft"), ("CancelJob", dbus.UInt32(2)), ("Reload",),
                          ("GetDirectory", fake.overlay / "a"), ("ListDirectories", "", options()), ("ListHot", "", dbus.UInt32(5)),
                          ("ListBlockers", "soft"), ("Check", "soft"), ("ListOverlays",), ("ListJobs",)):
        ask(member, *args)
    ask("Cancel", path=first, interface="org.ovlfind1.Job")
    write("LogLevel", "debug")
    write("LogTarget", "console")
    assert called == set(members())
    return first, second


def test_every_method_is_answered(slow):
    """A file system that hangs is as slow as they come: a daemon that waits for it answers nothing."""
    with frozen(slow.disk.point):
        before = saved(slow)
        first, second = call_all(slow)
        assert call(slow, "Get", "org.ovlfind1.Job", "State", path=second, interface=PROPERTIES) == "canceled"
        assert slow.daemon.wait_job(first)["State"] == "canceled"
        last = call(slow, "Finalize", slow.overlay / "last", options())
        assert saved(slow) == before  # the disk did hang
    wait_for(lambda: "=last 0\n" in saved(slow), "the newest list of jobs")
    assert saved(slow).startswith(f"ovlfind-jobs 1\nlast {last.rpartition('/')[2]}\n") and " =a/b 0\n" not in saved(slow)


def test_nobody_reads_it_either(scene):
    """A frozen disk holds up who writes. This state directory holds up who looks up a name in it, too, or lists it."""
    state = scene.lower(scene.source(), timeout=0)
    fake = start(scene, state.point)
    state.hang()
    try:
        first, second = call_all(fake)
        assert fake.daemon.wait_job(first)["State"] == fake.daemon.wait_job(second)["State"] == "canceled"
        wait_for(lambda: state.counts().waiting, "the thread that writes the list of jobs")  # the directory did hang
    finally:
        state.recover()


def test_the_end_waits_for_the_list(slow):
    """What was asked for shortly before the daemon ends is done by the next one."""
    with frozen(slow.disk.point):
        running, queued = (call(slow, "Finalize", slow.overlay / p, options()) for p in ("a", "a/b"))
        wait_for(lambda: slow.asked("finalize"), "the worker")
        slow.daemon.process.terminate()
        wait_for(lambda: "STOPPING" in slow.daemon.notified, "the end to begin")
    assert slow.daemon.stop() == 0
    slow.play({})
    slow.start()
    for path in (running, queued):
        assert slow.daemon.wait_job(path)["State"] == "done"


def test_a_state_directory_that_cannot_be_written(slow):
    run("mount", "-o", "remount,ro", slow.disk.point)
    job = call(slow, "Finalize", slow.overlay / "a", options())
    wait_for(lambda: f"Cannot write '{slow.daemon.state}/jobs'" in slow.daemon.log(), "the warning")
    call(slow, "Cancel", path=job, interface="org.ovlfind1.Job")
    assert slow.daemon.wait_job(job)["State"] == "canceled"
    run("mount", "-o", "remount,rw", slow.disk.point)
    call(slow, "Finalize", slow.overlay / "later", options())
    wait_for(lambda: "=later 0\n" in saved(slow), "the list of jobs")


def test_what_was_promised_is_there(slow):
    """Who has got a job has it after a crash, too. A reply waits for a disk no longer than anybody notices, hence "nearly all"."""
    slow.daemon.manager().Pause("")
    there = []
    for n in range(20):
        call(slow, "Finalize", slow.overlay / f"p{n}", options())
        there.append(f"=p{n} 0\n" in saved(slow))
    assert there.count(True) > 15
