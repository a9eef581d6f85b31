# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is told to tests/kernels, which makes docs/kernels.md of it. As a plugin of pytest, each test that is skipped, and why."""

import json
import os
import platform


def write_record(result):
    result["kernel"] = platform.release()
    print(json.dumps(result), flush=True)
    with open(os.environ["OVLFIND_RESULTS"], "w", encoding="ascii") as f:
        f.write(json.dumps(result) + "\n")


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        write_record({"skipped": report.nodeid.rpartition("/")[2], "reason": reason})
