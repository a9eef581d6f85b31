# SPDX-License-Identifier: LGPL-2.1-or-later
"""More happens in a directory that is exchanged than the kernel's queue of events holds: nothing of it is missed, and that costs
time in proportion to the directories there are."""

import contextlib
import os
import signal

import pytest

from ovltest.daemon import wait_for
from ovltest.env import SWEEP
from ovltest.holders import Shell
from ovltest.oldtree import KEEP, await_gone, await_kept

SIZES = (5_000, 10_000, 20_000)
PER_DIRECTORY = 100


def directories(n):
    return [f"{i // PER_DIRECTORY}/{i % PER_DIRECTORY}" for i in range(n - n // PER_DIRECTORY)]


@pytest.fixture
def overlay(scene):
    source = scene.source()
    for n in SIZES:
        for d in directories(n):
            os.makedirs(os.path.join(source, f"t{n}", d))
    return scene.overlay(source, upper=scene.upper("tmpfs", size_mib=1024))


def queue_length():
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as f:
        return int(f.read())


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def touch_all(top, n, name):
    """Makes a file in every directory, more events than the queue holds."""
    for d in directories(n):
        for i in range(1 + queue_length() // n):
            with open(f"{top}/{d}/{name}{i}", "wb"):
                pass


def assert_all_touched(top, n, name):
    missing = [d for d in directories(n) if not os.path.exists(f"{top}/{d}/{name}0")]
    assert not missing, f"{len(missing)} of {n}, {missing[:3]}"


def tell(capsys, what, used):
    with capsys.disabled():
        print(f"\n{what}: " + ", ".join(f"{n} directories {s:.2f} s" for n, s in used.items()) + " of processor time")
    # Four times the directories; by the square it was six times as much, and more with each one.
    assert used[SIZES[-1]] < 5 * max(used[SIZES[0]], 0.1), used


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: state_of(pid) == "T", "the worker to stop")
    return cpu_seconds(pid)


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rpartition(")")[2].split()[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(SWEEP > 1, reason="takes long, and the other one goes the same way")
def test_before_the_exchange(scene, overlay, capsys):
    """While all is listed and watched, and the job waits for a shell to leave."""
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": {"Standing": "wait"}}))
    used = {}
    for n in SIZES:
        top = overlay / f"t{n}"
        daemon.arm(1, call="fsetxattr", hold=True)
        job = daemon.finalize(top)
        assert daemon.held(job)
        shell = scene.keep(Shell(top))
        daemon.release(everything=True)
        daemon.wait_job(job, ("waiting",), 240)
        worker, = daemon.workers_for("finalize")
        before = stop(worker)
        touch_all(top, n, "made")
        os.kill(worker, signal.SIGCONT)
        shell.close()
        last = [before]

        def is_done(job=job, worker=worker, last=last):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                last[0] = cpu_seconds(worker)
            return daemon.job(job)["State"] == "done"
        wait_for(is_done, "the job", 240, 0.02)
        used[n] = last[0] - before
        await_gone(overlay, daemon)
        assert_all_touched(top, n, "made")
    tell(capsys, "an overflow before the exchange", used)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_in_a_kept_tree(scene, overlay, capsys):
    daemon = scene.daemon(soft=(overlay, {"Finalize": KEEP}))
    used = {}
    for n in SIZES:
        top = overlay / f"t{n}"
        shell = scene.keep(Shell(top))
        daemon.ctl("finalize", top, timeout=240).ok()
        await_kept(daemon)
        worker, = wait_for(lambda: len(w := daemon.workers_for("finalize")) == 1 and w, "the worker")
        before = stop(worker)
        touch_all(f"/proc/{shell.process.pid}/cwd", n, "made")
        os.kill(worker, signal.SIGCONT)
        last = directories(n)[-1]
        wait_for(lambda: all(os.path.exists(f"{top}/{d}/made0") for d in (last, *directories(n))), "all to arrive", 240, 0.2)
        used[n] = cpu_seconds(worker) - before
        shell.close()
        await_gone(overlay, daemon)
        assert_all_touched(top, n, "made")
    tell(capsys, "an overflow in a kept tree", used)
