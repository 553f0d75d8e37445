"""Raw UDP, and QEMU's datagrams: a client is where its datagrams come from.

A client gets a port with its first frame and loses it after `idle` seconds of silence; there is no
handshake, and nothing but the source address says who it is.

A client that comes from another address than before (started again, or behind a NAT that forgot it)
is known by the MAC address of its first frame: the port that had it, silent since, is unplugged,
with its entries of the MAC table and what guards have bound to it. That is no move between ports.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from vswitch.addresses import HostPort
from vswitch.foreign.client_limit import ClientLimit
from vswitch.foreign.datagrams import DatagramDevice, SharedSocket
from vswitch.foreign.formats import longest_frame
from vswitch.foreign.sockets import (
    Sender,
    can_answer,
    client_socket,
    enlarge,
    find,
    holder_of,
    shown,
)
from vswitch.frames.ethernet import ETHERNET_HEADER_SIZE
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch

if TYPE_CHECKING:
    from vswitch.foreign.kinds import ForeignSettings


class DatagramClients:
    """The clients of one listener."""

    def __init__(self, switch: Switch, sock: socket.socket, settings: ForeignSettings) -> None:
        self._limit = ClientLimit(switch, settings, forgets=True)
        self._settings = settings
        mtu = settings.mtu_in(switch.mtu)
        self._shared = SharedSocket(sock, mtu)
        self.refused = self._shared.refused = self._limit.refused
        self._switch = switch
        self._longest = longest_frame(mtu)
        self._clients: dict[Sender, DatagramDevice] = {}
        self._nursery: trio.Nursery  # while it runs

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                nursery = self._nursery
                nursery.start_soon(self._shared.run, self._judge_untrusted)
                nursery.start_soon(self._limit.forget)
        finally:
            self._limit.close()

    def _judge_untrusted(
        self, datagram: bytes, address: Sender
    ) -> tuple[DatagramDevice, bytes] | None:
        # HOT PATH
        client = self._clients.get(address)
        if client is None:
            client = self._admit(datagram, address)
            if client is None:
                return None
        client.heard = trio.current_time()
        return client, datagram

    def _admit(self, datagram: bytes, address: Sender) -> DatagramDevice | None:
        if not can_answer(address):
            self._limit.refuse("no_address")
            return None
        if not ETHERNET_HEADER_SIZE <= len(datagram) <= self._longest:
            self._limit.refuse("no_frame")
            return None
        holder, station = holder_of(address), datagram[6:12]
        if not (self._limit.moves(station, holder) or self._limit.may_come(holder)):
            return None
        where = shown(address)
        device = DatagramDevice(self._shared, address, f"{self._settings.kind}:{where}")
        name = f"{self._settings.name}-{where}"

        def gone(_: Port) -> None:
            self._clients.pop(address, None)

        port = self._limit.plug(device, name, gone, holder)
        if port is None:
            return None
        self._clients[address] = device
        self._limit.settle(station, port, holder, self._nursery)
        return device


@asynccontextmanager
async def connect_udp(where: HostPort, bind: str | None, mtu: int) -> AsyncIterator[DatagramDevice]:
    """A client's side: somebody's listener as a device. Who else sends to us is not heard, and
    counted (`unknown_peer`).
    """
    address = (await find(where, socket.SOCK_DGRAM, bind))[0]
    with client_socket(address, socket.SOCK_DGRAM, bind) as sock:
        enlarge(sock)
        shared = SharedSocket(sock, mtu)
        device = DatagramDevice(shared, address, f"udp:{where}")

        def judge(datagram: bytes, source: Sender) -> tuple[DatagramDevice, bytes] | None:
            if source and source[:2] == address:
                return device, datagram
            device.dropped["unknown_peer"] += 1
            return None

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shared.run, judge)
                try:
                    yield device
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            device.close()
