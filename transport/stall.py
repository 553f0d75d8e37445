"""Nothing is acknowledged any more: when to ask, and when to send everything again.

KCP repeats a segment after a timeout that grows with each repetition: after an outage of a minute
the next one is two seconds away, though the path has healed. So while acknowledgements are overdue
the session pings twice a second, and when a ping is answered, or an acknowledgement comes after
all, KCP is made to repeat at once all that is under way (`kcp.Conversation.flush`).

Invariants: nothing is repeated by this while no answer comes; answered pings that bring no
acknowledgement (large datagrams are lost, small ones are not) cause fewer and fewer repetitions.

Pure; `now` in seconds. Error contract: nothing is raised.
"""

from __future__ import annotations

from math import inf

from transport.constants import (
    STALL_AFTER,
    STALL_AFTER_ROUND_TRIPS,
    STALL_AGAIN,
    STALL_AGAIN_ROUND_TRIPS,
    STALL_AGAIN_TIMES,
    STALL_PROBE,
    STALL_REPEAT_CAP,
    STALL_REPEAT_FIRST,
)

__all__ = ["Stall"]


class Stall:
    """The watch over one conversation's acknowledgements."""

    __slots__ = ("_again", "_again_at", "_ask_at", "_goal", "_pause", "_repeat_at", "_since")

    def __init__(self) -> None:
        self._since: float | None = None  # of the last progress, while something is under way
        self._ask_at = self._repeat_at = 0.0
        self._pause = STALL_REPEAT_FIRST
        self._again_at = inf
        self._again = 0  # repetitions of the repetition so far
        self._goal = 0  # KCP's number of the first segment that was not under way then

    def sent(self, now: float) -> None:
        """Something is under way. HOT PATH."""
        if self._since is None:
            self._since = now

    def _overdue_at(self, round_trip: float) -> float:
        if self._since is None:
            return inf
        return self._since + max(STALL_AFTER, STALL_AFTER_ROUND_TRIPS * round_trip)

    def deadline(self, round_trip: float) -> float:
        """When `ask` next says yes, unless an acknowledgement comes. HOT PATH."""
        return max(self._overdue_at(round_trip), self._ask_at)

    def ask(self, now: float, round_trip: float) -> bool:
        """Acknowledgements are overdue, and the peer should be asked with a ping."""
        if now < self.deadline(round_trip):
            return False
        self._ask_at = now + STALL_PROBE
        return True

    def acknowledged(self, now: float, round_trip: float, *, more: bool) -> bool:
        """Some have come, and `more` are due. True: the path has healed, repeat all. HOT PATH."""
        healed = more and now >= self._overdue_at(round_trip)
        self._since = now if more else None
        self._pause = STALL_REPEAT_FIRST
        return healed

    def answered(self, now: float, round_trip: float) -> bool:
        """The peer has answered a ping. True: repeat all."""
        if now < max(self._overdue_at(round_trip), self._repeat_at):
            return False
        self._repeat_at = now + max(self._pause, STALL_AFTER_ROUND_TRIPS * round_trip)
        self._pause = min(STALL_REPEAT_CAP, 2 * self._pause)
        return True

    def repeated(self, now: float, round_trip: float, goal: int) -> None:
        """All that is under way, which is what has a number below `goal`, was sent again."""
        self._goal, self._again = goal, 0
        self._again_at = now + max(STALL_AGAIN, STALL_AGAIN_ROUND_TRIPS * round_trip)

    def again(self, now: float, round_trip: float, reached: int) -> bool:
        """True: some of that was lost too, since KCP has got no further than `reached`."""
        if now < self._again_at:
            return False
        if self._again >= STALL_AGAIN_TIMES or (reached - self._goal) % 2**32 < 2**31:
            self._again_at = inf
            return False
        self._again += 1
        pause = max(STALL_AGAIN, STALL_AGAIN_ROUND_TRIPS * round_trip)
        self._again_at = now + pause * 2.0**self._again
        return True
