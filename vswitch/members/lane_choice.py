"""The lane for a session's frames: kcp, datagram, or auto, which goes by the loss of the path.

 kcp        reliable, in order; the default
 datagram   as they are: what the path loses is lost
 auto       datagram while the path loses next to nothing, kcp as soon as it does

The member wishes for one in its hello, the switch says in its welcome which is in force, and each
side goes by that for what it sends. With auto each side judges its own direction, so for a moment
the two may differ.

A session begins on kcp, where a loss costs least. To datagrams it goes after `QUIET` seconds
without a loss, and when next to nothing is under way on kcp, so that few frames are overtaken; a
session that is never so calm goes `BUSY` seconds later. Back to kcp it goes at the first word of a
loss. A stay on datagrams that was short doubles the time until the next try, up to `MOST_QUIET`,
so a path with a full queue or a little loss stays on kcp; one that lost something once does not.

What is promised about order: none within a flow that is sent on datagrams, beyond what the path
keeps. At a change to datagrams frames may overtake those of their flow that kcp still holds: few
after a calm moment, else at most what its pace holds back. At a change to kcp none is overtaken but
by what the path itself reorders.

Pure: `now` in seconds, monotonic. No errors.
"""

from __future__ import annotations

from math import inf
from typing import Final

KCP: Final = "kcp"
DATAGRAM: Final = "datagram"
AUTO: Final = "auto"
LANES: Final = (KCP, DATAGRAM, AUTO)

QUIET: Final = 30.0  # seconds without a loss after which a path is trusted
MOST_QUIET: Final = 16 * QUIET
BUSY: Final = 5.0  # seconds that a change waits for a calm moment
STABLE: Final = 10  # times the time of trust: a stay on datagrams that long was a good idea
CALM: Final = 4  # messages of kcp under way that may be overtaken


def agreed(wish: str) -> str:
    """What a switch says to a wish: the same, or kcp where it does not know it."""
    return wish if wish in LANES else KCP


class LaneRule:
    """The rule of auto for what one side sends."""

    __slots__ = ("_began", "_quiet", "_seen", "datagram")

    def __init__(self, now: float) -> None:
        self.datagram = False
        self._quiet = QUIET  # seconds without a loss until datagrams are used
        self._began = now  # the lane that is used now
        self._seen = -inf  # the loss that was heard of last

    def choose(self, now: float, lost_at: float, under_way: int) -> bool:
        """Whether to send on datagrams. `lost_at`: when the path last lost something, on any lane;
        `under_way`: messages of kcp that have not arrived. HOT PATH of members with auto.
        """
        if self.datagram:
            if lost_at > self._seen:
                self._leave(now)
        elif now - max(lost_at, self._began) >= self._quiet:
            calm_by = max(lost_at, self._began) + self._quiet + BUSY
            if under_way <= CALM or now >= calm_by:
                self.datagram, self._began = True, now
        self._seen = max(self._seen, lost_at)
        return self.datagram

    def _leave(self, now: float) -> None:
        short = now - self._began < STABLE * self._quiet
        self._quiet = min(2 * self._quiet, MOST_QUIET) if short else QUIET
        self.datagram, self._began = False, now
