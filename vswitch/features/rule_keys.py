"""What a packet is part of, for rules between ports: its key, the key of answers, its question.

    TCP, UDP, SCTP   addresses and ports
    ICMP             of an echo addresses, type and identifier; of an error nothing, but the key of
                     the packet that it is about
    others           the addresses
    later fragments  what names the packet, and where they begin

`Passing` is what no rule is asked about: ARP, whatever is no IP, IGMP, MLD, neighbour discovery.
`Undetermined` is what a host may see more in than can be seen here. Pure; nothing here raises for
any bytes.
"""

from __future__ import annotations

import attrs

from vswitch.features.rule_set import ICMP, Question
from vswitch.frames.headers import (
    ARP,
    ICMPV6,
    IPV4,
    IPV6,
    IPV6_SIZE,
    LATER,
    OBSCURE,
    OTHER,
    frame_at,
    network_untrusted,
    upper_ipv4_untrusted,
    upper_ipv6_untrusted,
)
from vswitch.frames.virtio import TCP, UDP

_SCTP = 132
_PORTED = frozenset({TCP, UDP, _SCTP})
_LEAST = {TCP: 14, UDP: 8, _SCTP: 8}  # bytes that must be there: as far as the flags of TCP
_IGMP = 2
_FRAGMENT = 44
_EXTENSIONS = frozenset({0, 43, _FRAGMENT, 60})  # behind which a fragment header may be
RST, ENDS, SYN, SYN_ACK = 0x04, 0x05, 0x02, 0x12  # flags of TCP; what ends is FIN or RST
_ECHOES = {ICMP: (8, 0), ICMPV6: (128, 129)}  # request and reply
_ERRORS = {ICMP: frozenset({3, 4, 11, 12}), ICMPV6: frozenset({1, 2, 3, 4})}
# Multicast listeners (RFC 2710, 3810), neighbours and routers (RFC 4861).
_LINK = frozenset((*range(130, 138), 143))


@attrs.frozen
class Fragment:
    """A later one; or with a first one, what it says of those."""

    packet: bytes  # what names the packet that it is of
    start: int  # bytes into what is fragmented: where it begins, or where the next may at least


@attrs.frozen
class Key:
    """What a packet is part of."""

    # Of packets like this one, of its protocol: addresses, and the rest; "" where nothing answers.
    forth: bytes
    back: bytes  # of answers to it
    question: Question
    decided: int  # where what was looked at ends in the record
    reply: bool = False  # it begins nothing
    flags: int = 0  # of TCP
    fragments: Fragment | None = None  # for the first fragment: those that follow
    # For an error: of the packets that it is about, as they went, after their protocol.
    inner: tuple[int, bytes] | None = None

    @property
    def protocol(self) -> int:
        """Above IP."""
        return self.question.protocol

    @property
    def opens(self) -> bool:
        """Whether it opens a TCP connection."""
        return self.flags & SYN_ACK == SYN

    @property
    def ends(self) -> bool:
        """Whether it ends one."""
        return self.flags & ENDS != 0


class Passing:
    """What `rule_key_untrusted` says of a frame that rules have no say about."""


class Undetermined:
    """What it says of one that cannot be followed."""


def rule_key_untrusted(record: bytes) -> Key | Fragment | type[Passing] | type[Undetermined]:
    """What a frame or superframe record is part of. Names of ports are left empty."""
    kind, at = network_untrusted(record, frame_at(record))
    if kind in (OTHER, ARP):
        return Passing
    if kind == IPV4:
        protocol, upper = upper_ipv4_untrusted(record, at)
        ends = record[at + 12 : at + 20]
    elif kind == IPV6:
        protocol, upper = upper_ipv6_untrusted(record, at)
        ends = record[at + 8 : at + 40]
    else:
        return Undetermined
    if protocol == OBSCURE or len(ends) not in (8, 32):
        return Undetermined
    if protocol == LATER:
        return _fragment(record, at if kind == IPV4 else upper, ends)
    if protocol == _IGMP:
        return Passing
    if protocol == ICMPV6 and upper < len(record) and record[upper] in _LINK:
        return Passing
    key = _key(record, protocol, upper, ends)
    if key is None:
        return Undetermined
    if kind == IPV4:
        if record[at + 6] & 0x20:
            after = Fragment(ends + record[at + 4 : at + 6], key.decided - upper)
            return attrs.evolve(key, fragments=after)
    elif record[at + 6] in _EXTENSIONS and (header := _fragment_header(record, at)) is not None:
        after = Fragment(ends + record[header + 4 : header + 8], key.decided - header - 8)
        return attrs.evolve(key, fragments=after)
    return key


