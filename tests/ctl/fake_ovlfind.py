#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon for tests of ovlfinctl: speaks org.ovlfind1, touches no file. What a job does is said by the last component of
its path (see Job.start()). Usage: fake_ovlfind.py BUS-ADDRESS MOUNT-POINT; prints "ready" once it owns the name."""

import os
import sys
import time

import dbus
import dbus.bus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME = "org.ovlfind1"
PATH = "/org/ovlfind1"
MANAGER = "org.ovlfind1.Manager"
OVERLAY = "org.ovlfind1.Overlay"
JOB = "org.ovlfind1.Job"
ERROR = "org.ovlfind1.Error."
PROPERTIES = "org.freedesktop.DBus.Properties"
LOG_CONTROL = "org.freedesktop.LogControl1"

STEP_MSEC = 50
KNOWN_OPTIONS = {"dry-run", "force", "method"}


def usec():
    return dbus.UInt64(time.time() * 1e6)


class Failure(dbus.DBusException):
    def __init__(self, name, message):
        super().__init__(message)
        self._dbus_error_name = name


class Exported(dbus.service.Object):
    """An object with properties: {interface: {name: value}}."""

    def __init__(self, bus, path, properties):
        super().__init__(bus, path)
        self.properties = properties

    @dbus.service.method(PROPERTIES, "ss", "v")
    def Get(self, interface, name):
        return self.properties[interface][name]

    @dbus.service.method(PROPERTIES, "s", "a{sv}")
    def GetAll(self, interface):
        return self.properties[interface]

    @dbus.service.method(PROPERTIES, "ssv", "")
    def Set(self, interface, name, value):
        if (interface, name) == (LOG_CONTROL, "LogLevel") and value not in ("debug", "info", "notice"):
            raise Failure("org.freedesktop.DBus.Error.InvalidArgs", f"Invalid log level '{value}'")
        self.properties[interface][name] = value

    @dbus.service.signal(PROPERTIES, "sa{sv}as")
    def PropertiesChanged(self, interface, changed, invalidated):
        pass

    def change(self, interface, **values):
        self.properties[interface].update(values)
        self.PropertiesChanged(interface, values, [])


class Gone(dbus.service.Object):
    """What is listed, and gone by the time somebody looks."""

    @dbus.service.method(PROPERTIES, "s", "a{sv}")
    def GetAll(self, interface):
        raise Failure("org.freedesktop.DBus.Error.UnknownObject", "Unknown object.")


class Job(Exported):
    def __init__(self, manager, number, kind, path, options):
        self.manager, self.number, self.object_path = manager, number, f"{PATH}/job/{number}"
        super().__init__(manager.bus, self.object_path, {JOB: dbus.Dictionary({
            "Id": dbus.UInt32(number), "Type": kind, "Overlay": "soft", "Path": path, "State": "queued",
            "EntriesDone": dbus.UInt64(0), "EntriesTotal": dbus.UInt64(0), "BytesCopied": dbus.UInt64(0),
            "Errors": dbus.UInt32(0), "ErrorName": "", "ErrorMessage": "", "Reason": "", "NextTryUSec": dbus.UInt64(0), "Notes": dbus.Array([], "s"),
            "QueuedUSec": usec(), "StartedUSec": dbus.UInt64(0), "FinishedUSec": dbus.UInt64(0),
            "DryRun": bool(options.get("dry-run")), "Plan": dbus.Array([], "a{sv}")}, "sv")})
        self.path = path
        self.behaviour = os.path.basename(path)

    @property
    def own(self):
        return self.properties[JOB]

    def start(self):
        if self.own["State"] != "queued":  # canceled meanwhile
            return
        self.change(JOB, State="running", StartedUSec=usec(), EntriesTotal=dbus.UInt64(61))
        if self.own["DryRun"]:
            self.own["Plan"] = dbus.Array([dbus.Dictionary({
                "name": "build", "path": self.path, "text": "build the new tree through the merged path", "entries": dbus.UInt64(61), "inodes": dbus.UInt64(60),
                "bytes": dbus.UInt64(4096)}, "sv")], "a{sv}")
            self.finish("done")
        elif self.behaviour == "quick":
            self.work(61)
            self.finish("done")
        elif self.behaviour == "hang":
            self.work(1)
        elif self.behaviour in ("away", "away-for-long"):
            self.put_off(2 if self.behaviour == "away" else 10_000)
        elif self.behaviour == "crash":
            GLib.timeout_add(STEP_MSEC, sys.exit, 1)
        elif self.behaviour.startswith("fail-"):
            name = self.behaviour.removeprefix("fail-")
            full = "org.freedesktop.DBus.Error." + name if name in ("AccessDenied", "Failed") else ERROR + name
            self.finish("failed", full, f"{self.path}: it is {name}")
        else:
            GLib.timeout_add(STEP_MSEC, self.step)

    def work(self, done):
        self.change(JOB, EntriesDone=dbus.UInt64(done))

    def put_off(self, times):
        if times > 0:
            self.change(JOB, State="waiting", Reason="the lower layer is away", NextTryUSec=usec())
            GLib.timeout_add(STEP_MSEC, self.put_off, times - 1)
        else:
            self.change(JOB, State="running", Reason="", NextTryUSec=dbus.UInt64(0))
            self.finish("done")
        return False

    def step(self):
        if self.own["State"] == "canceled":
            return False
        done = min(61, int(self.own["EntriesDone"]) + 7)
        self.work(done)
        if done == 61:
            self.finish("done")
        return done < 61

    def finish(self, state, name="", message=""):
        if self.own["State"] in ("done", "failed", "canceled"):
            return
        if state == "done" and not self.own["DryRun"]:
            goal = "finalized" if self.own["Type"] == "finalize" else "merged"
            for path in (self.path, self.path + "/sub", os.path.dirname(self.path) + "/elsewhere"):
                self.manager.DirectoryChanged("soft", path, goal)
        took = 310_000 if self.own["StartedUSec"] else 0
        self.change(JOB, State=state, FinishedUSec=dbus.UInt64(self.own["StartedUSec"] + took), ErrorName=name, ErrorMessage=message)
        self.manager.JobRemoved(dbus.UInt32(self.number), self.object_path, state)

    @dbus.service.method(JOB, "", "")
    def Cancel(self):
        if self.path.endswith("/hang/stubborn"):
            return
        self.finish("canceled", ERROR + "Canceled", f"{self.path}: canceled by you")


class Manager(Exported):
    def __init__(self, bus, point, more):
        self.bus, self.point, self.jobs = bus, point, {}
        self.log = []
        super().__init__(bus, PATH, {MANAGER: dbus.Dictionary({
            "Version": "9.8.7", "Paused": False, "NOverlays": dbus.UInt32(2), "NJobs": dbus.UInt32(0),
            "NFinalized": dbus.UInt32(40)}, "sv")})
        self.overlays = {
            "soft": self.overlay("soft", point, "active", ""),
            "away": self.overlay("away", "/nonexistent/mount", "absent", "'/nonexistent/mount' is not mounted"),
            **{f"more{i}": self.overlay(f"more{i}", point, "active", "") for i, point in enumerate(more)},
        }

    def overlay(self, name, point, state, reason):
        return Exported(self.bus, f"{PATH}/overlay/{name}", {OVERLAY: dbus.Dictionary({
            "Name": name, "MountPoint": point, "State": state, "Reason": reason,
            "LowerDirs": dbus.Array(["/srv/one", "/srv/two\nlines"], "s"), "DataDirs": dbus.Array([], "s"),
            "UpperDir": "/upper", "WorkDir": "/work", "Options": r"lowerdir=/a\,b:/c,metacopy=on,upperdir=/u,workdir=/w,redirect_dir=on", "Scheme": "redirect",
            "Directories": dbus.Dictionary({"finalized": dbus.UInt32(40), "pending": dbus.UInt32(2)}, "su"),
            "Counters": dbus.Dictionary({k: dbus.UInt64(v) for k, v in (
                ("jobs_done", 7), ("job_usec", 1_500_000), ("searches", 5), ("misses", 100), ("saved", 900), ("misses_per_minute", 90),
                ("saved_per_minute", 600), ("counted_usec", 12 * 3600 * 1_000_000))}, "st"),
            "Sources": dbus.Array([{"name": "opens", "state": "on", "reason": ""}, {"name": "paths", "state": "off", "reason": ""},
                                   {"name": "misses", "state": "partly", "reason": "some\n"}], "a{sv}"),
            "LowerAnswers": dbus.Dictionary({k: dbus.UInt64(v) for k, v in (
                ("300", 1), ("10000", 3), ("3000000", 3), ("infinity", 4), ("sum", 7_000_250))}, "st"),
            "NKept": dbus.UInt32(1), "Paused": False}, "sv")})

    def managed(self, path):
        if path != self.point and not path.startswith(self.point + "/"):
            raise Failure(ERROR + "NotManaged", f"'{path}' is not on an overlay that is managed here")

    def start_job(self, kind, path, options):
        self.managed(path)
        if os.path.basename(path) == "denied":
            raise Failure("org.freedesktop.DBus.Error.AccessDenied", "only root may do this")
        for key, value in options.items():
            if key not in KNOWN_OPTIONS or (key == "method" and value == "mark"):
                raise Failure(ERROR + "Invalid", f"option '{key}' is not available yet in this version")
        number = len(self.jobs) + 1
        job = self.jobs[number] = Job(self, number, kind, path, options)
        self.JobNew(dbus.UInt32(number), job.object_path)
        if job.behaviour == "quick":
            job.start()  # ends before the caller has the reply
        else:
            GLib.timeout_add(STEP_MSEC, job.start)
        return job.object_path

    def directory(self, path):
        entry = {"overlay": "soft", "path": path, "state": "merged", "reason": "", "scheme": "", "lower_path": "",
                 "entries": dbus.UInt64(3), "merge_children": dbus.UInt64(0), "finalized_usec": dbus.UInt64(0),
                 "job": dbus.UInt32(0)}
        name = os.path.basename(path)
        if name == "quick":
            entry.update(state="finalized", scheme="redirect", lower_path="/srv/quick", entries=dbus.UInt64(61),
                         merge_children=dbus.UInt64(50), finalized_usec=dbus.UInt64(1_700_000_000_000_000))
        elif name == "links":
            entry.update(state="excluded", reason="it holds hard links")
        elif name == "pending":
            entry.update(state="pending", reason="not quiet")
        return dbus.Dictionary(entry, "sv")

    # The interface

    @dbus.service.method(MANAGER, "sa{sv}", "o")
    def Finalize(self, path, options):
        return self.start_job("finalize", path, options)

    @dbus.service.method(MANAGER, "sa{sv}", "o")
    def Unfinalize(self, path, options):
        return self.start_job("unfinalize", path, options)

    @dbus.service.method(MANAGER, "s", "a{sv}")
    def GetDirectory(self, path):
        self.managed(path)
        return self.directory(path)

    @dbus.service.method(MANAGER, "sa{sv}", "aa{sv}")
    def ListDirectories(self, overlay, wanted):
        if overlay not in ("", *self.overlays):
            raise Failure(ERROR + "NoSuchOverlay", f"there is no overlay '{overlay}'")
        found = [self.directory(f"{self.point}/{name}") for name in ("pending", "quick", "other", "parts/links")]
        return dbus.Array([d for d in found if wanted.get("state") in (None, d["state"]) and
                           f"{d['path']}/".startswith(f"{wanted.get('path', '')}/")], "a{sv}")

    @dbus.service.method(MANAGER, "su", "aa{sv}")
    def ListHot(self, overlay, most):
        if overlay not in ("", *self.overlays):
            raise Failure(ERROR + "NoSuchOverlay", f"there is no overlay '{overlay}'")
        hot = [{**self.directory(f"{self.point}/{name}"), "heat": dbus.UInt64(heat), "opens_per_minute": dbus.UInt64(heat * 3),
                "opens": dbus.UInt64(1000 * heat), "misses_per_minute": dbus.UInt64(900 - 10 * heat),
                "saved_per_minute": dbus.UInt64(heat)} for name, heat in (("quick", 90), ("other", 7))]
        return dbus.Array(hot[:most or None], "a{sv}")

    @dbus.service.method(MANAGER, "", "a(so)")
    def ListOverlays(self):
        return [(name, f"{PATH}/overlay/{name}") for name in self.overlays]

    @dbus.service.method(MANAGER, "", "a(uo)")
    def ListJobs(self):
        return [(dbus.UInt32(n), j.object_path) for n, j in self.jobs.items()] + [(dbus.UInt32(99), f"{PATH}/job/99")]

    @dbus.service.method(MANAGER, "s", "aa{sv}")
    def Check(self, what):
        if what == "broken":
            raise Failure(ERROR + "NoSuchOverlay", "there is no overlay 'broken'")
        if what.startswith("/"):
            self.managed(what)
        elif what not in self.overlays:
            raise Failure(ERROR + "NoSuchOverlay", f"there is no overlay '{what}'")
        bad = what == "away"
        checks = [("type", "ok", "an overlay", ""), ("metacopy", "fail" if bad else "warning", "metacopy is off",
                                                     "mount with metacopy=on")]
        return dbus.Array([dbus.Dictionary(dict(zip(("id", "level", "text", "advice"), c)), "sv") for c in checks], "a{sv}")

    @dbus.service.method(MANAGER, "s", "aa{sv}")
    def ListBlockers(self, what):
        if what.startswith("/"):
            self.managed(what)
        elif what not in self.overlays:
            raise Failure(ERROR + "NoSuchOverlay", f"there is no overlay '{what}'")
        point = self.overlays.get(what, self.overlays["soft"]).properties[OVERLAY]["MountPoint"]
        blockers = [{"pid": dbus.UInt32(0), "command": "", "kind": "mount", "blocks": True, "path": point,
                     "mount_point": "/else\nwhere"},
                    {"pid": dbus.UInt32(77), "command": "evil\n\x1b[2J\u202e", "kind": "watch", "blocks": True},
                    {"pid": dbus.UInt32(1234), "command": "bash", "kind": "cwd", "blocks": False, "path": point + "/d\tx"}]
        return dbus.Array([dbus.Dictionary(b, "sv") for b in blockers], "a{sv}")

    @dbus.service.method(MANAGER, "u", "")
    def CancelJob(self, number):
        if number not in self.jobs:
            raise Failure(ERROR + "NoSuchJob", f"there is no job {number}")
        self.jobs[number].Cancel()

    @dbus.service.method(MANAGER, "s", "")
    def Pause(self, overlay):
        self.pause(overlay, True)

    @dbus.service.method(MANAGER, "s", "")
    def Resume(self, overlay):
        self.pause(overlay, False)

    def pause(self, overlay, paused):
        if overlay == "":
            self.change(MANAGER, Paused=paused)
        elif overlay in self.overlays:
            self.overlays[overlay].change(OVERLAY, Paused=paused)
        else:
            raise Failure(ERROR + "NoSuchOverlay", f"there is no overlay '{overlay}'")

    @dbus.service.method(MANAGER, "", "")
    def Reload(self):
        raise Failure("org.freedesktop.DBus.Error.Failed", "line 3:\nno such key")

    @dbus.service.signal(MANAGER, "uo")
    def JobNew(self, number, job):
        pass

    @dbus.service.signal(MANAGER, "uos")
    def JobRemoved(self, number, job, result):
        pass

    @dbus.service.signal(MANAGER, "sss")
    def DirectoryChanged(self, overlay, path, state):
        pass


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.bus.BusConnection(sys.argv[1])
    manager = Manager(bus, sys.argv[2], sys.argv[3:])
    control = Exported(bus, "/org/freedesktop/LogControl1", {LOG_CONTROL: {"LogLevel": "info"}})
    gone = Gone(bus, f"{PATH}/job/99")
    bus.request_name(NAME)
    print("ready", flush=True)
    GLib.MainLoop().run()
    return manager, control, gone


if __name__ == "__main__":
    main()
