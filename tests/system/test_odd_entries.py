# SPDX-License-Identifier: LGPL-2.1-or-later
"""An error that belongs to one entry leaves out its directory, with the reason; everything beside it is done."""

import errno
import fcntl
import itertools
import os
import signal
import stat

import pytest

from ovltest import assert_same, run, snapshot, visible
from ovltest.daemon import wait_for
from ovltest.tree import age, write

OF_SERVER = ("EACCES", "EPERM", "EIO", "ESTALE", "ETIMEDOUT", "EREMOTEIO", "EUCLEAN", "EBADMSG", "EOVERFLOW", "EOPNOTSUPP",
             "ENAMETOOLONG")
# What is otherwise said of an entry that somebody is changing, by a server that says so each time.
OF_CHANGE = ("ENOENT", "EEXIST", "EAGAIN", "EBUSY")
OF_XATTRS = ("E2BIG", "ERANGE", "EACCES", "EIO", "ENOSPC")
OF_COPY_UP = ("EACCES", "EPERM", "ENOSPC", "EDQUOT", "E2BIG", "ERANGE", "EOVERFLOW", "ENAMETOOLONG", "EFBIG", "ETXTBSY",
              "EMLINK", "EXDEV", "EIO", "EREMOTE", "EOPNOTSUPP", "EUCLEAN", "ELOOP")
# What a refresh looks up, copies and links; ENOENT: it is gone again, EXDEV: it is linked once more, with a longer redirect.
OF_REFRESH = ("EACCES", "EPERM", "ENOSPC", "EDQUOT", "E2BIG", "ERANGE", "EOVERFLOW", "ENAMETOOLONG", "EFBIG", "EMLINK", "EIO", "ELOOP",
              "EOPNOTSUPP", "EUCLEAN")
OF_DATA = (*OF_REFRESH, "ESTALE", "EBADMSG", "EAGAIN", "EBUSY", "ENOENT", "ENOTDIR", "EXDEV", "EREMOTE")
OF_MAKE = ("ENOSPC", "EDQUOT", "EMLINK", "EACCES", "EIO", "EUCLEAN")
OF_ATTRIBUTES = ("EPERM", "ENOSPC", "EDQUOT", "E2BIG", "ERANGE", "EIO")


def odd_name(error):
    """What the tools make fail, and how."""
    return f"errno-{getattr(errno, error)}"


def build(scene, errors, is_file):
    """d has a directory for each error, in which one entry is odd: a file of sub, or sub itself. Others are beside and below, for
    the first error in directories of their own (each takes an exchange)."""
    top = scene.source()
    for error in errors:
        sub = os.path.join(top, "d", error, "sub" if is_file else odd_name(error))
        write(os.path.join(sub, "one"))
        if error == errors[0]:
            write(os.path.join(sub, "below/one"))
        if error == errors[0] or len(errors) <= 2:
            write(os.path.join(top, "d", error, "fine/deep/one"))
        if is_file:
            write(os.path.join(sub, odd_name(error)))
        write(os.path.join(top, "d", error, "beside"))
        os.setxattr(sub, "user.note", b"of a directory")
    age(top)
    return top


def directories(daemon):
    return {d["path"]: d for d in daemon.ctl("directories", "--json=short").ok().json["directories"]}


def assert_left_out(daemon, overlay, errors, is_file, result, is_around_left=False):
    """One directory of each is left out, and the reason says what happened to what. is_around_left: nor can the one around it
    be done, since its entry cannot even be copied up."""
    result.ok()
    found = directories(daemon)
    for error in errors:
        top = overlay / f"d/{error}"
        odd = found[os.path.join(top, "sub" if is_file else odd_name(error))]
        path = os.path.join(top, "sub" if is_file else "", odd_name(error))
        assert odd["state"] in ("excluded", "pending"), (error, odd)
        assert "cannot " in odd["reason"] and f"'{path}': {os.strerror(getattr(errno, error))}" in odd["reason"], (error, odd)
        done = {p[len(top) + 1:] for p, d in found.items() if p.startswith(top) and d["state"] == "finalized"}
        assert ("" in done) != is_around_left, (error, found)
        assert error != errors[0] or done >= {"fine", "fine/deep"} | ({"sub/below"} if is_file else set()), (error, found)
    assert found[overlay / "d"]["state"] == "finalized"
    assert " is excluded: cannot " in result.err or " is pending: cannot " in result.err
    assert not os.path.lexists(overlay / ".ovlfind")


