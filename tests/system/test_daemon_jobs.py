# SPDX-License-Identifier: LGPL-2.1-or-later
"""Jobs of the daemon with a worker that touches no file: their order, their end, what workers do to them."""

import errno
import os
import signal
import time

import dbus
import pytest

from ovltest.daemon import ERROR, NAME, wait_for
from ovltest.env import alive
from ovltest.fakedaemon import DONE, JOB, Fake, directory, error_of, failure


def test_a_job_from_start_to_end(fake):
    recorder = fake.recorder()
    fake.play({"finalize": [
        ["send", {"kind": "progress", "state": 1, "done": 5, "total": 10, "size": 77, "errors": 1}],
        ["wait-file", {"file": fake.file("go")}],
        ["send", {"kind": "progress", "state": 2, "done": 10, "total": 10}],
        directory("a", "finalized", name="redirect", lower_path="/a", total=10, merge_children=4, usec=12345),
        directory("a/b", "excluded", text="a mount point"),
        ["send", {"kind": "note", "path": "a/b", "text": "a mount point"}],
        ["send", {"kind": "result", "name": "None", "done": 10, "total": 10, "size": 99}]]})
    path = fake.finalize()
    job = wait_for(lambda: (j := fake.daemon.job(path))["EntriesDone"] == 5 and j, "progress")
    assert (job["State"], job["EntriesTotal"], job["BytesCopied"], job["Errors"]) == ("running", 10, 77, 1)
    assert job["StartedUSec"] >= job["QueuedUSec"] > 0 and job["FinishedUSec"] == 0
    assert fake.manager_property("NJobs") == 1
    fake.touch("go")
    job = fake.daemon.wait_job(path)
    assert (job["State"], job["EntriesDone"], job["BytesCopied"], job["ErrorName"]) == ("done", 10, 99, "")
    assert [str(n) for n in job["Notes"]] == [f"{fake.overlay / 'a/b'}: a mount point"]
    assert job["FinishedUSec"] >= job["StartedUSec"]
    wait_for(lambda: recorder.signals("JobRemoved"), "JobRemoved")
    assert recorder.signals("JobNew") == [[1, path]]
    assert recorder.signals("JobRemoved") == [[1, path, "done"]]
    assert recorder.signals("DirectoryChanged") == [["soft", fake.overlay / "a", "finalized"],
                                                    ["soft", fake.overlay / "a/b", "excluded"]]
    changed = recorder.signals("PropertiesChanged", path)
    assert changed[-1][1]["State"]["data"] == "done" and "Notes" in changed[-1][2]
    # What has changed is told before the end of the job is.
    assert recorder.order("PropertiesChanged", "JobRemoved")[-1] == "JobRemoved"
    assert dict(fake.overlay_properties()["Directories"]) == {"finalized": 1, "excluded": 1}
    # It looks as if nobody had tried.
    fake.play({"inspect": [directory("a/b", "merged", lower_path="/a/b", total=3), ["send", {"kind": "result", "name": "None"}]]})
    found = fake.daemon.manager().GetDirectory(fake.overlay / "a/b")
    assert (found["state"], found["reason"], found["lower_path"]) == ("excluded", "a mount point", "/a/b")
    assert fake.manager_property("NFinalized") == 1 and fake.manager_property("NJobs") == 0


