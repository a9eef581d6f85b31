# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real polkitd on the test's bus, with our policy and rules of the test's own, and an agent that a user would have."""

import json
import os
import shutil
import subprocess
import sys

import dbus
import dbus.bus

from .daemon import wait_for
from .env import ROOT, binary, end, mount, run, spawn

POLKITD = "/usr/lib/polkit-1/polkitd"
ACTIONS = "/usr/share/polkit-1/actions"
RULES = "/etc/polkit-1/rules.d"
NAME = "org.freedesktop.PolicyKit1"
MS_BIND = 4096

AGENT = """
import json, os, sys
import dbus, dbus.bus, dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

class Agent(dbus.service.Object):
    def say(self, **what):
        print(json.dumps(what), flush=True)

    @dbus.service.method('org.freedesktop.PolicyKit1.AuthenticationAgent', in_signature='sssa{ss}sa(sa{sv})',
                         async_callbacks=('done', 'failed'))
    def BeginAuthentication(self, action, message, icon, details, cookie, identities, done, failed):
        self.done = done
        self.say(event='question', action=action, message=message, details=details, cookie=cookie)

    @dbus.service.method('org.freedesktop.PolicyKit1.AuthenticationAgent', in_signature='s')
    def CancelAuthentication(self, cookie):
        self.say(event='canceled', cookie=cookie)
        self.done()

pid = int(sys.argv[2])
with open(f'/proc/{pid}/stat') as f:
    start = int(f.read().rpartition(')')[2].split()[19])
bus = dbus.bus.BusConnection(sys.argv[1], mainloop=DBusGMainLoop())
agent = Agent(bus, '/agent')
authority = dbus.Interface(bus.get_object('org.freedesktop.PolicyKit1', '/org/freedesktop/PolicyKit1/Authority'),
                           'org.freedesktop.PolicyKit1.Authority')
subject = ('unix-process', {'pid': dbus.UInt32(pid), 'start-time': dbus.UInt64(start), 'uid': dbus.Int32(os.getuid())})
authority.RegisterAuthenticationAgent(subject, 'C', '/agent')
agent.say(event='ready')
GLib.io_add_watch(sys.stdin, GLib.IO_IN, lambda *_: (sys.stdin.readline(), agent.done(), True)[2])
GLib.MainLoop().run()
"""


def as_user(uid):
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


class Polkit:
    """polkitd, until close(). rules: JavaScript as in polkit(8)."""

    def __init__(self, directory, bus, rules=""):
        self.bus = bus
        actions, self.rules = os.path.join(directory, "actions"), os.path.join(directory, "rules")
        shutil.copytree(ACTIONS, actions)
        shutil.copy(ROOT / "dbus" / "org.ovlfind1.policy", actions)
        os.mkdir(self.rules)
        with open(os.path.join(self.rules, "10-test.rules"), "w", encoding="utf-8") as f:
            f.write(rules)
        # The mount namespace is the test's own: nobody else sees these.
        self.mounted = []
        for source, target in ((actions, ACTIONS), (self.rules, RULES)):
            mount(source, target, None, MS_BIND, None)
            self.mounted.append(target)
        with open(os.path.join(directory, "log"), "wb") as log:
            self.process = spawn(POLKITD, env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address}, stdout=log, stderr=log)
        self.connection = dbus.bus.BusConnection(bus.address)
        wait_for(lambda: self.connection.name_has_owner(NAME), "polkitd")

    def authority(self):
        return dbus.Interface(self.connection.get_object(NAME, "/org/freedesktop/PolicyKit1/Authority"),
                              "org.freedesktop.PolicyKit1.Authority")

    def close(self):
        end(self.process)
        self.connection.close()
        for target in self.mounted:
            run("umount", target)


class AskedUser:
    """A user with an authentication agent, who runs one ovlfinctl."""

    def __init__(self, polkit, uid, *arguments):
        self.polkit, self.uid = polkit, uid
        env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": polkit.bus.address, "TERM": "dumb"}
        self.program = spawn(*as_user(uid), "sh", "-c", 'read go && exec "$@"', "sh", binary("ovlfinctl"), *arguments, env=env,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.agent = spawn(*as_user(uid), sys.executable, "-c", AGENT, polkit.bus.address, self.program.pid,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.said()["event"] == "ready"
        self.program.stdin.write("go\n")
        self.program.stdin.flush()

    def said(self):
        """The next that the agent was told."""
        return json.loads(self.agent.stdout.readline())

    def answer(self, question, identity=0):
        """As if the password of that user had been typed: only root may say so."""
        who = ("unix-user", {"uid": dbus.UInt32(identity)})
        self.polkit.authority().AuthenticationAgentResponse2(dbus.UInt32(self.uid), question["cookie"], who)
        self.dismiss()

    def dismiss(self):
        """The window with the question goes."""
        self.agent.stdin.write("\n")
        self.agent.stdin.flush()

    def ended(self):
        """Waits for ovlfinctl: (exit status, standard error)."""
        _, err = self.program.communicate(timeout=200)
        return self.program.returncode, err

    def close(self):
        for process in (self.program, self.agent):
            end(process)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
