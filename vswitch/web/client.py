"""The client's side of a WebSocket: to the address, through a proxy if need be, TLS, the handshake.

The certificate is not checked unless it is asked for: what is inside is encrypted once more, and
proves the switch by its key, of which the certificate says nothing.

Invariants: answers are bounded (`_ANSWER_LIMIT`), and all has `PATIENCE` seconds; whatever fails or
is cancelled leaves no socket.

Error contract: `open_websocket` raises `OSError` with a sentence what and why, and where if that is
the proxy.
"""

from __future__ import annotations

import base64
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import attrs
import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.utilities import RemoteProtocolError

from vswitch.web.tls import TlsStream
from vswitch.web.websocket import WebSocket, tune

PATIENCE: Final = 15.0  # seconds from the look-up of the name to the answer
_ANSWER_LIMIT = 16 * 1024  # bytes of an answer with its headers
_END = b"\r\n\r\n"


@attrs.frozen
class Proxy:
    """An HTTP proxy that is asked to CONNECT. `credentials` are `user:password`."""

    host: str
    port: int
    credentials: str | None = attrs.field(default=None, repr=False)


@asynccontextmanager
async def open_websocket(
    url: str, *, proxy: Proxy | None = None, verify: bool = False, mark: int = 32 * 1024
) -> AsyncIterator[WebSocket]:
    """A WebSocket at `https://HOST[:PORT]/PATH` (or `http://`), until the context ends.

    Args:
        url: of the WebSocket.
        proxy: to go through.
        verify: check the certificate against the system's authorities and the host's name.
        mark: see `WebSocket`.

    Raises:
        OSError: nobody answers there, or something else.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme in ("https", "wss")
    port = parts.port or (443 if secure else 80)
    first = (proxy.host, proxy.port) if proxy is not None else (host, port)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = _authority(host, port)
    try:
        with trio.fail_after(PATIENCE) as patience:
            stream: trio.abc.Stream = await _reach(
                *first, "" if proxy is None else f"{_where(proxy)}: "
            )
            async with stream:
                tune(stream)
                try:
                    if proxy is not None:
                        await _connect(stream, proxy, authority)
                    if secure:
                        stream = secured = TlsStream(stream, _context(verify), server_hostname=host)
                        await secured.do_handshake()
                    name = host if port == (443 if secure else 80) else authority
                    received = await _upgrade(stream, name, target)
                except trio.BrokenResourceError as error:
                    reason = error.__cause__ or "the connection has ended"
                    raise ConnectionError(str(reason)) from None
                patience.deadline = float("inf")
                description = f"https:{authority}"
                try:
                    yield WebSocket(
                        stream, client=True, description=description, mark=mark, received=received
                    )
                finally:
                    await trio.aclose_forcefully(stream)
    except trio.TooSlowError:
        raise TimeoutError(f"no answer within {PATIENCE:.0f} s") from None


async def _reach(host: str, port: int, where: str) -> trio.abc.Stream:
    try:
        return await trio.open_tcp_stream(host, port)
    except socket.gaierror as error:
        raise ConnectionError(f"{where}cannot resolve {host}: {error.strerror}") from None
    except OSError as error:  # of several addresses Trio has the reasons in a group behind it
        cause = error.__cause__ or error
        each = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause,)
        said = (os.strerror(getattr(one, "errno", 0) or errno.EHOSTUNREACH) for one in each)
        raise ConnectionError(where + ", ".join(dict.fromkeys(said))) from None


def _where(proxy: Proxy) -> str:
    return f"proxy {_authority(proxy.host, proxy.port)}"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _connect(stream: trio.abc.Stream, proxy: Proxy, authority: str) -> None:
    where = _where(proxy)
    headers = [("Host", authority)]
    if proxy.credentials is not None:
        word = base64.b64encode(proxy.credentials.encode()).decode()
        headers.append(("Proxy-Authorization", f"Basic {word}"))
    asked = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ANSWER_LIMIT)
    request = h11.Request(method="CONNECT", target=authority, headers=headers)
    await stream.send_all(asked.send(request) or b"")
    head, rest = await _head(stream, f"{where}: ")
    status = connect_status_untrusted(head)
    # A refusal may have a page behind it; behind a way that is open nobody speaks before we do.
    if status is None or (rest and 200 <= status < 300):
        raise ConnectionError(f"{where}: it answers what is no HTTP: is it an HTTP proxy?")
    if status in (401, 407) and proxy.credentials is not None:  # 401 is what tinyproxy says
        raise ConnectionError(f"{where}: it does not take the name and password")
    if status in (401, 407):
        raise ConnectionError(f"{where}: it wants a name and a password: see --proxy-credentials")
    if not 200 <= status < 300:
        raise ConnectionError(f"{where}: it does not connect to {authority}: status {status}")


def connect_status_untrusted(head: bytes) -> int | None:
    """The status of an answer to CONNECT, None for what is none."""
    asked = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ANSWER_LIMIT)
    asked.send(h11.Request(method="CONNECT", target="h:1", headers=[("Host", "h:1")]))
    asked.receive_data(head)
    try:
        answer = asked.next_event()
    except h11.RemoteProtocolError:
        return None
    return answer.status_code if isinstance(answer, h11.Response) else None


async def _head(stream: trio.abc.Stream, where: str = "") -> tuple[bytes, bytes]:
    """The head of an answer, and what came behind it."""
    data = bytearray()
    while (end := data.find(_END)) < 0:
        if len(data) > _ANSWER_LIMIT:
            raise ConnectionError(f"{where}the answer is too long")
        part = await stream.receive_some(4096)
        if not part:
            raise ConnectionError(f"{where}it has closed the connection")
        data += part
    end += len(_END)
    return bytes(data[:end]), bytes(data[end:])


async def _upgrade(stream: trio.abc.Stream, host: str, target: str) -> bytes:
    handshake = WSConnection(ConnectionType.CLIENT)
    await stream.send_all(handshake.send(Request(host=host, target=target)))
    head, rest = await _head(stream)
    status = upgrade_status_untrusted(handshake, head)
    if status != 101:
        said = "what is no HTTP" if status is None else f"with status {status}"
        raise ConnectionError(f"there is no link: it answers {said}")
    return rest


def upgrade_status_untrusted(handshake: WSConnection, head: bytes) -> int | None:
    """The status of an answer to a handshake, 101 if it is accepted, None for what is none."""
    try:
        handshake.receive_data(head)
        for event in handshake.events():
            if isinstance(event, AcceptConnection):
                return 101
            if isinstance(event, RejectConnection):
                return event.status_code
    except (RemoteProtocolError, ValueError):  # the latter for what is no ASCII
        pass
    return None
