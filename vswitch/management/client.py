"""Asking a running switch or member over its control socket; blocking, for commands.

It speaks HTTP as far as that takes: version 1.0, so that an answer ends where the connection does.

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
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

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
_CLOSED = (
    "{path} closed without an answer: it is busy with other questions, or has just stopped; try "
    "again"
)
_NO_ANSWER = "{path} answered what is no answer: is it vswitch, of this version?"
_ASK_AGAIN = 0.02  # seconds, where the queue of those that want to connect is full
_BY_CODE: dict[int, type[VswitchError]] = {
    kind.exit_code: kind
    for kind in (ConfigError, NotReachable, RefusedError, NotFound, TimedOut, PrivilegeError)
}


class _Verb(NamedTuple):
    """How a verb is asked for: a row of `api/routes.py`, which a command does not import, since it
    would take the whole switch along. `body` names the argument that is the body, where one is; ""
    is for none, all others being of the query.
    """

    method: str
    path: str
    body: str | None = None


VERBS: dict[str, _Verb] = {
    "status": _Verb("GET", "/v1/status"),
    "members": _Verb("GET", "/v1/members"),
    "peers": _Verb("GET", "/v1/peers"),
    "revoked": _Verb("POST", "/v1/recheck"),
    "bar": _Verb("POST", "/v1/members/{name}/bar"),
    "switch-set": _Verb("PATCH", "/v1/switch", "changes"),
    "port-set": _Verb("PATCH", "/v1/ports/{name}", "changes"),
    "port-copy": _Verb("POST", "/v1/ports/{name}/copy"),
    "published": _Verb("GET", "/v1/published"),
    "publish": _Verb("POST", "/v1/published", "rule"),
    "unpublish": _Verb("DELETE", "/v1/published"),
    "mac-list": _Verb("GET", "/v1/macs"),
    "mac-watch": _Verb("GET", "/v1/macs/changes"),
    "mac-add": _Verb("POST", "/v1/macs"),
    "mac-del": _Verb("DELETE", "/v1/macs/{mac}"),
    "mac-flush": _Verb("DELETE", "/v1/macs"),
    "impair": _Verb("POST", "/v1/impair"),
    "leases": _Verb("GET", "/v1/leases"),
    "lease-release": _Verb("DELETE", "/v1/leases/{mac}"),
    "rules": _Verb("GET", "/v1/rules"),
    "rules-load": _Verb("PUT", "/v1/rules", "rules"),
    "config-state": _Verb("GET", "/v1/config/state"),
    "config-diff": _Verb("GET", "/v1/config/diff"),
    "config-reload": _Verb("POST", "/v1/config/reload", ""),
    "config-save": _Verb("POST", "/v1/config/save", ""),
    "rekey": _Verb("POST", "/v1/rekey"),
    "rekey-status": _Verb("GET", "/v1/rekey"),
    "rekey-finish": _Verb("DELETE", "/v1/rekey"),
    "trace": _Verb("POST", "/v1/trace"),
    "events": _Verb("GET", "/v1/events"),
    "capture": _Verb("GET", "/v1/capture"),
}


def request(path: Path, verb: str, timeout: float = 5.0, **args: Any) -> dict[str, Any]:
    """Send one request and return the object that is its answer.

    Args:
        path: of the control socket.
        verb: one of `VERBS`; `args` go with it and must be JSON values.
        timeout: seconds for all of it.

    Raises:
        NotRunning: nobody listens there.
        NotReachable: somebody does, and gives no answer in time, or is too busy for one.
        PrivilegeError: the socket is another user's.
        VswitchError: what the other side answered.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        deadline = time.monotonic() + timeout
        with _told(path, timeout):
            head, data = _ask(sock, path, verb, deadline, args)
            while piece := _receive(sock, deadline, len(data)):
                data += piece
        return _result(path, head, bytes(data))