def assert_done(daemon, overlay, errors, before, ignore=()):
    """The fault is gone: the rest is done, and all is as it was."""
    result = daemon.ctl("finalize", overlay / "d").ok()
    found = directories(daemon)
    assert {d["state"] for d in found.values()} == {"finalized"}, found
    assert found.keys() == {directory for directory, _, _ in os.walk(overlay / "d")}, result
    assert_same(before, snapshot(overlay / "d"), ignore)
    assert not os.path.lexists(overlay / ".ovlfind")


@pytest.mark.parametrize("ops,is_file,errors", [
    ("opendir", False, OF_SERVER[:4]),
    ("readdir", False, OF_SERVER),
    ("listxattr", True, OF_XATTRS + OF_CHANGE),
    ("getattr,lookup", True, OF_SERVER[:4]),
])
def test_the_lower_fails(scene, ops, is_file, errors):
    lower = scene.lower(build(scene, errors, is_file), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    before = snapshot(os.path.join(lower.source, "d"))
    lower.fail(f"name:{ops}")
    result = daemon.ctl("finalize", overlay / "d")
    assert_left_out(daemon, overlay, errors, is_file, result, is_around_left=ops == "opendir")
    lower.recover()
    assert_done(daemon, overlay, errors, before)


@pytest.mark.parametrize("call,is_file,errors", [
    ("linkat", True, OF_COPY_UP),
    ("utimensat", True, OF_COPY_UP),
    ("inotify_add_watch", False, ("EACCES", "EINVAL", "EIO")),
    ("openat2", False, OF_SERVER[:4]),
    ("readdir", False, OF_SERVER[:4]),
    ("name_to_handle_at", False, ("EOPNOTSUPP", "EOVERFLOW")),
    ("getxattr", True, ("EIO", "EUCLEAN", "EBADMSG")),  # the upper's, when all is done and looked at
    ("mkdirat", False, OF_MAKE),
    ("fsetxattr", False, OF_ATTRIBUTES),
    ("fchown", False, OF_ATTRIBUTES[:3]),
    ("fchmod", False, OF_ATTRIBUTES[:3]),
    ("futimens", False, OF_ATTRIBUTES[:2]),
])
def test_a_call_fails(scene, call, is_file, errors):
    source = build(scene, errors, is_file)
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=overlay)
    before = snapshot(os.path.join(source, "d"))
    daemon.arm(1, call=call, error="name", always=True)
    result = daemon.ctl("finalize", overlay / "d")
    assert daemon.struck()
    assert_left_out(daemon, overlay, errors, is_file, result, is_around_left=call == "openat2")
    # A time that could not be put back, or watched to be put back, is another one.
    assert_done(daemon, overlay, errors, before, {"mtime"} if call in ("futimens", "inotify_add_watch") else ())


def test_an_error_that_passes_is_none(scene):
    """A server that says EIO once, and answers: nothing is left out."""
    source = build(scene, ["EIO"], is_file=True)
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.arm(1, call="linkat", error=errno.EIO)
    daemon.ctl("finalize", overlay / "d").ok()
    assert daemon.struck() and {d["state"] for d in directories(daemon).values()} == {"finalized"}


def test_an_entry_that_comes_late(scene):
    """Made while names are waited for, and cannot be taken up."""
    source = build(scene, ["ENOSPC"], is_file=True)
    os.unlink(os.path.join(source, "d/ENOSPC/sub", odd_name("ENOSPC")))
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": {"QuietSec": "1s"}}))
    daemon.arm(1, call="linkat", error="name", always=True)
    job = daemon.finalize(overlay / "d")
    wait_for(lambda: daemon.job(job)["State"] == "waiting", "quiet")
    write(overlay / f"d/ENOSPC/sub/{odd_name('ENOSPC')}")
    assert daemon.wait_job(job)["State"] == "done"
    found = directories(daemon)
    assert found[overlay / "d/ENOSPC/sub"]["state"] == "excluded" and odd_name("ENOSPC") in found[overlay / "d/ENOSPC/sub"]["reason"]
    assert {found[overlay / f"d/ENOSPC{d}"]["state"] for d in ("", "/fine", "/sub/below")} == {"finalized"}
    assert os.path.exists(overlay / f"d/ENOSPC/sub/{odd_name('ENOSPC')}")


