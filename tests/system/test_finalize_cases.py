# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layer stacks, options and directories that are out of the ordinary: done right, or left as they are with the reason."""

import os
import shutil

import pytest

from ovltest import CountingLower, Upper, assert_same, run, snapshot
from ovltest.daemon import wait_for
from ovltest.env import redirect_max
from ovltest.holders import Shell
from ovltest.oldtree import KEEP
from ovltest.tree import odd_entries, release, write

D = "software/prog"


@pytest.fixture
def source(scene):
    top = scene.source()
    release(os.path.join(top, D))
    return top


def directories_below(top):
    return [d for d, _, _ in os.walk(top)]


def entries(daemon):
    listed = daemon.ctl("directories", "--json=short").ok().json["directories"]
    return {e["path"]: e for e in listed}


def check_finalized(scene, daemon, lowers, path, before):
    """path looks as before, now and after everything was forgotten, and lookups of absent names reach no lower."""
    assert_same(before, snapshot(path))
    for lower in lowers:
        assert scene.absent_lookups(lower, directories_below(path), 10).enoent == 0
    assert daemon.ctl("is-finalized", path).code == 0


@pytest.mark.parametrize("options", [{"xino": "on"}, {"index": "on"}, {"xino": "on", "index": "on"}, {"volatile": True}],
                         ids=lambda o: "+".join(o))
def test_options(scene, lower, options):
    overlay = scene.overlay(lower, **options)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    check_finalized(scene, daemon, [lower], overlay / D, before)
    assert daemon.stop() == 0
    if "volatile" not in options:  # such an upper must not be mounted again
        overlay.remount()
        assert_same(before, snapshot(overlay / D))
        assert scene.absent_lookups(lower, directories_below(overlay / D), 10).enoent == 0


def test_three_lowers(scene, source):
    """With a whiteout, an opaque directory and a moved directory in the middle one, as an earlier overlay left them."""
    bottom = scene.lower(source)
    middle = scene.overlay(bottom)
    d = middle / D
    os.unlink(os.path.join(d, "lib", "libpart0.so"))
    shutil.rmtree(os.path.join(d, "share"))
    write(os.path.join(d, "share", "new"))
    os.rename(os.path.join(d, "lib", "python3"), os.path.join(d, "moved"))
    write(os.path.join(d, "lib", "libpart1.so.1.0"), b"changed in the middle")
    middle.umount()
    layer = middle.upper.upper
    top = scene.source()
    write(os.path.join(top, D, "lib", "from-the-top"))
    lowers = [scene.lower(top), scene.lower(layer), bottom]
    overlay = scene.overlay(*lowers)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    assert "moved/site-packages/prog/mod0.py" in before and "lib/libpart0.so" not in before
    daemon.ctl("finalize", overlay / D).ok()
    check_finalized(scene, daemon, lowers, overlay / D, before)
    assert daemon.stop() == 0
    overlay.remount()
    assert_same(before, snapshot(overlay / D))


def test_odd_paths(scene):
    """Colons, commas, backslashes, spaces and quotes in the paths of the overlay itself."""
    odd = os.path.join(scene.dir, "a:b,c\\d e'f\"g#h")
    os.mkdir(odd)
    odd_source = os.path.join(odd, "source")
    odd_entries(os.path.join(odd_source, D))
    lower = scene.keep(CountingLower(odd_source, os.path.join(odd, "lower"), os.path.join(scene.dir, "odd-ctl")))
    upper = scene.keep(Upper(odd))
    overlay = scene.overlay(lower, upper=upper)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    check_finalized(scene, daemon, [lower], overlay / D, before)
    layers = daemon.properties(next(p for _, p in daemon.manager().ListOverlays()), "org.ovlfind1.Overlay")
    assert [str(p) for p in layers["LowerDirs"]] == [lower.point]
    assert layers["UpperDir"] == upper.upper


def test_names_that_are_not_utf8(scene):
    """The bus takes nothing but UTF-8; files do not care."""
    source = scene.source()
    name = b"caf\xe9-\xff"
    write(os.path.join(os.fsencode(source), D.encode(), name, b"f\xfcle"), b"content")
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / D))
    assert scene.absent_lookups(lower, directories_below(overlay / D), 10).enoent == 0
    assert daemon.ctl("directories").code == 0
    assert daemon.ctl("directories", "--json=short").json
    assert daemon.is_running()


