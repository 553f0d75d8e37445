"""All foreign ports of a switch: sockets opened, clients served, and everything gone at the end.

Error contract of `open_foreign`: `VswitchError` for a socket that cannot be had; afterwards
nothing.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager

import trio
from attrs import Factory, frozen

from vswitch.foreign.datagrams import SharedSocket
from vswitch.foreign.kinds import ForeignSettings
from vswitch.foreign.sockets import Place, open_place, shown
from vswitch.foreign.tcp import StreamClients
from vswitch.foreign.udp import DatagramClients
from vswitch.foreign.vxlan import VxlanPeers
from vswitch.logs import event
from vswitch.switch.switch import Switch

log = logging.getLogger(__name__)

_DATAGRAMS = ("udp", "qemu-dgram")


@frozen(eq=False)
class Listener:
    """One listener that serves."""

    kind: str
    name: str
    listen: str  # where it really listens
    refused: Counter[str] = Factory(Counter)  # who got no port, by reason


async def serve_foreign(
    switch: Switch,
    foreign: Sequence[ForeignSettings],
    *,
    task_status: trio.TaskStatus[list[Listener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve these foreign ports until cancelled. Started, with the listeners, when all are open."""
    async with open_foreign(switch, foreign) as listeners:
        task_status.started(listeners)
        await trio.sleep_forever()


@asynccontextmanager
async def open_foreign(
    switch: Switch, foreign: Sequence[ForeignSettings]
) -> AsyncIterator[list[Listener]]:
    """Serve these foreign ports, for as long as the context lasts."""
    listeners: list[Listener] = []
    with ExitStack() as sockets:
        async with trio.open_nursery() as nursery:
            await _open_all(switch, foreign, sockets, nursery, listeners)
            for each in listeners:
                event(
                    log,
                    "foreign-listening",
                    logging.WARNING,
                    name=each.name,
                    kind=each.kind,
                    listen=each.listen,
                    plain_text="not encrypted, not authenticated: whoever reaches it is in the LAN",
                )
            try:
                yield listeners
            finally:
                nursery.cancel_scope.cancel()


async def _open_all(
    switch: Switch,
    foreign: Sequence[ForeignSettings],
    sockets: ExitStack,
    nursery: trio.Nursery,
    listeners: list[Listener],
) -> None:
    vxlan: dict[Place, tuple[VxlanPeers, str]] = {}  # by listening place
    for settings in foreign:
        place = settings.listen
        assert place is not None  # `load_foreign` sees to it
        if settings.kind == "vxlan":
            if place not in vxlan:
                sock = sockets.enter_context(open_place(place, stream=False))
                vxlan[place] = VxlanPeers(switch, SharedSocket(sock, switch.mtu)), _where(sock)
                nursery.start_soon(vxlan[place][0].run)
            peers, where = vxlan[place]
            await peers.plug(settings)
            listeners.append(Listener(settings.kind, settings.name, where, peers.refused))
            continue
        clients: DatagramClients | StreamClients
        if settings.kind in _DATAGRAMS:
            sock = sockets.enter_context(open_place(place, stream=False))
            clients = DatagramClients(switch, settings, SharedSocket(sock, switch.mtu))
        else:
            sock = sockets.enter_context(open_place(place, stream=True))
            clients = StreamClients(switch, settings, sock)
        nursery.start_soon(clients.run)
        refused = clients.admission.refused
        listeners.append(Listener(settings.kind, settings.name, _where(sock), refused))


def _where(sock: socket.socket) -> str:
    address = sock.getsockname()
    return shown(address[:2] if isinstance(address, tuple) else address)