def test_below_a_file_that_something_is_mounted_upon(scene):
    """What the listing met first keeps nothing below from being done."""
    source = build(scene, ["EIO"], is_file=True)
    for i in range(3):
        write(os.path.join(source, f"d/EIO/sub/below{i}/one"))
    os.unlink(os.path.join(source, "d/EIO/sub/one"))
    write(os.path.join(source, "d/EIO/sub/one"))  # last made, first listed
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    run("mount", "--bind", overlay / "d/EIO/beside", overlay / "d/EIO/sub/one")
    try:
        assert daemon.ctl("finalize", overlay / "d").code == 1
        found = directories(daemon)
        assert found[overlay / "d/EIO/sub"]["state"] in ("excluded", "pending")
        assert {found[overlay / f"d/EIO/sub/below{i}"]["state"] for i in range(3)} == {"finalized"}
    finally:
        run("umount", overlay / "d/EIO/sub/one")


def test_what_failed_first_is_said(scene):
    """Whatever fails when all is looked at in the end."""
    overlay = scene.overlay(build(scene, ["EIO"], is_file=True))
    daemon = scene.daemon(killer=True, soft=(overlay, {"Finalize": {"QuietSec": "0"}}))
    run("mount", "--bind", overlay / "d/EIO/beside", overlay / "d/EIO/sub/one")
    said = []
    try:
        for n in itertools.count(1):
            daemon.arm(n, call="openat2", path="d/EIO/sub", error=errno.ENOMEM)
            result = daemon.ctl("finalize", overlay / "d/EIO/sub")
            if not daemon.struck():
                break
            said.append(result.err)
    finally:
        run("umount", overlay / "d/EIO/sub/one")
    assert "mounted upon" in result.err and all("mounted upon" in err for err in said[-3:]), said[-3:]


# What the whole file system or process says ends the job, and nothing is done half.

@pytest.mark.parametrize("error,word", [("EROFS", "Read-only"), ("ENOMEM", "memory"), ("EMFILE", "open files")])
def test_an_error_of_the_whole_ends_the_job(scene, error, word):
    source = build(scene, [error], is_file=True)
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=overlay)
    before = snapshot(overlay / "d")
    daemon.arm(1, call="linkat", error="name", always=True)
    result = daemon.ctl("finalize", overlay / "d")
    assert daemon.struck() and result.code == 1 and word in result.err and odd_name(error) in result.err, result
    assert not [d for d in directories(daemon).values() if d["state"] == "finalized"]
    assert_same(before, snapshot(overlay / "d"))
    assert_done(daemon, overlay, [error], before)


# By marks

@pytest.mark.parametrize("call", ("utimensat", "setxattr"))
def test_a_call_of_a_mark_fails(scene, call):
    errors = OF_ATTRIBUTES
    source = build(scene, errors, is_file=True)
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=overlay)
    before = snapshot(os.path.join(source, "d"))
    if call == "setxattr":  # renamed, it has no redirect that would do
        for error in errors:
            os.utime(overlay / f"d/{error}/sub/{odd_name(error)}", ns=(0, before[f"{error}/sub/{odd_name(error)}"]["mtime"]))
    daemon.arm(1, call=call, error="name", always=True)
    result = daemon.ctl("finalize", "--method=mark", overlay / "d")
    assert daemon.struck()
    assert_left_out(daemon, overlay, errors, True, result)
    assert_done(daemon, overlay, errors, before)


# Really: 15 KB of xattrs do not fit into the one block that ext4 has for them, and xfs takes them.

BIG = b"x" * 15_000


@pytest.fixture
def with_xattrs(scene):
    upper = scene.upper("ext4-256")
    source = scene.upper("xfs")
    top = os.path.join(source.point, "lower")
    for name in ("d/sub/big", "d/sub/below/one", "d/fine/one", "d/beside"):
        write(os.path.join(top, name))
    os.setxattr(os.path.join(top, "d/sub/big"), "user.big", BIG)
    return top, scene.overlay(top, upper=upper)


