#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""page.py DIRECTORY…: writes docs/kernels.md to standard output from what guests of tests/kernels measured, each in one."""

import json
import re
import sys
from pathlib import Path

HEAD = """# What was measured on which kernel

This page was written by `sudo tests/kernels --page`, which runs the package in guests with the kernels of Debian 12 and 13. Server and
client are those of the kernel, on one machine. Requests are those that the client counted, `ENOENT`s those that the server answered to
lookups. *Entries* are directories, files, symlinks and so on of the release. `nocto,actimeo=3600` stands for a mount that
trusts what it has cached for an hour, `hard` for one with default options: there the client asks again for attributes after some
seconds, so that figures depend on how fast the machine is (an emulated one is slow).

*By hand* is `chown -R -h`, `ls -lR`, and a fresh mount: the procedure that copies everything up, and on a stock kernel stops no lookup.
A *start* is that of a program that looks for files in many library and Python directories, with cold caches unless it says *live*.
"""
FEATURES = "What kernels have and lack"


def load(directory):
    with open(Path(directory) / "results", encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.startswith("{")]


def figures(result):
    entries = result.get("entries")
    of, per_entry = (f"{entries:,}", f"{result['requests'] / entries:.2f}") if entries else ("", "")
    operations = ", ".join(f"{name} {n:,}" for name, n in sorted(result["operations"].items(), key=lambda o: -o[1]))
    return f"| {result['step']} | {result['enoents']:,} | {result['requests']:,} | {of} | {per_entry} | {operations} |"


def feature_table(guests):
    """Rows: features; columns: kernels."""
    columns = [{r["feature"]: r for r in results if "feature" in r} for results in guests]
    yield "| | " + " | ".join(f"Linux {results[0]['kernel']}" for results in guests) + " |"
    yield "| --- |" + " --- |" * len(guests)
    for feature in columns[0]:
        answers = ("yes" if column[feature]["has"] else column[feature]["instead"] for column in columns if feature in column)
        yield f"| {feature} | " + " | ".join(answers) + " |"


def step_table(results):
    yield "| | `ENOENT`s | requests | entries | per entry | by operation |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    yield from map(figures, results)


def anchor(heading):
    """As GitHub and its like make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def main():
    guests = [load(d) for d in sys.argv[1:]]
    sections = {FEATURES: feature_table(guests)}
    for results in guests:
        steps = [r for r in results if "step" in r]
        for version, options in dict.fromkeys((r["version"], r["options"]) for r in steps):
            mine = [r for r in steps if (r["version"], r["options"]) == (version, options)]
            sections[f"Linux {mine[0]['kernel']}, NFS {version}, `{options}`"] = step_table(mine)
    print(HEAD)
    for heading in sections:
        print(f"- [{heading}](#{anchor(heading)})")
    for heading, lines in sections.items():
        print(f"\n## {heading}\n", *lines, sep="\n")


if __name__ == "__main__":
    main()
