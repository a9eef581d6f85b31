# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every member of the bus that changes something, found by looking at a running daemon: each is in the table of
daemon/api/bus-members.c, has an action of polkit, and is refused to a user without privileges."""

import json
import os
import re
import xml.etree.ElementTree as ET

import dbus
import pytest

from ovltest import ROOT
from ovltest.daemon import NAME, PATH, wait_for
from ovltest.env import run
from ovltest.fakedaemon import DONE, directory
from ovltest.polkit import Polkit, as_user

ALICE = 1000
JOB = "org.ovlfind1.Job"
LOG_CONTROL = ("/org/freedesktop/LogControl1", "org.freedesktop.LogControl1")
ENTRY = re.compile(r'^ +\{ (\w+), "(\w+)", BUS_ACTION_(\w+), \w+ \},$', re.M)
INTERFACES = {"MANAGER": "org.ovlfind1.Manager", "OVLFIND_JOB_INTERFACE": JOB, "LOG_CONTROL_INTERFACE": LOG_CONTROL[1]}
OPEN = ("ask", "look")  # actions that are open to all
LOOKS = re.compile(r"Get|List|Check$")  # what methods are called that change nothing; all others do
DENIED = "org.freedesktop.DBus.Error.AccessDenied"
INTERACTIVE = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
CALLS = """
import dbus.bus, dbus.lowlevel, json, sys
bus = dbus.bus.BusConnection(sys.argv[1])
for path, interface, member, signature, arguments in json.loads(sys.argv[2]):
    m = dbus.lowlevel.MethodCallMessage(sys.argv[3], path, interface, member)
    m.append(*arguments, signature=signature) if signature else None
    try:
        bus.send_message_with_reply_and_block(m, 20)
        print("ok")
    except dbus.DBusException as e:
        print(e.get_dbus_name())
"""


def table():
    """{(interface, member): action}"""
    code = (ROOT / "daemon/api/bus-members.c").read_text()
    return {(INTERFACES[interface], name): action.lower() for interface, name, action in ENTRY.findall(code)}


def nodes(daemon, path="/"):
    """All objects, as they describe themselves."""
    o = daemon.connection().get_object(NAME, path, introspect=False)
    root = ET.fromstring(str(dbus.Interface(o, "org.freedesktop.DBus.Introspectable").Introspect()))
    yield path, root
    for child in root.findall("node"):
        yield from nodes(daemon, f"{path.rstrip('/')}/{child.get('name')}")


def members(daemon):
    """{(interface, member): (path, element)} of what is called or set, but for what sd-bus answers by itself."""
    found = {}
    for path, root in sorted(nodes(daemon), key=lambda node: node[0]):
        for interface in root.findall("interface"):
            if interface.get("name").startswith("org.freedesktop.DBus."):
                continue
            for m in interface:
                if m.tag == "method" or (m.tag == "property" and "write" in m.get("access")):
                    found.setdefault((interface.get("name"), m.get("name")), (path, m))
    return found


@pytest.fixture
def busy(fake):
    """A daemon at work: a job that runs, one that waits for it, and an overlay that a Reload would find."""
    fake.play({"finalize": [["wait-cancel", {}]], "inspect": [directory("a", "merged"), DONE]})
    _, fake.waiting = fake.finalize("a"), fake.finalize("a/b")
    wait_for(lambda: fake.asked("finalize"), "the job")
    fake.daemon.add_overlay("other", os.path.join(fake.dir, "nothing"))
    return fake


def call_of(fake, interface, name, path, element):
    """As CALLS wants it; what each would do if it were allowed shows in snapshot()."""
    if element.tag == "property":
        value = {"LogLevel": "notice", "LogTarget": "journal"}[name]
        return path, "org.freedesktop.DBus.Properties", "Set", "ssv", [interface, name, value]
    values = {"path": fake.overlay / f"a/{name}", "overlay": "soft", "id": int(fake.waiting.rpartition("/")[2]), "most": 5,
              "filter": {}, "options": {"Verify": {"repair": True}, "Remount": {"method": "reconfigure"}}.get(name, {})}
    given = [a for a in element.findall("arg") if a.get("direction", "in") == "in"]
    return path, interface, name, "".join(a.get("type") for a in given), [values[a.get("name")] for a in given]


def answers(fake, calls, *prefix):
    p = run(*prefix, "/usr/bin/python3", "-c", CALLS, fake.daemon.bus.address, json.dumps(calls), NAME)
    return p.stdout.split()


def snapshot(fake):
    """All that the daemon shows, and what it has asked workers to do."""
    manager = dbus.Interface(fake.daemon.connection().get_object(NAME, PATH, introspect=False), "org.freedesktop.DBus.ObjectManager")
    return manager.GetManagedObjects(), fake.daemon.properties(*LOG_CONTROL), [(r["VERB"], r["PATH"]) for r in fake.asked()]


def test_every_member_is_in_the_table(busy):
    known = table()
    found = members(busy.daemon)
    assert {key: bool(LOOKS.match(key[1])) for key in found} == {key: action in OPEN for key, action in known.items()}
    policy = {a.get("id") for a in ET.parse(ROOT / "dbus/org.ovlfind1.policy").getroot().iter("action")}
    assert {f"org.ovlfind1.{action}" for action in known.values() if action not in OPEN} == policy


def test_no_way_around_the_table():
    """What declares members with handlers of its own does not go by it."""
    around = re.compile(r"\bSD_BUS_(METHOD|WRITABLE_PROPERTY)")
    found = {f.name for f in (ROOT / "daemon").rglob("*.[ch]") if around.search(f.read_text(encoding="utf-8"))}
    assert found == {"bus-auth.h"}


@pytest.mark.parametrize("has_polkit", [False, True])
def test_users_may_look_and_change_nothing(scene, busy, has_polkit):
    if has_polkit:
        scene.keep(Polkit(scene.subdir("polkit"), scene.bus))
    calls = {key: call_of(busy, *key, *where) for key, where in members(busy.daemon).items()}
    changing = {key: call for key, call in calls.items() if not LOOKS.match(key[1])}
    assert len(changing) > 12
    before = snapshot(busy)
    refused = dict(zip(changing, answers(busy, list(changing.values()), *as_user(ALICE))))
    assert refused == dict.fromkeys(changing, INTERACTIVE if has_polkit else DENIED)
    assert snapshot(busy) == before
    looking = {key: call for key, call in calls.items() if key not in changing}
    looking.update({path: (path, "org.freedesktop.DBus.Properties", "GetAll", "s", [i.get("name")])
                    for path, root in nodes(busy.daemon) for i in root.findall("interface") if i.find("property") is not None})
    seen = dict(zip(looking, answers(busy, list(looking.values()), *as_user(ALICE))))
    assert seen == dict.fromkeys(looking, "ok")
    # It was not for a mistake in the calls.
    assert dict(zip(changing, answers(busy, list(changing.values())))) == dict.fromkeys(changing, "ok")
    assert snapshot(busy) != before
