#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is seen of programs that search directories, and what that costs: the share of those that live shortly, processor time
for each, wakeups while none starts, memory for directories with heat.
Usage: bench_paths.py [STARTS [DIRECTORIES]]"""

import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from bench_watch import private_bytes, tree, wakeups  # noqa: E402
from ovltest.bench import playground, scene_in  # noqa: E402
from ovltest.daemon import wait_for  # noqa: E402
from ovltest.heat import properties  # noqa: E402

PROGRAMS = {"/bin/true": ["/bin/true"], "python3": [sys.executable, "-S", "-c", "pass"],
            "10 at once": ["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do /bin/true & done; wait"]}
STARTED = {"10 at once": 10}
IDLE_SECONDS = 10
HOT_PART = 10  # one in so many has heat
AT_ONCE = 1000


def searches(daemon):
    return int(properties(daemon)["Counters"]["searches"])


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def executed():
    """Processes that were made on this machine so far."""
    with open("/proc/stat", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("processes"))


def settle(daemon):
    """Waits until what was seen is told: once a second."""
    seen = -1
    while seen != (seen := searches(daemon)):
        time.sleep(1.5)
    return seen


def shares(daemon, overlay, pid, n):
    for name, command in PROGRAMS.items():
        before, used = settle(daemon), processor_seconds(pid)
        begin = time.monotonic()
        for _ in range(n):
            subprocess.run(command, env={"LD_LIBRARY_PATH": overlay / "group000/directory000000"}, check=True)
        took = (time.monotonic() - begin) / n
        started = n * STARTED.get(name, 1)
        seen, used = settle(daemon) - before, processor_seconds(pid) - used
        print(f"{started} starts of {name}, {took * 1000:.1f} ms each: {seen} seen ({100 * seen / started:.1f} %), "
              f"{used / started * 1e6:.0f} us of a processor each")


def memory(daemon, overlay, pid, n):
    before = private_bytes(daemon.process.pid), private_bytes(pid)
    directories = [f"group{i // 1000:03}/directory{i:06}" for i in range(0, n, HOT_PART)]
    for i in range(0, len(directories), AT_ONCE):
        goal = searches(daemon) + len(directories[i:i + AT_ONCE])
        path = ":".join(overlay / d for d in directories[i:i + AT_ONCE])
        with subprocess.Popen(["/bin/cat"], env={"PATH": path}, stdin=subprocess.PIPE) as program:  # it lives until it is seen
            wait_for(lambda goal=goal: searches(daemon) >= goal, "them to be told", step=0.2)
            program.stdin.close()
    after = private_bytes(daemon.process.pid), private_bytes(pid)
    print(f"{len(directories):,} directories with heat, of {n:,}: {(after[0] - before[0]) / len(directories):.0f} bytes each in the daemon, "
          f"{(after[1] - before[1]) / 1e6:.1f} MB more in the process that looks (which remembers 4,096)")


def idle(daemon, pid):
    pids = daemon.process.pid, pid
    settle(daemon)
    time.sleep(3)
    before, programs = [wakeups(p) for p in pids], executed()
    time.sleep(IDLE_SECONDS)
    woken = [wakeups(p) - b for p, b in zip(pids, before)]
    print(f"wakeups per second while nothing searches: daemon {woken[0] / IDLE_SECONDS:.2f}, the process that looks "
          f"{woken[1] / IDLE_SECONDS:.2f} ({executed() - programs} processes and threads were made meanwhile)")


def main():
    starts = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with playground() as base, scene_in(base) as scene:
        source = scene.source()
        tree(source, n)
        overlay = scene.overlay(source)
        daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "paths"}}))
        source = wait_for(lambda: [s for s in properties(daemon)["Sources"] if s["name"] == "paths" and s["state"] in ("on", "partly")],
                          "the source")[0]
        print(f"source: {source['state']} {source['reason']}")
        pid = daemon.workers_for("paths")[0]
        idle(daemon, pid)
        shares(daemon, overlay, pid, starts)
        memory(daemon, overlay, pid, n)


if __name__ == "__main__":
    main()
