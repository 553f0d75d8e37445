"""The keys of one session: the pair in use, the one before it, and when each has to go.

A pair belongs to one handshake. It is found by its local index, the number that the peer writes
into every datagram. After a rekey the old pair still opens what was under way, for 30 s; no pair
seals or opens anything after 300 s, and none seals more than 2^23 datagrams. Long before that new
ones are `due`: the initiator starts a handshake, the responder requests one.

Pure; `now` in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from attrs import field, frozen

from transport.constants import (
    PREVIOUS_KEY_LIFETIME,
    REJECT_AFTER,
    REKEY_AFTER,
    REKEY_AFTER_FAILURES,
    REKEY_AFTER_UNITS,
    REKEY_JITTER,
    RESET_TOKEN_SIZE,
)
from transport.crypto.cipher import Opener, Sealer
from transport.errors import BadPacket
from transport.wire.datagrams import Suite

ASK_INTERVAL: Final = 1.0  # seconds between two times that the initiator is asked for new keys


@frozen(eq=False)
class KeyPair:
    """Both directions of one handshake."""

    suite: Suite
    local_index: int
    sealer: Sealer
    opener: Opener
    born: float
    handshake_hash: bytes
    # Of an initiator: by this the responder says that it has lost the session. Zeros: by nothing.
    reset_token: bytes = field(default=bytes(RESET_TOKEN_SIZE), repr=False)
    hybrid: bool = False  # with ML-KEM-768 in it


class Keyring:
    """The live pairs of one session."""

    __slots__ = (
        "_asked_at",
        "_gone",
        "_jitter",
        "_pairs",
        "_previous",
        "_previous_until",
        "current",
        "expires_at",
        "rekey_at",
        "rekeys",
        "retired",
        "wanted",
    )

    def __init__(self, pair: KeyPair, now: float, jitter: Callable[[], float]) -> None:
        self.current = pair
        self.retired: list[int] = []  # local indices that may be given away again
        self.rekeys = 0  # pairs adopted
        self.wanted = False  # somebody has asked for a new pair, whatever this one is good for
        self._asked_at = now
        self._jitter = jitter
        self._pairs = {pair.local_index: pair}
        self._previous: KeyPair | None = None
        self._previous_until = inf
        self.expires_at = pair.born + REJECT_AFTER  # when `expire` has something to do
        self.rekey_at = self._next_rekey(now)
        self._gone = [0, 0, 0]  # totals of the pairs that are no more

    def _next_rekey(self, now: float) -> float:
        return now + REKEY_AFTER + REKEY_JITTER * abs(self._jitter())

    def find_untrusted(self, datagram: bytes, now: float) -> KeyPair:
        """The pair that a sealed datagram names; raises `BadPacket`. HOT PATH."""
        pair = self._pairs.get(int.from_bytes(datagram[4:8], "little"))
        if pair is None:
            raise BadPacket("unknown_index")
        if now >= pair.born + REJECT_AFTER:
            raise BadPacket("expired_key")
        return pair

    def seen(self, datagram: bytes) -> bool:
        """Whether the unit that a slice belongs to has been opened already, or is none of ours."""
        pair = self._pairs.get(int.from_bytes(datagram[4:8], "little"))
        return pair is None or pair.opener.seen(datagram)

    def adopt(self, pair: KeyPair, now: float) -> None:
        """Seal with `pair` from now on."""
        self._drop_previous()
        self._previous, self.current = self.current, pair
        self._previous_until = now + PREVIOUS_KEY_LIFETIME
        self.expires_at = min(self._previous_until, pair.born + REJECT_AFTER)
        self._pairs[pair.local_index] = pair
        self.rekey_at = self._next_rekey(now)
        self.rekeys += 1
        self.wanted = False

    def _drop_previous(self) -> None:
        if self._previous is not None:
            counts = _counts(self._pairs.pop(self._previous.local_index))
            self._gone = [gone + count for gone, count in zip(self._gone, counts, strict=True)]
            self.retired.append(self._previous.local_index)
            self._previous = None
            self._previous_until = inf
            self.expires_at = self.current.born + REJECT_AFTER

    def retire_all(self) -> None:
        """The session is over."""
        self.retired.extend(self._pairs)
        self._pairs.clear()

    def expire(self, now: float) -> bool:
        """Forget what is too old; False when the pair in use is."""
        if now >= self._previous_until:
            self._drop_previous()
        return now < self.current.born + REJECT_AFTER

    def worn(self) -> bool:
        """The pair in use has sealed, opened or refused so much that it should be replaced."""
        pair = self.current
        return (
            pair.sealer.counter >= REKEY_AFTER_UNITS
            or pair.opener.newest >= REKEY_AFTER_UNITS
            or pair.opener.failures >= REKEY_AFTER_FAILURES
        )

    def due(self, now: float) -> bool:
        """Whether a new pair should be had: it is time, this one is worn, or somebody has asked.
        HOT PATH of an initiator.
        """
        return self.wanted or now >= self.rekey_at or self.worn()

    def handle_timeout(self, now: float) -> None:
        """When it is time for a new pair, want one, and again should that handshake fail."""
        if now >= self.rekey_at:
            self.rekey_at = now + REKEY_JITTER
            self.wanted = True

    def should_request(self, now: float) -> bool:
        """The pair in use is worn: the initiator should be asked for a new one, now."""
        if not self.worn() or now - self._asked_at < ASK_INTERVAL:
            return False
        self._asked_at = now
        return True

    def totals(self) -> tuple[int, int, int]:
        """Units of the session so far: sealed, opened, and how many the peer must have sealed."""
        counts = [self._gone, *map(_counts, self._pairs.values())]
        sealed, opened, expected = map(sum, zip(*counts, strict=True))
        return sealed, opened, expected


def _counts(pair: KeyPair) -> tuple[int, int, int]:
    return pair.sealer.counter, pair.opener.opened, pair.opener.newest + 1
