# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the real ovlfinctl."""

import json
import os
import subprocess
from dataclasses import dataclass

from .env import binary, spawn

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_NO_DAEMON, EXIT_UNKNOWN, EXIT_DENIED = range(6)


@dataclass
class CtlResult:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def ok(self):
        """Returns itself, or says what went wrong."""
        assert self.code == 0, f"ovlfinctl: exit {self.code}\n{self.out}{self.err}"
        return self


def ctl_environment(address):
    env = dict(os.environ, OVLFIND_WORKER=binary("ovlfind-worker"), TERM="dumb")
    env["DBUS_SYSTEM_BUS_ADDRESS"] = address or "unix:path=/nonexistent/bus"
    return env


def start_ctl(*args, address):
    """One that goes on beside the test; communicate() says how it ended."""
    return spawn(binary("ovlfinctl"), *args, env=ctl_environment(address), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                 stderr=subprocess.PIPE, text=True)


def run_offline(overlay, state, verb, *args, lowers=None, **env):
    """On what an overlay is when it is mounted, without a daemon. state: for the records; lowers: as --lower= takes them."""
    return run_ctl(verb, "--offline", f"--upper={overlay.upper.upper}", f"--lower={lowers or ':'.join(overlay.lowers)}", *args,
                   env={"STATE_DIRECTORY": state, **env})


def run_ctl(*args, address=None, cwd=None, uid=None, env=None, timeout=120):
    """address None: no bus at all. uid: as that user."""
    command = [binary("ovlfinctl"), *map(str, args)]
    if uid is not None:
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
    env = {**ctl_environment(address), **(env or {})}
    p = subprocess.run(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, errors="surrogateescape", timeout=timeout, check=False)
    return CtlResult(p.returncode, p.stdout, p.stderr)
