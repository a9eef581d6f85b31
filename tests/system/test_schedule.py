# SPDX-License-Identifier: LGPL-2.1-or-later
"""When automatic jobs run, how fast, what they leave alone, and what they do about a lower that fails."""

import contextlib
import os
import re
import shutil
import time
from datetime import datetime

import dbus
import pytest

from ovltest import run
from ovltest.daemon import wait_for
from ovltest.fakedaemon import DONE, Fake, failure
from ovltest.heat import NAMES, build
from ovltest.tree import many, write

MANAGER = "org.ovlfind1.Manager"


def start(scene, overlay, **sections):
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"Automatic": "yes"}, "Watch": {}, **sections}))
    path = daemon.manager().ListOverlays()[0][1]
    wait_for(lambda: daemon.properties(path, "org.ovlfind1.Overlay")["Watching"] == "on", "watching")
    return daemon


def use(overlay, directory, times=40):
    for i in range(times):
        with open(overlay / os.path.join(directory, NAMES[i % 2]), "rb"):
            pass


def jobs(daemon):
    """Properties of all jobs."""
    return [daemon.job(path) for _, path in daemon.manager().ListJobs()]


def the_job(daemon):
    wait_for(lambda: jobs(daemon), "a job")
    assert len(jobs(daemon)) == 1
    return jobs(daemon)[0]


def opens(daemon, name):
    """Of all directories of an overlay that were counted."""
    return sum(int(d["opens"]) for d in daemon.manager().ListHot(name, dbus.UInt32(100)))


def window(begin, minutes):
    """A window of Schedule= that begins so many minutes from now."""
    def text(m):
        return time.strftime("%H:%M", time.localtime(time.time() + m * 60))
    return f"{text(begin)}..{text(begin + minutes)}"


def test_windows(scene):
    """Outside of a window automatic jobs wait, what somebody asks for does not."""
    lower = scene.lower(build(scene, ["hot", "asked"]))
    overlay = scene.overlay(lower)
    daemon = start(scene, overlay, CopyUp={"Schedule": window(120, 60)})
    use(overlay, "hot")
    assert the_job(daemon)["State"] == "queued"
    daemon.ctl("finalize", overlay / "asked").ok()
    assert {str(j["Path"]): str(j["State"]) for j in jobs(daemon)} == {overlay / "hot": "queued", overlay / "asked": "done"}
    daemon.add_overlay("soft", overlay.point, Finalize={"Automatic": "yes"}, Watch={}, CopyUp={"Schedule": window(-60, 120)})
    daemon.ctl("reload").ok()
    wait_for(lambda: daemon.state_of(overlay / "hot") == "finalized", "the job in its window")


def test_spread(scene):
    """Not all hosts start at once: the job waits for its time, says which, and is there for whoever asks for it."""
    overlay = scene.overlay(scene.lower(build(scene, ["hot", "asked"])))
    daemon = start(scene, overlay, Finalize={"Automatic": "yes", "RandomizedDelaySec": "300days"})
    use(overlay, "hot")
    use(overlay, "asked")
    wait_for(lambda: [j["State"] for j in jobs(daemon)] == ["waiting"] * 2, "two jobs to wait")
    first, second = sorted(jobs(daemon), key=lambda j: j["Path"])
    for j in (first, second):
        assert j["Automatic"] and 0 < j["NextTryUSec"] - j["QueuedUSec"] < 301 * 86400e6
        assert "RandomizedDelaySec=" in j["Reason"]
        told = datetime.strptime(j["Reason"].split(",")[0], "it starts at %Y-%m-%d %H:%M:%S").timestamp()
        assert abs(told - j["NextTryUSec"] / 1e6) < 60
    assert first["NextTryUSec"] != second["NextTryUSec"]
    assert first["Reason"] in daemon.ctl("jobs").ok().out and second["Reason"] in daemon.ctl("status", "soft").ok().out

    out = daemon.ctl("finalize", overlay / "asked").ok().out
    assert "asked finalized" in out and len(jobs(daemon)) == 2, "it is the very same job"
    daemon.add_overlay("soft", overlay.point, Finalize={"Automatic": "yes"}, Watch={})
    daemon.ctl("reload").ok()
    wait_for(lambda: daemon.state_of(overlay / "hot") == "finalized", "the other one, when nothing is spread any more")


