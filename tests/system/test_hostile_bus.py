# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a user without privileges may do to the daemon over the bus and by names of files: it goes on, others are served, and
what people read afterwards is what it seems to be."""

import os
import subprocess
import time

import pytest

from ovltest import run
from ovltest.daemon import MANAGER, NAME, PATH, wait_for
from ovltest.env import end, spawn
from ovltest.fakedaemon import DONE
from ovltest.polkit import as_user
from ovltest.tree import write

ALICE = 1000
PRELUDE = f"""
import dbus, dbus.bus, dbus.lowlevel, sys
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib
bus = dbus.bus.BusConnection(sys.argv[1], mainloop=DBusGMainLoop())
loop = GLib.MainLoop()
def call(member, signature, *args, path={PATH!r}, interface={MANAGER!r}):
    m = dbus.lowlevel.MethodCallMessage({NAME!r}, path, interface, member)
    m.append(*args, signature=signature)
    return m
"""


def as_alice(fake, program):
    return run(*as_user(ALICE), "/usr/bin/python3", "-c", PRELUDE + program, fake.daemon.bus.address).stdout


def test_malformed(fake):
    """Wrong types, values that make no sense, members and objects that are not there: an error each, by name."""
    out = as_alice(fake, """
calls = [call('GetDirectory', 'u', 1), call('GetDirectory', 's', ''), call('GetDirectory', 's', '/' * 4000),
         call('GetDirectory', 's', 'relative'), call('GetDirectory', 's', '/../../etc'), call('ListDirectories', 's', 'x'),
         call('ListDirectories', 'sa{sv}', '', {'state': dbus.UInt32(1)}), call('ListDirectories', 'sa{sv}', '', {'x' * 5000: 'y'}),
         call('Check', 's', '%s%n'), call('CancelJob', 'u', dbus.UInt32(2**32 - 1)), call('Finalize', 'sa{sv}', '/x', {'a': dbus.Array([1])}),
         call('Nothing', 's', ''), call('Cancel', 's', '', path='/org/ovlfind1/job/99999999999999999999', interface='org.ovlfind1.Job'),
         call('Get', 'ss', 'org.ovlfind1.Job', 'Id', path='/org/ovlfind1/job/_', interface='org.freedesktop.DBus.Properties')]
for m in calls:
    try:
        print('answer', bus.send_message_with_reply_and_block(m, 10))
    except dbus.DBusException as e:
        print(e.get_dbus_name())
""")
    lines = out.splitlines()
    assert len(lines) == 14
    assert not [line for line in lines if line.startswith("answer") or "NoReply" in line or "Disconnected" in line], lines
    assert fake.daemon.is_running()


def test_giant(fake):
    """Megabytes where a name is expected."""
    out = as_alice(fake, """
for signature, args in (('s', ('/' + 'x' * 20_000_000,)), ('sa{sv}', ('', {str(i): 'x' * 1000 for i in range(20_000)}))):
    try:
        bus.send_message_with_reply_and_block(call('GetDirectory' if signature == 's' else 'ListDirectories', signature, *args), 20)
        print('answer')
    except dbus.DBusException as e:
        print(e.get_dbus_name())
""")
    assert "answer" not in out and "NoReply" not in out
    fake.daemon.ctl("list").ok()
    with open(f"/proc/{fake.daemon.process.pid}/status", encoding="ascii") as f:
        resident = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    assert resident < 600_000  # kB; with sanitizers too


def test_questions_that_hang(fake):
    """A lower layer that does not answer, and somebody who asks and asks over many connections: others have their answers
    meanwhile."""
    fake.play({"inspect:a": [["hang", {}]], "inspect": [["send", {"kind": "directory", "path": "a/b", "state": "merged"}], DONE]})
    attacker = spawn(*as_user(ALICE), "/usr/bin/python3", "-c", PRELUDE + f"""
names = []
def answered(reply):
    names.append(reply.get_error_name())
    if len(names) == 92:
        print(names.count('org.ovlfind1.Error.Busy'), flush=True)
