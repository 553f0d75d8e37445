"""Old switches send a broadcast back to where it came from, when they know several stations there.

A bridge behind `join --via` would take each of those stations to be at the far end then, to and
fro. So what comes back under a source address that has just been sent from here is dropped, and
counted (`echo`). A station that has really moved to the other side is heard there `MEMORY` to twice
`MEMORY` after its last frame from here.

Invariant: at most twice `MOST` addresses are remembered. Everything else is the device's own doing,
errors too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import trio

from vswitch.foreign.kinds import ForeignDevice
from vswitch.foreign.streams import StreamDevice
from vswitch.frames.records import HEADER_SIZE
from vswitch.switch.device import Description

MEMORY: Final = 1.0  # seconds: round trip, and what waits on both ways
MOST: Final = 4096  # addresses
_SOURCE: Final = slice(HEADER_SIZE + 6, HEADER_SIZE + 12)  # of a frame's record


class RecentSources:
    """Source addresses of what was sent of late. `now` in seconds."""

    def __init__(self, now: float) -> None:
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()
        self._since = now  # of the new ones

    def note(self, records: Sequence[bytes], now: float) -> None:
        """These frames have been sent. HOT PATH."""
        if now - self._since >= MEMORY or len(self._new) >= MOST:
            self._turn(now)
        self._new.update([record[_SOURCE] for record in records])

    def without_echoes(self, records: list[bytes], now: float) -> list[bytes]:
        """Of frames that have come, those that were not sent from here. HOT PATH."""
        if now - self._since >= MEMORY:
            self._turn(now)
        new, old = self._new, self._old
        return [
            record
            for record in records
            if (source := record[_SOURCE]) not in new and source not in old
        ]

    def _turn(self, now: float) -> None:
        self._old = self._new if now - self._since < 2 * MEMORY else set()
        self._new, self._since = set(), now


def _ignore() -> None:
    pass


class EchoFilter:
    """Around a device towards somebody's switch. Implements `vswitch.switch.device.Device`."""

    superframes = False

    def __init__(self, device: ForeignDevice) -> None:
        self.name = device.name
        self.mtu = device.mtu
        self.dropped: Counter[str] = device.dropped
        self.on_blocked: Callable[[], None] = _ignore  # as that of the device, if it has one
        self._device = device
        self._sent = RecentSources(trio.current_time())
        if isinstance(device, StreamDevice):
            device.on_blocked = lambda: self.on_blocked()

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        return self._device.describe()

    async def wait_readable(self) -> None:
        await self._device.wait_readable()

    def read_nowait(self, limit: int) -> list[bytes]:
        # HOT PATH
        records = self._device.read_nowait(limit)
        kept = self._sent.without_echoes(records, trio.current_time())
        if len(kept) < len(records):
            self.dropped["echo"] += len(records) - len(kept)
            if not kept:
                raise trio.WouldBlock
        return kept

    async def wait_writable(self) -> None:
        await self._device.wait_writable()

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        taken = self._device.write_nowait(records)
        self._sent.note(records if taken == len(records) else records[:taken], trio.current_time())
        return taken

    def close(self) -> None:
        self._device.close()

    async def aclose(self) -> None:
        await self._device.aclose()
