"""Whether a superframe from a peer may go to a kernel, or be cut: its header against its frame.

A kernel believes most of what a virtio-net header says. Unchecked, a peer could have it rewrite
bytes of a payload, send frames with wrong checksums or above the MTU, or make a thousand frames
of one. So everything that the header says must follow from the frame itself, read here anew:

 - flags 0 or 1, gso_type 0, 1, 4 or 5; the ECN bit with TCP only; to be cut implies a checksum
   that is to be completed (virtio 1.2, 5.1.6.2);
 - behind up to two VLAN tags IPv4 or IPv6, no fragment, with TCP or UDP as its direct payload; the
   length of IP is that of the frame, of UDP too when it is cut;
 - csum_start and csum_offset are where the checksum is;
 - one segment, with its IP and transport headers, fits the MTU; 128 segments at most;
 - gso_size is at least 64: a frame costs the peer as many bytes as when it sends the smallest
   frames one by one (60 and a record header), so that a header multiplies no attack.

A payload that fits one segment is a frame that is not cut. Pure; only `BadRecord` is raised. What
the rules refuse of a kernel's own superframes, the TAP device puts right itself.
"""

from __future__ import annotations

from typing import NamedTuple

from vswitch.errors import BadRecord
from vswitch.frames.ethernet import ETHERNET_HEADER_SIZE
from vswitch.frames.headers import (
    ETHERTYPE_AT,
    IPV4_SIZE,
    IPV4_TYPE,
    IPV6_SIZE,
    IPV6_TYPE,
    TCP_SIZE,
    UDP_SIZE,
    behind_tags,
)
from vswitch.frames.records import HEADER_SIZE
from vswitch.frames.virtio import (
    FRAME_AT,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    MAX_SEGMENTS,
    NEEDS_CSUM,
    NO_OFFLOAD,
    TCP,
    TCP_CSUM_OFFSET,
    UDP,
    UDP_CSUM_OFFSET,
    VIRTIO_HEADER,
)

MIN_GSO_SIZE = 64  # bytes; see above

_NETWORK_AT = FRAME_AT + ETHERNET_HEADER_SIZE  # bytes of the record before IP in an untagged frame
_FRAGMENT = 0x3FFF  # of the IPv4 word behind the id: more fragments, and the offset
_MAX_IP_SIZE = 0xFFFF
_GSO_OF = {(4, TCP): GSO_TCPV4, (6, TCP): GSO_TCPV6, (4, UDP): GSO_UDP_L4, (6, UDP): GSO_UDP_L4}


def _usual(ip_size: int, offset: int) -> bytes:
    return VIRTIO_HEADER.pack(NEEDS_CSUM, GSO_NONE, 0, 0, 14 + ip_size, offset)


# The headers of nearly every frame that is not to be cut: TCP or UDP behind plain IP, untagged.
# To each the version and protocol that it claims, and the smallest record.
_USUAL = {
    _usual(IPV4_SIZE, TCP_CSUM_OFFSET): (4, TCP, _NETWORK_AT + IPV4_SIZE + TCP_SIZE),
    _usual(IPV4_SIZE, UDP_CSUM_OFFSET): (4, UDP, _NETWORK_AT + IPV4_SIZE + UDP_SIZE),
    _usual(IPV6_SIZE, TCP_CSUM_OFFSET): (6, TCP, _NETWORK_AT + IPV6_SIZE + TCP_SIZE),
    _usual(IPV6_SIZE, UDP_CSUM_OFFSET): (6, UDP, _NETWORK_AT + IPV6_SIZE + UDP_SIZE),
}
USUAL_HEADERS = frozenset(_USUAL)
_usual_claim = _USUAL.get


class Layout(NamedTuple):
    """What a superframe is and where its parts begin, in bytes of the record."""

    flags: int  # NEEDS_CSUM or 0
    gso_type: int  # with the ECN bit; GSO_NONE also where one segment holds all
    gso_size: int  # bytes of payload a segment; 0 for GSO_NONE
    network: int  # the IP header; meaningless without NEEDS_CSUM, as are the next two
    transport: int  # the TCP or UDP header
    payload: int
    csum_offset: int  # bytes from `transport` to the checksum; 0 without NEEDS_CSUM

    def header(self) -> bytes:
        """The one virtio-net header that describes this superframe."""
        if not self.flags:
            return NO_OFFLOAD
        size = self.payload - FRAME_AT if self.gso_size else 0
        start = self.transport - FRAME_AT
        return VIRTIO_HEADER.pack(
            self.flags, self.gso_type, size, self.gso_size, start, self.csum_offset
        )


def check_superframe_untrusted(record: bytes, mtu: int) -> bytes | None:
    """Judge a superframe record for a kernel whose interface has this MTU, in bytes.

    None: give `record[4:]` to the kernel as it is. Else the 10 bytes to give it in place of
    `record[4:14]`. `BadRecord` when it is not fit.
    """
    # HOT PATH
    if is_usual_untrusted(record, mtu):
        return None
    header = inspect_untrusted(record, mtu).header()
    return None if header == record[HEADER_SIZE:FRAME_AT] else header