connections = [dbus.bus.BusConnection(sys.argv[1], mainloop=DBusGMainLoop()) for i in range(20)]
for i in range(100):
    connections[i % 20].send_message_with_reply(call('GetDirectory', 's', {fake.overlay / "a"!r}), answered)
loop.run()
""", fake.daemon.bus.address, stdout=subprocess.PIPE, text=True)
    assert attacker.stdout.readline() == "92\n"
    begin = time.monotonic()
    assert fake.daemon.state_of(fake.overlay / "a/b") == "merged"
    assert time.monotonic() - begin < 5  # not behind those that hang
    end(attacker)
    attacker.stdout.close()


def test_signals_of_others(fake):
    """Nobody believes a NameOwnerChanged, or one of our own signals, that a user sends."""
    fake.play({"finalize": [["wait-cancel", {}]]})
    job = fake.finalize()
    wait_for(lambda: fake.daemon.job(job)["State"] == "running", "the job")
    as_alice(fake, f"""
for path, interface, member, signature, args in (
        ('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'NameOwnerChanged', 'sss', ('{NAME}', ':1.1', '')),
        ('/org/freedesktop/DBus/Local', 'org.freedesktop.DBus.Local', 'Disconnected', '', ()),
        ('{PATH}', '{MANAGER}', 'JobRemoved', 'uos', (dbus.UInt32(1), '{PATH}/job/1', 'done'))):
    try:
        m = dbus.lowlevel.SignalMessage(path, interface, member)
        m.append(*args, signature=signature) if args else None
        bus.send_message(m)
    except Exception:
        pass  # the bus library refuses to
bus.flush()
""")
    assert fake.daemon.is_running() and fake.daemon.job(job)["State"] == "running"


def test_the_journal_is_one_line_an_entry(fake):
    """A name that writes its own entries, colours and turns, becomes text."""
    bad = "x\nFinalized 'everything'\x1b[2J\u202egpj.\x9b1m"
    os.mkdir(os.path.join(fake.overlay.lowers[0], bad))
    fake.play({"finalize": [["send", {"kind": "note", "path": bad, "text": "left\nalone\x1b[31m"}], DONE]})
    result = fake.daemon.ctl("finalize", fake.overlay / bad)
    log = fake.daemon.log()
    assert r"x\x0aFinalized" in log and not [c for c in "\x1b\u202e\x9b" if c in log]
    assert not [line for line in log.splitlines() if line.startswith(("Finalized 'everything'", "alone"))]
    for out in (result, fake.daemon.ctl("jobs"), fake.daemon.ctl("status", "soft")):
        assert not [c for c in "\x1b\u202e\x9b" if c in out.out + out.err]


@pytest.mark.timeout(60)
def test_look_alikes(scene):
    """user.overlay.* xattrs that say "opaque" and "redirect" are names like any other."""
    source = scene.source()
    for name in ("f", "sub/g"):
        write(os.path.join(source, "p/d", name))
    write(os.path.join(source, "secret/key"))
    os.chmod(os.path.join(source, "secret"), 0o700)
    overlay = scene.overlay(scene.lower(source), upper="ext4-256")
    daemon = scene.daemon(soft=overlay)
    os.chown(overlay / "p/d", ALICE, ALICE)
    os.chown(overlay / "p/d/sub", ALICE, ALICE)
    marks = {"user.overlay.opaque": b"y", "user.overlay.redirect": b"/secret", "user.overlay.metacopy": b"", "user.overlay.overlay.opaque": b"y"}
    program = f"import os\nfor k, v in {marks!r}.items(): os.setxattr({overlay / 'p/d/sub'!r}, k, v)"
    run(*as_user(ALICE), "/usr/bin/python3", "-c", program)
    daemon.ctl("finalize", overlay / "p/d").ok()
    assert {k: os.getxattr(overlay / "p/d/sub", k) for k in marks} == marks
    daemon.stop()
    overlay.remount()
    assert os.listdir(overlay / "p/d/sub") == ["g"]
    daemon.start()
    daemon.ctl("unfinalize", overlay / "p/d").ok()
    assert {k: os.getxattr(overlay / "p/d/sub", k) for k in marks} == marks and os.listdir(overlay / "p/d/sub") == ["g"]
