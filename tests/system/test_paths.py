# SPDX-License-Identifier: LGPL-2.1-or-later
"""Directories that programs search are found by what these say when they start, also those in which nothing is ever opened."""

import os
import signal
import subprocess
import sys

import dbus
import pytest

from ovltest import heat, run
from ovltest.daemon import wait_for
from ovltest.fakedaemon import Fake, failure
from ovltest.heat import finalized, hot, is_settled, properties
from ovltest.tree import age, write

PATHS_ONLY = {"Watch": {"Sources": "paths"}, "Finalize": {"Automatic": "yes"}}
STARTS = 10
HOT_MISSES = 20  # the default
ONE_START = 4  # what it counts, in misses; with the defaults an open is as much


def sources(daemon, name="soft"):
    return {str(s["name"]): (str(s["state"]), str(s["reason"])) for s in properties(daemon, name)["Sources"]}


def listening(daemon, name="soft"):
    """Waits until starts are seen; a program that has just started may be the first. Where the kernel tells nobody of them, as in a
    container, those that live long enough are found all the same."""
    state, reason = wait_for(lambda: (s := sources(daemon, name)["paths"])[0] not in ("off", "starting") and s, "the source")
    assert state == "on" or state == "partly", f"{state}: {reason}"


def start(daemon, times, n_directories, *command, **environment):
    """Programs that read their input, at once, and end when all are known to search so many directories: also on a machine that is
    busy with something else."""
    before = searches(daemon)
    programs = [subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(times)]
    wait_for(lambda: searches(daemon) >= before + times * n_directories, "programs to be seen")
    for program in programs:
        program.stdin.close()
        assert program.wait(100) == 0


def searches(daemon):
    return sum(int(daemon.properties(path, heat.OVERLAY)["Counters"]["searches"]) for _, path in daemon.manager().ListOverlays())


def seen(daemon, overlay, directory, more_than=0):
    return wait_for(lambda: (n := hot(daemon, overlay, "heat").get(directory, 0)) > more_than and n, f"{directory} to be hot")


def is_done(daemon, overlay, directories):
    expected = {overlay / d for d in directories}
    # Such jobs take what others leave of the processors; on a machine that has a lot else to do that is little.
    wait_for(lambda: finalized(daemon) >= expected and is_settled(daemon), "the search path", timeout=500)


def misses_of_a_cold_start(daemon, lower, *command, **environment):
    daemon.ctl("remount", "soft").ok()
    with lower.measure() as counts:
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=True)
    return counts.enoent


def make_program(source, directory, name, *arguments):
    """A library with a function of this name, and bin/NAME that needs it."""
    code = write(os.path.join(source, f"{name}.c"), f"int {name}(void) {{ return 0; }}\n".encode())
    library = os.path.join(source, directory, f"lib{name}.so")
    os.makedirs(os.path.dirname(library), exist_ok=True)
    run("gcc", "-shared", "-fPIC", "-o", library, f"-Wl,-soname,lib{name}.so", code)
    main = write(os.path.join(source, f"{name}-main.c"), f"#include <stdio.h>\nint {name}(void); int main(void) {{ return {name}() + (getchar() != EOF); }}\n".encode())
    os.makedirs(os.path.join(source, "bin"), exist_ok=True)
    run("gcc", "-o", os.path.join(source, "bin", name), main, library, *arguments)


# What it is for

@pytest.mark.timeout(600)
def test_the_loader(scene):
    """Nothing is configured but where the overlay is. The last of 20 directories has the library; 19 are asked in vain."""
    directories = [f"part{i:02}/lib" for i in range(20)]
    source = heat.build(scene, directories)
    make_program(source, directories[-1], "thing")
    age(source)
    lower = scene.lower(source)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(start=False)
    write(os.path.join(daemon.overlays_d, "soft.conf"), f"[Overlay]\nMountPoint={overlay.point}\n".encode())
    daemon.start()
    listening(daemon)
    command, environment = overlay / "bin/thing", {"LD_LIBRARY_PATH": ":".join(overlay / d for d in directories)}
    before = misses_of_a_cold_start(daemon, lower, command, **environment)
    start(daemon, STARTS - 1, 20, command, **environment)
    is_done(daemon, overlay, directories)
    assert before >= 19
    assert misses_of_a_cold_start(daemon, lower, command, **environment) == 0


