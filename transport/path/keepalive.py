"""Liveness of the peer: keepalives, probes of a silent peer, and the moment to give up.

Pure: the session tells what it sent and received, asks `poll(now)` what to do and sleeps until
`due`. An answer is *awaited* from the first datagram that deserves one (data, a ping) until the
peer says that something of ours has come: what it sends by itself also comes where nothing of ours
gets there. The session ends when nothing authentic comes at all, which is so at one end at least.
KCP's own dead-link verdict takes minutes and is not used.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

# NAT bindings for UDP live 30 s or more in practice, as do idle connections of a pipe on their way.
KEEPALIVE: Final = 15.0
KEEPALIVE_JITTER: Final = 0.2  # ± share
SUSPECT_AFTER: Final = 3.0  # something awaited an answer this long: probe
PROBE_INTERVAL: Final = 1.0  # between probes of a suspect peer
DOUBTED_AFTER: Final = 0.5  # the same, once somebody has said that the peer is out of reach
DOUBT_INTERVAL: Final = 2.0  # who says so may be wrong, or lie
RECONNECT_AFTER: Final = 5.0  # awaited this long: the client also tries a new handshake
DEAD_AFTER: Final = 60.0  # nothing authentic for so long: the session ends


class Action(enum.Enum):
    """What `poll` asks for."""

    NOTHING = enum.auto()
    PING = enum.auto()
    DEAD = enum.auto()


class Liveness:
    """The clockwork of one session."""

    __slots__ = (
        "_doubt_at",
        "_every",
        "_heard",
        "_initiator",
        "_jitter",
        "_keepalive_at",
        "_probe_at",
        "awaiting",
        "due",
    )

    def __init__(self, now: float, *, initiator: bool, jitter: Callable[[], float]) -> None:
        """`initiator`: the side behind NAT keeps the binding open; `jitter`: uniform in [-1, 1]."""
        self._initiator = initiator
        self._jitter = jitter
        self._heard = now
        self.awaiting: float | None = None  # since when an answer is owed
        self._probe_at = 0.0
        self._doubt_at = now  # not before, or again
        self._every = self._interval()
        self._keepalive_at = now + self._every
        # When `poll` has something to say; a keepalive is always due before its peer is dead.
        self.due = self._keepalive_at if initiator else now + DEAD_AFTER

    def _interval(self) -> float:
        return KEEPALIVE * (1 + KEEPALIVE_JITTER * self._jitter())

    def sent(self, now: float, *, wants_answer: bool) -> None:
        """A datagram left. HOT PATH."""
        self._keepalive_at = now + self._every
        if self.awaiting is not None:
            return
        if wants_answer:
            self.awaiting = now
            self._probe_at = now + SUSPECT_AFTER
            self.due = min(self._heard + DEAD_AFTER, self._probe_at)
        elif self._initiator:
            self.due = min(self._heard + DEAD_AFTER, self._keepalive_at)

    def received(self, now: float) -> None:
        """Something authentic came in. HOT PATH."""
        self._heard = now
        if self.awaiting is None:
            self.due = self._keepalive_at if self._initiator else now + DEAD_AFTER
        else:
            self.due = min(now + DEAD_AFTER, self._probe_at)

    def answered(self) -> None:
        """What came in says that something of ours has reached the peer. HOT PATH."""
        self.awaiting = None
        self.due = self._keepalive_at if self._initiator else self._heard + DEAD_AFTER

    def doubt(self, now: float) -> bool:
        """Somebody says that the peer is out of reach, which need not be true: without an answer it
        is suspect soon. True: ping it now.
        """
        early = now - SUSPECT_AFTER + DOUBTED_AFTER
        if now < self._doubt_at or (self.awaiting is not None and self.awaiting <= early):
            return False
        self.awaiting, self._probe_at = early, now + DOUBTED_AFTER
        self._doubt_at = now + DOUBT_INTERVAL
        self.due = min(self.due, self._probe_at)
        return True

    def idle(self, now: float) -> float:
        """Seconds since anything authentic came in."""
        return now - self._heard

    def suspect(self, now: float) -> bool:
        """An answer is overdue: send little."""
        return self.awaiting is not None and now - self.awaiting >= SUSPECT_AFTER

    def wants_reconnect(self, now: float) -> bool:
        """An answer is so overdue that the initiator should try a new handshake."""
        return self.awaiting is not None and now - self.awaiting >= RECONNECT_AFTER

    def poll(self, now: float) -> Action:
        """What is due; PING re-arms itself."""
        if now >= self._heard + DEAD_AFTER:
            return Action.DEAD
        if self.awaiting is not None:
            if now >= self._probe_at:
                self._probe_at = now + PROBE_INTERVAL
                self.due = min(self._heard + DEAD_AFTER, self._probe_at)
                return Action.PING
        elif self._initiator and now >= self._keepalive_at:
            self._every = self._interval()  # a fresh jitter each time, not for each datagram
            self._keepalive_at = now + self._every
            self.due = min(self._heard + DEAD_AFTER, self._keepalive_at)
            return Action.PING
        return Action.NOTHING
