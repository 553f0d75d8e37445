"""One TCP stream with a test pattern and a checksum at either end, run in two hosts.

The sender stops after a number of seconds or bytes. Both ends hash all they saw; whoever has
both results compares them. Errors: `VswitchError` when the other end does not come or goes away.
"""

from __future__ import annotations

import socket
import time
from hashlib import blake2b

import attrs

from vswitch.errors import VswitchError

BLOCK = 64 * 1024  # bytes
PATIENCE = 20  # seconds until the two ends have met
STALL = 20  # seconds without a byte


@attrs.frozen
class Transfer:
    """One end's view of the stream."""

    size: int  # bytes
    seconds: float  # first byte to last
    digest: str


def send(address: str, port: int, *, pattern: bytes, seconds: float, limit: int) -> Transfer:
    """Connect and send blocks full of `pattern` for so many seconds, `limit` bytes at most."""
    block = (pattern * (BLOCK // len(pattern) + 1))[: BLOCK - 8]
    digest, size, number = blake2b(), 0, 0
    with _connect(address, port) as sock:
        begun = time.monotonic()
        try:
            while size < limit and time.monotonic() < begun + seconds:
                # The number makes each block another one, so that a lost or doubled one shows.
                data = number.to_bytes(8, "big") + block
                sock.sendall(data)
                digest.update(data)
                size += len(data)
                number += 1
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)  # the other end closes when it has everything
        except OSError as error:
            raise VswitchError(f"the transfer to {address} broke off: {error}") from error
        return Transfer(size, time.monotonic() - begun, digest.hexdigest())


def receive(address: str, port: int) -> Transfer:
    """Accept one connection and read it to its end."""
    digest, size, begun = blake2b(), 0, None
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        listener.settimeout(PATIENCE)
        try:
            sock, _ = listener.accept()
        except TimeoutError as error:
            raise VswitchError(f"nobody connected to {address} within {PATIENCE} s") from error
    with sock:
        sock.settimeout(STALL)
        try:
            while data := sock.recv(4 * BLOCK):
                begun = begun or time.monotonic()
                digest.update(data)
                size += len(data)
        except OSError as error:
            raise VswitchError(f"the transfer to {address} broke off: {error}") from error
    ended = time.monotonic()
    return Transfer(size, ended - (begun or ended), digest.hexdigest())


def _connect(address: str, port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            sock = socket.create_connection((address, port), timeout=STALL)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            if time.monotonic() > deadline:
                raise VswitchError(f"cannot connect to {address} port {port}: {error}") from error
            time.sleep(0.05)  # the other end is about to listen
