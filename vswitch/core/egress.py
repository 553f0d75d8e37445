"""The frames that wait for one port's device: a bounded queue that drops at its tail.

Invariants: order is kept; never more than `max_frames` records, a superframe being one, or
`max_bytes` bytes; what does not fit is refused at once, so that a slow port costs its own traffic
and nobody else's. Small frames may still fit behind a refused large one, as in the kernel's bfifo.
Pure.
"""

from __future__ import annotations

from collections import deque

from vswitch.core.load import load_of

__all__ = ["MAX_QUEUED_BYTES", "MAX_QUEUED_FRAMES", "EgressQueue"]

# Both bound the delay that a queue can add. 512 frames of 1,514 bytes are 60 ms at 100 Mbit/s,
# about the tail that a network card keeps.
MAX_QUEUED_FRAMES = 512
# The same in bytes, so that superframes of 64 KiB cannot turn 512 frames into 32 MiB a port.
MAX_QUEUED_BYTES = 512 * 1024


class EgressQueue:
    """Records in order, bounded in number and in bytes (record headers included)."""

    __slots__ = ("_records", "bytes", "max_bytes", "max_frames")

    def __init__(
        self, max_frames: int = MAX_QUEUED_FRAMES, max_bytes: int = MAX_QUEUED_BYTES
    ) -> None:
        if max_frames < 1 or max_bytes < 1:
            raise ValueError("an egress queue holds at least one frame and one byte")
        self.max_frames = max_frames
        self.max_bytes = max_bytes
        self.bytes = 0  # of all queued records
        self._records: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def frames(self) -> int:
        """How many frames the queued records stand for; looks at each of them."""
        return load_of(self._records).frames

    def offer(self, records: list[bytes]) -> list[bytes]:
        """Append what fits, in order. Gives the records that were refused."""
        size = sum(map(len, records))
        free = self.max_frames - len(self._records)
        if len(records) <= free and self.bytes + size <= self.max_bytes:
            self._records.extend(records)
            self.bytes += size
            return []
        refused: list[bytes] = []
        room = self.max_bytes - self.bytes
        for record in records:
            if free > 0 and len(record) <= room:
                self._records.append(record)
                free -= 1
                room -= len(record)
            else:
                refused.append(record)
        self.bytes = self.max_bytes - room
        return refused

    def take(self, max_bytes: int) -> list[bytes]:
        """Remove records from the front, up to `max_bytes` but at least one; none when empty."""
        queued = self._records
        taken: list[bytes] = []
        size = 0
        while queued and (not taken or size + len(queued[0]) <= max_bytes):
            record = queued.popleft()
            size += len(record)
            taken.append(record)
        self.bytes -= size
        return taken

    def put_back(self, records: list[bytes]) -> None:
        """Return to the front, in their order, records that `take` gave and nobody wanted."""
        self._records.extendleft(reversed(records))
        self.bytes += sum(map(len, records))

    def clear(self) -> None:
        """Remove everything."""
        self._records.clear()
        self.bytes = 0
