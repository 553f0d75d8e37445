"""The receiving half of a KCP conversation: segments in any order become messages in order.

What is exactly next becomes a message, or a part of one; what is ahead of a gap waits by its
number. The rest is dropped by the look at its number: what came already (`repeated`), and
what is beyond the window or would make us hold too much (`beyond_window`). What is taken is
acknowledged, what came already once more, within a bound.

Invariants: what is held ahead of a gap, and unread, is at most `RECEIVE_BYTES`, each segment with a
fixed cost; above that only what makes up the next message is taken while none can be read, which is
at most `MAX_FRAGMENTS` segments. Each segment costs a constant time, whatever came before it.

Pure; sizes in bytes. Error contract: `BadPacket("not_kcp")` where fragments make no message, which
is for good (`broken`); what came before can be read.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from transport.constants import MAX_FRAGMENTS, MESSAGE_COST, RECEIVE_BYTES
from transport.errors import BadPacket
from transport.lanes.segments import HALF, ROUND

# What a segment ahead of a gap counts besides its content: its number, its place, two objects.
SEGMENT_COST: Final = 256
REPEATED_ACKS: Final = 58  # acknowledgements of repeated segments in one flush: one datagram


class Arrivals:
    """What has come from the peer, and has not been read."""

    __slots__ = (
        "_drops",
        "_messages",
        "_parts",
        "acks",
        "again",
        "ahead",
        "broken",
        "held",
        "limit",
        "next",
        "ready",
        "tell",
        "told",
    )

    def __init__(self, window: int, drops: Counter[str], first: int = 0) -> None:
        """`window`: segments that may wait; dropped ones are counted in `drops`; the number of the
        first that is awaited.
        """
        self.next = first  # number of the first segment that has not come
        self.acks: list[tuple[int, int]] = []  # number and time of what is to be acknowledged
        self.broken = False
        self.limit = min(window, 0xFFFF)  # segments: the window while nothing waits
        self._drops = drops
        self.told = self.limit  # the window, as the peer was told it last
        self.tell = False  # it is to be told again
        self._messages: deque[bytes] = deque()
        self.ready = 0  # bytes of them, each counting `MESSAGE_COST` more
        self._parts: list[bytes] = []  # of a message that is not complete
        self.ahead: dict[int, tuple[int, bytes]] = {}  # by number: fragments that follow, content
        # Bytes of all three: a segment that makes no whole message yet counts `SEGMENT_COST` more.
        self.held = 0
        self.again = 0  # repeated ones among `acks`; whoever takes those begins anew

    @property
    def window(self) -> int:
        """Segments that the peer may send from now on. HOT PATH."""
        if self.ready > RECEIVE_BYTES // 2:
            return 0  # the other half is for what is under way
        return max(0, self.limit - len(self._messages) - len(self._parts))

    def misses(self, number: int) -> bool:
        """Whether this segment has not come."""
        return (number - self.next) & ROUND <= HALF and number not in self.ahead

    def take_untrusted(
        self, number: int, fragment: int, time: int, datagram: bytes, start: int, stop: int
    ) -> None:
        """A segment, whose content is this part of a datagram. HOT PATH."""
        offset = (number - self.next) & ROUND
        ahead = self.ahead
        if offset > HALF or number in ahead:
            self._drops["repeated"] += 1
            if self.again < REPEATED_ACKS:
                self.again += 1
                self.acks.append((number, time))
            return
        size = stop - start
        if offset or self._messages:
            full = self.held + size + SEGMENT_COST > RECEIVE_BYTES
            if full or offset >= self.limit:
                self._drops["beyond_window"] += 1
                return
        self.acks.append((number, time))
        if offset:
            ahead[number] = fragment, datagram[start:stop]
            self.held += size + SEGMENT_COST
            return
        self.next = (number + 1) & ROUND
        if not (fragment or self._parts or self.broken):
            self._messages.append(datagram[start:stop])
            self.ready += size + MESSAGE_COST
            self.held += size + MESSAGE_COST
        else:
            self._put(fragment, datagram[start:stop])
        while ahead and (found := ahead.pop(self.next, None)) is not None:
            self.next = (self.next + 1) & ROUND
            self.held -= len(found[1]) + SEGMENT_COST
            self._put(*found)

    def _put(self, fragment: int, content: bytes) -> None:
        """The next segment, in order: of a message that ends where no more fragments follow."""
        parts = self._parts
        if self.broken or len(parts) + fragment >= MAX_FRAGMENTS:
            self.broken = True
            raise BadPacket("not_kcp")
        if fragment:
            parts.append(content)
            self.held += len(content) + SEGMENT_COST
            return
        if parts:
            self.held -= sum(map(len, parts)) + SEGMENT_COST * len(parts)
            content = b"".join([*parts, content])
            parts.clear()
        self._messages.append(content)
        self.ready += len(content) + MESSAGE_COST
        self.held += len(content) + MESSAGE_COST

    def close(self) -> None:
        """Nothing more comes: of what is here whole messages alone are of use."""
        self.held = self.ready
        for each in (self._parts, self.ahead, self.acks):
            each.clear()

    def read(self, limit: int) -> list[bytes]:
        """Whole messages in order, until about `limit` bytes are taken, each message counting
        `MESSAGE_COST` more than its size. HOT PATH.
        """
        waiting = self._messages
        if self.ready <= limit:
            messages = list(waiting)
            waiting.clear()
            self.held -= self.ready
            self.ready = 0
        else:
            messages = []
            while limit > 0:
                message = waiting.popleft()
                cost = len(message) + MESSAGE_COST
                limit -= cost
                self.ready -= cost
                self.held -= cost
                messages.append(message)
        if not self.told and self.window:
            self.tell = True
        return messages
