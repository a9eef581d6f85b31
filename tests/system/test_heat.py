# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who comes back to a directory uses it. Who goes through all of them once does not, and we ourselves never do."""

import itertools
import os
import subprocess
import sys

import pytest

from ovltest import heat, run
from ovltest.daemon import wait_for
from ovltest.heat import AUTOMATIC, finalized, hot, is_settled, use, watched
from ovltest.holders import Shell
from ovltest.tree import age, write

LAST = "last"
HOT_OPENS = 20  # the default
# Whatever is seen at all is hot: nothing of ours is seen.
ANY_IS_HOT = {"Finalize": {"Automatic": "yes"}, "Watch": {"HotOpens": "1"}}

SCANNERS = {
    "tar": "tar -cf - . | cat",
    "find": "find . -type f -exec cat {} ';'",
    "find-plus": "find . -type f -exec cat {} +",
    "grep": "grep -r 'not in there' . || true",
    "parallel": "find . -type f -print0 | xargs -0 -n3 -P4 cat",
    # As an indexer: what it is, then what is in it.
    "file": "find . -type f | while read -r f; do head -c 16 \"$f\"; cat \"$f\"; done",
    "rsync": "rsync -a ./ ../copy && rm -r ../copy",
}

MAIN_C = "{declarations} int main(void) {{ return {calls}; }}\n"


def build(scene, directories):
    source = heat.build(scene, directories)
    for i in range(200):
        write(os.path.join(source, LAST, f"file{i}"), b"")
    age(source)
    return source


def settle(daemon, overlay):
    """Waits until all that has happened so far has been told: it is told in order. After a job a watch may be missing for a
    moment."""
    seen = hot(daemon, overlay).get(LAST, 0)
    n = itertools.count(seen)

    def use_until_counted():
        with open(overlay / f"{LAST}/file{next(n) % 200}", "rb"):  # not the same one each time: that would be use
            pass
        return hot(daemon, overlay).get(LAST, 0) > seen
    wait_for(use_until_counted, f"{LAST} to be counted", step=0.2)


# Scans

def test_a_scan_is_no_use(scene):
    """Not even all of these one after the other."""
    source = build(scene, [])
    for i in range(12):
        for j in range(30):
            write(os.path.join(source, f"app{i % 4}/v{i}/lib", f"file{j}"), b"%d\n" % j)
        write(os.path.join(source, f"app{i % 4}/v{i}", "README"))
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, AUTOMATIC))
    watched(daemon)
    for name, command in SCANNERS.items():
        run("sh", "-c", command, cwd=overlay.point)
        settle(daemon, overlay)
        heats = hot(daemon, overlay, "heat")
        assert len(heats) > 24 and max(heats.values()) < HOT_OPENS, f"{name}: {heats}"
    assert min(n for path, n in hot(daemon, overlay).items() if path.endswith("lib")) >= 30 * len(SCANNERS)
    assert not daemon.manager().ListJobs()
    # That it has all been opened before hides no use.
    for i in range(HOT_OPENS):
        for name in ("file28", "file29"):
            with open(overlay / f"app1/v1/lib/{name}", "rb"):
                pass
    wait_for(lambda: finalized(daemon) == {overlay / "app1/v1/lib"}, "what is used")


# Programs

def make_libraries(source, directories):
    """A library in each of the directories, and a program that needs all of them."""
    functions = [f"f{i}" for i in range(len(directories))]
    main = write(os.path.join(source, "main.c"), MAIN_C.format(
        declarations=" ".join(f"int {f}(void);" for f in functions), calls="+".join(f"{f}()" for f in functions)).encode())
    libraries = []
    for directory, f in zip(directories, functions):
        path = os.path.join(source, directory, f"lib{f}.so")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        code = write(os.path.join(source, f"{f}.c"), f"int {f}(void) {{ return 0; }}\n".encode())
        run("gcc", "-shared", "-fPIC", "-o", path, f"-Wl,-soname,lib{f}.so", code)
        libraries.append(path)
    run("gcc", "-o", os.path.join(source, "bin", "program"), main, *libraries)


