"""A capture that proves how long the frames on the wire to S are. Runs inside the underlay host.

It listens at the end of S's veth pair that hangs in the bridge: what S sends arrives there before
any receiver has joined it, and what S gets is seen there after the sender's kernel has cut it. A
packet filter in the kernel lets only frames longer than the limit through, so that the capture
misses none and costs next to nothing.
"""

from __future__ import annotations

import ctypes
import socket
import struct

import attrs

__all__ = ["Wire", "begin", "end"]

ETH_P_ALL = 0x0003  # linux/if_ether.h
SO_ATTACH_FILTER = 26  # asm-generic/socket.h
SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/socket.h, linux/if_packet.h
BPF_LD_LEN, BPF_JGT, BPF_RET = 0x80, 0x25, 0x06  # linux/bpf_common.h
SNAP = 64  # bytes kept of a frame: its length is told apart from them

_captures: dict[str, socket.socket] = {}


@attrs.frozen
class Wire:
    """What passed the filter."""

    oversize: int  # frames
    longest: int  # bytes, of those that were kept; 0 if there were none


def begin(ifname: str, limit: int) -> None:
    """Start to look for frames longer than `limit` bytes, in both directions."""
    program = (
        (BPF_LD_LEN, 0, 0, 0),
        (BPF_JGT, 0, 1, limit),
        (BPF_RET, 0, 0, SNAP),
        (BPF_RET, 0, 0, 0),
    )
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    capture.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        struct.pack("HP", len(program), ctypes.addressof(buffer)),
    )
    capture.bind((ifname, ETH_P_ALL))  # not before: the filter is there from the first frame on
    capture.setblocking(False)
    _captures[ifname] = capture


def end(ifname: str) -> Wire:
    """Stop, and say what was seen. Raises `KeyError` if nothing was begun."""
    capture = _captures.pop(ifname)
    with capture:
        longest = 0
        while True:
            try:
                length = capture.recv_into(bytearray(1), 1, socket.MSG_TRUNC)
            except BlockingIOError:
                break
            longest = max(longest, length)
        passed, _ = struct.unpack("II", capture.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return Wire(passed, longest)
