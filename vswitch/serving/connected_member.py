"""A member that is connected, and what is in force of the networks behind it."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define

from transport import Channel, PublicKey
from vswitch.clocks import wall_time_of
from vswitch.management.status import datagram_counts
from vswitch.members.device import MemberDevice
from vswitch.registry.approvals import Network, in_force
from vswitch.registry.rules import Member
from vswitch.switch.bucket import Bucket
from vswitch.switch.port import Port

WHO_RATE, WHO_BURST = 1.0, 16.0  # answers a second to one member, of up to 14 KB; all at once


def networks_of(
    member: Member, offered: tuple[Network, ...], address: str | None
) -> tuple[Network, ...]:
    """What is in force of a member: for IPv4 it needs an address that the switch knows."""
    usable = in_force(offered, member.routes)
    return tuple(each for each in usable if each.version == 6 or address is not None)


@define(eq=False)
class ConnectedMember:
    """A member that is connected."""

    member: Member
    address: str | None  # CIDR form
    channel: Channel
    device: MemberDevice
    port: Port
    since: float  # by `uptime`
    address6: str = ""  # CIDR form, for who uses it
    offered: tuple[Network, ...] = ()  # that are behind it, as it says
    told: tuple[str, ...] = ()  # of gateways
    told_names: tuple[tuple[str, ...], str] = ((), "")  # name servers and domain
    why: str | None = None  # it was unplugged, if not by itself
    leaving: bool = False  # it has asked to be forgotten
    switch_key: PublicKey | None = None  # that its host goes by
    questions: Bucket = Factory(lambda: Bucket(WHO_RATE, WHO_BURST))  # who else is there

    @property
    def networks(self) -> tuple[Network, ...]:
        """Behind it, that others reach through it."""
        return networks_of(self.member, self.offered, self.address)

    def status(self) -> dict[str, Any]:
        """What `vswitch.management.status.PortStatus` has of a member."""
        statistics, kind = self.channel.statistics(), self.channel.path_kind
        return {
            "address": self.address,
            "offered": [str(network) for network in self.offered],
            "routes": [str(network) for network in self.networks],
            "via": kind if kind != "udp" else f"udp:{self.channel.remote}",
            "rtt_ms": None if statistics.rtt is None else statistics.rtt * 1000,
            "datagram_size": statistics.datagram_size,
            "post_quantum": statistics.hybrid,
            "lane": self.device.lane,
            "lane_mode": self.device.lane_mode,
            **datagram_counts(
                statistics.datagram_sent, statistics.datagram_received, statistics.datagram_lost
            ),
            "transport_drops": dict(statistics.drops),
            "since": wall_time_of(self.since),
        }
