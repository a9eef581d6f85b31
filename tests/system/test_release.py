# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of a release in the lower layer: fixed in place, extended, removed. What users see follows on request, what they
changed themselves stays, and a lower that is out of reach is never taken for one that was cleaned up."""

import errno
import os
import shutil
import stat
import threading

import pytest

from ovltest import assert_same, snapshot, visible
from ovltest.ctl import run_ctl
from ovltest.daemon import wait_for
from ovltest.env import end, spawn
from ovltest.tree import release, write

D = "software/prog"


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, D))
    release(os.path.join(top, "software/other"))
    return top


@pytest.fixture(params=("handles", "none"))
def overlay(scene, source, request):
    """On a lower whose files have handles, and on one whose files have none."""
    return scene.overlay(source if request.param == "handles" else scene.lower(source, timeout=0))


@pytest.fixture
def finalized(overlay, daemon):
    daemon.ctl("finalize", overlay / D).ok()
    return overlay


def in_place(source, name, content=b"fixed in place, and longer than before\n" * 40):
    with open(os.path.join(source, D, name), "r+b") as f:
        f.write(content)
        f.truncate(len(content))


def test_refresh_takes_up_everything(source, finalized, daemon):
    overlay = finalized
    top = os.path.join(source, D)
    in_place(source, "lib/libpart0.so.1.0")
    write(os.path.join(top, "lib/libpart1.so.1.0.new"), b"another file")
    os.rename(os.path.join(top, "lib/libpart1.so.1.0.new"), os.path.join(top, "lib/libpart1.so.1.0"))
    os.chmod(os.path.join(top, "lib/libpart2.so.1.0"), 0o600)
    os.unlink(os.path.join(top, "lib/libpart3.so"))
    os.unlink(os.path.join(top, "lib/libpart3.so.1.0"))
    os.unlink(os.path.join(top, "lib/libpart4.so"))
    os.symlink("libpart5.so.1.0", os.path.join(top, "lib/libpart4.so"))
    write(os.path.join(top, "lib/libnew.so"), mode=0o755)
    write(os.path.join(top, "new/deep/er/file"))
    write(os.path.join(top, "new/other"))
    shutil.rmtree(os.path.join(top, "lib/python3/site-packages/prog/data"))
    daemon.ctl("refresh", overlay / D).ok()
    assert_same(visible(snapshot(top)), visible(snapshot(overlay / D)))
    daemon.ctl("is-finalized", overlay / D).ok()
    daemon.ctl("is-finalized", overlay / f"{D}/new/deep").ok()
    assert daemon.ctl("refresh", overlay / D).ok().out.count("nothing to do") == 1
    assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == {"problems": []}
    daemon.ctl("unfinalize", overlay / D).ok()
    assert_same(visible(snapshot(top)), visible(snapshot(overlay / D)))
    assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == {"problems": []}


def test_refresh_leaves_local_changes_alone(source, finalized, daemon):
    overlay, top = finalized, os.path.join(source, D)
    with open(overlay / f"{D}/lib/libpart0.so.1.0", "wb") as f:
        f.write(b"mine")
    os.chmod(overlay / f"{D}/lib/libpart1.so.1.0", 0o700)
    os.unlink(overlay / f"{D}/lib/libpart2.so.1.0")
    write(overlay / f"{D}/lib/clash", b"mine")
    write(overlay / f"{D}/lib/only-here", b"mine")
    os.rename(overlay / f"{D}/bin", overlay / f"{D}/tools")
    before = snapshot(overlay / D)
    for i in range(3):
        in_place(source, f"lib/libpart{i}.so.1.0")
    write(os.path.join(top, "lib/clash"), b"theirs, and new")
    write(os.path.join(top, "bin/added"), mode=0o755)
    result = daemon.ctl("refresh", overlay / D).ok()
    for name in ("libpart0.so.1.0", "libpart1.so.1.0", "clash"):
        assert name in result.err
    after = snapshot(overlay / D)
    assert after.pop("tools/added")
    after["tools"]["content"].remove("added")
    # Whose attributes alone are somebody's has the lower's content, in full length.
    fixed = after.pop("lib/libpart1.so.1.0")
    assert fixed["mode"] == before.pop("lib/libpart1.so.1.0")["mode"] == 0o700
    assert fixed["content"] == snapshot(top)["lib/libpart1.so.1.0"]["content"]
    assert_same(visible(before), visible(after))
    assert open(overlay / f"{D}/lib/clash", "rb").read() == b"mine"
    # Asked again it says the same and does nothing.
    assert "nothing to do" in daemon.ctl("refresh", overlay / D).ok().out


def test_states(source, finalized, daemon):
    """A comparison finds what is stale and what is gone; the states outlive the daemon."""
    overlay = finalized
    write(os.path.join(source, D, "lib/libnew.so"))
    shutil.rmtree(os.path.join(source, D, "share"))
    assert daemon.stop() == 0
    daemon.start()
    wait_for(lambda: daemon.state_of(overlay / f"{D}/lib") == "stale", "the comparison")
    wait_for(lambda: daemon.state_of(overlay / f"{D}/share/doc") == "gone", "the comparison")
    listed = {d["path"]: d for d in daemon.ctl("directories", "--json=short").json["directories"]}
    assert "libnew.so" in listed[overlay / f"{D}/lib"]["reason"]
    assert daemon.ctl("is-finalized", overlay / f"{D}/lib").code == 1
    daemon.ctl("refresh", overlay / D).ok()
    assert daemon.state_of(overlay / f"{D}/lib") == "finalized"
    assert not os.path.lexists(overlay / f"{D}/share")


class Watcher:
    """Looks at one file all the time: it must be there, and all of one version."""

    def __init__(self, path):
        self.path, self.wrong, self.versions, self.is_over = path, [], set(), False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.is_over:
            try:
                with open(self.path, "rb") as f:
                    size, data = os.fstat(f.fileno()).st_size, f.read()
            except OSError as e:
                self.wrong.append(str(e))
                continue
            self.versions.add(data)
            if size != len(data) or len(set(data)) != 1:
                self.wrong.append(f"{size} bytes, {len(data)} read")

    def close(self):
        self.is_over = True
        self.thread.join()


def test_no_moment_of_failure_or_mixture(scene, source, finalized, daemon):
    overlay, name = finalized, "lib/libpart0.so.1.0"
    replace = os.path.join(source, D, name)
    readers = scene.readers(overlay / f"{D}/bin", overlay / f"{D}/lib/python3")
    write(replace + ".new", b"0")
    os.rename(replace + ".new", replace)
    daemon.ctl("refresh", overlay / D).ok()
    watcher = scene.keep(Watcher(overlay / f"{D}/{name}"))
    for i in range(1, 8):
        write(replace + ".new", b"%d" % i * (1000 + i))
        os.rename(replace + ".new", replace)
        write(os.path.join(source, D, f"lib/new{i}"))
        daemon.ctl("refresh", overlay / D).ok()
    wait_for(lambda: b"7" * 1007 in watcher.versions, "the last version")
    watcher.close()
    assert watcher.wrong == [] and len(watcher.versions) == 8
    totals = readers.close()
    assert totals.operations > 1000 and totals.failures == 0, totals.messages


def test_prune(source, finalized, daemon):
    """A removed release leaves nothing behind, and what users made of it stays."""
    overlay = finalized
    mine = write(overlay / f"{D}/lib/mine", b"mine")
    os.chmod(overlay / f"{D}/lib/libpart0.so.1.0", 0o700)
    daemon.ctl("finalize", overlay / "software/other").ok()
    shutil.rmtree(os.path.join(source, D))
    shutil.rmtree(os.path.join(source, "software/other"))
    write(os.path.join(source, "software/third/file"))
    assert daemon.stop() == 0
    overlay.remount()
    daemon.start()
    with pytest.raises(OSError) as e:
        os.unlink(overlay / "software/other/bin/prog-wrapper")
    assert e.value.errno == errno.EIO
    plan = daemon.ctl("prune", "soft", "--dry-run", "--json=short").ok().json["jobs"][0]["plan"]
    assert overlay / "software/other/bin/prog-wrapper" in [s["path"] for s in plan]
    result = daemon.ctl("prune", "soft").ok()
    assert not os.path.lexists(overlay / "software/other")
    assert not os.path.lexists(overlay.upper_path("software/other"))
    assert open(mine, "rb").read() == b"mine"
    assert sorted(os.listdir(overlay / f"{D}/lib")) == ["libpart0.so.1.0", "mine"]
    assert sorted(os.listdir(overlay / D)) == ["lib"]
    assert mine in result.err and "libpart0.so.1.0" in result.err
    os.unlink(mine)
    daemon.ctl("prune", overlay / "software", "--force").ok()
    assert os.listdir(overlay / "software") == ["third"]
    assert os.listdir(os.path.join(daemon.state, "records", "soft")) in ([], [".findings"])


@pytest.mark.parametrize("method", ["exchange", "mark"])
@pytest.mark.parametrize("verb", ["prune", "refresh"])
def test_what_was_moved_here_before_stays(overlay, daemon, method, verb):
    """Under names that the lower directory never had."""
    d = overlay / D
    os.rename(os.path.join(d, "lib/libpart0.so.1.0"), os.path.join(d, "lib/renamed"))
    os.rename(overlay / "software/other/lib/libpart1.so.1.0", os.path.join(d, "lib/moved"))
    os.rename(overlay / "software/other/lib/python3", os.path.join(d, "lib/python4"))
    os.rename(os.path.join(d, "lib/libpart4.so"), os.path.join(d, "lib/link"))
    write(os.path.join(d, "lib/own"))
    daemon.ctl("finalize", f"--method={method}", d).ok()
    before = visible(snapshot(d))
    daemon.ctl(verb, d).ok()
    assert_same(before, visible(snapshot(d)))
    assert daemon.ctl("verify", overlay.point, "--json=short").ok().json == {"problems": []}
    daemon.ctl("unfinalize", d).ok()
    assert_same(before, visible(snapshot(d)))


def test_prune_of_some_files_lets_undo_go_on(source, finalized, daemon):
    overlay = finalized
    os.unlink(os.path.join(source, D, "lib/libpart0.so.1.0"))
    overlay_upper = overlay.upper_path(f"{D}/lib/libpart0.so.1.0")
    daemon.ctl("prune", overlay / D).ok()
    assert not os.path.lexists(overlay_upper)
    assert not os.path.lexists(overlay / f"{D}/lib/libpart0.so.1.0")
    daemon.ctl("unfinalize", overlay / D).ok()
    assert daemon.ctl("verify", "soft", "--json=short").json["problems"] == []


@pytest.mark.parametrize("method", ["exchange", "mark", "by hand"])
def test_a_removed_file_that_is_not_listed(scene, source, method):
    """With xino=on a listing looks everything up. One of an exchanged directory fails then, and any other leaves out what is
    still in the upper layer: not taken along, it would keep the old tree from ever being removed."""
    overlay = scene.overlay(source, xino="on")
    daemon = scene.daemon(soft=overlay)
    lost = overlay / f"{D}/lib/libpart0.so.1.0"
    if method == "by hand":
        os.chmod(lost, 0o755)
    else:
        daemon.ctl("finalize", f"--method={method}", overlay / D).ok()
    os.unlink(os.path.join(source, D, "lib/libpart0.so.1.0"))
    assert daemon.stop() == 0
    overlay.remount()
    daemon.start()
    result = daemon.ctl("finalize" if method == "by hand" else "unfinalize", overlay / D)
    assert (result.code == 0) == (method == "by hand")  # what is beside it is finalized
    assert "run 'ovlfinctl prune' first" in result.err and os.path.dirname(lost) in result.err
    assert not os.path.lexists(overlay.upper_path(".ovlfind"))
    daemon.ctl("prune", overlay / D).ok()
    assert not os.path.lexists(overlay.upper_path(f"{D}/lib/libpart0.so.1.0"))
    before = visible(snapshot(overlay / D))
    daemon.ctl("finalize" if method == "by hand" else "unfinalize", overlay / D).ok()
    assert_same(before, visible(snapshot(overlay / D)))
    wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "the old tree to go")


def test_refresh_dry_run(source, finalized, daemon):
    overlay = finalized
    write(os.path.join(source, D, "lib/libnew.so"))
    in_place(source, "lib/libpart0.so.1.0")
    before = snapshot(overlay.upper.upper)
    plan = daemon.ctl("refresh", overlay / D, "--dry-run", "--json=short").ok().json["jobs"][0]["plan"]
    assert {(s["name"], os.path.basename(s["path"])) for s in plan} == {("add", "libnew.so"), ("replace", "libpart0.so.1.0")}
    assert_same(before, snapshot(overlay.upper.upper))


def test_automatic(scene, source):
    """OnLowerChange=refresh and OnLowerRemoved=prune, the defaults."""
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"OnLowerChange": "refresh", "OnLowerRemoved": "prune"}}))
    daemon.ctl("finalize", overlay / "software/prog", overlay / "software/other").ok()
    write(os.path.join(source, D, "lib/libnew.so"))
    shutil.rmtree(os.path.join(source, "software/other"))
    assert daemon.stop() == 0
    overlay.remount()
    daemon.start()
    wait_for(lambda: os.path.lexists(overlay / f"{D}/lib/libnew.so"), "the refresh")
    wait_for(lambda: not os.path.lexists(overlay / "software/other"), "the prune")


# Data


def lower_operations(lower, paths):
    """What a full replay (lookups of what is there and of what is not, attributes, content) asks of the lower."""
    with lower.measure() as counts:
        for path in paths:
            for directory, dirs, files in os.walk(path):
                for name in (*dirs, *files):
                    os.lstat(os.path.join(directory, name))
                for name in files:
                    if os.path.isfile(os.path.join(directory, name)):
                        with open(os.path.join(directory, name), "rb") as f:
                            f.read()
                with pytest.raises(FileNotFoundError):
                    os.lstat(os.path.join(directory, "absent"))
    return counts


def test_data_needs_no_lower(scene):
    source = scene.source()
    release(os.path.join(source, "prog"))
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / "prog")
    job = daemon.ctl("finalize", overlay / "prog", "--data", "--json=short").ok().json["jobs"][0]
    assert job["bytes_copied"] == sum(e["size"] or 0 for e in before.values() if stat.S_ISREG(e["type"]))
    assert daemon.stop() == 0
    overlay.remount()
    lower.invalidate()
    counts = lower_operations(lower, [overlay / "prog"])
    assert sum(counts.values()) == 0, counts
    assert_same(before, snapshot(overlay / "prog"))


def test_data_up_to_a_size(scene, source, finalized, daemon):
    """Also of what is finalized already, and not of what is larger, or runs."""
    overlay, big = finalized, f"{D}/lib/python3/site-packages/prog/data/table.bin"
    before = snapshot(overlay / D)
    shutil.copy("/bin/sleep", os.path.join(source, D, "bin/sleeper"))
    daemon.ctl("refresh", overlay / D).ok()
    sleeper = scene.keep(Sleeper(overlay / f"{D}/bin/sleeper"))
    result = daemon.ctl("finalize", overlay / D, "--data=60K").ok()
    assert "sleeper" in result.err
    metacopy = {name for name in (big, f"{D}/bin/sleeper", f"{D}/lib/libpart0.so.1.0")
                if "trusted.overlay.metacopy" in os.listxattr(overlay.upper_path(name))}
    assert metacopy == {big, f"{D}/bin/sleeper"}
    sleeper.close()
    after = snapshot(overlay / D)
    del after["bin/sleeper"]
    after["bin"]["content"].remove("sleeper")
    assert_same(visible(before), visible(after))


def test_holes_stay_holes(scene):
    source = scene.source()
    with open(write(os.path.join(source, "big/sparse"), b"begin"), "r+b") as f:
        f.seek(64 << 20)
        f.write(b"end")
    overlay = scene.overlay(source, upper=scene.upper("ext4-256", size_mib=200))
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / "big")
    daemon.ctl("finalize", overlay / "big", "--data=1G").ok()
    copy = os.stat(overlay.upper_path("big/sparse"))
    assert "trusted.overlay.metacopy" not in os.listxattr(overlay.upper_path("big/sparse"))
    assert copy.st_blocks * 512 < 8 << 20 < copy.st_size  # the kernel copies a MiB at a time
    assert_same(before, snapshot(overlay / "big"))


class Sleeper:
    def __init__(self, program):
        self.process = spawn(program, "600")
        wait_for(lambda: os.readlink(f"/proc/{self.process.pid}/exe").endswith("sleeper"), "the program")

    def close(self):
        end(self.process)


@pytest.mark.parametrize("kind, floor, least", (("tmpfs", "5%", 2 << 20), ("ext4-256", "16M", 16 << 20)))
def test_data_that_does_not_fit(scene, kind, floor, least):
    source = scene.source()
    for i in range(20):
        write(os.path.join(source, f"big/file{i}"), os.urandom(4 << 20))
    upper = scene.upper(kind, size_mib=40)
    overlay = scene.overlay(source, upper=upper)
    free = upper.free_bytes()
    daemon = scene.daemon(soft=(overlay, {"CopyUp": {"MinFreeSpace": floor}}))
    before = snapshot(overlay / "big")
    result = daemon.ctl("finalize", overlay / "big", "--data=1G")
    assert result.code == 1 and "MinFreeSpace" in result.err and "NoSpace" not in result.err
    assert least <= upper.free_bytes() < free - (4 << 20), "some fit"
    assert daemon.state_of(overlay / "big") == "finalized"
    assert_same(before, snapshot(overlay / "big"))


def test_data_is_pruned_and_refreshed_like_the_rest(source, finalized, daemon):
    overlay = finalized
    daemon.ctl("finalize", overlay / D, "--data").ok()
    in_place(source, "lib/libpart0.so.1.0")
    os.unlink(os.path.join(source, D, "lib/libpart1.so.1.0"))
    daemon.ctl("refresh", overlay / D).ok()
    assert_same(visible(snapshot(os.path.join(source, D))), visible(snapshot(overlay / D)))
    shutil.rmtree(os.path.join(source, D))
    daemon.ctl("prune", "soft").ok()
    assert not os.path.lexists(overlay / D)


# What a mount does not honour, and what is found without being asked


def test_marks_without_the_options(scene, source):
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    assert daemon.stop() == 0
    overlay.umount()
    overlay.options.update(metacopy="off", redirect_dir="off")
    overlay.mount()
    daemon.start()
    assert daemon.overlay_states() == {"soft": "refused"}
    for text in (daemon.ctl("status", "soft").out, daemon.log()):
        assert "CANNOT" in text
    assert f"'ovlfinctl unfinalize {overlay.point}'" in daemon.log()


def test_damage_is_told_after_the_start(scene, source, finalized, daemon):
    overlay = finalized
    assert daemon.stop() == 0
    overlay.umount()
    os.removexattr(overlay.upper_path(f"{D}/lib/libpart0.so.1.0"), "trusted.overlay.redirect")
    overlay.mount()
    daemon.start()
    wait_for(lambda: "1 problem found" in daemon.log(), "the audit")


# Kills, and what is large


def change(source):
    """A release that is fixed, extended and cut in the lower. What it looks like then."""
    top = os.path.join(source, D)
    in_place(source, "lib/libpart0.so.1.0")
    os.unlink(os.path.join(top, "lib/libpart1.so.1.0"))
    write(os.path.join(top, "lib/libnew.so"))
    write(os.path.join(top, "new/deep/file"))
    return visible(snapshot(top))


def revive(daemon, is_killed):
    if is_killed:
        wait_for(lambda: not daemon.is_running(), "the daemon to be gone")
        daemon.start()


@pytest.mark.first
@pytest.mark.parametrize("parent", (False, True), ids=("worker", "daemon"))
def test_refresh_survives_kills(scene, source, parent):
    """Where there is much to do; test_kill.py tries every gap of less."""
    strikes = {"refresh": 0, "prune": 0}
    for n in range(0, 62, 8):
        path = scene.subdir("copy")
        shutil.copytree(source, path, symlinks=True, dirs_exist_ok=True)
        overlay = scene.overlay(path)
        daemon = scene.daemon(killer=True, soft=overlay)
        daemon.ctl("finalize", overlay / D).ok()
        expected = change(path)
        daemon.arm(n, parent=parent)
        daemon.ctl("refresh", overlay / D)
        struck = daemon.struck()
        strikes["refresh"] += struck is not None
        revive(daemon, parent and struck)
        daemon.ctl("refresh", overlay / D).ok()
        assert_same(expected, visible(snapshot(overlay / D)))
        assert daemon.ctl("verify", "soft", "--json=short").json["problems"] == [], (n, struck)
        shutil.rmtree(os.path.join(path, D))
        daemon.arm(n // 2, parent=parent)
        daemon.ctl("prune", "soft")
        strikes["prune"] += daemon.struck() is not None
        revive(daemon, parent and daemon.struck())
        daemon.ctl("prune", "soft").ok()
        assert not os.path.lexists(overlay / D), (n, struck)
        daemon.stop()
        if struck is None:
            break
    assert min(strikes.values()) > 5, strikes


def test_long_paths_and_many_entries(scene):
    """Redirects longer than redirect_max, names of every byte, three layers, a directory of many entries."""
    tops = [scene.source() for _ in range(3)]
    deep = "/".join(["x" * 200] * 4)
    for i, top in enumerate(tops):
        write(os.path.join(top, "prog", deep, f"file{i}"))
        os.makedirs(os.path.join(top, "prog/many"))
    for i in range(3000):
        write(os.path.join(tops[1], f"prog/many/file{i}"), b"")
    overlay = scene.overlay(*tops)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "prog").ok()
    odd = os.fsdecode(bytes(c for c in range(1, 256) if c != ord("/")))
    write(os.path.join(tops[2], "prog", deep, odd))
    write(os.path.join(tops[0], "prog", deep, "dir/" + "y" * 100), b"new")
    write(os.path.join(tops[0], "prog/many/file7"), b"covers the one below")
    os.unlink(os.path.join(tops[1], "prog/many/file8"))
    daemon.ctl("refresh", overlay / "prog").ok()
    names = os.listdir(overlay / f"prog/{deep}")
    assert sorted(names) == sorted(["file0", "file1", "file2", odd, "dir"])
    assert open(overlay / "prog/many/file7", "rb").read() == b"covers the one below"
    assert len(os.listdir(overlay / "prog/many")) == 2999
    assert daemon.ctl("verify", "soft", "--json=short").json["problems"] == []
    daemon.ctl("unfinalize", overlay / "prog").ok()
    assert open(overlay / f"prog/{deep}/dir/{'y' * 100}", "rb").read() == b"new"


def test_undo_waits_for_prune(source, finalized, daemon):
    """A file without its lower counterpart cannot be rebuilt; prune takes it out of the way, and nothing else with it."""
    overlay = finalized
    os.chmod(overlay / f"{D}/lib/libpart1.so.1.0", 0o700)
    expected = visible(snapshot(overlay / D))
    os.unlink(os.path.join(source, D, "lib/libpart0.so.1.0"))
    os.unlink(os.path.join(source, D, "bin/prog-wrapper"))
    assert daemon.stop() == 0
    overlay.remount()
    daemon.start()
    result = daemon.ctl("unfinalize", overlay / D)
    assert result.code == 1 and "run 'ovlfinctl prune' first" in result.err
    daemon.ctl("prune", overlay / D).ok()
    daemon.ctl("unfinalize", overlay / D).ok()
    del expected["lib/libpart0.so.1.0"], expected["bin/prog-wrapper"]
    expected["lib"]["content"].remove("libpart0.so.1.0")
    expected["bin"]["content"].remove("prog-wrapper")
    assert_same(expected, visible(snapshot(overlay / D)))


def test_one_huge_directory(scene):
    """OVLFIND_ENTRIES=100000 for the real thing."""
    n = int(os.environ.get("OVLFIND_ENTRIES", "2000"))
    top = scene.source()
    os.mkdir(os.path.join(top, "huge"))
    for i in range(n):
        with open(os.path.join(top, f"huge/file{i:06}"), "wb") as f:
            f.write(b"%d" % i)
    overlay = scene.overlay(top)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "huge", timeout=600).ok()
    daemon.ctl("is-finalized", overlay / "huge").ok()
    os.unlink(overlay / "huge/file000001")
    os.unlink(os.path.join(top, "huge/file000002"))
    write(os.path.join(top, "huge/file000003"), b"fixed in place")
    for i in range(n, n + 100):
        write(os.path.join(top, f"huge/file{i:06}"), b"new")
    daemon.ctl("refresh", overlay / "huge", timeout=600).ok()
    expected = sorted(set(os.listdir(os.path.join(top, "huge"))) - {"file000001"})
    assert sorted(os.listdir(overlay / "huge")) == expected
    with open(overlay / "huge/file000003", "rb") as f:
        assert f.read() == b"fixed in place"
    daemon.ctl("is-finalized", overlay / "huge").ok()
    daemon.ctl("unfinalize", overlay / "huge", timeout=600).ok()
    assert sorted(os.listdir(overlay / "huge")) == expected
    write(os.path.join(top, "huge/shows"), b"")
    assert os.path.exists(overlay / "huge/shows")
    assert daemon.ctl("verify", "soft", "--json=short", timeout=600).json["problems"] == []
    assert daemon.stop() == 0
    overlay.umount()
    run_ctl("unfinalize", "--offline", "--reset", f"--upper={overlay.upper.upper}", f"--lower={top}", "huge",
            env={"STATE_DIRECTORY": daemon.state}, timeout=600).ok()
    assert os.listdir(overlay.upper_path("huge")) == ["file000001"], "the whiteout"
