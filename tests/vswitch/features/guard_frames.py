"""Frames that try everything, and a slow judge of them that is easy to believe."""

import ipaddress
import itertools
import random
import struct

from vswitch.features.guards import Addresses, GuardDrop, Rules
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record

MACS = [b"\x02\0\0\0\0" + bytes([number]) for number in range(3)]
GROUP = b"\x33\x33\0\0\0\x01"
V4 = [
    ipaddress.ip_address(each).packed
    for each in ("10.0.0.1", "10.0.0.2", "10.9.0.7", "0.0.0.0", "169.254.3.4", "10.0.0.3")
]
V6 = [
    ipaddress.ip_address(each).packed
    for each in ("fe80::1", "::", "2001:db8::1", "2001:db8:1::7", "febf::2", "fec0::2")
]
TAGS = [b"\x81\x00\x00\x00", b"\x81\x00\x00\x07", b"\x88\xa8\x00\x05"]


def rules(rng):
    hosts = frozenset(rng.sample([*V4[:2], V6[2]], rng.randrange(3)))
    prefixes = rng.choice([(), ((4, 16, 0x0A09),), ((16, 80, 0x20010DB80001),)])
    any_ipv4 = not any(len(host) == 4 for host in hosts) and prefixes[:1] != ((4, 16, 0x0A09),)
    return Rules(
        port=1,
        source=rng.random() < 0.5,
        arp=rng.random() < 0.5,
        dhcp=rng.random() < 0.5,
        ra=rng.random() < 0.5,
        macs={MACS[0], MACS[1]},
        addresses=Addresses(
            hosts,
            prefixes,
            any_ipv4,
            routed=rng.choice([(), ((4, 32, 0),), ((4, 8, 0x0A0000), (16, 96, 0x20010DB8))]),
            lan=rng.choice([(), ((4, 16, 0x0A09),), ((16, 80, 0x20010DB80001),)]),
        ),
        owners={**dict.fromkeys(hosts, 1), V4[5]: 2, V6[3]: 2},
    )


def _udp(rng):
    ports = rng.choice([(67, 68), (68, 67), (547, 546), (5000, 53)])
    return struct.pack(">HHHH", *ports, 12, 0) + b"data"


def _ipv4(rng):
    protocol = rng.choice([17, 17, 17, 6, 2, 1])
    options = bytes(4 * rng.choice([0, 0, 0, 1, 10]))
    word = rng.choice([0, 0, 0, 0x4000, 0x2000, 0x2001, 3, 0x0100])
    head = struct.pack(
        ">BBHHHBBH",
        0x45 + len(options) // 4,
        0,
        28,
        1,
        word,
        64,
        protocol,
        0,
    )
    return head + rng.choice(V4) + V4[1] + options + _udp(rng)


def _ipv6(rng):
    chain, kinds = b"", []
    for _ in range(rng.choice([0, 0, 0, 1, 2, 3, 8, 9])):
        kinds.append(rng.choice([0, 43, 44, 51, 60, 135, 139, 140]))
    kinds.append(rng.choice([58, 58, 58, 17, 17, 6, 59, 50, 253, 200]))
    for kind, following in itertools.pairwise(kinds):
        extra = rng.choice([0, 0, 1])
        if kind == 44:
            word = rng.choice([0, 1, 1, 8, 0x100])
            chain += struct.pack(">BBHI", following, 7, word, 1)
        elif kind == 51:
            chain += bytes((following, 1 + extra)) + bytes(10 + 4 * extra)
        else:
            chain += bytes((following, extra)) + bytes(6 + 8 * extra)
    if kinds[-1] == 58:
        upper = bytes((rng.choice([134, 134, 137, 135, 136, 128]), 0)) + bytes(14)
    else:
        upper = _udp(rng)
    head = struct.pack(">IHBB", 6 << 28, len(chain + upper), kinds[0], 255)
    return head + rng.choice(V6) + V6[0] + chain + upper


def _arp(rng):
    fixed = rng.choice([b"\0\x01\x08\0\x06\x04"] * 6 + [b"\0\x06\x08\0\x06\x04"])
    return b"".join(
        (fixed, b"\0\x01", rng.choice(MACS[:2]), rng.choice(V4), bytes(6), rng.choice(V4))
    )


def frame(rng):
    kind, body = rng.choice(
        [(0x0800, _ipv4), (0x86DD, _ipv6), (0x86DD, _ipv6), (0x0806, _arp), (0x88B5, _udp)]
    )
    payload = body(rng)
    tags = b"".join(rng.choice(TAGS) for _ in range(rng.choice([0, 0, 0, 0, 1, 1, 2, 3])))
    ethertype = struct.pack(">H", kind)
    if rng.random() < 0.05:  # LLC/SNAP
        ethertype = b"\x00\x40\xaa\xaa\x03\x00\x00\x00" + ethertype
    data = rng.choice([GROUP, MACS[2]]) + rng.choice([*MACS[:2], *MACS]) + tags + ethertype
    data += payload
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    if rng.random() < 0.1 and data:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    return data


def record(rng, data):
    """As a frame, or as a superframe with any header."""
    if rng.random() < 0.3:
        return encode_record(SUPERFRAME, rng.randbytes(10) + data)
    return frame_record(data)


class Cut(Exception):
    """The frame has ended."""


class Reader:
    def __init__(self, data):
        self.data = data

    def take(self, size):
        if len(self.data) < size:
            raise Cut
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def word(self):
        return int.from_bytes(self.take(2), "big")


