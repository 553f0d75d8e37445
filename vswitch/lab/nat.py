"""A NAT for UDP over IPv4, as home routers have one: it forgets, and then ports are others.

    nat = Nat(NatSpec(rebind_every=5.0), seed=1)
    frame = nat.outward(frame, now)   # from inside: None if it is not to go on
    frame = nat.inward(frame, now)    # from outside, to a mapped port; else None

Sources inside (address and port) get an external port that has nothing to do with their own;
what comes to an external port goes to the source it stands for, whoever sends it. A rebinding
gives every source a new port with its next packet. What is not UDP over IPv4 passes untouched,
ICMP errors and VLAN tags included; fragments do not pass, for only the first one has ports.

Invariants: pure (`now` is an argument, in seconds); the seed decides the ports; checksums are
changed by the difference alone (RFC 1624), so a wrong one stays wrong; at most `MAX_MAPPINGS`
are kept and the oldest goes. Errors: `ValueError` for a bad spec, none for what a frame contains.
"""

from __future__ import annotations

import ipaddress
import random

import attrs

Frame = bytes | bytearray

MAX_MAPPINGS = 4096  # of 64,512 ports: a free one is soon found by chance
FIRST_PORT, LAST_PORT = 1024, 65535
# Offsets in an untagged Ethernet frame with IPv4.
ETHERTYPE, IP = 12, 14
FRAGMENT, PROTOCOL, IP_SUM, SOURCE, DESTINATION = IP + 6, IP + 9, IP + 10, IP + 12, IP + 16
SHORTEST = IP + 20 + 8  # bytes: with an IPv4 and a UDP header
UDP = 17
MORE_OR_OFFSET = 0x3FFF  # of the fragment field: all but "don't fragment" and the reserved bit


@attrs.frozen(kw_only=True)
class NatSpec:
    """What the NAT does by itself."""

    rebind_every: float | None = None  # s between rebindings; None: on command only
    keep_old: float = 0.0  # s that an old port still leads inside after a rebinding
    idle: float | None = None  # s without a packet from inside after which a mapping is gone
    # IPv4 address outside; the inner host has to answer ARP for it. None: that of the source.
    address: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.address is not None:
            ipaddress.IPv4Address(self.address)
        for name in ("rebind_every", "idle"):
            time = getattr(self, name)
            if time is not None and not time > 0:
                raise ValueError(f"{name} must be more than 0 s or None, not {time}")
        if not self.keep_old >= 0:
            raise ValueError(f"keep_old must be 0 s or more, not {self.keep_old}")


@attrs.define
class NatCounts:
    """Packets by fate, since the beginning."""

    outward: int = 0
    inward: int = 0
    unmapped: int = 0  # came to a port that leads nowhere
    fragments: int = 0
    rebindings: int = 0


@attrs.define(eq=False)
class _Mapping:
    inner: bytes  # address and port, as in the packet
    outer: bytes
    used: float  # when the last packet from inside passed
    ends: float | None = None  # of one that was replaced


