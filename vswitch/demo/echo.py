"""ICMP echo, version 4 and 6: the few lines of `ping` that the demo needs, run in a host.

Raw sockets; root of the host's namespaces is enough. Layouts: RFC 792, RFC 4443. The kernel of
the other host answers. Errors: `VswitchError` if there is no answer at all within the patience.
"""

from __future__ import annotations

import os
import socket
import struct
import time

import attrs

from vswitch.errors import VswitchError

ECHO = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
HEADER = struct.Struct(">BBHHH")  # type, code, checksum, identifier, sequence number
PATIENCE = 20  # seconds until the first answer: address resolution, duplicate address detection
TIMEOUT = 2  # seconds for each later answer
INTERVAL = 0.02  # seconds between an answer and the next question


@attrs.frozen
class Echoes:
    """What came of a row of echo requests."""

    address: str
    sent: int
    times: list[float]  # seconds from request to answer, one for each that was answered


def ping(
    address: str,
    *,
    version: int,
    payload: bytes,
    count: int,
    dev: str,
    patience: float = PATIENCE,
) -> Echoes:
    """Ask `address`, on the interface `dev`, until it answers once; then `count` times."""
    identifier = os.getpid() & 0xFFFF
    target = (address, 0) if version == 4 else (address, 0, 0, socket.if_nametoindex(dev))
    with _socket(version) as sock:

        def ask(sequence: int, wait: float) -> float | None:
            return _ask(sock, target, version, identifier, sequence, payload, wait)

        deadline = time.monotonic() + patience
        sequence = 0
        while ask(sequence, 1.0) is None:
            sequence += 1
            if time.monotonic() > deadline:
                raise VswitchError(f"{address} answered no echo request within {patience:g} s")
        times = []
        for _ in range(count):
            sequence += 1
            time.sleep(INTERVAL)
            answer = ask(sequence, TIMEOUT)
            if answer is not None:
                times.append(answer)
        return Echoes(address, count, times)


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def _socket(version: int) -> socket.socket:
    if version == 4:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    return socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)


def _ask(
    sock: socket.socket,
    target: tuple[str | int, ...],
    version: int,
    identifier: int,
    sequence: int,
    payload: bytes,
    wait: float,
) -> float | None:
    """Send one request: seconds until its answer, or None after `wait` seconds."""
    request = HEADER.pack(ECHO[version], 0, 0, identifier, sequence) + payload
    if version == 4:  # version 6 has a pseudo header, and the kernel fills the field in
        head = HEADER.pack(ECHO[version], 0, checksum(request), identifier, sequence)
        request = head + payload
    sent = time.monotonic()
    deadline = sent + wait
    try:
        sock.sendto(request, target)
    except OSError:
        # No address that may be used yet, or no answer from the neighbour: later there may be.
        time.sleep(INTERVAL)
        return None
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            packet = sock.recv(65_535)
        except TimeoutError:
            return None
        now = time.monotonic()
        message = packet[(packet[0] & 0x0F) * 4 :] if version == 4 else packet
        if len(message) < HEADER.size:
            continue
        kind, _, _, got_identifier, got_sequence = HEADER.unpack_from(message)
        if (kind, got_identifier, got_sequence) == (ECHO_REPLY[version], identifier, sequence):
            return now - sent if message[HEADER.size :] == payload else None
    return None
