# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon whose workers touch no file and follow a script (fakeworker.py), and what it says on the bus."""

import json
import os
import subprocess
import time

import dbus
import pytest

from .daemon import PATH, wait_for
from .env import ROOT, end, spawn

FAKE = ROOT / "tests" / "lib" / "ovltest" / "fakeworker.py"
DONE = ["send", {"kind": "result", "name": "None", "done": 3, "total": 3}]
JOB = "org.ovlfind1.Job"
OVERLAY = "org.ovlfind1.Overlay"
MANAGER = "org.ovlfind1.Manager"
PROPERTIES = "org.freedesktop.DBus.Properties"


def directory(path, state, **fields):
    return ["send", {"kind": "directory", "path": path, "state": state, **fields}]


def failure(kind, text, error=5):
    return ["send", {"kind": "result", "name": kind, "text": text, "error": error}]


class Recorder:
    """What the bus carries, as busctl shows it."""

    def __init__(self, address, path):
        self.address, self.path = address, path
        with open(path, "wb") as out:
            self.process = spawn("busctl", f"--address={address}", "--json=short", "monitor", stdout=out,
                                 stderr=subprocess.DEVNULL)
        wait_for(self.probe, "busctl to listen")

    def probe(self):
        subprocess.run(["busctl", f"--address={self.address}", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus",
                        "GetId"], stdout=subprocess.DEVNULL, check=True)
        return os.path.getsize(self.path) > 0

    def catch_up(self):
        """Waits until all is recorded that the bus has carried by now."""
        word = f"ovltest.sync{time.monotonic_ns()}"
        subprocess.run(["busctl", f"--address={self.address}", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus",
                        "NameHasOwner", "s", word], stdout=subprocess.DEVNULL, check=True)
        wait_for(lambda: word in open(self.path, encoding="utf-8").read(), "what was said on the bus")

    def signals(self, member, object_path=None):
        """Arguments of all signals with this name so far, in order."""
        found = []
        with open(self.path, encoding="utf-8") as f:
            for line in f:
                if not line.endswith("\n"):
                    break
                m = json.loads(line)
                if m.get("type") == "signal" and m.get("member") == member and object_path in (None, m["path"]):
                    found.append(m["payload"]["data"])
        return found

    def order(self, *members):
        """The members of the signals and the replies that are of interest, in order."""
        with open(self.path, encoding="utf-8") as f:
            messages = [json.loads(line) for line in f if line.endswith("\n")]
        return [m["member"] for m in messages if m.get("member") in members and m["type"] == "signal"]

    def close(self):
        end(self.process)


class Fake:
    """A daemon with one overlay, whose workers follow a script."""

    def __init__(self, scene, start=True):
        self.scene = scene
        lower = scene.source()
        os.makedirs(os.path.join(lower, "a", "b"))
        self.overlay = scene.overlay(lower)
        self.dir = scene.subdir("fake")
        self.log = os.path.join(self.dir, "log")
        self.script = os.path.join(self.dir, "script")
        self.env = {"OVLFIND_WORKER": str(FAKE), "OVLFIND_FAKE_SCRIPT": self.script, "OVLFIND_FAKE_LOG": self.log}
        self.play({})
        self.daemon = scene.daemon(start=False, soft=self.overlay)
        if start:
            self.start()

    def start(self, **kwargs):
        self.daemon.start(env=self.env, **kwargs)

    def play(self, script):
        with open(self.script + ".new", "w", encoding="utf-8") as f:
            json.dump(script, f)
        os.rename(self.script + ".new", self.script)

    def asked(self, verb=None):
        """What workers were asked so far."""
        if not os.path.exists(self.log):
            return []
        with open(self.log, encoding="utf-8") as f:
            requests = [json.loads(line) for line in f]
        return [r for r in requests if verb in (None, r["VERB"])]

    def file(self, name):
        return os.path.join(self.dir, name)

    def touch(self, name):
        with open(self.file(name), "w", encoding="utf-8"):
            pass

    def recorder(self):
        return self.scene.keep(Recorder(self.scene.bus.address, self.file("bus.json")))

    def settle(self):
        """Returns when the daemon has done all that it had to do by now: the answer of a worker comes after that."""
        self.daemon.manager().Check("soft")

    def finalize(self, path="a", **options):
        return self.daemon.finalize(self.overlay / path, **options)

    def overlay_properties(self, name="soft"):
        objects = dict(self.daemon.manager().ListOverlays())
        return self.daemon.properties(objects[name], OVERLAY)

    def manager_property(self, name):
        return self.daemon.properties(PATH, MANAGER)[name]


def error_of(call, *args):
    with pytest.raises(dbus.DBusException) as e:
        call(*args)
    return e.value.get_dbus_name(), e.value.get_dbus_message()
