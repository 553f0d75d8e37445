"""What can go wrong in the transport, and whose fault it is.

Error contract of the package: a function that sees bytes from outside ends in `_untrusted` and
raises `BadPacket` and nothing else; whoever calls it counts the reason and drops the packet.
Wrong use by the program raises `ValueError` or `TypeError`. A key file that cannot be used
raises `KeyFileError` with a sentence that an operator can act on. What the Trio shells raise
(closed, broken, busy) are Trio's own resource errors; see `endpoint/channel.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TransportError(Exception):
    """Base of all errors that this package defines."""


class BadPacket(TransportError):
    """Bytes from outside that are not what they have to be.

    `reason` is one of the names in `stats.DROP_REASONS`: short, constant, fit for a counter.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeyExhausted(TransportError):
    """A sending key has sealed as much as it may; only a new handshake helps."""


class KeyFileError(TransportError):
    """A key file is missing, malformed, or readable by others; the message says which and where."""


class HandshakeRefused(TransportError):
    """The responder proved its key and said no; `result` is a `wire.Result` number."""

    def __init__(self, result: int, text: str) -> None:
        super().__init__(text)
        self.result = result


class HandshakeTimeout(TransportError):
    """Nobody answered: unreachable, not running, another key, or we are a stranger there.

    `obstacles` says of addresses why they are out of reach, as far as anybody has said so.
    """

    def __init__(self, text: str, obstacles: Mapping[tuple[Any, ...], str]) -> None:
        super().__init__(text)
        self.obstacles = obstacles


class PeerUnreachable(HandshakeTimeout):
    """Nothing can be sent to any address, so nobody was waited for."""