def test_a_long_path_of_a_shell(scene):
    """160 directories, a tenth of which has a command: all are hot, and not only these."""
    directories = [f"part{i:03}/bin" for i in range(160)]
    source = heat.build(scene, directories)
    commands = [write(os.path.join(source, d, f"command{i}"), b"#!/bin/sh\n", 0o755) for i, d in enumerate(directories) if i % 10 == 9]
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "paths"}}))
    listening(daemon)
    shell = "\n".join(["read x", *(os.path.basename(c) for c in commands)])
    start(daemon, STARTS, 160, "/bin/sh", "-c", shell, PATH=":".join(overlay / d for d in directories))
    heats = hot(daemon, overlay, "heat")
    assert set(heats) == set(directories) and min(heats.values()) >= HOT_MISSES


PROGRAMS = {
    "shell": ("PATH", ("/bin/sh", "-c", "read x || exit 0"), 8),
    "perl": ("PERL5LIB", ("/usr/bin/perl", "-e", "<STDIN>"), 3),
    "python": ("PYTHONPATH", (sys.executable, "-c", "import sys; sys.stdin.read()"), 3),
    "mine": ("MY_MODULES_PATH", ("/bin/cat",), 3),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_variables(scene, name):
    variable, command, n = PROGRAMS[name]
    directories = [f"part{i:02}" for i in range(n)]
    overlay = scene.overlay(scene.lower(heat.build(scene, [*directories, "unused"])))
    daemon = scene.daemon(soft=(overlay, {**PATHS_ONLY, "Watch": {"Sources": "paths", "SearchVariables": "*_MODULES_PATH"}}))
    listening(daemon)
    start(daemon, STARTS, n, *command, **{variable: ":".join(["/usr/bin", *(overlay / d for d in directories)])})
    is_done(daemon, overlay, directories)
    assert finalized(daemon) == {overlay / d for d in directories}


def test_a_virtual_environment(scene):
    """Where modules are searched no variable says, but how the interpreter is called."""
    version = os.path.basename(os.path.realpath(sys.executable))
    site = f"venv/lib/{version}/site-packages"
    source = heat.build(scene, ["other"])
    run(sys.executable, "-m", "venv", "--without-pip", os.path.join(source, "venv"))
    for i in range(60):
        write(os.path.join(source, site, f"package{i}", "__init__.py"), b"")
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, PATHS_ONLY))
    listening(daemon)
    start(daemon, STARTS, 2, overlay / "venv/bin/python3", "-c", "import package7, sys; sys.stdin.read()")
    is_done(daemon, overlay, [site])
    assert overlay / "other" not in finalized(daemon)


def test_a_run_path(scene):
    """What the executable says itself, relative to where it lies."""
    source = heat.build(scene, ["lib/empty", "lib/used", "other"])
    make_program(source, "lib/used", "thing", "-Wl,-rpath,$ORIGIN/../lib/empty:$ORIGIN/../lib/used")
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, PATHS_ONLY))
    listening(daemon)
    start(daemon, STARTS, 2, overlay / "bin/thing")
    is_done(daemon, overlay, ["lib/empty", "lib/used"])
    assert overlay / "other" not in finalized(daemon)


# What counts

def test_a_process_counts_once(scene):
    """Whatever it executes, and by whatever name it comes to a directory; and only a directory that there is."""
    source = heat.build(scene, ["a/1.0", "excluded", "stop"])
    os.symlink("1.0", os.path.join(source, "a", "current"))
    os.symlink("/usr", os.path.join(source, "out"))
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "paths", "Exclude": "excluded"}}))
    listening(daemon)
    path = ":".join(overlay / d for d in ("a/1.0", "a/current", "a/../a//1.0/.", "a/missing", "out", "out/bin", "a/1.0/file", "excluded", ""))
    start(daemon, 1, 1, "/bin/sh", "-c", "exec /bin/sh -c 'exec /bin/cat'", LD_LIBRARY_PATH=path)
    start(daemon, 1, 1, "/bin/cat", PATH=overlay / "stop")
    seen(daemon, overlay, "stop")
    assert hot(daemon, overlay, "heat") == {"a/1.0": ONE_START, "stop": ONE_START}


def test_nothing_of_ours_counts(scene):
    """Workers have the environment of the daemon."""
    overlay = scene.overlay(scene.lower(heat.build(scene, ["d", "bin", "stop"])))
    daemon = scene.daemon(start=False, soft=(overlay, {"Watch": {"Sources": "paths", "HotMisses": "1"}}))
    daemon.start(env={"LD_LIBRARY_PATH": overlay / "bin"})
    listening(daemon)
    daemon.ctl("finalize", overlay / "d").ok()
    daemon.ctl("status", overlay / "d").ok()
    daemon.ctl("check", "soft")
    daemon.ctl("unfinalize", overlay / "d").ok()
    start(daemon, 1, 1, "/bin/cat", PATH=overlay / "stop")
    seen(daemon, overlay, "stop")
    assert set(hot(daemon, overlay)) == {"stop"}


