# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon with a worker that touches no file: what it makes of what workers say, do and suffer."""

import os
import signal
import socket
import subprocess
import time

import dbus
import pytest

from ovltest import binary
from ovltest.daemon import ERROR, NAME, PATH, wait_for
from ovltest.env import alive
from ovltest.fakedaemon import DONE, JOB, MANAGER, OVERLAY, PROPERTIES, Fake, directory, error_of, failure

# Overlays

def test_survey_tells_the_directories(scene):
    fake = Fake(scene, start=False)
    recorder = fake.recorder()
    fake.play({"survey": [directory("a", "finalized", name="redirect", total=2, usec=99), directory("c", "pending", text="busy"),
                          DONE]})
    fake.start()
    assert " is ready, 1 overlay configured\n" in fake.daemon.log()
    manager = fake.daemon.manager()
    assert dict(fake.overlay_properties()["Directories"]) == {"finalized": 1, "pending": 1}
    listed = manager.ListDirectories("", dbus.Dictionary({}, signature="sv"))
    assert [dict(d) for d in listed] == [
        {"overlay": "soft", "path": fake.overlay / "a", "state": "finalized", "reason": "", "scheme": "redirect",
         "lower_path": "", "entries": 2, "merge_children": 0, "finalized_usec": 99},
        {"overlay": "soft", "path": fake.overlay / "c", "state": "pending", "reason": "busy", "scheme": "", "lower_path": "",
         "entries": 0, "merge_children": 0}]
    pending = manager.ListDirectories("soft", dbus.Dictionary({"state": "pending"}, signature="sv"))
    assert [str(d["path"]) for d in pending] == [fake.overlay / "c"]
    assert not recorder.signals("DirectoryChanged")
    for overlay, filters, name in (("none", {}, "NoSuchOverlay"), ("", {"state": "odd"}, "Invalid"), ("", {"x": "y"}, "Invalid"),
                                   ("", {"state": 5}, "Invalid")):
        assert error_of(manager.ListDirectories, overlay, dbus.Dictionary(filters, signature="sv"))[0] == ERROR + name


def test_a_refused_overlay(scene):
    fake = Fake(scene, start=False)
    fake.play({"survey": [failure("Precondition", "metacopy is off", 95)]})
    fake.start()
    properties = fake.overlay_properties()
    assert (properties["State"], properties["Reason"]) == ("refused", "metacopy is off")
    name, message = error_of(fake.finalize)
    assert name == ERROR + "Precondition" and "metacopy is off" in message and str(fake.overlay.point) in message
    fake.play({})
    wait_for(lambda: fake.overlay_properties()["State"] == "active", "another look")
    assert fake.overlay_properties()["Reason"] == ""


def test_a_survey_that_dies(scene):
    fake = Fake(scene, start=False)
    fake.play({"survey": [["die", {}]]})
    fake.start()
    assert fake.overlay_properties()["State"] == "refused" and len(fake.asked("survey")) == 3


def test_jobs_wait_for_the_survey(scene):
    fake = Fake(scene, start=False)
    fake.play({"survey": [["wait-file", {"file": fake.file("go")}], DONE]})
    fake.start(survey=False)
    path = fake.finalize()
    fake.settle()
    assert fake.overlay_properties()["State"] == "starting" and fake.daemon.job(path)["State"] == "queued"
    fake.touch("go")
    assert fake.daemon.wait_job(path)["State"] == "done"


def test_mounts_come_and_go(fake):
    fake.play({"finalize": [["wait-cancel", {}]], "survey": [directory("a", "finalized"), DONE]})
    running, queued = fake.finalize(), fake.finalize()
    pid = wait_for(lambda: fake.asked("finalize"), "the worker")[0]["PID"]
    fake.overlay.umount()
    for path in running, queued:
        job = fake.daemon.wait_job(path)
        assert (job["State"], job["ErrorName"]) == ("failed", ERROR + "NotManaged")
    wait_for(lambda: not alive(pid), "the worker to end")
    properties = fake.overlay_properties()
    assert properties["State"] == "absent" and "nothing is mounted" in properties["Reason"] and not properties["Directories"]
    name, message = error_of(fake.finalize)
    assert name == ERROR + "NotManaged" and "not mounted" in message
    assert error_of(fake.daemon.manager().GetDirectory, fake.overlay / "a")[0] == ERROR + "NotManaged"
    fake.overlay.mount()
    wait_for(lambda: fake.overlay_properties()["State"] == "active", "the overlay")
    assert dict(fake.overlay_properties()["Directories"]) == {"finalized": 1}


