"""What `join` needs of the host's end: a device that can be given an address and an MTU.

`TapDevice` is the real one. Anything else that keeps these rules can be a member as well: an
interface of another system, or none at all in a program that takes part by itself.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol, TypeAlias

import attrs

from vswitch.switch.device import Device

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


@attrs.frozen
class HostFacts:
    """What a host has beside its interface to the LAN, none of which the LAN may take over."""

    addresses: frozenset[Address] = frozenset()  # its own
    gateways: frozenset[Address] = frozenset()  # next hops of its routes
    resolvers: frozenset[Address] = frozenset()  # name servers
    networks: frozenset[Network] = frozenset()  # that it has routes to
    apart: bool = False  # none of what leads to the switch is in the network of the interface
    ipv6: bool = False  # is on at the interface, or at the bridge that it is in


@attrs.frozen
class Way:
    """How a host reaches an address just now."""

    dev: str  # the interface that it leaves on, by name and by number
    index: int
    gateway: str | None = None
    source: str | None = None  # the address that it leaves from


class HostInterface(Device, Protocol):
    """A device with an address. Setting raises `VswitchError`, and nothing has changed then."""

    @property
    def mac(self) -> str:
        """As aa:bb:cc:dd:ee:ff."""

    @property
    def address(self) -> str | None:
        """The one that `set_address` set, in CIDR form."""

    @property
    def persistent(self) -> bool:
        """Somebody else's: it stays when we go, and may refuse to be configured."""

    @property
    def dropped(self) -> Counter[str]:
        """Frames that the host's end refused, by reason."""

    async def facts(self) -> HostFacts:
        """What the host has just now. `VswitchError` where that cannot be found out."""

    async def set_mtu(self, mtu: int) -> None:
        """Change the MTU, in bytes of payload."""

    async def set_address(self, address: str | None) -> None:
        """Replace the address that was set by another, in CIDR form, or by none."""