class Nat:
    """The mappings."""

    def __init__(self, spec: NatSpec, seed: int = 0) -> None:
        self.counts = NatCounts()
        self._spec = spec
        self._random = random.Random(seed)
        self._address = spec.address and ipaddress.IPv4Address(spec.address).packed
        self._by_inner: dict[bytes, _Mapping] = {}
        self._by_outer: dict[bytes, _Mapping] = {}  # oldest first
        self._rebind_at: float | None = None

    @property
    def ports(self) -> list[int]:
        """The external ports that new packets from inside get now."""
        return [int.from_bytes(each.outer[4:], "big") for each in self._by_inner.values()]

    def rebind(self, now: float) -> None:
        """Forget who has which port."""
        self.counts.rebindings += 1
        for mapping in self._by_inner.values():
            mapping.ends = now + self._spec.keep_old
        self._by_inner.clear()

    def outward(self, frame: Frame, now: float) -> Frame | None:
        """A frame from inside as it goes on."""
        udp = _udp(frame)
        if not udp:
            return self._other(frame, udp)
        if self._spec.rebind_every is not None:
            if self._rebind_at is None:  # the first packet ever
                self._rebind_at = now + self._spec.rebind_every
            elif now >= self._rebind_at:
                self.rebind(now)
                self._rebind_at = now + self._spec.rebind_every
        inner = bytes(frame[SOURCE : SOURCE + 4] + frame[udp : udp + 2])
        mapping = self._by_inner.get(inner)
        if mapping is None or self._over(mapping, now):
            mapping = self._map(inner, now)
        mapping.used = now
        self.counts.outward += 1
        return _rewritten(frame, udp, SOURCE, udp, mapping.outer)

    def inward(self, frame: Frame, now: float) -> Frame | None:
        """A frame from outside as it goes on, or None."""
        udp = _udp(frame)
        if not udp:
            return self._other(frame, udp)
        outer = bytes(frame[DESTINATION : DESTINATION + 4] + frame[udp + 2 : udp + 4])
        mapping = self._by_outer.get(outer)
        if mapping is None or self._over(mapping, now):
            self.counts.unmapped += 1
            return None
        self.counts.inward += 1
        return _rewritten(frame, udp, DESTINATION, udp + 2, mapping.inner)

    def _other(self, frame: Frame, udp: int | None) -> Frame | None:
        if udp is None:
            return frame
        self.counts.fragments += 1
        return None

    def _over(self, mapping: _Mapping, now: float) -> bool:
        if mapping.ends is not None:
            return now >= mapping.ends
        return self._spec.idle is not None and now - mapping.used >= self._spec.idle

    def _map(self, inner: bytes, now: float) -> _Mapping:
        while len(self._by_outer) >= MAX_MAPPINGS:
            oldest = self._by_outer.pop(next(iter(self._by_outer)))
            if self._by_inner.get(oldest.inner) is oldest:
                del self._by_inner[oldest.inner]
        outer = inner
        while outer == inner or outer in self._by_outer:
            port = self._random.randint(FIRST_PORT, LAST_PORT)
            outer = (self._address or inner[:4]) + port.to_bytes(2, "big")
        mapping = self._by_inner[inner] = self._by_outer[outer] = _Mapping(inner, outer, now)
        return mapping


def _udp(frame: Frame) -> int | None:
    """Where the UDP header begins; 0 in a fragment; None if it is something else."""
    if len(frame) < SHORTEST or frame[PROTOCOL] != UDP or frame[ETHERTYPE:IP] != b"\x08\x00":
        return None
    header = (frame[IP] & 0x0F) * 4
    if frame[IP] >> 4 != 4 or header < 20 or len(frame) < IP + header + 8:
        return None
    if int.from_bytes(frame[FRAGMENT : FRAGMENT + 2], "big") & MORE_OR_OFFSET:
        return 0
    return IP + header


def _rewritten(frame: Frame, udp: int, address_at: int, port_at: int, new: bytes) -> bytearray:
    changed = bytearray(frame)
    address = int.from_bytes(frame[address_at : address_at + 4], "big")
    port = int.from_bytes(frame[port_at : port_at + 2], "big")
    # One's complement sums are numbers modulo 65,535, where the halves of an address add up by
    # themselves; a checksum is the negative of a sum.
    of_address = address - int.from_bytes(new[:4], "big")
    change = of_address + port - int.from_bytes(new[4:], "big")
    changed[address_at : address_at + 4] = new[:4]
    changed[port_at : port_at + 2] = new[4:]
    if of_address:
        _adjust(changed, IP_SUM, of_address)
    if frame[udp + 6] or frame[udp + 7]:  # 0 says that there is none
        _adjust(changed, udp + 6, change)
    return changed


def _adjust(frame: bytearray, at: int, change: int) -> None:
    checksum = (int.from_bytes(frame[at : at + 2], "big") + change) % 0xFFFF
    frame[at : at + 2] = (checksum or 0xFFFF).to_bytes(2, "big")