def test_a_mount_point_through_a_symlink(scene):
    """Said, with the way out, and not followed: what it leads to may hang, or be another one tomorrow."""
    overlay, lower = scene.overlay(scene.source()), scene.lower(scene.source())
    link = os.path.join(scene.dir, "link")
    os.symlink(os.path.dirname(overlay.point), link)
    daemon = scene.daemon(start=False)
    daemon.add_overlay("soft", os.path.join(link, os.path.basename(overlay.point)))
    daemon.add_overlay("far", os.path.join(lower.point, "dir/ovl"))
    lower.hang()
    try:
        daemon.start()
        objects = dict(daemon.manager().ListOverlays())
        soft, far = (daemon.properties(objects[name], OVERLAY) for name in ("soft", "far"))
    finally:
        lower.recover()
    assert (soft["State"], far["State"]) == ("absent", "absent")
    assert f"'{link}' is a symlink to '{os.path.dirname(overlay.point)}'" in soft["Reason"] and "symlink" not in far["Reason"]
    daemon.add_overlay("soft", overlay.point)
    daemon.ctl("reload").ok()
    wait_for(lambda: daemon.overlay_states()["soft"] == "active", "the overlay")


def test_unmounted_and_mounted_at_once(fake):
    """The change is noticed by the identity of the mount even when it is there again before anybody looks."""
    os.kill(fake.daemon.process.pid, signal.SIGSTOP)
    fake.overlay.remount()
    os.kill(fake.daemon.process.pid, signal.SIGCONT)
    wait_for(lambda: len(fake.asked("survey")) == 2, "another survey")
    wait_for(lambda: fake.overlay_properties()["State"] == "active", "the overlay")


def test_asked_right_after_a_mount(fake):
    """Nobody has to wait until the daemon has noticed: what was mounted before a call counts for it."""
    for _ in range(5):
        fake.overlay.remount()
        assert fake.daemon.wait_job(fake.finalize())["State"] == "done"
    fake.overlay.umount()
    assert fake.overlay_properties()["State"] == "absent"


def test_the_innermost_mounted_overlay_has_a_path(fake):
    inner = fake.overlay / "a/b"
    fake.daemon.add_overlay("inner", inner)
    fake.daemon.manager().Reload()
    assert fake.daemon.job(fake.daemon.finalize(inner + "/c"))["Overlay"] == "soft"
    other = fake.scene.overlay(fake.scene.source())
    subprocess.run(["mount", "--move", other.point, inner], check=True)
    other.point = inner
    wait_for(lambda: fake.daemon.overlay_states()["inner"] == "active", "the inner one")
    assert fake.daemon.job(fake.daemon.finalize(inner + "/c"))["Overlay"] == "inner"
    assert fake.daemon.job(fake.finalize("a/bc"))["Overlay"] == "soft"


def test_other_mounts_are_no_news(fake):
    for _ in range(3):
        fake.scene.overlay(fake.scene.source())
    fake.settle()  # a call makes the daemon look at the mounts, too
    assert fake.overlay_properties()["State"] == "active" and len(fake.asked("survey")) == 1


def test_kept_trees(fake):
    fake.play({"finalize": [DONE, ["send", {"kind": "kept", "path": "a", "state": 2, "text": "bash (17)"}],
                            ["wait-file", {"file": fake.file("left")}]]})
    assert fake.daemon.wait_job(fake.finalize())["State"] == "done"
    wait_for(lambda: fake.overlay_properties()["NKept"] == 1, "the kept tree")
    fake.play({})
    assert fake.daemon.wait_job(fake.finalize())["State"] == "done"  # is not in the way
    fake.touch("left")
    wait_for(lambda: fake.overlay_properties()["NKept"] == 0, "the tree to go")


# Questions

