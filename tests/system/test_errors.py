# SPDX-License-Identifier: LGPL-2.1-or-later
"""What cannot be done ends in a clear error, by exit status and by D-Bus error name, and changes nothing."""

import os
import shutil

import dbus
import pytest

from ovltest import assert_same, run, run_ctl, snapshot
from ovltest.ctl import EXIT_DENIED, EXIT_FAILURE, EXIT_NO_DAEMON, EXIT_OK, EXIT_UNKNOWN, EXIT_USAGE
from ovltest.daemon import ERROR, wait_for
from ovltest.env import binary
from ovltest.tree import hard_links, release
from ovltest.wire import ask

D = "software/prog"


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, D))
    release(os.path.join(top, "software/other"))
    return top


def bus_error(daemon, path, **options):
    """The D-Bus error name and message Finalize ends with, at once or as the job's."""
    try:
        job = daemon.wait_job(daemon.finalize(path, **options))
    except dbus.DBusException as e:
        return e.get_dbus_name(), e.get_dbus_message()
    assert job["State"] == "failed", job["State"]
    return str(job["ErrorName"]), str(job["ErrorMessage"])


# Preconditions. Each: options of the overlay that lack one; what `check` calls it is ovlfind's own choice, so the finding
# has to name the option instead.
LACKING = {
    "metacopy": {"metacopy": "off"},
    "redirect_dir": {"metacopy": "off", "redirect_dir": "nofollow"},
    "userxattr": {"metacopy": None, "redirect_dir": None, "userxattr": True},
    "nfs_export": {"metacopy": "off", "redirect_dir": "on", "index": "on", "nfs_export": "on"},
}


@pytest.fixture(params=[*LACKING, "upperdir", "read-only"])
def refused(request, scene, source):
    """An overlay that lacks something, the word its check has to contain, and the one of its refusal, which names the first only."""
    # nfs_export is dropped silently on a lower without file handles: that one goes on the source itself.
    lower = source if request.param == "nfs_export" else scene.lower(source)
    if request.param == "upperdir":
        overlay = scene.overlay(lower, scene.source(), upper=None, metacopy=None, redirect_dir=None, index=None)
        return overlay, "upper", "upper"
    if request.param == "read-only":
        overlay = scene.overlay(lower)
        run("mount", "--options-mode=ignore", "-o", "remount,ro", overlay.point)
        return overlay, "read-only", "read-only"
    lacking = LACKING[request.param]
    return scene.overlay(lower, **lacking), request.param, "metacopy is off" if lacking["metacopy"] else request.param


def test_what_is_advised_for_a_read_only_overlay(scene, source):
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=overlay)
    run("mount", "--options-mode=ignore", "-o", "remount,ro", overlay.point)
    wait_for(lambda: daemon.overlay_states()["soft"] == "refused", "the overlay to be refused")
    row = next(r for r in run_ctl("check", overlay.point, "--json=short").json["checks"] if r["id"] == "read-write")
    run("sh", "-c", row["advice"])
    wait_for(lambda: daemon.overlay_states()["soft"] == "active", "the overlay to be active")


def test_precondition(scene, refused):
    overlay, word, first = refused
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay.point)
    assert daemon.overlay_states()["soft"] == "refused"

    result = daemon.ctl("finalize", overlay / D)
    assert result.code == EXIT_FAILURE
    assert first in result.err and overlay.point in result.err
    name, message = bus_error(daemon, overlay / D)
    assert name == ERROR + "Precondition" and message

    for check in (daemon.ctl, run_ctl):  # with a daemon, and without one
        result = check("check", overlay.point)
        assert result.code == EXIT_FAILURE
        failed = [line for line in result.out.splitlines() if "fail" in line]
        assert any(word in line for line in failed), result.out
        checks = check("check", "--json=short", overlay.point).json["checks"]
        failed = [c for c in checks if c["level"] == "fail"]
        assert any(word in c["text"] + c["advice"] for c in failed) and all(c["advice"] for c in failed)

    assert_same(before, snapshot(overlay.point))


def test_check_on_a_good_overlay(daemon, overlay):
    for check in (daemon.ctl, run_ctl):
        result = check("check", overlay.point).ok()
        assert "fail" not in result.out
        checks = check("check", "--json=short", overlay.point).ok().json["checks"]
        assert len(checks) >= 8 and all(c["level"] in ("ok", "warning") for c in checks)
        assert len({c["id"] for c in checks}) == len(checks)
    assert daemon.ctl("check", "soft").code == EXIT_OK


def test_check_on_something_else(daemon, scene):
    result = daemon.ctl("check", scene.dir)
    assert result.code == EXIT_UNKNOWN and "is no overlay" in result.err


