"""The datagram lane of a session: whole messages, unreliable, each a sealed unit of its own.

    message_size, max_message           bytes of a message: that fits a unit now, and at most
    send(messages, now), take_units()   ours, on their way to be sealed
    receive_untrusted(message, now)     the peer's, opened; take_messages() for the program above
    report_due(now)                     the peer has to hear how much has come
    reported_untrusted(...)             the peer has said how much of ours has come
    black_hole_suspected(now, rtt)      the path may have begun to carry less than it did
    meter.lost_at                       when more was last found lost than is tolerated

Nothing is repeated, nothing is acknowledged, and no order is promised beyond what the path keeps.
The sender learns of losses from reports: how many units the peer has opened since the session
began, and how many it should have, by their counters. All units count, of whatever type, for they
have one sequence of counters; probes of the path's size that got no answer are taken off.

Large units while nothing is lost, small ones else: one lost slice costs its whole unit. An
innocent path is trusted with large ones after 256 KiB, one that has lost after 16 MiB without.

A gap counts as a loss when the next report still has it, so reordering is none. A loss of
one unit in 10,000 is tolerated; `LOSS_TRIP` units beyond that make the path a lossy one.

Invariants: what waits, either way, is bounded in bytes; what is more is dropped and counted. A
report is believed as far as it makes sense, and can only change how we send to who wrote it.

Pure; `now` in seconds. Error contract: ValueError for a message over `max_message`; nothing else.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from math import inf
from typing import Final

from transport.constants import (
    DATAGRAM_INBOX_BYTES,
    DATAGRAM_OUTBOX_BYTES,
    MESSAGE_COST,
    PIPE_BACKLOG,
    TAG_SIZE,
)

REPORT_INTERVAL: Final = 0.25  # seconds between reports, while anything comes
CLEAN_BYTES: Final = 256 * 1024  # without a loss, until a new path gets large units
CLEAN_AGAIN_BYTES: Final = 16 * 1024 * 1024  # the same for one that has lost something
TOLERATED_LOSS: Final = 1e-4  # share of units: what TCP inside does not feel
LOSS_TRIP: Final = 3.0  # units lost beyond that make the path a lossy one
FORGET: Final = 60.0  # seconds after which one lost unit is forgotten, where little is sent
STALL: Final = 1.0  # seconds of sending without a report that make a path suspect
BLACK_HOLE: Final = 0.25  # share of units lost that does the same


class LossMeter:
    """What the peer's reports say of the path: the judge of unit sizes and of `lost_at`."""

    __slots__ = (
        "_clean",
        "_deficit",
        "_expected",
        "_known",
        "_lapsed_at",
        "_level",
        "_needed",
        "_received",
        "heavy_loss",
        "large_units",
        "lost",
        "lost_at",
    )

    def __init__(self, now: float) -> None:
        self.large_units = False  # large units may be sent
        self.lost = 0  # units, in all
        self.lost_at = -inf
        self.heavy_loss = False  # in the last report: the path may be another
        self._expected = self._received = 0  # of the last report that made sense
        self._deficit: int | None = None  # units that were missing then, ever since the beginning
        self._known = 0  # of these, counted as lost or from before this lane
        self._level = 0.0  # units lost beyond what is tolerated
        self._lapsed_at = now
        self._clean, self._needed = 0, CLEAN_BYTES

    def reported_untrusted(
        self, received: int, expected: int, *, sealed: int, unanswered: int, sent: int, now: float
    ) -> bool:
        """The peer's totals; whether they are news that make sense.

        `sealed`: units that we have sealed in this session; `unanswered`: probes among them that
        may be lost; `sent`: bytes of messages given to the lane since the last report.
        """
        if not received <= expected <= sealed or expected <= self._expected:
            return False
        if received < self._received:
            return False
        deficit, before = expected - received - unanswered, self._deficit
        units = expected - self._expected
        self._deficit, self._expected, self._received = deficit, expected, received
        if before is None:
            self._known = deficit
            return True
        new = max(0, min(before, deficit) - self._known)
        self._known += new
        self.lost += new
        forgotten = units * TOLERATED_LOSS + (now - self._lapsed_at) / FORGET
        self._level = max(0.0, self._level - forgotten) + new
        self._lapsed_at = now
        self.heavy_loss = new > units * BLACK_HOLE and new >= LOSS_TRIP
        if new:
            self.large_units, self._clean, self._needed = False, 0, CLEAN_AGAIN_BYTES
            if self._level >= LOSS_TRIP:
                self.lost_at, self._level = now, 0.0
        elif not self.large_units:
            self._clean += sent
            self.large_units = self._clean >= self._needed
        return True


