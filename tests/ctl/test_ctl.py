# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ovlfinctl prints, where, and how it exits."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import unicodedata

import prometheus_client.openmetrics.parser as openmetrics
import prometheus_client.parser as prometheus
import pytest
from ovltest.env import binary
from ovltest.terminal import run_on_terminal

OK, FAILURE, USAGE, UNREACHABLE, NOT_MANAGED, NOT_PERMITTED = range(6)


def lines(text):
    return text.splitlines()


# Exit codes and errors


@pytest.mark.parametrize("args", [["frobnicate"], ["pause", ""], ["--frobnicate"], ["finalize"], ["list", "x"], ["list", "--force"],
                                  ["--json"], ["--json=yaml", "list"], ["finalize", "--method=magic", "/"],
                                  ["finalize", "--depth=-1", "/"], ["finalize", "--data=1X", "/"], ["cancel", "x"],
                                  ["directories", "--state=nice"], ["jobs", "--state=finalized"], ["status", ""]])
def test_usage(bus, args):
    r = bus(*args)
    assert (r.code, r.out, len(lines(r.err))) == (USAGE, "", 1)
    assert r.err.startswith("ovlfinctl: ")


@pytest.mark.parametrize("args", [[], ["list"], ["finalize", "/"], ["is-finalized", "/"], ["jobs"], ["cancel", "1"], ["pause"],
                                  ["monitor"], ["reload"], ["log-level"], ["check"], ["check", "soft"], ["directories"],
                                  ["blockers"], ["blockers", "soft"],
                                  ["status", "soft"], ["status", "/"]])
@pytest.mark.parametrize("where", ["no bus", "no daemon"])
def test_unreachable(bus, args, where):
    r = bus("--json=short", *args, *(["--address=unix:path=/nonexistent/bus"] if where == "no bus" else []))
    assert (r.code, r.out, len(lines(r.err))) == (UNREACHABLE, "", 1), r.err


@pytest.mark.parametrize("name, code", [("denied", NOT_PERMITTED), ("fail-NotManaged", NOT_MANAGED),
                                        ("fail-NoSpace", FAILURE), ("fail-AccessDenied", NOT_PERMITTED), ("..", NOT_MANAGED)])
@pytest.mark.parametrize("verb", ["finalize", "unfinalize"])
def test_job_failure(ctl, verb, name, code):
    path = ctl.point / name
    r = ctl(verb, path)
    assert (r.code, r.out) == (code, "")
    assert len(lines(r.err)) == 1 and r.err.startswith(f"ovlfinctl: cannot {verb} '{path}': ")


def test_not_there(ctl):
    r = ctl("finalize", "quick", "nothing", cwd=ctl.point)
    assert (r.code, r.out, r.err) == (FAILURE, "", "ovlfinctl: cannot finalize 'nothing': No such file or directory\n")
    assert json.loads(ctl("jobs", "--json=short").out) == {"jobs": []}, "nothing was started"


def test_not_utf8(ctl):
    """Any name can be asked for, and comes back in one spelling: two names are never written alike."""
    for name, spelled in ((b"b\xffd", "b\\xffd"), (b"b\\xffd", "b\\x5cxffd")):
        path = os.fsencode(ctl.point) + b"/" + name
        os.mkdir(path)
        r = ctl("finalize", "--json=short", os.fsdecode(path))
        assert [j["path"] for j in json.loads(r.out)["jobs"]] == [f"{ctl.point}/{spelled}"]
        assert ctl("finalize", os.fsdecode(path)).out.startswith(f"{ctl.point}/{spelled} finalized: ")


@pytest.mark.parametrize("option", ["--method=mark", "--depth=0", "--parents", "--data", "--data=64K"])
def test_option_the_daemon_lacks(ctl, option):
    r = ctl("finalize", option, ctl.point / "quick")
    assert (r.code, r.out) == (FAILURE, "")
    assert "not available yet" in r.err


# finalize and its kin


@pytest.mark.parametrize("name", ["quick", "slow"])
def test_finalize(ctl, name):
    r = ctl("finalize", name, cwd=ctl.point)
    assert (r.code, r.out) == (OK, f"{ctl.point}/{name} finalized: 61 entries in 2 directories, 0.31 s\n")
    percents = [int(line.split("%")[0]) for line in lines(r.err)]
    assert percents == sorted(set(percents)) and all(0 < p < 100 for p in percents)
    assert name == "quick" or percents


