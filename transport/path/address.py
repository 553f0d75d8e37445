"""Path validation: which address a session sends to, and how it moves to another.

The receiver index selects the session, never the address. An authentic datagram from elsewhere
only makes that address a *candidate*: it gets a challenge, and becomes the path when the answer
comes from it (RFC 9000 section 9.3). A copied datagram from a forged address therefore moves
nothing, and costs its victim at most three times the bytes that carried the forgery there.

Pure; `now` in seconds. One candidate at a time, one move a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from transport.constants import AMPLIFICATION, SEALED_OVERHEAD
from transport.wire.trains import Address

PATH_TIMEOUT: Final = 1.0  # for a challenge's answer, at least
PATH_CHANGE_INTERVAL: Final = 1.0  # at most one move a second

_CHALLENGE_SIZE = SEALED_OVERHEAD + 3 + 8  # bytes of the datagram that carries one


class PathTable:
    """The validated path of one session and the candidate for the next."""

    __slots__ = (
        "_budget",
        "_candidate",
        "_challenge",
        "_expires",
        "_moved",
        "_random",
        "changes",
        "current",
    )

    def __init__(self, current: Address, random_bytes: Callable[[int], bytes]) -> None:
        self.current = current
        self.changes = 0  # that a challenge has led to
        self._random = random_bytes
        self._candidate: Address | None = None
        self._challenge = b""
        self._budget = 0
        self._expires = 0.0
        self._moved = float("-inf")

    def observe(self, address: Address, size: int, now: float) -> bytes | None:
        """An authentic datagram newer than all before came from `address`, not the current one.

        Returns the 8 bytes of a challenge to send there now, or None.
        """
        if now - self._moved < PATH_CHANGE_INTERVAL:
            return None
        if address != self._candidate or now >= self._expires:
            self._candidate = address
            self._challenge = self._random(8)
            self._budget = 0
            self._expires = now + PATH_TIMEOUT
        self._budget += AMPLIFICATION * size
        if self._budget < _CHALLENGE_SIZE:
            return None
        self._budget -= _CHALLENGE_SIZE
        return self._challenge

    def answered(self, data: bytes, address: Address, now: float) -> bool:
        """A challenge's answer came from `address`; True when that made it the path."""
        if address != self._candidate or data != self._challenge or now >= self._expires:
            return False
        self.changes += 1
        self.moved(address, now)
        return True

    def moved(self, address: Address, now: float) -> None:
        """The address has proven itself, here or by a handshake."""
        self.current = address
        self._candidate = None
        self._moved = now