def test_what_a_worker_is_asked(scene):
    fake = Fake(scene, start=False)
    fake.daemon.add_overlay("soft", fake.overlay.point, Watch={"MaxWatches": "0", "Exclude": "tmp/** cache"},
                            CopyUp={"HardLinks": "break", "Workers": "7", "EntriesPerSecond": "12", "MinFreeInodes": "4K"},
                            Finalize={"QuietSec": "1min", "Standing": "wait"})
    fake.start()
    fake.daemon.wait_job(fake.finalize("a/b", **{"dry-run": True, "force": True, "method": "exchange"}))
    request = fake.asked("finalize")[0]
    assert request.pop("PID") > 0
    assert request == {
        "VERB": "finalize", "OVERLAY": "soft", "MOUNT_POINT": fake.overlay.point, "PATH": "a/b",
        "STATE_DIR": fake.daemon.state, "QUIET_USEC": "60000000", "STANDING": "wait", "HARD_LINKS": "break", "WORKERS": "7",
        "MIN_FREE_SPACE": "5%", "MIN_FREE_INODES": "4096", "RATE": "12", "EXCLUDE": "tmp/** cache", "DRY_RUN": "1",
        "FORCE": "1", "METHOD": "exchange", "ASKED": "1"}
    fake.daemon.wait_job(fake.finalize("c", parents=True, depth=dbus.UInt32(2)))
    request = fake.asked("finalize")[1]
    assert (request["METHOD"], request["DEPTH"], request["PARENTS"]) == ("auto", "2", "1")


