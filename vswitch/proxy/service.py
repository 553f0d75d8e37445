"""All listeners of one `vswitch proxy`.

They are bound first, so that what is in use is told before the network is asked for anything, and
served once the member is on the LAN; what connects meanwhile waits in the kernel.

Error contract: `VswitchError` for what cannot be listened at.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import NoReturn

import trio
from attrs import Factory, define, evolve, field, frozen

from vswitch.config.places import Forward, Place, on_loopback
from vswitch.logs import event
from vswitch.proxy.counts import Counts
from vswitch.proxy.listeners import Limits, carry, serve_datagrams, serve_streams
from vswitch.proxy.sides import Side
from vswitch.proxy.socks_server import SocksServer
from vswitch.proxy.status import ProxyStatus

log = logging.getLogger(__name__)


@frozen
class Rules:
    """What is to be listened at. `users` are passwords of SOCKS by user, None for none asked."""

    socks: Sequence[Place] = ()
    forward: Sequence[Forward] = ()
    reverse: Sequence[Forward] = ()
    users: Mapping[bytes, bytes] | None = field(default=None, repr=False)


@define
class Proxy:
    """Bound listeners; made by `open_proxy`."""

    _counts: list[Counts] = Factory(list)
    _jobs: list[Callable[[], Awaitable[NoReturn]]] = Factory(list)

    async def run(self) -> NoReturn:
        """Serve all, until cancelled."""
        async with trio.open_nursery() as nursery:
            for job in self._jobs:
                nursery.start_soon(job)
        raise AssertionError("no listener ends by itself")

    def status(self) -> list[ProxyStatus]:
        """What each listener has done so far."""
        return [counts.status() for counts in self._counts]

    def add(self, counts: Counts, job: Callable[[], Awaitable[NoReturn]]) -> None:
        """One more listener."""
        self._counts.append(counts)
        self._jobs.append(job)
        event(log, "proxy-listens", kind=counts.kind, listen=counts.listen, target=counts.target)


@asynccontextmanager
async def open_proxy(rules: Rules, limits: Limits, host: Side, lan: Side) -> AsyncIterator[Proxy]:
    """Bind all listeners, and close them at the end."""
    proxy = Proxy()
    async with AsyncExitStack() as stack:

        async def listen(side: Side, place: Place) -> tuple[trio.socket.SocketType, str]:
            sock = stack.enter_context(await side.listen(place))
            if place.path:
                stack.callback(_remove, place.path)
                return sock, str(place)
            return sock, str(evolve(place, port=sock.getsockname()[1]))

        for place in map(on_loopback, rules.socks):
            sock, where = await listen(host, place)
            counts = Counts("socks", where)
            server = SocksServer(lan, limits, counts, rules.users)
            proxy.add(counts, partial(serve_streams, sock, server.serve, limits, counts))
            _say_who_may(place, "socks", "" if rules.users is not None else "any user of ")
        for kind, forwards, side, other in (
            ("forward", rules.forward, host, lan),
            ("reverse", rules.reverse, lan, host),
        ):
            for forward in forwards:
                place = on_loopback(forward.listen) if side is host else forward.listen
                sock, where = await listen(side, place)
                counts = Counts(kind, where, str(forward.target))
                proxy.add(counts, _job(sock, forward.target, other, limits, counts))
                if side is host:
                    _say_who_may(place, kind, "any user of ")
        yield proxy


def _job(
    sock: trio.socket.SocketType, target: Place, side: Side, limits: Limits, counts: Counts
) -> Callable[[], Awaitable[NoReturn]]:
    if target.udp:
        return partial(
            serve_datagrams, sock, partial(side.connect_datagrams, target), limits, counts
        )

    async def handle(stream: trio.SocketStream) -> None:
        await carry(stream, partial(side.connect, target), limits, counts)

    return partial(serve_streams, sock, handle, limits, counts)


def _say_who_may(place: Place, kind: str, who: str) -> None:
    if not place.is_loopback:
        event(
            log,
            "proxy-open",
            logging.WARNING,
            kind=kind,
            listen=place,
            reason=f"{who}every host that reaches this address is on the LAN through it",
        )


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