def test_spread_in_a_window(scene):
    """The delay counts from when the window opens, and misses none."""
    def day(n):
        return time.strftime("%a", time.localtime(time.time() + n * 86400))

    overlay = scene.overlay(scene.lower(build(scene, ["hot"])))
    sections = {"Finalize": {"Automatic": "yes", "RandomizedDelaySec": "300days"}, "Watch": {}}
    closed, opened = f"{day(3)} 00:00..00:00", f"{day(-1)}..{day(4)} 00:00..00:00"
    daemon = start(scene, overlay, **sections, CopyUp={"Schedule": closed})
    use(overlay, "hot")
    assert (the_job(daemon)["State"], the_job(daemon)["NextTryUSec"]) == ("queued", 0)
    daemon.add_overlay("soft", overlay.point, **sections, CopyUp={"Schedule": opened})
    before = time.time() * 1e6
    daemon.ctl("reload").ok()
    job = wait_for(lambda: the_job(daemon)["State"] == "waiting" and the_job(daemon), "the window to open")
    assert before < job["NextTryUSec"] < before + 6 * 86400e6
    daemon.add_overlay("soft", overlay.point, **sections, CopyUp={"Schedule": closed})
    daemon.ctl("reload").ok()
    wait_for(lambda: (the_job(daemon)["State"], the_job(daemon)["NextTryUSec"]) == ("queued", 0), "it to close")


def test_comparisons_are_spread(scene):
    """Those of many hosts that start at once, too."""
    overlay = scene.overlay(scene.lower(build(scene, ["d"])))
    before = time.time()
    daemon = start(scene, overlay, Finalize={"RandomizedDelaySec": "300days"})
    told = re.search(r"'soft' is compared with its lower layers at (\S+ \S+) ", daemon.log())
    assert before < datetime.strptime(told[1], "%Y-%m-%d %H:%M:%S").timestamp() < before + 301 * 86400


def test_pause(scene):
    lower = scene.lower(build(scene, ["a"]))
    overlay = scene.overlay(lower)
    daemon = start(scene, overlay)
    daemon.ctl("pause", "soft").ok()
    use(overlay, "a")
    assert the_job(daemon)["State"] == "queued"
    daemon.ctl("resume", "soft").ok()
    wait_for(lambda: daemon.state_of(overlay / "a") == "finalized", "the job")


def test_one_job_for_a_tree(scene):
    """A job for a directory takes over those that wait for directories below it."""
    lower = scene.lower(build(scene, ["a", "a/b", "a/c"]))
    overlay = scene.overlay(lower)
    daemon = start(scene, overlay)
    daemon.ctl("pause", "soft").ok()
    use(overlay, "a/b")
    use(overlay, "a/c")
    wait_for(lambda: len(jobs(daemon)) == 2, "two jobs")
    use(overlay, "a")
    wait_for(lambda: len(jobs(daemon)) == 3, "a third one")
    daemon.ctl("resume", "soft").ok()
    wait_for(lambda: daemon.state_of(overlay / "a/b") == "finalized", "the job")
    wait_for(lambda: all(str(j["State"]) in ("done", "canceled") for j in jobs(daemon)), "the jobs to end")
    assert sorted((os.path.relpath(j["Path"], overlay.point), str(j["State"])) for j in jobs(daemon)) == [
        ("a", "done"), ("a/b", "canceled"), ("a/c", "canceled")]


