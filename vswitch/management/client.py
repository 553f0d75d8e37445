"""Asking a running switch or member over its control socket; blocking, for commands.

Error contract: `NotRunning` if nobody listens, another `NotReachable` if nobody answers in time or
the other side is too busy, so that what was asked may or may not be done; else the error that the
other side answered with, as the class with its exit code.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vswitch.errors import (
    ConfigError,
    NotFound,
    NotReachable,
    NotRunning,
    PrivilegeError,
    RefusedError,
    TimedOut,
    VswitchError,
)
from vswitch.state import spare_socket

_ANSWER_LIMIT = 16 << 20  # bytes: the status of a full switch has less than one MB
_CHUNK = 64 * 1024  # bytes
_ASK_AGAIN = 0.02  # seconds, where the queue of those that want to connect is full
_BY_CODE: dict[int, type[VswitchError]] = {
    kind.exit_code: kind
    for kind in (ConfigError, NotReachable, RefusedError, NotFound, TimedOut, PrivilegeError)
}


def request(path: Path, verb: str, timeout: float = 5.0, **args: Any) -> dict[str, Any]:
    """Send one request and return the `result` object of its answer.

    Args:
        path: of the control socket.
        verb: what to do; `args` go with it and must be JSON values.
        timeout: seconds for all of it.

    Raises:
        NotRunning: nobody listens there.
        NotReachable: somebody does, and gives no answer in time, or is too busy for one.
        PrivilegeError: the socket is another user's.
        VswitchError: what the other side answered.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return _result(path, _ask(sock, path, verb, timeout, args))


class ClientStream:
    """The client's end of a stream of bytes."""

    def __init__(self, sock: socket.socket, result: dict[str, Any], first: bytes) -> None:
        self.result = result
        self._sock = sock
        self._first = first

    def read(self, sink: int | None = None) -> bytes:
        """What has come, at least a byte, however long that takes; nothing at the end.
        `BrokenPipeError` once nobody reads `sink`, a file descriptor, any more.
        """
        if self._first:
            data, self._first = self._first, b""
            return data
        if sink is not None:
            wanted = select.poll()
            wanted.register(self._sock, select.POLLIN)
            wanted.register(sink, 0)
            if any(fd == sink and found & select.POLLERR for fd, found in wanted.poll()):
                raise BrokenPipeError
        try:
            return self._sock.recv(_CHUNK)
        except OSError:
            return b""

    def lines(self, sink: int | None = None) -> Iterator[bytes]:
        """Line by line, without their ends; `sink` as for `read`."""
        waiting = b""
        while piece := self.read(sink):
            *lines, waiting = (waiting + piece).split(b"\n")
            yield from lines

    def finish(self) -> None:
        """Ask for the end; `read` still gives what belongs to it."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)


@contextmanager
def open_stream(path: Path, verb: str, timeout: float = 5.0, **args: Any) -> Iterator[ClientStream]:
    """Send a request whose answer is a stream; `timeout` is for its beginning. Raises as `request`
    does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        line, end, first = _ask(sock, path, verb, timeout, args).partition(b"\n")
        result = _result(path, line + end)
        sock.settimeout(None)
        yield ClientStream(sock, result, first)


def _ask(sock: socket.socket, path: Path, verb: str, timeout: float, args: dict[str, Any]) -> bytes:
    """What comes as the answer: a line, and perhaps the beginning of a stream behind it."""
    deadline = time.monotonic() + timeout
    try:
        _connect(sock, path, deadline)
        sock.sendall(json.dumps({"verb": verb, "args": args}).encode("utf-8") + b"\n")
        return _read_line(sock, deadline)
    except TimeoutError:
        raise NotReachable(f"{path} does not answer within {timeout:g} s") from None
    except PermissionError:
        raise PrivilegeError(f"{path} is another user's: run as that user or as root") from None
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunning(f"nothing answers at {path}: {error.strerror}; is it running?") from None
    except OSError as error:
        raise NotReachable(f"no answer from {path}: {error.strerror or error}; try again") from None


def _connect(sock: socket.socket, path: Path, deadline: float) -> None:
    """Where too many others wait to be let in, the kernel does not wait with them (unix(7))."""
    spare, first = spare_socket(path), None
    while True:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            return sock.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if spare is None or not spare.is_socket():
                raise first or error from None
            path, spare, first = spare, None, error
            continue
        except BlockingIOError:
            if time.monotonic() + _ASK_AGAIN > deadline:
                raise TimeoutError from None
        time.sleep(_ASK_AGAIN)


def _result(path: Path, line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise NotReachable(
            f"{path} closed without an answer: it is busy, or has just stopped, or does not let "
            "this user ask; try again"
        )
    try:
        answer = json.loads(line)
        if answer["ok"]:
            result: dict[str, Any] = answer["result"]
            return result
        code, message = answer["code"], str(answer["error"])
    except (ValueError, KeyError, TypeError):
        raise VswitchError(f"{path} answered what is no answer: is it vswitch?") from None
    raise _BY_CODE.get(code, VswitchError)(message)


def _read_line(sock: socket.socket, deadline: float) -> bytes:
    data, piece = bytearray(), b""
    while b"\n" not in piece and len(data) < _ANSWER_LIMIT:
        # settimeout is per call; many small pieces must not add up to more than was allowed.
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = sock.recv(_CHUNK)
        if not piece:
            break
        data += piece
    return bytes(data)
