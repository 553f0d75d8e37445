"""VXLAN (RFC 7348) to peers that are named: a port for each pair of remote host and VNI.

All of one listening address share a socket. A datagram is taken from its remote host alone, from
whatever UDP port (peers put entropy there), and with its VNI; others are counted. Who can send
with that source address can send frames: put nothing but a trusted network, or IPsec, below it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence

import trio

from vswitch.addresses import HostPort
from vswitch.errors import VswitchError
from vswitch.foreign.client_limit import Admission
from vswitch.foreign.datagrams import DatagramDevice, SharedSocket
from vswitch.foreign.formats import vxlan_header, without_vxlan_untrusted
from vswitch.foreign.kinds import ForeignSettings
from vswitch.foreign.sockets import Address, native
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch


class VxlanPeers:
    """The ports of one socket."""

    def __init__(self, switch: Switch, shared: SharedSocket) -> None:
        self.refused: Counter[str] = Counter()  # datagrams, by reason
        self._switch = switch
        self._shared = shared
        self._peers: dict[tuple[str, int], DatagramDevice] = {}
        self._admissions: list[Admission] = []

    async def plug(self, settings: ForeignSettings) -> None:
        """Attach the port of one remote; `VswitchError` if its name is unknown."""
        remote, vni = settings.remote, settings.vni
        assert remote is not None  # `load_foreign` sees to both
        assert vni is not None
        host = await _resolve(remote)
        address = native(self._shared.sock, host, remote.port)
        if (address[0], vni) in self._peers:
            raise VswitchError(f"foreign port {settings.name}: {remote} has a port of VNI {vni}")
        name = f"vxlan:{remote}/{vni}"
        device = DatagramDevice(self._shared, address, name, header=vxlan_header(vni))
        admission = Admission(self._switch, settings)
        self._admissions.append(admission)
        key = address[0], vni

        def gone(_: Port) -> None:
            self._peers.pop(key, None)

        if admission.plug(device, settings.name, gone) is not None:
            self._peers[key] = device

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._shared.run(self._judge_untrusted)
        finally:
            for admission in self._admissions:
                admission.close()

    def _judge_untrusted(
        self, datagram: bytes, address: Address
    ) -> tuple[DatagramDevice, bytes] | None:
        # HOT PATH
        found = without_vxlan_untrusted(datagram)
        if found is None:
            self.refused["no_frame"] += 1
            return None
        vni, frame = found
        peer = self._peers.get((address[0], vni))
        if peer is None:
            self.refused["unknown_peer"] += 1
            return None
        return peer, frame


async def _resolve(remote: HostPort) -> str:
    try:
        return str(ipaddress.ip_address(remote.host))
    except ValueError:
        pass
    try:
        found: Sequence[tuple[object, ...]] = await trio.socket.getaddrinfo(
            remote.host, remote.port, type=trio.socket.SOCK_DGRAM
        )
    except OSError as error:
        raise VswitchError(f"cannot resolve {remote.host}: {error.strerror or error}") from None
    address = found[0][4]
    assert isinstance(address, tuple)
    return str(address[0])