def test_check_leaves_nothing_behind(daemon, overlay):
    before = snapshot(overlay.upper.point)
    daemon.ctl("check", overlay.point).ok()
    run_ctl("check", overlay.point).ok()
    assert_same(before, snapshot(overlay.upper.point), ignore={"mtime"})


# Paths

def test_unmanaged_path(daemon, scene):
    for verb in ("finalize", "unfinalize", "is-finalized", "status"):
        result = daemon.ctl(verb, scene.dir)
        assert result.code == EXIT_UNKNOWN, verb
        assert scene.dir in result.err
    assert bus_error(daemon, scene.dir)[0] == ERROR + "NotManaged"


def test_prefix_is_not_below(daemon, overlay):
    """/mnt/a does not manage /mnt/ab."""
    os.mkdir(overlay.point + "b")
    assert daemon.ctl("finalize", overlay.point + "b").code == EXIT_UNKNOWN


def test_overlay_that_is_not_mounted(daemon, overlay):
    overlay.umount()
    wait_for(lambda: daemon.overlay_states()["soft"] == "absent", "the overlay to go")
    assert daemon.ctl("finalize", overlay.point).code == EXIT_UNKNOWN
    assert bus_error(daemon, overlay / D)[0] == ERROR + "NotManaged"
    overlay.mount()
    wait_for(lambda: daemon.overlay_states()["soft"] == "active", "the overlay to come back")
    daemon.ctl("finalize", overlay / D).ok()


def test_path_that_does_not_exist(daemon, overlay):
    result = daemon.ctl("finalize", overlay / "software/nothing")
    assert result.code == EXIT_FAILURE  # the overlay is known, and it is not there
    assert "software/nothing" in result.err
    name, message = bus_error(daemon, overlay / "software/nothing")
    assert name == ERROR + "Invalid" and "software/nothing" in message


def test_path_that_is_no_directory(daemon, overlay):
    result = daemon.ctl("finalize", overlay / f"{D}/bin/prog")
    assert result.code == EXIT_FAILURE
    assert "bin/prog" in result.err


@pytest.mark.parametrize("call", ["mkdirat", "linkat", "renameat2"])
def test_path_that_vanishes(scene, lower, overlay, call):
    """While it is listed, built, and just before it is exchanged."""
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.arm(1 if call != "renameat2" else 0, call=call, hold=True)
    job = daemon.finalize(overlay / D)
    assert daemon.held(job)
    shutil.rmtree(overlay / D)
    daemon.release(everything=True)
    properties = daemon.wait_job(job)
    assert properties["State"] == "failed"
    assert properties["ErrorName"] and D in properties["ErrorMessage"]
    assert not os.path.lexists(overlay / D)
    assert_same(snapshot(os.path.join(lower.source, "software/other")), snapshot(overlay / "software/other"))
    wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "staging to be cleaned up")


def test_overlay_root(daemon, overlay):
    result = daemon.ctl("finalize", overlay.point)
    assert result.code == EXIT_FAILURE
    assert overlay.point in result.err


def test_mount_below(daemon, overlay):
    run("mount", "-t", "tmpfs", "inner", overlay / f"{D}/share")
    try:
        result = daemon.ctl("finalize", overlay / D)
        states = {e["path"]: e for e in daemon.ctl("directories", "--json=short").ok().json["directories"]}
        assert states[overlay / D]["state"] == "excluded", result
        assert "mount" in states[overlay / D]["reason"]
        assert os.path.ismount(overlay / f"{D}/share")
        assert daemon.ctl("is-finalized", overlay / D).code == 1
    finally:
        run("umount", overlay / f"{D}/share")
    daemon.ctl("finalize", overlay / D).ok()
    assert daemon.ctl("is-finalized", overlay / D).code == 0


def test_hard_links_are_skipped(scene, source):
    hard_links(os.path.join(source, D, "lib"))
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D)
    states = {e["path"]: e for e in daemon.ctl("directories", "--json=short").ok().json["directories"]}
    assert states[overlay / f"{D}/lib"]["state"] == "excluded"
    assert "hard link" in states[overlay / f"{D}/lib"]["reason"]
    assert_same(before, snapshot(overlay / D))
    assert os.path.samefile(overlay / f"{D}/lib/hard-a", overlay / f"{D}/lib/hard-b")


def test_hard_links_can_be_broken(scene, source):
    hard_links(os.path.join(source, D, "lib"))
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"HardLinks": "break"}}))
    daemon.ctl("finalize", overlay / D).ok()
    assert scene.absent_lookups(lower, overlay / f"{D}/lib", 10).enoent == 0


