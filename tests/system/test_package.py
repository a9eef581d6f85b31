# SPDX-License-Identifier: LGPL-2.1-or-later
"""The packages, from their building to their purge, under a real systemd, system bus, polkit and journal. The tests go in this
order on one machine: installed, used as the README and the pages of docs/ say, updated while a job runs, purged; then the one of systems with rpm."""

import contextlib
import json
import re
import shutil
import tempfile

import pytest

from ovltest import ROOT, Scene, readme, run
from ovltest.daemon import wait_for
from ovltest.machine import Machine
from ovltest.package import Package, put, rpm

EXPOSURE_MAX = 6.9  # of systemd-analyze security; it only ever goes down
# Of rpmlint: what whoever publishes adds, what has been given up elsewhere, programs that others do not run, and dots in a name.
NOT_MINDED = {"no-signature", "no-packager-tag", "no-group-tag", "hardcoded-library-path", "bad-manual-page-folder"}
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
LOOKING = ("ls ", "ovlfinctl status", "ovlfinctl list")
GEO = {"bin": 19, "lib": 20, "share": 20}
PREPARE = """
mkdir -p /srv/software /var/lib/ovl /ovl
mount -t tmpfs lower /srv/software
mount -t tmpfs upper /var/lib/ovl
mkdir -p /var/lib/ovl/upper /var/lib/ovl/work /srv/software/tools/bin /srv/software/tools/share
for release in 3.1 3.2; do
        for part in {parts}; do
                mkdir -p /srv/software/geo/$release/${{part%:*}}
                for i in $(seq ${{part#*:}}); do echo $i >/srv/software/geo/$release/${{part%:*}}/f$i; done
        done
        ln -s f1 /srv/software/geo/$release/lib/link
done
for f in bin/x bin/y share/z; do echo $f >/srv/software/tools/$f; done
ln /srv/software/tools/bin/y /srv/software/tools/bin/z
""".format(parts=" ".join(f"{k}:{v}" for k, v in GEO.items()))

