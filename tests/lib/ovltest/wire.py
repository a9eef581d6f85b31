# SPDX-License-Identifier: LGPL-2.1-or-later
"""What travels between a worker and whoever asks it (daemon/base/wire.h), and a worker asked without a daemon."""

import contextlib
import os
import socket
import struct

KINDS = ["progress", "step", "directory", "check", "note", "blocker", "kept", "draining", "result", "heat", "watch", "problem"]
# The gap: what the lower layers did for a job.
HEADER = struct.Struct("=IIIi10Q96x")
DIRECTORY_STATES = ["merged", "copying", "copied-up", "pending", "finalized", "stale", "gone", "broken", "excluded", "local"]
JOB_STATES = ["queued", "running", "applying", "waiting", "done", "failed", "canceled"]
CHECK_LEVELS = ["ok", "warning", "fail"]
STATES = {"progress": JOB_STATES, "directory": DIRECTORY_STATES, "check": CHECK_LEVELS}
NUMBERS = ["done", "total", "merge_children", "bytes", "errors", "usec", "pause_usec", "searches", "misses", "saved"]
STRINGS = ["name", "path", "lower_path", "text"]


def pack(kind, state=0, error=0, done=0, total=0, merge_children=0, size=0, errors=0, usec=0, name="", path="",
         lower_path="", text="", searches=0, misses=0, saved=0):
    """A record; its state may be a word."""
    for words in (DIRECTORY_STATES, JOB_STATES, CHECK_LEVELS):
        if isinstance(state, str) and state in words:
            state = words.index(state)
    strings = b"".join(s.encode() + b"\0" for s in (name, path, lower_path, text))
    return HEADER.pack(HEADER.size + len(strings), KINDS.index(kind), state, error, done, total, merge_children, size, errors,
                       usec, 0, searches, misses, saved) + strings


def unpack(packet):
    """A record as a dict; its state is a word where the kind has words for it."""
    _, kind, state, error, *numbers = HEADER.unpack_from(packet)
    kind = KINDS[kind]
    texts = [value.decode(errors="surrogateescape") for value in packet[HEADER.size:].split(b"\0")]
    return {"kind": kind, "state": STATES[kind][state] if kind in STATES else state, "error": error,
            **dict(zip(NUMBERS, numbers)), **dict(zip(STRINGS, texts))}


def start(worker, environment=None, under=()):
    """Starts a worker, or a program that runs it; returns our end of the socket that it has as descriptor 3, and its PID."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [*under, worker]
    with theirs:
        return ours, os.posix_spawn(command[0], command, {**os.environ, **(environment or {})},
                                    file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)])


def records(connection, request):
    """Sends a request (a dict), yields the records of the answer."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # killed before it has read what it was asked
        connection.send(b"".join(os.fsencode(f"{k}={v}") + b"\0" for k, v in request.items()))
        while packet := connection.recv(1 << 16):
            yield unpack(packet)


def ask(worker, environment=None, under=(), **request):
    """Asks a worker and waits until it has ended, and with it whatever it kept. Returns its records, the last of which is the
    result, and its exit status, or minus the signal."""
    connection, pid = start(worker, environment, under)
    answer = []
    with connection:
        connection.settimeout(60)
        try:
            answer += records(connection, request)
        except TimeoutError as e:
            raise TimeoutError(f"a worker does not end: {request} {answer}") from e
    return answer, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
