"""A capture of what must not be on a wire, or is waited for. Runs inside the underlay host.

It listens at the end of a host's veth pair that hangs in the bridge: what the host sends arrives
there before any receiver has joined it, and what it gets is seen there after the sender's kernel
has cut it. A packet filter in the kernel lets only the frames in question through, so that the
capture misses none and costs next to nothing.
"""

from __future__ import annotations

import ctypes
import socket
import struct

import attrs

__all__ = ["Program", "Wire", "begin", "end", "longer_than", "seen", "udp_that_begins"]

ETH_P_ALL = 0x0003  # linux/if_ether.h
SO_ATTACH_FILTER = 26  # asm-generic/socket.h
SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/socket.h, linux/if_packet.h
# linux/bpf_common.h
BPF_LD_LEN, BPF_LD_HALF, BPF_LD_BYTE = 0x80, 0x28, 0x30
BPF_JEQ, BPF_JGT, BPF_RET = 0x15, 0x25, 0x06
WHOLE = 0x40000  # bytes kept of a frame: all, or the kernel would tell the length of the cut

Program = tuple[tuple[int, int, int, int], ...]  # code, jump if true, jump if false, operand
_captures: dict[str, socket.socket] = {}


@attrs.frozen
class Wire:
    """What passed the filter."""

    oversize: int  # frames
    longest: int  # bytes, of those that were kept; 0 if there were none


def longer_than(limit: int) -> Program:
    """Frames of more than `limit` bytes."""
    return ((BPF_LD_LEN, 0, 0, 0), (BPF_JGT, 0, 1, limit), *_TAKE_OR_NOT)


def udp_that_begins(byte: int) -> Program:
    """UDP over IPv4 without options, with that first byte of payload."""
    return (
        (BPF_LD_HALF, 0, 0, 12),
        (BPF_JEQ, 0, 5, 0x0800),
        (BPF_LD_BYTE, 0, 0, 23),
        (BPF_JEQ, 0, 3, 17),
        (BPF_LD_BYTE, 0, 0, 42),
        (BPF_JEQ, 0, 1, byte),
        *_TAKE_OR_NOT,
    )


_TAKE_OR_NOT: Program = ((BPF_RET, 0, 0, WHOLE), (BPF_RET, 0, 0, 0))


def begin(ifname: str, program: Program) -> None:
    """Start to look for such frames, in both directions."""
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


def seen(ifname: str) -> int:
    """How many there were since this was asked last, or since it began."""
    frames = 0
    try:
        while _captures[ifname].recv_into(bytearray(1), 1):
            frames += 1
    except BlockingIOError:
        return frames
    return frames


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