def is_usual_untrusted(record: bytes, mtu: int) -> bool:
    """Whether this is fit, and as plain as nearly all that are not to be cut; a quick first look.

    Untagged, TCP or UDP, over IPv4 without options or IPv6, the checksum to be completed.
    """
    # HOT PATH: 0.4 µs. Numbers are offsets in the record: 26 EtherType, 28 IP.
    claim = _usual_claim(record[4:14])
    if claim is None:
        return False
    version, protocol, smallest = claim
    size = len(record)
    if not smallest <= size <= mtu + 28:
        return False
    if version == 4:
        return (
            record[26:29] == b"\x08\x00\x45"
            and record[37] == protocol
            and (record[30] << 8 | record[31]) == size - 28
            and not record[34] & 0x3F
            and not record[35]
            and (protocol == UDP or 20 <= record[60] >> 2 & 0x3C <= size - 48)
        )
    return (
        record[26:28] == b"\x86\xdd"
        and record[28] >> 4 == 6
        and record[34] == protocol
        and (record[32] << 8 | record[33]) == size - 68
        and (protocol == UDP or 20 <= record[80] >> 2 & 0x3C <= size - 68)
    )


def inspect_untrusted(record: bytes, mtu: int, *, min_gso_size: int = MIN_GSO_SIZE) -> Layout:
    """What a superframe record is, by every rule above; `BadRecord` when it breaks one."""
    if len(record) < _NETWORK_AT:
        raise BadRecord(f"a superframe of {len(record)} bytes")
    flags, gso_type, _, gso_size, start, offset = VIRTIO_HEADER.unpack_from(record, HEADER_SIZE)
    network = behind_tags(record, FRAME_AT + ETHERTYPE_AT) + 2
    size = len(record) - network  # bytes behind the Ethernet header and its tags
    if flags not in (0, NEEDS_CSUM):
        raise BadRecord(f"virtio-net flags {flags:#x}")
    if gso_type == GSO_NONE:
        if size > mtu or size < 0:
            raise BadRecord(f"a frame with {size} bytes of payload on an MTU of {mtu}")
        if not flags:
            return Layout(0, GSO_NONE, 0, network, network, network, 0)
    elif not flags:
        raise BadRecord("to be cut, but its checksum is not to be completed")
    version, protocol, transport = _ip_untrusted(record, network, size)
    if start != transport - FRAME_AT:
        raise BadRecord(f"csum_start is {start}, not {transport - FRAME_AT}")
    payload, expected = _transport_untrusted(record, transport, protocol)
    if offset != expected:
        raise BadRecord(f"csum_offset is {offset}, not {expected}")
    if gso_type == GSO_NONE:
        return Layout(flags, GSO_NONE, 0, network, transport, payload, offset)
    without_ecn = gso_type & ~GSO_ECN if protocol == TCP else gso_type
    if without_ecn != _GSO_OF[version, protocol]:
        raise BadRecord(f"gso_type {gso_type:#x} for IPv{version} protocol {protocol}")
    if gso_size < min_gso_size:
        raise BadRecord(f"gso_size {gso_size}, at least {min_gso_size}")
    if payload - network + gso_size > mtu:
        raise BadRecord(f"gso_size {gso_size} does not fit an MTU of {mtu}")
    if protocol == UDP and len(record) - transport != _word(record, transport + 4):
        raise BadRecord("the length of UDP is not that of the frame")
    data = len(record) - payload
    if data > gso_size * MAX_SEGMENTS:
        raise BadRecord(f"more than {MAX_SEGMENTS} segments")
    if data <= gso_size:
        return Layout(flags, GSO_NONE, 0, network, transport, payload, offset)
    return Layout(flags, gso_type, gso_size, network, transport, payload, offset)


def _word(record: bytes, at: int) -> int:
    return record[at] << 8 | record[at + 1]


def _ip_untrusted(record: bytes, at: int, size: int) -> tuple[int, int, int]:
    """IP version, protocol, and where that begins, of the `size` bytes from `at`."""
    ethertype = record[at - 2 : at]
    if ethertype == IPV4_TYPE and size >= IPV4_SIZE and record[at] >> 4 == 4:
        version, protocol, length = 4, record[at + 9], _word(record, at + 2)
        header = (record[at] & 0x0F) * 4
        if header < IPV4_SIZE or _word(record, at + 6) & _FRAGMENT:
            raise BadRecord("an IPv4 fragment, or a header that is too short")
    elif ethertype == IPV6_TYPE and size >= IPV6_SIZE and record[at] >> 4 == 6:
        version, protocol, header = 6, record[at + 6], IPV6_SIZE
        length = _word(record, at + 4) + IPV6_SIZE
    else:
        raise BadRecord("neither IPv4 nor IPv6")
    if length != size or size > _MAX_IP_SIZE + (version == 6) * IPV6_SIZE:
        raise BadRecord(f"IP says {length} bytes, the frame has {size}")
    if protocol not in (TCP, UDP):
        raise BadRecord(f"IP protocol {protocol}")
    return version, protocol, at + header


def _transport_untrusted(record: bytes, at: int, protocol: int) -> tuple[int, int]:
    """Where the payload of TCP or UDP begins, and how far from `at` the checksum is."""
    room = len(record) - at
    if protocol == UDP:
        if room < UDP_SIZE:
            raise BadRecord("ends inside its UDP header")
        return at + UDP_SIZE, UDP_CSUM_OFFSET
    size = record[at + 12] >> 2 & 0x3C if room >= TCP_SIZE else 0
    if not TCP_SIZE <= size <= room:
        raise BadRecord("ends inside its TCP header")
    return at + size, TCP_CSUM_OFFSET