def test_what_is_finalized_gains_nothing(scene):
    overlay = scene.overlay(scene.lower(heat.build(scene, ["d", "stop"])))
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "paths"}}))
    listening(daemon)
    daemon.ctl("finalize", overlay / "d").ok()
    start(daemon, 2, 1, "/bin/cat", PATH=f"{overlay / 'd'}:{overlay / 'stop'}")
    seen(daemon, overlay, "stop", ONE_START)
    assert set(hot(daemon, overlay)) == {"stop"}


def test_a_sweep_is_no_search(scene):
    """Programs that are given files one after the other search only where they are told to."""
    overlay = scene.overlay(scene.lower(heat.build(scene, [f"d{i}" for i in range(30)])))
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "paths"}}))
    listening(daemon)
    run("sh", "-c", "find . -type f -exec cat {} ';' && tar -cf - . | cat", cwd=overlay.point)
    start(daemon, 1, 1, "/bin/cat", PATH=overlay / "d7")
    seen(daemon, overlay, "d7")
    assert set(hot(daemon, overlay)) == {"d7"}


def test_a_release_as_a_whole(scene):
    """Unit=: its other directories are next. What is no release is finalized for itself."""
    overlay = scene.overlay(scene.lower(heat.build(
        scene, ["app/1.0/lib", "app/1.0/share", "app/2.0/lib", "tools/bin", "tools/big/lib"])))
    daemon = scene.daemon(soft=(overlay, {**PATHS_ONLY, "Finalize": {"Automatic": "yes", "Unit": "app/*"}}))
    listening(daemon)
    start(daemon, STARTS, 3, "/bin/cat", PATH=f"{overlay / 'app/1.0/lib'}:{overlay / 'app/1.0/share'}:{overlay / 'tools/bin'}")
    is_done(daemon, overlay, ["app/1.0", "tools/bin"])
    assert {str(j["Path"]) for j in daemon.jobs()} == {overlay / "app/1.0", overlay / "tools/bin"}
    assert daemon.state_of(overlay / "app/2.0/lib") == "merged" and daemon.state_of(overlay / "tools/big/lib") == "merged"


def test_a_release_that_is_too_large(scene):
    """Then at least what is hot."""
    source = heat.build(scene, ["app/1.0/lib"])
    for i in range(50):
        write(os.path.join(source, "app/1.0/share", f"file{i}"))
    age(source)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, {**PATHS_ONLY, "Finalize": {"Automatic": "yes", "Unit": "*/*"}, "CopyUp": {"MaxEntries": "20"}}))
    listening(daemon)
    start(daemon, STARTS, 1, "/bin/cat", PATH=overlay / "app/1.0/lib")
    is_done(daemon, overlay, ["app/1.0/lib"])
    assert daemon.state_of(overlay / "app/1.0") == "excluded"


# What a program may see

def start_one(daemon, overlay, *command, directories, stop, **options):
    """One program, and another one after it, when both have been counted."""
    path = ":".join(overlay / d for d in directories)
    one = subprocess.Popen(command, env={"LD_LIBRARY_PATH": path}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, **options)
    try:
        seen(daemon, overlay, directories[-1])
        start(daemon, 1, 1, "/bin/cat", PATH=overlay / stop)
        seen(daemon, overlay, stop)
    finally:
        one.stdin.close()
        assert one.wait(100) == 0


def test_what_it_may_not_search(scene):
    """Nobody learns by what is hot whether there is a directory that he cannot get at, or where a symlink in there leads to."""
    source = heat.build(scene, ["private/d", "group/d", "open", "shared", "stop"])
    os.symlink("../open", os.path.join(source, "private/link"))
    os.chmod(os.path.join(source, "private"), 0o700)
    os.chmod(os.path.join(source, "group"), 0o710)
    os.chown(os.path.join(source, "group"), 0, 4321)
    overlay = scene.overlay(scene.lower(source))
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "paths"}}))
    listening(daemon)
    asked = ["private/d", "private/link", "group/d", "shared"]
    start_one(daemon, overlay, "/bin/cat", directories=asked, stop="stop", user=65534, group=65534, extra_groups=[])
    assert set(hot(daemon, overlay)) == {"shared", "stop"} and searches(daemon) == 2
    start_one(daemon, overlay, "/bin/cat", directories=asked[:3], stop="stop", user=65534, group=65534, extra_groups=[4321])
    start(daemon, 1, 1, "/bin/cat", PATH=overlay / "private/d")
    seen(daemon, overlay, "private/d")
    assert set(hot(daemon, overlay)) == {"shared", "stop", "group/d", "private/d"}