@pytest.mark.alone
def test_long_path(scene):
    """Longer than what the kernel writes into a redirect by itself (256 bytes): the limit is raised meanwhile."""
    source = scene.source()
    deep = os.path.join(D, *(["directory-with-a-rather-long-name"] * 12))
    write(os.path.join(source, deep, "file"))
    write(os.path.join(source, D, "shallow", "file"))
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    check_finalized(scene, daemon, [lower], overlay / D, before)
    assert redirect_max() == 256  # a machine-wide setting is not left changed


@pytest.mark.alone
def test_killed_while_the_limit_is_raised(scene):
    source = scene.source()
    write(os.path.join(source, D, *(["directory-with-a-rather-long-name"] * 12), "file"))
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=overlay)
    daemon.use_killer()
    daemon.restart()
    before = snapshot(overlay / D)
    daemon.arm(1, call="linkat", parent=True)
    daemon.ctl("finalize", overlay / D)
    assert daemon.struck() and redirect_max() == 4096
    daemon.process.wait(100)
    daemon.start()
    wait_for(lambda: redirect_max() == 256, "redirect_max to be set back")
    daemon.ctl("finalize", overlay / D).ok()
    assert_same(before, snapshot(overlay / D), ignore={"nlink"})
    assert redirect_max() == 256


def test_immutable_entry(scene):
    upper = scene.upper("ext4-512")  # just a file system that knows the flag
    source = os.path.join(upper.point, "source")
    release(os.path.join(source, D))
    frozen = os.path.join(source, D, "lib", "libpart0.so.1.0")
    run("chattr", "+i", frozen)
    try:
        overlay = scene.overlay(source)
        daemon = scene.daemon(soft=overlay)
        before = snapshot(overlay / D)
        daemon.ctl("finalize", overlay / D)
        lib = entries(daemon)[overlay / f"{D}/lib"]
        assert lib["state"] == "excluded" and "immutable" in lib["reason"]
        assert_same(before, snapshot(overlay / D))
        wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "staging to be cleaned up")
    finally:
        run("chattr", "-i", frozen)


def test_children_first(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / D)
    for path in (f"{D}/lib/python3", f"{D}/lib", D, "software"):
        daemon.ctl("finalize", overlay / path).ok()
        assert_same(before, snapshot(overlay / D))
        assert scene.absent_lookups(lower, directories_below(overlay / path), 10).enoent == 0


def test_child_of_an_unfinalized_parent_stays_finalized(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / f"{D}/lib/python3").ok()
    assert scene.absent_lookups(lower, overlay / f"{D}/lib", 10).enoent == 10
    assert scene.absent_lookups(lower, overlay / f"{D}/lib/python3", 10).enoent == 0


def test_local_directories(scene, lower):
    """A directory with no lower counterpart has nothing to gain."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    write(overlay / "software/local/sub/file")
    inode = os.lstat(overlay / "software/local").st_ino
    daemon.ctl("finalize", overlay / "software/local").ok()
    assert os.lstat(overlay / "software/local").st_ino == inode
    assert daemon.state_of(overlay / "software/local") == "local"


def test_symlinks_and_relative_paths(scene, lower):
    """PATH is resolved as the caller sees it."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    link = os.path.join(scene.dir, "link")
    os.symlink(overlay / "software", link)
    daemon.ctl("finalize", "prog/lib", cwd=link).ok()
    assert daemon.ctl("is-finalized", os.path.join(link, "prog", "lib")).code == 0
    assert scene.absent_lookups(lower, overlay / f"{D}/lib", 10).enoent == 0


def test_two_overlays(scene, source, lower):
    other_lower = scene.lower(source)
    first, second = scene.overlay(lower), scene.overlay(other_lower)
    daemon = scene.daemon(first=first, second=second)
    daemon.ctl("finalize", first / D, second / f"{D}/lib").ok()
    assert scene.absent_lookups(lower, first / D, 10).enoent == 0
    assert scene.absent_lookups(other_lower, second / D, 10).enoent == 10
    assert scene.absent_lookups(other_lower, second / f"{D}/lib", 10).enoent == 0
    names = {e["overlay"] for e in entries(daemon).values()}
    assert names == {"first", "second"}


