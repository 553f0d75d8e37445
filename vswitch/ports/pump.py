"""Moving records from one device to another, as a member does between its TAP and its session.

Nothing is read while the sink is full, so the source's own queue holds the backlog: a kernel
that finds its TAP unread drops there, and TCP hears of it. Nothing is reordered, and nothing lost
but the batch that is on its way when a device ends, which is counted. For a sink that takes no
superframes they are cut on the way.

Whatever a device raises comes out of `run`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from vswitch.core.load import load_of
from vswitch.core.segment import without_superframes_untrusted
from vswitch.ports.device import Device, read_each

__all__ = ["BATCH", "Pump", "Tally"]

BATCH = 64  # records in one turn: about 100 µs of work, then others have theirs


@attrs.define
class Tally:
    """What went one way, through any number of pumps; counted as `vswitch.core.load` says."""

    frames: int = 0  # taken by a sink
    bytes: int = 0  # of those frames
    lost: int = 0  # frames read from a source whose sink ended before it took them
    dropped: int = 0  # frames that a full queue gave up
    delayed: int = 0  # frames that had waited too long in it
    refused: int = 0  # frames of superframes that were to be cut and cannot be


class Pump:
    """One direction between two devices, counted in `tally`."""

    def __init__(
        self,
        source: Device,
        sink: Device,
        tally: Tally,
        given: Callable[[], object] = lambda: None,
    ) -> None:
        """`given` is called when the sink has taken something."""
        self._source = source
        self._sink = sink
        self._tally = tally
        self._given = given
        self._rest: list[bytes] = []  # of a batch, while the sink is full

    async def run(self, early: list[bytes]) -> None:
        """Move `early`, then whatever the source gives, until cancelled."""
        try:
            if early:
                self._give(early)
            while True:
                if self._rest:
                    await self._sink.wait_writable()
                    self._write(self._rest)
                else:
                    await read_each(self._source, self._take)
        finally:
            self._tally.lost += load_of(self._rest).frames

    def _take(self) -> bool:
        """Move a batch; whether the sink took all of it. HOT PATH."""
        try:
            records = self._source.read_nowait(BATCH)
        except trio.WouldBlock:
            return True
        return self._give(records)

    def _give(self, records: list[bytes]) -> bool:
        if self._source.superframes and not self._sink.superframes:
            records = self._cut(records)
        return self._write(records)

    def _write(self, records: list[bytes]) -> bool:
        """What the sink does not take is the rest. HOT PATH."""
        self._rest = records
        taken = self._sink.write_nowait(records)
        self._rest = records[taken:]
        self._count(records[:taken] if self._rest else records)
        self._given()
        return not self._rest

    def _cut(self, records: list[bytes]) -> list[bytes]:
        mtu = min(self._source.mtu, self._sink.mtu)
        records, refused = without_superframes_untrusted(records, mtu)
        self._tally.refused += refused
        return records

    def _count(self, records: list[bytes]) -> None:
        load = load_of(records)
        self._tally.frames += load.frames
        self._tally.bytes += load.bytes
