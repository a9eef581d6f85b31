# SPDX-License-Identifier: LGPL-2.1-or-later
"""An error that belongs to one entry leaves out its directory, with the reason; everything beside it is done."""

import errno
import os

import pytest

from ovltest import assert_same, run, snapshot
from ovltest.daemon import ERROR, wait_for
from ovltest.tree import age, write

OF_SERVER = ("EACCES", "EPERM", "EIO", "ESTALE", "ETIMEDOUT", "EREMOTEIO", "EUCLEAN", "EBADMSG", "EOVERFLOW", "EOPNOTSUPP",
             "ENAMETOOLONG")
OF_XATTRS = ("E2BIG", "ERANGE", "EACCES", "EPERM", "EIO", "ENOSPC", "EOVERFLOW", "EUCLEAN")
OF_COPY_UP = ("EACCES", "EPERM", "ENOSPC", "EDQUOT", "E2BIG", "ERANGE", "EOVERFLOW", "ENAMETOOLONG", "EFBIG", "ETXTBSY",
              "EMLINK", "EXDEV", "EIO", "ESTALE", "EREMOTE", "EOPNOTSUPP", "EUCLEAN", "EINVAL")
OF_MAKE = ("ENOSPC", "EDQUOT", "EMLINK", "EACCES", "EIO", "EUCLEAN")
OF_DRESS = ("EPERM", "ENOSPC", "EDQUOT", "E2BIG", "ERANGE", "EIO")


def odd_name(error):
    """What the tools make fail, and how."""
    return f"errno-{getattr(errno, error)}"


def build(scene, errors, is_file):
    """d has a directory for each error, in which one entry is odd: a file of sub, or sub itself. Others are beside and below."""
    top = scene.source()
    for error in errors:
        sub = os.path.join(top, "d", error, "sub" if is_file else odd_name(error))
        for directory in (sub, os.path.join(sub, "below"), os.path.join(top, "d", error, "fine/deep")):
            write(os.path.join(directory, "one"))
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
        assert done >= {"fine", "fine/deep"} and ("" in done) != is_around_left, (error, found)
        assert not is_file or "sub/below" in done, (error, found)
    assert found[overlay / "d"]["state"] == "finalized"
    assert " is excluded: cannot " in result.err or " is pending: cannot " in result.err
    assert not os.path.lexists(overlay / ".ovlfind")


def assert_done(daemon, overlay, errors, before, ignore=()):
    """The fault is gone: the rest is done, and all is as it was."""
    result = daemon.ctl("finalize", overlay / "d").ok()
    found = directories(daemon)
    assert {d["state"] for d in found.values()} == {"finalized"}, found
    assert len(found) == 1 + 5 * len(errors), result
    assert_same(before, snapshot(overlay / "d"), ignore)
    assert not os.path.lexists(overlay / ".ovlfind")


@pytest.mark.parametrize("ops,is_file,errors", [
    ("opendir", False, OF_SERVER),
    ("readdir", False, OF_SERVER),
    ("listxattr", True, OF_XATTRS),
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
    ("inotify_add_watch", False, ("EACCES", "EINVAL", "EIO")),
    ("openat2", False, OF_SERVER),
    ("readdir", False, OF_SERVER[:4]),
    ("name_to_handle_at", False, ("EOPNOTSUPP", "EOVERFLOW")),
    ("mkdirat", False, OF_MAKE),
    ("fsetxattr", False, OF_DRESS),
    ("fchown", False, OF_DRESS[:3]),
    ("fchmod", False, OF_DRESS[:3]),
    ("futimens", False, OF_DRESS[:2]),
])
def test_a_call_fails(scene, call, is_file, errors):
    source = build(scene, errors, is_file)
    overlay = scene.overlay(source)
    daemon = scene.daemon(start=False, soft=overlay)
    daemon.use_killer()
    daemon.start()
    before = snapshot(os.path.join(source, "d"))
    daemon.arm(1, call=call, error="name", always=True)
    result = daemon.ctl("finalize", overlay / "d")
    assert daemon.struck()
    assert_left_out(daemon, overlay, errors, is_file, result, is_around_left=call == "openat2")
    # A time that could not be put back, or watched to be put back, is another one.
    assert_done(daemon, overlay, errors, before, {"mtime"} if call in ("futimens", "inotify_add_watch") else ())


# What the whole file system or process says ends the job, and nothing is done half.

@pytest.mark.parametrize("error,word", [("EROFS", "Read-only"), ("ENOMEM", "memory"), ("EMFILE", "open files")])
def test_an_error_of_the_whole_ends_the_job(scene, error, word):
    source = build(scene, [error], is_file=True)
    overlay = scene.overlay(source)
    daemon = scene.daemon(start=False, soft=overlay)
    daemon.use_killer()
    daemon.start()
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
    errors = OF_DRESS
    source = build(scene, errors, is_file=True)
    overlay = scene.overlay(source)
    daemon = scene.daemon(start=False, soft=overlay)
    daemon.use_killer()
    daemon.start()
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
    run("mount", "-o", "remount", overlay.point)
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


def test_a_denied_directory_in_a_plan(scene):
    lower = scene.lower(build(scene, ["EACCES"], is_file=False), timeout=0)
    overlay = scene.overlay(lower)
    daemon = scene.daemon(soft=overlay)
    lower.fail("name:readdir")
    result = daemon.ctl("finalize", "--dry-run", overlay / "d").ok()
    assert overlay / "d/EACCES/errno-13" in result.out and "denies it to root" in result.out


# Data

@pytest.mark.parametrize("errors", [("EACCES", "EPERM", "EIO", "ESTALE", "EOVERFLOW", "EUCLEAN", "EBADMSG")])
def test_data_of_a_file(scene, errors):
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
