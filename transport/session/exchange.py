"""What the two ends of a session tell each other about it, as control items.

    ping(now)                          ask: is the peer there, and how far away
    queue(item, address)               anything else that it has to hear
    receive_untrusted(plaintext, ...)  what it says; its questions are answered
    queued, take()                     what has to leave, each item with where it has to go
    pinged_at, round_trip              when the last ping was queued; what pings have measured
    shortest(now), asking              the shortest of late; whether an answer is awaited

Here questions are asked and answered. What an item changes in the session is for `session.py`.

Invariants: only the last ping counts, and its answer once. An item gets one answer at most, beside
a ping of ours each second, and no more than `CONTROL_PER_SECOND` datagrams are answered.

Pure; `now` in seconds.
Error contract: `receive_untrusted` raises `BadPacket`, and nothing is answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from transport.constants import CONTROL_PER_SECOND, SEALED_OVERHEAD
from transport.errors import BadPacket
from transport.ratelimit import TokenBucket
from transport.wire.control import (
    ControlItem,
    MtuAck,
    MtuProbe,
    PathChallenge,
    PathResponse,
    Ping,
    Pong,
    decode_control_untrusted,
)
from transport.wire.trains import Address

PING_BACK_INTERVAL: Final = 1.0  # seconds between pings with which a responder answers
# The shortest of a few: one may have waited for a busy machine, and tell of that.
SAMPLES: Final = 4
SAMPLE_LIFE: Final = 30.0  # seconds; a path may have become another one since


class ControlExchange:
    """The control items of one session, both ways."""

    __slots__ = (
        "_bucket",
        "_initiator",
        "_ping",
        "_random",
        "_samples",
        "pinged_at",
        "queued",
        "round_trip",
    )

    def __init__(
        self, now: float, random_bytes: Callable[[int], bytes], *, initiator: bool
    ) -> None:
        self._initiator = initiator
        self._random = random_bytes
        self._bucket = TokenBucket(CONTROL_PER_SECOND, CONTROL_PER_SECOND, now)
        self._ping = b""  # what the awaited answer says
        self.pinged_at = now
        self.round_trip: float | None = None  # seconds, smoothed; None before the first answer
        self._samples = deque[tuple[float, float]](maxlen=SAMPLES)  # when, seconds
        self.queued: list[tuple[Address | None, ControlItem]] = []

    def ping(self, now: float) -> None:
        """Queue a question whose answer says that the peer is there, and how far away."""
        self._ping, self.pinged_at = self._random(8), now
        self.queue(Ping(self._ping))

    @property
    def asking(self) -> bool:
        """The last ping is not answered yet."""
        return bool(self._ping)

    def shortest(self, now: float) -> float | None:
        """Seconds of the shortest round trip of late, else of the last; pings are answered at once,
        unlike data, whose acknowledgements may wait (`ACK_DELAY`). None before the first.
        """
        late = [took for at, took in self._samples if now - at < SAMPLE_LIFE]
        return min(late or [took for _, took in self._samples][-1:], default=None)

    def queue(self, item: ControlItem, address: Address | None = None) -> None:
        """Queue an item for this address, or for the path that is in use when it leaves."""
        self.queued.append((address, item))

    def take(self) -> list[tuple[Address | None, ControlItem]]:
        """All that is queued."""
        queued, self.queued = self.queued, []
        return queued

    def receive_untrusted(
        self, plaintext: bytes, address: Address, now: float
    ) -> Sequence[ControlItem]:
        """The items of a control datagram that came from `address`. Raises `BadPacket`."""
        items = decode_control_untrusted(plaintext)
        if not self._bucket.allow(now):
            raise BadPacket("control_limited")
        for item in items:
            match item:
                case PathChallenge(data):
                    self.queue(PathResponse(data), address)
                case Ping(data):
                    self.queue(Pong(data))
                    if not self._initiator and now - self.pinged_at >= PING_BACK_INTERVAL:
                        self.ping(now)  # so that both sides know the round trip
                case Pong(data):
                    self._answered(data, now)
                case MtuProbe(epoch):
                    self.queue(MtuAck(SEALED_OVERHEAD + len(plaintext), epoch))
        return items

    def _answered(self, data: bytes, now: float) -> None:
        if data == self._ping:
            rtt, before = now - self.pinged_at, self.round_trip
            self.round_trip = rtt if before is None else before + (rtt - before) / 4
            self._samples.append((now, rtt))
            self._ping = b""

    def clear(self) -> None:
        """Nothing of what is queued has to leave any more."""
        self.queued.clear()