class ClientStream:
    """The client's end of a stream of bytes."""

    def __init__(self, sock: socket.socket, first: bytes) -> None:
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
        deadline = time.monotonic() + timeout
        with _told(path, timeout):
            head, data = _ask(sock, path, verb, deadline, args)
            if _header(head, b"content-length") is not None:
                while piece := _receive(sock, deadline, len(data)):
                    data += piece
        if _header(head, b"content-length") is not None:  # it is no stream, but why there is none
            _result(path, head, bytes(data))
            raise VswitchError(_NO_ANSWER.format(path=path))
        sock.settimeout(None)
        yield ClientStream(sock, bytes(data))


def _ask(
    sock: socket.socket, path: Path, verb: str, deadline: float, args: dict[str, Any]
) -> tuple[bytes, bytearray]:
    """The head of the answer, and what has come behind it so far."""
    said = _request(VERBS[verb], args)
    _connect(sock, path, deadline)
    sock.sendall(said)
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = _receive(sock, deadline, len(data))
        data += piece
        if not piece or not data.startswith(b"HTTP/"[: len(data)]):
            return bytes(data), bytearray()
    head, _, behind = data.partition(b"\r\n\r\n")
    return bytes(head), behind


def _request(verb: _Verb, args: dict[str, Any]) -> bytes:
    args = {key: value for key, value in args.items() if value is not None}
    path, said = verb.path, b""
    if "{" in path:
        name = path.partition("{")[2].partition("}")[0]
        if not (value := str(args.pop(name, "-"))):
            raise ConfigError(f"the {name} is empty")
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    if verb.body is not None:
        said = json.dumps(args.pop(verb.body, None)).encode("utf-8")
    elif verb.method not in ("GET", "DELETE"):
        said, args = json.dumps(args).encode("utf-8"), {}
    if args:
        words = {False: "false", True: "true"}
        texts = {k: words[v] if isinstance(v, bool) else v for k, v in args.items()}
        path += "?" + urlencode(texts, doseq=True)
    return f"{verb.method} {path} HTTP/1.0\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said


@contextmanager
def _told(path: Path, timeout: float) -> Iterator[None]:
    """Errors of the system as errors of ours."""
    try:
        yield
    except TimeoutError:
        raise NotReachable(f"{path} does not answer within {timeout:g} s") from None
    except PermissionError:
        raise PrivilegeError(
            f"{path} is another user's: run as that user, as root, or in the group of the file"
        ) from None
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunning(f"nothing answers at {path}: {error.strerror}: {_start(path)}") from None
    except (ConnectionResetError, BrokenPipeError):
        raise NotReachable(_CLOSED.format(path=path)) from None
    except OSError as error:
        raise NotReachable(f"no answer from {path}: {error.strerror or error}; try again") from None


def _start(path: Path) -> str:
    """What to do where nothing answers."""
    if path.parent.name == "members":
        return f"start `vswitch join --name {path.stem}`, or give the --state that it has"
    return "run this on the switch's host, start `vswitch serve` there, or give its --state"


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


def _result(path: Path, head: bytes, body: bytes) -> dict[str, Any]:
    whole = _header(head, b"content-length")
    if not head or (whole is not None and str(len(body)).encode() != whole):
        raise NotReachable(_CLOSED.format(path=path))
    try:
        status = int(head.split(b" ", 2)[1])
        if status == 204:
            return {}
        answer = json.loads(body)
        if status == 200 and isinstance(answer, dict):
            return answer
        kind, message = _BY_CODE.get(answer["code"], VswitchError), str(answer["error"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise VswitchError(_NO_ANSWER.format(path=path)) from None
    raise kind(message)


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


def _receive(sock: socket.socket, deadline: float, have: int) -> bytes:
    """A piece; nothing at the end, or where there is more than an answer has."""
    if have >= _ANSWER_LIMIT:
        return b""
    # settimeout is per call; many small pieces must not add up to more than was allowed.
    sock.settimeout(max(deadline - time.monotonic(), 0.001))
    return sock.recv(_CHUNK)
