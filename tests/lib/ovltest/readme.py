# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the README, the pages of docs/ and the manuals say, executed. A block of code is commands, or a session: lines that begin with "$ " and what
they print."""

import re
import subprocess

from .env import ROOT, end, spawn

# overlayfs-sessions.md is typed by a test of its own, without ovlfind.
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "overlayfs-sessions.md")]
# What differs from run to run: times, durations, process numbers, identities.
CHANGING = (
    (r"\d\d:\d\d:\d\d", "TIME"), (r"\d{4}-\d\d-\d\d", "DATE"), (r"\b[A-Z][a-z]{2} [ \d]\d TIME", "DATE TIME"),
    (r"\b\d+(\.\d+)? (s|ms)\b", "DURATION"), (r"just now|DURATION ago", "AGO"), (r"\[\d+\]", "[PID]"),
    (r"\bin use by \d+", "in use by PID"), (r"(?m)^ *\d+ +\d+\.\d (?=[a-z])", "HEAT OPENS "),
    (r"(?m)^ *(PID|\d+)(?= \w+ +(KIND|open|cwd|lock))", "PID"),
    (r"ovlfind-old-[0-9a-f]{16}", "ovlfind-old-ID"), (r"\buuid=on,", ""), (r"(Sources: ).*(\n +(paths|misses) \w+: .*)*", r"\1NAMES"), (r"(Watching: )\d+ (of \d+ )?director\w+", r"\1N"),
)
ASKED_FOR = set()  # sections whose session was


def normalized(text):
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text)
    # How far a job is, is told when it takes longer.
    return [line.rstrip() for line in text.splitlines() if line.strip() and not re.match(r"\d+% \w+ing '", line)]


def manual(name):
    return ROOT / "man" / f"{name}.scd"


def page(title):
    """The one page that has this heading."""
    found = [p for p in PAGES if title in headings(p)]
    assert len(found) == 1, f"'{title}' is a heading of {found}"
    return found[0]


def headings(document):
    return re.findall(r"^#+ ([A-Z].*)$", document.read_text(encoding="utf-8"), re.M)


def section(title, document=None):
    """The text below a heading, up to the next one of any kind."""
    document = document or page(title)
    text = document.read_text(encoding="utf-8")
    if document.suffix == ".scd":
        text = text.replace("\\\\", "\\")
    start = re.search(rf"^#+ {re.escape(title)}\n", text, re.M).end()
    following = re.search(r"^#+ [A-Z]", text[start:], re.M)
    return text[start:start + following.start()] if following else text[start:]


def blocks(title, document=None):
    """The blocks of code in a section."""
    return re.findall(r"^```\w*\n(.*?)^```", section(title, document), re.M | re.S)


def sessions():
    """The headings of sections with a session, of all pages."""
    return {title for p in PAGES for title in headings(p) if any(b.startswith("$ ") for b in blocks(title, p))}


def session(title):
    """The session of a section: (command, what it prints)."""
    ASKED_FOR.add(title)
    found = []
    for block in blocks(title):
        for line in block.splitlines() if block.startswith("$ ") else ():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in found]


class Shell:
    """A shell on a machine, in which one command is typed after the other."""

    MARK = "--- done ---"

    def __init__(self, machine):
        self.process = spawn("nsenter", "-t", machine.pid, "-a", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                             "bash", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        # It is root's shell, and a terminal's ls.
        self.type('cd /; sudo() { "$@"; }; ls() { command ls -C "$@"; }')

    def type(self, command):
        """What the command prints, errors among it."""
        self.process.stdin.write(f"{command}\necho '{self.MARK}'\n")
        self.process.stdin.flush()
        lines = []
        while (line := self.process.stdout.readline().rstrip("\n")) != self.MARK:
            lines.append(line)
            assert self.process.poll() is None, lines
        return "\n".join(lines)

    def close(self):
        end(self.process)
        self.process.stdin.close()
        self.process.stdout.close()
