# SPDX-License-Identifier: LGPL-2.1-or-later
"""The harness itself: what the counting lower says is true, and it is slow, hangs and fails as told."""

import concurrent.futures
import errno
import os
import socket
import stat
import threading
import time

import pytest

from ovltest import assert_same, diff, run, snapshot
from ovltest.daemon import wait_for
from ovltest.readers import absent_names
from ovltest.tree import hard_links, odd_entries, release, write


@pytest.fixture
def tree(scene):
    source = scene.source()
    release(os.path.join(source, "prog"))
    return source


@pytest.fixture
def lower(scene, tree):
    return scene.lower(tree)


def lookup(path):
    """0 or the errno of an lstat."""
    try:
        os.lstat(path)
        return 0
    except OSError as e:
        return e.errno


def test_shows_everything(scene):
    source = scene.source()
    odd_entries(os.path.join(source, "odd"))
    hard_links(os.path.join(source, "odd"))
    release(os.path.join(source, "prog"))
    lower = scene.lower(source)
    assert_same(snapshot(source), snapshot(lower.point))
    assert os.lstat(os.path.join(lower.point, "odd", "hard-a")).st_nlink == 2
    with open(os.path.join(lower.point, "odd", "null"), "wb") as f:
        f.write(b"a device works")


def test_is_read_only(lower):
    with pytest.raises(OSError) as e:
        os.mkdir(os.path.join(lower.point, "new"))
    assert e.value.errno == errno.EROFS


def test_counts_absent_lookups_by_place(lower):
    os.lstat(os.path.join(lower.point, "prog", "lib"))
    lower.reset()
    for name in absent_names(20):
        assert lookup(os.path.join(lower.point, "prog", "lib", name)) == errno.ENOENT
    for name in absent_names(3):
        assert lookup(os.path.join(lower.point, "prog", name)) == errno.ENOENT
    counts = lower.counts()
    assert counts.enoent == counts.lookup == counts.total == 23
    assert lower.under("prog/lib") == {"lookup": 20, "enoent": 20}
    assert lower.under("prog").enoent == 23
    assert lower.under("prog/bin").lookup == 0
    assert lower.under("prog/li").lookup == 0


def test_never_caches_what_is_absent(lower):
    path = os.path.join(lower.point, "later")
    for _ in range(5):
        assert lookup(path) == errno.ENOENT
    assert lower.counts().enoent == 5
    write(os.path.join(lower.source, "later"))
    assert lookup(path) == 0


def test_caches_what_exists(lower):
    path = os.path.join(lower.point, "prog", "bin", "prog")
    os.lstat(path)
    with lower.measure() as counts:
        for _ in range(20):
            os.lstat(path)
    assert counts.total == 0


def test_without_caching_asks_every_time(scene, tree):
    lower = scene.lower(tree, timeout=0)
    path = os.path.join(lower.point, "prog")
    os.lstat(path)
    with lower.measure() as counts:
        for _ in range(5):
            os.lstat(path)
    assert counts.lookup + counts.getattr >= 5


def test_counts_by_kind(lower):
    directory = os.path.join(lower.point, "prog", "lib")
    with lower.measure() as counts:
        os.listdir(directory)
        with open(os.path.join(directory, "libpart0.so.1.0"), "rb") as f:
            f.read()
        os.readlink(os.path.join(directory, "libpart0.so"))
        os.listxattr(os.path.join(directory, "libpart0.so.1.0"))
    assert counts.opendir == 1 and counts.readdir >= 1
    assert counts.open == 1 and counts.read >= 1 and counts.bytes_read > 0
    assert counts.readlink == 1
    assert counts.listxattr == 1


def test_delay(lower):
    def seconds():
        start = time.monotonic()
        lookup(os.path.join(lower.point, "absent"))
        return time.monotonic() - start
    lower.delay(200_000)
    assert seconds() >= 0.2
    lower.delay(0)
    assert min(seconds() for _ in range(20)) < 0.2


def test_requests_wait_in_parallel(lower):
    directory = os.path.join(lower.point, "prog", "lib")
    os.lstat(directory)
    lower.reset()
    lower.hang()
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        try:
            found = pool.map(lookup, (os.path.join(directory, n) for n in absent_names(64)))
            wait_for(lambda: lower.counts().waiting == 64, "all of them to wait")
        finally:
            lower.recover()
        assert set(found) == {errno.ENOENT}
    assert lower.counts().waiting_max == 64