def _permits(given, address):
    if address.packed in given.hosts:
        return True
    if address.version == 4 and given.any_ipv4:
        return True
    return _in_any(given.prefixes, address)


def _in_any(prefixes, address):
    for size, drop, rest in prefixes:
        bits = size * 8
        if bits == address.max_prefixlen:
            network = ipaddress.ip_network((rest << drop, bits - drop))
            if address in network:
                return True
    return False


def _behind(address, its):
    routed, lan = (_in_any(each, address) for each in (its.addresses.routed, its.addresses.lan))
    return address.packed not in its.owners and routed and not lan


def judged(data, its):
    """What must become of a frame."""
    if len(data) < 14:
        return None
    source = data[6:12]
    if its.source and source not in its.macs:
        return GuardDrop.SOURCE_GUARD
    reader = Reader(data[12:])
    try:
        kind, tags = reader.word(), 0
        while kind in (0x8100, 0x88A8):
            tags += 1
            if tags == 3:
                return GuardDrop.GUARD_UNDETERMINED
            reader.take(2)
            kind = reader.word()
    except Cut:
        return None  # ends inside its tags: no host makes anything of it
    if kind < 0x0600:
        inner = reader.data[6:8]
        snap = reader.data[:3] == b"\xaa\xaa\x03"
        if snap and inner in (b"\x08\0", b"\x08\x06", b"\x86\xdd", b"\x81\0", b"\x88\xa8"):
            return GuardDrop.GUARD_UNDETERMINED
        return None
    if kind == 0x0806:
        return _arp_judged(reader, source, its)
    if kind == 0x0800:
        return _ipv4_judged(reader, its)
    if kind == 0x86DD:
        return _ipv6_judged(reader, its)
    return None


def _arp_judged(reader, source, its):
    if not its.arp and not its.source:
        return None
    bad = GuardDrop.ARP_CHECK if its.arp else GuardDrop.SOURCE_GUARD
    try:
        fixed = reader.take(6)
        reader.take(2)
        mac, sender = reader.take(6), ipaddress.ip_address(reader.take(4))
        reader.take(10)
    except Cut:
        return bad
    if fixed != b"\0\x01\x08\0\x06\x04":
        return bad
    others = its.owners.get(sender.packed, 1) != 1
    if its.arp and (mac != source or others):
        return GuardDrop.ARP_CHECK
    if its.source and not sender.is_unspecified and not _ipv4_allowed(sender, its):
        return GuardDrop.SOURCE_GUARD
    return None


def _ipv4_allowed(address, its):
    if address.packed in its.addresses.hosts or address.is_link_local:
        return True
    return its.owners.get(address.packed, 1) == 1 and _permits(its.addresses, address)


def _ipv4_judged(reader, its):
    if not its.source and not its.dhcp:
        return None
    try:
        head = reader.take(20)
    except Cut:
        return GuardDrop.GUARD_UNDETERMINED
    words = head[0] & 15
    if head[0] >> 4 != 4 or words < 5:
        return GuardDrop.GUARD_UNDETERMINED
    first = int.from_bytes(head[6:8], "big") & 0x1FFF == 0
    ports = reader.data[words * 4 - 20 :][:4]
    is_udp = first and head[9] == 17
    address = ipaddress.ip_address(head[12:16])
    if its.source and address.is_unspecified:
        asks = is_udp and ports == struct.pack(">HH", 68, 67)
        if not asks and not (first and head[9] == 2):
            return GuardDrop.SOURCE_GUARD
    elif its.source and not _ipv4_allowed(address, its) and not _behind(address, its):
        return GuardDrop.SOURCE_GUARD
    if its.dhcp and is_udp and (len(ports) < 2 or ports[:2] == struct.pack(">H", 67)):
        return GuardDrop.DHCP_GUARD
    return None


def _ipv6_judged(reader, its):
    try:
        head = reader.take(24)
        address = ipaddress.ip_address(head[8:])
    except Cut:
        if its.source:
            return GuardDrop.GUARD_UNDETERMINED
        head = address = None
    if its.source and not address.is_link_local and not address.is_unspecified:
        others = its.owners.get(address.packed, 1) != 1
        if (others or not _permits(its.addresses, address)) and not _behind(address, its):
            return GuardDrop.SOURCE_GUARD
    if not its.ra and not its.dhcp:
        return None
    undetermined = GuardDrop.RA_GUARD if its.ra else GuardDrop.DHCP_GUARD
    try:
        if head is None:
            raise Cut
        reader.take(16)
        if head[0] >> 4 != 6:
            raise Cut
        following = head[6]
        headers = 0
        while following in (0, 43, 44, 51, 60, 135, 139, 140):
            headers += 1
            if headers == 9:
                raise Cut
            start = reader.take(8)
            if following == 44:
                if int.from_bytes(start[2:4], "big") >> 3:
                    return None  # a later fragment
            elif following == 51:
                reader.take((start[1] + 2) * 4 - 8)
            else:
                reader.take(start[1] * 8)
            following = start[0]
        if following >= 146:
            raise Cut
    except Cut:
        return undetermined
    if following == 58 and its.ra and reader.data[:1] in (b"", b"\x86", b"\x89"):
        return GuardDrop.RA_GUARD
    if (
        following == 17
        and its.dhcp
        and (len(reader.data) < 2 or reader.data[:2] == struct.pack(">H", 547))
    ):
        return GuardDrop.DHCP_GUARD
    return None


def seeded(seed):
    return random.Random(seed)


__all__ = ["frame", "judged", "record", "rules", "seeded"]
