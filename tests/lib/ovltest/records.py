# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records and snapshots as earlier versions wrote them, and as a lost machine leaves them."""

import os


def _checksum(data):
    """hash_bytes() of base/hash.h."""
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & (2**64 - 1)
    return h


def _old(data):
    strings = data.split(b"\0")
    strings[0] = b"ovlfind-manifest 2"
    result, numbers = [], False
    for s in strings:
        if numbers:
            s = s.rpartition(b" ")[0]
        numbers = s.startswith(b"D") and len(result) > 5
        if s.startswith(b"I"):
            continue
        if s.startswith(b"E"):
            fields = s.split(b" ", 8)
            s = b" ".join((*fields[:5], b"0", b"0", fields[8]))
        if s.startswith(b"Z"):
            break
        result.append(s)
        if s.startswith(b"upper="):
            result.append(b"lower=")
    body = b"\0".join(result) + b"\0"
    return body + b"Z%x\0" % _checksum(body)


def as_before_marks_had_digests(directory):
    """Rewrites all records in the second format, without what marks did not record then."""
    for name in os.listdir(directory):
        if name.startswith("."):
            continue
        path = os.path.join(directory, name)
        with open(path, "rb") as f:
            data = f.read()
        with open(path, "wb") as f:
            f.write(_old(data))


def cut_appended(path):
    """Leaves of a snapshot what was written at once, and synced. Returns what it was."""
    with open(path, "rb") as f:
        data = f.read()
    end = data.index(b"\0", data.index(b"\0Z") + 1) + 1
    os.truncate(path, end)
    return data
