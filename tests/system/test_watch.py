# SPDX-License-Identifier: LGPL-2.1-or-later
"""Directories that are used are found, and nobody has to ask; whatever keeps the watcher from it is told."""

import os
import signal
import socket
import statistics
import time

import pytest

from ovltest import run
from ovltest.daemon import wait_for
from ovltest.env import binary, is_sanitized, spawn
from ovltest.heat import (AUTOMATIC, NAMES, WATCH_ONLY, build, finalized, hot, is_counted, is_settled, properties, use,
                          watched)
from ovltest.replay import SearchPath
from ovltest.tree import write

# A user namespace has limits of its own.
FEW_WATCHES = """#!/usr/bin/python3
import os, socket
request = socket.socket(fileno=os.dup(3)).recv(65536, socket.MSG_PEEK)
if b"VERB=watch" in request:
    limit = "echo 20 >/proc/sys/user/max_inotify_watches && exec {worker}"
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "sh", "-c", limit])
os.execv("{worker}", ["{worker}"])
"""


def watcher(daemon):
    """PID of the watcher, the only worker there is for long."""
    def find():
        pids = daemon.workers()
        return len(pids) == 1 and pids[0]
    return wait_for(find, "one worker")


def catches(pid, number):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        caught = next(line for line in f if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) & 1 << number - 1


def answer_seconds(daemon):
    """How long all takes that `status` and `list` ask the daemon for. No other test judges by time, but a tenth of a second is
    what is promised while a lower layer hangs. It is the median of many that counts, and no program is started for it, since
    it is not the other tests' share of the machine that is measured."""
    def once():
        begin = time.monotonic()
        daemon.properties("/org/ovlfind1", "org.ovlfind1.Manager")
        daemon.overlay_states()
        daemon.jobs()
        return time.monotonic() - begin
    return statistics.median(once() for _ in range(11))


# What it is for and how gently

def test_the_lower_is_left_in_peace(scene):
    """What has never been seen is visited for a quarter of the time. Every operation takes so long at least: on a machine that is
    busy with something else the share only sinks."""
    delay_usec = 1000
    lower = scene.lower(build(scene, [f"d{i:03}" for i in range(60)]))
    overlay = scene.overlay(lower)
    lower.delay(delay_usec)
    begin = time.monotonic()
    with lower.measure() as n:
        daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
        watched(daemon)
    lower.delay(0)
    share = n.total * delay_usec / 1e6 / (time.monotonic() - begin)
    assert n.total > 60 and share < 0.4, f"{n.total} operations, {share:.2f} of the time"



def test_the_hot_ones_and_no_other(scene):
    directories = [f"lib{i // 100}/d{i:04}" for i in range(2000)]
    used = directories[7::50]
    lower = scene.lower(build(scene, directories))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, AUTOMATIC))
    assert watched(daemon)["NKnown"] == 2021
    program = SearchPath(used)
    for _ in range(12):
        program.run(overlay.point)
    wait_for(lambda: len(finalized(daemon)) >= 40 and is_settled(daemon), "jobs to end")
    assert finalized(daemon) == {overlay / d for d in used}
    with lower.measure() as counts:
        program.run(overlay.point)
    assert counts.enoent == 0
    assert all(bool(daemon.job(p)["Automatic"]) for _, p in daemon.manager().ListJobs())


@pytest.mark.timeout(60)
def test_a_new_release(scene):
    """It shows at once, though a change of the lower raises no event, and is found while its neighbours are used."""
    source = build(scene, ["app/1.0/lib", "app/1.1/lib"])
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {**AUTOMATIC, "Watch": {"Directories": "app/*/lib"}}))
    assert watched(daemon)["NKnown"] == 2
    for name in NAMES:
        write(os.path.join(source, "app", "2.0", "lib", name))
    assert os.path.exists(overlay / "app/2.0/lib/file")

    def use_all():
        for version in ("1.0", "2.0"):
            use(overlay, f"app/{version}/lib", 3)
        time.sleep(0.1)
        return finalized(daemon) >= {overlay / "app/1.0/lib", overlay / "app/2.0/lib"}
    wait_for(use_all, "the new release to be finalized")
    assert overlay / "app/1.1/lib" not in finalized(daemon)


