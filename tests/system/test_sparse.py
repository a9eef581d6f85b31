# SPDX-License-Identifier: LGPL-2.1-or-later
"""Large files: holes are neither read nor written nor asked room for, and a copy that takes long says how far it is."""

import errno
import os

import dbus
import pytest

from ovltest import run
from ovltest.daemon import wait_for
from ovltest.env import end, spawn
from ovltest.tree import write

MIB = 1 << 20
SIZE = 300 << 30
DATA = {0: b"first", 100 << 30: b"in the middle", SIZE - 4096: b"near the end"}


def sparse(path, data, size=SIZE, ns=10 ** 18):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.truncate(size)
        for offset, content in data.items():
            os.pwrite(f.fileno(), content, offset)
    os.utime(path, ns=(ns, ns))


def content(path):
    """All that is not zero, by offset."""
    found, at = {}, 0
    with open(path, "rb") as f:
        while True:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return found
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            assert end - at <= 8 * MIB
            for i, block in enumerate(iter(lambda: os.pread(f.fileno(), min(4096, end - at), at), b"")):
                if block.strip(b"\0"):
                    found[at] = block.rstrip(b"\0")
                at += len(block)
                if at >= end:
                    break


@pytest.fixture
def scenery(scene, request):
    """A lower with one sparse file, an upper of 64 MiB, and the daemon."""
    source = scene.source()
    sparse(os.path.join(source, "d/large"), DATA)
    write(os.path.join(source, "d/small"))
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower, upper=scene.upper(getattr(request, "param", "ext4-256"), size_mib=64))
    return source, lower, overlay, scene.daemon(soft=overlay)


def assert_local(lower, overlay, size=SIZE, data=None, ns=10 ** 18):
    with lower.measure() as counts:
        assert content(overlay / "d/large") == (data or DATA)
        st = os.stat(overlay / "d/large")
    assert (st.st_size, st.st_mtime_ns) == (size, ns)
    assert counts.read == counts.lseek == 0


@pytest.mark.parametrize("scenery", ["ext4-256", "tmpfs"], indirect=True)
def test_data(scenery):
    _, lower, overlay, daemon = scenery
    daemon.ctl("finalize", overlay / "d").ok()
    with lower.measure() as counts:
        daemon.ctl("finalize", "--data=all", overlay / "d").ok()
    assert counts.bytes_read < 16 * MIB
    assert os.stat(overlay.upper_path("d/large")).st_blocks * 512 <= 4 * MIB
    assert_local(lower, overlay)


@pytest.mark.parametrize("scenery", ["ext4-256", "tmpfs"], indirect=True)
def test_refresh(scenery):
    source, lower, overlay, daemon = scenery
    daemon.ctl("finalize", overlay / "d").ok()
    changed = {4096: b"other", 200 << 30: b"content"}
    sparse(os.path.join(source, "d/large.new"), changed, SIZE - 1, ns=11 * 10 ** 17)
    os.rename(os.path.join(source, "d/large.new"), os.path.join(source, "d/large"))
    lower.invalidate()
    plan = daemon.ctl("refresh", "--dry-run", "--json=short", overlay / "d").ok().json["jobs"][0]["plan"]
    assert [s["bytes"] for s in plan if s["name"] == "replace"][0] < MIB
    with lower.measure() as counts:
        daemon.ctl("refresh", overlay / "d").ok()
    assert counts.bytes_read < MIB
    assert os.stat(overlay.upper_path("d/large")).st_blocks * 512 <= 64 * 1024
    assert daemon.state_of(overlay / "d") == "finalized"
    assert_local(lower, overlay, SIZE - 1, changed, 11 * 10 ** 17)


def test_a_lower_that_does_not_tell_holes(scenery):
    """All of it is read, and zeros become holes."""
    source, lower, overlay, daemon = scenery
    sparse(os.path.join(source, "d/large"), {5 * MIB: b"before"}, 32 * MIB)
    lower.invalidate()
    daemon.ctl("finalize", overlay / "d").ok()
    sparse(os.path.join(source, "d/large"), {7 * MIB: b"after"}, 32 * MIB, ns=11 * 10 ** 17)
    lower.invalidate()
    lower.fail("ENOSYS:lseek")
    with lower.measure() as counts:
        daemon.ctl("refresh", overlay / "d").ok()
    assert counts.bytes_read >= 32 * MIB
    assert os.stat(overlay.upper_path("d/large")).st_blocks * 512 <= MIB
    assert_local(lower, overlay, 32 * MIB, {7 * MIB: b"after"}, 11 * 10 ** 17)


@pytest.mark.parametrize("verb", ("refresh", "--data=all"))
def test_no_room(scenery, verb):
    """What does not fit is told before anything is copied, and changes nothing."""
    source, lower, overlay, daemon = scenery
    sparse(os.path.join(source, "d/large"), {0: b"x" * MIB}, SIZE)
    lower.invalidate()
    daemon.ctl("finalize", overlay / "d").ok()
    with open(os.path.join(source, "d/large"), "r+b") as f:
        f.write(b"y" * (80 * MIB))
    lower.invalidate()
    with lower.measure() as counts:
        result = daemon.ctl(*(["refresh"] if verb == "refresh" else ["finalize", verb]), overlay / "d")
    assert result.code == 1 and "MinFreeSpace" in result.err and overlay / "d/large" in result.err, result
    assert counts.bytes_read < MIB
    assert os.stat(overlay.upper_path("d/large")).st_blocks * 512 < MIB
    assert not os.path.lexists(overlay / ".ovlfind")