def test_left_out(ctl):
    r = ctl("finalize", "parts", cwd=ctl.point)
    assert (r.code, r.out) == (OK, f"{ctl.point}/parts finalized: 61 entries in 2 directories, 1 excluded, 0.31 s\n")
    assert r.err.endswith(f"ovlfinctl: note: '{ctl.point}/parts/links' is excluded: it holds hard links\n")


def test_several(ctl):
    r = ctl("unfinalize", "-q", ctl.point / "slow", ctl.point / "fail-NotManaged", ctl.point / "quick")
    assert (r.code, r.out, len(lines(r.err))) == (NOT_MANAGED, "", 1)
    r = ctl("unfinalize", "--reset", "--force", ctl.point / "quick")
    assert r.code == FAILURE, "on a mounted overlay"


def test_finalize_through_symlink(ctl):
    (ctl.point.parent / "link").symlink_to(ctl.point)
    assert ctl("finalize", "link/quick", cwd=ctl.point.parent).out.startswith(f"{ctl.point}/quick finalized")


def test_finalize_json(ctl):
    r = ctl("finalize", "--json=short", ctl.point / "slow", ctl.point / "fail-NoSpace")
    jobs = json.loads(r.out)["jobs"]
    assert r.code == FAILURE and r.out.count("\n") == 1
    assert {"id", "type", "overlay", "path", "state", "entries_done", "entries_total", "bytes_copied", "errors"} <= set(jobs[0])
    assert [j["state"] for j in jobs] == ["done", "failed"]
    assert "error_name" not in jobs[0] and jobs[1]["error_name"] == "org.ovlfind1.Error.NoSpace"
    assert isinstance(jobs[0]["started_usec"], int)


def test_no_block(ctl):
    r = ctl("finalize", "--no-block", ctl.point / "hang", ctl.point / "slow")
    assert (r.code, r.out, r.err) == (OK, "1\n2\n", "")
    r = ctl("finalize", "--no-block", "--json=short", ctl.point / "slow")
    assert [j["id"] for j in json.loads(r.out)["jobs"]] == [3]
    assert ctl("cancel", "1").code == OK
    assert ctl("cancel", "77").code == FAILURE
    states = {j["id"]: j["state"] for j in json.loads(ctl("jobs", "--json=short").out)["jobs"]}
    assert states[1] == "canceled"
    assert "hang" in ctl("jobs", "--state=canceled").out and "slow" not in ctl("jobs", "--state=canceled").out


def test_dry_run(ctl):
    r = ctl("finalize", "--dry-run", ctl.point / "slow")
    assert r.code == OK and lines(r.out)[0] == f"{ctl.point}/slow: this would be done"
    assert lines(r.out)[1].split() == ["STEP", "ENTRIES", "INODES", "SPACE", "WHAT"]
    assert lines(r.out)[2].split()[:4] == ["build", "61", "60", "4.0K"]
    plan = json.loads(ctl("finalize", "--dry-run", "--json=pretty", ctl.point / "slow").out)["jobs"][0]["plan"]
    assert plan == [{"name": "build", "path": str(ctl.point / "slow"), "text": "build the new tree through the merged path", "entries": 61,
                     "inodes": 60, "bytes": 4096}]


def test_waits_for_a_lower_layer(ctl):
    """Why is said once, however often it is tried, and stands where jobs are shown."""
    path = ctl.point / "away"
    r = ctl("finalize", path)
    assert r.code == OK and r.err.count(f"'{path}' waits, to be tried again: the lower layer is away") == 1
    assert "waits" not in ctl("finalize", "--quiet", path).err
    ctl("finalize", "--no-block", ctl.point / "away-for-long")
    while "waiting" not in ctl("jobs").out:
        pass
    assert "the lower layer is away" in ctl("jobs", "--state=waiting").out
    assert "entries; the lower layer is away" in ctl("status", "soft").out