@pytest.mark.parametrize("method", ("auto", "exchange", "mark"))
def test_xattrs_that_the_upper_cannot_hold(scene, with_xattrs, method):
    top, overlay = with_xattrs
    daemon = scene.daemon(soft=overlay)
    result = daemon.ctl("finalize", f"--method={method}", overlay / "d")
    assert result.code == (method == "exchange"), result
    found = directories(daemon)
    reason = found[overlay / "d/sub"]["reason"]
    assert found[overlay / "d/sub"]["state"] == "excluded"
    assert overlay / "d/sub/big" in reason and "15008 bytes of xattrs" in reason and "No space" in reason
    assert found[overlay / "d/fine"]["state"] == found[overlay / "d/sub/below"]["state"] == "finalized"
    assert found[overlay / "d"]["state"] == ("excluded" if method == "exchange" else "finalized")
    assert os.getxattr(overlay / "d/sub/big", "user.big") == BIG
    os.removexattr(os.path.join(top, "d/sub/big"), "user.big")
    run("mount", "--options-mode=ignore", "-o", "remount", overlay.point)
    daemon.ctl("finalize", f"--method={method}", overlay / "d").ok()
    assert daemon.state_of(overlay / "d/sub") == "finalized"


def test_xattrs_of_a_directory(scene, with_xattrs):
    """It cannot be copied up, so the one around it cannot be marked, but the one around that can."""
    top, overlay = with_xattrs
    os.setxattr(os.path.join(top, "d/sub/below"), "user.big", BIG)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    found = directories(daemon)
    assert {p[len(overlay / "d") + 1:] for p, d in found.items() if d["state"] == "finalized"} == {"", "fine"}
    assert "15008 bytes of xattrs" in found[overlay / "d/sub/below"]["reason"]


def test_refresh_with_xattrs_that_the_upper_cannot_hold(scene, with_xattrs):
    """What is new or changed beside it is taken up."""
    top, overlay = with_xattrs
    os.removexattr(os.path.join(top, "d/sub/big"), "user.big")
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    for name in ("d/sub/a-new", "d/sub/below/new", "d/sub/z-new", "d/sub/odd-new"):
        write(os.path.join(top, name))
    write(os.path.join(top, "d/sub/big"), b"changed")
    write(os.path.join(top, "d/fine/one"), b"changed")
    os.setxattr(os.path.join(top, "d/sub/big"), "user.big", BIG)
    os.setxattr(os.path.join(top, "d/sub/odd-new"), "user.big", BIG)
    result = daemon.ctl("refresh", overlay / "d").ok()
    for name in ("big", "odd-new"):
        assert overlay / f"d/sub/{name}" in result.err and "15008 bytes of xattrs" in result.err
    for name in ("d/sub/a-new", "d/sub/below/new", "d/sub/z-new", "d/fine/one"):
        assert open(overlay / name, "rb").read() == open(os.path.join(top, name), "rb").read()
    assert not os.path.lexists(overlay / "d/sub/odd-new")
    assert daemon.state_of(overlay / "d/sub") == "stale" and daemon.state_of(overlay / "d/fine") == "finalized"
    assert not os.path.lexists(overlay / ".ovlfind")
    for name in ("big", "odd-new"):
        os.removexattr(os.path.join(top, f"d/sub/{name}"), "user.big")
    daemon.ctl("refresh", overlay / "d").ok()
    assert daemon.state_of(overlay / "d/sub") == "finalized"
    assert open(overlay / "d/sub/big", "rb").read() == b"changed" and os.path.lexists(overlay / "d/sub/odd-new")