def test_no_faster_than_it_may(scene):
    source = scene.source()
    many(os.path.join(source, "d"), 60, per_directory=20)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"EntriesPerSecond": "20"}}))
    begin = time.monotonic()
    daemon.ctl("finalize", overlay / "d").ok()
    assert time.monotonic() - begin >= 63 / 20 - 0.1  # files and directories, but for the first


@pytest.mark.parametrize("what", ["io", "memory"])
def test_under_pressure(scene, what):
    """The kernel's own figures cannot be made up, so files of ours are mounted where a worker reads them."""
    names = ["asked0", "asked1", "asked2"]
    overlay = scene.overlay(scene.lower(build(scene, ["hot", *names])))
    figures = scene.subdir("pressure")

    def press(percent):
        for name in ("cpu", "io", "memory"):
            with open(os.path.join(figures, name), "w", encoding="ascii") as f:
                for kind in ("some", "full"):
                    f.write(f"{kind} avg10={percent if name == what else 0:.2f} avg60=0.00 avg300=0.00 total=1\n")
    press(90)
    run("mount", "--bind", figures, "/proc/pressure")
    try:
        daemon = start(scene, overlay)
        use(overlay, "hot")
        wait_for(lambda: jobs(daemon) and jobs(daemon)[0]["State"] == "waiting", "the automatic job to wait")
        for name in names:  # whoever asks does not wait for calmer times
            daemon.ctl("finalize", overlay / name).ok()
        job = jobs(daemon)[0]
        assert (job["Automatic"], job["State"], job["EntriesDone"]) == (True, "waiting", 0)
        press(1)
        wait_for(lambda: daemon.state_of(overlay / "hot") == "finalized", "the job to go on")
    finally:
        run("umount", "/proc/pressure")


# What is left alone

def test_excluded_below(scene):
    lower = scene.lower(build(scene, ["a", "a/keep", "a/tmp", "a/tmp/deep"]))
    overlay = scene.overlay(lower)
    daemon = start(scene, overlay, Watch={"Exclude": "*/tmp"})
    use(overlay, "a/tmp")
    use(overlay, "a")
    wait_for(lambda: daemon.state_of(overlay / "a/keep") == "finalized", "what may be done")
    listed = {os.path.relpath(d["path"], overlay.point): (str(d["state"]), str(d["reason"]))
              for d in daemon.manager().ListDirectories("", dbus.Dictionary({"state": "excluded"}, "sv"))}
    assert listed["a/tmp"] == ("excluded", "Exclude= says so")
    assert daemon.state_of(overlay / "a/tmp/deep") != "finalized"
    daemon.ctl("finalize", overlay / "a/tmp").ok()  # who names it means it
    assert daemon.state_of(overlay / "a/tmp/deep") == "finalized"


def test_too_large_to_be_done_unasked(scene):
    source = build(scene, ["small"])
    many(os.path.join(source, "large"), 50, per_directory=50)
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    directory = "large/dir0000"
    daemon = start(scene, overlay, CopyUp={"MaxEntries": "20"})
    for i in range(40):
        with open(overlay / f"{directory}/file{i % 2:06}", "rb"):
            pass
    job = daemon.wait_job(wait_for(lambda: [p for _, p in daemon.manager().ListJobs()], "a job")[0])
    assert job["State"] == "failed" and "MaxEntries=20" in job["ErrorMessage"]
    use(overlay, "small")
    wait_for(lambda: daemon.state_of(overlay / "small") == "finalized", "the small one")
    assert len(jobs(daemon)) == 2, "it is not tried again at once"
    daemon.ctl("finalize", overlay / directory).ok()


@pytest.mark.parametrize("key", ["MinFreeSpace", "MinFreeInodes"])
def test_room_is_left(scene, key):
    lower = scene.lower(build(scene, ["a"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {key: "1000T"}}))
    result = daemon.ctl("finalize", overlay / "a")
    assert result.code == 1 and f"{key}=" in result.err and overlay / "a" in result.err
    daemon.add_overlay("soft", overlay.point, CopyUp={key: "1"})
    daemon.ctl("reload").ok()
    daemon.ctl("finalize", overlay / "a").ok()


