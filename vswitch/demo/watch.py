"""Look at what passes an interface, as an eavesdropper would: is a pattern to be seen in it?

    python -m vswitch.demo.watch IFNAME PATTERN-IN-HEX

Says `watching`, looks until its standard input ends, then prints what it saw as JSON. It tells
the project's own datagrams from the rest by their first byte (docs/wire-format.md), which, with
the cipher suite in an init, is all that an eavesdropper can read of them.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from collections.abc import Iterator

import attrs

ETH_P_ALL = 3  # linux/if_ether.h
SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/if_packet.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
BUFFER = 32 << 20  # bytes: what comes while Python looks at what came before
IPV4, UDP = 0x0800, 17
INIT, SUITE_OFFSET = 1, 3  # type byte, and where an init names its suite
SUITES = {1: "ChaCha20-Poly1305", 2: "AES-256-GCM"}
SUITES |= {0x80 | number: f"{name} with ML-KEM-768" for number, name in SUITES.items()}


@attrs.define
class Sight:
    """What was seen on one interface."""

    frames: int = 0
    datagrams: int = 0  # UDP to or from the port of the switch
    clear: int = 0  # frames with the pattern in them
    missed: int = 0  # frames that came faster than they were looked at
    suites: list[str] = attrs.field(factory=list)  # named by the handshakes that were seen


def look(frame: bytes, pattern: bytes, port: int, sight: Sight) -> None:
    """Add one Ethernet frame to what was seen."""
    sight.frames += 1
    sight.clear += pattern in frame
    payload = _udp_payload(frame, port)
    if payload is None:
        return
    sight.datagrams += 1
    if payload[:1] == bytes([INIT]) and len(payload) > SUITE_OFFSET:
        suite = SUITES.get(payload[SUITE_OFFSET], f"suite {payload[SUITE_OFFSET]}")
        if suite not in sight.suites:
            sight.suites.append(suite)


def _udp_payload(frame: bytes, port: int) -> bytes | None:
    if len(frame) < 42 or int.from_bytes(frame[12:14], "big") != IPV4 or frame[23] != UDP:
        return None
    start = 14 + (frame[14] & 0x0F) * 4
    source, target = struct.unpack_from(">HH", frame, start)
    return frame[start + 8 :] if port in (source, target) else None


def _frames(sock: socket.socket) -> Iterator[bytes]:
    """What waits in the socket, a thousand at most, so that the end is noticed in any flood."""
    for _ in range(1000):
        try:
            yield sock.recv(65_600, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return


def main(ifname: str, pattern: bytes, port: int) -> None:
    sight = Sight()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        except PermissionError:  # root of a user namespace may not: less is looked at
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind((ifname, ETH_P_ALL))
        print("watching", flush=True)
        ended = False
        while not ended:
            readable, _, _ = select.select([sock, sys.stdin], [], [])
            ended = sys.stdin in readable
            for frame in _frames(sock):
                look(frame, pattern, port, sight)
        statistics = sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        sight.missed = struct.unpack("II", statistics)[1]
    print(json.dumps(attrs.asdict(sight)))


if __name__ == "__main__":
    main(sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3]))
