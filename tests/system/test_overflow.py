# SPDX-License-Identifier: LGPL-2.1-or-later
"""More happens in a directory that is exchanged than the kernel's queue of events holds: nothing of it is missed, and the lower
is asked about each directory once more at most. That no list in memory is gone through for each of them, test_many_dirty (test-tree.c)
sees."""

import os
import signal

import pytest

from ovltest.daemon import wait_for
from ovltest.holders import Shell
from ovltest.oldtree import KEEP, await_gone, await_kept

N = 1_000
PER_DIRECTORY = 100
DIRECTORIES = [f"{i // PER_DIRECTORY}/{i % PER_DIRECTORY}" for i in range(N)]


@pytest.fixture
def source(scene):
    top = scene.source()
    for d in DIRECTORIES:
        os.makedirs(os.path.join(top, "t", d))
    return top


@pytest.fixture
def overlay(scene, lower):
    return scene.overlay(lower, upper=scene.upper("tmpfs", size_mib=1024))


def queue_length():
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as f:
        return int(f.read())


def overflow(top):
    """Makes a file in every directory, when no event fits into the queue any more."""
    for _ in range(queue_length() // 2 + 1):
        with open(f"{top}/noise", "wb"):
            pass
        os.unlink(f"{top}/noise")
    for d in DIRECTORIES:
        with open(f"{top}/{d}/made", "wb"):
            pass


def assert_all_made(top):
    missing = [d for d in DIRECTORIES if not os.path.exists(f"{top}/{d}/made")]
    assert not missing, f"{len(missing)} of {len(DIRECTORIES)}, {missing[:3]}"


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: state_of(pid) == "T", "the worker to stop")


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rpartition(")")[2].split()[0]


def test_before_the_exchange(scene, lower, overlay):
    """While all is listed and watched, and the job waits for a shell to leave."""
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": {"Standing": "wait"}}))
    top = overlay / "t"
    daemon.arm(N // 2, call="mkdirat", hold=True)  # of the new tree
    job = daemon.finalize(top)
    assert daemon.held(job)
    shell = scene.keep(Shell(top))
    daemon.release(everything=True)
    daemon.wait_job(job, ("waiting",))
    worker, = daemon.workers_for("finalize")
    stop(worker)
    overflow(top)
    with lower.measure() as counts:
        os.kill(worker, signal.SIGCONT)
        shell.close()
        assert daemon.wait_job(job)["State"] == "done"
    await_gone(overlay, daemon)
    assert_all_made(top)
    assert N <= counts.opendir <= 2 * N and counts.total <= 10 * N, counts


def test_in_a_kept_tree(scene, lower, overlay):
    daemon = scene.daemon(soft=(overlay, {"Finalize": KEEP}))
    top = overlay / "t"
    shell = scene.keep(Shell(top))
    daemon.ctl("finalize", top).ok()
    await_kept(daemon)
    worker, = wait_for(lambda: len(w := daemon.workers_for("finalize")) == 1 and w, "the worker")
    stop(worker)
    overflow(f"/proc/{shell.process.pid}/cwd")
    with lower.measure() as counts:
        os.kill(worker, signal.SIGCONT)
        wait_for(lambda: all(os.path.exists(f"{top}/{d}/made") for d in (DIRECTORIES[-1], *DIRECTORIES)), "all to arrive", step=0.2)
    assert counts.opendir <= N // 2, counts  # all that is compared is in the upper; a look of the daemon may come in between
    shell.close()
    await_gone(overlay, daemon)
    assert_all_made(top)