def test_daemon_dies(ctl):
    r = ctl("finalize", ctl.point / "crash", "--json=short")
    assert r.code == FAILURE and lines(r.err)[-1].startswith("ovlfinctl: lost the connection")
    assert json.loads(r.out)["jobs"][0]["state"] == "running"


def test_bus_dies(ctl):
    p = subprocess.Popen([binary("ovlfinctl"), "finalize", ctl.point / "hang"], env=ctl.env, stderr=subprocess.PIPE, text=True)
    wait_for_job(ctl, "running")
    ctl.bus.process.terminate()
    _, err = p.communicate(timeout=20)
    assert p.returncode == FAILURE and "lost the connection" in err


def wait_for_job(ctl, state):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        jobs = json.loads(ctl("jobs", "--json=short").out)["jobs"]
        if jobs and jobs[-1]["state"] == state:
            return jobs[-1]
        time.sleep(0.02)
    raise TimeoutError(state)


def test_interrupt_cancels(ctl):
    p = subprocess.Popen([binary("ovlfinctl"), "finalize", ctl.point / "hang"], env=ctl.env, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    wait_for_job(ctl, "running")
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=20)
    assert (p.returncode, out) == (FAILURE, "")
    assert "canceling" in err and lines(err)[-1].endswith("canceled by you")


def test_second_interrupt_detaches(ctl):
    p = subprocess.Popen([binary("ovlfinctl"), "finalize", ctl.point / "hang/stubborn"], env=ctl.env,
                         stderr=subprocess.PIPE, text=True)
    wait_for_job(ctl, "running")
    p.send_signal(signal.SIGINT)
    assert any("canceling" in line for line in p.stderr)  # after what there is of progress
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=20)
    assert p.returncode == FAILURE and "left the jobs to themselves" in err


# What is listed


def test_list(ctl):
    r = ctl("list")
    assert r.code == OK and lines(r.out)[0].split() == ["NAME", "MOUNTPOINT", "STATE", "SCHEME", "FINALIZED", "REASON"]
    assert [line.split()[0] for line in lines(r.out)[1:]] == ["away", "soft"]
    assert len(lines(ctl("list", "--no-legend").out)) == 2
    assert "\033" not in r.out
    overlay = json.loads(ctl("list", "--json=pretty").out)["overlays"][1]
    assert overlay["mount_point"] == str(ctl.point) and overlay["directories"] == {"finalized": 40, "pending": 2}
    assert overlay["lower_dirs"] == ["/srv/one", "/srv/two\nlines"] and overlay["paused"] is False


def test_directories(ctl):
    found = json.loads(ctl("directories", "--json=short").out)["directories"]
    assert [os.path.basename(d["path"]) for d in found] == ["links", "pending", "quick"], "merged ones are left out"
    assert {"overlay", "path", "state", "reason", "scheme", "lower_path", "entries", "merge_children",
            "finalized_usec"} <= set(found[2])
    assert "finalized_usec" not in found[1] and "job" not in found[2]
    for option in ("--state=merged", "--state=merged,broken"):
        found = json.loads(ctl("directories", "soft", option, "--json=short").out)["directories"]
        assert [d["state"] for d in found] == ["merged"]
    found = json.loads(ctl("directories", ctl.point / "quick", "--json=short").out)["directories"]
    assert len(found) == 1
    assert "2023-11-14 22:13:20" in ctl("directories").out
    assert ctl("directories", "nope").code == NOT_MANAGED
    assert ctl("directories", "/").code == NOT_MANAGED
    assert ctl("directories", "--state=gone").out == "No directories.\n"
    assert ctl("directories", "--state=gone", "--no-legend").out == ""
    assert ctl("directories", "--state=gone", "--json=short").out == '{"directories":[]}\n'


def test_is_finalized(ctl):
    assert [ctl("is-finalized", ctl.point / n).code for n in ("quick", "pending", "..")] == [OK, FAILURE, NOT_MANAGED]
    assert ctl("is-finalized", ctl.point / "pending").out == "pending\n"
    assert json.loads(ctl("is-finalized", "--json=short", ctl.point / "pending").out)["directories"][0]["state"] == "pending"


