# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the real ovlfind on a private bus, with folders of the test's own."""

import contextlib
import os
import re
import socket
import subprocess
import threading
import time

import dbus
import dbus.bus

from .ctl import ctl_environment, run_ctl, start_ctl
from .env import binary, spawn

NAME = "org.ovlfind1"
PATH = "/org/ovlfind1"
MANAGER = "org.ovlfind1.Manager"
ERROR = "org.ovlfind1.Error."
PROPERTIES = "org.freedesktop.DBus.Properties"

SANITIZER_REPORT = re.compile(r"ERROR: (Address|Leak)Sanitizer|runtime error:")


def wait_for(condition, what, timeout=100, step=0.02):
    """Waits until condition() is true and returns what it said. On a machine that has a lot else to do, that may take long."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for: {what}")
        time.sleep(step)


class Daemon:
    """One ovlfind. Its folders stay over stop(), kill() and start(), as a machine's would."""

    def __init__(self, directory, bus):
        self.directory, self.bus = directory, bus
        self.conf, self.state, self.runtime = (os.path.join(directory, d) for d in ("etc", "state", "run"))
        self.overlays_d = os.path.join(self.conf, "overlays.d")
        for d in (self.overlays_d, self.state, self.runtime):
            os.makedirs(d)
        self.log_path = os.path.join(directory, "ovlfind.log")
        self.process = None
        self.worker = binary("ovlfind-worker")
        self.notified = {}
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(os.path.join(directory, "notify"))
        # Always drained, as a service manager does: a full socket would make the daemon wait.
        self._notify_reader = threading.Thread(target=self._read_notifications, daemon=True)
        self._notify_reader.start()
        self._connection = None

    # Configuration

    def configure(self, text):
        """Writes ovlfind.conf."""
        with open(os.path.join(self.conf, "ovlfind.conf"), "w", encoding="utf-8") as f:
            f.write(text)

    def use_killer(self):
        """Makes the next worker for a job (or survey, see arm()) run under tests/tools/killat once arm() was called."""
        self.killat_n, self.killat_log, self.killat_hold = (os.path.join(self.directory, f"killat-{n}")
                                                            for n in ("n", "log", "hold"))
        self.worker = os.path.join(self.directory, "worker")
        with open(self.worker, "w", encoding="utf-8") as f:
            f.write(f"""#!/bin/sh
case $1 in
survey) armed='{self.killat_n}-survey' ;;
watch | compare | inspect | check | blockers) armed=/dev/null/none ;;
*) armed='{self.killat_n}' ;;
esac
if settings=$(cat "$armed" 2>/dev/null); then
        rm "$armed"
        ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0" exec env LD_PRELOAD='{binary("killat")}' $settings \\
                KILLAT_LOG='{self.killat_log}' '{binary("ovlfind-worker")}' "$@"
fi
exec '{binary("ovlfind-worker")}' "$@"
""")
        os.chmod(self.worker, 0o755)

    def arm(self, n, parent=False, call=None, path=None, error=None, hold=False, always=False, survey=False):
        """The next worker dies (or takes the daemon along) after its nth change to a file system. call: only these count;
        path: only those on an entry whose path, relative to the directory of the call, begins so.
        error: that call fails instead (always: and all like it; "name": as what it is done to is called, errno-N). hold: it and all that follow wait instead, see held();
        hold="later": those that come after hold(). survey: not of the next job, of the next survey."""
        self.release(everything=True)
        settings = [f"KILLAT={n}"]
        settings += ["KILLAT_PARENT=1"] if parent else []
        settings += [f"KILLAT_CALL={call}"] if call else []
        settings += [f"KILLAT_PATH={path}"] if path else []
        settings += [f"KILLAT_ERROR={error if error == 'name' else int(error)}"] if error else []
        settings += ["KILLAT_ALWAYS=1"] if always else []
        if hold:
            settings += [f"KILLAT_HOLD={self.killat_hold}"]
            if hold != "later":
                self.hold()
        with open(self.killat_n + ("-survey" if survey else ""), "w", encoding="ascii") as f:
            f.write(" ".join(settings))

    def hold(self):
        with open(self.killat_hold, "wb"):
            pass

    def held(self, job=None):
        """Waits until a worker is held before a call; returns False if the job ended without."""
        wait_for(lambda: self.struck() or (job and self.job(job)["State"] in ("done", "failed", "canceled")), "the hold")
        return self.struck() is not None

    def release(self, everything=False):
        """Lets the held call go on; everything: and all that follow."""
        for path in (self.killat_hold, self.killat_log) if everything else (self.killat_log,):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def struck(self):
        """Which call the armed worker was killed at, or None when it ended before."""
        try:
            with open(self.killat_log, encoding="ascii") as f:
                return f.read().strip()
        except FileNotFoundError:
            return None

    def add_overlay(self, name, point, **sections):
        """Writes overlays.d/NAME.conf. sections: Finalize={"QuietSec": "0"} and so on; a test has no time to wait for
        quiet, or for a lower that fails, unless it is about that. Nor is anything watched, unless there is a section for it."""
        sections = {"Overlay": {}, "Finalize": {}, "Watch": {"MaxWatches": "0"}, **sections}
        # Nor are programs of the machine looked at, which no test but those about that knows of.
        sections["Watch"] = {"Sources": "opens", **sections["Watch"]}
        sections["Overlay"] = {"MountPoint": point, **sections["Overlay"]}
        sections["CopyUp"] = {"RetrySec": "0", **sections.get("CopyUp", {})}
        sections["Finalize"] = {"QuietSec": "50ms", "Automatic": "no", "OnLowerChange": "keep",
                                "OnLowerRemoved": "keep", **sections["Finalize"]}
        text = "\n".join(f"[{s}]\n" + "".join(f"{k}={v}\n" for k, v in keys.items()) for s, keys in sections.items() if keys)
        with open(os.path.join(self.overlays_d, f"{name}.conf"), "w", encoding="utf-8") as f:
            f.write(text)

    # Life

    def environment(self):
        return dict(ctl_environment(self.bus.address), CONFIGURATION_DIRECTORY=self.conf, STATE_DIRECTORY=self.state,
                    RUNTIME_DIRECTORY=self.runtime, OVLFIND_WORKER=self.worker,
                    NOTIFY_SOCKET=os.path.join(self.directory, "notify"))

    def start(self, *args, env=None, survey=True):
        """Starts the daemon and waits until it is ready; survey: also until every overlay has been looked through."""
        self.notified = {}
        with open(self.log_path, "ab") as log:
            self.process = spawn(binary("ovlfind"), "--log-level=debug", "--log-target=console", *args, stdout=log,
                                 stderr=log, stdin=subprocess.DEVNULL, env={**self.environment(), **(env or {})}, cwd="/")
        self._wait_ready()
        if survey:
            wait_for(lambda: "starting" not in self.overlay_states().values(), "surveys to end")
        return self

    def _wait_ready(self):
        deadline = time.monotonic() + 100
        while "READY" not in self.notified:
            if self.process.poll() is not None:
                raise RuntimeError(f"ovlfind ended with {self.process.returncode}\n{self.log()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"ovlfind is not ready\n{self.log()}")
            time.sleep(0.01)

    def _read_notifications(self):
        while text := self._notify.recv(65536).decode():
            self.notified.update(line.partition("=")[::2] for line in text.splitlines())

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout=100):
        """SIGTERM; returns the exit status, which is 0 for a daemon that ends as it should."""
        self._connection = None
        if not self.is_running():
            return self.process.returncode if self.process else 0
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout)
            raise TimeoutError(f"ovlfind does not end on SIGTERM\n{self.log()}") from None

    def kill(self):
        self._connection = None
        if self.is_running():
            self.process.kill()
            self.process.wait(10)

    def restart(self):
        self.stop()
        return self.start()

    def workers(self):
        """PIDs of the worker processes of this daemon."""
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
                return [int(pid) for pid in f.read().split()]
        except FileNotFoundError:
            return []

    def workers_for(self, verb):
        """PIDs of those that were started for this, and of those that keep an old tree since."""
        found = []
        for pid in self.workers():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline", "rb") as f:
                if f.read().split(b"\0")[1:2] == [verb.encode()]:  # empty of one that ends
                    found.append(pid)
        return found

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def close(self):
        """Ends the daemon; raises when a sanitizer had something to say."""
        try:
            self.stop()
        finally:
            self._notify.shutdown(socket.SHUT_RD)  # its reader gets the end
            self._notify_reader.join()
            self._notify.close()
        if SANITIZER_REPORT.search(self.log()):
            raise AssertionError(f"sanitizer report:\n{self.log()}")

    # Talking to it

    def ctl(self, *args, **kwargs):
        return run_ctl(*args, address=self.bus.address, **kwargs)

    def start_ctl(self, *args):
        return start_ctl(*args, address=self.bus.address)

    def connection(self):
        if self._connection is None:
            self._connection = dbus.bus.BusConnection(self.bus.address)
        return self._connection

    def manager(self):
        return dbus.Interface(self.connection().get_object(NAME, PATH, introspect=False), MANAGER)

    def properties(self, path, interface):
        proxy = dbus.Interface(self.connection().get_object(NAME, path, introspect=False), PROPERTIES)
        return proxy.GetAll(interface)

    def job(self, path):
        return self.properties(path, "org.ovlfind1.Job")

    def jobs(self):
        return [self.job(path) for _, path in self.manager().ListJobs()]

    def finalize(self, path, **options):
        """Finalize over the bus; returns the object path of the job."""
        return self.manager().Finalize(path, dbus.Dictionary(options, signature="sv"))

    def wait_job(self, path, states=("done", "failed", "canceled"), timeout=200):
        """Waits until a job is in one of the states; returns its properties."""
        return wait_for(lambda: (p := self.job(path))["State"] in states and p, f"{path} in {states}", timeout)

    def overlay_states(self):
        """Of every configured overlay, by name."""
        return {str(name): str(self.properties(path, "org.ovlfind1.Overlay")["State"])
                for name, path in self.manager().ListOverlays()}

    def kept(self, name="soft"):
        """How many old trees of an overlay are kept."""
        path = next(path for n, path in self.manager().ListOverlays() if n == name)
        return int(self.properties(path, "org.ovlfind1.Overlay")["NKept"])

    def state_of(self, path):
        return str(self.manager().GetDirectory(path)["state"])
