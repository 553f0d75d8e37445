"""The control socket of a running switch or member: its API, over HTTP on a UNIX socket.

    await nursery.start(serve_control, path, Api(subject, SWITCH))

Who asks is the user at the other end: its own and root may do all, others of the socket's group
what the role operate may.

Invariants: the socket is mode 0660, or 0600 where the system does not tell who asks.
Requests, connections, streams and waiting are bounded (`_LIMITS`, `STREAMS`). There is always a
place for one more question: where all are taken, the connection goes that has kept the program
waiting for longest. A socket file is replaced only if nobody answers on it, and removed at the end.
A handler that fails fails its request, not the program.

Error contract: `serve_control` raises `VswitchError` if it cannot listen. Clients are answered or
dropped and never make it raise.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import trio

from transport.platform import LINUX, peer_user
from vswitch.api.gate import UNIX
from vswitch.api.http import Api
from vswitch.errors import ConfigError, VswitchError
from vswitch.logs import event
from vswitch.state import check_owned, directory_lock, file_error, owners_beside, spare_socket
from vswitch.web.requests import Routes
from vswitch.web.server import Limits, WebServer

PATH_LIMIT = 107  # bytes: sun_path of 108 without its final zero, unix(7)
STREAMS = 8  # that stay: others still get their answers
# Of this host's users. Each costs a task; a client is done in a moment, or hangs.
_LIMITS = Limits(
    connections=32, per_address=1 << 30, turns=1000.0, header=1.0, body=1.0, idle=1.0, answer=30.0
)
_BACKLOG = 16
_MODE = 0o660 if LINUX else 0o600  # where nobody says who asks, the mode alone decides
_NO_PLACE = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


async def serve_control(
    path: Path,
    api: Api,
    *,
    counters: Callable[[Counter[str]], None] = lambda _: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests on a UNIX socket until cancelled.

    Args:
        path: of the socket; its directory exists.
        api: what is answered there.
        counters: is told where clients that are refused are counted.
        task_status: started when the socket answers.

    Raises:
        VswitchError: a running program answers on this path, or it cannot be made.
    """
    with _listening(path) as listener:
        if listener is None:
            task_status.started()
            await trio.sleep_forever()
        routes = Routes()
        routes.add_table(api.find)
        server = WebServer(routes, _LIMITS)
        counters(server.counters)

        async def serve(stream: trio.SocketStream) -> None:
            try:
                user = peer_user(stream.socket)
            except OSError:
                await trio.aclose_forcefully(stream)
                return
            client = f"{UNIX}{'' if user is None else user}"
            await server.serve_connection(stream, client, None)

        task_status.started()
        await trio.serve_listeners(serve, [listener])


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
        _refuse_second(path)
        path.unlink()
    # The file gets the mode of the socket less the umask (unix(7)), so it never is a wider one.
    os.fchmod(sock.fileno(), _MODE)
    sock.bind(os.fspath(path))
    os.chmod(path, _MODE)
    sock.listen(_BACKLOG)


def refuse_second(path: Path) -> None:
    """Raise `VswitchError` if a running program has this path, or the one in its place: for what
    changes the host before its own socket is there, and would undo what that program has done.
    """
    for each in (path, spare_socket(path)):
        if each is not None and each.is_socket():
            _refuse_second(each)


def _refuse_second(path: Path) -> None:
    if _answers(path):
        raise VswitchError(
            f"another vswitch is running and answers on {path}: stop it first, or use "
            "another --state or --name"
        )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # EAGAIN is a full backlog: somebody listens.
        return probe.connect_ex(os.fspath(path)) in (0, errno.EAGAIN, errno.EINPROGRESS)