def test_get_directory(fake):
    fake.play({"inspect": [directory("a", "copied-up", lower_path="/old/a", total=7, merge_children=3, text="why"), DONE],
               "finalize": [["wait-cancel", {}]]})
    d = dict(fake.daemon.manager().GetDirectory(fake.overlay / "a/"))
    assert d == {"overlay": "soft", "path": fake.overlay / "a", "state": "copied-up", "reason": "why", "scheme": "",
                 "lower_path": "/old/a", "entries": 7, "merge_children": 3}
    fake.finalize()
    wait_for(lambda: fake.asked("finalize"), "the worker")
    d = fake.daemon.manager().GetDirectory(fake.overlay / "a")
    assert (d["state"], d["job"]) == ("copying", 1)
    fake.play({"inspect": [failure("Invalid", "not a directory", 20)]})
    assert error_of(fake.daemon.manager().GetDirectory, fake.overlay / "a") == (ERROR + "Invalid", "not a directory")
    fake.play({"inspect": [["die", {}]]})
    assert "signal 9" in error_of(fake.daemon.manager().GetDirectory, fake.overlay / "a")[1]


def test_a_hanging_lower_hangs_nobody_else(fake):
    fake.play({"inspect": [["hang", {}]], "check": [["send", {"kind": "check", "name": "upper", "state": 0, "text": "fine"}], DONE]})
    proxy = fake.daemon.connection().get_object(NAME, PATH, introspect=False)
    start = time.monotonic()
    client = subprocess.Popen(["busctl", f"--address={fake.scene.bus.address}", "call", NAME, PATH, MANAGER, "GetDirectory", "s",
                               fake.overlay / "a"], stderr=subprocess.PIPE, text=True)
    pid = wait_for(lambda: fake.asked("inspect"), "the worker")[0]["PID"]
    assert [dict(c) for c in dbus.Interface(proxy, MANAGER).Check("soft")] == [
        {"id": "upper", "level": "ok", "text": "fine", "advice": ""}]
    assert fake.daemon.wait_job(fake.finalize())["State"] == "done"
    assert client.poll() is None, "it was answered first"
    _, err = client.communicate(timeout=100)
    assert client.returncode != 0 and "no answer" in err and time.monotonic() - start > 4
    wait_for(lambda: not alive(pid), "the worker to be killed")


def test_check(fake):
    fake.play({"check": [["send", {"kind": "check", "name": "metacopy", "state": 2, "text": "off", "lower_path": "switch it on"}],
                         DONE]})
    manager = fake.daemon.manager()
    expected = [{"id": "metacopy", "level": "fail", "text": "off", "advice": "switch it on"}]
    other = fake.scene.overlay(fake.scene.source())
    for which in "soft", fake.overlay.point, fake.overlay / "a", other.point:
        assert [dict(c) for c in manager.Check(which)] == expected
    assert [r["OVERLAY"] for r in fake.asked("check")] == ["soft", "soft", "soft", ""]
    assert fake.asked("check")[3]["MOUNT_POINT"] == other.point
    for which, name in (("odd", "NoSuchOverlay"), ("/nowhere", "NotManaged"), ("/a/../b", "Invalid")):
        assert error_of(manager.Check, which)[0] == ERROR + name


# Arguments and permissions

def test_bad_arguments(fake):
    for options, word in (({"method": "odd"}, "odd"), ({"depth": dbus.UInt32(1), "method": "exchange"}, "depth"),
                          ({"depth": "1"}, "depth"), ({"parents": True, "method": "exchange"}, "parents"),
                          ({"data": "much"}, "data"),
                          ({"colour": "red"}, "colour"), ({"dry-run": "yes"}, "dry-run")):
        with pytest.raises(dbus.DBusException) as e:
            fake.finalize(**options)
        assert e.value.get_dbus_name() == ERROR + "Invalid" and word in e.value.get_dbus_message()
    got, message = error_of(fake.daemon.manager().Unfinalize, fake.overlay / "a",
                            dbus.Dictionary({"reset": True}, signature="sv"))
    assert got == ERROR + "Precondition" and "ovlfinctl unfinalize --offline --reset" in message
    for path, name in (("relative", "Invalid"), (fake.overlay / "../x", "Invalid"), ("/nowhere", "NotManaged"),
                       (fake.overlay.point + "x", "NotManaged")):
        got, message = error_of(fake.daemon.manager().Finalize, path, dbus.Dictionary({}, signature="sv"))
        assert got == ERROR + name and path in message
    assert not fake.asked("finalize") and not fake.daemon.manager().ListJobs()


