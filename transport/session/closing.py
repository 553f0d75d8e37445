"""The end of a session: why it is over, and how the peer hears of it.

    close(code, reason, now)    we end it: the peer is told, three times
    closed_by_peer(code, reason)
    peer_silent(now)            it has said nothing for too long: told once
    fail(code, reason, ...)     the peer knows, or cannot be told
    abandon(code, reason)       the session's own parts have failed
    heard(now)                  the peer still sends: it has not heard of the end
    last_word(now)              the Close that has to leave now
    deadline(), handle_timeout(now)
    ended, finished             why it is over; whether the last word is said

A Close may be lost like any datagram. So it is repeated, and for `TOMBSTONE` seconds whatever still
comes is answered with one more, unless the peer has said Close itself.

Invariants: the first end counts. What was queued is let go, what has arrived can be read, and from
then on nothing but this is asked what leaves and when. Pure; `now` in seconds; raises nothing.
"""

from __future__ import annotations

from collections import deque

from transport.constants import CLOSE_REPEATS, TOMBSTONE
from transport.lanes.lanes import Lanes
from transport.session.events import Ended, Event
from transport.session.exchange import ControlExchange
from transport.session.outbox import PacedPieces
from transport.wire.control import Close, CloseCode


class Ending:
    """Whether and how one session is over."""

    __slots__ = (
        "_close_at",
        "_events",
        "_exchange",
        "_lanes",
        "_paced",
        "_tombstone_until",
        "ended",
        "finished",
    )

    def __init__(
        self, lanes: Lanes, exchange: ControlExchange, paced: PacedPieces, events: deque[Event]
    ) -> None:
        """What stops with the end, and where to tell the session's owner of it."""
        self._lanes = lanes
        self._exchange = exchange
        self._paced = paced
        self._events = events
        self._close_at: deque[float] = deque()
        self._tombstone_until = 0.0
        self.ended: Ended | None = None
        self.finished = False  # the last word is said

    def close(self, code: int, reason: str, now: float) -> None:
        """We end it, and tell the peer. Idempotent."""
        if self.ended is None:
            self._end(code, reason, by_peer=False)
            self._close_at.extend(now + delay for delay in CLOSE_REPEATS)
            self._tombstone_until = now + TOMBSTONE

    def closed_by_peer(self, code: int, reason: str) -> None:
        """The peer has said Close, so it need not hear ours. Idempotent."""
        if self.ended is None:
            self._end(code, reason, by_peer=True)
        self._close_at.clear()
        self.finished = True

    def peer_silent(self, now: float) -> None:
        """The peer has said nothing for too long. Idempotent."""
        if self.ended is None:
            self._end(CloseCode.TIMEOUT, "the peer has fallen silent", by_peer=False)
            # Perhaps it is only we who hear nothing.
            self._close_at.append(now)
            self._tombstone_until = now

    def fail(self, code: int, reason: str, *, by_peer: bool) -> None:
        """It has turned out to be over; the peer knows, or cannot be told. Idempotent."""
        if self.ended is None:
            self._end(code, reason, by_peer=by_peer)
            self.finished = True

    def abandon(self, code: int, reason: str) -> None:
        """Something of ours has failed, so nothing of the session is asked any more."""
        if self.ended is None:
            self.ended = Ended(code, reason, by_peer=False)
            self._events.append(self.ended)
        self._close_at.clear()
        self.finished = True

    def _end(self, code: int, reason: str, *, by_peer: bool) -> None:
        self.ended = Ended(code, reason, by_peer)
        self._events.append(self.ended)
        self._exchange.clear()
        self._paced.clear()
        self._lanes.close()

    # --- Afterwards -------------------------------------------------------------------------

    def heard(self, now: float) -> None:
        """Something authentic has come after the end."""
        if not self.finished and not self._close_at:
            self._close_at.append(now)

    def last_word(self, now: float) -> Close | None:
        """What the peer has to be told now, if anything."""
        if self.ended is None or not self._close_at or now < self._close_at[0]:
            return None
        while self._close_at and now >= self._close_at[0]:
            self._close_at.popleft()
        return Close(self.ended.code, self.ended.reason)

    def deadline(self) -> float:
        """After the end: when `last_word` has something to say, or `handle_timeout` to do."""
        return self._close_at[0] if self._close_at else self._tombstone_until

    def handle_timeout(self, now: float) -> None:
        """After the end: there may be nothing more to say."""
        if now >= self._tombstone_until:
            self.finished = True