def test_hang_and_recover(lower):
    directory = os.path.join(lower.point, "prog", "lib")
    os.lstat(directory)
    lower.hang("prog/lib")
    done = threading.Event()
    thread = threading.Thread(target=lambda: (lookup(os.path.join(directory, "absent")), done.set()))
    thread.start()
    wait_for(lambda: lower.counts().waiting == 1, "the lookup to hang")
    assert not done.is_set()
    assert lookup(os.path.join(lower.point, "absent")) == errno.ENOENT  # elsewhere it answers
    lower.recover()
    assert done.wait(100)
    thread.join()


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "EACCES"])
def test_fail_and_recover(lower, name):
    lower.fail(name)
    # The kernel tries once more after ESTALE; the answer stays.
    assert lookup(os.path.join(lower.point, "absent")) == getattr(errno, name)
    assert lower.counts().enoent == 0
    lower.recover()
    assert lookup(os.path.join(lower.point, "absent")) == errno.ENOENT


def test_invalidate_shows_what_was_removed(lower):
    path = os.path.join(lower.point, "prog", "bin", "prog-wrapper")
    os.lstat(path)
    os.unlink(os.path.join(lower.source, "prog", "bin", "prog-wrapper"))
    assert lookup(path) == 0  # cached, as on a client with actimeo=3600
    lower.invalidate()
    assert lookup(path) == errno.ENOENT


def test_trace(lower):
    lower.trace(True)
    lookup(os.path.join(lower.point, "prog", "absent"))
    assert "lookup /prog/absent ENOENT" in lower.traced()


def test_merged_overlay_asks_the_lower_for_every_absent_name(scene, lower):
    """The problem ovlfind is about: without it each absent name costs a lookup at the lower."""
    overlay = scene.overlay(lower)
    lib = overlay / "prog/lib"
    os.listdir(lib)
    counts = scene.absent_lookups(lower, lib, 40)
    assert counts.enoent == 40
    # Also after everything was copied up, as by hand: chown -R -h, ls -lR, umount, mount.
    run("chown", "-R", "-h", "root:root", lib)
    overlay.remount()
    run("ls", "-lR", lib)
    assert scene.absent_lookups(lower, lib, 40).enoent == 40


def test_marks_by_hand_stop_lookups(scene, lower):
    """The other end of the scale, written offline: opaque and an absolute redirect, and no lookup reaches the lower."""
    overlay = scene.overlay(lower)
    lib = overlay / "prog/lib"
    before = snapshot(lib)
    for directory, dirs, files in os.walk(lib):
        for name in (*dirs, *files):
            os.utime(os.path.join(directory, name), ns=(0, os.lstat(os.path.join(directory, name)).st_mtime_ns),
                     follow_symlinks=False)
    overlay.umount()
    top = overlay.upper_path("prog/lib")
    for name in os.listdir(top):
        path = os.path.join(top, name)
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            os.setxattr(path, "trusted.overlay.redirect", f"/prog/lib/{name}".encode())
    os.setxattr(top, "trusted.overlay.opaque", b"y")
    overlay.mount()
    assert_same(before, snapshot(lib))
    assert scene.absent_lookups(lower, lib, 40).enoent == 0


@pytest.mark.parametrize("kind", ["ext4-256", "ext4-512", "xfs", "btrfs", "tmpfs"])
def test_uppers(scene, lower, kind):
    upper = scene.upper(kind)
    overlay = scene.overlay(lower, upper=upper)
    path = overlay / "prog/lib/libpart0.so.1.0"
    os.utime(path, ns=(0, os.lstat(path).st_mtime_ns))
    os.getxattr(overlay.upper_path("prog/lib/libpart0.so.1.0"), "trusted.overlay.metacopy")
    upper.fill()
    with pytest.raises(OSError) as e:
        write(overlay / "prog/lib/new", b"x" * (1 << 20))
    assert e.value.errno == errno.ENOSPC


def test_snapshot_sees_differences(scene):
    source = scene.source()
    odd_entries(source)
    before = snapshot(source)
    os.chmod(os.path.join(source, "suid"), 0o755)
    run("setfacl", "-x", "u:12345", os.path.join(source, "acl"))
    os.removexattr(os.path.join(source, "caps"), "security.capability")
    os.unlink(os.path.join(source, "fifo"))
    changed = {line.split(":")[0].strip("'") for line in diff(before, snapshot(source))}
    assert changed == {"suid", "acl", "caps", "fifo", ""}


def test_readers_count_what_fails(scene, tree):
    readers = scene.readers(tree, processes=2)
    assert readers.so_far().failures == 0
    os.rename(os.path.join(tree, "prog", "lib"), os.path.join(tree, "prog", "away"))
    wait_for(lambda: readers.so_far().failures, "a failure")
    totals = readers.close()
    assert totals.failures > 0 and any("No such file" in m for m in totals.messages)


def test_readers_are_content_with_a_quiet_tree(scene, tree):
    readers = scene.readers(tree)
    readers.go_on(1000)
    totals = readers.close()
    assert totals.failures == 0, totals.messages
    assert totals.operations > 1000


def test_bus(scene):
    assert run("busctl", f"--address={scene.bus.address}", "list").stdout.startswith("NAME")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(scene.bus.socket)
