# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inode flags (chattr) and projects of directories are what they were: after finalize, after unfinalize, and of what is made
in there from then on."""

import errno
import os

import pytest

from ovltest import run
from ovltest.daemon import wait_for
from ovltest.holders import Shell
from ovltest.tree import write
from ovltest.uppers import Upper

D = "d"
# Of directories, as lsattr shows them; what the kernel's own copy-up would take along of the lower comes first.
FLAGS = {"ext4-256": "ASDTdPcstu", "xfs": "ASdP", "btrfs": "ASDdcCm", "tmpfs": "Ad"}
PROJECT_UPPERS = ("ext4-project", "xfs")


def lsattr(path):
    """Project and flags; not how the file system stores it."""
    project, flags, _ = run("lsattr", "-dp", path).stdout.split(maxsplit=2)
    return project, "".join(sorted(set(flags) - set("-eIN")))


def tree(top):
    """Of directories, and of files that are no lower ones."""
    return {os.path.relpath(d, top): lsattr(d) for d, _, _ in os.walk(top)}


def chattr(*args):
    run("chattr", *map(str, args))


@pytest.fixture
def source(scene):
    top = os.path.join(scene.upper("ext4-256").point, "source")
    for name in ("f", "plain/f", "lower-flags/f", "lower-flags/below/f"):
        write(os.path.join(top, D, name))
    return top


def mount(scene, source, kind):
    return scene.overlay(source, upper=kind)


@pytest.mark.parametrize("kind", FLAGS)
def test_directories_keep_their_flags(scene, source, kind):
    flags = FLAGS[kind]
    chattr("+" + "".join(f for f in "AS" if f in flags), os.path.join(source, D, "lower-flags"))
    overlay = mount(scene, source, kind)
    for i, flag in enumerate(flags):
        os.makedirs(overlay / f"{D}/flag{i}/below")
        chattr(f"+{flag}", overlay / f"{D}/flag{i}")
    both = "".join(f for f in flags if f not in "cCm")
    for name in (D, f"{D}/plain"):
        os.utime(overlay / name, ns=(1, 1))  # to the upper: other flags than the lower's may be had there
        chattr(f"+{both}", overlay / name)
    daemon = scene.daemon(soft=overlay)
    before = tree(overlay / D)
    born = {}
    for directory in before:
        write(overlay / f"{D}/{directory}/first")
        born[directory] = lsattr(overlay / f"{D}/{directory}/first")
    assert len({flags for _, flags in before.values()}) > len(flags) // 2
    for verb, name in (("finalize", "second"), ("unfinalize", "third"), ("finalize", "fourth")):
        daemon.ctl(verb, overlay / D).ok()
        assert tree(overlay / D) == before, verb
        for directory, expected in born.items():
            write(overlay / f"{D}/{directory}/{name}")
            assert lsattr(overlay / f"{D}/{directory}/{name}") == expected, (verb, directory)
    daemon.stop()
    overlay.remount()
    assert tree(overlay / D) == before


def test_flags_of_the_lower_alone(scene, source):
    """They come along as in any copy-up: synchronous and no atime, nothing else."""
    chattr("+ASd", os.path.join(source, D, "lower-flags"))
    overlay = mount(scene, source, "ext4-256")
    by_hand = mount(scene, source, "ext4-256")
    os.utime(by_hand / f"{D}/lower-flags", ns=(1, 1))
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    assert lsattr(overlay / f"{D}/lower-flags") == lsattr(by_hand / f"{D}/lower-flags") == ("0", "AS")
    assert lsattr(overlay / f"{D}/lower-flags/below") == ("0", "")


@pytest.mark.parametrize("error", ["EOPNOTSUPP", "EPERM"])
def test_a_directory_that_cannot_have_them(scene, source, error):
    """It stays as it is, with the reason; what is beside it is done."""
    odd = f"{D}/errno-{getattr(errno, error)}"
    write(os.path.join(source, odd, "f"))
    overlay = mount(scene, source, "ext4-256")
    for name in (odd, f"{D}/plain"):
        os.utime(overlay / name, ns=(1, 1))
        chattr("+d", overlay / name)
    daemon = scene.daemon(killer=True, soft=overlay)
    before = tree(overlay / D)
    daemon.arm(1, call="setflags", error="name", always=True)
    daemon.ctl("finalize", overlay / D)
    assert daemon.struck()
    listed = {d["path"]: d for d in daemon.ctl("directories", "--json=short").ok().json["directories"]}
    assert listed[overlay / odd]["state"] == "excluded", listed
    assert "cannot have its inode flags and project" in listed[overlay / odd]["reason"]
    assert listed[overlay / f"{D}/plain"]["state"] == listed[overlay / D]["state"] == "finalized"
    assert tree(overlay / D) == before and not os.path.lexists(overlay / ".ovlfind")
    daemon.ctl("finalize", "--method=exchange", overlay / odd).ok()
    assert daemon.state_of(overlay / odd) == "finalized" and tree(overlay / D) == before


@pytest.mark.parametrize("flag", "ia")
@pytest.mark.parametrize("is_lower", (True, False), ids=("lower", "upper"))
def test_what_is_immutable_is_left_out(scene, source, flag, is_lower):
    overlay = mount(scene, source, "ext4-256")
    chattr(f"+{flag}", os.path.join(source, D, "plain") if is_lower else overlay / f"{D}/plain")
    overlay.remount()
    daemon = scene.daemon(soft=overlay)
    try:
        result = daemon.ctl("finalize", overlay / D)
        # A lower one cannot be copied up, so the one above it cannot be marked either.
        assert result.code == is_lower and "immutable or append-only" in result.err, result
        states = {p: daemon.ctl("is-finalized", overlay / f"{D}/{p}").code for p in ("plain", "lower-flags", "lower-flags/below")}
        assert states == {"plain": 1, "lower-flags": 0, "lower-flags/below": 0}
        assert lsattr(overlay / f"{D}/plain")[1] == flag
        assert not os.path.exists(overlay / ".ovlfind")
    finally:
        chattr(f"-{flag}", overlay / f"{D}/plain")
        chattr(f"-{flag}", os.path.join(source, D, "plain"))
    daemon.ctl("finalize", overlay / D).ok()
    assert daemon.ctl("is-finalized", overlay / f"{D}/plain").code == 0


def test_a_change_while_it_is_built(scene, source):
    """No event tells of one."""
    overlay = mount(scene, source, "ext4-256")
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.arm(1, call="renameat2", hold=True)
    job = daemon.finalize(overlay / D)
    daemon.held()
    chattr("+d", overlay / f"{D}/plain")
    daemon.release()
    daemon.wait_job(job)
    assert lsattr(overlay / f"{D}/plain") == ("0", "d")


class ProjectUpper(Upper):
    """One whose file system knows projects."""

    def __init__(self, directory, kind):
        super().__init__(directory, {"ext4-project": "tmpfs"}.get(kind, kind))
        if kind == "ext4-project":
            run("umount", self.point)
            with open(self.image, "wb") as f:
                f.truncate(320 << 20)
            run("mkfs.ext4", "-q", "-F", "-O", "project,quota", self.image)
            if run("mount", "-o", "loop", self.image, self.point, check=False).returncode != 0:
                run("mount", "-t", "tmpfs", "upper", self.point)
                pytest.skip("this kernel has no project quota on ext4")
            os.mkdir(self.upper)
            os.mkdir(self.work)


@pytest.mark.parametrize("kind", PROJECT_UPPERS)
def test_an_overlay_with_a_project(scene, source, kind):
    """As container engines give one to each: whatever is there, is made or copied up belongs to it."""
    upper = scene.keep(ProjectUpper(scene.subdir("up"), kind))
    for directory in (upper.upper, upper.work):
        chattr("-p", 5, directory)
        chattr("+P", directory)
    overlay = scene.overlay(source, upper=upper)
    os.makedirs(overlay / f"{D}/own/below")
    write(overlay / f"{D}/own/f")
    daemon = scene.daemon(soft=overlay)
    for verb in ("finalize", "unfinalize", "finalize"):
        daemon.ctl(verb, overlay / D).ok()
        assert set(tree(overlay / D).values()) == {("5", "P")}, verb
        write(overlay / f"{D}/plain/{verb}")
        assert lsattr(overlay / f"{D}/plain/{verb}") == ("5", "")
    write(os.path.join(source, D, "plain/f"), b"another content")
    write(os.path.join(source, D, "added"))
    write(os.path.join(source, D, "added-directory/f"))
    os.symlink("f", os.path.join(source, D, "added-link"))
    os.unlink(os.path.join(source, D, "f"))
    os.symlink("plain", os.path.join(source, D, "f"))
    daemon.ctl("refresh", overlay / D).ok()
    with open(overlay / f"{D}/plain/f", "rb") as f:
        assert f.read() == b"another content"
    assert os.readlink(overlay / f"{D}/f") == "plain"
    for name in ("plain/f", "added", "added-directory/f"):
        assert lsattr(overlay / f"{D}/{name}") == ("5", ""), name
    assert lsattr(overlay / f"{D}/added-directory") == ("5", "P")
    assert os.path.lexists(overlay / f"{D}/added-link")


@pytest.mark.parametrize("kind", PROJECT_UPPERS)
def test_what_is_made_in_an_old_tree(scene, source, kind):
    """It arrives where only what has the project may stand."""
    overlay = scene.overlay(source, upper=scene.keep(ProjectUpper(scene.subdir("up"), kind)))
    for directory in (overlay.upper.upper, overlay.upper.work):
        chattr("-p", 5, directory)
        chattr("+P", directory)
    overlay.remount()
    daemon = scene.daemon(soft=(overlay, {"Finalize": {"Standing": "keep"}}))
    shell = scene.keep(Shell(overlay / f"{D}/plain"))
    daemon.ctl("finalize", overlay / D).ok()
    shell.do("mkdir new && echo x >new/f && mv f g && echo y >h")
    for name in ("new/f", "g", "h"):
        wait_for(lambda name=name: os.path.exists(overlay / f"{D}/plain/{name}"), name)
    assert lsattr(overlay / f"{D}/plain/new")[0] == "5"
    assert lsattr(overlay / f"{D}/plain/new/f") == lsattr(overlay / f"{D}/plain/h") == ("5", "")


@pytest.mark.parametrize("kind", PROJECT_UPPERS)
def test_a_project_below(scene, source, kind):
    """Directories of users, with a project each, in a directory that has none; and files of another one in them, that were
    there first."""
    overlay = scene.overlay(source, upper=scene.keep(ProjectUpper(scene.subdir("up"), kind)))
    for number in (7, 8):
        own = overlay / f"{D}/own{number}"
        os.makedirs(os.path.join(own, "below"))
        write(os.path.join(own, "of-nobody"))
        write(os.path.join(own, "below/f"))
        chattr("-R", "-p", number, os.path.join(own, "below"))
        chattr("+P", os.path.join(own, "below"))
        chattr("-p", number, own)
        chattr("+P", own)
        write(os.path.join(own, "of-its-own"))
    daemon = scene.daemon(soft=overlay)
    before = tree(overlay / D)
    assert before["own7/below"] == ("7", "P")
    for verb in ("finalize", "unfinalize", "finalize"):
        daemon.ctl(verb, overlay / D).ok()
        assert tree(overlay / D) == before, verb
        assert lsattr(overlay / f"{D}/own7/of-nobody") == ("0", "")
        write(overlay / f"{D}/own7/below/{verb}")
        assert lsattr(overlay / f"{D}/own7/below/{verb}") == ("7", "")
        os.unlink(overlay / f"{D}/own8/of-nobody")
        write(overlay / f"{D}/own8/of-nobody")
    daemon.stop()
    overlay.remount()
    assert tree(overlay / D) == before


@pytest.mark.parametrize("kind", PROJECT_UPPERS)
def test_a_project_that_the_kernel_keeps_out(scene, source, kind):
    """What would be copied up has not the project of the directory: neither users nor we can do it there."""
    overlay = scene.overlay(source, upper=scene.keep(ProjectUpper(scene.subdir("up"), kind)))
    plain = overlay / f"{D}/plain"
    os.utime(plain, ns=(1, 1))
    chattr("-p", 7, plain)
    chattr("+P", plain)
    with pytest.raises(OSError, match="cross-device"):
        os.chown(os.path.join(plain, "f"), 1, 1)
    daemon = scene.daemon(soft=overlay)
    result = daemon.ctl("finalize", overlay / D)
    assert result.code == 0 and "hands on its project" in result.err, result
    assert daemon.ctl("is-finalized", overlay / f"{D}/lower-flags").code == 0
    assert daemon.ctl("is-finalized", plain).code == 1
    assert lsattr(plain) == ("7", "P")


@pytest.mark.parametrize("kind", PROJECT_UPPERS)
def test_a_directory_of_another_project_than_it_is_in(scene, source, kind):
    """It cannot be renamed, so not be exchanged."""
    upper = scene.keep(ProjectUpper(scene.subdir("up"), kind))
    overlay = scene.overlay(source, upper=upper)
    os.utime(overlay / D, ns=(1, 1))
    chattr("-p", 5, overlay.upper.upper)
    chattr("+P", overlay.upper.upper)
    overlay.remount()
    daemon = scene.daemon(soft=overlay)
    result = daemon.ctl("finalize", overlay / D)
    assert "cannot be renamed" in result.err, result
    assert daemon.ctl("is-finalized", overlay / D).code == 1
    chattr("-p", 5, overlay / D)
    daemon.ctl("finalize", overlay / D).ok()
    assert lsattr(overlay / D) == ("5", "")


def test_extent_sizes(scene, source):
    """What only xfs has."""
    overlay = mount(scene, source, "xfs")
    os.makedirs(overlay / f"{D}/own")
    own = overlay.upper_path(f"{D}/own")

    def ask(*commands):
        """On the upper: the program knows nothing of overlays."""
        return run("xfs_io", *(a for c in commands for a in ("-c", c)), own).stdout.split()[0::2]

    overlay.umount()
    ask("extsize 64k", "chattr +f")
    overlay.mount()
    before = ask("extsize", "lsattr -D")
    assert before[0] == "[65536]" and "f" in before[1] and "E" in before[1], before
    daemon = scene.daemon(soft=overlay)
    for verb in ("finalize", "unfinalize"):
        daemon.ctl(verb, overlay / D).ok()
        assert ask("extsize", "lsattr -D") == before


def test_flags_of_a_file_that_is_refreshed(scene, source):
    overlay = mount(scene, source, "btrfs")
    write(os.path.join(source, D, "f"), b"content")
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / D).ok()
    chattr("+dA", overlay / f"{D}/f")
    os.unlink(os.path.join(source, D, "f"))
    write(os.path.join(source, D, "f"), b"another content")
    daemon.ctl("refresh", overlay / D).ok()
    with open(overlay / f"{D}/f", "rb") as f:
        assert f.read() == b"another content"
    assert lsattr(overlay / f"{D}/f") == ("0", "Ad")
