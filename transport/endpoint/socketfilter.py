"""A filter in the kernel that lets in a share of the inits, chosen at random (SO_ATTACH_FILTER).

Classic BPF on a UDP socket sees the datagram from its UDP header on, before it is queued: what it
refuses costs no wake-up, no copy, and no room in the receive buffer, where members' datagrams wait.
The program looks at the first byte of the payload, for an init of either form and for a slice of
one at the last word of mac2, which is zero without a proof of address, and compares a random number
of the kernel's (SKF_AD_RANDOM) with the share. Everything else passes.

What the kernel has joined (UDP_GRO) is looked at as one, by its end: several inits of one sender,
who may be honest, have one fate. The share of all that arrive stays what it is.

Sources: linux/filter.h, linux/bpf_common.h. Errors: OSError as the kernel gave it.
"""

from __future__ import annotations

import ctypes
import socket
from struct import Struct
from typing import Final

from transport.constants import HYBRID_INIT_SIZE, INIT_SIZE
from transport.handshake.floodgate import Shares
from transport.wire.datagrams import INIT, INIT_SLICE

# asm-generic/socket.h; Python does not name them.
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27

_LOAD_BYTE, _LOAD_WORD = 0x30, 0x20  # BPF_LD | BPF_ABS | BPF_B, BPF_W
_LOAD_LENGTH = 0x80  # BPF_LD | BPF_W | BPF_LEN
_LOAD_AT_X = 0x40  # BPF_LD | BPF_W | BPF_IND
_TO_X, _FROM_X = 0x07, 0x87  # BPF_MISC | BPF_TAX, BPF_TXA
_SUBTRACT, _REST = 0x14, 0x94  # BPF_ALU | BPF_K | BPF_SUB, BPF_MOD
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35  # BPF_JMP | BPF_K | BPF_JEQ, BPF_JGE
_RETURN = 0x06
_RANDOM = 0xFFFFF038  # SKF_AD_OFF + SKF_AD_RANDOM
_ALL = 0xFFFFFFFF

_UDP_HEADER: Final = 8
_INSTRUCTION: Final = Struct("=HBBI")  # struct sock_filter
_PROGRAM: Final = Struct("@HP")  # struct sock_fprog


def program(shares: Shares) -> bytes:
    """The instructions, 8 bytes each."""
    bare, proven = (min(int(share * 2**32), _ALL) for share in shares)
    instructions = [
        (_LOAD_BYTE, 0, 0, _UDP_HEADER),
        (_IF_EQUAL, 9, 0, INIT_SLICE),  # to its end: a slice has no size of its own
        (_IF_EQUAL, 0, 17, INIT),  # else: accept
        (_LOAD_LENGTH, 0, 0, 0),
        (_SUBTRACT, 0, 0, _UDP_HEADER),
        (_TO_X, 0, 0, 0),
        (_REST, 0, 0, INIT_SIZE),
        (_IF_EQUAL, 3, 0, 0),
        (_FROM_X, 0, 0, 0),
        (_REST, 0, 0, HYBRID_INIT_SIZE),
        (_IF_EQUAL, 0, 10, 0),  # else: refuse, it is no init of ours
        (_LOAD_LENGTH, 0, 0, 0),
        (_SUBTRACT, 0, 0, 4),
        (_TO_X, 0, 0, 0),
        (_LOAD_AT_X, 0, 0, 0),  # the last word of mac2
        (_IF_EQUAL, 0, 2, 0),  # else: has a proof
        (_LOAD_WORD, 0, 0, _RANDOM),
        (_IF_AT_LEAST, 3, 2, bare),
        (_LOAD_WORD, 0, 0, _RANDOM),
        (_IF_AT_LEAST, 1, 0, proven),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, 0),
    ]
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)


def apply(sock: socket.socket, shares: Shares) -> None:
    """Let so many in from now on; with shares of 1, all and without a filter."""
    if min(shares) >= 1.0:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return
    code = ctypes.create_string_buffer(program(shares))
    count = (len(code) - 1) // _INSTRUCTION.size
    prog = _PROGRAM.pack(count, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, prog)
