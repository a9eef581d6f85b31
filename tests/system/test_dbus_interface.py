# SPDX-License-Identifier: LGPL-2.1-or-later
"""dbus/org.ovlfind1.xml is what the daemon really offers, and every member of it is documented."""

import os
import xml.etree.ElementTree as ET

import dbus
import pytest

from ovltest import ROOT
from ovltest.daemon import NAME, PATH
from ovltest.tree import release

XML = ROOT / "dbus" / "org.ovlfind1.xml"
OURS = "org.ovlfind1."
EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"


def annotation(member, name):
    return next((a.get("value") for a in member.findall("annotation") if a.get("name") == name), None)


def describe(member):
    """What makes two declarations of a member the same."""
    if member.tag == "property":
        return member.get("type"), member.get("access"), annotation(member, EMITS) or "true"
    return [(a.get("name"), a.get("type"), a.get("direction", "in" if member.tag == "method" else "out"))
            for a in member.findall("arg")]


def interfaces(root):
    """{interface: {(kind, member): description}} of our own interfaces in a node, however deep."""
    return {i.get("name"): {(m.tag, m.get("name")): describe(m) for m in i if m.tag in ("method", "signal", "property")}
            for i in root.iter("interface") if i.get("name", "").startswith(OURS)}


@pytest.fixture(scope="module")
def documented():
    return ET.parse(XML).getroot()


@pytest.fixture
def daemon(scene):
    source = scene.source()
    release(os.path.join(source, "prog"))
    overlay = scene.overlay(scene.lower(source))
    d = scene.daemon(soft=overlay)
    d.an_overlay = overlay
    return d


def introspect(daemon, path):
    o = daemon.connection().get_object(NAME, path, introspect=False)
    return ET.fromstring(str(dbus.Interface(o, "org.freedesktop.DBus.Introspectable").Introspect()))


def test_introspection_equals_the_document(daemon, documented):
    job = daemon.finalize(daemon.an_overlay / "prog", **{"dry-run": True})
    overlay = next(path for _, path in daemon.manager().ListOverlays())
    live = {}
    for path in (PATH, overlay, job):
        live.update(interfaces(introspect(daemon, path)))
    assert live == interfaces(documented)


def test_objects_are_found_by_walking(daemon):
    """Nodes are enumerated, so that busctl tree shows them."""
    children = {n.get("name") for n in introspect(daemon, PATH).findall("node")}
    assert {"overlay"} <= {c.split("/")[0] for c in children}


def test_object_manager(daemon):
    manager = daemon.connection().get_object(NAME, PATH, introspect=False)
    objects = dbus.Interface(manager, "org.freedesktop.DBus.ObjectManager").GetManagedObjects()
    overlay = next(path for _, path in daemon.manager().ListOverlays())
    assert objects[overlay]["org.ovlfind1.Overlay"]["Name"] == "soft"


def test_every_member_is_documented(documented):
    missing = [f"{i.get('name')}.{m.get('name')}" for i in documented.iter("interface") for m in i
               if m.tag in ("method", "signal", "property") and not any("doc" in c.tag and "".join(c.itertext()).strip() for c in m)]
    assert missing == []