def test_refresh_of_what_is_denied(scene):
    """What can be taken up is, nothing is left of what cannot, and it is taken up later."""
    errors = ("EACCES", "EIO")
    lower = scene.lower(build(scene, errors, is_file=True), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    for e in errors:
        for name in (f"sub/{odd_name(e)}", "sub/one", f"fine/{odd_name(e)}/new", "fine/a", "fine/z"):
            write(os.path.join(lower.source, f"d/{e}/{name}"), b"new")
    lower.invalidate()
    lower.fail("name:readdir,opendir,open,read")
    result = daemon.ctl("refresh", overlay / "d").ok()
    for e in errors:
        assert f"d/{e}/sub/{odd_name(e)}': {os.strerror(getattr(errno, e))}" in result.err, (e, result)
        assert f"d/{e}/fine/{odd_name(e)}': {os.strerror(getattr(errno, e))}" in result.err, (e, result)
        assert {open(overlay / f"d/{e}/{name}", "rb").read() for name in ("sub/one", "fine/a", "fine/z")} == {b"new"}
        assert daemon.state_of(overlay / f"d/{e}/fine") == daemon.state_of(overlay / f"d/{e}/sub") == "stale"
    assert not os.path.lexists(overlay / ".ovlfind")
    lower.recover()
    daemon.ctl("refresh", overlay / "d").ok()
    assert {d["state"] for d in directories(daemon).values()} == {"finalized"}
    for e in errors:
        assert open(overlay / f"d/{e}/fine/{odd_name(e)}/new", "rb").read() == b"new"


def dress(path):
    os.chown(path, 1234, 5678)
    os.chmod(path, 0o600)
    os.setxattr(path, "user.note", b"new")


CHANGES = {
    "new": lambda sub, name: write(os.path.join(sub, name)),
    "new directory": lambda sub, name: write(os.path.join(sub, "new", name, "one")),
    "content": lambda sub, name: write(os.path.join(sub, name), b"changed"),
    "attributes": lambda sub, name: dress(os.path.join(sub, name)),
}


def without_odd(top):
    """What files there look like that nothing is wrong with."""
    return {path: e for path, e in visible(snapshot(top, without=("errno-", "new"))).items() if e["type"] != stat.S_IFDIR}


@pytest.mark.parametrize("call,change,errors", [
    ("linkat", "new", OF_REFRESH),
    ("mkdirat", "new directory", OF_MAKE),
    ("copy_file_range", "content", [error for error in OF_REFRESH if error != "EOPNOTSUPP"]),
    ("fsetxattr", "attributes", OF_ATTRIBUTES),
    ("fchown", "attributes", OF_ATTRIBUTES[:3]),
    ("fchmod", "attributes", OF_ATTRIBUTES[:3]),
])
def test_a_call_of_a_refresh_fails(scene, call, change, errors):
    source = build(scene, errors, is_file=True)
    for error in errors if change == "new" else ():
        os.unlink(os.path.join(source, f"d/{error}/sub", odd_name(error)))
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    for error in errors:
        for name in (odd_name(error), "one"):
            CHANGES[change](os.path.join(source, f"d/{error}/sub"), name)
    daemon.arm(1, call=call, error="name", always=True)
    result = daemon.ctl("refresh", overlay / "d").ok()
    assert daemon.struck()
    for error in errors:
        path = overlay / f"d/{error}/sub/{'new' if change == 'new directory' else odd_name(error)}"
        assert f"'{path}': {os.strerror(getattr(errno, error))}" in result.err, (error, result)
        assert daemon.state_of(os.path.dirname(path)) == "stale", error
    assert_same(without_odd(os.path.join(source, "d")), without_odd(overlay / "d"))
    assert not os.path.lexists(overlay / ".ovlfind")
    daemon.ctl("refresh", overlay / "d").ok()
    assert {d["state"] for d in directories(daemon).values()} == {"finalized"}
    assert_same(visible(snapshot(os.path.join(source, "d"))), visible(snapshot(overlay / "d")))


def test_an_exchange_of_a_refresh_fails(scene):
    """One of two files: the other one is taken up, and nothing of the attempt is left."""
    source = scene.source()
    for name in ("one", "other"):
        write(os.path.join(source, "d", name))
    overlay = scene.overlay(source)
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    for i, error in enumerate(OF_REFRESH):
        for name in ("one", "other"):
            write(os.path.join(source, "d", name), b"x" * (i + 1))
        daemon.arm(1, call="exchange", error=getattr(errno, error))
        result = daemon.ctl("refresh", overlay / "d").ok()
        assert daemon.struck() and os.strerror(getattr(errno, error)) in result.err, (error, result)
        assert sorted(os.path.getsize(overlay / f"d/{name}") == i + 1 for name in ("one", "other")) == [False, True], error
        assert daemon.state_of(overlay / "d") == "stale" and not os.path.lexists(overlay / ".ovlfind")
        daemon.ctl("refresh", overlay / "d").ok()
        assert daemon.state_of(overlay / "d") == "finalized"
        assert_same(visible(snapshot(os.path.join(source, "d"))), visible(snapshot(overlay / "d")))


def test_undo_of_what_is_denied(scene):
    """All or nothing: it fails, leaves nothing, and is done once that is over."""
    errors = ("EACCES", "EIO")
    lower = scene.lower(build(scene, errors, is_file=False), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    lower.fail("name:readdir,opendir")
    result = daemon.ctl("unfinalize", overlay / "d")
    assert result.code == 1 and any(f"d/{e}/{odd_name(e)}'" in result.err for e in errors), result
    assert {d["state"] for d in directories(daemon).values()} == {"finalized"}
    assert not os.path.lexists(overlay.upper_path(".ovlfind"))
    lower.recover()
    daemon.ctl("unfinalize", overlay / "d").ok()
    assert not [d for d in directories(daemon).values() if d["state"] == "finalized"]
    write(os.path.join(lower.source, "d/EACCES", odd_name("EACCES"), "new"))
    assert os.path.exists(overlay / f"d/EACCES/{odd_name('EACCES')}/new")


def test_prune_beside_what_is_denied(scene):
    lower = scene.lower(build(scene, ["EACCES"], is_file=False), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    for name in ("fine/one", "fine/deep/one", "beside"):
        if os.path.exists(os.path.join(lower.source, "d/EACCES", name)):
            os.unlink(os.path.join(lower.source, "d/EACCES", name))
    write(os.path.join(lower.source, "d/EACCES/fine/deep/two"))
    lower.invalidate()
    lower.fail("name:readdir,opendir")
    result = daemon.ctl("prune", overlay / "d")
    assert result.code == 1 and odd_name("EACCES") in result.err, result
    assert "one" not in os.listdir(overlay / "d/EACCES/fine/deep") and "beside" not in os.listdir(overlay / "d/EACCES")


def test_prune_beside_what_cannot_be_removed(scene):
    source = build(scene, ["EPERM"], is_file=True)
    overlay = scene.overlay(source, upper="ext4-256")
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    for name in ("one", odd_name("EPERM")):
        os.unlink(os.path.join(source, "d/EPERM/sub", name))
    run("chattr", "+i", overlay.upper_path(f"d/EPERM/sub/{odd_name('EPERM')}"))
    try:
        result = daemon.ctl("prune", overlay / "d").ok()
    finally:
        run("chattr", "-i", overlay.upper_path(f"d/EPERM/sub/{odd_name('EPERM')}"))
    assert f"cannot remove '{overlay / 'd/EPERM/sub'}/{odd_name('EPERM')}': Operation not permitted" in result.err, result
    assert "one" not in os.listdir(overlay / "d/EPERM/sub")
    daemon.ctl("prune", overlay / "d").ok()
    assert odd_name("EPERM") not in os.listdir(overlay / "d/EPERM/sub")


@pytest.mark.parametrize("is_finalized", [False, True], ids=["merged", "finalized"])
def test_verify_beside_what_is_denied(scene, is_finalized):
    lower = scene.lower(build(scene, ["EACCES"], is_file=False), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    if is_finalized:
        daemon.ctl("finalize", overlay / "d").ok()
    else:
        write(overlay / f"d/EACCES/{odd_name('EACCES')}/made")
    assert daemon.ctl("verify", overlay.point).code == 0
    lower.invalidate()
    lower.fail("name:readdir,opendir")
    result = daemon.ctl("verify", overlay.point)
    assert result.code == 1 and "lower-unknown" in result.out and "cannot be listed: Permission denied" in result.out, result
    assert result.out.count(f"d/EACCES/{odd_name('EACCES')}' cannot be listed") == 1, result
    lower.recover()
    assert daemon.ctl("verify", overlay.point).code == 0


def test_a_denied_directory_in_a_plan(scene):
    lower = scene.lower(build(scene, ["EACCES"], is_file=False), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    lower.fail("name:readdir")
    result = daemon.ctl("finalize", "--dry-run", overlay / "d").ok()
    assert overlay / "d/EACCES/errno-13" in result.out and "denies it to root" in result.out


# Data

def test_data_of_a_file(scene):
    errors = OF_DATA
    lower = scene.lower(build(scene, errors, is_file=True), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    lower.fail("name:read,open")
    result = daemon.ctl("finalize", "--data", "--json=short", overlay / "d").ok()
    notes = str(result.json) + result.err
    lower.recover()
    for error in errors:
        assert f"d/{error}/sub/{odd_name(error)}': {os.strerror(getattr(errno, error))}" in notes, (error, result)
    with lower.measure() as counts:
        for error in errors:
            assert open(overlay / f"d/{error}/sub/one", "rb").read() and open(overlay / f"d/{error}/beside", "rb").read()
    assert counts.read == 0
    daemon.ctl("finalize", "--data", overlay / "d").ok()
    with lower.measure() as counts:
        for error in errors:
            assert open(overlay / f"d/{error}/sub/{odd_name(error)}", "rb").read()
    assert counts.read == 0


@pytest.mark.parametrize("call,errors", [("openat2", ("EACCES", "EPERM", "EIO", "ENOSPC", "EDQUOT", "EFBIG", "EOVERFLOW")),
                                         ("futimens", ("EPERM", "EIO"))])
def test_a_call_of_data_fails(scene, call, errors):
    """What the upper says of one file keeps no other from its content."""
    overlay = scene.overlay(build(scene, errors, is_file=True))
    daemon = scene.daemon(killer=True, soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    daemon.arm(1, call=call, error="name", always=True)
    result = daemon.ctl("finalize", "--data", overlay / "d").ok()
    assert daemon.struck()
    for error in errors:
        sub = f"d/{error}/sub"
        assert f"'{overlay / sub}/{odd_name(error)}': {os.strerror(getattr(errno, error))}" in result.err, (error, result)
        assert os.stat(overlay.upper_path(f"{sub}/one")).st_blocks and os.stat(overlay.upper_path(f"d/{error}/beside")).st_blocks
    daemon.ctl("finalize", "--data", overlay / "d").ok()
    for error in errors:
        assert os.stat(overlay.upper_path(f"d/{error}/sub/{odd_name(error)}")).st_blocks, error


def test_content_of_a_refresh(scene):
    errors = ("EACCES", "EIO", "EBUSY", "ELOOP", "EEXIST")
    source = build(scene, errors, is_file=True)
    lower = scene.lower(source, timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    for error in errors:
        for name in (odd_name(error), "one"):
            write(os.path.join(source, "d", error, "sub", name), b"changed")
    lower.fail("name:read,open")
    result = daemon.ctl("refresh", overlay / "d").ok()
    lower.recover()
    for error in errors:
        assert f"d/{error}/sub/{odd_name(error)}': {os.strerror(getattr(errno, error))}" in result.err, (error, result)
        assert open(overlay / f"d/{error}/sub/one", "rb").read() == b"changed"
    daemon.ctl("refresh", overlay / "d").ok()
    for error in errors:
        assert open(overlay / f"d/{error}/sub/{odd_name(error)}", "rb").read() == b"changed"


@pytest.mark.timeout(30)  # the kernel breaks a lease after 45 s
def test_data_of_a_file_with_a_lease(scene):
    source = scene.source()
    for name in ("a", "leased", "z"):
        write(os.path.join(source, "d", name))
    overlay = scene.overlay(source)
    daemon = scene.daemon(soft=overlay)
    daemon.ctl("finalize", overlay / "d").ok()
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with open(overlay / "d/leased", "rb") as f:
            fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            result = daemon.ctl("finalize", "--data", overlay / "d").ok()
    finally:
        signal.signal(signal.SIGIO, before)
    assert overlay / "d/leased" in result.err and "lease" in result.err, result
    blocks = {name: os.stat(overlay.upper_path(f"d/{name}")).st_blocks for name in ("a", "leased", "z")}
    assert blocks["a"] and blocks["z"] and not blocks["leased"]