ELSEWHERE = """
if [ "$1" ]; then mount -t tmpfs none "$2"; fi
LD_LIBRARY_PATH=$3 exec /bin/cat
"""


def test_another_namespace(scene):
    """What counts is what is there in the mount namespace of the program."""
    overlay = scene.overlay(scene.lower(heat.build(scene, ["a", "b", "stop"])))
    other = scene.overlay(scene.lower(heat.build(scene, ["seen"])))
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "paths"}}), other=(other, {"Watch": {"Sources": "paths"}}))
    listening(daemon)
    for hides, directory in (("", "a"), ("1", "b")):
        command = ("unshare", "-m", "--propagation", "private", "sh", "-c", ELSEWHERE, "sh", hides, overlay.point, f"{overlay / directory}:{other / 'seen'}")
        start(daemon, 1, 1 if hides else 2, *command, PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    start(daemon, 1, 1, "/bin/cat", PATH=overlay / "stop")
    seen(daemon, overlay, "stop")
    assert {name for name in hot(daemon, overlay) if not name.startswith("../")} == {"a", "stop"}
    assert searches(daemon) == 4  # "seen" twice


def test_what_a_mount_covers(scene):
    overlay = scene.overlay(scene.lower(heat.build(scene, ["a/inner", "b", "stop"])))
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "paths"}}))
    listening(daemon)
    run("mount", "-t", "tmpfs", "none", overlay / "a")
    try:
        os.mkdir(overlay / "a/inner")
        start_one(daemon, overlay, "/bin/cat", directories=["a/inner", "a", "b"], stop="stop")
    finally:
        run("umount", overlay / "a")
    assert set(hot(daemon, overlay)) == {"b", "stop"}


# Overlays and sources that come and go

def test_overlays_come_and_go(scene):
    first, second = (scene.overlay(scene.lower(heat.build(scene, ["a", "b"]))) for _ in range(2))
    daemon = scene.daemon(first=(first, {"Watch": {"Sources": "paths"}}))
    listening(daemon, "first")
    pid = daemon.workers_for("paths")
    daemon.add_overlay("second", second.point, Watch={"Sources": "paths"})
    daemon.ctl("reload").ok()
    listening(daemon, "second")
    start(daemon, 1, 2, "/bin/cat", PATH=f"{first / 'a'}:{second / 'a'}")
    seen(daemon, second, "a")
    assert seen(daemon, first, "a") == ONE_START and len(daemon.workers_for("paths")) == len(pid) == 1
    run("umount", first.point)
    wait_for(lambda: sources(daemon, "first")["paths"][0] == "off", "the first one to be gone")
    start(daemon, 1, 1, "/bin/cat", PATH=f"{first / 'b'}:{second / 'b'}")
    seen(daemon, second, "b")
    assert "b" not in hot(daemon, first)
    run("umount", second.point)
    wait_for(lambda: not daemon.workers_for("paths"), "the process to end")


def test_it_is_killed(scene):
    overlay = scene.overlay(scene.lower(heat.build(scene, ["a"])))
    daemon = scene.daemon(soft=(overlay, {"Watch": {"Sources": "auto"}}))
    listening(daemon)
    wait_for(lambda: sources(daemon)["opens"][0] == "on", "the other source")
    os.kill(daemon.workers_for("paths")[0], signal.SIGKILL)
    _, reason = wait_for(lambda: (s := sources(daemon)["paths"])[0] == "stalled" and s, "its end to be told")
    assert "killed by signal 9" in reason and reason in daemon.log()
    assert f"paths stalled: {reason}" in daemon.ctl("status", "soft").ok().out
    assert sources(daemon)["opens"][0] == "on"
    wait_for(lambda: sources(daemon)["paths"][0] in ("on", "partly"), "another one")
    start(daemon, 1, 1, "/bin/cat", PATH=overlay / "a")
    seen(daemon, overlay, "a")