def _fragment(record: bytes, at: int, ends: bytes) -> Fragment:
    """A later one, whose IPv4 or fragment header is at `at`."""
    if len(ends) == 8:
        offset = (int.from_bytes(record[at + 6 : at + 8]) & 0x1FFF) << 3
        return Fragment(ends + record[at + 4 : at + 6], offset)
    offset = int.from_bytes(record[at + 2 : at + 4]) & 0xFFF8
    return Fragment(ends + record[at + 4 : at + 8], offset)


def _fragment_header(record: bytes, at: int) -> int | None:
    """Where the fragment header is of an IPv6 packet that `upper_ipv6_untrusted` could follow, and
    that others follow.
    """
    following, at = record[at + 6], at + IPV6_SIZE
    while following in _EXTENSIONS:
        if following == _FRAGMENT:
            return at if record[at + 3] & 1 else None
        following, at = record[at], at + 8 + record[at + 1] * 8
    return None


def _key(record: bytes, protocol: int, upper: int, ends: bytes) -> Key | None:
    half = len(ends) // 2
    source, to = ends[:half], ends[half:]
    if protocol in _PORTED:
        ports, end = record[upper : upper + 4], upper + _LEAST[protocol]
        if len(record) < end:
            return None
        question = Question((), (), source, to, protocol, int.from_bytes(ports[2:]))
        flags = record[upper + 13] if protocol == TCP else 0
        back = to + source + ports[2:] + ports[:2]
        return Key(ends + ports, back, question, end, reply=flags & RST != 0, flags=flags)
    if protocol not in _ERRORS:
        return Key(ends, to + source, Question((), (), source, to, protocol), upper)
    end = upper + 8
    if len(record) < end:
        return None
    type_ = record[upper]
    question = Question((), (), source, to, protocol, type_)
    request, reply = _ECHOES[protocol]
    if type_ in (request, reply):
        said = record[upper + 4 : upper + 6]
        forth, answer = ends + bytes((type_,)) + said, reply if type_ == request else request
        back = to + source + bytes((answer,)) + said
        return Key(forth, back, question, end, reply=type_ == reply)
    if type_ not in _ERRORS[protocol]:
        return Key(b"", b"", question, end)
    inner, end = _inner(record, end, ends)
    return Key(b"", b"", question, end, inner=inner)


def _inner(record: bytes, at: int, outer: bytes) -> tuple[tuple[int, bytes] | None, int]:
    """The key of the packet that an ICMP error between `outer` quotes, and where that ends; None
    for one that cannot be followed, or that somebody else has sent.
    """
    size = len(outer)
    if size == 8:
        protocol, upper = upper_ipv4_untrusted(record, at)
        ends = record[at + 12 : at + 20]
    else:
        protocol, upper = upper_ipv6_untrusted(record, at)
        ends = record[at + 8 : at + 40]
    if protocol < 0 or len(ends) != size or ends[: size // 2] != outer[size // 2 :]:
        return None, at
    if protocol in _PORTED:
        return (protocol, ends + record[upper : upper + 4]), upper + 4
    if protocol not in _ERRORS:
        return (protocol, ends), upper
    said = record[upper : upper + 6]
    return (protocol, ends + said[:1] + said[4:]), upper + 6