def test_a_loader(scene):
    """A program is started again and again: where its libraries lie is found, among many directories it looks into."""
    source = build(scene, ["bin", *(f"part{i:02}/lib" for i in range(40))])
    used = [f"part{i:02}/lib" for i in range(9, 40, 10)]
    make_libraries(source, used)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, AUTOMATIC))
    watched(daemon)
    path = ":".join(overlay / f"part{i:02}/lib" for i in range(40))

    def start(times):
        for _ in range(times):
            subprocess.run([overlay / "bin/program"], env={"LD_LIBRARY_PATH": path}, check=True)
        settle(daemon, overlay)
    start(HOT_OPENS // 2)
    assert not daemon.manager().ListJobs()
    start(HOT_OPENS // 2 + 2)
    # A job below lets a directory out of sight for a moment, so a start may count for less.
    wait_for(lambda: finalized(daemon) >= {overlay / d for d in used} or start(1), "the libraries")
    wait_for(lambda: is_settled(daemon), "the end")
    assert finalized(daemon) - {overlay / "bin"} == {overlay / d for d in used}


def test_an_interpreter(scene):
    """It lists the directories on its path, and opens many modules, each once a start."""
    source = build(scene, ["empty", "other"])
    for i in range(30):
        write(os.path.join(source, "site/package", f"module{i}.py"), b"")
    write(os.path.join(source, "site/package/__init__.py"), b"")
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, AUTOMATIC))
    watched(daemon)
    code = "; ".join(f"import package.module{i}" for i in range(30))
    environment = {"PYTHONPATH": f"{overlay / 'empty'}:{overlay / 'site'}", "PYTHONDONTWRITEBYTECODE": "1"}

    def start(times):
        for _ in range(times):
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        settle(daemon, overlay)
    start(2)
    assert max(hot(daemon, overlay, "heat").values()) < HOT_OPENS and not daemon.manager().ListJobs()
    start(HOT_OPENS)
    wait_for(lambda: finalized(daemon) >= {overlay / d for d in ("empty", "site", "site/package")} or start(1), "the modules")
    assert overlay / "other" not in finalized(daemon)


# We ourselves

@pytest.mark.parametrize("settings", [AUTOMATIC, ANY_IS_HOT], ids=["default", "any"])
def test_jobs_do_not_climb(scene, settings):
    """Each job ends with something done to the directory above, which nobody uses."""
    used = [f"top/p/d{i}" for i in range(25)]
    overlay = scene.overlay(scene.lower(build(scene, [*used, "top/p/unused"])))
    daemon = scene.daemon(soft=(overlay, settings))
    watched(daemon)
    for d in used:
        use(overlay, d)
    wait_for(lambda: finalized(daemon) >= {overlay / d for d in used} and is_settled(daemon), "the directories")
    settle(daemon, overlay)
    assert set(hot(daemon, overlay)) == {*used, LAST}
    wait_for(lambda: is_settled(daemon), "the end")
    assert {str(j["Path"]) for j in daemon.jobs()} <= {overlay / d for d in (*used, LAST)}
    assert daemon.state_of(overlay / "top/p") == "merged"


def test_nothing_of_ours_is_use(scene):
    """Whatever we are asked, and whatever we look after by ourselves, with something to do for all."""
    lower = scene.lower(build(scene, ["p/a/b", "p/c", "p/stood-in"]))
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=(overlay, {**ANY_IS_HOT, "Finalize": {"Automatic": "no"}}))
    watched(daemon)
    occupant = Shell(overlay / "p/stood-in")
    try:
        for commands in ((("status",), ("status", "soft"), ("status", overlay / "p/a"), ("is-finalized", overlay / "p/c"),
                          ("check", "soft"), ("blockers", "soft"), ("finalize", "--dry-run", overlay / "p")),
                         (("finalize", overlay / "p/a"), ("finalize", "--method=mark", overlay / "p/c"),
                          ("finalize", "--standing=keep", overlay / "p/stood-in")),
                         (("verify", "soft"), ("directories", "soft"), ("refresh", overlay / "p/a")),
                         (("finalize", "--data", overlay / "p/a"),),
                         (("remount", "--method=reconfigure", "soft"), ("verify", "--repair", "soft")),
                         (("unfinalize", overlay / "p/c"), ("prune", "soft"))):
            for command in commands:
                if command[0] == "refresh":
                    write(os.path.join(lower.source, "p/a/new"))
                    write(os.path.join(lower.source, "p/a/b/file"), b"changed")
                if command[0] == "prune":
                    os.unlink(os.path.join(lower.source, "p/a/b/other"))
                lower.invalidate()
                result = daemon.ctl(*command)
                assert result.code == 0 or command[0] not in ("refresh", "prune", "remount"), (command, result)
            settle(daemon, overlay)
            assert set(hot(daemon, overlay)) == {LAST}, commands
        assert sorted(os.listdir(overlay.upper_path("p/a"))) == ["b", "new"]
        assert os.listdir(overlay.upper_path("p/a/b")) == ["file"]
        assert os.stat(overlay.upper_path("p/a/new")).st_blocks
    finally:
        occupant.close()
    wait_for(lambda: daemon.kept() == 0, "the old tree to go")
    daemon.restart()  # a survey, a comparison, another watcher
    watched(daemon)
    wait_for(lambda: not daemon.workers()[1:], "the comparison")
    settle(daemon, overlay)
    assert set(hot(daemon, overlay)) == {LAST}
