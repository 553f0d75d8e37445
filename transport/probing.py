"""The probes of one session: what `pathmtu.py` wants to know, as padded control datagrams.

    due_on(path, now)                   probes have to leave, or the path is another one
    plaintexts(path, now, ...)          for the probes that leave now, with their sizes
    acknowledged(size, epoch, now)      the peer has got one
    refused(size, datagrams, now)       the local interface did not take what we sent
    watch(oldest, now, rtt)             what KCP waits for: a few looks a second are enough
    doubt(now)                          what is not KCP's has hardly come through
    size                                bytes of a datagram on this path, as far as is known
    slice_size                          of these, for a slice of a sealed unit
    unanswered                          probes that left and were not acknowledged

Probes go to the proven path alone, and none leaves while the peer is suspected to be gone. Pure;
`now` in seconds; raises nothing.
"""

from __future__ import annotations

from transport.constants import (
    DATA_HEADER_SIZE,
    MAX_SLICES,
    MTU_WATCH_INTERVAL,
    SEALED_OVERHEAD,
    TAG_SIZE,
)
from transport.control import MTU_PROBE_SIZE, MtuProbe, encode_control
from transport.pathmtu import PathMtu
from transport.paths import Address

__all__ = ["Probing"]


class Probing:
    """The search of one session on the path that it has now."""

    __slots__ = ("_last", "_path", "_search", "_watch_at", "unanswered")

    def __init__(self, path: Address, now: float, *, largest_unit: int, max_slices: int) -> None:
        """`largest_unit`: bytes of its plaintext; `max_slices`: that the peer takes of one."""
        # With less than this a unit would have more slices than that.
        slices = min(MAX_SLICES, max_slices)
        smallest = DATA_HEADER_SIZE - (largest_unit + TAG_SIZE) // -slices
        self._search = PathMtu(now, smallest)
        self._path, self._watch_at = path, now
        self._last: tuple[float, list[int]] = (now, [])  # when, and the sizes of the last probes
        self.unanswered = 0

    @property
    def size(self) -> int:
        """Bytes of UDP payload that the path takes. HOT PATH."""
        return self._search.size

    @property
    def slice_size(self) -> int:
        """Bytes of a sealed unit that one such datagram carries. HOT PATH."""
        return self._search.size - DATA_HEADER_SIZE

    @property
    def due(self) -> float:
        """When `plaintexts` has something to say; infinite before `begin`."""
        return self._search.due

    def begin(self, now: float) -> None:
        """The peer is there. Idempotent."""
        self._search.begin(now)

    def due_on(self, path: Address, now: float) -> bool:
        """Whether `plaintexts` should be called. HOT PATH, of two comparisons."""
        return now >= self._search.due or path is not self._path

    def plaintexts(
        self, path: Address, now: float, rtt: float | None, *, suspect: bool
    ) -> list[tuple[bytes, int]]:
        """What to seal as control datagrams, each with the size that its datagram then has."""
        if path is not self._path:
            self._path = path
            self._search.restart(now)
        if suspect:
            self._search.hold(now)
        self._last = (now, list(self._search.probes(now, rtt)))
        self.unanswered += len(self._last[1])
        epoch, around = self._search.epoch, SEALED_OVERHEAD + MTU_PROBE_SIZE
        return [(encode_control(MtuProbe(epoch, size - around)), size) for size in self._last[1]]

    def acknowledged(self, size: int, epoch: int, now: float) -> None:
        """A probe has come through; whatever the peer says is taken for its own trouble."""
        self.unanswered = max(0, self.unanswered - 1)
        self._search.acknowledged(size, epoch, now)

    def peer_searches(self, epoch: int, now: float) -> None:
        """A probe of the peer's own search has come."""
        self._search.peer_searches(epoch, now)

    def refused(self, size: int, datagrams: int, now: float) -> int:
        """So many datagrams of this size were refused here; how many of them were no probes."""
        if self._last[0] == now and size in self._last[1]:
            self._last[1].remove(size)
            datagrams -= 1  # a probe was for finding out
        self._search.too_big(size, now)
        return datagrams

    def doubt(self, now: float) -> None:
        """Datagrams that nobody repeats have hardly come through."""
        self._search.doubt(now)

    def watch(self, oldest: int | None, now: float, rtt: float | None) -> None:
        """`oldest`: number of the segment that has been on its way for longest, None for none."""
        if now >= self._watch_at:
            self._watch_at = now + MTU_WATCH_INTERVAL
            self._search.watch(oldest, now, rtt)
