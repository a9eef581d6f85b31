#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""page.py DIRECTORY…: writes docs/kernels.md to standard output from what guests of tests/kernels measured, each in one.
page.py --check PAGE DIRECTORY…: tells in what the kernels differ otherwise than PAGE says."""

import json
import re
import sys
from pathlib import Path

HEAD = """# What was measured on which kernel

This page was written by `sudo tests/kernels --page`, which runs the package in guests with the kernels of Debian 12 and 13:
{kernels}. The server and the client of NFS are those of the kernel, on one machine.
"""
REQUESTS = """Requests are those that the client counted, `ENOENT`s those that the server answered to
lookups. *Entries* are directories, files, symlinks and so on of the release. `nocto,actimeo=3600` stands for a mount that
trusts what it has cached for an hour, `hard` for one with default options: there the client asks again for attributes after some
seconds, so that figures depend on how fast the machine is (an emulated one is slow).

*By hand* is `chown -R -h`, `ls -lR`, and a fresh mount: the procedure that copies everything up, and on a stock kernel stops no lookup.
A *start* is that of a program that looks for files in many library and Python directories, with cold caches unless it says *live*.
"""
OUTAGES = """The server is stopped and started, has another file system in its place (`ESTALE`), or is there for others only
(`EACCES`), each in the middle of a finalize, a refresh and an undo. Afterwards the job has ended, or ends when it is asked for again;
contents are the same, `verify` finds nothing. `ovlfinctl status` answers all the while; how fast says as much of the machine, which may
have to emulate two guests, as of the daemon.
"""
CUTS = """While directories are finalized, refreshed and undone, a program makes, replaces, appends to, renames and removes files there, and
syncs each. Every write to the disk of the upper, with the daemon's state on it, goes through dm-log-writes. The power fails at random
moments: the disk is made again as it was then, with all that had been flushed and any part of what had not. What the next boot finds
there is read, looked through by a daemon, verified and finalized. *Promises* are steps of the program that had been synced, of all cuts
together: each one was there afterwards, but for those that are *forgotten*: on btrfs alone, where the file system had lost them before the
daemon looked, as it does where nobody finalizes anything. *Mended* are those that only showed once the daemon had looked: they had come into
an old tree in the moment of an exchange.