class DatagramLane:
    """Both directions of one session."""

    __slots__ = (
        "_drops",
        "_inbox",
        "_inbox_bytes",
        "_outbox",
        "_outbox_bytes",
        "_report_at",
        "_silent_since",
        "_since_report",
        "closed",
        "in_pipe",
        "max_message",
        "meter",
        "received",
        "sent",
        "slice_size",
    )

    def __init__(self, max_message: int, drops: Counter[str], now: float) -> None:
        """`max_message`: bytes of the largest one, which is that of the largest unit."""
        self.closed = False
        self.in_pipe = False  # what is sent waits for room in a pipe
        self.max_message = max_message
        self.slice_size = max_message + TAG_SIZE  # of a unit in one datagram; the session says
        self.meter = LossMeter(now)
        self.sent = 0  # units
        self.received = 0
        self._drops = drops
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._report_at = inf
        self._since_report = 0  # bytes of messages sent
        self._silent_since = inf  # since when there should have been a report

    # --- The program above ------------------------------------------------------------------

    @property
    def message_size(self) -> int:
        """Bytes of a message that fits a unit as they are now; larger ones may still be sent."""
        most = self.max_message
        return most if self.meter.large_units else min(most, self.slice_size - TAG_SIZE)

    @property
    def credit(self) -> int:
        """Bytes that may be given to `send` in this turn; none if zero or less."""
        most = PIPE_BACKLOG if self.in_pipe else DATAGRAM_OUTBOX_BYTES
        return most - self._outbox_bytes

    @property
    def readable(self) -> bool:
        return bool(self._inbox)

    @property
    def held(self) -> int:
        """Bytes that are kept, both ways. HOT PATH."""
        return self._inbox_bytes + self._outbox_bytes

    def send(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages for `take_units`; after the end, none. HOT PATH of the lane."""
        if self.closed:
            return
        largest = max(map(len, messages), default=0)
        if largest > self.max_message:
            raise ValueError(f"a message of {largest} bytes; at most {self.max_message}")
        self._outbox.extend(messages)
        self._outbox_bytes += sum(map(len, messages))

    def take_messages(self) -> list[bytes]:
        """All messages that have come, as they came. HOT PATH of the lane."""
        messages = list(self._inbox)
        self._inbox.clear()
        self._inbox_bytes = 0
        return messages

    # --- The path ---------------------------------------------------------------------------

    @property
    def flush_due(self) -> bool:
        """`take_units` has something. HOT PATH."""
        return bool(self._outbox)

    def take_units(self, now: float, *, suspect: bool) -> list[bytes]:
        """Plaintexts that have to leave now. Towards a `suspect` peer, which owes an answer for
        long, none: what unreliable messages would say will be stale. HOT PATH of the lane.
        """
        units, size = self._outbox, self._outbox_bytes
        self._outbox, self._outbox_bytes = [], 0
        if suspect:
            self._drops["loose_silent"] += len(units)
            return []
        self.sent += len(units)
        self._since_report += size
        self._silent_since = min(self._silent_since, now)
        return units

    def receive_untrusted(self, message: bytes, slices: int, now: float) -> None:
        """The plaintext of a unit of so many slices. HOT PATH of the lane."""
        self.received += 1
        if self._report_at == inf:
            self._report_at = now + REPORT_INTERVAL
        if self._inbox_bytes >= DATAGRAM_INBOX_BYTES:
            self._drops["loose_full"] += slices
            return
        self._inbox.append(message)
        self._inbox_bytes += len(message) + MESSAGE_COST

    def report_due(self, now: float) -> bool:
        """Whether a report has to leave now; if so, it is up to the caller."""
        if now < self._report_at:
            return False
        self._report_at = inf
        return True

    def reported_untrusted(
        self, received: int, expected: int, *, sealed: int, unanswered: int, now: float
    ) -> None:
        """What the peer says has come of what we have sealed; see `LossMeter`."""
        if self.meter.reported_untrusted(
            received,
            expected,
            sealed=sealed,
            unanswered=unanswered,
            sent=self._since_report,
            now=now,
        ):
            self._since_report = 0
            self._silent_since = inf

    def black_hole_suspected(self, now: float, rtt: float | None) -> bool:
        """Whether so much is lost that the path may carry less than it did: nothing has been
        reported for a while, or much was missing. Once for each time.
        """
        if self.in_pipe:
            return False
        if self.meter.heavy_loss or now - self._silent_since >= STALL + 2 * (rtt or 0.0):
            self.meter.heavy_loss = False
            self._silent_since = inf
            return True
        return False

    def deadline(self) -> float:
        """When a report is due; infinite when none is."""
        return self._report_at

    def close(self) -> None:
        """Nothing more leaves; what has come can be read. Idempotent."""
        self.closed = True
        self._outbox.clear()
        self._outbox_bytes = 0
        self._report_at = inf

    def throw_away(self) -> None:
        """After the end: nobody will read what has come."""
        self._inbox.clear()
        self._inbox_bytes = 0