def as_nobody(fake, *args):
    return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "busctl",
                           f"--address={fake.scene.bus.address}", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=20, check=False)


def test_looking_is_open_changing_is_not(fake):
    fake.finalize()
    for member, *args in (("Finalize", "sa{sv}", "/x", "0"), ("Unfinalize", "sa{sv}", "/x", "0"), ("CancelJob", "u", "1"),
                          ("Pause", "s", ""), ("Resume", "s", ""), ("Reload",)):
        p = as_nobody(fake, "call", NAME, PATH, MANAGER, member, *args)
        assert p.returncode != 0 and "Access denied" in p.stderr, p.stderr
    p = as_nobody(fake, "call", NAME, PATH + "/job/1", JOB, "Cancel")
    assert p.returncode != 0 and "Access denied" in p.stderr
    p = as_nobody(fake, "set-property", NAME, "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1", "LogLevel", "s", "err")
    assert p.returncode != 0 and "Access denied" in p.stderr
    for member in "ListJobs", "ListOverlays":
        assert as_nobody(fake, "call", NAME, PATH, MANAGER, member).returncode == 0
    assert as_nobody(fake, "get-property", NAME, PATH + "/job/1", JOB, "State").returncode == 0


def test_log_control(fake):
    o = fake.daemon.connection().get_object(NAME, "/org/freedesktop/LogControl1", introspect=False)
    p, interface = dbus.Interface(o, PROPERTIES), "org.freedesktop.LogControl1"
    assert p.GetAll(interface) == {"LogLevel": "debug", "LogTarget": "console", "SyslogIdentifier": "ovlfind"}
    p.Set(interface, "LogLevel", dbus.String("warning", variant_level=1))
    assert p.Get(interface, "LogLevel") == "warning"
    for name, value in (("LogLevel", "loud"), ("LogTarget", "paper"), ("SyslogIdentifier", "x"), ("Odd", "x"), ("LogLevel", 3)):
        value = dbus.String(value, variant_level=1) if isinstance(value, str) else dbus.Int32(value, variant_level=1)
        with pytest.raises(dbus.DBusException):
            p.Set(interface, name, value)


# Configuration and life

def test_reload(fake):
    manager = fake.daemon.manager()
    recorder = fake.recorder()
    other = fake.scene.overlay(fake.scene.source())
    fake.daemon.add_overlay("other", other.point)
    fake.daemon.add_overlay("bad", "relative")
    manager.Reload()
    wait_for(lambda: fake.daemon.overlay_states() == {"soft": "active", "other": "active"}, "both")
    assert "overlays.d/bad.conf:2: bad value 'relative' for MountPoint=" in fake.daemon.log()
    assert recorder.signals("InterfacesAdded")[0][0].endswith("/overlay/other")
    fake.play({"finalize": [["wait-cancel", {}]]})
    path = fake.daemon.finalize(other / "x")
    wait_for(lambda: fake.asked("finalize"), "the worker")
    os.unlink(os.path.join(fake.daemon.overlays_d, "other.conf"))
    fake.daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: fake.daemon.overlay_states() == {"soft": "active"}, "one")
    assert fake.daemon.job(path)["ErrorName"] == ERROR + "NotManaged"
    assert wait_for(lambda: recorder.signals("InterfacesRemoved"), "the signal")[0][0].endswith("/overlay/other")
    wait_for(lambda: {"READY", "RELOADING", "STATUS"} <= set(fake.daemon.notified), "the notifications")
    # What was there was left alone, and a file that has become unusable leaves its overlay as it was.
    fake.daemon.add_overlay("soft", "relative")
    manager.Reload()
    assert fake.daemon.overlay_states() == {"soft": "active"} and fake.overlay_properties()["MountPoint"] == fake.overlay.point
    assert [r["OVERLAY"] for r in fake.asked("survey")] == ["soft", "other"]