Not shown: disks that lose what they said was flushed, or write part of a sector; a machine that really boots.
"""
EXPORTS = """On each of these, a small release is finalized: the server answers no `ENOENT` afterwards, live and after a fresh mount, and contents
are the same. The last column is about a directory beside it with a file of mode 600 that belongs to root. With `root_squash` root may not
read it, and on NFSv4 the kernel has to open a file to copy it up, so its directory is not finalized, which the message says.
"""
SKIPPED = """Of the system tests that run in the guests (`tests/kernel/system-tests`), these do not run, or are skipped:
"""
FEATURES = "What kernels have and lack"
TESTS = "Tests that do not run"
POWER = "When the power fails"
SERVER = "When the server goes away"
MOUNTS = "Exports and mounts"


def load(directory):
    with open(Path(directory) / "results", encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.startswith("{")]


def release(results):
    return next(r["kernel"] for r in results if "kernel" in r)


def name(results):
    return "Linux " + ".".join(release(results).split(".")[:2])


def table(head, rows, align=""):
    """align: a letter a column, r for numbers."""
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---:" if i < len(align) and align[i] == "r" else "---" for i in range(len(head))) + " |"
    for row in rows:
        yield "| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in row) + " |"


def figures(result):
    entries = result.get("entries")
    of, per_entry = (entries, f"{result['requests'] / entries:.2f}") if entries else ("", "")
    operations = ", ".join(f"{name} {n:,}" for name, n in sorted(result["operations"].items(), key=lambda o: -o[1]))
    return result["step"], result["enoents"], result["requests"], of, per_entry, operations


def feature_table(guests):
    columns = [{r["feature"]: r for r in results if "feature" in r} for results in guests]
    rows = ([feature, *("yes" if column[feature]["has"] else column[feature]["instead"] for column in columns if feature in column)]
            for feature in columns[0])
    return list(table(["", *map(name, guests)], rows))


def skipped_table(guests):
    columns = [{r["skipped"]: r["reason"] for r in results if "skipped" in r} for results in guests]
    tests = sorted({test for column in columns for test in column})
    rows = ([f"`{test}`", *(column.get(test, "runs") for column in columns)] for test in tests)
    return list(table(["", *map(name, guests)], rows))


def of_all(guests, key):
    return [(name(results), r) for results in guests for r in results if key in r]


def cut_table(guests):
    rows = ((kernel, r["upper"], r["jobs"], r["writes"], r["cuts"], r["lost"], r["promises"], r["repaired"], r["forgotten"])
            for kernel, r in of_all(guests, "cuts"))
    return table(["", "upper", "jobs", "writes", "cuts", "writes lost", "promises", "mended", "forgotten"], rows, "llrrrrrrr")


def outage_table(guests):
    rows = ((kernel, r["version"], f"`{r['options']}`", "; ".join(r["outages"]), r["status"], f"{r['longest']:.2f} s")
            for kernel, r in of_all(guests, "outages"))
    return table(["", "NFS", "mounted", "outages, and what became of the job", "answers to `status`", "longest"], rows, "llllrr")


def export_table(guests):
    rows = ((kernel, f"`{r['export']}`", "yes", "yes" if r["secret"] else "no") for kernel, r in of_all(guests, "export"))
    return table(["", "NFS, mounted, exported", "finalized", "with a file of root's"], rows)


def anchor(heading):
    """As GitHub and its like make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def sections(guests):
    """Heading to lines."""
    result = {FEATURES: feature_table(guests)}
    if of_all(guests, "skipped"):
        result[TESTS] = [SKIPPED, *skipped_table(guests)]
    if of_all(guests, "cuts"):
        result[POWER] = [CUTS, *cut_table(guests)]
    if of_all(guests, "outages"):
        result[SERVER] = [OUTAGES, *outage_table(guests)]
    if of_all(guests, "export"):
        result[MOUNTS] = [EXPORTS, *export_table(guests)]
    result["Requests"] = [REQUESTS.rstrip()]
    for results in guests:
        steps = [r for r in results if "step" in r]
        for version, options in dict.fromkeys((r["version"], r["options"]) for r in steps):
            mine = [figures(r) for r in steps if (r["version"], r["options"]) == (version, options)]
            result[f"{name(results)}, NFS {version}, `{options}`"] = table(
                ["", "`ENOENT`s", "requests", "entries", "per entry", "by operation"], mine, "lrrrrl")
    return result


def check(page, guests):
    """Which lines of what kernels differ in are not in the page, and which of the page's are not so."""
    text = Path(page).read_text(encoding="utf-8")
    for heading, found in ((FEATURES, feature_table(guests)), (TESTS, skipped_table(guests))):
        _, has_part, rest = text.partition(f"\n## {heading}\n")
        if not has_part:
            continue
        part = rest.partition("\n## ")[0]
        said = [line for line in part.splitlines() if line.startswith("|")]
        yield from (f"{heading}: not in {page}: {line}" for line in found if line not in said)
        yield from (f"{heading}: not so any more: {line}" for line in said if line not in found)


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--check":
        differences = list(check(arguments[1], [load(d) for d in arguments[2:]]))
        print(*differences, sep="\n", end="\n" if differences else "")
        sys.exit(1 if differences else 0)
    guests = [load(d) for d in arguments]
    print(HEAD.format(kernels=", ".join(map(release, guests))))
    parts = sections(guests)
    for heading in parts:
        print(f"- [{heading}](#{anchor(heading)})")
    for heading, lines in parts.items():
        print(f"\n## {heading}\n", *lines, sep="\n")


if __name__ == "__main__":
    main()
