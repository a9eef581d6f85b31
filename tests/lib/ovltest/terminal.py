# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a program on a terminal of its own."""

import os
import pty

# When the leader of its session ends, the kernel hangs up a terminal, and drops what is still on its way to us (disassociate_ctty(),
# tty_ldisc_hangup()). So the leader is one that waits until all has been read.
LEADER = 'trap : INT; "$@"; status=$?; printf "\\000"; read -r line; exit "$status"'


def run_on_terminal(*command, env, cwd="/", feed=None):
    """Returns exit status and all that was shown. feed: (what to wait for, what to type then)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execve("/bin/sh", ["sh", "-c", LEADER, "sh", *map(str, command)], env)
    shown = b""
    while b"\0" not in shown:
        shown += os.read(fd, 65536)
        if feed and feed[0] in shown:
            os.write(fd, feed[1])
            feed = None
    os.write(fd, b"\n")
    status = os.waitpid(pid, 0)[1]
    os.close(fd)
    return os.waitstatus_to_exitcode(status), shown.split(b"\0")[0].decode()
