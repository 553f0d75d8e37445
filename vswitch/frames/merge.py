"""The merger: from datagrams that a host has sent one by one to a superframe, as UDP GRO does.

The inverse of the cutter. A program that sends many datagrams makes as many frames; merged they
are one record, one forwarding decision and one write on the whole of their way. Only neighbours in
a batch are merged, so no frame overtakes another and none waits for another.

Frames are merged that differ in nothing but UDP payload, IPv4 id and IPv4 header checksum:

 - untagged UDP over IPv4 without options or IPv6, the sum of the pseudo header in place of the
   checksum: none that goes without a checksum, and none from a wire, where it can take damage;
 - IPv4 with "don't fragment": its id means nothing then (RFC 6864), and cutting numbers anew;
 - payloads of one length, at least `MIN_GSO_SIZE`; a shorter one, not empty, is the last;
 - at most `MAX_SEGMENTS` frames, and the bytes that the caller allows.

Cutting what was merged gives the same frames, but for the IPv4 id and the checksum over it, and
`check_superframe_untrusted` accepts it unchanged. The header checksum of IPv4 is not verified: the
host has only just made it. Pure; nothing is raised for whatever the records say.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vswitch.frames.checksum import word_sum
from vswitch.frames.records import HEADER_SIZE, SUPERFRAME, is_superframe
from vswitch.frames.superframes import MIN_GSO_SIZE, is_usual_untrusted
from vswitch.frames.virtio import (
    FRAME_AT,
    GSO_NONE,
    GSO_UDP_L4,
    MAX_SEGMENTS,
    NEEDS_CSUM,
    UDP,
    UDP_CSUM_OFFSET,
    VIRTIO_HEADER,
)

_DONT_FRAGMENT = b"\x40\x00"  # the IPv4 word behind the id: no fragment, nor to become one
_WORDS = struct.Struct(">HH")


class _Layout(NamedTuple):
    """Where things are in the record of a datagram."""

    version: int  # of IP
    same: tuple[slice, slice, slice]  # all headers, but for what may differ
    flow: tuple[slice, slice, slice]  # the same without lengths and UDP checksum
    addresses: slice
    ports: slice
    transport: int
    payload: int


# Numbers are offsets in the record: 4 virtio-net header, 14 Ethernet, 28 IP.
_IPV4 = _Layout(
    version=4,
    same=(slice(0, 32), slice(34, 38), slice(40, 56)),  # without the id and the header checksum
    flow=(slice(4, 30), slice(34, 38), slice(40, 52)),
    addresses=slice(40, 48),
    ports=slice(48, 52),
    transport=48,
    payload=56,
)
_IPV6 = _Layout(
    version=6,
    same=(slice(0, 32), slice(32, 38), slice(38, 76)),
    flow=(slice(4, 32), slice(34, 38), slice(38, 72)),
    addresses=slice(36, 68),
    ports=slice(68, 72),
    transport=68,
    payload=76,
)
# From Ethernet to UDP: what stays when datagrams are merged, and between it lengths and checksums.
_IPV4_HEADERS = struct.Struct(">16sH6sH12sHH")
_IPV6_HEADERS = struct.Struct(">18sH38sHH")


def _virtio(layout: _Layout, gso_type: int, size: int, gso_size: int) -> bytes:
    start = layout.transport - FRAME_AT
    return VIRTIO_HEADER.pack(NEEDS_CSUM, gso_type, size, gso_size, start, UDP_CSUM_OFFSET)


_LAYOUTS = {_virtio(layout, GSO_NONE, 0, 0): layout for layout in (_IPV4, _IPV6)}
MERGEABLE = frozenset(_LAYOUTS)  # virtio-net headers; with fewer than two, a batch is what it is


def merge_datagrams(records: list[bytes], mtu: int, max_frame: int) -> list[bytes]:
    """The batch with each of its runs of datagrams as superframes of at most `max_frame` bytes.

    `mtu` is that of the interface which the records come from. Both are in bytes; `max_frame`
    counts the Ethernet header too, and is to be larger than one frame of the MTU.
    """
    # HOT PATH: 0.3 µs a frame of 64 bytes that is merged, 0.15 µs one that is not.
    merged: list[bytes] = []
    count = len(records)
    start = 0
    while start < count:
        first = records[start]
        end = start + 1
        # Addresses and ports of IPv4: most frames without a like neighbour get no further.
        if end < count and first[40:52] == records[end][40:52]:
            layout = _LAYOUTS.get(first[4:14])
            if layout is not None and first[layout.ports] == records[end][layout.ports]:
                end = _end_of_run(records, start, layout)
        if end - start == 1:
            merged.append(first)
        else:
            merged += _merge(records[start:end], mtu, max_frame)
        start = end
    return merged


def _end_of_run(records: list[bytes], start: int, layout: _Layout) -> int:
    """The index behind those that are like the one at `start`, and a shorter one that ends them."""
    # HOT PATH: these three comparisons, and a slice later, are what it takes to merge a frame.
    first = records[start]
    front, middle, rear = layout.same
    first_front, first_middle, first_rear = first[front], first[middle], first[rear]
    for end in range(start + 1, len(records)):
        record = records[end]
        if (
            record[rear] != first_rear
            or record[front] != first_front
            or record[middle] != first_middle
        ):
            return end + _is_shorter(record, first, layout)
    return len(records)


def _is_shorter(record: bytes, first: bytes, layout: _Layout) -> bool:
    """Whether it is of the same flow and has a shorter payload, but not none."""
    front, middle, rear = layout.flow
    return (
        layout.payload < len(record) < len(first)
        and record[rear] == first[rear]
        and record[front] == first[front]
        and record[middle] == first[middle]
    )


def _merge(run: list[bytes], mtu: int, max_frame: int) -> list[bytes]:
    """What becomes of a run: nothing else, where the headers contradict themselves."""
    first, last = run[0], run[-1]
    layout = _LAYOUTS[first[4:14]]
    size = len(first) - layout.payload
    if size < MIN_GSO_SIZE or not _is_sound(first, layout, mtu):
        return run
    if len(last) < len(first) and not _is_sound(last, layout, mtu):
        return [*_merge(run[:-1], mtu, max_frame), last]
    most = min((FRAME_AT + max_frame - layout.payload) // size, MAX_SEGMENTS)
    return [_superframe(run[at : at + most], layout) for at in range(0, len(run), most)]


def _is_sound(record: bytes, layout: _Layout, mtu: int) -> bool:
    """Whether the headers say of this datagram what cutting would make them say of it."""
    length = len(record) - layout.transport
    partial = (word_sum(record[layout.addresses]) + UDP + length) % 0xFFFF or 0xFFFF
    return (
        is_superframe(record)
        and is_usual_untrusted(record, mtu)
        and (layout.version == 6 or record[34:36] == _DONT_FRAGMENT)
        and _WORDS.unpack_from(record, layout.payload - 4) == (length, partial)
    )


def _superframe(run: list[bytes], layout: _Layout) -> bytes:
    """The one record of all; of one datagram, its own."""
    first = run[0]
    if len(run) == 1:
        return first
    payload = layout.payload
    size = len(first) - payload
    more = (len(run) - 2) * size + len(run[-1]) - payload  # bytes of payload behind those of first
    # The checksum of a header falls by what its length grows; the sum of a pseudo header rises.
    if layout.version == 4:
        before, total, middle, check, flow, length, partial = _IPV4_HEADERS.unpack_from(
            first, FRAME_AT
        )
        check = (check - more) % 0xFFFF
        partial = (partial + more) % 0xFFFF or 0xFFFF
        headers = _IPV4_HEADERS.pack(
            before, total + more, middle, check, flow, length + more, partial
        )
    else:
        before, total, flow, length, partial = _IPV6_HEADERS.unpack_from(first, FRAME_AT)
        partial = (partial + more) % 0xFFFF or 0xFFFF
        headers = _IPV6_HEADERS.pack(before, total + more, flow, length + more, partial)
    start = (
        _WORDS.pack(SUPERFRAME, len(first) + more - HEADER_SIZE),
        _virtio(layout, GSO_UDP_L4, payload - FRAME_AT, size),
        headers,
    )
    return b"".join([*start, *[record[payload:] for record in run]])