# The upper

def test_read_only_upper(daemon, overlay):
    before = snapshot(overlay / D)
    run("mount", "-o", "remount,ro", overlay.upper.point)
    try:
        result = daemon.ctl("finalize", overlay / D)
        assert result.code == EXIT_FAILURE
        assert "read-only" in result.err.lower()
        assert bus_error(daemon, overlay / D)[0] == ERROR + "Precondition"
        assert_same(before, snapshot(overlay / D))
    finally:
        run("mount", "-o", "remount,rw", overlay.upper.point)
    daemon.ctl("finalize", overlay / D).ok()


@pytest.mark.parametrize("kind", ["ext4-256", "xfs", "tmpfs"])
def test_full_upper(scene, lower, kind):
    overlay = scene.overlay(lower, upper=kind)
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"MinFreeSpace": "0", "MinFreeInodes": "0"}}))
    before = snapshot(overlay / D)
    filler = overlay.upper.fill()
    result = daemon.ctl("finalize", overlay / D)
    assert result.code == EXIT_FAILURE
    assert "space" in result.err and overlay / D in result.err
    assert bus_error(daemon, overlay / D)[0] == ERROR + "NoSpace"
    assert_same(before, snapshot(overlay / D))
    assert daemon.ctl("is-finalized", overlay / D).code == 1
    assert not os.path.lexists(overlay / ".ovlfind")
    shutil.rmtree(filler)
    daemon.ctl("finalize", overlay / D).ok()
    assert scene.absent_lookups(lower, overlay / D, 10).enoent == 0


# Jobs

def test_nested_jobs_run_one_after_the_other(daemon, overlay, lower, scene):
    lower.delay(5_000)
    outer = daemon.finalize(overlay / D)
    wait_for(lambda: daemon.job(outer)["State"] in ("running", "applying"), "the first job to run")
    inner = daemon.finalize(overlay / f"{D}/lib")
    same = daemon.finalize(overlay / D)
    assert daemon.job(inner)["State"] == "queued"
    assert daemon.job(same)["State"] == "queued"
    ends = [daemon.wait_job(job) for job in (outer, inner, same)]
    assert [e["State"] for e in ends] == ["done"] * 3
    for earlier, later in zip(ends, ends[1:]):
        assert earlier["FinishedUSec"] <= later["StartedUSec"] or earlier["Path"] != later["Path"]
    assert ends[0]["FinishedUSec"] <= ends[1]["StartedUSec"]
    lower.delay(0)
    assert scene.absent_lookups(lower, [overlay / D, overlay / f"{D}/lib"], 10).enoent == 0


def test_jobs_apart_run_at_the_same_time(daemon, overlay, lower):
    lower.delay(10_000)
    first = daemon.finalize(overlay / D)
    second = daemon.finalize(overlay / "software/other")
    wait_for(lambda: all(daemon.job(j)["State"] not in ("queued", "done") for j in (first, second)), "both to run")
    assert daemon.wait_job(first)["State"] == daemon.wait_job(second)["State"] == "done"


def test_what_it_is_at(scene, overlay):
    """A worker says what it begins, for whoever asks why it takes long."""
    answer, status = ask(binary("ovlfind-worker"), VERB="finalize", PATH=D, OVERLAY="soft", MOUNT_POINT=overlay.point,
                         STATE_DIR=scene.subdir("state"), QUIET_USEC=0, WORKERS=2, DATA_BYTES=1 << 20)
    assert status == 0
    said = [r["text"] for r in answer if r["kind"] == "progress"]
    order = [next(i for i, text in enumerate(said) if word in text)
             for word in ("lists directories", "copies metadata", "looks at the new tree", "/proc", "exchanges", "content of files")]
    assert order == sorted(order)


def test_what_a_refresh_is_at(scene, lower, overlay):
    """It names a file whose content takes long to copy, and how much that is."""
    asked = {"PATH": D, "OVERLAY": "soft", "MOUNT_POINT": overlay.point, "STATE_DIR": scene.subdir("state")}
    assert ask(binary("ovlfind-worker"), VERB="finalize", QUIET_USEC=0, WORKERS=2, **asked)[1] == 0
    name = f"{D}/share/doc/README"
    with open(overlay / name, "rb"):
        with open(os.path.join(lower.source, name), "r+b") as f:
            f.write(b"x" * (17 << 20))
        lower.invalidate()
        answer, status = ask(binary("ovlfind-worker"), VERB="refresh", WORKERS=2, **asked)
    assert status == 0
    said = [r["text"] for r in answer if r["kind"] == "progress"]
    at = next(i for i, text in enumerate(said) if f"copies the content of '{overlay / name}', 17 MiB" in text)
    assert any("copies the content" not in text for text in said[at:])
    assert os.path.getsize(overlay.upper_path(name)) == 17 << 20


