#!/usr/bin/python3 -B
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A worker that touches no file: speaks daemon/base/wire.h and does what a script says.

The script is $OVLFIND_FAKE_SCRIPT, a JSON file read anew by every worker: verb -> list of actions, or "verb:path" for one
path. An action is [name, {fields}]: "send" a record, "sleep" seconds, "wait-cancel", "hang" (ignores SIGTERM), "die" by a
signal, "die-once" (by a signal, only the first time; needs a file name), "exit" status. What was asked is appended to
$OVLFIND_FAKE_LOG, a line of JSON each.
"""
import json
import os
import signal
import socket
import sys
import time

from wire import pack


class Worker:
    def __init__(self):
        self.socket = socket.socket(fileno=3)
        packet = self.socket.recv(1 << 17)
        self.request = dict(item.split("=", 1) for item in packet.decode().rstrip("\0").split("\0"))
        self.is_canceled = False

    def send(self, kind, **fields):
        try:
            self.socket.send(pack(kind, **fields))
        except BrokenPipeError:
            os._exit(0)  # the daemon does not listen any more

    def result(self, name="None", error=0, text="", **fields):
        self.send("result", name=name, error=error, text=text, **fields)

    def on_term(self, *_):
        self.result("Canceled", 125, "canceled")
        os._exit(0)

    def wait_cancel(self, timeout=60):
        self.socket.settimeout(timeout)
        packet = self.socket.recv(100)
        while packet.startswith((b"rearm", b"pause", b"resume", b"look", b"overlay", b"gone")):
            packet = self.socket.recv(100)
        assert packet in (b"cancel", b""), packet
        self.result("Canceled", 125, "canceled")
        sys.exit(0)

    def act(self, action, fields):
        if action == "send":
            self.send(**fields)
        elif action == "many":
            for i in range(fields["count"]):
                self.send(**{**fields["record"], "path": fields["record"]["path"] % i})
        elif action == "sleep":
            time.sleep(fields["seconds"])
        elif action == "wait-cancel":
            self.wait_cancel()
        elif action == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60)
        elif action == "die":
            os.kill(os.getpid(), fields.get("signal", signal.SIGKILL))
        elif action == "die-once":
            if not os.path.exists(fields["file"]):
                open(fields["file"], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
        elif action == "wait-file":
            while not os.path.exists(fields["file"]):
                time.sleep(0.01)
        elif action == "exit":
            os._exit(fields["status"])
        else:
            raise ValueError(action)


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    w = Worker()
    signal.signal(signal.SIGTERM, w.on_term)
    with open(os.environ["OVLFIND_FAKE_LOG"], "a") as log:
        log.write(json.dumps({**w.request, "PID": os.getpid()}) + "\n")
    with open(os.environ["OVLFIND_FAKE_SCRIPT"]) as f:
        script = json.load(f)
    verb = w.request["VERB"]
    actions = script.get(verb + ":" + w.request.get("PATH", ""), script.get(verb))
    if actions is None:
        actions = [["send", {"kind": "result", "name": "None"}]]
    for action, fields in actions:
        w.act(action, fields)


main()
