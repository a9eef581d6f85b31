# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message bus of the test's own, to be taken for the system bus."""

import os
import subprocess

from .env import end, spawn

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  {policy}
</busconfig>
"""

PERMISSIVE = """<policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>"""


class PrivateBus:
    """policy: XML of the policies; the default lets everybody do everything, so that the daemon itself has to refuse."""

    def __init__(self, directory, policy=PERMISSIVE):
        self.socket = os.path.join(directory, "bus")
        config = os.path.join(directory, "bus.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(socket=self.socket, policy=policy))
        with open(os.path.join(directory, "bus.log"), "wb") as log:
            self.process = spawn("dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--nosyslog",
                                 "--print-address", stdout=subprocess.PIPE, stderr=log, text=True)
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise RuntimeError("dbus-daemon does not start")
        os.chmod(self.socket, 0o777)

    def close(self):
        end(self.process)
        self.process.stdout.close()
