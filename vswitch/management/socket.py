"""The control socket of a running switch or member: JSON lines on a UNIX socket.

A request is one line `{"verb": "status", "args": {}}`, its answer one line, either
`{"ok": true, "result": {}}` or `{"ok": false, "code": 5, "error": "no such member"}` with an exit
code of errors.py. A connection may ask several times, one after the other. After the answer of a
verb that gives a `Stream` the connection is that stream, of bytes, until it ends. A client that
closes its writing half asks for the end, and still gets what belongs to it.

Invariants: the socket is mode 0600 and answers only its own user and root; where
the system does not tell who asks, the mode alone sees to that.
Requests, connections, streams and waiting are bounded. There is always a place for one more
question: where all are taken, the connection goes that has kept the program waiting for longest. A
socket file is replaced only if nobody answers on it, and removed at the end. A handler that fails
fails its request, not the program.

Error contract: `serve_control` raises `VswitchError` if it cannot listen. Clients are answered or
dropped and never make it raise.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from transport.platform import peer_user
from vswitch.errors import ConfigError, ExitCode, VswitchError
from vswitch.logs import event
from vswitch.runtime import single_error
from vswitch.state import check_owned, directory_lock, file_error, owners_beside, spare_socket


@attrs.frozen
class Stream:
    """An answer after which the connection carries bytes."""

    result: dict[str, Any]
    # `run(send, ended)`: send until there is no more to say, or soon after `ended` is set. It is
    # cancelled, or `send` raises `trio.BrokenResourceError`, when the client is gone.
    run: Callable[[Callable[[bytes], Awaitable[None]], trio.Event], Awaitable[None]]


Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | Stream]]

PATH_LIMIT = 107  # bytes: sun_path of 108 without its final zero, unix(7)
_REQUEST_LIMIT = 64 * 1024  # bytes of one line
_CONNECTION_LIMIT = 32  # status commands at once; each costs one task
_STREAM_LIMIT = 8  # of these that may be streams, which stay: others still get their answers
_IDLE_LIMIT = 1.0  # s for a whole request to come
_ANSWER_LIMIT = 30.0  # s to take an answer, or what belongs to a stream that was to end
_BACKLOG = 16
_MODE = 0o600
_NO_PLACE = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


async def serve_control(
    path: Path,
    handlers: Mapping[str, Handler],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests on a UNIX socket until cancelled.

    Args:
        path: of the socket; its directory exists.
        handlers: by verb; each gets the `args` object of the request and returns a JSON object.
            A `VswitchError` that it raises becomes the answer.
        task_status: started when the socket answers.

    Raises:
        VswitchError: a running program answers on this path, or it cannot be made.
    """
    with _listening(path) as listener:
        if listener is None:
            task_status.started()
            await trio.sleep_forever()
        places = _Places()

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    if not _peer_allowed(stream):
                        event(_log, "control-stranger", logging.WARNING, path=path)
                        return
                    with contextlib.suppress(trio.BrokenResourceError, trio.TooSlowError):
                        await _serve_in_place(stream, handlers, places)
                except Exception:
                    # A mistake of ours. It costs this connection, and nobody else anything.
                    _log.exception("control-failed verb=none")

        task_status.started()
        await trio.serve_listeners(serve, [listener])


class _Places:
    """Who has a connection. `waiting` are those whose client has the next word, in the order in
    which it got that.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.waiting: dict[trio.CancelScope, None] = {}
        self.streams = trio.Semaphore(_STREAM_LIMIT)

    def make_room(self) -> bool:
        """Whether there is a place; the one that waited for longest may have to leave for it."""
        if self.taken >= _CONNECTION_LIMIT:
            if not self.waiting:
                return False
            longest = next(iter(self.waiting))
            del self.waiting[longest]
            longest.cancel()
        return True

    @contextlib.contextmanager
    def turn_of_client(self, seconds: float) -> Iterator[None]:
        """While its client has the word, which it keeps for so long at most, or as long as nobody
        else needs the place.
        """
        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            self.waiting[scope] = None
            try:
                yield
            finally:
                self.waiting.pop(scope, None)
        if scope.cancelled_caught:
            raise trio.TooSlowError


async def _serve_in_place(
    stream: trio.SocketStream, handlers: Mapping[str, Handler], places: _Places
) -> None:
    if not places.make_room():
        event(_log, "control-busy", logging.WARNING, limit=_CONNECTION_LIMIT)
        with trio.fail_after(_IDLE_LIMIT):
            # Who closes on what was not read takes back what was sent.
            await _read_line(stream, bytearray())
            busy = _no(ExitCode.NOT_REACHABLE, "it is busy with other questions: try again")
            await stream.send_all(json.dumps(busy).encode() + b"\n")
        return
    places.taken += 1
    try:
        await _serve_requests(stream, handlers, places)
    finally:
        places.taken -= 1


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[trio.SocketListener | None]:
    """None where there is no place for a socket, which is logged."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with sock:
        try:
            mine = _bind(sock, path)
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise file_error("control socket", path, error) from None
            placed = _bind_elsewhere(sock, path, error)
            if placed is None:
                yield None
                return
            path, mine = placed
        sock.setblocking(False)
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        finally:
            # After a state directory was moved or emptied the file there may be another's.
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == mine:
                    os.unlink(path)


