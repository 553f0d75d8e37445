"""Path MTU discovery: how large the datagrams of one session may be (DPLPMTUD, RFC 8899).

    begin(now)                       the peer is there
    probes(now, rtt)                 sizes of the probes that have to leave now
    acknowledged(size, epoch, now)   the peer has got a probe
    too_big(size, now)               the local interface does not take datagrams of that size
    watch(oldest, now, rtt)          what KCP waits for: notices a black hole
    doubt(now)                       somebody else has noticed what looks like one
    restart(now)                     there is another path
    peer_searches(epoch, now)        the peer has sent a probe of its own search
    hold(now)                        nothing is heard of the peer: no probes for a while
    size, due                        what to use now; when `probes` has something to say

Sizes are bytes of UDP payload. A probe is a padded control datagram that nobody needs, so its
loss costs nothing. What an acknowledged probe has proven is used at once. A size counts as too
large when none of `TRIES` probes of it came through, or when the interface refuses it.

The search begins with a few sizes side by side, of which the smallest passes everywhere: so it
tells a path that takes less from one that takes nothing. Then it tries what is common, then the
middle of what is open, until that is a few bytes. It begins anew on another path, and when
nothing of the session's data has got through for a while, whatever the reason: if it was not the
size, the old size is back after a round trip.

Invariants: `size` is at least `smallest`, always below what the interface has refused if that is
possible at all; each try, and each pause, is bounded in bytes and time. Pure; raises nothing.
"""

from __future__ import annotations

import enum
from math import inf
from typing import Final

from transport.constants import DATA_HEADER_SIZE, MAX_SLICES, SEALED_OVERHEAD, TAG_SIZE
from transport.wire.control import MTU_PROBE_SIZE, MtuProbe, encode_control
from transport.wire.trains import Address, PipeAddress

MTU_WATCH_INTERVAL: Final = 0.1  # between two looks whether data gets through at all

SMALLEST_SIZE: Final = 548  # every IPv4 host takes packets of 576 bytes (RFC 791)
BASE_SIZE: Final = 1200  # used unproven: fits IPv6's 1,280, with room for a tunnel (RFC 9000 s. 14)
USUAL_SIZE: Final = 1432  # IPv6 in PPPoE's 1,492, and 12 bytes to spare
LARGEST_SIZE: Final = 8972  # IPv4 in 9,000
# Tried before the middle of what is open: Ethernet, then jumbo frames, under IPv6 and IPv4.
RUNGS: Final = ((USUAL_SIZE,), (1452, 1472), (8952, LARGEST_SIZE))

TRIES: Final = 3  # MAX_PROBES of RFC 8899: at 10 % loss each way one in 150 sizes is misjudged
SHORTEST_WAIT: Final = 0.3  # seconds for an answer: three delayed wake-ups of a busy machine
LONGEST_WAIT: Final = 1.0  # seconds: a black hole must be left within 5 s
RETRY_AFTER: Final = 5.0  # seconds after a round in which nothing at all came through
RAISE_AFTER: Final = 600.0  # seconds until larger sizes are tried again (PMTU_RAISE_TIMER)

STALL_MIN: Final = 1.0  # seconds without progress that make a path suspect: ten timeouts of KCP
STALL_MAX: Final = 2.5  # seconds: before the peer counts as silent
STALL_ROUNDS: Final = 3  # round trips, if that is between: one of them repairs a plain loss
RESTART_INTERVAL: Final = 3.0  # seconds between two restarts for want of progress, or on hearsay


class Phase(enum.Enum):
    """How far the search is; the names are those of RFC 8899."""

    BASE = enum.auto()  # nothing speaks against the base size yet
    SEARCHING = enum.auto()  # the first probes had their time
    COMPLETE = enum.auto()  # what can be found is found