def test_a_lower_that_hangs(scene):
    """Programs that search other overlays are still seen."""
    lower = scene.lower(heat.build(scene, ["a"]))
    bad, good = scene.overlay(lower), scene.overlay(scene.lower(heat.build(scene, ["a"])))
    daemon = scene.daemon(bad=(bad, {"Watch": {"Sources": "paths"}}), good=(good, {"Watch": {"Sources": "paths"}}))
    listening(daemon, "bad")
    listening(daemon, "good")
    lower.hang()
    try:
        with subprocess.Popen(["/bin/cat"], env={"PATH": bad / "a"}, stdin=subprocess.PIPE):
            wait_for(lambda: "its lower layers gave no answer" in sources(daemon, "bad")["paths"][1], "it to be left out")
            wait_for(lambda: sources(daemon, "good")["paths"][0] in ("on", "partly"), "the next one")
            start(daemon, 1, 1, "/bin/cat", PATH=good / "a")
        seen(daemon, good, "a")
    finally:
        lower.recover()


def fake_source(scene, *actions):
    fake = Fake(scene, start=False)
    fake.daemon.add_overlay("soft", fake.overlay.point, Watch={"Sources": "auto"})
    idle = [["send", {"kind": "watch", "state": 0}], ["wait-cancel", {}]]
    fake.play({"watch": idle, "paths": list(actions)})
    fake.start()
    return fake


def test_it_hangs(scene):
    """One that says at which overlay it is busy, and then nothing, is ended. The next one looks at the others."""
    fake = fake_source(scene, ["send", {"kind": "watch", "state": 1, "path": "soft"}], ["hang", {}])
    other = scene.overlay(scene.lower(heat.build(scene, ["a"])))
    fake.daemon.add_overlay("other", other.point, Watch={"Sources": "paths"})
    fake.daemon.ctl("reload").ok()
    wait_for(lambda: "its lower layers gave no answer" in sources(fake.daemon)["paths"][1], "its silence to be told")
    assert "gets no answer from overlay 'soft'" in fake.daemon.log()
    asked = len(fake.asked("paths"))
    fake.play({"paths": [["send", {"kind": "watch", "state": 0}], ["wait-cancel", {}]]})
    wait_for(lambda: len(fake.asked("paths")) > asked and sources(fake.daemon, "other")["paths"][0] == "on", "another one")
    state, reason = sources(fake.daemon)["paths"]
    assert state == "stalled"
    assert f"paths stalled: {reason}" in fake.daemon.ctl("status", "soft").ok().out
    assert sources(fake.daemon)["opens"][0] == "on"
    fake.daemon.ctl("reload").ok()
    wait_for(lambda: sources(fake.daemon)["paths"][0] == "on", "somebody who has mended it")


def test_it_is_refused(scene):
    """That is said once, and tried again when somebody has changed something."""
    fake = fake_source(scene, failure("Precondition", "this kernel has none"))
    wait_for(lambda: sources(fake.daemon)["paths"] == ("refused", "this kernel has none"), "the refusal")
    wait_for(lambda: sources(fake.daemon)["opens"][0] == "on", "the other one")
    assert "paths refused: this kernel has none" in fake.daemon.ctl("status", "soft").ok().out
    assert len(fake.asked("paths")) == 1 and fake.daemon.log().count("this kernel has none") == 1
    fake.play({"paths": [["send", {"kind": "watch", "state": 0}], ["wait-cancel", {}]]})
    fake.daemon.ctl("reload").ok()
    wait_for(lambda: sources(fake.daemon)["paths"][0] == "on", "it to work")


def test_what_it_counts(scene):
    """All that a source for all overlays may tell."""
    fake = fake_source(scene, ["send", {"kind": "watch", "state": 0}],
                       ["send", {"kind": "heat", "text": "soft", "path": "a", "misses": 3, "saved": 5, "total": 2, "done": 1}],
                       ["send", {"kind": "heat", "text": "nobody", "path": "a", "misses": 9}],
                       ["send", {"kind": "heat", "text": "soft", "path": "a/b", "searches": 2}], ["wait-cancel", {}])
    wait_for(lambda: hot(fake.daemon, fake.overlay, "heat") == {"a": 4, "a/b": 2 * ONE_START}, "what was told")


def test_what_saves_most_is_told(scene):
    """It is not hot any more, and not left out for many that are."""
    fake = fake_source(scene, ["send", {"kind": "watch", "state": 0}],
                       ["many", {"count": 20, "record": {"kind": "heat", "text": "soft", "path": "d%d", "total": 5, "done": 5}}],
                       ["send", {"kind": "heat", "text": "soft", "path": "saves", "saved": 10 ** 12}], ["wait-cancel", {}])

    def told(most):
        return [str(d["path"]) for d in fake.daemon.manager().ListHot("soft", dbus.UInt32(most))]
    wait_for(lambda: len(told(100)) == 21, "what was told")
    assert [os.path.basename(path) for path in told(100)][-1] == "saves"
    assert len(told(5)) == 5 and fake.overlay / "saves" in told(5)
