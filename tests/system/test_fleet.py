# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/fleet.md says: its configuration is understood, and a server sees of N hosts what it sees of one, N times."""

import os
import re

import pytest

from ovltest import ROOT
from ovltest.fleet import Fleet, build_release

N = 3


@pytest.mark.timeout(300)
def test_requests_of_a_fleet(scene):
    source = build_release(scene, 60)
    one = Fleet(scene, source, 1).finalize()[0]
    many = Fleet(scene, source, N).finalize()[0]
    # Once a file at least, for nothing is shared, and not much more often; a job may look twice, and watchers look as well.
    for kind in ("lookup", "listxattr", "getxattr"):
        assert one[kind] >= 60 and N * 60 <= many[kind] <= 2 * N * one[kind], kind


def test_the_configuration_of_the_page(scene):
    page = (ROOT / "docs/fleet.md").read_text(encoding="utf-8")
    files = re.findall(r"^```ini\n# /usr/lib/ovlfind/(\S+)\n(.*?)^```", page, re.M | re.S)
    assert [name for name, _ in files] == ["ovlfind.conf.d/50-fleet.conf", "overlays.d/software.conf"]
    daemon = scene.daemon(start=False)
    for name, text in files:
        path = os.path.join(daemon.conf, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    daemon.start()
    assert "software absent" in " ".join(daemon.ctl("list").ok().out.replace("/ovl", "").split())
    assert not re.search(r"\.conf:\d+:|ignoring", daemon.log())