def test_ends_cleanly_with_jobs(fake):
    fake.play({"finalize": [["wait-cancel", {}]], "inspect": [["hang", {}]]})
    fake.finalize()
    pid = wait_for(lambda: fake.asked("finalize"), "the worker")[0]["PID"]
    start = time.monotonic()
    assert fake.daemon.stop() == 0
    assert time.monotonic() - start < 5 and not alive(pid)
    wait_for(lambda: fake.daemon.notified.get("STOPPING") == "1", "the notification")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_interrupted_jobs_go_on(fake, end):
    fake.play({"finalize": [["wait-cancel", {}]]})
    done = fake.finalize("other", **{"dry-run": True})
    running, queued, special = fake.finalize(), fake.finalize("a/b c"), fake.finalize("special", force=True)
    wait_for(lambda: fake.daemon.job(running)["State"] == "running", "the worker")
    fake.daemon.manager().CancelJob(dbus.UInt32(1))
    fake.daemon.wait_job(done)
    getattr(fake.daemon, end)()
    fake.play({})
    fake.start()
    jobs = dict(fake.daemon.manager().ListJobs())
    assert sorted(jobs) == [2, 3, 4]
    for path in (running, queued):
        assert fake.daemon.wait_job(path)["State"] == "done"
    assert fake.daemon.job(queued)["Path"] == fake.overlay / "a/b c"
    # What it was asked for beside its path is not remembered.
    job = fake.daemon.job(special)
    assert job["State"] == "failed" and "interrupted" in job["ErrorMessage"]
    last = fake.finalize()
    assert last.endswith("/5") and fake.daemon.wait_job(last)["State"] == "done"
    fake.daemon.stop()
    fake.start()
    assert not fake.daemon.manager().ListJobs()


def test_a_job_that_takes_the_daemon_along(fake):
    """It is not begun for ever."""
    fake.play({"finalize": [["wait-cancel", {}]]})
    path = fake.finalize()
    for n in range(3):
        wait_for(lambda n=n: len(fake.asked("finalize")) == n + 1, "the worker")
        fake.daemon.kill()
        fake.start()
    job = fake.daemon.job(path)
    assert job["State"] == "failed" and "interrupted" in job["ErrorMessage"]


def test_ends_when_a_worker_does_not(fake):
    fake.play({"finalize": [["hang", {}]]})
    fake.finalize()
    pid = wait_for(lambda: fake.asked("finalize"), "the worker")[0]["PID"]
    assert fake.daemon.stop(timeout=20) == 0
    assert not alive(pid)


def test_a_service_manager_that_does_not_read(scene):
    """More changes of the status than its socket takes, and nobody waits for it."""
    fake = Fake(scene, start=False)
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    silent.bind(fake.file("silent"))
    fake.start()
    fake.daemon.stop()
    fake.env["NOTIFY_SOCKET"] = fake.file("silent")
    fake.daemon._wait_ready = lambda: wait_for(lambda: NAME in fake.daemon.connection().list_names(), "the name")
    fake.start()
    for i in range(30):
        assert fake.daemon.wait_job(fake.finalize(f"d{i}"))["State"] == "done"
    fake.daemon.manager().Reload()
    silent.settimeout(2)
    received = []
    while not any("RELOADING" in r for r in received):
        received.append(silent.recv(4096).decode())
    assert received[0] == "READY=1" and silent.recv(4096).startswith(b"READY=1")
    assert fake.daemon.stop() == 0
    silent.close()


def test_ends_when_the_bus_does(fake):
    fake.scene.bus.process.terminate()
    assert fake.daemon.process.wait(100) != 0
    assert "connection to the bus is lost" in fake.daemon.log()


def test_one_of_a_kind(fake):
    second = fake.scene.daemon(start=False)
    with pytest.raises(RuntimeError, match="is ovlfind running already"):
        second.start(env=fake.env)


def test_status(fake):
    fake.play({"finalize": [directory("a", "finalized"), directory("b", "finalized"), ["wait-cancel", {}]]})
    fake.finalize()
    wait_for(lambda: fake.daemon.notified.get("STATUS") == "1 overlay, 2 directories finalized, 1 job running", "the status")


def test_arguments():
    def run(*args):
        return subprocess.run([binary("ovlfind"), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False, timeout=100)
    assert run("--help").returncode == 0 and max(map(len, run("--help").stdout.splitlines())) <= 80
    assert run("--version").stdout.startswith("ovlfind ")
    for args in (["--log-level=loud"], ["--log-target=paper"], ["--odd"], ["argument"]):
        p = run(*args)
        assert p.returncode == 2 and p.stdout == "" and len(p.stderr.splitlines()) <= 2