def test_the_upper_fills_up(scene):
    """A job that runs into MinFreeSpace= leaves all that users see as it was, and is done once there is room again."""
    source = scene.source()
    many(os.path.join(source, "large"), 2000, per_directory=1000)
    for name in NAMES:
        write(os.path.join(source, "large", name))
    lower = scene.lower(source)
    overlay = scene.overlay(lower, upper=scene.upper("tmpfs", size_mib=16))
    daemon = start(scene, overlay, CopyUp={"MinFreeSpace": "1M", "EntriesPerSecond": "2000"})
    use(overlay, "large")
    wait_for(lambda: the_job(daemon)["EntriesDone"], "the job to have begun")
    filler = overlay.upper.fill(leave_bytes=512 * 1024)
    job = wait_for(lambda: (j := the_job(daemon))["State"] == "failed" and j, "it to end")
    assert "MinFreeSpace=" in job["ErrorMessage"] and daemon.state_of(overlay / "large") != "finalized"
    assert len(os.listdir(overlay / "large")) == 4 and not os.path.lexists(overlay / ".ovlfind")
    shutil.rmtree(filler)
    wait_for(lambda: daemon.state_of(overlay / "large") == "finalized", "another job")


# A lower that fails, or hangs

@pytest.mark.timeout(90)
def test_tried_again(scene):
    """An automatic job waits for a lower that fails, and is done when that is over; others are done meanwhile."""
    bad_lower, good_lower = (scene.lower(build(scene, ["a", "a/sub"]), timeout=0) for _ in range(2))
    bad, good = scene.overlay(bad_lower), scene.overlay(good_lower)
    sections = {"Finalize": {"Automatic": "yes"}, "Watch": {}}
    daemon = scene.daemon(bad=(bad, sections), good=(good, sections))
    for _, path in daemon.manager().ListOverlays():
        wait_for(lambda p=path: daemon.properties(p, "org.ovlfind1.Overlay")["Watching"] == "on", "watching")
    daemon.ctl("pause", "bad").ok()
    use(bad, "a")
    wait_for(lambda: jobs(daemon), "a job")
    bad_lower.fail("EIO:statfs,listxattr,getxattr")  # as a whole, but it can be used
    daemon.ctl("resume", "bad").ok()
    job = wait_for(lambda: (j := jobs(daemon)[0])["Reason"] and j, "it to be put off")
    assert (job["State"], job["Automatic"]) == ("waiting", True)
    before = opens(daemon, "bad")
    wait_for(lambda: use(bad, "a", 8) or opens(daemon, "bad") > before + 40, "uses to be counted while no worker is there")
    assert "MaxWatches=" not in daemon.log(), "who makes way for a job waits for no watch"
    use(good, "a")
    wait_for(lambda: daemon.state_of(good / "a") == "finalized", "the other overlay")
    bad_lower.recover()
    wait_for(lambda: daemon.state_of(bad / "a") == "finalized", "another attempt")
    assert [int(j["Id"]) for j in jobs(daemon) if j["Path"] == bad / "a"] == [int(job["Id"])]


def put_off(daemon, path, more_than=0):
    """A job's properties once it waits for a lower layer that fails, for a later time than that (told from another clock)."""
    return wait_for(lambda: (j := daemon.job(path))["State"] == "waiting" and j["NextTryUSec"] > more_than + 100_000 and j,
                    "it to wait")