def test_cancel(daemon, overlay, lower):
    before = snapshot(overlay / D)
    lower.delay(50_000)
    job = daemon.finalize(overlay / D)
    wait_for(lambda: daemon.job(job)["State"] == "running", "the job to run")
    daemon.ctl("cancel", str(job).rpartition("/")[2]).ok()
    properties = daemon.wait_job(job)
    lower.delay(0)
    assert properties["State"] == "canceled"
    assert properties["ErrorName"] == ERROR + "Canceled"
    assert_same(before, snapshot(overlay / D))
    wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "staging to be cleaned up")


def test_no_such_job(daemon):
    assert daemon.ctl("cancel", "4711").code == EXIT_FAILURE  # 4 is for paths and overlays
    with pytest.raises(dbus.DBusException) as e:
        daemon.manager().CancelJob(dbus.UInt32(4711))
    assert e.value.get_dbus_name() == ERROR + "NoSuchJob"


def test_no_such_overlay(daemon):
    assert daemon.ctl("status", "nonesuch").code == EXIT_UNKNOWN
    with pytest.raises(dbus.DBusException) as e:
        daemon.manager().Pause("nonesuch")
    assert e.value.get_dbus_name() == ERROR + "NoSuchOverlay"


def test_lower_that_hangs(daemon, overlay, lower, scene):
    """The daemon answers while a worker hangs in the kernel, and goes on when the lower comes back."""
    lower.hang()
    job = daemon.finalize(overlay / D)
    wait_for(lower.is_held, "the worker to hang")
    with pytest.raises(dbus.DBusException) as e:
        daemon.manager().GetDirectory(overlay / "software/other")
    assert e.value.get_dbus_name() == ERROR + "LowerUnreachable"
    daemon.ctl("list").ok()
    daemon.ctl("jobs").ok()
    assert lower.is_held() and daemon.job(job)["State"] == "running"
    lower.recover()
    assert daemon.wait_job(job)["State"] == "done"
    assert scene.absent_lookups(lower, overlay / D, 10).enoent == 0


def test_lower_that_fails(daemon, overlay, lower):
    before = snapshot(overlay / D)
    lower.fail("EIO", f"{D}/lib")
    result = daemon.ctl("finalize", overlay / D)
    lower.recover()
    assert result.code == EXIT_FAILURE and result.err
    assert_same(before, snapshot(overlay / D))
    daemon.ctl("finalize", overlay / D).ok()


# Those who ask

def test_invalid_options(daemon, overlay):
    name, message = bus_error(daemon, overlay / D, bogus=True)
    assert name == ERROR + "Invalid" and "bogus" in message
    for options in ({"method": "nonesuch"}, {"depth": "0"}, {"parents": 1, "method": "exchange"}, {"dry-run": "yes"}):
        assert bus_error(daemon, overlay / D, **options)[0] == ERROR + "Invalid", options
    with pytest.raises(dbus.DBusException) as e:
        daemon.finalize("relative/path")
    assert e.value.get_dbus_name() == ERROR + "Invalid"


def test_usage(daemon):
    for args in (["nonesuch-verb"], ["finalize"], ["--nonesuch"], ["list", "--json=nonesuch"], ["cancel", "x"]):
        result = daemon.ctl(*args)
        assert result.code == EXIT_USAGE, args
        assert result.out == "" and len(result.err.splitlines()) <= 2


def test_no_daemon(scene, overlay):
    for args in (["list"], ["finalize", overlay / D], ["jobs"]):
        result = run_ctl(*args, address=scene.bus.address)
        assert result.code == EXIT_NO_DAEMON, args
        assert result.err


def test_others_may_look_but_not_change(daemon, overlay):
    assert daemon.ctl("list", uid=65534).code == EXIT_OK
    assert daemon.ctl("is-finalized", overlay / D, uid=65534).code == 1
    for args in (["finalize", overlay / D], ["unfinalize", overlay / D], ["cancel", "1"]):
        result = daemon.ctl(*args, uid=65534)
        assert result.code == EXIT_DENIED, args
        assert result.out == "" and result.err


def test_json_on_the_error_path(daemon, scene):
    """Standard output is JSON or empty."""
    for verb in ("finalize", "status", "is-finalized"):
        result = daemon.ctl(verb, "--json=short", scene.dir)
        assert result.code == EXIT_UNKNOWN
        assert result.out == "" or result.json
