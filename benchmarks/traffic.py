"""UDP at a given rate, and who counts it. Runs inside the hosts A and B.

One `send` a datagram, as programs do it: never UDP_SEGMENT, which would give the peers trains to
carry. Python paces more evenly than iperf3 and, at 64 bytes, sends more of them; the row `bare`
of a comparison says what both ends reach by themselves.
"""

from __future__ import annotations

import os
import socket
import struct
import time

import attrs

__all__ = ["Heard", "Sent", "count", "listen", "send"]

BUFFER = 8 << 20  # bytes: holds what arrives while the receiver waits for its turn on a CPU
BURST = 64  # datagrams between two looks at the clock
NAP = 0.0002  # s: the least sleep; shorter ones cost more than they save
ARREARS = 0.004  # s of datagrams that are sent late; what is later is never sent
FIRST_WAIT = 2.0  # s until the first datagram must be there
IDLE_WAIT = 0.4  # s without a datagram after which a transfer is over
LOOK_EVERY = 4096  # datagrams between two looks at the clock

_sinks: dict[int, socket.socket] = {}


@attrs.frozen
class Sent:
    """What the sender did."""

    datagrams: int
    seconds: float


@attrs.frozen
class Heard:
    """What the receiver got, from the first to the last."""

    datagrams: int
    seconds: float


def listen(port: int) -> None:
    """Bind a socket, so that what is sent from now on is kept."""
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sink.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE, as root only
    except PermissionError:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sink.bind(("", port))
    _sinks[port] = sink


def count(port: int, limit: float) -> Heard:
    """Count datagrams until none comes any more, or `limit` seconds have gone."""
    buffer = bytearray(65536)
    datagrams = 0
    with _sinks.pop(port) as sink:
        receive = sink.recv_into
        end = time.monotonic() + limit
        # The kernel's own timeout: Python's would cost a system call for each datagram.
        _timeout(sink, FIRST_WAIT)
        try:
            receive(buffer)
        except BlockingIOError:
            return Heard(0, 0.0)
        first = time.monotonic()
        datagrams = 1
        _timeout(sink, IDLE_WAIT)
        try:
            while time.monotonic() < end:
                for _ in range(LOOK_EVERY):
                    receive(buffer)
                    datagrams += 1
            last = time.monotonic()
        except BlockingIOError:
            last = time.monotonic() - IDLE_WAIT
    return Heard(datagrams, max(last - first, 0.0))


def send(address: str, port: int, size: int, rate: float, seconds: float) -> Sent:
    """Send datagrams of `size` random bytes to the address, `rate` a second."""
    payload = os.urandom(size)  # peers that compress gain nothing
    now = time.perf_counter
    sent = missed = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.connect((address, port))
        transmit = source.send
        start = now()
        while (elapsed := now() - start) < seconds:
            due = int(elapsed * rate) - sent - missed
            if due <= 0:
                time.sleep(max(NAP, -due / rate))
                continue
            late = due - max(BURST, int(ARREARS * rate))
            if late > 0:
                missed += late
                due -= late
            for _ in range(min(due, BURST)):
                try:
                    transmit(payload)
                except (BlockingIOError, ConnectionRefusedError):
                    pass  # lost on the way, as any other
            sent += min(due, BURST)
        return Sent(sent, now() - start)


def _timeout(sink: socket.socket, seconds: float) -> None:
    whole, part = divmod(seconds, 1)
    value = struct.pack("ll", int(whole), int(part * 1e6))
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