def armed_clocks(pid):
    """The clocks for which a process has a timer set."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as f:
            info = dict(line.strip().split(": ", 1) for line in f if ": " in line)
            if info.get("it_value", "(0, 0)") != "(0, 0)":
                found.add(int(info["clockid"]))
    return found


@pytest.mark.parametrize("verb,errors", [("finalize", ("EIO", "ETIMEDOUT")), ("unfinalize", ("EIO", "ESTALE"))])
def test_asked_for_and_tried_again(scene, verb, errors):
    """What somebody asked for waits as well, says why, goes on when the lower answers again, and holds up nobody."""
    lower = scene.lower(build(scene, [*errors, "other"]), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"RetrySec": "1min"}}))
    if verb == "unfinalize":
        daemon.ctl("finalize", *(overlay / d for d in errors)).ok()
    waiting = {}
    for error in errors:
        lower.invalidate()
        lower.fail(error, error)
        waiting[error] = daemon.start_ctl(verb, overlay / error)
        path = wait_for(lambda: [p for _, p in daemon.manager().ListJobs() if daemon.job(p)["Type"] == verb
                                 and daemon.job(p)["Path"] == overlay / error], "a job")[0]
        job = put_off(daemon, path)
        assert overlay / error in job["Reason"] and not job["ErrorMessage"]
        assert f"waiting, 0 entries; {job['Reason']}" in daemon.ctl("status", "soft").ok().out
        put_off(daemon, path, job["NextTryUSec"])
    daemon.ctl("finalize", overlay / "other").ok()
    lower.recover()
    for error in errors:
        out, err = waiting[error].communicate(timeout=200)
        assert waiting[error].returncode == 0 and error in out, err
        assert f"'{overlay / error}' waits, to be tried again: " in err
    wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "what failed attempts left to go")


def test_asked_for_later_is_done_later(scene):
    """An undo that is asked for while the finalize is put off comes after it, and wins; who asks and other paths do not wait."""
    lower = scene.lower(build(scene, ["a/b", "other"]), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"RetrySec": "1min"}}))
    lower.fail("EIO", "a")
    first = daemon.finalize(overlay / "a")
    put_off(daemon, first)
    undo = daemon.manager().Unfinalize(overlay / "a/b", dbus.Dictionary(signature="sv"))
    daemon.ctl("finalize", "--dry-run", overlay / "a")
    daemon.ctl("finalize", overlay / "other").ok()
    assert daemon.job(undo)["State"] == "queued" and daemon.job(first)["State"] != "done"
    lower.recover()
    assert daemon.wait_job(undo)["State"] == "done"
    assert daemon.job(first)["State"] == "done" and daemon.job(first)["FinishedUSec"] <= daemon.job(undo)["StartedUSec"]
    assert daemon.state_of(overlay / "a/b") == "copied-up"


def test_tried_again_though_a_part_is_blocked(scene):
    """The lower fails for one part, another cannot be done at all: the first is waited for, then the other is told."""
    lower = scene.lower(build(scene, ["d/blocked", "d/fine"]), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"RetrySec": "1min"}}))
    run("mount", "-t", "tmpfs", "inner", overlay / "d/blocked")
    try:
        lower.fail("EIO", "d/fine/file")
        path = daemon.finalize(overlay / "d")
        assert overlay / "d/fine/file" in put_off(daemon, path)["Reason"]
        lower.recover()
        job = daemon.wait_job(path)
        assert job["ErrorName"].endswith(".Precondition") and overlay / "d/blocked" in job["ErrorMessage"]
        assert daemon.state_of(overlay / "d/fine") == "finalized"
    finally:
        run("umount", overlay / "d/blocked")


def test_tried_again_in_vain(scene):
    """An error that stays ends a job that somebody asked for after RetrySec=, clearly; a cancel ends it at once."""
    lower = scene.lower(build(scene, ["a"]), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"RetrySec": "1500ms"}}))
    lower.fail("EIO", "a/file")
    result = daemon.ctl("finalize", overlay / "a")
    assert result.code == 1 and overlay / "a/file" in result.err
    # Three times in one second, where nothing else keeps the machine busy.
    assert re.search(r"\(tried [2-9] times in [1-9][0-9]* s\)", result.err), result.err
    lower.invalidate()
    lower.fail("ESTALE", "a")
    assert daemon.ctl("finalize", "--dry-run", overlay / "a").code == 1, "who only asks is told at once"
    path = daemon.finalize(overlay / "a")
    put_off(daemon, path)
    daemon.ctl("cancel", str(daemon.job(path)["Id"])).ok()
    job = daemon.job(path)
    assert (job["State"], job["Reason"], job["NextTryUSec"]) == ("canceled", "", 0)
    daemon.add_overlay("soft", overlay.point)
    daemon.ctl("reload").ok()
    result = daemon.ctl("finalize", overlay / "a")
    assert result.code == 1 and "tried" not in result.err


PATIENT = {"CopyUp": {"RetrySec": "1min", "Workers": "2"}}


def leave_something(daemon, lower, overlay):
    """A job that waits, and has not been able to clear away what it had built; then the lower answers again."""
    lower.delay(10_000)
    path = daemon.finalize(overlay / "d")
    wait_for(lambda: daemon.job(path)["EntriesDone"] > 10, "something to be there")
    lower.invalidate()
    lower.fail("EIO")
    put_off(daemon, path)
    assert os.path.lexists(overlay.upper_path(".ovlfind"))
    return path


def test_canceled_while_put_off(scene):
    """What an attempt could not clear away is cleared away though there is no other one."""
    source = scene.source()
    many(os.path.join(source, "d"), 60)
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, PATIENT))
    path = leave_something(daemon, lower, overlay)
    daemon.manager().CancelJob(dbus.UInt32(daemon.job(path)["Id"]))
    lower.recover()
    wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "what it left to go")


def test_forgotten_while_put_off(scene):
    """An overlay that is not configured any more takes its jobs along; what waits for others goes on."""
    source = scene.source()
    many(os.path.join(source, "d"), 60)
    lower, other_lower = scene.lower(source, timeout=0), scene.lower(build(scene, ["a"]), timeout=0)
    overlay, other = scene.overlay(lower), scene.overlay(other_lower)
    daemon = scene.daemon(soft=(overlay, PATIENT), other=(other, PATIENT))
    leave_something(daemon, lower, overlay)
    os.unlink(os.path.join(daemon.overlays_d, "soft.conf"))
    daemon.manager().Reload()
    lower.recover()
    other_lower.fail("EIO", "a")
    path = daemon.finalize(other / "a")
    put_off(daemon, path, put_off(daemon, path)["NextTryUSec"])


@pytest.mark.timeout(90)
def test_stalled(scene):
    lower = scene.lower(build(scene, [f"a/d{i}" for i in range(40)]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    try:
        lower.delay(20_000)
        path = daemon.finalize(overlay / "a")
        wait_for(lambda: daemon.job(path)["EntriesTotal"], "it to have begun")
        lower.hang()
        wait_for(lambda: daemon.job(path)["Stalled"], "it to be told")
        assert "lower layers" in daemon.job(path)["Reason"] and "answer" in daemon.job(path)["Reason"]
        assert "does not get on" in daemon.log()
    finally:
        lower.recover()
    lower.delay(0)
    assert daemon.wait_job(path)["State"] == "done"
    assert not daemon.job(path)["Stalled"]


# What workers are asked, with a scripted one

def test_asked_for_while_it_is_put_off(scene):
    """It comes back after a restart. Whoever asks again while it waits for the lower gets that job, and it is tried at once."""
    fake = Fake(scene, start=False)
    fake.daemon.add_overlay("soft", fake.overlay.point, CopyUp={"RetrySec": "1h"})
    fake.start()
    fake.play({"finalize": [failure("LowerUnreachable", "no answer", 5)]})
    path = fake.finalize()
    put_off(fake.daemon, path)
    wait_for(lambda: len(fake.asked("finalize")) == 2, "another attempt")
    later = put_off(fake.daemon, path)["NextTryUSec"]
    assert abs(later / 1e6 - time.time()) < 60
    assert time.CLOCK_BOOTTIME in armed_clocks(fake.daemon.process.pid) and time.CLOCK_REALTIME not in armed_clocks(
        fake.daemon.process.pid), "setting the clock neither shortens nor prolongs the pause"
    fake.daemon.kill()
    fake.start()
    wait_for(lambda: len(fake.asked("finalize")) == 3, "it to go on without a pause")
    job = put_off(fake.daemon, path)
    assert (job["Reason"], list(job["Notes"])) == ("no answer", ["no answer"])
    wait_for(lambda: len(fake.asked("finalize")) == 4, "another attempt")
    later = put_off(fake.daemon, path)["NextTryUSec"]
    fake.play({"finalize": [DONE]})
    assert fake.finalize() == path
    assert fake.daemon.wait_job(path)["FinishedUSec"] < later


def test_asked_for_as_well(scene):
    """A directory that is hot and waits for its job is asked for: its job has an owner now, and comes back after a restart."""
    fake = Fake(scene, start=False)
    fake.daemon.add_overlay("soft", fake.overlay.point, Watch={"HotOpens": "5"}, Finalize={"Automatic": "yes"})
    heat = [["send", {"kind": "heat", "path": path, "done": n}] for path, n in (("hot", 90), ("warm", 10))]
    fake.play({"watch": [*heat, ["wait-cancel", {}]], "finalize": [["wait-file", {"file": fake.file("go")}], DONE]})
    fake.start()
    fake.daemon.manager().Pause("")
    warm = wait_for(lambda: [p for _, p in fake.daemon.manager().ListJobs() if fake.daemon.job(p)["Path"].endswith("warm")],
                    "a job for what is warm")[0]
    assert fake.daemon.job(warm)["Automatic"] and fake.daemon.job(warm)["State"] == "queued"
    recorder = fake.recorder()
    assert fake.finalize("warm", data=dbus.UInt64(1)) != warm, "it would do something else"
    assert fake.finalize("warm") == warm and not fake.daemon.job(warm)["Automatic"]
    wait_for(lambda: [s for s in recorder.signals("PropertiesChanged") if "Automatic" in str(s)], "it to be told")
    fake.daemon.kill()
    fake.start()
    assert not fake.daemon.job(warm)["Automatic"]
    fake.touch("go")
    assert fake.daemon.wait_job(warm)["State"] == "done"


def test_automatic_jobs_in_the_background(scene):
    """They come one after the other, hottest first, say that nobody waits, and do not come back after a restart as interrupted."""
    fake = Fake(scene, start=False)
    fake.daemon.add_overlay("soft", fake.overlay.point, Watch={"HotOpens": "5"}, Finalize={"Automatic": "yes"})

    def heat(path, n):
        return ["send", {"kind": "heat", "path": path, "done": n}]
    fake.play({"watch": [heat("", 500), heat("cold", 4), heat("hot", 90), heat("warm", 10), ["wait-cancel", {}]],
               "finalize": [["wait-file", {"file": fake.file("go")}], DONE]})
    fake.start()
    wait_for(lambda: len(fake.daemon.manager().ListJobs()) == 2, "two jobs")
    assert [r["PATH"] for r in wait_for(lambda: fake.asked("finalize"), "the first one")] == ["hot"]
    fake.touch("go")
    requests = wait_for(lambda: len(r := fake.asked("finalize")) == 2 and r, "the other one")
    assert requests[1]["PATH"] == "warm"
    assert all(r["BACKGROUND"] == "1" and r["MAX_ENTRIES"] == "100000" for r in requests)
    watch = fake.asked("watch")[0]
    assert (watch["DIRECTORIES"], watch["MAX_WATCHES"], watch["BACKGROUND"]) == ("", "8192", "1")
    before = {int(n) for n, _ in fake.daemon.manager().ListJobs()}
    fake.daemon.kill()
    fake.start()
    assert not before & {int(n) for n, _ in fake.daemon.manager().ListJobs()}  # the new watcher has told of others perhaps
