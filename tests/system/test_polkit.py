# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may change something: a real user without privileges, the real polkitd with our policy, and neither."""

import os
import pty
import re
import xml.etree.ElementTree as ET

import dbus
import dbus.bus
import pytest

from ovltest import ROOT, PrivateBus
from ovltest.ctl import EXIT_DENIED, EXIT_OK, ctl_environment
from ovltest.daemon import NAME, PATH, wait_for
from ovltest.env import binary, end, run, spawn
from ovltest.fakedaemon import DONE, directory
from ovltest.polkit import AskedUser, Polkit, as_user

ALICE, BOB = 1000, 1001
POLICY = ROOT / "dbus" / "org.ovlfind1.policy"
ALLOW_ALICE = """
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.ovlfind1.") == 0 && subject.user == "%s")
        return polkit.Result.YES;
});
"""
BY_DETAILS = """
polkit.addRule(function(action, subject) {
    if (action.id == "org.ovlfind1.finalize" && action.lookup("overlay") == "soft" && action.lookup("path").indexOf("%s") == 0)
        return polkit.Result.YES;
});
"""
CHANGES = (["unfinalize"], ["finalize"], ["cancel", "77"], ["pause"], ["resume", "soft"], ["remount", "--method=reconfigure", "soft"], ["reload"], ["log-level", "info"])


@pytest.fixture(scope="module", autouse=True)
def users(world):
    """Rules go by names of users, so alice needs one: in an /etc/passwd of this test's own."""
    passwd = os.path.join(world, "passwd")
    with open("/etc/passwd", encoding="utf-8") as f:
        lines = [line for line in f if line.split(":")[2] not in (str(ALICE), str(BOB))]
    with open(passwd, "w", encoding="utf-8") as f:
        f.writelines([*lines, f"alice:x:{ALICE}:{ALICE}::/:/bin/sh\n", f"bob:x:{BOB}:{BOB}::/:/bin/sh\n"])
    run("mount", "--bind", passwd, "/etc/passwd")
    yield
    run("umount", "/etc/passwd")


def polkit(scene, rules=""):
    return scene.keep(Polkit(scene.subdir("polkit"), scene.bus, rules))


def arguments(change, fake):
    return [*change, fake.overlay / "a"] if change[0].endswith("finalize") else change


def test_without_polkit_only_root(fake):
    for change in CHANGES:
        result = fake.daemon.ctl(*arguments(change, fake), uid=ALICE)
        assert result.code == EXIT_DENIED and "sudo" in result.err, change
    assert fake.daemon.ctl("finalize", fake.overlay / "a").code == EXIT_OK
    assert not fake.asked("unfinalize")


def test_everybody_may_look(scene, fake):
    polkit(scene)
    fake.play({"inspect": [directory("a", "merged"), DONE],
               "check": [["send", {"kind": "check", "name": "x", "state": "ok", "text": "well"}], DONE]})
    for verb in (["status"], ["status", fake.overlay / "a"], ["list"], ["jobs"], ["directories"], ["top", "--batch", "--iterations=1"],
                 ["metrics"], ["blockers", "soft"], ["log-level"], ["check", "soft"]):
        seen = fake.daemon.ctl(*verb, uid=ALICE).ok()
        assert (seen.out, seen.err) == ((root := fake.daemon.ctl(*verb)).out, root.err) and not seen.err, verb


def test_nobody_may_change_by_default(scene, fake):
    polkit(scene)
    for change in CHANGES:
        result = fake.daemon.ctl(*arguments(change, fake), uid=ALICE)
        assert result.code == EXIT_DENIED and "sudo" in result.err, (change, result)
    assert not fake.asked("finalize") and not fake.asked("unfinalize")
    assert fake.daemon.ctl("unfinalize", fake.overlay / "a").code == EXIT_OK


def test_a_rule_for_a_user(scene, fake):
    polkit(scene, ALLOW_ALICE % "alice")
    fake.daemon.ctl("finalize", fake.overlay / "a", uid=ALICE).ok()
    fake.daemon.ctl("pause", "soft", uid=ALICE).ok()
    fake.daemon.ctl("log-level", "debug", uid=ALICE).ok()
    assert fake.daemon.ctl("finalize", fake.overlay / "a", uid=BOB).code == EXIT_DENIED


def test_a_rule_by_path(scene, fake):
    polkit(scene, BY_DETAILS % (fake.overlay / "a/b"))
    fake.daemon.ctl("finalize", fake.overlay / "a/b", uid=ALICE).ok()
    result = fake.daemon.ctl("finalize", fake.overlay / "a", uid=ALICE)
    assert result.code == EXIT_DENIED
    assert fake.daemon.ctl("unfinalize", fake.overlay / "a/b", uid=ALICE).code == EXIT_DENIED


