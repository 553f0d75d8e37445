"""Superframes as a Linux host hands them to its TAP interface, for tests.

Every length agrees and the checksum holds the sum of the pseudo header, as the sender's kernel
leaves it. What is wrong in a test, the test makes wrong.
"""

from __future__ import annotations

import ipaddress
import random
import struct

import attrs

from vswitch.frames.checksum import word_sum
from vswitch.frames.records import SUPERFRAME, encode_record
from vswitch.frames.virtio import (
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    TCP,
    TCP_CSUM_OFFSET,
    UDP,
    UDP_CSUM_OFFSET,
    VIRTIO_HEADER,
)


@attrs.frozen
class Flow:
    """The headers of a superframe; what they say about lengths follows from its payload."""

    version: int = 4  # of IP
    protocol: int = TCP
    tags: tuple[int, ...] = ()  # VLAN ids, outermost first
    source: bytes = bytes.fromhex("02005e005301")
    destination: bytes = bytes.fromhex("02005e005302")
    addresses: bytes = b""  # both, packed; empty: of the networks for documentation
    ports: tuple[int, int] = (40000, 5201)
    ident: int = 0x1234  # of IPv4
    ip_options: bytes = b""  # IPv4, a multiple of 4
    sequence: int = 1000
    flags: int = 0x18  # TCP, with PSH and ACK
    tcp_options: bytes = bytes.fromhex("0101080a0102030405060708")  # timestamps

    @property
    def overhead(self) -> int:
        """Bytes of IP and transport headers: the MTU less this is the largest gso_size."""
        network = 20 + len(self.ip_options) if self.version == 4 else 40
        return network + (20 + len(self.tcp_options) if self.protocol == TCP else 8)


def superframe(flow: Flow, payload: bytes, gso_size: int = 0, *, ecn: bool = False) -> bytes:
    """The superframe record; with a `gso_size` of 0, a frame that only lacks its checksum."""
    addresses = flow.addresses or _addresses(flow.version)
    if flow.protocol == TCP:
        size = 20 + len(flow.tcp_options)
        transport = struct.pack(
            ">HHIIBBHHH", *flow.ports, flow.sequence, 7, size << 2, flow.flags, 501, 0, 0
        )
        transport += flow.tcp_options
        at = TCP_CSUM_OFFSET
    else:
        transport = struct.pack(">HHHH", *flow.ports, 8 + len(payload), 0)
        at = UDP_CSUM_OFFSET
    length = len(transport) + len(payload)
    partial = (word_sum(addresses) + flow.protocol + length) % 0xFFFF or 0xFFFF
    transport = transport[:at] + partial.to_bytes(2, "big") + transport[at + 2 :]
    if flow.version == 4:
        network = _ipv4(flow, addresses, length)
        ethertype, gso = b"\x08\x00", GSO_TCPV4
    else:
        network = struct.pack(">IHBB", 6 << 28 | 0x12345, length, flow.protocol, 64) + addresses
        ethertype, gso = b"\x86\xdd", GSO_TCPV6
    tags = b"".join(
        (b"\x81\x00" if number == len(flow.tags) - 1 else b"\x88\xa8") + tag.to_bytes(2, "big")
        for number, tag in enumerate(flow.tags)
    )
    ethernet = flow.destination + flow.source + tags + ethertype
    start = len(ethernet) + len(network)
    if gso_size:
        kind = (GSO_UDP_L4 if flow.protocol == UDP else gso) | 0x80 * ecn
        header = (NEEDS_CSUM, kind, start + len(transport), gso_size, start, at)
    else:
        header = (NEEDS_CSUM, GSO_NONE, 0, 0, start, at)
    body = VIRTIO_HEADER.pack(*header) + ethernet + network + transport + payload
    return encode_record(SUPERFRAME, body)


def random_flow(rng: random.Random) -> Flow:
    """Any flow that a host may have: tags, options, numbers that wrap."""
    version = rng.choice((4, 6))
    protocol = rng.choice((TCP, UDP))
    return Flow(
        version=version,
        protocol=protocol,
        tags=tuple(rng.randrange(1, 4095) for _ in range(rng.choice((0, 0, 0, 1, 2)))),
        addresses=rng.randbytes(8 if version == 4 else 32) if rng.random() < 0.8 else b"",
        ports=(rng.randrange(1, 65536), rng.randrange(1, 65536)),
        ident=rng.choice((0, 0xFFFE, rng.randrange(65536))),
        ip_options=b"\x01" * (4 * rng.randrange(1, 11)) if rng.random() < 0.1 else b"",
        sequence=rng.choice((0, 0xFFFFFFF0, rng.randrange(1 << 32))),
        flags=rng.choice((0x10, 0x18, 0x19, 0x90, 0x99, 0xD1, rng.randrange(256))),
        tcp_options=b"\x01" * (4 * rng.randrange(11)),
    )


def _addresses(version: int) -> bytes:
    texts = ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
    return b"".join(ipaddress.ip_address(text).packed for text in texts)


def _ipv4(flow: Flow, addresses: bytes, length: int) -> bytes:
    size = 20 + len(flow.ip_options)
    header = struct.pack(
        ">BBHHHBBH", 0x40 | size >> 2, 0, size + length, flow.ident, 0x4000, 64, flow.protocol, 0
    )
    header += addresses + flow.ip_options
    return header[:10] + (-word_sum(header) % 0xFFFF).to_bytes(2, "big") + header[12:]
