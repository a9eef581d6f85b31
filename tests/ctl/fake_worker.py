#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A worker for tests of "ovlfinctl check" without a daemon: answers by the protocol of daemon/base/wire.h."""

import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib", "ovltest"))

from wire import pack  # noqa: E402

WORKER_FD = 3


def main():
    s = socket.socket(fileno=WORKER_FD)
    request = dict(item.split("=", 1) for item in s.recv(65536).decode().split("\0") if item)
    point = request["MOUNT_POINT"]
    if request["VERB"] != "check":
        s.send(pack("result", name="Invalid", error=22, text="not a check"))
    elif point.endswith("mute"):
        return
    elif point == "/":
        s.send(pack("check", "ok", name="type", text=f"'{point}' is an overlay"))
        s.send(pack("check", "fail", name="metacopy", text="metacopy is off", lower_path="mount with metacopy=on"))
        s.send(pack("result", name="None"))
    else:
        s.send(pack("result", name="NotManaged", error=22, text=f"'{point}' is no overlay"))


if __name__ == "__main__":
    main()
