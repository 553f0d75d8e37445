"""The outbox of a session: plaintexts are sealed under its keys and laid in trains.

    seal_control(items, now)            control items, together by address
    seal_probe(plaintext, size)         one that tries a size
    seal_units(lane, units, bulk, now)  of a reliable lane; large ones may leave in pieces
    seal_datagrams(units, size, now)    of the datagram lane
    seal_whole(kind, units, now)        of any lane, for a pipe
    next_piece(now)                     of a unit that was sealed whole and leaves in pieces
    take()                              all of that, in order

A unit keeps its size when it is sent again, and may be from a time when the path was faster. All at
once it would be longer than the queue before the narrowest place, and never get through; so its
datagrams leave a few at a time, with a pause after each few.

Pure; `now` in seconds. Error contract: `KeyExhausted` from everything that seals; what was sealed
before stays, and `take` gives it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from transport.constants import MAX_CONTROL_ITEMS, TAG_SIZE
from transport.lanes.reliable import ReliableLane
from transport.path.address import PathTable
from transport.path.keepalive import Liveness
from transport.session.keyring import Keyring
from transport.wire.control import ControlItem, Ping, encode_control
from transport.wire.datagrams import CONTROL, DATA, DATAGRAM
from transport.wire.trains import Address, Bytes, Train, cut, lay

FEW: Final = 4  # datagrams of a unit that costs less to lay beside others than to send by itself

Outgoing = list[Train]
Piece = tuple[Bytes, int]
"""A train's bytes, and the size of its datagrams."""


class PacedPieces:
    """The pieces of large units that wait until the path has room for them."""

    __slots__ = ("_pieces", "at")

    def __init__(self) -> None:
        self._pieces: deque[tuple[Bytes, int, float]] = deque()  # with the pause after each
        self.at = inf  # when the next is due

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, train: Bytes, size: int, burst: int, pause: float, now: float) -> Piece | None:
        """Cut a train into pieces of `burst` datagrams. Gives the first if it may leave at once."""
        step = burst * size
        self._pieces += [(train[at : at + step], size, pause) for at in range(0, len(train), step)]
        if self.at < inf:
            return None
        self.at = now + pause
        first, size, _ = self._pieces.popleft()
        return first, size

    def next(self, now: float) -> Piece:
        """The piece that is due."""
        train, size, pause = self._pieces.popleft()
        self.at = now + pause if self._pieces else inf
        return train, size

    def done_at(self, now: float) -> float:
        """When the last has left, about."""
        return now + sum(pause for _, _, pause in self._pieces)

    def clear(self) -> None:
        """Forget all of them."""
        self._pieces.clear()
        self.at = inf


class Outbox:
    """The way out of one session."""

    __slots__ = (
        "_keys",
        "_liveness",
        "_out",
        "_paths",
        "paced",
        "sent_bytes",
        "sent_datagrams",
    )

    def __init__(self, keys: Keyring, paths: PathTable, liveness: Liveness) -> None:
        self._keys = keys
        self._paths = paths
        self._liveness = liveness
        self._out: Outgoing = []
        self.paced = PacedPieces()
        self.sent_datagrams = self.sent_bytes = 0

    def take(self) -> Outgoing:
        """Everything sealed since the last time."""
        out, self._out = self._out, []
        return out

    @property
    def waiting(self) -> int:
        """Bytes sealed since then."""
        return sum(len(data) for data, _, _ in self._out)

    def refused(self, datagrams: int, octets: int) -> None:
        """So many, with so many bytes, did not leave after all."""
        self.sent_datagrams -= datagrams
        self.sent_bytes -= octets

    def seal_control(
        self, queued: Iterable[tuple[Address | None, ControlItem]], now: float
    ) -> None:
        """Items, each with the address that it has to go to or None for the path in use."""
        # Together by address: as answers to many items of one datagram they stay as small as it.
        by_address: dict[Address, list[ControlItem]] = {}
        for address, item in queued:
            by_address.setdefault(address or self._paths.current, []).append(item)
            if isinstance(item, Ping):
                self._liveness.sent(now, wants_answer=True)
        for address, items in by_address.items():
            for at in range(0, len(items), MAX_CONTROL_ITEMS):
                plaintext = encode_control(*items[at : at + MAX_CONTROL_ITEMS])
                datagram = self._keys.current.sealer.seal(CONTROL, plaintext)
                self._put((datagram, address, len(datagram)))

    def seal_probe(self, plaintext: bytes, size: int) -> None:
        """One whose datagram has this size, to the path that is proven."""
        datagram = self._keys.current.sealer.seal(CONTROL, plaintext)
        self._put((datagram, self._paths.current, size))

    def seal_units(
        self, lane: ReliableLane, units: Sequence[bytes], bulk: ReliableLane, now: float
    ) -> None:
        """Units of a lane; `bulk`: the one whose large units may leave in pieces. HOT PATH."""
        if not units:
            return
        sealer, address, slice_size = (
            self._keys.current.sealer,
            self._paths.current,
            lane.slice_size,
        )
        liveness = self._liveness
        if len(units) == 1 and len(units[0]) + TAG_SIZE <= slice_size:  # a lone packet
            datagram = sealer.seal(DATA, units[0])
            size = len(datagram)
            self._out.append((datagram, address, size))
            self.sent_datagrams += 1
            self.sent_bytes += size
            liveness.sent(now, wants_answer=liveness.awaiting is None and lane.has_work)
            return
        seal = sealer.seal_unit
        small: list[bytes] = []  # units of one datagram each, in their order
        burst = lane.burst
        for unit in units:
            train, size = seal(DATA, unit, slice_size)
            if len(train) <= size:
                small.append(bytes(train))
                continue
            if small:
                self._put(*lay(small, address))
                small = []
            if len(train) > burst * size:
                first = self.paced.add(train, size, burst, bulk.spacing, now)
                if first is not None:
                    self._put((first[0], address, size))
                bulk.leaves_until(self.paced.done_at(now))
            else:
                self._put((train, address, size))
        if small:
            self._put(*lay(small, address))
        liveness.sent(now, wants_answer=liveness.awaiting is None and lane.has_work)

    def next_piece(self, now: float) -> None:
        """The piece of a large unit that is due."""
        train, size = self.paced.next(now)
        self._put((train, self._paths.current, size))

    def seal_datagrams(self, units: Sequence[bytes], slice_size: int, now: float) -> None:
        """Units of the datagram lane. HOT PATH of that lane."""
        if not units:
            return
        seal, address = self._keys.current.sealer.seal_unit, self._paths.current
        small: list[bytes] = []
        for unit in units:
            train, size = seal(DATAGRAM, unit, slice_size)
            if len(train) <= FEW * size:  # frames of one size make one train of all their slices
                small += cut((train, address, size))
                continue
            self._put(*lay(small, address), (train, address, size))
            small = []
        self._put(*lay(small, address))
        self._liveness.sent(now, wants_answer=True)

    def seal_whole(
        self, kind: int, units: Sequence[bytes], now: float, *, wants_answer: bool = True
    ) -> None:
        """Units of a lane, for a pipe: each is one datagram, whatever its size."""
        if not units:
            return
        seal, address = self._keys.current.sealer.seal, self._paths.current
        for unit in units:
            datagram = seal(kind, unit)
            self._put((datagram, address, len(datagram)))
        self._liveness.sent(now, wants_answer=wants_answer)

    def _put(self, *trains: Train) -> None:
        for data, _, size in trains:
            self.sent_datagrams += -(-len(data) // size)
            self.sent_bytes += len(data)
        self._out += trains
