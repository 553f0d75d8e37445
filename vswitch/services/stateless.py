"""Addresses that hosts give themselves in the prefix that the switch advertises (RFC 4862).

A host may make its address from its MAC (RFC 4291 appendix A), as members do, or by a rule of its
own (RFC 7217, RFC 8981); nobody tells the switch. So it asks, by neighbour discovery, when somebody
wants to know: what has answered has the address, and what has not is said to have none.

Pure; `now` in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network

from attrs import Factory, define

from vswitch.addresses import ipv6_from_mac

THERE, ABSENT = 60.0, 10.0  # seconds that it is believed: that a host has its address, or has not
PATIENCE = 0.75  # seconds for an answer: a long way there and back
MAX_KNOWN = 1024


@define(eq=False)
class Stateless:
    """What is known of the addresses of one prefix."""

    prefix: IPv6Network  # a /64
    own: IPv6Address | None = None  # of the switch's services
    _known: OrderedDict[IPv6Address, tuple[bool, float]] = Factory(OrderedDict)

    def of(self, mac: bytes) -> IPv6Address:
        """The address that follows from a MAC."""
        return ipv6_from_mac(self.prefix, mac)

    def mac(self, address: IPv6Address) -> bytes | None:
        """The MAC from which an address follows; None if it follows from none."""
        last = address.packed[8:]
        if address not in self.prefix or last[3:5] != b"\xff\xfe":
            return None
        return bytes((last[0] ^ 2,)) + last[1:3] + last[5:]

    def has(self, address: IPv6Address, now: float) -> bool | None:
        """Whether a host has it; None if that is to be asked for."""
        there, until = self._known.get(address, (None, now))
        return there if now < until else None

    def learned(self, address: IPv6Address, there: bool, now: float) -> None:
        """Somebody has answered for it, or nobody."""
        self._known.pop(address, None)
        if len(self._known) >= MAX_KNOWN:
            self._known.popitem(last=False)
        self._known[address] = there, now + (THERE if there else ABSENT)