def test_standing_wait(scene, lower):
    """Standing=wait: nothing happens to those who stand in the directory; it is done when they have left."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"Standing": "wait"}}))
    shell = scene.keep(Shell(overlay / f"{D}/lib"))
    job = daemon.finalize(overlay / D)
    wait_for(lambda: daemon.job(job)["State"] == "waiting", "the job to wait")
    assert shell.ask("pwd -P")[1].strip() == overlay / f"{D}/lib"
    shell.close()
    assert daemon.wait_job(job)["State"] == "done"
    assert scene.absent_lookups(lower, directories_below(overlay / D), 10).enoent == 0


def test_restart_while_somebody_stands_there(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"Finalize": KEEP}))
    shell = scene.keep(Shell(overlay / f"{D}/lib"))
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    daemon.restart()
    assert shell.ask("cat libpart0.so.1.0")[0] == 0
    assert daemon.ctl("is-finalized", overlay / D).code == 0
    shell.close()
    # From beside its directory the old tree goes to staging, where it ends.
    wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "the old tree to go")
    assert_same(before, snapshot(overlay / D))


def test_directory_of_a_user_with_something_finalized_in_it(scene, lower):
    """What was moved out of a finalized directory makes no finalized directory of the one it was moved to."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    os.mkdir(overlay / "software/mine")
    for name in ("libpart0.so.1.0", "python3"):
        os.rename(overlay / f"{D}/lib/{name}", overlay / f"software/mine/{name}")
    before = snapshot(overlay / "software")
    assert daemon.state_of(overlay / "software/mine") == "local"
    assert daemon.state_of(overlay / "software/mine/python3") == "finalized"
    daemon.ctl("unfinalize", overlay / "software").ok()
    assert_same(before, snapshot(overlay / "software"))
    assert daemon.state_of(overlay / D) != "finalized"
    assert daemon.stop() == 0
    overlay.remount()
    assert_same(before, snapshot(overlay / "software"))


def lose_records(daemon):
    assert daemon.stop() == 0
    shutil.rmtree(os.path.join(daemon.state, "records"))
    daemon.start()


def test_lost_record_below(scene, lower):
    """It is left as it is; the rest is done."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / "software")
    daemon.ctl("finalize", overlay / f"{D}/share/doc").ok()
    lose_records(daemon)
    daemon.ctl("finalize", overlay / f"{D}/lib").ok()
    daemon.ctl("unfinalize", overlay / "software").ok()
    assert daemon.ctl("is-finalized", overlay / f"{D}/share/doc").code == 0
    assert daemon.ctl("is-finalized", overlay / f"{D}/lib").code == 1
    assert daemon.ctl("unfinalize", overlay / f"{D}/share/doc").code == 1
    daemon.ctl("unfinalize", "--force", overlay / f"{D}/share/doc").ok()
    assert daemon.ctl("is-finalized", overlay / f"{D}/share/doc").code == 1
    assert_same(before, snapshot(overlay / "software"))


@pytest.mark.parametrize("target", ["software/moved", f"{D}/lib/moved"])
@pytest.mark.parametrize("name", ["libpart0.so.1.0", "python3"])
def test_lost_record_and_a_moved_entry(scene, lower, target, name):
    """Undone by force, its old name would come back and be the same inode: refused until it is moved back."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(overlay / "software")
    daemon.ctl("finalize", overlay / f"{D}/lib").ok()
    os.rename(overlay / f"{D}/lib/{name}", overlay / target)
    lose_records(daemon)
    changed = snapshot(overlay / "software")
    result = daemon.ctl("unfinalize", "--force", overlay / f"{D}/lib")
    assert result.code == 1 and overlay / target in result.err
    assert_same(changed, snapshot(overlay / "software"))
    os.rename(overlay / target, overlay / f"{D}/lib/{name}")
    daemon.ctl("unfinalize", "--force", overlay / f"{D}/lib").ok()
    assert daemon.ctl("is-finalized", overlay / f"{D}/lib").code == 1
    assert_same(before, snapshot(overlay / "software"), ignore={"mtime"})