def test_data_all(scene):
    """--data=all and Data=all mean files of any size, --data those up to 1 MiB."""
    source = scene.source()
    for name in ("a/large", "b/large", "c/large"):
        write(os.path.join(source, name), os.urandom(3 * MIB))
    lower = scene.lower(source)
    overlay, other = scene.overlay(lower), scene.overlay(lower)
    daemon = scene.daemon(soft=overlay, other=(other, {"CopyUp": {"Data": "all"}}))
    assert daemon.ctl("finalize", "--data=some", overlay / "a").code == 2
    daemon.ctl("finalize", "--data", overlay / "a").ok()
    assert os.stat(overlay.upper_path("a/large")).st_blocks == 0
    daemon.ctl("finalize", "--data=all", overlay / "a").ok()
    daemon.ctl("finalize", other / "b").ok()
    daemon.wait_job(daemon.finalize(overlay / "c", data=dbus.UInt64(2 ** 64 - 1)))
    lower.fail("EIO")
    for path in (overlay / "a/large", other / "b/large", overlay / "c/large"):
        with open(path, "rb") as f:
            assert len(f.read()) == 3 * MIB


@pytest.mark.parametrize("verb", ("refresh", "--data=all"))
def test_progress_and_cancel(scene, verb):
    """A copy tells how far it is, and a cancel in the middle of it leaves the file as it was."""
    source = scene.source()
    size, ns = 200 * MIB, 10 ** 18
    sparse(os.path.join(source, "d/large"), {}, size)
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower, upper="ext4-256")
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    with open(os.path.join(source, "d/large"), "r+b") as f:
        for _ in range(0, size, MIB):
            f.write(b"z" * MIB)
    if verb == "refresh":
        ns = os.stat(overlay / "d/large").st_mtime_ns
    else:
        os.utime(os.path.join(source, "d/large"), ns=(ns, ns))
    lower.invalidate()
    lower.delay(3_000)
    if verb == "refresh":
        path = daemon.manager().Refresh(overlay / "d", dbus.Dictionary(signature="sv"))
    else:
        path = daemon.finalize(overlay / "d", data=dbus.UInt64(2 ** 64 - 1))
    done = wait_for(lambda: int(daemon.job(path)["BytesCopied"]), "some of it to be copied")
    wait_for(lambda: int(daemon.job(path)["BytesCopied"]) > done, "more of it to be copied")
    daemon.ctl("cancel", str(daemon.job(path)["Id"])).ok()
    job = daemon.wait_job(path)
    assert job["State"] == "canceled" and int(job["BytesCopied"]) < size
    lower.delay(0)
    assert os.stat(overlay / "d/large").st_mtime_ns == ns
    wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "staging to be cleaned up")
    with open(overlay / "d/large", "rb") as f:
        assert f.read(MIB) == b"z" * MIB
    daemon.ctl("finalize", "--data=all", overlay / "d").ok()
    assert os.stat(overlay / "d/large").st_mtime_ns == ns


def test_a_large_file_that_cannot_be_copied(scene):
    """Its process tells why: one that runs, one that cannot be read. Both are as they were, what is beside them is copied."""
    source = scene.source()
    with open("/bin/sleep", "rb") as f:
        write(os.path.join(source, "d/prog"), f.read() + bytes(20 * MIB), 0o755)
    write(os.path.join(source, f"d/errno-{errno.EIO}"), b"x" * (20 * MIB))
    write(os.path.join(source, "d/beside"), b"y" * (20 * MIB))
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    before = {name: os.stat(overlay / f"d/{name}").st_mtime_ns for name in os.listdir(overlay / "d")}
    program = spawn(overlay / "d/prog", "60")
    try:
        wait_for(lambda: os.readlink(f"/proc/{program.pid}/exe").endswith("/prog"), "it to run")
        lower.fail("name:read")
        result = daemon.ctl("finalize", "--data=all", overlay / "d").ok()
    finally:
        end(program)
    assert "d/prog: it is running" in result.err and f"d/errno-{errno.EIO}': Input/output error" in result.err, result
    lower.fail("EIO:read")
    with open(overlay / "d/beside", "rb") as f:
        assert f.read() == b"y" * (20 * MIB)
    lower.recover()
    daemon.ctl("finalize", "--data=all", overlay / "d").ok()
    assert before == {name: os.stat(overlay / f"d/{name}").st_mtime_ns for name in before}
    lower.fail("EIO:read")
    for name in before:
        with open(overlay / f"d/{name}", "rb") as f:
            assert len(f.read()) >= 20 * MIB


def test_blocks_are_shared(scene):
    """Where layers are on one file system that can, and there are several lower ones."""
    upper = scene.upper("btrfs")
    top, other, data = os.path.join(upper.point, "lower"), scene.source(), os.urandom(32 * MIB)
    write(os.path.join(top, "d/large"), b"first")
    write(os.path.join(other, "d/other"))
    overlay = scene.overlay(top, other, upper=upper)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    write(os.path.join(top, "d/new"), data)
    os.rename(os.path.join(top, "d/new"), os.path.join(top, "d/large"))
    run("sync", "-f", upper.point)
    before = upper.used_bytes()
    daemon.ctl("refresh", overlay / "d").ok()
    run("sync", "-f", upper.point)
    assert upper.used_bytes() - before < 8 * MIB
    with open(overlay / "d/large", "rb") as f:
        assert f.read() == data
