"""The receiving half of a member: merges a channel's lanes and keeps order within each flow.

The sender puts a flow on the sparse lane when the bulk one has delivered all of it, and back on the
bulk one behind a fence: a control message that says how many sparse messages come first. So

 - bulk messages that are here are handled before sparse ones that are here;
 - behind a fence that still holds nothing of bulk is handled, and of sparse only what it waits for;
   meanwhile the channel holds bulk back, so a fence that never opens costs a bounded memory.

What comes on the datagram lane, once it is agreed, is handled behind what is due of the others; no
fence holds it back.

What is kept here is bounded, whatever the peer sends: of each lane what the channel gave at one
time, as messages, and nothing is taken from it before that is used up; the records of a slice; and
the beginning of one record for each stream. `held` is the sum. Control messages are bounded in
number and, as only those kinds that the peer may send are looked at, in what they cost.

When the session is over, what a fence waits for never comes, and what is behind it is thrown away.

Errors: `BadRecord` for what cannot be a record, a control message on the sparse lane, more control
messages than anybody needs, or a superframe where none was agreed; `trio.WouldBlock` and the end of
the channel as it raises them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable
from itertools import accumulate
from typing import Final, Protocol

from vswitch.errors import BadRecord
from vswitch.frames.records import (
    HEADER_SIZE,
    MIN_FRAME,
    RecordSplitter,
    is_control,
    is_superframe,
    split_whole_untrusted,
)
from vswitch.members.channel import MessageChannel, MessageLane
from vswitch.members.protocol import (
    After,
    ControlMessage,
    after_untrusted,
    decode_control_untrusted,
)
from vswitch.switch.bucket import Bucket

LARGE_MESSAGE = 8192  # bytes from which a copy costs more than the steps of looking at a message

# Messages are made records in slices, so that a full inbox of tiny frames is neither a long turn
# nor a million objects: 96 kB of the smallest are 5,400 records, a millisecond's work or two. Of
# full-size frames they are `ENOUGH`.
SLICE: Final = 96 * 1024  # bytes of messages, or one message
ENOUGH: Final = 64  # records: what a switch takes in a turn. Superframes are as long as a slice

# A session has a handful in its life. One is 16 KiB of JSON at most, and costs 0.3 ms to read.
CONTROLS_PER_SECOND: Final = 20
# A fence costs a microsecond or two. A flow changes lanes 16 times a second at most.
FENCES_PER_SECOND: Final = 5000


class _Owner(Protocol):
    """What is agreed with the peer, maybe later: `MemberDevice`."""

    superframes: bool
    hears: frozenset[str]
    floods_end: bool
    on_control: Callable[[ControlMessage], None]


class _Inbox:
    """What the channel gave of one lane at one time, handed on in slices."""

    __slots__ = ("_ends", "_lane", "held", "waiting")

    def __init__(self, lane: MessageLane) -> None:
        self._lane = lane
        self._ends: list[int] = []  # where each of what waits ends, in bytes of all that came
        self.waiting: list[bytes] = []
        self.held = 0  # bytes of what waits

    @property
    def readable(self) -> bool:
        """Whether `take` has something."""
        return bool(self.waiting) or self._lane.readable

    def take(self, most: int | None = None) -> list[bytes]:
        """The messages of the next slice, at least one, and `most` at most. `trio.WouldBlock` and
        the end of the channel as it raises them. HOT PATH.
        """
        waiting = self.waiting
        if not waiting:
            messages = self._lane.receive_nowait()
            if len(messages) == 1 or (most is None and sum(map(len, messages)) <= SLICE):
                return messages
            self.waiting = waiting = list(messages)
            self._ends = list(accumulate(map(len, waiting)))
            self.held = self._ends[-1]
        ends = self._ends
        begin = ends[-1] - self.held
        stop = max(1, bisect_right(ends, begin + SLICE))
        if most is not None:
            stop = min(stop, most)
        slice_ = waiting[:stop]
        self.held = ends[-1] - ends[stop - 1]
        del waiting[:stop], ends[:stop]
        return slice_

    def throw_away(self) -> None:
        """What waits here, and what the channel has."""
        self.forget()
        while self._lane.readable:
            self._lane.receive_nowait()

    def forget(self) -> None:
        """What waits here."""
        self.waiting.clear()
        self._ends.clear()
        self.held = 0


class Incoming:
    """The receiving half of a member."""

    def __init__(self, channel: MessageChannel, owner: _Owner, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic; it is read for control messages alone."""
        self._channel = channel
        self._clock = clock
        self._bulk, self._sparse = _Inbox(channel.bulk), _Inbox(channel.sparse)
        self._sparse_lane = channel.sparse
        self._datagrams: _Inbox | None = None
        self._owner = owner
        self._bulk_splitter = RecordSplitter()
        self._sparse_splitter = RecordSplitter()
        self._sparse_count = 0  # messages of the sparse lane that were handled
        # Fences that hold, in their order, and the frames behind each, of one slice.
        self._fences: deque[tuple[int, list[bytes]]] = deque()
        self._fenced = 0  # bytes of those frames
        self._controls = Bucket(CONTROLS_PER_SECOND, CONTROLS_PER_SECOND)
        self._afters = Bucket(FENCES_PER_SECOND, FENCES_PER_SECOND)
        self.dropped: Counter[str] = Counter()  # control messages that were not looked at

    def open_datagrams(self, lane: MessageLane) -> None:
        """The datagram lane is agreed."""
        self._datagrams = _Inbox(lane)

    @property
    def waiting(self) -> bool:
        """Whether something is here that the next call handles, without the channel."""
        return bool(
            self._sparse.waiting
            or (self._bulk.waiting and not self._fences)
            or (self._datagrams is not None and self._datagrams.waiting)
        )

    @property
    def held(self) -> int:
        """Bytes of messages and records that are kept above the channel. HOT PATH."""
        held = self._bulk_splitter.held + self._sparse_splitter.held + self._fenced
        held += self._bulk.held + self._sparse.held
        return held if self._datagrams is None else held + self._datagrams.held

    def throw_away(self) -> None:
        """Everything that is kept: the session is over."""
        for lane in (self._bulk, self._sparse, self._datagrams):
            if lane is not None:
                lane.forget()
        self._bulk_splitter.forget()
        self._sparse_splitter.forget()
        self._fences.clear()
        self._fenced = 0

    def receive_untrusted(self) -> list[bytes]:
        """Frames and superframes that are due now, maybe none; `trio.WouldBlock` when nothing has
        come. Control messages go to their owner. HOT PATH.
        """
        if self._datagrams is not None and self._datagrams.readable:
            return self._with_datagrams_untrusted(self._datagrams)
        if not (self._fences or self._sparse.waiting or self._sparse_lane.readable):
            records = self._bulk_untrusted()
            return self._merge_untrusted(records, more=False) if self._fences else records
        return self._merge_untrusted([], more=True)

    def _with_datagrams_untrusted(self, lane: _Inbox) -> list[bytes]:
        """Also what has come on the datagram lane. HOT PATH of that lane."""
        records: list[bytes] = []
        if self._bulk.readable or self._sparse.readable or self._fences:
            records = self._merge_untrusted([], more=True)
        came = split_whole_untrusted(lane.take())
        while lane.waiting and len(came) < ENOUGH:
            came += split_whole_untrusted(lane.take())
        if came:
            self._check_superframe_untrusted(max(came), came)
        return records + came

    def _merge_untrusted(self, records: list[bytes], *, more: bool) -> list[bytes]:
        """`records`, and whatever else its turn has come; `more`: bulk was not read yet."""
        channel, bulk, fences = self._channel, self._bulk, self._fences
        while True:
            if fences:
                count, frames = fences[0]
                records += self._sparse_untrusted(count - self._sparse_count)
                if self._sparse_count < count:
                    if self._sparse.readable or not channel.ended:
                        break
                    fences.clear()
                    self._fenced = 0
                    bulk.throw_away()
                    continue
                fences.popleft()
                self._fenced -= sum(map(len, frames))
                records += frames
            elif not bulk.readable:
                records += self._sparse_untrusted(None)
                break
            elif more:
                more = False  # once in a turn
                records += self._bulk_untrusted()
            else:
                break
        channel.hold_bulk(bool(fences))
        return records

    def _sparse_untrusted(self, most: int | None) -> list[bytes]:
        """Of a slice of the sparse lane. What is not due stays in the channel, which then lets its
        writer wait.
        """
        if not self._sparse.readable or (most is not None and most <= 0):
            return []
        messages = self._sparse.take(most)
        self._sparse_count += len(messages)
        records = self._sparse_splitter.feed_untrusted(b"".join(messages))
        if records:
            largest = max(records)
            if is_control(largest):
                raise BadRecord("a control message on the sparse lane")
            self._check_superframe_untrusted(largest, records)
        return records

    def _bulk_untrusted(self) -> list[bytes]:
        """Of the bulk lane what is enough for a turn. HOT PATH."""
        bulk, feed = self._bulk, self._bulk_splitter.feed_untrusted
        messages = bulk.take()
        if len(messages) == 1:
            records = feed(messages[0])
        elif len(messages[0]) < LARGE_MESSAGE:
            records = feed(b"".join(messages))
        else:  # most are whole records, which come back uncopied
            records = [record for message in messages for record in feed(message)]
        if not records:
            return records
        # Flags come first in a record, and ascend: frame, superframe, control. So the largest
        # record tells whether anything but frames is here, in one loop in C.
        largest = max(records)
        if is_control(largest):
            return self._with_controls_untrusted(records)
        self._check_superframe_untrusted(largest, records)
        if bulk.waiting and len(records) < ENOUGH:
            records += self._bulk_untrusted()
        return records

    def _with_controls_untrusted(self, records: list[bytes]) -> list[bytes]:
        """The frames in front of the first fence; those behind are put aside."""
        frames = first = list[bytes]()
        largest = b"\0\0"
        now = self._clock()
        for record in records:
            if not is_control(record):
                frames.append(record)
                largest = max(largest, record)
                continue
            count = after_untrusted(record)
            if count is None:
                allowed = self._controls.allow(now, 1)
                if not allowed and self._owner.floods_end:
                    raise BadRecord(f"more than {CONTROLS_PER_SECOND} control messages a second")
                message = decode_control_untrusted(record, self._owner.hears) if allowed else None
                if message is None:
                    self.dropped["control_ignored"] += 1
                    continue
                if not isinstance(message, After):
                    self._owner.on_control(message)
                    continue
                count = message.sparse
            if not self._afters.allow(now, 1):
                raise BadRecord(f"more than {FENCES_PER_SECOND} fences a second")
            frames = self._fence(count, frames)
        self._fenced = sum(sum(map(len, behind)) for _, behind in self._fences)
        self._check_superframe_untrusted(largest, records)
        return first

    def _fence(self, count: int, frames: list[bytes]) -> list[bytes]:
        """Where the frames behind a fence go. One that adds nothing to what holds is no fence."""
        if count <= (self._fences[-1][0] if self._fences else self._sparse_count):
            return frames
        if self._fences and not self._fences[-1][1]:
            self._fences.pop()
        behind: list[bytes] = []
        self._fences.append((count, behind))
        return behind

    def _check_superframe_untrusted(self, largest: bytes, records: list[bytes]) -> None:
        if is_superframe(largest):
            if not self._owner.superframes:
                raise BadRecord("a superframe, which was not agreed")
            if min(map(len, records)) < HEADER_SIZE + MIN_FRAME:
                raise BadRecord(f"a superframe of less than {MIN_FRAME} bytes")