def test_status(ctl):
    assert ctl("finalize", "--no-block", ctl.point / "hang").code == OK
    r = ctl()
    assert r.code == OK and lines(r.out)[0] == "● ovlfind 9.8.7 - finalizes directories of live overlays"
    assert re.search(r"soft +\S+ +active +40 finalized, 2 pending +1 job$", r.out, re.M)
    r = ctl("status", "soft")
    assert r.code == OK and lines(r.out)[0] == f"● soft - overlay on {ctl.point}"
    assert " Options: metacopy=on,redirect_dir=on\n" in r.out
    assert "/srv/two\\x0alines" in r.out and "Jobs: 1: finalize" in r.out
    assert "     Sources: opens\n              misses partly: some\\x0a\n" in r.out
    assert "      Misses: 1.5/s ask a lower layer, 90 % do not (900 since the start, 1800 a day)\n" in r.out
    r = ctl("status", ctl.point / "quick", "away")
    assert r.code == OK and "State: finalized since 2023-11-14 22:13:20;" in r.out and "is not mounted" in r.out
    r = ctl("status", ctl.point / "parts/links")
    assert " Reason: it holds hard links\n        Docs: file:///usr/share/doc/ovlfind/docs/reasons.md#excluded\n" in r.out
    assert "Docs:" not in ctl("status", "soft", ctl.point / "quick").out
    assert set(json.loads(ctl("status", "soft", "./slow", "--json=short", cwd=ctl.point).out)) == {"overlays", "directories"}
    assert set(json.loads(ctl("status", ".", "--json=short", cwd=ctl.point).out)) == {"directories"}
    r = ctl("status", "nope", "soft")
    assert r.code == NOT_MANAGED and "soft - overlay" in r.out
    assert ctl("status", "soft", env={"LC_ALL": "C"}).out.startswith("* soft")


def test_check(ctl):
    r = ctl("check", "soft")
    assert (r.code, r.out) == (OK, "ok       type      an overlay\n"
                                   "warning  metacopy  metacopy is off\n"
                                   "                   -> mount with metacopy=on\n"
                                   "                   -> see file:///usr/share/doc/ovlfind/docs/checks.md#metacopy\n")
    assert ctl("check", "away").code == FAILURE
    assert ctl("check", "broken").code == NOT_MANAGED
    r = ctl("check", "--json=short")
    checks = json.loads(r.out)["checks"]
    assert r.code == FAILURE and [(c["overlay"], c["level"]) for c in checks] == [
        ("soft", "ok"), ("soft", "warning"), ("away", "ok"), ("away", "fail")]
    assert "advice" not in checks[0]


def test_blockers(ctl):
    r = ctl("blockers", "soft")
    assert (r.code, [line.split(maxsplit=4) for line in lines(r.out)]) == (OK, [
        ["PID", "COMMAND", "KIND", "BLOCKS", "PATH"],
        ["mount", "yes", str(ctl.point), "(mounted", "at /else\\x0awhere)"],
        ["77", "evil\\x0a\\x1b[2J\\xe2\\x80\\xae", "watch", "yes"],
        ["1234", "bash", "cwd", "no", f"{ctl.point}/d\\x09x"]])
    assert len(lines(ctl("blockers", ctl.point, "--no-legend").out)) == 3
    r = ctl("blockers", "--json=short")
    blockers = json.loads(r.out)["blockers"]
    assert [b.get("pid") for b in blockers] == [None, 77, 1234], "the overlay that is not mounted is not asked about"
    assert blockers[0]["mount_point"] == "/else\nwhere" and "command" not in blockers[0] and "path" not in blockers[1]
    assert [b["blocks"] for b in blockers] == [True, True, False]
    assert ctl("blockers", "nope").code == NOT_MANAGED and ctl("blockers", "/").code == NOT_MANAGED


