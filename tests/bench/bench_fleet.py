#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a server sees when many hosts finalize the same release: one host, and N of them at once and spread by RandomizedDelaySec=,
each with a client, an overlay and a daemon of its own. Prints a table; --page writes it into docs/fleet.md, too.
Usage: bench_fleet.py [--page] [HOSTS [FILES [DELAY_USEC [SPREAD_SEC]]]]"""

import os
import platform
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from ovltest import ROOT  # noqa: E402
from ovltest.bench import playground, scene_in  # noqa: E402
from ovltest.fleet import Fleet, build_release  # noqa: E402

PAGE = ROOT / "docs" / "fleet.md"
LISTING = ("opendir", "readdir", "releasedir")
NO_REQUEST = ("total", "enoent", "waiting", "waiting_max")
MARKS = "<!-- made by tests/bench/bench_fleet.py -->", "<!-- end -->"


def measure(base, n_hosts, n_files, delay_usec, spread_sec):
    with scene_in(base) as scene:
        fleet = Fleet(scene, build_release(scene, n_files), n_hosts, delay_usec, f"{spread_sec}s")
        return fleet.finalize()


def listings(counts):
    return sum(counts[k] for k in LISTING)


def kinds(counts):
    seen = sorted(((n, k) for k, n in counts.items() if k not in NO_REQUEST and n), reverse=True)
    return ", ".join(f"{n:,} {k}" for n, k in seen)


def report(n_hosts, n_files, delay_usec, spread_sec, rows):
    one = rows[0][1][0]
    yield (f"A release of {n_files:,} files; each request takes {delay_usec / 1000:g} ms; Linux {platform.release()}, "
           f"{os.cpu_count()} cores for all of it.")
    yield ""
    yield "| | requests but for listings | × one host | listings | requests/s at most | seconds |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, (counts, seconds, most) in rows:
        n = counts["total"] - listings(counts)
        times = n / (one["total"] - listings(one))
        yield f"| {name} | {n:,} | {times:.2f} | {listings(counts):,} | {most:,.0f} | {seconds:.0f} |"
    yield ""
    yield f"Of one host, {one['total'] / n_files:.1f} a file: {kinds(one)}. Answered with \"no such file\": {one['enoent']:,}."


def write_page(text):
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(rf"{MARKS[0]}.*?{MARKS[1]}", lambda _: f"{MARKS[0]}\n{text}\n{MARKS[1]}", page, flags=re.S), encoding="utf-8")


def main():
    args = [a for a in sys.argv[1:] if a != "--page"]
    n_hosts, n_files, delay_usec, spread_sec = [int(a) for a in args] + [16, 200, 500, 60][len(args):]
    with playground() as base:
        rows = [("1 host", measure(base, 1, n_files, delay_usec, 0)),
                (f"{n_hosts} hosts, all at once", measure(base, n_hosts, n_files, delay_usec, 0)),
                (f"{n_hosts} hosts, `RandomizedDelaySec={spread_sec}s`", measure(base, n_hosts, n_files, delay_usec, spread_sec))]
    text = "\n".join(report(n_hosts, n_files, delay_usec, spread_sec, rows))
    print(text)
    if "--page" in sys.argv:
        write_page(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
