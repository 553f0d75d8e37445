"""One heap of deadlines for everything that an endpoint has to wake for.

An entry whose deadline moves later stays where it is until it is the first, and then moves there;
only an earlier deadline is pushed. So a busy session, whose deadline moves with every batch, costs
a comparison or two each time and wakes nobody, and an idle one nothing. Outdated entries are at
most about as many as valid ones.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, Generic, Protocol, TypeVar

_SLACK: Final = 64  # entries below which nobody counts what is outdated


class Timed(Protocol):
    """Something with a deadline. The two numbers belong to the heap."""

    timer: float | None  # when to wake for it; None for never
    entry: float | None  # where its entry in the heap is: there, or earlier

    def deadline(self) -> float: ...


T = TypeVar("T", bound=Timed)


class TimerHeap(Generic[T]):
    """Deadlines in order."""

    __slots__ = ("_compact_at", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._serial = 0
        self._compact_at = _SLACK

    def schedule(self, timed: T) -> float:
        """Wake for `timed` at its deadline, which is returned. HOT PATH."""
        timed.timer = due = timed.deadline()
        if timed.entry is None or due < timed.entry:
            timed.entry = due
            self._serial += 1  # ties must not compare the entries themselves
            heappush(self._heap, (due, self._serial, timed))
            if len(self._heap) > self._compact_at:
                self._compact()
        return due

    def _compact(self) -> None:
        """Throw out what would be skipped anyway, once that may be half of the heap."""
        self._heap = [entry for entry in self._heap if entry[2].entry == entry[0]]
        heapify(self._heap)
        self._compact_at = 2 * len(self._heap) + _SLACK

    def cancel(self, timed: T) -> None:
        """Forget it; its entries in the heap are skipped when they come up."""
        timed.timer = timed.entry = None

    def next(self) -> float | None:
        """The earliest deadline. HOT PATH."""
        heap = self._heap
        while heap:
            when, _, timed = heap[0]
            timer = timed.timer
            if timed.entry != when or timer is None:
                heappop(heap)
            elif timer > when:
                timed.entry = timer
                self._serial += 1
                heapreplace(heap, (timer, self._serial, timed))
            else:
                return when
        return None

    def due(self, now: float) -> list[T]:
        """What has come up; to be scheduled again by the caller."""
        ready: list[T] = []
        while (due := self.next()) is not None and due <= now:
            timed = heappop(self._heap)[2]
            timed.timer = timed.entry = None
            ready.append(timed)
        return ready