@pytest.mark.parametrize("where", ["no bus", "no daemon", "not managed"])
def test_check_alone(bus, where):
    if where == "not managed":
        bus.start()
    args = ["--address=unix:path=/nonexistent/bus"] if where == "no bus" else []
    r = bus("check", "/", *args)
    assert (r.code, r.err) == (FAILURE, "")
    assert lines(r.out)[0] == "ok       type      '/' is an overlay"
    checks = json.loads(bus("check", "/", "--json=short", *args).out)["checks"]
    assert [c["level"] for c in checks] == ["ok", "fail"] and checks[1]["advice"] and checks[0]["mount_point"] == "/"
    r = bus("check", "/proc", *args)
    assert (r.code, r.out, r.err) == (NOT_MANAGED, "", "ovlfinctl: cannot check '/proc': '/proc' is no overlay\n")
    r = bus("check", "/", *args, env={"OVLFIND_WORKER": "/nonexistent/worker"})
    assert r.code == FAILURE and "/nonexistent/worker" in r.err
    r = bus("check", "/", *args, env={"OVLFIND_WORKER": "/bin/true"})
    assert r.code == FAILURE and r.out == ""


def test_pause_and_friends(ctl):
    assert ctl("pause").code == OK
    assert "State: paused" in ctl().out
    assert ctl("resume").code == OK
    assert ctl("pause", ctl.point / "quick").code == OK
    assert json.loads(ctl("list", "--json=short").out)["overlays"][1]["paused"] is True
    assert "active (paused)" in ctl("list").out and "active (paused)" in ctl("status", "soft").out
    assert ctl("resume", "nope").code == NOT_MANAGED
    r = ctl("reload")
    assert (r.code, r.err) == (FAILURE, "ovlfinctl: cannot reload the configuration: line 3:\\x0ano such key\n")


def test_log_level(ctl):
    assert ctl("log-level").out == "info\n"
    assert ctl("log-level", "debug").code == OK
    assert ctl("log-level", "--json=short").out == '{"log_level":"debug"}\n'
    assert ctl("log-level", "loud").code == FAILURE


def test_version_and_help(ctl):
    assert re.fullmatch(r"ovlfinctl \S+\novlfind 9\.8\.7\n", ctl("version").out)
    assert re.fullmatch(r"ovlfinctl \S+\n", ctl("--version").out)
    assert ctl("help").out == ctl("-h").out == ctl("list", "--help").out


def test_full_disk(ctl):
    with open("/dev/full", "w", encoding="ascii") as full:
        p = subprocess.run([binary("ovlfinctl"), "list"], env=ctl.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert p.returncode == FAILURE and "No space left" in p.stderr


def test_reader_went_away(ctl):
    p = subprocess.run(["bash", "-c", 'set -o pipefail; "$0" help | true', binary("ovlfinctl")], env=ctl.env,
                       stderr=subprocess.PIPE, text=True, check=False)
    assert (p.returncode, p.stderr) == (OK, "")


# monitor


@pytest.mark.parametrize("mode", ["off", "short"])
def test_monitor(ctl, mode):
    p = subprocess.Popen([binary("ovlfinctl"), "monitor", f"--json={mode}"], env=ctl.env, stdout=subprocess.PIPE)
    try:
        got = ""
        # Of the first job that it shows it may have missed a part: the subscription was not complete.
        while got.count("JobNew") < 2 or "JobRemoved" not in got.rpartition("JobNew")[2] or not got.endswith("\n"):
            if select.select([p.stdout], [], [], 0.2)[0]:
                got += os.read(p.stdout.fileno(), 65536).decode()
            else:
                ctl("finalize", "-q", ctl.point / "quick")
    finally:
        p.terminate()
        p.wait()
    if mode == "short":
        signals = [json.loads(line) for line in lines(got)]
        removed = next(s for s in signals if s["signal"] == "JobRemoved")
        assert (removed["signal"], removed["result"]) == ("JobRemoved", "done") and isinstance(removed["id"], int)
        assert any(s["signal"] == "PropertiesChanged" and s["changed"].get("entries_done") == 61 for s in signals)
        assert any(s["signal"] == "DirectoryChanged" and s["path"] == f"{ctl.point}/quick" for s in signals)
    else:
        assert re.search(r"^\d{4}-\d\d-\d\d [\d:.]+ DirectoryChanged .*path=\S+/quick state=finalized$", got, re.M)


# On a terminal


def on_terminal(ctl, *args, env=None, feed=None):
    """Runs ovlfinctl on a terminal of 80 columns; returns exit code and all it showed."""
    return run_on_terminal(binary("ovlfinctl"), *args, env={**ctl.env, "COLUMNS": "80", **(env or {})}, feed=feed)


def test_terminal_progress(ctl):
    code, out = on_terminal(ctl, "finalize", ctl.point / "slow")
    assert code == OK
    assert re.search(r"\rfinalizing '.*': \d+/61 entries\x1b\[K", out)
    assert out.rstrip("\r\n").rsplit("\x1b[K", 1)[1].endswith("finalized: 61 entries in 2 directories, 0.31 s")


def test_terminal_interrupt(ctl):
    code, out = on_terminal(ctl, "finalize", ctl.point / "hang", feed=(b"1/61", b"\x03"))
    assert code == FAILURE and "canceled by you" in out


@pytest.mark.parametrize("env, colored", [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True),
                                          ({"TERM": "dumb"}, False)])
