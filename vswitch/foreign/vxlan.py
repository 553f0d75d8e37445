"""VXLAN (RFC 7348) to peers that are named: a port for each pair of remote host and VNI.

All of one listening address share a socket. A datagram is taken from its remote host alone, from
whatever UDP port (peers put entropy there), and with its VNI; others are counted. Who can send
with that source address can send frames: put nothing but a trusted network, or IPsec, below it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from vswitch.errors import VswitchError
from vswitch.foreign.client_limit import ClientLimit
from vswitch.foreign.datagrams import DatagramDevice, SharedSocket
from vswitch.foreign.formats import (
    VXLAN_HEADER_SIZE,
    longest_frame,
    vxlan_header,
    without_vxlan_untrusted,
)
from vswitch.foreign.sockets import Sender, native, reaches, shown
from vswitch.resolver import resolve
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch

if TYPE_CHECKING:
    from vswitch.foreign.kinds import ForeignSettings


class VxlanPeers:
    """The ports of one socket."""

    def __init__(self, switch: Switch, sock: socket.socket) -> None:
        self._switch = switch
        self._shared = SharedSocket(
            sock, switch.mtu, longest=longest_frame(switch.mtu) + VXLAN_HEADER_SIZE
        )
        self.refused = self._shared.refused
        self._peers: dict[tuple[object, int], DatagramDevice] = {}
        self._limits: list[ClientLimit] = []

    async def plug(self, settings: ForeignSettings) -> None:
        """Attach the port of one remote; `VswitchError` if its name is unknown, or has no address
        of the family that the socket has.
        """
        sock, remote, vni = self._shared.sock, settings.remote, settings.vni
        assert remote is not None  # `load_foreign` sees to both
        assert vni is not None
        try:
            found = await resolve(remote.host, remote.port)
        except OSError as error:
            reason = error.strerror or error
            raise VswitchError(f"cannot resolve {remote.host}: {reason}") from None
        where = next((each for each in found if reaches(sock, each[0])), None)
        if where is None:
            raise VswitchError(
                f"foreign port {settings.name}: {remote.host} has no address that a socket on "
                f"{shown(sock.getsockname())} can send to: listen on one of its family, or on all"
            )
        address = native(sock, *where)
        if (address[0], vni) in self._peers:
            raise VswitchError(f"foreign port {settings.name}: {remote} has a port of VNI {vni}")
        name = f"vxlan:{remote}/{vni}"
        mtu = settings.mtu_in(self._switch.mtu)
        device = DatagramDevice(self._shared, address, name, mtu=mtu, header=vxlan_header(vni))
        limit = ClientLimit(self._switch, settings)
        self._limits.append(limit)
        key = address[0], vni

        def gone(_: Port) -> None:
            self._peers.pop(key, None)

        if limit.plug(device, settings.name, gone, address[0]) is not None:
            self._peers[key] = device

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._shared.run(self._judge_untrusted)
        finally:
            for limit in self._limits:
                limit.close()

    def _judge_untrusted(
        self, datagram: bytes, address: Sender
    ) -> tuple[DatagramDevice, bytes] | None:
        # HOT PATH
        found = without_vxlan_untrusted(datagram)
        if found is None:
            self.refused["no_frame"] += 1
            return None
        vni, frame = found
        peer = self._peers.get((address[0], vni)) if address else None
        if peer is None:
            self.refused["unknown_peer"] += 1
            return None
        return peer, frame
