# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything a user can see of a tree, for comparison before and after."""

import hashlib
import os
import stat

# Overlayfs's own, which a user of the merged view does not get to see anyway, and the second name xfs has for its ACLs.
PRIVATE_XATTRS = ("trusted.overlay.", "user.overlay.", "trusted.SGI_ACL_")


def _xattrs(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    # ACLs are xattrs too (system.posix_acl_*), and so are file capabilities (security.capability).
    return {n: os.getxattr(path, n, follow_symlinks=False) for n in names if not n.startswith(PRIVATE_XATTRS)}


def _content(path, st):
    if stat.S_ISREG(st.st_mode):
        with open(path, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()
    if stat.S_ISLNK(st.st_mode):
        return os.readlink(path)
    if stat.S_ISDIR(st.st_mode):
        return sorted(os.listdir(path))
    return None


def entry(path):
    """What one entry looks like."""
    st = os.lstat(path)
    is_dir = stat.S_ISDIR(st.st_mode)
    return {
        "type": stat.S_IFMT(st.st_mode),
        "mode": stat.S_IMODE(st.st_mode),
        "uid": st.st_uid,
        "gid": st.st_gid,
        # Of directories neither means anything in an overlay.
        "size": None if is_dir else st.st_size,
        "nlink": None if is_dir else st.st_nlink,
        "mtime": st.st_mtime_ns,
        "rdev": st.st_rdev if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode) else None,
        "xattrs": _xattrs(path),
        "content": _content(path, st),
    }


def snapshot(top, without=None):
    """A dict of relative path ("" is the top itself) to what is there. without: names that begin so are not looked at, nor
    what is below them: it may change meanwhile."""
    top = os.fspath(top)
    result = {"": entry(top)}
    for directory, dirs, files in os.walk(top):
        if without:
            dirs[:], files = ([n for n in names if not n.startswith(without)] for names in (dirs, files))
        for name in (*dirs, *files):
            path = os.path.join(directory, name)
            result[os.path.relpath(path, top)] = entry(path)
    return result


def visible(entries):
    """Directories in which names came and went have a time of their own."""
    return {p: {**e, "mtime": None if stat.S_ISDIR(e["type"]) else e["mtime"]} for p, e in entries.items()}


def diff(before, after, ignore=()):
    """The differences, one line each; empty when the trees look alike."""
    lines = []
    for path in sorted(before.keys() | after.keys()):
        a, b = before.get(path), after.get(path)
        if a is None or b is None:
            lines.append(f"{path!r}: {'appeared' if a is None else 'is gone'}")
            continue
        lines += [f"{path!r}: {key}: {a[key]!r} -> {b[key]!r}" for key in a if key not in ignore and a[key] != b[key]]
    return lines


def assert_same(before, after, ignore=()):
    """Fails with every difference in full."""
    lines = diff(before, after, ignore)
    if lines:
        raise AssertionError("trees differ:\n" + "\n".join(lines))