def test_color(ctl, env, colored):
    _, out = on_terminal(ctl, "list", "--no-pager", env=env)
    assert ("\x1b[" in out) is colored


@pytest.mark.parametrize("width", [72, 80, 120])
def test_width(ctl, width):
    for args in (["list"], [], ["jobs"], ["directories"], ["top", "-n1"]):
        _, out = on_terminal(ctl, *args, "--no-pager", env={"NO_COLOR": "1", "COLUMNS": str(width)})
        assert max(len(line.rstrip()) for line in lines(out)) <= width, out


def columns_of(line):
    """Cells of the terminal that it takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line.rstrip())


def test_many_overlays(bus):
    """With mount points that are longer than the screen, and in scripts of all widths: a line each, and their ends are told."""
    points = [f"/{'srv/clusters/' * (i % 9)}{name}{i}" for i, name in enumerate(["geo", "地図データ" * 9, "e\u0301" * 60, "ä"] * 5)]
    bus.start(*points)
    for args in ([], ["list"]):
        _, out = on_terminal(bus, *args, "--no-pager", env={"NO_COLOR": "1"})
        assert max(columns_of(line) for line in lines(out)) <= 80, out
        for i, point in enumerate(points):
            line, = re.findall(rf"^.*\bmore{i} .*$", out, re.M)
            assert point[-5:].lstrip("\u0301") in line, out


def test_narrow(ctl):
    """Reasons are told in full, and paths keep their ends."""
    _, out = on_terminal(ctl, "directories", "--no-pager", env={"NO_COLOR": "1", "COLUMNS": "72"})
    whole = json.loads(ctl("directories", "--json=short").out)["directories"]
    column = lines(out)[0].index("REASON")
    told = " ".join(" ".join(line[column:] for line in lines(out)[1:]).split())
    assert [d["reason"] for d in whole if d["reason"] and d["reason"] not in told] == []
    assert re.search(r"^(\.\.\.|…)\S*/pending ", out, re.M), out


def test_bars_of_heat(ctl):
    _, out = on_terminal(ctl, "top", "-n1", "--no-pager", env={"NO_COLOR": "1", "LC_ALL": "C.UTF-8"})
    assert re.search(r"^█{10} +90 .*/quick", out, re.M) and re.search(r"^░{10} +7 .*/other", out, re.M), out


def test_plan_wraps_at_words(ctl):
    _, out = on_terminal(ctl, "finalize", "--dry-run", ctl.point / "slow", env={"COLUMNS": "50"})
    assert re.search(r"^build +61 +60 +4.0K build the new tree *\r\n +through the merged path *\r$", out, re.M), out


def test_pager(ctl):
    env = {"SYSTEMD_PAGER": "sed s/^/PAGED:/", "SYSTEMD_PAGERSECURE": "0"}
    assert "PAGED:" in on_terminal(ctl, "list", env=env)[1]
    assert "PAGED:" not in on_terminal(ctl, "list", "--no-pager", env=env)[1]
    assert "PAGED:" not in on_terminal(ctl, "list", "--json=short", env=env)[1]
    assert "PAGED:" not in on_terminal(ctl, "list", env={"SYSTEMD_PAGER": "", "PAGER": "sed s/^/PAGED:/"})[1]
    assert "PAGED:" in on_terminal(ctl, "list", env={"PAGER": "sed s/^/PAGED:/", "SYSTEMD_PAGERSECURE": "0"})[1]


# top


def test_top(ctl):
    r = ctl("top", "-n1", "--batch")
    assert (r.code, r.err) == (OK, "")
    header, first, second = lines(r.out)
    assert header.split() == ["HEAT", "MISSES/S", "OPENS/S", "SAVED/S", "STATE", "PATH"]
    assert first.split()[:4] == ["7", "13.8", "0.3", "0.1"], "what hurts comes first"
    assert second.split() == ["90", "0.0", "4.5", "1.5", "finalized", str(ctl.point / "quick")]
    for column, path in (("misses", "other"), ("heat", "quick"), ("opens", "quick"), ("saved", "quick")):
        assert lines(ctl("top", f"--sort={column}").out)[1].endswith(path)
    assert ctl("top", "--sort=path").code == USAGE
    assert ctl("top").out == r.out, "a pipe gets one answer"
    assert len(lines(ctl("top", "--iterations=2", "-b", "--no-legend").out)) == 4


def test_top_json(ctl):
    listed = json.loads(ctl("top", "--json=short").out)["directories"]
    assert [(d["heat"], d["opens_per_minute"], d["opens"]) for d in listed] == [(7, 21, 7000), (90, 270, 90000)]
    assert listed[1]["path"] == str(ctl.point / "quick")
    assert ctl("top", "nobody").code == NOT_MANAGED
    assert ctl("top", "-n0").code == USAGE


def test_top_live(ctl):
    """A terminal is rewritten until Ctrl-C."""
    leader, follower = pty.openpty()
    with subprocess.Popen([binary("ovlfinctl"), "top"], stdout=follower, stderr=follower, stdin=follower,
                          env={**ctl.env, "TERM": "xterm", "LC_ALL": "C.UTF-8"}) as p:
        os.close(follower)
        text = b""
        while text.count(b"\033[H\033[J") < 2:
            assert select.select([leader], [], [], 20)[0], text
            text += os.read(leader, 65536)
        p.send_signal(signal.SIGINT)
        p.wait(10)
    os.close(leader)
    assert b"quick" in text


# Metrics


def samples(families):
    return {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}


def test_metrics(ctl):
    """Both dialects that collectors read."""
    ctl("finalize", "--no-block", ctl.point / "hang")
    r = ctl("metrics")
    assert r.code == OK and r.out.endswith("# EOF\n")
    found = samples(openmetrics.text_string_to_metric_families(r.out))
    soft = ("overlay", "soft")
    assert found["ovlfind_directories", soft, ("state", "finalized")] == 40
    assert found["ovlfind_directories", soft, ("state", "broken")] == 0
    assert found["ovlfind_overlay_state", ("overlay", "away"), ("state", "absent")] == 1
    assert found["ovlfind_jobs", soft, ("state", "running")] + found["ovlfind_jobs", soft, ("state", "queued")] == 1
    assert found["ovlfind_jobs_ended_total", soft, ("result", "done")] == 7
    assert found["ovlfind_job_seconds_total", soft] == 1.5
    assert [found["ovlfind_source", soft, ("source", s)] for s in ("opens", "paths", "misses")] == [1, 0, 1]
    assert [found["ovlfind_misses_total", ("answer", a), soft] for a in ("lower", "upper")] == [100, 900]
    classes = {dict(labels)["le"]: value for (name, *labels), value in found.items() if name == "ovlfind_lower_answer_seconds_bucket"}
    assert classes == {"0.0003": 1, "0.01": 3, "3.0": 3, "+Inf": 4}
    assert (found["ovlfind_lower_answer_seconds_count", soft], found["ovlfind_lower_answer_seconds_sum", soft]) == (4, 7.00025)
    assert found["ovlfind_build_info", ("version", "9.8.7")] == 1
    assert not [name for name, *_ in found if "upper" in name]  # its upper is nowhere
    assert samples(prometheus.text_string_to_metric_families(r.out)) == found
    listed = json.loads(ctl("metrics", "--json=short").out)["metrics"]
    assert {"name": "ovlfind_job_seconds", "overlay": "soft", "value_usec": 1_500_000} in listed


def test_metrics_without_a_daemon(bus):
    r = bus("metrics")
    assert r.code == UNREACHABLE and r.out == ""
