# SPDX-License-Identifier: LGPL-2.1-or-later
"""ovlfinctl blockers: who uses an overlay, in which way, and whether a swap would cut it apart."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys

import pytest

from ovltest.daemon import wait_for
from ovltest.env import end, run, spawn
from ovltest.holders import Shell
from ovltest.oldtree import await_gone, await_kept
from ovltest.overlay import OverlayMount
from ovltest.tree import age, write

D = "prog/lib"

# What a process does with the file or directory it is given, then it says so and waits for its end.
USES = {
    "write": "f = os.open(path, os.O_RDWR)",
    "append": "f = open(path, 'ab')",
    "read": "f = os.open(path, os.O_RDONLY)",
    "path": "f = os.open(path, os.O_PATH)",
    "directory": "f = os.open(path, os.O_RDONLY | os.O_DIRECTORY)",
    "flock": "f = open(path); fcntl.flock(f, fcntl.LOCK_EX)",
    "posix": "f = open(path); fcntl.lockf(f, fcntl.LOCK_SH, 1, 5)",
    "ofd": "f = open(path); fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))",
    "lease": "f = os.open(path, os.O_RDONLY); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    "stream": "s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()",
    "datagram": "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(path)",
    "relative socket": "os.chdir(os.path.dirname(path)); s = socket.socket(socket.AF_UNIX); s.bind(os.path.basename(path)); os.chdir('/')",
    "fifo": "os.mkfifo(path); f = os.open(path, os.O_RDONLY | os.O_NONBLOCK)",
    "inotify": "w = libc.inotify_init(); assert libc.inotify_add_watch(w, path.encode(), 2) > 0",
    "inotify of what is open": "f = os.open(path, os.O_RDONLY); w = libc.inotify_init(); libc.inotify_add_watch(w, path.encode(), 2)",
    "fanotify": "w = libc.fanotify_init(0, 0); assert libc.fanotify_mark(w, 1, ctypes.c_uint64(0x20), -100, path.encode()) == 0",
    "fanotify mount": "w = libc.fanotify_init(0, 0); assert libc.fanotify_mark(w, 0x11, ctypes.c_uint64(0x20), -100, path.encode()) == 0",
    "fanotify file system":
        "w = libc.fanotify_init(0, 0); assert libc.fanotify_mark(w, 0x101, ctypes.c_uint64(0x20), -100, path.encode()) == 0",
    "private map": "f = os.open(path, os.O_RDONLY); m = mmap.mmap(f, 0, prot=mmap.PROT_READ)",
    "shared map": "f = os.open(path, os.O_RDWR); m = mmap.mmap(f, 0)",
    "cwd": "os.chdir(path)",
    "cwd of a thread": "threading.Thread(target=lambda: (libc.unshare(0x200), os.chdir(path), done.wait()), daemon=True).start()",
    "root": "os.chroot(path)",
    "mount namespace": "assert libc.unshare(0x20000) == 0; assert libc.mount(None, b'/', None, 0x44000, None) == 0",
    "slave namespace": "assert libc.unshare(0x20000) == 0; assert libc.mount(None, b'/', None, 0x84000, None) == 0",
    "stream in a namespace": "assert libc.unshare(0x40000000) == 0; s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()",
    "hostile command": "open('/proc/self/comm', 'wb').write(b'evil\\n9999\\x1b[2J'); f = os.open(path, os.O_RDONLY)",
    "a thousand files": "f = [os.open(f'{path}/{i}', os.O_RDWR | os.O_CREAT) for i in range(1000)]",
    "unlinked": "f = os.open(path, os.O_RDWR); os.unlink(path)",
}
PROGRAM = """import ctypes, fcntl, mmap, os, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True); done = threading.Event()
path = sys.argv[1]
{}
print('ready', flush=True); sys.stdin.read()
"""


class User:
    """A process that uses a path."""

    def __init__(self, use, path):
        self.process = spawn(sys.executable, "-c", PROGRAM.format(USES[use]), path, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, cwd="/")
        assert self.process.stdout.readline() == "ready\n", f"'{use}' of {path} does not work here"
        self.pid = self.process.pid

    def close(self):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()


class SharedMount:
    """A mount from which others spread to namespaces made of this one."""

    def __init__(self, point):
        self.point = point
        run("mount", "-t", "tmpfs", "shared", point)
        run("mount", "--make-shared", point)

    def close(self):
        run("umount", self.point)


@pytest.fixture
def source(scene):
    top = scene.source()
    for name in ("a", "b", "sub/c"):
        write(os.path.join(top, D, name), b"some text")
    write(os.path.join(top, "beside/file"))
    age(top)
    return top


def blockers(daemon, what="soft"):
    """Without processes of this machine that hang in a page fault of their own: those count as blocking."""
    found = daemon.ctl("blockers", what, "--json=short").ok().json["blockers"]
    return [b for b in found if b["kind"] != "mmap" or "path" in b]


def of(found, pid):
    return {(b["kind"], b["blocks"], b.get("path")) for b in found if b.get("pid") == pid}


# Use, of what, and what is told of it: kind, whether it blocks, path.
EXPECTED = [
    ("write", "a", {("open-write", True, "a")}),
    ("append", "a", {("open-write", True, "a")}),
    ("read", "a", {("open", False, "a")}),
    ("path", "a", {("open", False, "a")}),
    ("directory", "sub", {("open", False, "sub")}),
    ("flock", "a", {("open", False, "a"), ("lock", True, "a")}),
    ("posix", "a", {("open", False, "a"), ("lock", True, "a")}),
    ("ofd", "a", {("open", False, "a"), ("lock", True, "a")}),
    ("lease", "a", {("open", False, "a"), ("lock", True, "a")}),
    ("stream", "s", {("socket", True, "s")}),
    ("datagram", "s", {("socket", True, "s")}),
    ("relative socket", "s", {("socket", True, None)}),
    ("fifo", "p", {("fifo", True, "p")}),
    ("inotify", "a", {("watch", True, None)}),
    ("inotify of what is open", "a", {("open", False, "a"), ("watch", True, "a")}),
    ("fanotify", "a", {("watch", True, None)}),
    ("fanotify mount", "a", {("watch", True, "")}),
    ("fanotify file system", "a", {("watch", True, "")}),
    ("private map", "a", {("mmap", False, "a"), ("open", False, "a")}),
    ("shared map", "a", {("mmap", True, "a"), ("open-write", True, "a")}),
    ("cwd", "sub", {("cwd", False, "sub")}),
    ("cwd of a thread", "sub", {("cwd", False, "sub")}),
    ("root", "sub", {("root", False, "sub")}),
    ("unlinked", "a", {("open-write", True, "a (deleted)")}),
]


def full_path(overlay, path):
    """None is unknown, "" the overlay itself."""
    return overlay / f"{D}/{path}" if path else path if path is None else overlay.point


@pytest.mark.parametrize("use,name,expected", EXPECTED, ids=[e[0] for e in EXPECTED])
def test_kinds(daemon, overlay, use, name, expected):
    assert blockers(daemon) == []
    with contextlib.closing(User(use, overlay / f"{D}/{name}")) as user:
        found = blockers(daemon)
        assert of(found, user.pid) == {(kind, blocks, full_path(overlay, path)) for kind, blocks, path in expected}
        assert {(b["pid"], b["command"]) for b in found} == {(user.pid, "python3")}
    assert blockers(daemon) == []


def test_accepted_connections_do_not_count(daemon, overlay):
    """They have the name of their listener, but nobody will look for them by it."""
    with contextlib.closing(User("stream", overlay / "s")) as user, socket.socket(socket.AF_UNIX) as client:
        client.connect(overlay / "s")
        assert of(blockers(daemon), user.pid) == {("socket", True, overlay / "s")}
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(overlay / "t")
        listener.listen()
        client.connect(overlay / "t")
        accepted, _ = listener.accept()
        listener.close()
        with accepted:
            assert blockers(daemon) == []


def test_held_by_nobody(daemon, overlay):
    """A descriptor on its way from one process to another keeps lock and socket."""
    a, b = socket.socketpair()
    with a, b:
        with socket.socket(socket.AF_UNIX) as listener, open(overlay / f"{D}/a", "rb") as f:
            listener.bind(overlay / "s")
            fcntl.flock(f, fcntl.LOCK_EX)
            socket.send_fds(a, [b"x"], [listener.fileno(), f.fileno()])
        found = blockers(daemon)
        assert sorted((b["kind"], b["blocks"], b.get("path")) for b in found) == [("lock", True, None), ("socket", True, None)]
    assert blockers(daemon) == []


def test_socket_in_another_network_namespace(daemon, overlay, scene):
    with contextlib.closing(User("stream in a namespace", overlay / "s")) as user:
        assert of(blockers(daemon), user.pid) == {("socket", True, overlay / "s")}


def test_another_overlay_is_not_meant(scene, daemon, overlay, source):
    other = scene.overlay(source)
    with contextlib.closing(User("flock", other / f"{D}/a")), contextlib.closing(User("inotify", other / f"{D}/a")), \
            contextlib.closing(User("cwd", other / D)), contextlib.closing(User("stream", other / "s")):
        assert blockers(daemon) == []


def test_mount_inside_and_bind(daemon, overlay, scene):
    """What is mounted inside moves along; a bind mount keeps the old superblock. Files on the former are not ours."""
    elsewhere = scene.subdir("bind")
    run("mount", "-t", "tmpfs", "inside", overlay / "prog/lib/sub")
    run("mount", "--bind", overlay / "prog", elsewhere)
    try:
        with contextlib.closing(User("cwd", overlay / "prog/lib/sub")), contextlib.closing(User("write", f"{elsewhere}/lib/a")) as user:
            found = blockers(daemon)
        assert [(b.get("pid"), b["blocks"], b["path"], b["mount_point"]) for b in found if b["kind"] == "mount"] == [
            (None, True, overlay / "prog", elsewhere), (None, False, overlay / "prog/lib/sub", overlay / "prog/lib/sub")]
        assert [(b["kind"], b["path"]) for b in found if b.get("pid") == user.pid] == [("open-write", overlay / "prog/lib/a")]
        assert len(found) == 3
        assert f"{overlay / 'prog'} (mounted at {elsewhere})" in daemon.ctl("blockers", "soft").ok().out
    finally:
        run("umount", elsewhere)
        run("umount", overlay / "prog/lib/sub")
    assert blockers(daemon) == []


@pytest.mark.parametrize("use,blocks", [("mount namespace", True), ("slave namespace", False)])
def test_other_mount_namespace(scene, source, use, blocks):
    """A namespace of its own keeps the old superblock, unless mounts spread to it: then a swap reaches it, too."""
    shared = scene.keep(SharedMount(scene.subdir("shared"))).point
    overlay = scene.keep(OverlayMount(os.path.join(shared, "ovl"), [source], scene.upper()))
    daemon = scene.daemon(soft=overlay)
    with contextlib.closing(User(use, overlay.point)) as user:
        found = [(b["pid"], b["kind"], b["blocks"], b["path"], b["mount_point"]) for b in blockers(daemon)]
        assert found == ([(user.pid, "mount", True, overlay.point, overlay.point)] if blocks else [])
    assert blockers(daemon) == []


def test_path(daemon, overlay):
    """Only what is below it, or in its own old tree, not in that of its neighbour."""
    with contextlib.ExitStack() as stack:
        shells = {name: stack.enter_context(contextlib.closing(Shell(overlay / name))) for name in ("prog/lib", "beside")}
        reader = stack.enter_context(contextlib.closing(User("read", overlay / "prog/lib/sub/c")))
        for n, name in enumerate(shells, 1):
            daemon.ctl("finalize", "--standing=keep", overlay / name).ok()
            await_kept(daemon, n)
        found = blockers(daemon, overlay / "prog/lib")
        pid = shells["prog/lib"].process.pid
        assert {b["pid"] for b in found} == {pid, reader.pid}
        assert [(b["kind"], b["blocks"], b["path"].startswith(overlay / "prog/.ovlfind-old-")) for b in found if b["pid"] == pid] == [
            ("cwd", False, True)]
        assert {b["pid"] for b in blockers(daemon, overlay / "beside")} == {shells["beside"].process.pid}
        assert {b["pid"] for b in blockers(daemon)} == {reader.pid, *(s.process.pid for s in shells.values())}
    await_gone(overlay, daemon)
    assert blockers(daemon, overlay / "prog/lib") == []


@pytest.mark.timeout(120)
def test_lower_hangs(daemon, overlay, lower):
    """No layer is asked: neither files that are open, nor processes that hang themselves, hold it up."""
    users = [User(use, overlay / f"{D}/{name}") for use, name in
             (("read", "a"), ("flock", "b"), ("cwd", "sub"), ("private map", "a"), ("inotify", "a"))]
    with contextlib.ExitStack() as stack:
        for user in users:
            stack.enter_context(contextlib.closing(user))
        stack.callback(lower.recover)
        lower.hang()
        hanging = spawn("cat", overlay / "beside/file", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(end, hanging)
        wait_for(lower.is_held, "a process that hangs itself")
        found = blockers(daemon)
        assert lower.is_held()
        assert [{kind for kind, _, _ in of(found, user.pid)} for user in users] == [
            {"open"}, {"open", "lock"}, {"cwd"}, {"open", "mmap"}, {"watch"}]
        lower.recover()


HOSTILE = "x\n9999 root\x1b[2J\u202eoverlay \\ y"


def test_hostile_names(daemon, overlay):
    """Names of files and processes are text of somebody else: a line of the table stays a line."""
    write(overlay / HOSTILE)
    with contextlib.closing(User("hostile command", overlay / HOSTILE)) as user:
        out = daemon.ctl("blockers", "soft").ok().out
        lines = out.splitlines()
        assert len(lines) == 2 and lines[1].split()[0] == str(user.pid) and "\x1b" not in out and "\u202e" not in out
        assert lines[1].split()[1].startswith("evil?9999?[2J")
        (found,) = blockers(daemon)
        assert found["path"] == overlay / HOSTILE and "\n" not in found["command"]


def test_many(daemon, overlay):
    """A process with very many open files does not hide the others."""
    with contextlib.closing(User("a thousand files", overlay / "prog")) as many, contextlib.closing(User("flock", overlay / f"{D}/a")) as one:
        found = blockers(daemon)
        assert len(of(found, many.pid)) == 64 and ("lock", True, overlay / f"{D}/a") in of(found, one.pid)


def test_who_may_ask_and_errors(daemon, overlay):
    assert daemon.ctl("blockers", "soft", uid=65534).ok().out == "No blockers.\n"
    assert daemon.ctl("blockers").ok().out == "No blockers.\n"
    r = daemon.ctl("blockers", "nope")
    assert r.code == 4 and r.err == "ovlfinctl: cannot list blockers of 'nope': no overlay 'nope' is configured\n"
    assert daemon.ctl("blockers", "/").code == 4
    with contextlib.closing(User("flock", overlay / f"{D}/a")) as user:
        lines = daemon.ctl("blockers").ok().out.splitlines()
        assert lines[0].split() == ["PID", "COMMAND", "KIND", "BLOCKS", "PATH"]
        assert lines[1].split() == [str(user.pid), "python3", "lock", "yes", overlay / f"{D}/a"]