pytestmark = [pytest.mark.package, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def package(world):
    p = Package(tempfile.mkdtemp(prefix="package-", dir="/var/tmp"))
    yield p
    p.close()


@pytest.fixture(scope="module")
def rpm_file(package):
    """Made from ovlfind.spec: rpmbuild fails when something is listed but not installed, or installed but not listed."""
    return package.rpm()


@pytest.fixture(scope="module")
def machine(world, package):
    """Booted, with the package installed."""
    for program in ("dpkg-buildpackage", "lintian", "rpmbuild", "rpmlint", "systemd-analyze"):
        assert shutil.which(program), f"{program} is missing"
    scene = Scene(tempfile.mkdtemp(dir=world))
    m = scene.keep(Machine(scene.subdir("machine")))
    if not m.boot():
        with open(m.log, encoding="utf-8", errors="replace") as f:
            pytest.fail(f"systemd does not boot here:\n{f.read()}")
    m.sh("rm -f /usr/sbin/policy-rc.d")  # containers have it to keep packages from starting anything
    m.sh(PREPARE)
    fstab = next(b for b in readme.blocks("The first directory") if b.startswith("overlay "))
    m.sh(f"echo '{fstab.strip()}' >>/etc/fstab; mount /ovl")
    m.sh(f"DEBIAN_FRONTEND=noninteractive dpkg -i {put(m, package.deb)}", timeout=120)
    yield m
    scene.close()


@pytest.fixture
def shell(machine):
    s = readme.Shell(machine)
    yield s
    s.close()


def same(said, expected, is_folded=False):
    if is_folded:  # the pages do not have lines as long as a terminal may be
        said, expected = " ".join(said.split()), " ".join(expected.split())
    return readme.normalized(said) == readme.normalized(expected)


def wait_active(machine):
    wait_for(lambda: " active " in machine.sh("ovlfinctl list"), "the overlay")


def type_session(machine, shell, title, is_folded=False):
    """Types the session of a section; fails when something else is said than there."""
    differences = []
    for command, expected in readme.session(title):
        said = shell.type(command)
        # A person types slower than processes start and mounts are seen.
        if command.endswith("sleep 60) &"):
            shell.type("until pgrep -x sleep >/dev/null; do :; done")
        if command.startswith("kill "):
            shell.type("while pgrep -x sleep >/dev/null; do :; done")
        if command == "mount /ovl":
            wait_active(machine)
        if command.startswith(LOOKING):
            with contextlib.suppress(TimeoutError):
                said = wait_for(lambda c=command, e=expected: same((s := shell.type(c)), e) and s, "the same", 3)
        if not same(said, expected, is_folded):
            differences.append(f"$ {command}\n{said}\n--- but '{title}' says\n{expected}")
    assert not differences, "\n".join(differences)


def named_pages(machine, said):
    """The pages that a text names, all of which are installed as they are named."""
    pages = set(re.findall(r"file://(/[^#\s]+)", said))
    for page in pages:
        machine.sh(f"test -s {page}")
    return pages


def show(machine, name):
    return machine.run("systemctl", "show", "-P", name, "ovlfind").stdout.strip()


def test_lintian_has_no_objections(package):
    assert [line for line in package.lintian() if line.startswith(("E:", "W:"))] == []


def test_rpm_holds_the_same(package, rpm_file):
    mode_and_name = [line.split(":") for line in rpm("-qp", "--qf", "[%{FILEMODES:perms}:%{FILENAMES}\n]", rpm_file).splitlines()]
    files = {name.removesuffix(".gz") for mode, name in mode_and_name if not mode.startswith("d")}
    assert {f for f in files if not f.startswith(("/usr/share/doc/", "/usr/share/licenses/", "/usr/lib/.build-id/"))} == package.files()
    assert {"/usr/share/doc/ovlfind/example.conf", "/usr/share/licenses/ovlfind/LICENSE"} < files


def test_rpmlint_has_no_objections(package, rpm_file):
    said = run("rpmlint", rpm_file, ROOT / "ovlfind.spec", check=False).stdout
    errors = re.findall(r"^ovlfind\.\S+ E: (\S+).*", said, re.M)
    assert re.search(r"^ 1 packages and 1 specfiles checked", said, re.M) and not set(errors) - NOT_MINDED, said


def test_one_version(rpm_file):
    """In what is built and in each package."""
    version = re.search(r"^  version: '(.*)'", (ROOT / "meson.build").read_text(), re.M).group(1)
    assert rpm("-qp", "--qf", "%{VERSION}", rpm_file) == version
    assert run("dpkg-parsechangelog", "-S", "Version", "-l", ROOT / "debian/changelog").stdout.strip() == version


def test_nothing_runs_before_somebody_says_so(machine):
    assert show(machine, "ActiveState") == "inactive" and show(machine, "UnitFileState") == "disabled"
    assert machine.sh("stat -c %F /etc/ovlfind/overlays.d").strip() == "directory"


def test_units_are_clean(machine):
    p = machine.run("systemd-analyze", "verify", "--man=yes", "ovlfind.service", check=False)
    assert (p.returncode, p.stderr.strip()) == (0, "")
    p = machine.run("systemd-analyze", "verify", "/usr/share/doc/ovlfind/examples/ovlfind-metrics.service",
                    "/usr/share/doc/ovlfind/examples/ovlfind-metrics.timer", check=False)
    assert p.returncode == 0 and "ovlfind-metrics" not in p.stderr, p.stderr


def test_what_is_not_hardened_is_explained(machine):
    """Every setting that systemd asks for is on, or has its line; and no line is left of one that is on."""
    items = json.loads(machine.run("systemd-analyze", "security", "--json=short", "--no-pager", "ovlfind.service").stdout)
    off = {i["name"] for i in items if i["set"] is False}
    text = (ROOT / "docs" / "security.md").read_text().partition("## The service")[2]
    explained = {name.replace("\\|", "|") for name in re.findall(r"^\| `([^`]+)` \| \S", text, re.M)}
    assert off == explained
    exposure = re.search(r"Overall exposure level for ovlfind.service: ([\d.]+)", machine.run(
        "systemd-analyze", "security", "--no-pager", "ovlfind.service").stdout)
    assert float(exposure.group(1)) <= EXPOSURE_MAX


def test_three_commands(machine, shell):
    """As the README has them, to the first finalized directory."""
    commands = next(b for b in readme.blocks("The first directory") if "overlays.d" in b).strip().splitlines()
    assert len(commands) == 3
    said = [shell.type(command) for command in commands]
    assert re.search(r"^/ovl/\S+ finalized: \d+ entries", said[-1]), said
    path = commands[-1].split()[-1]
    assert shell.type(f"ovlfinctl is-finalized {path}") == "finalized"
    assert show(machine, "ActiveState") == "active" and show(machine, "UnitFileState") == "enabled"
    pid = show(machine, "MainPID")
    assert len(set(machine.sh(f"readlink /proc/1/ns/mnt /proc/{pid}/ns/mnt").split())) == 1


def test_what_top_shows(machine, shell):
    """Numbers differ, and there may be more; the rest is the same."""
    def is_watched():
        o = json.loads(machine.sh("ovlfinctl list --json=short"))["overlays"][0]
        return o["watching"] == "on" and o["n_known"] == o["n_watches"]

    wait_for(is_watched, "all to be watched")
    command, expected = readme.session("By itself")[0]
    lines = set(readme.normalized(expected))

    # Once more if a comparison was at work there, since then it is not counted; a third time would make 3.1/lib hot.
    for is_last in (False, True):
        machine.sh("cd /ovl/geo; cat $(seq -f 3.2/lib/f%g 12) $(seq -f 3.1/lib/f%g 9) ../tools/bin/x ../tools/bin/y ../tools/bin/z >/dev/null")
        try:
            wait_for(lambda: lines <= set(readme.normalized(shell.type(command))), "what was opened")
            break
        except TimeoutError:
            if is_last:
                raise


def test_everyday_use(machine, shell):
    shell.type("ovlfinctl unfinalize /ovl/geo; systemctl stop ovlfind; rm -rf /var/lib/ovlfind/heat /var/log/journal/* /run/log/journal/*; "
               "systemctl restart systemd-journald; systemctl start ovlfind")
    wait_active(machine)
    for title in ("Everyday use", "Who stands there", "What is left as it is"):
        type_session(machine, shell, title)
    shell.type("kill $(jobs -p); wait; pkill -x sleep")  # there are no other processes on that machine


def test_the_journal_tells_it(machine):
    """As a story, with an explanation for each entry."""
    machine.run("journalctl", "--sync")
    entries = [json.loads(line) for line in machine.sh("journalctl -u ovlfind -o json _COMM=ovlfind").splitlines()]
    assert not [e["MESSAGE"] for e in entries if int(e["PRIORITY"]) <= 3]
    unexplained = [e["MESSAGE"] for e in entries if int(e["PRIORITY"]) <= 5 and "MESSAGE_ID" not in e]
    assert not unexplained
    said = machine.sh("journalctl -x -u ovlfind")
    assert "has been finalized" in said and len(named_pages(machine, said)) > 2


def test_an_unprivileged_user(machine):
    """Looks, and cannot change, by the real polkit's word; one whom a rule allows can."""
    assert "software" in machine.run(*NOBODY, "ovlfinctl", "status").stdout
    for verb in (["pause"], ["finalize", "/ovl/tools/share"], ["log-level", "debug"]):
        assert machine.run(*NOBODY, "ovlfinctl", *verb, check=False).returncode == 5
    assert machine.run("systemctl", "is-active", "polkit").stdout.strip() == "active"
    rule = next(b for b in readme.blocks("AUTHORIZATION", readme.manual("ovlfind.8")) if b.startswith("// "))
    path = rule.splitlines()[0].removeprefix("// ")
    with open(machine.root + path, "w", encoding="utf-8") as f:
        f.write(rule)
    machine.sh("groupadd geo; usermod -aG geo nobody; systemctl restart polkit")
    wait_for(lambda: machine.run(*NOBODY, "ovlfinctl", "finalize", "/ovl/geo/3.2", check=False).returncode == 0, "the rule")
    assert machine.run(*NOBODY, "ovlfinctl", "finalize", "/ovl/tools", check=False).returncode == 5
    machine.sh(f"rm {path}; systemctl restart polkit")


def test_marks_and_offline(machine, shell):
    # While somebody stands in the old tree it is refused.
    wait_for(lambda: machine.run("ovlfinctl", "unfinalize", "/ovl/geo", check=False).returncode == 0, "a new beginning")
    shell.type("rm /ovl/geo/3.1/index.lock")
    type_session(machine, shell, "Less, or more")
    type_session(machine, shell, "Not mounted")


def test_commands_of_the_manuals(shell):
    """Each ends with 0."""
    text = "".join(b for title, name in (("EXAMPLES", "ovlfinctl.1"), ("EXAMPLES", "org.ovlfind1.5"), ("REMOVING OVLFIND", "ovlfind.8"))
                   for b in readme.blocks(title, readme.manual(name)))
    for command in text.replace("\\\n", "").replace("PATH…", "/ovl/geo").splitlines():
        if " -H " in command:
            continue  # there is no other host
        if " monitor " in command:
            command = f"timeout 0.3 {command} >/dev/null; test $? = 124"
        said = shell.type(f"{command} && echo well").splitlines()
        assert said[-1] == "well", f"$ {command}\n{said}"


def test_settings_of_the_manual_and_the_pages(machine):
    """Are read without objections."""
    examples = re.findall(r"_(/etc/ovlfind/\S+)_:\n\n```\n(.*?)```", readme.section("EXAMPLES", readme.manual("ovlfind.conf.5")), re.S)
    examples += [(b.splitlines()[0].removeprefix("# "), b) for b in readme.blocks("Configuring") if "[Overlay]" in b]
    assert len(examples) == 3
    machine.sh("mkdir -p /etc/ovlfind/ovlfind.conf.d")
    warned = len(machine.journal("-p4"))
    for path, text in examples:
        with open(machine.root + path, "w", encoding="utf-8") as f:
            f.write(text)
    machine.sh("ovlfinctl reload; rm /etc/ovlfind/ovlfind.conf.d/*; ovlfinctl reload")
    assert len(machine.journal("-p4")) == warned
    wait_active(machine)


def test_installing_as_the_readme_says(package, shell):
    """What it has apt-get install is there, the package under that name; the other commands are how tests/check builds."""
    shell.type(f"cd {package.source}; apt-get() {{ shift; case $1 in ../*) test -e $1;; *) dpkg-query -W \"$@\";; esac; }}")
    for command in "".join(readme.blocks("Installing")).splitlines():
        if "apt-get" in command:
            assert shell.type(f"{command} >/dev/null && echo well").splitlines()[-1] == "well", command
        else:
            assert command.split()[-4:] == package.COMMAND or command.removeprefix("sudo ").startswith("meson "), command


def test_life_of_a_release(machine, shell):
    """Nothing is taken up unasked: a comparison that happens to be under way would be faster than the one who types."""
    shell.type("ovlfinctl unfinalize /ovl/geo; mkdir -p /etc/ovlfind/ovlfind.conf.d")
    shell.type("printf '[Finalize]\\nOnLowerChange=keep\\nOnLowerRemoved=keep\\n' >/etc/ovlfind/ovlfind.conf.d/keep.conf; ovlfinctl reload")
    try:
        type_session(machine, shell, "Refresh, prune, verify")
    finally:
        shell.type("rm /etc/ovlfind/ovlfind.conf.d/keep.conf; ovlfinctl reload")


def test_remounting(machine, shell):
    """An overlay that was mounted without what it needs."""
    shell.type("cp /etc/fstab /etc/fstab.good; sed -i s/,metacopy=on,redirect_dir=on// /etc/fstab; umount /ovl; mount /ovl")
    wait_for(lambda: " refused " in machine.sh("ovlfinctl list"), "the overlay")
    for verb in ("status", "check"):
        said = machine.run("ovlfinctl", verb, "software", check=False).stdout
        assert [p.rpartition("/")[2] for p in named_pages(machine, said)] == ["checks.md"], said
    type_session(machine, shell, "Without a swap")
    type_session(machine, shell, "A swap", is_folded=True)
    shell.type("mv /etc/fstab.good /etc/fstab; umount /ovl; mount /ovl")
    wait_active(machine)


def test_no_session_is_left_out():
    """Of the README and of all pages."""
    assert readme.sessions() - readme.ASKED_FOR == set()


def test_metrics_for_a_collector(machine):
    """As the comment in the example says."""
    machine.sh("mkdir -p /var/lib/prometheus/node-exporter; cp /usr/share/doc/ovlfind/examples/ovlfind-metrics.* /etc/systemd/system; "
               "systemctl daemon-reload; systemctl enable --now ovlfind-metrics.timer; systemctl start ovlfind-metrics.service")
    said = machine.sh("cat /var/lib/prometheus/node-exporter/ovlfind.prom")
    assert said.endswith("# EOF\n") and 'ovlfind_overlay_state{overlay="software",state="active"} 1' in said
    machine.sh("systemctl is-active ovlfind-metrics.timer; systemctl disable --now ovlfind-metrics.timer; "
               "rm -r /etc/systemd/system/ovlfind-metrics.* /var/lib/prometheus; systemctl daemon-reload")


def test_introspection_is_the_document(machine):
    """What busctl sees on the real bus is what is installed as the interface."""
    members = machine.sh("busctl introspect org.ovlfind1 /org/ovlfind1 org.ovlfind1.Manager")
    found = set(re.findall(r"^\.(\w+)", members, re.M))
    document = (ROOT / "dbus" / "org.ovlfind1.xml").read_text().partition('<node name="overlay">')[0]
    assert found == set(re.findall(r'<(?:method|signal|property) name="(\w+)"', document))


def test_updated_while_a_job_runs(machine, package):
    """The job goes on with the new daemon, and nobody notices."""
    machine.sh("mkdir /srv/software/many; for i in $(seq 3000); do echo $i >/srv/software/many/f$i; done")
    machine.sh("mkdir -p /etc/ovlfind/ovlfind.conf.d; printf '[Finalize]\\nQuietSec=20s\\n' >/etc/ovlfind/ovlfind.conf.d/slow.conf; "
               "ovlfinctl reload; touch /ovl/many/now")
    job = int(machine.sh("ovlfinctl finalize --no-block /ovl/many"))

    def state():
        jobs = json.loads(machine.sh("ovlfinctl jobs --json=short"))["jobs"]
        return next(j["state"] for j in jobs if j["id"] == job)

    wait_for(lambda: state() == "waiting", "the job to be under way")
    old = show(machine, "MainPID")
    # Quiet is what it waits for, so that the update comes in the middle of it; the new daemon need not wait as long.
    machine.sh("rm /etc/ovlfind/ovlfind.conf.d/slow.conf")
    machine.sh(f"DEBIAN_FRONTEND=noninteractive dpkg -i {put(machine, package.later('0.1.0+later'))}", timeout=120)
    assert show(machine, "MainPID") not in (old, "0") and show(machine, "ActiveState") == "active"
    wait_for(lambda: state() == "done", "the job to be done")
    assert machine.sh("ovlfinctl is-finalized /ovl/many").strip() == "finalized"
    assert machine.sh("ls /ovl/many | wc -l").strip() == "3001"
    machine.sh("journalctl --sync")
    assert "goes on" in machine.sh("journalctl -u ovlfind")


def test_purged(machine):
    """Nothing is left but the marks, which hold."""
    before = machine.sh("cd /ovl && find geo tools many -ls | sort -k 11 | md5sum")
    machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --purge ovlfind", timeout=120)
    assert machine.run("systemctl", "is-active", "ovlfind", check=False).stdout.strip() != "active"
    assert machine.run("pgrep", "-x", "ovlfind", check=False).returncode != 0
    folders = "/etc /lib /run /usr /var/lib"
    left = machine.sh(f"find {folders} -xdev -iname '*ovlfind*' -not -path '/var/lib/dpkg/*'").split()
    assert left == [], left
    assert machine.sh("cd /ovl && find geo tools many -ls | sort -k 11 | md5sum") == before
    machine.sh("umount /ovl; mount /ovl && touch /srv/software/many/new")
    assert machine.run("test", "-e", "/ovl/many/new", check=False).returncode != 0


def test_installed_by_rpm(machine, rpm_file):
    """As well as rpm goes on Debian: it works, and ends with its removal."""
    machine.sh(f"rpm --install --nodeps --force-debian {put(machine, rpm_file)}")
    configure = next(b for b in readme.blocks("The first directory") if "overlays.d" in b).splitlines()[0].replace("sudo ", "")
    machine.sh(f"{configure}; systemctl start ovlfind")
    wait_for(lambda: " active " in machine.sh("ovlfinctl list"), "the overlay")
    machine.sh("rpm --erase --force-debian ovlfind")
    assert show(machine, "ActiveState") == "inactive" and show(machine, "LoadState") == "not-found"
    assert machine.run("test", "-e", "/usr/sbin/ovlfind", check=False).returncode != 0