def test_a_rule_by_the_path_of_a_job(scene, fake):
    """A job is cancelled as what it works on."""
    rule = BY_DETAILS.replace("org.ovlfind1.finalize", "org.ovlfind1.manage")
    polkit(scene, rule % (fake.overlay / "a/b"))
    fake.play({"finalize": [["wait-cancel", {}]]})
    mine, other = fake.finalize("a/b"), fake.finalize("a")
    number = {job: int(job.rpartition("/")[2]) for job in (mine, other)}
    assert fake.daemon.ctl("cancel", number[other], uid=ALICE).code == EXIT_DENIED
    fake.daemon.ctl("cancel", number[mine], uid=ALICE).ok()
    assert fake.daemon.wait_job(mine)["State"] == "canceled"
    p = run(*as_user(ALICE), "busctl", f"--address={scene.bus.address}", "call", NAME, other, "org.ovlfind1.Job", "Cancel",
            check=False)
    assert p.returncode != 0
    assert fake.daemon.job(other)["State"] != "canceled"


def test_a_password_is_asked_for(scene, fake):
    """The question names the directory and the overlay; the daemon answers others meanwhile."""
    p = polkit(scene)
    alice = scene.keep(AskedUser(p, ALICE, "finalize", fake.overlay / "a"))
    question = alice.said()
    assert question["action"] == "org.ovlfind1.finalize"
    assert question["message"] == f"Authentication is required to finalize '{fake.overlay / 'a'}' (overlay 'soft')"
    fake.daemon.ctl("finalize", fake.overlay / "a/b").ok()
    assert [r["PATH"] for r in fake.asked("finalize")] == ["a/b"]
    alice.answer(question)
    code, err = alice.ended()
    assert code == EXIT_OK, err
    assert [r["PATH"] for r in fake.asked("finalize")] == ["a/b", "a"]


@pytest.mark.parametrize("verb", ["finalize", "remount"])
def test_the_terminal_is_asked_on(scene, fake, verb):
    """Without a desktop, ovlfinctl has the question asked where it was typed, whatever job it is about."""
    polkit(scene)
    master, slave = pty.openpty()
    env = {**ctl_environment(scene.bus.address), "TERM": "xterm"}
    p = scene.keep(Closing(spawn("setsid", "-c", *as_user(ALICE), binary("ovlfinctl"), verb, fake.overlay / "a", env=env,
                                 stdin=slave, stdout=slave, stderr=slave)))
    os.close(slave)
    said = b""
    while b"Password" not in said:
        said += os.read(master, 4096)
    what = {"finalize": f"finalize '{fake.overlay / 'a'}' (overlay 'soft')", "remount": "remount overlay 'soft'"}[verb]
    assert f"Authentication is required to {what}".encode() in said
    p.close()
    os.close(master)
    assert not fake.asked(verb)


def test_a_question_that_is_dismissed(scene, fake):
    p = polkit(scene)
    alice = scene.keep(AskedUser(p, ALICE, "finalize", fake.overlay / "a"))
    alice.said()
    alice.dismiss()
    code, err = alice.ended()
    assert code == EXIT_DENIED and "sudo" in err
    assert not fake.asked("finalize")


def test_who_goes_is_not_asked_any_more(scene, fake):
    p = polkit(scene)
    alice = scene.keep(AskedUser(p, ALICE, "finalize", fake.overlay / "a"))
    question = alice.said()
    alice.program.kill()
    said = alice.said()
    assert said["event"] == "canceled" and said["cookie"] == question["cookie"]
    assert not fake.asked("finalize")
    fake.daemon.ctl("finalize", fake.overlay / "a").ok()


def test_a_flood_of_questions(scene, fake):
    """Who asks without waiting is told so, and nobody else has to wait for it."""
    polkit(scene)
    # An agent nobody looks at: every question stays open.
    program = f"""
import dbus, dbus.bus, dbus.lowlevel
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib
bus = dbus.bus.BusConnection({scene.bus.address!r}, mainloop=DBusGMainLoop())
loop, errors = GLib.MainLoop(), []
def answered(reply):
    errors.append(reply.get_error_name())
    if len(errors) == 100:
        loop.quit()
for i in range(100):
    m = dbus.lowlevel.MethodCallMessage({NAME!r}, {PATH!r}, 'org.ovlfind1.Manager', 'Finalize')
    m.append({fake.overlay / 'a'!r}, dbus.Dictionary({{}}, signature='sv'), signature='sa{{sv}}')
    bus.send_message_with_reply(m, answered)
loop.run()
print(sorted(set(errors)), errors.count('org.ovlfind1.Error.Busy'))
"""
    p = run(*as_user(ALICE), "/usr/bin/python3", "-c", program)
    assert re.match(r"\['org.freedesktop.DBus.Error.(AccessDenied|InteractiveAuth\w+)', 'org.ovlfind1.Error.Busy'\] ", p.stdout)
    assert not fake.asked("finalize")
    fake.daemon.ctl("finalize", fake.overlay / "a").ok()


