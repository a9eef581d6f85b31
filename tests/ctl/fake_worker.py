#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A worker for tests of "ovlfinctl check" without a daemon: answers by the protocol of daemon/base/wire.h."""

import socket
import struct

WORKER_FD = 3
STEP, DIRECTORY, CHECK, NOTE, BLOCKER, KEPT, DRAINING, RESULT = range(1, 9)
OK, WARNING, FAIL = range(3)
RECORD = struct.Struct("=IIIi7Q96x64s4096s4096s1024s")


def record(kind, state=0, error=0, name="", path="", lower_path="", text=""):
    return RECORD.pack(RECORD.size, kind, state, error, 0, 0, 0, 0, 0, 0, 0, name.encode(), path.encode(), lower_path.encode(),
                       text.encode())


def main():
    s = socket.socket(fileno=WORKER_FD)
    request = dict(item.split("=", 1) for item in s.recv(65536).decode().split("\0") if item)
    point = request["MOUNT_POINT"]
    if request["VERB"] != "check":
        s.send(record(RESULT, name="Invalid", error=22, text="not a check"))
    elif point.endswith("mute"):
        return
    elif point == "/":
        s.send(record(CHECK, OK, name="type", text=f"'{point}' is an overlay"))
        s.send(record(CHECK, FAIL, name="metacopy", text="metacopy is off", lower_path="mount with metacopy=on"))
        s.send(record(RESULT, name="None"))
    else:
        s.send(record(RESULT, name="NotManaged", error=22, text=f"'{point}' is no overlay"))


if __name__ == "__main__":
    main()