def test_nothing_of_the_daemon_is_inherited(fake):
    fake.play({"finalize": [["wait-cancel", {}]]})
    fake.finalize()
    pid = wait_for(lambda: fake.asked("finalize"), "the worker")[0]["PID"]
    fds = {int(n): os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
    assert fds[0] == fds[1] == "/dev/null" and fds[3].startswith("socket:")
    assert all(n <= 3 or "python" in target or target.startswith("/") for n, target in fds.items())
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        status = dict(line.rstrip("\n").split(":\t") for line in f if ":\t" in line)
    assert int(status["SigBlk"], 16) == 0


def test_dry_run_has_a_plan_and_changes_nothing(fake):
    recorder = fake.recorder()
    fake.play({"finalize": [["send", {"kind": "step", "name": "build", "path": "a", "text": "makes it", "total": 3, "done": 2,
                                      "size": 4096}],
                            directory("a", "finalized"), DONE]})
    job = fake.daemon.wait_job(fake.finalize(**{"dry-run": True}))
    assert job["DryRun"] and [dict(s) for s in job["Plan"]] == [
        {"name": "build", "path": fake.overlay / "a", "text": "makes it", "entries": 3, "inodes": 2, "bytes": 4096}]
    assert not recorder.signals("DirectoryChanged") and not fake.overlay_properties()["Directories"]


def test_a_worker_that_fails(fake):
    fake.play({"finalize": [failure("NoSpace", "no room in the upper", 28)]})
    job = fake.daemon.wait_job(fake.finalize())
    assert (job["State"], job["ErrorName"], job["ErrorMessage"]) == ("failed", ERROR + "NoSpace", "no room in the upper")
    fake.play({"finalize": [["exit", {"status": 7}]]})
    job = fake.daemon.wait_job(fake.finalize())
    assert job["State"] == "failed" and "exit status 7" in job["ErrorMessage"]
    assert job["ErrorName"] == "org.freedesktop.DBus.Error.Failed"


def test_a_worker_that_dies_is_followed_by_a_survey_and_another(fake):
    fake.play({"finalize": [directory("a", "finalized"), ["die-once", {"file": fake.file("died")}], DONE],
               "survey": [directory("a", "finalized"), DONE]})
    job = fake.daemon.wait_job(fake.finalize())
    assert job["State"] == "done"
    assert [r["VERB"] for r in fake.asked()] == ["survey", "finalize", "survey", "finalize"]
    assert "killed by signal 9, attempt 1 of 3" in fake.daemon.log()


def test_a_worker_that_always_dies(fake):
    fake.play({"finalize": [["die", {"signal": signal.SIGSEGV}]]})
    job = fake.daemon.wait_job(fake.finalize())
    assert job["State"] == "failed" and "signal 11 in each of 3 attempts" in job["ErrorMessage"]
    wait_for(lambda: len(fake.asked("survey")) == 4, "the last survey")
    assert len(fake.asked("finalize")) == 3
    fake.play({})
    assert fake.daemon.wait_job(fake.finalize())["State"] == "done"


def test_cancel(fake):
    recorder = fake.recorder()
    fake.play({"finalize": [["send", {"kind": "progress", "state": 3}], ["wait-cancel", {}]]})
    running, queued = fake.finalize(), fake.finalize("a/b")
    fake.daemon.wait_job(running, states=("waiting",))
    fake.daemon.manager().CancelJob(dbus.UInt32(2))
    assert fake.daemon.job(queued)["State"] == "canceled"
    dbus.Interface(fake.daemon.connection().get_object(NAME, running), JOB).Cancel()
    job = fake.daemon.wait_job(running)
    assert (job["State"], job["ErrorName"]) == ("canceled", ERROR + "Canceled")
    wait_for(lambda: len(recorder.signals("JobRemoved")) == 2, "both JobRemoved")
    assert {s[2] for s in recorder.signals("JobRemoved")} == {"canceled"}
    assert error_of(fake.daemon.manager().CancelJob, dbus.UInt32(1))[0] == ERROR + "NoSuchJob"
    assert error_of(fake.daemon.manager().CancelJob, dbus.UInt32(99))[0] == ERROR + "NoSuchJob"


@pytest.mark.parametrize("end", [failure("LowerUnreachable", "no answer"), failure("Failed", "an error", errno.EIO), ["exit", {"status": 75}],
                                 failure("Canceled", "canceled", errno.ECANCELED)],
                         ids=["to be tried again", "after an error", "to begin anew", "when it heard"])
def test_cancel_meets_the_end_of_a_wait(fake, end):
    """The worker has ended, or is about to, when it is cancelled, and does not hear of it: canceled all the same."""
    fake.play({"finalize": [["send", {"kind": "progress", "state": "waiting"}], ["wait-file", {"file": fake.file("go")}], end]})
    path = fake.finalize()
    fake.daemon.wait_job(path, states=("waiting",))
    fake.daemon.manager().CancelJob(dbus.UInt32(1))
    fake.touch("go")
    job = fake.daemon.wait_job(path)
    assert (job["State"], job["ErrorName"]) == ("canceled", ERROR + "Canceled"), job["ErrorMessage"]
    assert len(fake.asked("finalize")) == 1


def test_cancel_that_comes_too_late(fake):
    """What the worker did is done, though it has not read the word."""
    fake.play({"finalize": [["send", {"kind": "progress", "state": "applying"}], ["wait-file", {"file": fake.file("go")}], DONE]})
    path = fake.finalize()
    fake.daemon.wait_job(path, states=("applying",))
    fake.daemon.manager().CancelJob(dbus.UInt32(1))
    fake.touch("go")
    assert fake.daemon.wait_job(path)["State"] == "done"


def test_a_job_that_does_not_get_on(fake):
    """What it is at is told, and not what it might be at. Bytes alone are progress."""
    at = "it copies the content of files"
    step = {"kind": "progress", "state": "running", "text": at}
    fake.play({"finalize": [["send", step], ["wait-file", {"file": fake.file("go")}], ["send", {**step, "size": 4096}],
                            ["wait-file", {"file": fake.file("end")}], DONE]})
    path = fake.finalize()
    wait_for(lambda: fake.daemon.job(path)["Stalled"], "it to be told")
    assert fake.daemon.job(path)["Reason"] == at
    assert f"does not get on: {at}" in fake.daemon.log() and "lower" not in fake.daemon.log()
    fake.touch("go")
    wait_for(lambda: not fake.daemon.job(path)["Stalled"], "it to get on")
    assert fake.daemon.job(path)["Reason"] == ""
    fake.touch("end")
    assert fake.daemon.wait_job(path)["State"] == "done"


def watched(scene, *actions):
    """One whose watcher does that; returns it and the watcher's PID."""
    fake = Fake(scene, start=False)
    fake.daemon.add_overlay("soft", fake.overlay.point, Watch={})
    fake.play({"watch": actions})
    fake.start()
    return fake, wait_for(lambda: fake.asked("watch"), "the watcher")[0]["PID"]


def test_a_watcher_that_is_killed(scene):
    """It is told as what it is, also when it had not read all that it was told."""
    fake, watcher = watched(scene, ["hang", {}])
    assert fake.daemon.wait_job(fake.finalize())["State"] == "done"
    os.kill(watcher, signal.SIGKILL)
    wait_for(lambda: "not watched" in fake.daemon.log(), "it to be told")
    assert "was killed by signal 9" in fake.overlay_properties()["WatchingReason"]
    assert "cannot be read" not in fake.daemon.log()


def test_unmounted_under_its_watcher(scene):
    """A plain unmount is nothing to complain about, even when the watcher knows first."""
    go = os.path.join(scene.dir, "go")
    fake, watcher = watched(scene, ["wait-file", {"file": go}], failure("Failed", "cannot watch: No such device", errno.ENODEV))
    fake.overlay.umount()
    with open(go, "wb"):
        pass
    wait_for(lambda: not alive(watcher), "it to end", step=0.005)  # to ask the daemon would make it look at the mounts
    wait_for(lambda: fake.overlay_properties()["State"] == "absent", "it to be seen")
    assert "not watched" not in fake.daemon.log()


def test_a_worker_that_does_not_listen_is_killed(fake):
    """Unless it was done by then, and keeps an old tree."""
    fake.play({"finalize:a": [["hang", {}]],
               "finalize:c": [["wait-file", {"file": fake.file("go")}], DONE,
                              ["send", {"kind": "kept", "path": "c", "state": 1, "text": "bash (17)"}],
                              ["wait-file", {"file": fake.file("left")}]]})
    late, path = fake.finalize("c"), fake.finalize("a")
    wait_for(lambda: len(fake.asked("finalize")) == 2, "the workers")
    pids = {r["PATH"]: r["PID"] for r in fake.asked("finalize")}
    start = time.monotonic()
    fake.daemon.manager().CancelJob(dbus.UInt32(1))
    fake.daemon.manager().CancelJob(dbus.UInt32(2))
    fake.touch("go")
    fake.daemon.wait_job(late)
    assert fake.daemon.wait_job(path)["State"] == "canceled"
    assert time.monotonic() - start > 9 and not alive(pids["a"])
    wait_for(lambda: len(fake.asked("survey")) == 2, "the survey after it")
    assert alive(pids["c"]) and fake.overlay_properties()["NKept"] == 1
    fake.touch("left")


def test_a_keeper_that_gives_up_is_followed_by_a_survey(fake):
    """At once; if that is no help, later."""
    fake.play({"finalize": [DONE, ["exit", {"status": 1}]]})
    fake.daemon.wait_job(fake.finalize())
    wait_for(lambda: len(fake.asked("survey")) == 2, "the survey", 4)
    wait_for(lambda: fake.overlay_properties()["State"] == "active", "its end")
    fake.daemon.wait_job(fake.finalize())
    wait_for(lambda: len(fake.asked("survey")) == 3, "another survey")


def test_nested_paths_one_after_the_other(fake):
    """At most two at once; a related job never runs beside another nor overtakes it, an unrelated one may."""
    hold = [["wait-file", {"file": fake.file("go")}], DONE]
    fake.play({"finalize": hold})
    paths = [fake.finalize(p) for p in ("x/y", "x", "x/y/z", "w", "v")]
    fake.settle()
    assert [fake.daemon.job(p)["State"] for p in paths] == ["running", "queued", "queued", "running", "queued"]
    fake.touch("go")
    assert [fake.daemon.wait_job(p)["State"] for p in paths] == ["done"] * 5
    order = [r["PATH"] for r in fake.asked("finalize")]
    assert order.index("x/y") < order.index("x") < order.index("x/y/z")


def test_finished_jobs_stay_readable(fake):
    for i in range(66):
        fake.finalize(f"d{i}")
    wait_for(lambda: fake.manager_property("NJobs") == 0, "all jobs")
    jobs = {int(i) for i, _ in fake.daemon.manager().ListJobs()}
    assert len(jobs) == 64 and 66 in jobs


def test_asked_for_twice(fake):
    """What is the same and has not begun is one job; what has begun may have missed what the second one asks for."""
    manager, nothing = fake.daemon.manager(), dbus.Dictionary({}, "sv")
    manager.Pause("")
    a = fake.finalize()
    assert fake.finalize() == a
    others = [fake.finalize("a/b"), fake.finalize(**{"dry-run": True}), fake.finalize(data=dbus.UInt64(1)),
              manager.Unfinalize(fake.overlay / "a", nothing)]
    assert len({a, *others}) == 5
    later = fake.finalize()
    assert later not in (a, *others), "what is undone in between is asked for anew"
    swaps = [manager.Remount("soft", dbus.Dictionary({"set": f"metacopy={v}"}, "sv")) for v in ("on", "on", "off")]
    assert swaps[0] == swaps[1] != swaps[2]
    for job in {a, *others, later, *swaps}:
        manager.CancelJob(dbus.UInt32(job.rpartition("/")[2]))
    client = fake.daemon.start_ctl("finalize", fake.overlay / "a", fake.overlay / "a")
    wait_for(lambda: fake.manager_property("NJobs") == 1, "the job")
    fake.play({"finalize": [["wait-file", {"file": fake.file("go")}], DONE]})
    manager.Resume("")
    wait_for(lambda: fake.asked("finalize"), "the worker")
    again = fake.finalize()
    assert fake.finalize() == again and fake.manager_property("NJobs") == 2
    fake.touch("go")
    client.communicate(timeout=20)
    assert client.returncode == 0 and fake.daemon.wait_job(again)["State"] == "done"


def test_pause_and_resume(fake):
    fake.daemon.manager().Pause("")
    path = fake.finalize()
    fake.settle()
    assert fake.daemon.job(path)["State"] == "queued" and fake.manager_property("Paused")
    fake.daemon.manager().Resume("")
    assert fake.daemon.wait_job(path)["State"] == "done"
    fake.daemon.manager().Pause("soft")
    path = fake.finalize()
    fake.settle()
    assert fake.daemon.job(path)["State"] == "queued" and fake.overlay_properties()["Paused"]
    fake.daemon.manager().Resume("soft")
    assert fake.daemon.wait_job(path)["State"] == "done"
    assert error_of(fake.daemon.manager().Pause, "nothing")[0] == ERROR + "NoSuchOverlay"


def test_large_trees_are_no_flood(fake):
    recorder = fake.recorder()
    many = ["many", {"count": 2000, "record": {"kind": "directory", "path": "a/%d", "state": "finalized"}}]
    fake.play({"finalize": [many, DONE]})
    for expected in (2000, 2000):  # the second time nothing changes
        path = fake.finalize()
        assert fake.daemon.wait_job(path)["State"] == "done"
        wait_for(lambda: fake.manager_property("NFinalized") == 2000, "the count")
        recorder.catch_up()
        assert len(recorder.signals("DirectoryChanged")) == expected
    assert len(recorder.signals("PropertiesChanged")) < 100
    listed = fake.daemon.manager().ListDirectories("soft", dbus.Dictionary({"path": fake.overlay / "a/17"}, signature="sv"))
    assert [str(d["path"]) for d in listed] == [fake.overlay / "a/17"]


def test_the_journal_is_no_flood(fake):
    """What somebody does again and again is told 200 times; what else happens is told all the same."""
    manager = fake.daemon.manager()
    manager.Pause("")
    for i in range(230):
        manager.CancelJob(dbus.UInt32(os.path.basename(fake.finalize(f"d{i}"))))
    assert fake.daemon.log().count("was canceled") == 200
    manager.Reload()
    assert "Reading the configuration" in fake.daemon.log()
