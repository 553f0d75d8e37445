"""The virtio-net header of a superframe: what the sender's kernel left undone.

`struct virtio_net_hdr` of linux/virtio_net.h, 10 bytes, little-endian (`TUNSETVNETLE`):

| bytes | field       | meaning                                                           |
|-------|-------------|-------------------------------------------------------------------|
| 0     | flags       | 1: the checksum is still to be completed                          |
| 1     | gso_type    | how to cut the frame, 0: not at all                               |
| 2–3   | hdr_len     | bytes in front of the payload; a hint                             |
| 4–5   | gso_size    | bytes of payload in each segment                                  |
| 6–7   | csum_start  | bytes from the start of the Ethernet header to TCP or UDP         |
| 8–9   | csum_offset | bytes from there to the checksum, which holds that of the pseudo header |

Pure. `vswitch.frames.superframes` says which headers may go to a kernel.
"""

from __future__ import annotations

import struct

from vswitch.frames.records import HEADER_SIZE, SUPERFRAME, VIRTIO_HEADER_SIZE

# linux/virtio_net.h: VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_*
NEEDS_CSUM = 1
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5  # UDP cut into datagrams of their own, not into IP fragments
GSO_ECN = 0x80  # beside the TCP types: the first segment alone keeps CWR

TCP = 6  # IP protocol numbers
UDP = 17
TCP_CSUM_OFFSET = 16  # bytes into the TCP header (RFC 9293)
UDP_CSUM_OFFSET = 6  # bytes into the UDP header (RFC 768)

# Frames in one superframe: UDP_MAX_SEGMENTS of linux/udp.h, above which the kernel refuses UDP.
# TCP is bound by it too, so that no record costs a receiver more than 128 frames.
MAX_SEGMENTS = 128

VIRTIO_HEADER = struct.Struct("<BBHHHH")
NO_OFFLOAD = bytes(VIRTIO_HEADER_SIZE)  # a plain frame, its checksums complete
FRAME_AT = HEADER_SIZE + VIRTIO_HEADER_SIZE  # bytes of a superframe record before its frame

_SUPERFRAME_FLAG = SUPERFRAME & 0xFF


def stands_for(record: bytes) -> int:
    """How many frames on a wire this record counts as, for counters and limits: 1 to 128.

    Exact for every record that `check_superframe_untrusted` accepts; 1 for any other record, or a
    wrong number where a peer lies about a superframe that nobody will take.
    """
    # HOT PATH: for all but superframes to be cut, this is one comparison or two.
    if record[1] != _SUPERFRAME_FLAG or len(record) < FRAME_AT or not record[5]:
        return 1
    size: int
    start: int
    _, kind, _, size, start, offset = VIRTIO_HEADER.unpack_from(record, HEADER_SIZE)
    payload = FRAME_AT + start + 8
    if offset == TCP_CSUM_OFFSET and payload + 4 < len(record):
        payload += (record[payload + 4] >> 4) * 4 - 8
    if not size or kind & ~GSO_ECN == GSO_NONE:
        return 1
    return min(max(1, -(-(len(record) - payload) // size)), MAX_SEGMENTS)
