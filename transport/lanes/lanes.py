"""The lanes of a session: bulk, sparse for what must not wait behind it, and datagrams.

To the program above each is an object with the same face:

    message_size, max_message   bytes of a message: that fills a unit or datagram now, and at most
    credit                      bytes that may be given to `send` now; none if zero or less
    send(messages, now)         queue them; the session seals what has to leave
    readable, take_messages()   what has arrived

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

from transport.congestion.choice import DEFAULT_CONFIG, TransportConfig
from transport.congestion.controller import INITIAL_WINDOW
from transport.constants import KCP_HEADER_SIZE, MAX_FRAGMENTS
from transport.errors import BadPacket
from transport.lanes.datagram import DatagramLane
from transport.lanes.reliable import ReliableLane
from transport.lanes.units import unit_bytes
from transport.wire.trains import PipeAddress

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


class SparseLane:
    """A reliable lane beside the bulk one, whose units are single datagrams, of which none waits
    for another.
    """

    __slots__ = ("_bulk", "_closed", "_config", "_drops", "_number", "_window", "reliable")

    def __init__(
        self,
        number: int,
        bulk: ReliableLane,
        receive_window: int,
        drops: Counter[str],
        config: TransportConfig,
    ) -> None:
        self._config = config
        self._number = number
        self._bulk = bulk
        self._window = receive_window
        self._drops = drops
        self._closed = False
        self.reliable: ReliableLane | None = None  # until something is sent or comes

    def _opened(self, now: float) -> ReliableLane:
        if self.reliable is None:
            self.reliable = ReliableLane(
                self._number,
                kcp_mtu=min(self._bulk.mtu, unit_bytes(1)),
                receive_window=self._window,
                drops=self._drops,
                now=now,
                config=self._config,
                beside=self._bulk,
            )
            self.reliable.resize(self._bulk.slice_size)
            if self._bulk.in_pipe:
                self.reliable.change_path(in_pipe=True, now=now)
        return self.reliable

    @property
    def message_size(self) -> int:
        """Bytes of a message that fills one datagram."""
        return min(self._bulk.mtu, unit_bytes(1)) - KCP_HEADER_SIZE

    @property
    def max_message(self) -> int:
        """Bytes of the largest message."""
        return self.message_size * MAX_FRAGMENTS

    @property
    def credit(self) -> int:
        """Bytes that may be given to `send` now; none if zero or less."""
        return INITIAL_WINDOW if self.reliable is None else self.reliable.credit

    @property
    def readable(self) -> bool:
        return self.reliable is not None and self.reliable.readable

    def send(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages, in order among themselves; after the end, none."""
        if not self._closed:
            self._opened(now).send(messages, now)

    def take_messages(self) -> list[bytes]:
        """All messages that have arrived, in order."""
        return [] if self.reliable is None else self.reliable.take_messages()

    def receive_units(self, units: list[bytes], now: float) -> bool:
        """As `ReliableLane.receive_units`."""
        return self._opened(now).receive_units(units, now)

    def units_to_send(self, now: float, *, suspect: bool) -> list[bytes]:
        """As `ReliableLane.units_to_send`. Where the path loses things each leaves twice: whoever
        sends little has nothing coming behind it that would show a loss soon, and a copy of so
        little costs next to nothing.
        """
        reliable = self._opened(now)
        units = reliable.units_to_send(now, suspect=suspect)
        if now - max(self._bulk.lost_at, reliable.lost_at) < LOSSY_FOR and not (
            suspect or reliable.in_pipe
        ):
            return units * 2
        return units

    def close(self) -> None:
        """Nothing more comes or goes; what has arrived can be read."""
        self._closed = True
        if self.reliable is not None:
            self.reliable.close()