def test_jobs_of_one_user(scene, fake):
    """One who may finalize cannot fill the queue of all."""
    polkit(scene, ALLOW_ALICE % "alice")
    fake.play({"finalize": [["wait-cancel", {}]]})
    program = f"""
import dbus, dbus.bus
bus = dbus.bus.BusConnection({scene.bus.address!r})
manager = dbus.Interface(bus.get_object({NAME!r}, {PATH!r}, introspect=False), 'org.ovlfind1.Manager')
try:
    for n in range(100):
        manager.Finalize({fake.overlay / 'a'!r} + str(n), dbus.Dictionary({{}}, signature='sv'))
except dbus.DBusException as e:
    print(n, e.get_dbus_name(), e.get_dbus_message())
"""
    said = run(*as_user(ALICE), "/usr/bin/python3", "-c", program).stdout
    assert said.startswith("64 org.ovlfind1.Error.Busy 64 jobs of yours") and "when some of them are done" in said
    fake.daemon.ctl("finalize", "--no-block", fake.overlay / "a").ok()
    fake.daemon.ctl("cancel", "1", uid=ALICE).ok()
    wait_for(lambda: fake.daemon.ctl("finalize", "--no-block", fake.overlay / "a", uid=ALICE).code == 0, "room for alice")


def test_policy_of_the_bus(scene):
    """What is installed for the bus: everybody reaches our interfaces, and only root may be us."""
    policies = [p for f in ("/usr/share/dbus-1/system.conf", ROOT / "dbus" / "org.ovlfind1.conf")
                for p in ET.parse(f).getroot().iter("policy")]
    bus = scene.keep(PrivateBus(scene.subdir("bus"), "".join(ET.tostring(p, "unicode") for p in policies)))
    busctl = ["busctl", f"--address={bus.address}"]
    p = run(*as_user(ALICE), *busctl, "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName", "su", NAME, "0",
            check=False)
    assert p.returncode != 0 and "denied" in p.stderr.lower() + p.stdout.lower()
    owner = scene.keep(NameOwner(bus))
    for interface, ok in (("org.ovlfind1.Manager", True), ("org.freedesktop.DBus.Properties", True), ("org.example.Other", False)):
        p = run(*as_user(ALICE), *busctl, "--timeout=2", "call", NAME, PATH, interface, "Nothing", check=False)
        assert ("Access denied" not in p.stderr and "not allowed" not in p.stderr) == ok, (interface, p.stderr)
    assert owner


class Closing:
    def __init__(self, process):
        self.process = process

    def close(self):
        end(self.process)


class NameOwner:
    """Somebody with our name who answers nothing."""

    def __init__(self, bus):
        self.connection = dbus.bus.BusConnection(bus.address)
        self.connection.request_name(NAME)

    def close(self):
        self.connection.close()


def test_policy_and_code_know_the_same_actions():
    code = (ROOT / "daemon" / "api" / "bus-auth.c").read_text()
    listed = {a.get("id") for a in ET.parse(POLICY).getroot().iter("action")}
    assert listed == set(re.findall(r'"(org\.ovlfind1\.[a-z]+)"', code))


def test_polkit_dies_over_a_question(scene, fake):
    p = polkit(scene)
    alice = scene.keep(AskedUser(p, ALICE, "finalize", fake.overlay / "a"))
    alice.said()
    end(p.process)
    code, err = alice.ended()
    assert code == EXIT_DENIED, err
    assert not fake.asked("finalize")
    fake.daemon.ctl("finalize", fake.overlay / "a").ok()


def test_the_daemon_ends_while_somebody_is_asked(scene, fake):
    p = polkit(scene)
    alice = scene.keep(AskedUser(p, ALICE, "finalize", fake.overlay / "a"))
    alice.said()
    assert fake.daemon.stop() == 0
    code, _ = alice.ended()
    assert code != EXIT_OK
