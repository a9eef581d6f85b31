#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Captures screens of ovlfinctl, from a real run on a terminal of 80 columns, as SVG. Usage: sudo env OVLFIND_BUILD=… PYTHONPATH=tests/lib
tests/tools/screens.py FOLDER (docs/screens is what the pages show)."""

import html
import os
import re
import sys
from pathlib import Path

from ovltest import OverlayMount, Scene, binary, enter_namespace, missing_privilege, run
from ovltest.ctl import ctl_environment
from ovltest.daemon import wait_for
from ovltest.terminal import run_on_terminal
from ovltest.tree import release, write

BASE = "/srv"  # in a namespace of our own; what is shown has paths as short as on a real system
COLUMNS = 80
WIDTH, HEIGHT = 8.4, 18  # of a character
# As ctl/term.c has them; the palette is one that is readable on dark ground.
COLORS = {"32": "#7ec16e", "33": "#e0b252", "31": "#e06c6c", "90": "#8a8f98"}
GROUND, TEXT = "#1d2026", "#d7dae0"


def capture(address, *arguments, cwd="/"):
    """What the program shows, control sequences and all."""
    env = {**ctl_environment(address), "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "cat"}
    env.pop("NO_COLOR", None)
    return run_on_terminal(binary("ovlfinctl"), *arguments, env=env, cwd=cwd)[1].replace("\r\n", "\n")


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*[mK]", "", text)


def spans(line):
    """A line as SVG: one tspan for each run of a colour."""
    color, bold = TEXT, False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if m := re.fullmatch(r"\x1b\[([0-9;]*)m", part):
            codes = m.group(1).split(";")
            color = next((COLORS[c] for c in codes if c in COLORS), TEXT)
            bold = "1" in codes
        elif part:
            weight = ' font-weight="bold"' if bold else ""
            yield f'<tspan fill="{color}"{weight}>{html.escape(part)}</tspan>'


def svg(command, text):
    lines = [f"\x1b[0;90m$\x1b[0m {command}", *text.rstrip("\n").split("\n")]
    width, height = COLUMNS * WIDTH + 24, len(lines) * HEIGHT + 24
    rows = "\n".join(f'<text x="12" y="{12 + HEIGHT * (i + 1) - 5}" xml:space="preserve">{"".join(spans(line))}</text>'
                     for i, line in enumerate(lines))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" font-family="DejaVu Sans Mono, Menlo, '
            f'Consolas, monospace" font-size="14">\n<rect width="100%" height="100%" rx="6" fill="{GROUND}"/>\n{rows}\n</svg>\n')


def capture_top(daemon, overlay):
    """Some directories in use, some more than others."""
    def is_seen():
        for directory, n in (("geo/3.2/lib", 14), ("geo/3.1/lib", 9), ("tools/bin", 2)):
            paths = [os.path.join(overlay.point, directory, name) for name in sorted(os.listdir(overlay / directory))]
            files = [path for path in paths if not os.path.islink(path)]
            for i in range(n):  # two in turn: of the same that follows itself the kernel tells once
                with open(files[i % 2], "rb"):
                    pass
        return daemon.ctl("top", "--no-legend").out.count("\n") == 3

    wait_for(is_seen, "what is opened to be seen", step=0.5)
    return capture(daemon.bus.address, "top", "-n1", "--batch")


def screens(scene):
    """(name, command, what it shows): an overlay with a bit of everything, while a job is at work."""
    source = scene.source()
    for version in ("3.1", "3.2"):
        release(os.path.join(source, "geo", version))
    for i in range(400):
        write(os.path.join(source, "maps", f"tile{i}"))
    write(os.path.join(source, "tools/bin/x"))
    os.link(os.path.join(source, "tools/bin/x"), os.path.join(source, "tools/bin/y"))
    lower = scene.lower(source)
    overlay = scene.keep(OverlayMount(f"{BASE}/ovl", [lower.point], scene.upper()))
    # A comparison is put off: that the lower layers are slow, and the root is listed by others, shows in what it finds.
    daemon = scene.daemon(software=(overlay, {"Watch": {"Directories": "geo/*/lib tools/bin"},
                                              "Finalize": {"RandomizedDelaySec": "300days"}}))
    daemon.ctl("finalize", "geo", cwd=overlay.point).ok()
    daemon.ctl("finalize", "tools", cwd=overlay.point)
    shown = [("top", "ovlfinctl top -n1 --batch", capture_top(daemon, overlay))]
    lower.delay(60_000)
    job = daemon.finalize(overlay / "maps")
    wait_for(lambda: int(daemon.job(job)["EntriesTotal"]) and int(daemon.job(job)["EntriesDone"]) > 150, "some progress", 60)
    shown += [(name, command, capture(daemon.bus.address, *command.split()[1:], cwd=overlay.point)) for name, command in (
        ("status", "ovlfinctl status"), ("overlay", "ovlfinctl status software"), ("jobs", "ovlfinctl jobs"))]
    lower.delay(0)
    daemon.wait_job(job)
    shown += [("directories", "ovlfinctl directories --state=excluded,pending",
               capture(daemon.bus.address, "directories", "--state=excluded,pending", cwd=overlay.point))]
    # Where things are is of no interest, and not the same twice.
    return [(name, command, text.replace(lower.point, "/srv/software").replace(os.path.dirname(overlay.upper.upper), "/var/lib/ovl"))
            for name, command, text in shown]


def main():
    if reason := missing_privilege():
        sys.exit(f"screens: cannot run here: {reason}")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    enter_namespace()
    run("mount", "-t", "tmpfs", "-o", "mode=755", "screens", BASE)
    scene = Scene(BASE)
    try:
        for name, command, text in screens(scene):
            (folder / f"{name}.svg").write_text(svg(command, text), encoding="utf-8")
    finally:
        scene.close()


if __name__ == "__main__":
    main()
