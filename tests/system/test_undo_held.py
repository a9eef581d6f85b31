# SPDX-License-Identifier: LGPL-2.1-or-later
"""An undo while files are held that were opened before the directory was finalized: the kernel refuses it then. It waits,
says for whom, builds nothing, and goes on by itself."""

import contextlib
import os
import subprocess
import sys

import dbus
import pytest

from ovltest.daemon import wait_for
from ovltest.env import end, spawn
from ovltest.snapshot import snapshot
from ovltest.tree import age, write

D = "p/d"

PROGRAM = """import mmap, os, sys
how, path = sys.argv[1:]
f = os.open(path, os.O_RDWR if how == "write" else os.O_RDONLY)
if how == "map":
    m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
    os.close(f)
print("ready", flush=True)
sys.stdin.readline()
print((m[:] if how == "map" else os.pread(f, 65536, 0)).hex(), flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that has a file open, or mapped and not open."""

    def __init__(self, path, how="read"):
        with open(path, "rb") as f:
            self.content = f.read()
        self.process = spawn(sys.executable, "-c", PROGRAM, how, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True, cwd="/")
        assert self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid

    def check(self):
        """It still reads what it read."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert bytes.fromhex(self.process.stdout.readline()) == self.content

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()


@pytest.fixture
def source(scene):
    top = scene.source()
    for i in range(5):
        for d in (D, f"{D}/s", f"{D}/s/t", "p/other"):
            write(os.path.join(top, d, str(i)))
    age(top)
    return top


def is_clean(overlay):
    return not os.path.exists(overlay / ".ovlfind") and not os.path.exists(overlay.upper_path(".ovlfind"))


def assert_sound(daemon, overlay):
    assert is_clean(overlay)
    daemon.ctl("verify", "soft").ok()
    assert "crash" not in daemon.log() and "problems" not in daemon.log()


def finalize(daemon, path):
    daemon.ctl("finalize", path).ok()
    wait_for(lambda: not daemon.workers(), "the old tree to go")


def start_unfinalize(daemon, path):
    """Returns the job, once it waits, or has ended."""
    job = daemon.manager().Unfinalize(path, dbus.Dictionary({}, "sv"))
    daemon.wait_job(job, ("waiting", "done", "failed"))
    return job


# How it is held, which file, and whether that was changed here before
HELD = {
    "lower": ("read", f"{D}/1", False),
    "below": ("read", f"{D}/s/t/1", False),
    "upper": ("read", f"{D}/s/1", True),
    "write": ("write", f"{D}/s/1", True),
    "map": ("map", f"{D}/1", False),
    "map below": ("map", f"{D}/s/1", True),
}


@pytest.mark.parametrize("xino", ["off", "on"])
@pytest.mark.parametrize("case", HELD)
def test_waits_for_who_holds_a_file(scene, source, case, xino):
    how, path, is_upper = HELD[case]
    # With xino=on, listing looks up what it lists, if the lower is of another file system: staging was never removed.
    overlay = scene.overlay(source, upper="ext4-256", xino=xino)
    daemon = scene.daemon(soft=overlay)
    if is_upper:
        write(overlay / path, b"written here\n")
    holder = scene.keep(Holder(overlay / path, how))
    before = snapshot(overlay.point)
    finalize(daemon, overlay / D)

    job = start_unfinalize(daemon, overlay / D)
    p = daemon.job(job)
    assert p["State"] == "waiting" and f"{holder.pid} (python3" in p["Reason"] and overlay / D in p["Reason"]
    assert is_clean(overlay), "nothing is built"
    assert daemon.state_of(overlay / D) == "finalized"
    told = daemon.ctl("blockers", overlay / D, "--json=short").ok().json["blockers"]
    assert {b["pid"] for b in told} == {holder.pid}
    assert not daemon.ctl("blockers", overlay / "p/other", "--json=short").ok().json["blockers"]
    assert_sound(daemon, overlay)
    # Others do not wait for it.
    finalize(daemon, overlay / "p/other")
    daemon.ctl("unfinalize", overlay / "p/other").ok()
    daemon.wait_job(job, ("waiting",))
    holder.check()

    holder.close()
    assert daemon.wait_job(job)["State"] == "done"
    assert daemon.state_of(overlay / D) == "copied-up"
    assert snapshot(overlay.point) == before
    assert_sound(daemon, overlay)
    write(os.path.join(source, D, "s/new"))
    assert os.path.exists(overlay / f"{D}/s/new")


def test_one_of_them_lets_go(scene, source):
    """The reason is of now."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    first, second = (scene.keep(Holder(overlay / f"{D}/{i}")) for i in (1, 2))
    elsewhere = scene.keep(Holder(overlay / "p/other/1"))
    finalize(daemon, overlay / D)
    finalize(daemon, overlay / "p/other")
    job = start_unfinalize(daemon, overlay / D)
    reason = daemon.job(job)["Reason"]
    assert str(first.pid) in reason and str(second.pid) in reason and str(elsewhere.pid) not in reason
    first.close()
    wait_for(lambda: f"{first.pid} " not in (r := daemon.job(job)["Reason"]) and str(second.pid) in r, "the new reason")
    second.close()
    assert daemon.wait_job(job)["State"] == "done"
    elsewhere.check()