@pytest.mark.timeout(60)
def test_goes_on_after_an_exchange(scene):
    """A finalized directory is another inode: it is watched anew, as are those below; staging is not."""
    lower = scene.lower(build(scene, ["d", "d/below", "other"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    daemon.ctl("finalize", overlay / "d").ok()

    def use_until_counted():
        use(overlay, "d/below", 1)
        use(overlay, "d", 1)
        return {"d", "d/below"} <= set(hot(daemon, overlay))
    wait_for(use_until_counted, "both to be counted")
    assert properties(daemon)["NKnown"] == 4
    assert not any(".ovlfind" in path for path in hot(daemon, overlay))


@pytest.mark.parametrize("method", ["reconfigure", "swap"])
def test_goes_on_after_a_remount(scene, method):
    """Old watches go silently dead."""
    lower = scene.lower(build(scene, ["a", "b"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    use(overlay, "a")
    is_counted(daemon, overlay, "a")
    daemon.ctl("remount", "soft", f"--method={method}").ok()

    def use_until_counted():
        use(overlay, "b", 1)
        return "b" in hot(daemon, overlay)
    wait_for(use_until_counted, "the new watches")
    watched(daemon)
    assert "a" in hot(daemon, overlay)


def test_marks_are_not_hindered(scene):
    """The kernel lets nobody see marks on what is watched: our own watches make way."""
    lower = scene.lower(build(scene, ["d", "d/e"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    daemon.ctl("finalize", "--method=mark", overlay / "d").ok()


@pytest.mark.parametrize("method", ["mark", "auto"])
def test_parents_are_not_hindered(scene, method):
    """Nor do watches beside the directory keep those above it from being marked. Afterwards they are there again."""
    beside = [f"p/q/d{i:02}" for i in range(40)]
    lower = scene.lower(build(scene, ["p", "p/q", "p/q/d/e", "p/beside", *beside]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    daemon.ctl("finalize", f"--method={method}", "--parents", overlay / "p/q/d").ok()
    assert finalized(daemon) == {overlay / d for d in ("p", "p/q", "p/q/d", "p/q/d/e")}
    used = {"p", "p/q", "p/q/d/e", "p/beside", *beside}

    def use_until_counted():
        for d in used:
            use(overlay, d, 1)
        return used <= set(hot(daemon, overlay))
    wait_for(use_until_counted, "all of them to be watched")


def test_marks_are_not_hindered_by_what_is_found_meanwhile(scene):
    """A job that begins while the watcher still finds out what there is."""
    lower = scene.lower(build(scene, ["d", *(f"d/{i}/{i}" for i in range(8))]))
    overlay = scene.overlay(lower)
    lower.delay(3000)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    daemon.ctl("finalize", "--method=mark", overlay / "d").ok()


def test_local_directories(scene):
    """What has no lower counterpart is not tried again and again, however hot it is."""
    lower = scene.lower(build(scene, ["d"]))
    overlay = scene.overlay(lower)
    for name in NAMES:
        write(overlay / f"local/{name}")
    daemon = scene.daemon(soft=(overlay, AUTOMATIC))
    watched(daemon)
    use(overlay, "local")
    wait_for(lambda: daemon.manager().ListJobs() and is_settled(daemon), "a job")
    use(overlay, "local")
    use(overlay, "d")
    wait_for(lambda: overlay / "d" in finalized(daemon) and is_settled(daemon), "the other one")
    assert len(daemon.manager().ListJobs()) == 2


# What is watched

@pytest.mark.timeout(60)
def test_patterns(scene):
    source = build(scene, ["a/v1/lib", "a/v1/share", "a/v2/lib", "tmp/v1/lib", "real/deep"])
    os.symlink("v2", os.path.join(source, "a", "current"))
    os.symlink("../real", os.path.join(source, "a", "link"))
    os.symlink("../../..", os.path.join(source, "a", "out"))
    os.symlink(".", os.path.join(source, "a", "loop"))
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Directories": "*/*/lib a/link/*", "Exclude": "tmp/**"}}))
    watched(daemon)
    for d in ("a/v1/lib", "a/v1/share", "a/v2/lib", "tmp/v1/lib", "real/deep"):
        use(overlay, d, 3)
    wait_for(lambda: len(hot(daemon, overlay)) >= 3, "three directories")
    assert hot(daemon, overlay) == {"a/v1/lib": 3, "a/v2/lib": 3, "real/deep": 3}
    assert properties(daemon)["NKnown"] == 3


@pytest.mark.timeout(60)
def test_each_symlink_is_read_once(scene):
    """As libraries have them: one leads to the next. What leads to a directory is followed as ever."""
    source = build(scene, ["p/lib", "p/real"])
    links = [("libz.so", "libz.so.1"), ("libz.so.1", "libz.so.1.2"), ("liba.so.1", "liba.so.1.0"), ("liba.so", "liba.so.1"),
             ("gone", "gone-as-well"), ("loop", "loop")]
    for name, target in links:
        os.symlink(target, os.path.join(source, "p/lib", name))
    for name in ("libz.so.1.2", "liba.so.1.0"):
        write(os.path.join(source, "p/lib", name))
    os.symlink("../real", os.path.join(source, "p/lib/directory"))
    lower = scene.lower(source)
    lower.trace(True)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Directories": "p/lib/*"}}))
    watched(daemon)
    read = [line.rsplit("/", 1)[1] for line in lower.traced() if line.startswith("readlink")]
    for name, _ in links[:4]:
        assert read.count(name) == 1, read
    use(overlay, "p/real", 1)
    wait_for(lambda: "p/real" in hot(daemon, overlay), "what a symlink leads to")


@pytest.mark.timeout(60)
def test_directories_come_and_go(scene):
    lower = scene.lower(build(scene, ["p/old", "p/gone", "p/moved"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    for name in NAMES:
        write(overlay / f"p/made/{name}")
    for name in NAMES:
        os.unlink(overlay / f"p/gone/{name}")
    os.rmdir(overlay / "p/gone")
    os.rename(overlay / "p/moved", overlay / "p/here")

    def use_all():
        for d in ("p/made", "p/here", "p/old"):
            use(overlay, d, 1)
        return {"p/made", "p/here", "p/old"} <= set(hot(daemon, overlay))
    wait_for(use_all, "all of them")
    wait_for(lambda: properties(daemon)["NKnown"] == 5, "the count")
    daemon.add_overlay("soft", overlay.point, Watch={"Directories": "p/old"})
    daemon.ctl("reload").ok()
    wait_for(lambda: watched(daemon)["NKnown"] == 1, "the new pattern")


def test_listing_is_no_use(scene):
    """Going through a tree once, as backups do, makes nothing hot, and neither do our own jobs."""
    lower = scene.lower(build(scene, [f"d{i}" for i in range(20)]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, AUTOMATIC))
    watched(daemon)
    for _ in range(3):
        for _ in os.walk(overlay.point):
            pass
    is_counted(daemon, overlay, "d0")
    daemon.ctl("finalize", "--dry-run", overlay / "d0").ok()
    daemon.ctl("finalize", overlay / "d1").ok()
    is_counted(daemon, overlay, "d19", 2)
    assert finalized(daemon) == {overlay / "d1"} and is_settled(daemon)


def test_can_be_unmounted(scene):
    """The watcher holds nothing open."""
    lower = scene.lower(build(scene, ["d"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    overlay.umount()
    wait_for(lambda: properties(daemon)["Watching"] == "off", "the watcher to end")
    overlay.mount()
    watched(daemon)
    use(overlay, "d")
    is_counted(daemon, overlay, "d")


def test_ends_when_asked_before_it_begins(scene):
    """Between its start and its request a worker still thinks it may have something to finish."""
    overlay = scene.overlay(build(scene, ["d"]))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = f"exec '{binary('ovlfind-worker')}' watch 3<&{theirs.fileno()}"
    with ours, theirs, spawn("bash", "-c", command, pass_fds=[theirs.fileno()]) as process:
        wait_for(lambda: catches(process.pid, signal.SIGTERM), "the worker to take signals")
        process.terminate()
        request = ["VERB=watch", "OVERLAY=soft", f"MOUNT_POINT={overlay.point}", f"STATE_DIR={scene.subdir('state')}"]
        ours.send(b"".join(os.fsencode(line) + b"\0" for line in request))
        try:
            process.wait(20)
        finally:
            process.kill()


# What keeps it from it

@pytest.mark.timeout(90)
def test_more_directories_than_watches(scene):
    directories = [f"d{i:02}" for i in range(50)]
    lower = scene.lower(build(scene, directories))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"Watch": {"MaxWatches": "40"}}))
    p = watched(daemon, state="partly")
    assert "MaxWatches=" in p["WatchingReason"] and p["NWatches"] <= 40 and p["NKnown"] == 51
    assert p["WatchingReason"] in daemon.log()

    for d in directories:
        use(overlay, d, 2)
    first = wait_for(lambda: next(iter(hot(daemon, overlay)), None), "one of them to be counted")
    use(overlay, first, 30)
    n = 32

    def use_all():
        nonlocal n
        for d in directories:
            use(overlay, d, 2 if d != first else 10)
        n += 10
        return set(directories) <= set(hot(daemon, overlay))
    wait_for(use_all, "all of them to have had a turn")
    assert properties(daemon)["NWatches"] <= 40
    # The one that is used most never gave its watch away.
    wait_for(lambda: hot(daemon, overlay)[first] == n, "all uses of it to be counted")


@pytest.mark.timeout(60)
def test_the_kernel_gives_no_more_watches(scene):
    lower = scene.lower(build(scene, [f"d{i:02}" for i in range(50)]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(start=False, soft=(overlay, WATCH_ONLY))
    daemon.worker = os.path.join(daemon.directory, "few-watches")
    with open(daemon.worker, "w", encoding="utf-8") as f:
        f.write(FEW_WATCHES.format(worker=binary("ovlfind-worker")))
    os.chmod(daemon.worker, 0o755)
    daemon.start()
    p = watched(daemon, state="partly")
    assert "max_user_watches" in p["WatchingReason"] and p["NWatches"] == 20


@pytest.mark.timeout(60)
def test_more_events_than_the_queue_holds(scene):
    lower = scene.lower(build(scene, ["a", "b", "c"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    pid = watcher(daemon)
    os.kill(pid, signal.SIGSTOP)
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as f:
        most = int(f.read())
    for _ in range(most // 2 + 100):
        use(overlay, "a", 1)
        use(overlay, "b", 1)
    os.kill(pid, signal.SIGCONT)
    assert "inotify" in watched(daemon, state="partly")["WatchingReason"]
    assert "not watched completely" in daemon.log()
    use(overlay, "c")
    is_counted(daemon, overlay, "c")
    watched(daemon)


@pytest.mark.timeout(60)
def test_the_watcher_is_killed(scene):
    lower = scene.lower(build(scene, ["a", "b"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    use(overlay, "a")
    is_counted(daemon, overlay, "a")
    os.kill(watcher(daemon), signal.SIGKILL)
    watched(daemon, state="stalled")
    watched(daemon)
    use(overlay, "b")
    is_counted(daemon, overlay, "b")
    assert "a" in hot(daemon, overlay)


@pytest.mark.timeout(120)
def test_the_lower_hangs(scene):
    directories = [f"d{i:03}" for i in range(300)]
    bad_lower, good_lower = scene.lower(build(scene, directories)), scene.lower(build(scene, ["d", "e"]))
    bad, good = scene.overlay(bad_lower), scene.overlay(good_lower)
    daemon = scene.daemon(start=False, bad=(bad, AUTOMATIC), good=(good, AUTOMATIC))
    bad_lower.delay(2000)
    daemon.start()
    try:
        watched(daemon, "good")
        assert properties(daemon, "bad")["Watching"] == "starting"
        bad_lower.hang()
        p = watched(daemon, "bad", "stalled")
        assert "lower layers" in p["WatchingReason"]
        for verb in ("status", "list"):
            assert all(name in daemon.ctl(verb).ok().out for name in ("bad", "good"))
        assert answer_seconds(daemon) < (0.5 if is_sanitized() else 0.1)
        use(good, "d")
        wait_for(lambda: finalized(daemon) == {good / "d"}, "the other overlay")
    finally:
        bad_lower.recover()
    bad_lower.delay(0)
    watched(daemon, "bad")
    use(bad, "d299")
    wait_for(lambda: bad / "d299" in finalized(daemon), "work to resume")


# What it remembers

def test_heat_survives(scene):
    lower = scene.lower(build(scene, ["a", "b"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    use(overlay, "a", 15)
    assert is_counted(daemon, overlay, "a", 14) == 15
    daemon.restart()
    assert hot(daemon, overlay) == {"a": 15}
    daemon.stop()
    path = os.path.join(daemon.state, "heat")
    with open(path, "rb") as f:
        saved = f.read()
    for damaged in (b"", saved[:-5], b"\0" * 100, saved.replace(b"heat 1", b"heat 2")):
        with open(path, "wb") as f:
            f.write(damaged)
        daemon.start()
        assert "cannot be read; moved aside" in daemon.log()
        watched(daemon)
        use(overlay, "b")
        is_counted(daemon, overlay, "b")
        daemon.stop()
        assert os.path.exists(path + ".bad")


def test_quiet_by_nature(scene):
    lower = scene.lower(build(scene, ["a"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, WATCH_ONLY))
    watched(daemon)
    pid = watcher(daemon)
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        assert f.read().rsplit(")", 1)[1].split()[16] == "19"  # nice
    assert run("ionice", "-p", str(pid)).stdout.strip() == "idle"