class Lanes:
    """All lanes of one session, and what is asked of them together."""

    __slots__ = (
        "_bulk_prefix",
        "_drops",
        "_sparse_prefix",
        "bulk",
        "datagrams",
        "hold_bulk",
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
        parity: bool = False,
    ) -> None:
        """See `ReliableLane`; `number` is that of the bulk lane."""
        self._drops = drops
        self._bulk_prefix = number.to_bytes(4, "little")
        self._sparse_prefix = (number ^ SPARSE).to_bytes(4, "little")
        self.bulk = ReliableLane(
            number,
            kcp_mtu=kcp_mtu,
            receive_window=receive_window,
            drops=drops,
            now=now,
            config=config,
            parity=parity,
        )
        self.sparse = SparseLane(number ^ SPARSE, self.bulk, receive_window, drops, config)
        self.datagrams: DatagramLane | None = None  # until the program above has opened it
        self.hold_bulk = False  # bulk messages that have arrived stay where they are

    def open_datagrams(self, slice_size: int, now: float) -> DatagramLane:
        """The datagram lane; `slice_size` as for `resize`. Idempotent."""
        if self.datagrams is None:
            self.datagrams = DatagramLane(self.bulk.mtu, self._drops, now)
            self.datagrams.slice_size = slice_size
            self.datagrams.in_pipe = self.bulk.in_pipe
        return self.datagrams

    @property
    def _reliable(self) -> tuple[ReliableLane, ...]:
        sparse = self.sparse.reliable
        return (self.bulk,) if sparse is None else (self.bulk, sparse)

    def progress(self) -> Progress:
        """How far both reliable lanes have come. HOT PATH."""
        bulk, sparse = self.bulk, self.sparse.reliable
        if sparse is None:
            return Progress(bulk.sent, bulk.arrived, 0, 0)
        return Progress(bulk.sent, bulk.arrived, sparse.sent, sparse.arrived)

    @property
    def in_flight(self) -> int:
        """Bytes given to the reliable lanes and not yet acknowledged."""
        return sum(lane.in_flight for lane in self._reliable)

    @property
    def oldest(self) -> int | None:
        """Number of the segment that has been on its way for longest, of bulk if there is one;
        None where nothing is.
        """
        for lane in (self.bulk, self.sparse.reliable):
            if lane is not None and lane.kcp.recovery.unacknowledged:
                return lane.kcp.recovery.oldest
        return None

    @property
    def held(self) -> int:
        """Bytes of all lanes that are kept: unread and unacknowledged. HOT PATH."""
        sparse = self.sparse.reliable
        held = self.bulk.held if sparse is None else self.bulk.held + sparse.held
        return held if self.datagrams is None else held + self.datagrams.held

    @property
    def has_work(self) -> bool:
        """Whether something of a reliable lane is not acknowledged."""
        return any(lane.has_work for lane in self._reliable)

    @property
    def rtt(self) -> float | None:
        """Seconds, smoothed, of the lane that knows; None before the first acknowledgement."""
        rtt, sparse = self.bulk.congestion.rtt, self.sparse.reliable
        return sparse.congestion.rtt if rtt is None and sparse is not None else rtt

    @property
    def lost_at(self) -> float:
        """When it was last found, on any lane, that the path loses something."""
        lost_at = max(lane.lost_at for lane in self._reliable)
        return lost_at if self.datagrams is None else max(lost_at, self.datagrams.meter.lost_at)

    @property
    def lossy(self) -> bool:
        """The path loses things, as far as one of the lanes has seen."""
        return any(lane.lossy for lane in self._reliable)

    @property
    def broken(self) -> bool:
        """Whether the peer can never be understood again. HOT PATH."""
        sparse = self.sparse.reliable
        return self.bulk.broken or (sparse is not None and sparse.broken)

    def close(self) -> None:
        """Nothing more comes or goes; what has arrived can be read, and all else is let go.
        Idempotent.
        """
        self.bulk.close()
        self.sparse.close()
        if self.datagrams is not None:
            self.datagrams.close()

    def throw_away(self) -> None:
        """The end, if it has not come yet, and nobody will read what has arrived. Idempotent."""
        self.close()
        for lane in self._reliable:
            lane.throw_away()
        if self.datagrams is not None:
            self.datagrams.throw_away()

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

    def heard(self) -> None:
        """Something authentic came in: the peer is not silent. HOT PATH."""
        if self.bulk.probe_allowed_at:
            self.bulk.heard()
        sparse = self.sparse.reliable
        if sparse is not None and sparse.probe_allowed_at:
            sparse.heard()

    @property
    def overdue(self) -> bool:
        """Whether acknowledgements of the bulk lane are."""
        return self.bulk.overdue

    def wants_ping(self, now: float) -> bool:
        """Acknowledgements are overdue: the peer should be asked with a ping, now."""
        return any(lane.wants_ping(now) for lane in self._reliable)

    def on_pong(self, now: float) -> None:
        """A ping was answered: if acknowledgements are overdue, the path has healed."""
        for lane in self._reliable:
            lane.on_pong(now)

    def repeat(self, now: float) -> None:
        """Send all that is under way again, at the pace of the path: it is lost."""
        for lane in self._reliable:
            lane.repeat(now)

    def change_path(self, pipe: PipeAddress | None, now: float) -> None:
        """Everything leaves by a pipe from now on, or by none any more: it is lost where it is, and
        what is known of the path is of another.
        """
        for lane in self._reliable:
            lane.change_path(in_pipe=pipe is not None, now=now)
        if self.datagrams is not None:
            self.datagrams.in_pipe = pipe is not None

    @property
    def waiting(self) -> bool:
        """Whether something could leave, if there were room and the pace allowed it."""
        datagrams = self.datagrams
        return any(lane.waiting for lane in self._reliable) or (
            datagrams is not None and datagrams.flush_due
        )

    def go_on(self) -> None:
        """There may be room for what waits."""
        for lane in self._reliable:
            lane.flush_due |= lane.waiting

    def resize(self, slice_size: int) -> None:
        """The path takes slices of this size now. HOT PATH, of two comparisons."""
        if slice_size != self.bulk.slice_size:
            self.bulk.resize(slice_size)
        sparse = self.sparse.reliable
        if sparse is not None and slice_size != sparse.slice_size:
            sparse.resize(slice_size)

    @property
    def flush_due(self) -> bool:
        """Whether `units_to_send` of a reliable lane has something. HOT PATH."""
        sparse = self.sparse.reliable
        return self.bulk.flush_due or (sparse is not None and sparse.flush_due)

    def deadline(self) -> float:
        """When something of a lane has to be done; infinite when there is nothing to do."""
        due, sparse = self.bulk.deadline(), self.sparse.reliable
        if sparse is not None:
            due = min(due, sparse.deadline())
        return due if self.datagrams is None else min(due, self.datagrams.deadline())

    def handle_timeout(self, now: float) -> None:
        for lane in self._reliable:
            lane.handle_timeout(now)
