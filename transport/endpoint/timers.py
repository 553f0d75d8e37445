"""One heap of deadlines for everything that an endpoint has to wake for.

An entry whose deadline moves later stays where it is and is asked again when it comes up; only
an earlier deadline is pushed. So a busy session, whose deadline moves with every batch, costs
one comparison each time, and an idle one nothing. Outdated entries are at most about as many as
valid ones.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final, Generic, Protocol, TypeVar

_SLACK: Final = 64  # entries below which nobody counts what is outdated


class Timed(Protocol):
    """Something with a deadline. `timer` belongs to the heap."""

    timer: float | None

    def deadline(self) -> float: ...


T = TypeVar("T", bound=Timed)


class TimerHeap(Generic[T]):
    """Deadlines in order."""

    __slots__ = ("_compact_at", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._serial = 0
        self._compact_at = _SLACK

    def schedule(self, timed: T) -> None:
        """Wake for `timed` no later than its deadline. HOT PATH."""
        due = timed.deadline()
        if timed.timer is None or due < timed.timer:
            timed.timer = due
            self._serial += 1  # ties must not compare the entries themselves
            heappush(self._heap, (due, self._serial, timed))
            if len(self._heap) > self._compact_at:
                self._compact()

    def _compact(self) -> None:
        """Throw out what would be skipped anyway, once that may be half of the heap."""
        self._heap = [entry for entry in self._heap if entry[2].timer == entry[0]]
        heapify(self._heap)
        self._compact_at = 2 * len(self._heap) + _SLACK

    def cancel(self, timed: T) -> None:
        """Forget it; its entries in the heap are skipped when they come up."""
        timed.timer = None

    def next(self) -> float | None:
        """The earliest deadline."""
        heap = self._heap
        while heap and heap[0][2].timer != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[T]:
        """What has come up; to be scheduled again by the caller."""
        ready: list[T] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _, timed = heappop(heap)
            if timed.timer == when:
                timed.timer = None
                ready.append(timed)
        return ready