@pytest.mark.first
@pytest.mark.parametrize("n, name", [(30, "d" * 200), (2100, "d")], ids=["long", "deep"])
def test_directories_that_no_path_reaches(scene, lower, n, name):
    """Deeper than PATH_MAX, as only relative names can make them."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    fd = os.open(overlay / "software", os.O_RDONLY)
    for _ in range(n):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    daemon.ctl("finalize", overlay / D).ok()
    daemon.restart()
    assert daemon.overlay_states()["soft"] == "active"
    assert daemon.ctl("is-finalized", overlay / D).code == 0
    daemon.ctl("unfinalize", overlay / "software").ok()
    assert daemon.ctl("is-finalized", overlay / D).code == 1


def test_unfinalize_while_somebody_stands_in_the_old_tree(scene, lower):
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"Finalize": KEEP}))
    shell = scene.keep(Shell(overlay / f"{D}/lib"))
    before = snapshot(overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    staging = os.listdir(overlay / ".ovlfind")
    for path in (D, f"{D}/lib"):
        result = daemon.ctl("unfinalize", overlay / path)
        assert result.code == 1 and "stand" in result.err and str(shell.process.pid) in result.err
    assert os.listdir(overlay / ".ovlfind") == staging
    assert daemon.ctl("is-finalized", overlay / D).code == 0
    shell.close()
    wait_for(lambda: not os.path.lexists(overlay / ".ovlfind"), "the old tree to go")
    daemon.ctl("unfinalize", overlay / D).ok()
    assert daemon.ctl("is-finalized", overlay / D).code == 1
    assert_same(before, snapshot(overlay / D))


def test_old_tree_that_nobody_looks_after(scene, lower):
    """Somebody removed .ovlfind: said at the next start, and left to people."""
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {"Finalize": KEEP}))
    scene.keep(Shell(overlay / f"{D}/lib"))
    daemon.ctl("finalize", overlay / D).ok()
    assert daemon.stop() == 0
    shutil.rmtree(overlay / ".ovlfind")
    stray = next(n for n in os.listdir(overlay / "software") if n.startswith(".ovlfind-old-"))
    daemon.start()
    assert os.path.isdir(overlay / f"software/{stray}/lib")
    assert any(stray in line and "remove it" in line for line in daemon.log().splitlines())


OLD_NS = 10**18  # long before any of the times that are compared


def look(top, set_times=False):
    """Access times of directories and files, without changing any by looking."""
    found = {}

    def visit(directory):
        fd = os.open(directory, os.O_RDONLY | os.O_NOATIME)
        try:
            entries = [(e.name, e.is_dir(follow_symlinks=False)) for e in os.scandir(fd)]
        finally:
            os.close(fd)
        for name, is_dir in entries:
            path = os.path.join(directory, name)
            if is_dir:
                visit(path)
            else:
                note(path)
        note(directory)

    def note(path):
        if set_times:
            os.utime(path, ns=(OLD_NS, OLD_NS + 1), follow_symlinks=False)
        found[os.path.relpath(path, top)] = os.lstat(path).st_atime_ns

    visit(top)
    return found


@pytest.mark.parametrize("method", ("exchange", "mark"))
def test_access_times(scene, source, method):
    """All that we do looks at directories; only what others do is access to them."""
    look(source, set_times=True)
    overlay = scene.overlay(source, upper="ext4-256")
    before = look(overlay / "software")
    assert set(before.values()) == {OLD_NS}
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", f"--method={method}", overlay / D).ok()
    assert look(overlay / "software") == before
    os.mkdir(os.path.join(source, D, "lib/new"))
    for verb in ("verify", "refresh", "unfinalize", "finalize"):
        daemon.ctl(verb, overlay / D)
        after = look(overlay / "software")
        assert {p: after[p] for p in before} == before, verb


def test_links_while_an_old_tree_is_kept(scene, source):
    """As the limits say: one more for each name in there."""
    overlay = scene.overlay(source)
    made = overlay / f"{D}/made"
    write(made)
    os.link(made, overlay / f"{D}/lib/another-name")
    os.link(made, overlay / "outside")
    daemon = scene.daemon(soft=(overlay, {"Finalize": KEEP}))
    shell = scene.keep(Shell(overlay / f"{D}/lib"))
    daemon.ctl("finalize", overlay / D).ok()
    assert os.stat(made).st_nlink == 3 + 2
    assert os.stat(overlay / f"{D}/lib/libpart0.so.1.0").st_nlink == 2
    shell.close()
    wait_for(lambda: os.stat(made).st_nlink == 3, "the old tree to go")
    assert os.stat(overlay / f"{D}/lib/libpart0.so.1.0").st_nlink == 1