def _bind_elsewhere(sock: socket.socket, path: Path, error: OSError) -> tuple[Path, int] | None:
    """Where the directory takes no socket: in the one for that, or nowhere. The latter costs the
    commands that ask this program, and nothing else.
    """
    reason, spare = error.strerror, spare_socket(path)
    if spare is not None:
        try:
            spare.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mine = _bind(sock, spare)
        except OSError as other:
            reason = f"{reason}; {spare}: {other.strerror}"
        else:
            event(_log, "control-elsewhere", logging.WARNING, path=spare, reason=reason)
            return spare, mine
    effect = "status and all that asks this program finds nothing"
    event(_log, "control-missing", logging.WARNING, path=path, reason=reason, effect=effect)
    return None


def _bind(sock: socket.socket, path: Path) -> int:
    """Listen there; the inode of the socket. Raises `OSError`, and `VswitchError` for what is no
    fault of the disk.
    """
    with directory_lock(path.parent):
        _bind_locked(sock, path)
        return os.stat(path).st_ino


def _bind_locked(sock: socket.socket, path: Path) -> None:
    length = len(os.fsencode(path))
    if length > PATH_LIMIT:
        raise ConfigError(
            f"the path of control socket {path} has {length} bytes, {PATH_LIMIT} is what the "
            "system takes: choose a shorter --state"
        )
    check_owned("directory", path.parent, path.parent.stat(), *owners_beside(path.parent))
    if path.is_socket():
        if _answers(path):
            raise VswitchError(
                f"another vswitch is running and answers on {path}: stop it first, or use "
                "another --state or --name"
            )
        path.unlink()
    # The file gets the mode of the socket (unix(7)), so it is never another one.
    os.fchmod(sock.fileno(), _MODE)
    sock.bind(os.fspath(path))
    sock.listen(_BACKLOG)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # EAGAIN is a full backlog: somebody listens.
        return probe.connect_ex(os.fspath(path)) in (0, errno.EAGAIN, errno.EINPROGRESS)


def _peer_allowed(stream: trio.SocketStream) -> bool:
    return peer_user(stream.socket) in (None, 0, os.geteuid())


async def _serve_requests(
    stream: trio.SocketStream, handlers: Mapping[str, Handler], places: _Places
) -> None:
    """Answer one request after the other until the client closes."""
    waiting = bytearray()
    while True:
        with places.turn_of_client(_IDLE_LIMIT):
            line = await _read_line(stream, waiting)
        if line is None:
            return
        answer = await _answer(line, handlers)
        if isinstance(answer, Stream):
            try:
                places.streams.acquire_nowait()
            except trio.WouldBlock:
                answer = _no(ExitCode.REFUSED, f"{_STREAM_LIMIT} others are watching: end one")
            else:
                try:
                    await _send(stream, {"ok": True, "result": answer.result}, places)
                    await _stream(stream, answer)
                finally:
                    places.streams.release()
                return
        await _send(stream, answer, places)
        if len(line) > _REQUEST_LIMIT:
            return


async def _send(stream: trio.SocketStream, answer: dict[str, Any], places: _Places) -> None:
    with places.turn_of_client(_ANSWER_LIMIT):
        await stream.send_all(json.dumps(answer).encode("utf-8") + b"\n")


async def _stream(stream: trio.SocketStream, answer: Stream) -> None:
    """Run a stream until it or the client ends. A client that reads slowly holds up itself."""
    ended = trio.Event()
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(_REQUEST_LIMIT):
                    pass
            ended.set()
            await trio.sleep(_ANSWER_LIMIT)
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        try:
            with single_error():  # of a nursery in there
                await answer.run(stream.send_all, ended)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception:
            _log.exception("control-failed verb=stream")
        nursery.cancel_scope.cancel()


async def _read_line(stream: trio.SocketStream, waiting: bytearray) -> bytes | None:
    """The next line; None at the end; what is there so far if it grows over the limit."""
    while (end := waiting.find(b"\n")) < 0:
        if len(waiting) > _REQUEST_LIMIT:
            return bytes(waiting)
        data = await stream.receive_some(_REQUEST_LIMIT)
        if not data:
            return None
        waiting += data
    line = bytes(waiting[:end])
    del waiting[: end + 1]
    return line


async def _answer(line: bytes, handlers: Mapping[str, Handler]) -> dict[str, Any] | Stream:
    if len(line) > _REQUEST_LIMIT:
        return _no(ExitCode.USAGE, f"a request has at most {_REQUEST_LIMIT} bytes")
    try:
        request = json.loads(line)
        verb, args = request["verb"], request.get("args", {})
        handler = handlers[verb]
        if not isinstance(args, dict):
            raise TypeError
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        known = ", ".join(sorted(handlers))
        return _no(ExitCode.USAGE, f'write {{"verb": ..., "args": {{}}}} with one of: {known}')
    try:
        result = await handler(args)
        return result if isinstance(result, Stream) else {"ok": True, "result": result}
    except VswitchError as error:
        return _no(error.exit_code, str(error))
    except Exception:
        reference = secrets.token_hex(4)
        _log.exception("control-failed verb=%s reference=%s", verb, reference)
        return _no(ExitCode.FAILED, f"internal error; its log says why, at reference={reference}")


def _no(code: int, message: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "error": message}
