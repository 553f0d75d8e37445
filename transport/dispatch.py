"""What leaves: a session's plaintexts, sealed under its keys and laid in trains.

    seal_control(items, now)            control items, together by address
    seal_probe(plaintext, size)         one that tries a size
    seal_units(lane, units, bulk, now)  of a reliable lane; large ones may leave in pieces
    seal_loose(units, slice_size)       of the datagram lane
    take()                              all of that, in order

Pure; `now` in seconds. Error contract: `KeyExhausted` from everything that seals; what was sealed
before stays, and `take` gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from transport.constants import MAX_CONTROL_ITEMS
from transport.control import ControlItem, Ping, encode_control
from transport.keyring import Keyring
from transport.lane import ReliableLane
from transport.liveness import Liveness
from transport.paths import Address, PathTable
from transport.trains import Train, cut, lay
from transport.trickle import Trickle
from transport.wire import CONTROL, DATA, LOOSE

__all__ = ["Dispatch", "Outgoing"]

Outgoing = list[Train]

FEW: Final = 4  # datagrams of a unit that costs less to lay beside others than to send by itself


class Dispatch:
    """The way out of one session."""

    __slots__ = (
        "_keys",
        "_liveness",
        "_out",
        "_paths",
        "sent_bytes",
        "sent_datagrams",
        "trickle",
    )

    def __init__(self, keys: Keyring, paths: PathTable, liveness: Liveness) -> None:
        self._keys = keys
        self._paths = paths
        self._liveness = liveness
        self._out: Outgoing = []
        self.trickle = Trickle()
        self.sent_datagrams = self.sent_bytes = 0

    def take(self) -> Outgoing:
        """Everything sealed since the last time."""
        out, self._out = self._out, []
        return out

    def refused(self, size: int, datagrams: int) -> None:
        """So many of this size did not leave after all."""
        self.sent_datagrams -= datagrams
        self.sent_bytes -= datagrams * size

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
        seal, address = self._keys.current.sealer.seal_unit, self._paths.current
        small: list[bytes] = []  # units of one datagram each, in their order
        burst = lane.burst
        for unit in units:
            train, size = seal(DATA, unit, lane.slice_size)
            if len(train) <= size:
                small.append(bytes(train))
                continue
            if small:
                self._put(*lay(small, address))
                small = []
            if len(train) > burst * size:
                first = self.trickle.add(train, size, burst, bulk.spacing, now)
                if first is not None:
                    self._put((first[0], address, size))
                bulk.kcp.recovery.leaves_until(self.trickle.done_at(now))
            else:
                self._put((train, address, size))
        if small:
            self._put(*lay(small, address))
        self._liveness.sent(now, wants_answer=lane.has_work)

    def next_piece(self, now: float) -> None:
        """The piece of a large unit that is due."""
        train, size = self.trickle.next(now)
        self._put((train, self._paths.current, size))

    def seal_loose(self, units: Sequence[bytes], slice_size: int, now: float) -> None:
        """Units of the datagram lane. HOT PATH of that lane."""
        if not units:
            return
        seal, address = self._keys.current.sealer.seal_unit, self._paths.current
        small: list[bytes] = []
        for unit in units:
            train, size = seal(LOOSE, unit, slice_size)
            if len(train) <= FEW * size:  # frames of one size make one train of all their slices
                small += cut((train, address, size))
                continue
            self._put(*lay(small, address), (train, address, size))
            small = []
        self._put(*lay(small, address))
        self._liveness.sent(now, wants_answer=True)

    def _put(self, *trains: Train) -> None:
        for data, _, size in trains:
            self.sent_datagrams += -(-len(data) // size)
            self.sent_bytes += len(data)
        self._out += trains
