"""The cutter: from a superframe to the frames of a wire, for whoever takes no superframes.

What a network card with TSO and checksum offload would do, and Linux does in software
(`tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment`):

 - the payload in pieces of gso_size, behind a copy of all headers, VLAN tags included;
 - IP and UDP lengths of each piece; the IPv4 id counts up, the IPv4 header checksum is right;
 - the TCP sequence number moves on; FIN and PSH in the last segment only, CWR in the first only;
 - every checksum complete, whatever stood in its place.

A frame that is only short of its checksum gets it; a frame that lacks nothing changes its record
header. Pure. `BadRecord` for whatever `check_superframe_untrusted` refuses, and no other error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import cache

from vswitch.errors import BadRecord
from vswitch.frames.checksum import complete_checksum, word_sum, word_sums
from vswitch.frames.records import FRAME, frame_record, is_superframe
from vswitch.frames.superframes import MIN_GSO_SIZE, Layout, inspect_untrusted, is_usual_untrusted
from vswitch.frames.virtio import FRAME_AT, GSO_NONE, GSO_UDP_L4, TCP, UDP, stands_for

_RECORD_HEADER = struct.Struct(">HH")
_FIN_PSH = 0x09  # bits of the 14th byte of TCP
_CWR = 0x80


def without_superframes_untrusted(
    records: list[bytes], mtu: int, known: dict[int, list[bytes]] | None = None
) -> tuple[list[bytes], int]:
    """The batch with every superframe cut into frame records, and how many frames were refused.

    A superframe counts as what it stands for, so frames out and refused are the frames in. `known`
    has by id what became of a record: give the same to other batches with the same records in them.
    """
    known = {} if known is None else known
    refused = 0
    frames: list[bytes] = []
    for record in records:
        if not is_superframe(record):
            frames.append(record)
            continue
        pieces = known.get(id(record))
        if pieces is None:
            try:
                pieces = cut_untrusted(record, mtu)
            except BadRecord:
                pieces = []
            known[id(record)] = pieces
        frames += pieces
        if not pieces:
            refused += stands_for(record)
    return frames, refused


def cut_untrusted(record: bytes, mtu: int, *, min_gso_size: int = MIN_GSO_SIZE) -> list[bytes]:
    """The frame records that one superframe record stands for, in order."""
    if is_usual_untrusted(record, mtu):
        return [_completed(record, FRAME_AT + record[10], record[12])]
    layout = inspect_untrusted(record, mtu, min_gso_size=min_gso_size)
    if layout.gso_type != GSO_NONE:
        return _cut(record, layout)
    if not layout.flags:
        return [frame_record(record[FRAME_AT:])]
    return [_completed(record, layout.transport, layout.csum_offset)]


def _completed(record: bytes, transport: int, offset: int) -> bytes:
    """The frame record with its checksum completed from that of the pseudo header in its place."""
    at = transport + offset
    check = complete_checksum(record, transport, offset)
    header = _RECORD_HEADER.pack(FRAME, len(record) - FRAME_AT)
    return b"".join((header, record[FRAME_AT:at], check, record[at + 2 :]))


def _cut(record: bytes, layout: Layout) -> list[bytes]:
    # HOT PATH: 45 segments in 64 KiB, of which two thirds are the sums of the payload.
    size = layout.gso_size
    pieces = [record[at : at + size] for at in range(layout.payload, len(record), size)]
    before_payload = layout.payload - layout.transport
    # Bytes of each segment from its transport header on.
    lengths = [before_payload + size] * len(pieces)
    lengths[-1] = before_payload + len(pieces[-1])
    network, transport = layout.network, layout.transport
    if record[network] >> 4 == 4:
        addresses = word_sum(record[network + 12 : network + 20])
        heads: Iterable[bytes] = _ipv4_heads(record, network, transport, lengths)
    else:
        addresses = word_sum(record[network + 8 : network + 40])
        heads = _ipv6_heads(record, network, lengths)
    header = record[transport : layout.payload]
    if layout.gso_type == GSO_UDP_L4:
        return _udp_frames(heads, header, addresses, lengths, pieces)
    return _tcp_frames(heads, header, addresses, size, lengths, pieces)


@cache
def _ipv4_struct(before_id: int, addresses: int) -> struct.Struct:
    # Lengths: 2 to 4 values of the first, 11 of the second.
    return struct.Struct(f">HH{before_id}sHH4sH{addresses}s")


def _ipv4_heads(record: bytes, at: int, end: int, lengths: Sequence[int]) -> list[bytes]:
    """For each segment all that stands in front of TCP or UDP, with its record header."""
    ethernet = record[FRAME_AT : at + 2]  # and the first two bytes of IP
    middle = record[at + 6 : at + 10]  # fragment word, TTL, protocol
    addresses = record[at + 12 : end]  # and options
    pack = _ipv4_struct(len(ethernet), len(addresses)).pack
    around = end - FRAME_AT
    header = end - at
    first = record[at + 4] << 8 | record[at + 5]
    constant = word_sum(record[at : at + 2] + middle + addresses)
    heads: list[bytes] = []
    append = heads.append
    for number, length in enumerate(lengths, first):
        total = header + length
        ident = number & 0xFFFF
        check = -(constant + total + ident) % 0xFFFF
        append(pack(FRAME, around + length, ethernet, total, ident, middle, check, addresses))
    return heads


def _ipv6_heads(record: bytes, at: int, lengths: Sequence[int]) -> list[bytes]:
    around = at + 40 - FRAME_AT
    before, behind = record[FRAME_AT : at + 4], record[at + 6 : at + 40]

    def head(length: int) -> bytes:
        lengths_at = _RECORD_HEADER.pack(FRAME, around + length)
        return b"".join((lengths_at, before, length.to_bytes(2, "big"), behind))

    return [*[head(lengths[0])] * (len(lengths) - 1), head(lengths[-1])]


@cache
def _tcp_struct(behind: int) -> struct.Struct:
    return struct.Struct(f">4sI8sH{behind}s")


def _tcp_frames(
    heads: Iterable[bytes],
    header: bytes,
    addresses: int,
    size: int,
    lengths: Sequence[int],
    pieces: Sequence[bytes],
) -> list[bytes]:
    ports, behind = header[:4], header[18:]  # behind the checksum: urgent pointer and options
    first = int.from_bytes(header[4:8], "big")
    pack = _tcp_struct(len(behind)).pack
    constant = addresses + TCP + word_sum(ports + behind)
    flags = header[13]
    middle = header[8:13] + bytes((flags & ~(_FIN_PSH | _CWR),)) + header[14:16]
    windows = [middle] * len(pieces)  # acknowledgement, data offset, flags, window
    windows[0] = header[8:13] + bytes((flags & ~_FIN_PSH,)) + header[14:16]
    windows[-1] = header[8:13] + bytes((flags & ~_CWR,)) + header[14:16]
    constants = [constant + word_sum(middle) + lengths[0]] * len(pieces)
    constants[0] = constant + word_sum(windows[0]) + lengths[0]
    constants[-1] = constant + word_sum(windows[-1]) + lengths[-1]
    frames: list[bytes] = []
    append = frames.append
    sequence = first
    for head, window, fixed, total, piece in zip(
        heads, windows, constants, word_sums(pieces), pieces, strict=True
    ):
        # A sequence number is two words, so it counts as the number that it is.
        check = -(fixed + sequence + total) % 0xFFFF
        append(head + pack(ports, sequence, window, check, behind) + piece)
        sequence = sequence + size & 0xFFFFFFFF
    return frames


def _udp_frames(
    heads: Iterable[bytes],
    header: bytes,
    addresses: int,
    lengths: Sequence[int],
    pieces: Sequence[bytes],
) -> list[bytes]:
    ports = header[:4]
    pack = struct.Struct(">4sHH").pack
    constant = addresses + UDP + word_sum(ports)
    return [
        # The length counts twice: in the pseudo header and in UDP's own.
        head + pack(ports, length, -(constant + 2 * length + total) % 0xFFFF or 0xFFFF) + piece
        for head, length, total, piece in zip(
            heads, lengths, word_sums(pieces), pieces, strict=True
        )
    ]