def test_removed_before(scene, source):
    """A file that was removed while it was open keeps its directory in memory, too."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    holder = scene.keep(Holder(overlay / f"{D}/s/1"))
    os.unlink(overlay / f"{D}/s/1")
    finalize(daemon, overlay / D)
    job = start_unfinalize(daemon, overlay / D)
    assert str(holder.pid) in daemon.job(job)["Reason"]
    holder.check()
    holder.close()
    assert daemon.wait_job(job)["State"] == "done"
    assert not os.path.exists(overlay / f"{D}/s/1")
    assert_sound(daemon, overlay)


def test_canceled_and_asked_for_again(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    holder = scene.keep(Holder(overlay / f"{D}/1"))
    finalize(daemon, overlay / D)
    asked = daemon.ctl("unfinalize", "--no-block", overlay / D).ok()
    job = next(path for n, path in daemon.manager().ListJobs() if str(n) == asked.out.strip())
    daemon.wait_job(job, ("waiting",))
    daemon.ctl("cancel", asked.out.strip())
    wait_for(lambda: not [j for j in daemon.jobs() if j["State"] == "waiting"], "the cancel")
    holder.close()
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_sound(daemon, overlay)


@pytest.fixture(params=["off", "on"])
def in_parts(request, scene, source):
    """Somebody holds a file below what was finalized in two steps. (overlay, daemon, holder)"""
    overlay = scene.overlay(source, upper="ext4-256", xino=request.param)
    daemon = scene.daemon(soft=overlay)
    holder = scene.keep(Holder(overlay / f"{D}/s/1"))
    finalize(daemon, overlay / f"{D}/s")
    finalize(daemon, overlay / D)
    return overlay, daemon, holder


def test_finalized_in_parts(in_parts):
    overlay, daemon, holder = in_parts
    job = start_unfinalize(daemon, overlay / D)
    assert str(holder.pid) in daemon.job(job)["Reason"] and is_clean(overlay)
    holder.close()
    assert daemon.wait_job(job)["State"] == "done"
    assert_sound(daemon, overlay)


def test_nobody_knows_what_is_held(in_parts):
    """The record of the part is gone, so the kernel's refusal is the first that is known. It says who may be meant, leaves
    nothing, and is not in its own way afterwards."""
    overlay, daemon, holder = in_parts
    daemon.restart()
    wait_for(lambda: not daemon.workers(), "the survey")
    refused = daemon.ctl("unfinalize", overlay / D)
    assert refused.code == 1 and str(holder.pid) in refused.err
    assert daemon.state_of(overlay / D) == "finalized"
    wait_for(lambda: not daemon.workers(), "the workers")
    assert_sound(daemon, overlay)
    holder.check()
    holder.close()
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_sound(daemon, overlay)


SERVER = """import os, socket, sys
os.chdir(sys.argv[1])
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[2])
s.listen()
os.chdir("/")
print("ready", flush=True)
sys.stdin.read()
"""


def serve(scene, where, name):
    server = spawn(sys.executable, "-c", SERVER, where, name, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    scene.keep(server.stdin)  # it ends with it
    assert server.stdout.readline() == "ready\n"
    return server


def test_sockets_are_bound_there(scene, source):
    """Their names hold the directory, and /proc does not tell in which tree they are."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    where = overlay / f"{D}/s"
    servers = [serve(scene, where, name) for name in ("relative", os.path.join(where, "absolute"))]
    elsewhere = serve(scene, overlay / "p/other", overlay / "p/other/socket")
    finalize(daemon, overlay / D)
    refused = daemon.ctl("unfinalize", overlay / D)
    assert refused.code == 1 and f"{elsewhere.pid} " not in refused.err
    assert all(f"{s.pid} (python3, socket)" in refused.err for s in servers)
    assert "lower layers answer" not in refused.err
    assert daemon.state_of(overlay / D) == "finalized"
    wait_for(lambda: not daemon.workers(), "the workers")
    assert_sound(daemon, overlay)
    for server in servers:
        server.stdin.close()
        end(server)
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_sound(daemon, overlay)