def grain(size: int) -> int:
    """Bytes that are not worth another round of probes."""
    return max(16, size // 64)


class PathMtu:
    """The search of one session, for what this side sends."""

    __slots__ = (
        "_asked",
        "_base",
        "_high",
        "_low",
        "_oldest",
        "_open",
        "_peer_epoch",
        "_phase",
        "_restarted",
        "_smallest",
        "_still_since",
        "_tries",
        "due",
        "epoch",
        "size",
    )

    def __init__(self, now: float, smallest: int = SMALLEST_SIZE) -> None:
        """`smallest`: with less a sealed unit would have more slices than the peer takes."""
        self._smallest = max(SMALLEST_SIZE, smallest)
        self._base = max(BASE_SIZE, self._smallest)
        self.epoch = 0  # of the search; its probes carry it, so that old answers are known
        self.size = self._base
        self.due = inf
        self._low = 0  # largest size that is proven; 0 for none
        self._high = LARGEST_SIZE + 1  # smallest size that is taken for too large
        self._peer_epoch = 0
        self._asked: set[int] = set()  # in this epoch
        self._open: list[int] = []  # of this round, without an answer, ascending
        self._tries = 0
        self._phase = Phase.BASE
        self._oldest: int | None = None
        self._still_since = self._restarted = now

    # --- The search -------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start searching, once the peer can answer. Idempotent."""
        if self.due == inf:
            self.restart(now)

    def hold(self, now: float) -> None:
        """Let a silent peer's path alone for a while; then go on."""
        self.due = now + LONGEST_WAIT

    def restart(self, now: float, below: int = LARGEST_SIZE + 1) -> None:
        """Know nothing any more, but that only sizes `below` can leave. The base is in use."""
        known, self._low, self._high = self._low, 0, below
        self.epoch = (self.epoch + 1) & 0xFFFFFFFF
        self._asked.clear()
        self._begin(self._first_sizes(known))
        self._phase = Phase.BASE
        self._restarted = self.due = now
        self._choose()

    def peer_searches(self, epoch: int, now: float) -> None:
        """A probe of the peer's search has come. If it searches anew, so do we: it may have seen
        the path change, or miss acknowledgements, whose loss nobody notices who sends nothing
        else. But not when we have just done so, or both would go on for ever.
        """
        if epoch > self._peer_epoch:
            known, self._peer_epoch = self._peer_epoch, epoch
            if known and self.due < inf and now - self._restarted >= RESTART_INTERVAL:
                self.restart(now)

    def probes(self, now: float, rtt: float | None) -> tuple[int, ...]:
        """Sizes of the probes that leave now; `rtt` in seconds, None if unknown."""
        if now < self.due:
            return ()
        if self._open and self._tries >= TRIES:
            self._phase = Phase.SEARCHING
            if self._low:
                self._high = min(self._high, self._open[0])
                self._open = []
            else:  # nothing comes through, however small: that tells nothing about sizes
                self._tries, self.due = 0, now + RETRY_AFTER
                return ()
        if not self._open:
            if self._phase is Phase.COMPLETE:
                self._high = LARGEST_SIZE + 1
                self._phase = Phase.BASE
            if self._low:
                self._phase = Phase.SEARCHING
            self._begin(self._next_sizes())
        if not self._open:
            self._phase = Phase.COMPLETE
            self.due = now + RAISE_AFTER
        else:
            self._tries += 1
            if self._tries > 1:
                self._phase = Phase.SEARCHING
            self._asked.update(self._open)
            wait = LONGEST_WAIT if rtt is None else 2 * rtt + 0.1
            self.due = now + min(LONGEST_WAIT, max(SHORTEST_WAIT, wait))
        self._choose()
        return tuple(self._open)

    def acknowledged(self, size: int, epoch: int, now: float) -> None:
        """A probe of this epoch has come through, perhaps after it was given up."""
        if epoch != self.epoch or size not in self._asked or size <= self._low:
            return
        self._low, self._high = size, max(self._high, size + 1)
        self._go_on(now)

    def too_big(self, size: int, now: float) -> None:
        """The local interface has refused datagrams of this size. Idempotent."""
        if size >= self._high or self.due == inf:
            return
        if size <= max(self._low, self.size):
            self.restart(now, size)
        else:
            self._high = size
            if self._phase is not Phase.COMPLETE:  # else nothing is left to try, and still less now
                self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Take what is settled out of this round, and begin the next if that was all."""
        self._open = [size for size in self._open if self._low < size < self._high]
        if not self._open:
            self.due = now
        self._choose()

    def _begin(self, sizes: list[int]) -> None:
        self._open, self._tries = sizes, 0

    def _first_sizes(self, known: int = 0) -> list[int]:
        wanted = {self._smallest, self._base, max(USUAL_SIZE, self._base), known}
        return sorted(size for size in wanted if self._smallest <= size < self._high)

    def _next_sizes(self) -> list[int]:
        low, high = self._low, self._high
        if not low:
            return self._first_sizes()
        for rungs in RUNGS:
            if sizes := [size for size in rungs if low < size < high]:
                return sizes
        return [(low + high) // 2] if high - low > grain(low) else []

    def _choose(self) -> None:
        base = self._base if self._base < self._high else self._smallest
        # Before the first probes had their time, missing answers say nothing against the base.
        proven = self._low and (self._low >= base or self._phase is not Phase.BASE)
        self.size = self._low if proven else base

    # --- Black holes ------------------------------------------------------------------------

    def watch(self, oldest: int | None, now: float, rtt: float | None) -> None:
        """`oldest`: number of the segment that has been on its way for longest, None for none.
        Call it a few times a second while there is one.
        """
        if oldest is None or oldest != self._oldest:
            self._oldest, self._still_since = oldest, now
            return
        patience = min(STALL_MAX, max(STALL_MIN, STALL_ROUNDS * (rtt or 0.0)))
        if now - self._still_since >= patience:
            self.doubt(now)

    def doubt(self, now: float) -> None:
        """So little gets through that the size may be why."""
        # Without a size that is proven, a search for what passes at all is under way.
        if self._low and now - self._restarted >= RESTART_INTERVAL:
            self.restart(now)


class Probing(PathMtu):
    """The search of one session on the path that it has now, as padded control datagrams.

    Probes go to the proven path alone, and none leaves while the peer is suspected to be gone. In a
    pipe nothing is searched, as it takes any datagram; the size then is only what units are counted
    in, so that a slow pipe gets no larger ones than a slow path.
    """

    __slots__ = ("_last", "path", "unanswered", "watch_at")

    def __init__(self, path: Address, now: float, *, largest_unit: int, max_slices: int) -> None:
        """`largest_unit`: bytes of its plaintext; `max_slices`: that the peer takes of one."""
        # With less than this a unit would have more slices than that.
        slices = min(MAX_SLICES, max_slices)
        super().__init__(now, DATA_HEADER_SIZE - (largest_unit + TAG_SIZE) // -slices)
        self.path = path  # that is searched
        self.watch_at = now  # when `watch` should be called again, while something is on its way
        self._last: tuple[float, list[int]] = (now, [])  # when, and the sizes of the last probes
        self.unanswered = 0
        if isinstance(path, PipeAddress):
            self._rest()

    def begin(self, now: float) -> None:
        """As there."""
        if not isinstance(self.path, PipeAddress):
            super().begin(now)

    def _rest(self) -> None:
        """Search nothing, and take answers to earlier probes for nothing."""
        self.epoch = (self.epoch + 1) & 0xFFFFFFFF
        self._asked.clear()
        self._low, self.size, self.due = 0, USUAL_SIZE, inf

    @property
    def slice_size(self) -> int:
        """Bytes of a sealed unit that one datagram of `size` carries."""
        return self.size - DATA_HEADER_SIZE

    def plaintexts(
        self, path: Address, now: float, rtt: float | None, *, suspect: bool
    ) -> list[tuple[bytes, int]]:
        """What to seal as control datagrams, each with the size that its datagram then has. To be
        called when it is `due`, or there is another `path`.
        """
        if path is not self.path:
            self.path = path
            if isinstance(path, PipeAddress):
                self._rest()
            else:
                self.restart(now)
        if isinstance(path, PipeAddress):
            return []
        if suspect:
            self.hold(now)
        self._last = (now, list(self.probes(now, rtt)))
        self.unanswered += len(self._last[1])
        epoch, around = self.epoch, SEALED_OVERHEAD + MTU_PROBE_SIZE
        return [(encode_control(MtuProbe(epoch, size - around)), size) for size in self._last[1]]

    def acknowledged(self, size: int, epoch: int, now: float) -> None:
        """A probe has come through; whatever the peer says is taken for its own trouble."""
        self.unanswered = max(0, self.unanswered - 1)
        super().acknowledged(size, epoch, now)

    def refused(self, size: int, datagrams: int, now: float) -> int:
        """So many datagrams of this size were refused here; how many of them were no probes."""
        if self._last[0] == now and size in self._last[1]:
            self._last[1].remove(size)
            datagrams -= 1  # a probe was for finding out
        self.too_big(size, now)
        return datagrams

    def watch(self, oldest: int | None, now: float, rtt: float | None) -> None:
        """As there; not before `watch_at`."""
        self.watch_at = now + MTU_WATCH_INTERVAL
        super().watch(oldest, now, rtt)
