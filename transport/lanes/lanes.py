"""The lanes of a session: bulk, sparse for what must not wait behind it, and loose.

The first two are reliable. Each is a KCP conversation of its own: what is lost on one holds up
nothing on the other. The sparse one has the number of the bulk one with its lowest bit flipped, and
is made when it is first needed, by either side, so a session without such traffic pays a comparison
for it.

Between the lanes no order is kept. Who needs it across them has `Progress`, which says what has
reached the peer, and `hold_bulk`, which leaves bulk messages where they are, with back-pressure,
until the hold ends or the session does.

The third is the datagram lane (`lanes/datagram.py`), once the program above has opened it. What
is said here of acknowledgements, repetition and flushing is about the other two.

Pure; `now` in seconds. Error contract: that of `lanes/reliable.py`; a unit that can be of neither
reliable lane is `BadPacket("not_kcp")`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from transport.config import DEFAULT_CONFIG, TransportConfig
from transport.congestion.controller import INITIAL_WINDOW
from transport.constants import KCP_HEADER_SIZE
from transport.errors import BadPacket
from transport.lanes.datagram import LooseLane
from transport.lanes.reliable import ReliableLane
from transport.lanes.units import unit_bytes

SPARSE: Final = 1  # what differs in the conversation number
LOSSY_FOR: Final = 5.0  # seconds after a loss in which sparse units leave twice


class Progress(NamedTuple):
    """How far both lanes have come, in messages since the session began.

    Exact while no message is larger than a segment (`message_size`); a larger one counts as the
    segments that it needs.
    """

    sent: int  # given to the bulk lane
    arrived: int  # that many of those, the first ones, are known to have reached the peer
    sparse_sent: int
    sparse_arrived: int


class Lanes:
    """All lanes of one session."""

    __slots__ = (
        "_bulk_prefix",
        "_config",
        "_drops",
        "_number",
        "_sparse_prefix",
        "_window",
        "bulk",
        "hold_bulk",
        "loose",
        "sparse",
    )

    def __init__(
        self,
        number: int,
        *,
        kcp_mtu: int,
        receive_window: int,
        drops: Counter[str],
        now: float,
        config: TransportConfig = DEFAULT_CONFIG,
    ) -> None:
        """See `ReliableLane`; `number` is that of the bulk lane."""
        self._number = number
        self._drops = drops
        self._config = config
        self._window = receive_window
        self._bulk_prefix = number.to_bytes(4, "little")
        self._sparse_prefix = (number ^ SPARSE).to_bytes(4, "little")
        self.bulk = ReliableLane(
            number,
            kcp_mtu=kcp_mtu,
            receive_window=receive_window,
            drops=drops,
            now=now,
            config=config,
        )
        self.sparse: ReliableLane | None = None
        self.loose: LooseLane | None = None  # until the program above says that the peer takes it
        self.hold_bulk = False  # bulk messages that have arrived stay where they are

    def _open_sparse(self, now: float) -> ReliableLane:
        """The second lane; its units are single datagrams, of which none waits for another."""
        if self.sparse is None:
            self.sparse = ReliableLane(
                self._number ^ SPARSE,
                kcp_mtu=min(self.bulk.kcp.mtu, unit_bytes(1)),
                receive_window=self._window,
                drops=self._drops,
                now=now,
                config=self._config,
                beside=self.bulk,
            )
        return self.sparse

    # --- The program above ------------------------------------------------------------------

    def send_sparse(self, messages: Sequence[bytes], now: float) -> None:
        self._open_sparse(now).send(messages)

    @property
    def sparse_message_size(self) -> int:
        """Bytes of a message that fills one datagram of the sparse lane."""
        return min(self.bulk.kcp.mtu, unit_bytes(1)) - KCP_HEADER_SIZE

    @property
    def sparse_credit(self) -> int:
        """Bytes that may be given to `send_sparse` now; none if zero or less."""
        return INITIAL_WINDOW if self.sparse is None else self.sparse.credit

    @property
    def sparse_readable(self) -> bool:
        return self.sparse is not None and self.sparse.readable

    def open_loose(self, slice_size: int, now: float) -> LooseLane:
        """The datagram lane; `slice_size` as for `resize`. Idempotent."""
        if self.loose is None:
            self.loose = LooseLane(self.bulk.kcp.mtu, self._drops, now)
            self.loose.slice_size = slice_size
        return self.loose

    @property
    def loose_readable(self) -> bool:
        return self.loose is not None and self.loose.readable

    def progress(self) -> Progress:
        """How far both have come. HOT PATH."""
        bulk, sparse = self.bulk, self.sparse
        if sparse is None:
            return Progress(bulk.sent, bulk.kcp.recovery.arrived, 0, 0)
        return Progress(
            bulk.sent, bulk.kcp.recovery.arrived, sparse.sent, sparse.kcp.recovery.arrived
        )

    @property
    def in_flight(self) -> int:
        """Bytes given to either lane and not yet acknowledged."""
        return self.bulk.in_flight + (0 if self.sparse is None else self.sparse.in_flight)

    @property
    def oldest(self) -> int | None:
        """Number of the segment that has been on its way for longest, of bulk if there is one;
        None where nothing is.
        """
        oldest = self.bulk.kcp.oldest
        if oldest is None and self.sparse is not None:
            return self.sparse.kcp.oldest
        return oldest

    @property
    def held(self) -> int:
        """Bytes of all lanes that are kept: unread and unacknowledged. HOT PATH."""
        held = self.bulk.held if self.sparse is None else self.bulk.held + self.sparse.held
        return held if self.loose is None else held + self.loose.held

    @property
    def has_work(self) -> bool:
        """Whether something of either lane is not acknowledged."""
        return self.bulk.has_work or (self.sparse is not None and self.sparse.has_work)

    @property
    def rtt(self) -> float | None:
        """Seconds, smoothed, of the lane that knows; None before the first acknowledgement."""
        if self.bulk.rtt is None and self.sparse is not None:
            return self.sparse.rtt
        return self.bulk.rtt

    @property
    def lost_at(self) -> float:
        """When it was last found, on any lane, that the path loses something."""
        lost_at = self.bulk.lost_at
        if self.sparse is not None:
            lost_at = max(lost_at, self.sparse.lost_at)
        return lost_at if self.loose is None else max(lost_at, self.loose.meter.lost_at)

    @property
    def lossy(self) -> bool:
        """The path loses things, as far as one of the lanes has seen."""
        return self.bulk.lossy or (self.sparse is not None and self.sparse.lossy)

    @property
    def broken(self) -> bool:
        return self.bulk.broken or (self.sparse is not None and self.sparse.broken)

    def close(self) -> None:
        """Nothing more comes or goes; what has arrived can be read."""
        self.bulk.close()
        if self.sparse is not None:
            self.sparse.close()
        if self.loose is not None:
            self.loose.close()

    # --- The path ---------------------------------------------------------------------------

    def is_sparse_untrusted(self, unit: bytes) -> bool:
        """Which of the reliable lanes a unit belongs to. HOT PATH."""
        if not KCP_HEADER_SIZE <= len(unit) <= self.bulk.kcp.mtu:
            raise BadPacket("not_kcp")
        prefix = unit[:4]
        if prefix == self._bulk_prefix:
            return False
        if prefix != self._sparse_prefix:
            raise BadPacket("not_kcp")
        return True

    def receive_sparse_units(self, units: list[bytes], now: float) -> None:
        self._open_sparse(now).receive_units(units, now)

    def sparse_units_to_send(self, now: float, *, suspect: bool) -> list[bytes]:
        """As `ReliableLane.units_to_send`. Where the path loses things each leaves twice: whoever
        sends little has nothing coming behind it that would show a loss soon, and a copy of so
        little costs next to nothing.
        """
        sparse = self._open_sparse(now)
        units = sparse.units_to_send(now, suspect=suspect)
        if now - max(self.bulk.lost_at, sparse.lost_at) < LOSSY_FOR and not suspect:
            return units * 2
        return units

    def heard(self) -> None:
        """Something authentic came in: the peer is not silent. HOT PATH."""
        self.bulk.heard()
        if self.sparse is not None:
            self.sparse.heard()

    def asks(self, now: float) -> bool:
        """Acknowledgements are overdue: the peer should be asked with a ping, now."""
        return self.bulk.asks(now) or (self.sparse is not None and self.sparse.asks(now))

    def answered(self, now: float) -> None:
        """A ping was: if acknowledgements are overdue, the path has healed."""
        self.bulk.answered(now)
        if self.sparse is not None:
            self.sparse.answered(now)

    def repeat(self, now: float) -> None:
        """Send all that is under way again, at the pace of the path: it is lost."""
        self.bulk.repeat(now)
        if self.sparse is not None:
            self.sparse.repeat(now)

    def resize(self, slice_size: int) -> None:
        """The path takes slices of this size now. HOT PATH, of two comparisons."""
        if slice_size != self.bulk.slice_size:
            self.bulk.resize(slice_size)
        if self.sparse is not None and slice_size != self.sparse.slice_size:
            self.sparse.resize(slice_size)

    @property
    def flush_due(self) -> bool:
        """Whether `units_to_send` of a reliable lane has something. HOT PATH."""
        return self.bulk.flush_due or (self.sparse is not None and self.sparse.flush_due)

    def deadline(self) -> float:
        """When something of a lane has to be done; infinite when there is nothing to do."""
        due = self.bulk.deadline()
        if self.sparse is not None:
            due = min(due, self.sparse.deadline())
        return due if self.loose is None else min(due, self.loose.deadline())

    def handle_timeout(self, now: float) -> None:
        self.bulk.handle_timeout(now)
        if self.sparse is not None:
            self.sparse.handle_timeout(now)
