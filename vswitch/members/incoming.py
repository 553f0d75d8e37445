"""The receiving half of a member: merges a channel's lanes and keeps order within each flow.

The sender puts a flow on the sparse lane when the bulk one has delivered all of it, and back on the
bulk one behind a fence: a control message that says how many sparse messages come first. So

 - bulk messages that are here are handled before sparse ones that are here;
 - behind a fence that still holds nothing of bulk is handled, and of sparse only what it waits for;
   meanwhile the channel holds bulk back, so a fence that never opens costs a bounded memory.

What comes on the datagram lane, once it is agreed, is handled behind what is due of the others; no
fence holds it back.

When the session is over, a fence waits for nothing: what is missing never comes.

Errors: `BadRecord` for what cannot be a record, a control message on the sparse lane, or a
superframe where none was agreed; `trio.WouldBlock` and the end of the channel as it raises them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from vswitch.errors import BadRecord
from vswitch.frames.records import RecordSplitter, is_control, is_superframe, split_whole_untrusted
from vswitch.members.channel import MessageChannel, MessageLane
from vswitch.members.protocol import After, ControlMessage, decode_control_untrusted

LARGE_MESSAGE = 8192  # bytes from which a copy costs more than the steps of looking at a message


class _Owner(Protocol):
    """What is agreed with the peer, maybe later: `MemberDevice`."""

    superframes: bool
    on_control: Callable[[ControlMessage], None]


class Incoming:
    """The receiving half of a member."""

    def __init__(self, channel: MessageChannel, owner: _Owner) -> None:
        self._channel = channel
        self._bulk, self._sparse = channel.bulk, channel.sparse
        self._owner = owner
        self.datagrams: MessageLane | None = None  # once it is agreed
        self._bulk_splitter = RecordSplitter()
        self._sparse_splitter = RecordSplitter()
        self._sparse_messages: deque[bytes] = deque()  # received, for behind a fence that opens
        self._sparse_count = 0  # messages of the sparse lane that were handled
        # Fences that hold, in their order, and the frames behind each.
        self._fences: deque[tuple[int, list[bytes]]] = deque()

    def receive_untrusted(self) -> list[bytes]:
        """Frames and superframes that are due now, maybe none; `trio.WouldBlock` when nothing has
        come. Control messages go to their owner. HOT PATH.
        """
        if self.datagrams is not None and self.datagrams.readable:
            return self._with_datagrams_untrusted(self.datagrams)
        if not (self._sparse.readable or self._fences or self._sparse_messages):
            records = self._bulk_untrusted(self._bulk.receive_nowait())
            return self._merge_untrusted(records, more=False) if self._fences else records
        return self._merge_untrusted([], more=True)

    def _with_datagrams_untrusted(self, lane: MessageLane) -> list[bytes]:
        """Also what has come on the datagram lane. HOT PATH of that lane."""
        records: list[bytes] = []
        if self._bulk.readable or self._sparse.readable or self._fences:
            records = self._merge_untrusted([], more=True)
        came = split_whole_untrusted(lane.receive_nowait())
        if came:
            self._check_superframe_untrusted(max(came))
        return records + came

    def _merge_untrusted(self, records: list[bytes], *, more: bool) -> list[bytes]:
        """`records`, and whatever else its turn has come; `more`: bulk was not read yet."""
        channel, bulk, fences = self._channel, self._bulk, self._fences
        while True:
            if fences:
                count, frames = fences[0]
                records += self._sparse_untrusted(count - self._sparse_count)
                if self._sparse_count < count and not channel.ended:
                    break
                fences.popleft()
                records += frames
            elif not bulk.readable:
                records += self._sparse_untrusted(None)
                break
            elif more:
                more = False  # once in a turn: it may be megabytes
                records += self._bulk_untrusted(bulk.receive_nowait())
            else:
                break
        channel.hold_bulk(bool(fences))
        return records

    def _sparse_untrusted(self, limit: int | None) -> list[bytes]:
        waiting = self._sparse_messages
        if self._sparse.readable:
            waiting.extend(self._sparse.receive_nowait())
        count = len(waiting) if limit is None else max(0, min(len(waiting), limit))
        if not count:
            return []
        self._sparse_count += count
        messages = [waiting.popleft() for _ in range(count)]
        records = self._sparse_splitter.feed_untrusted(b"".join(messages))
        if records:
            largest = max(records)
            if is_control(largest):
                raise BadRecord("a control message on the sparse lane")
            self._check_superframe_untrusted(largest)
        return records

    def _bulk_untrusted(self, messages: list[bytes]) -> list[bytes]:
        feed = self._bulk_splitter.feed_untrusted
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
        self._check_superframe_untrusted(largest)
        return records

    def _with_controls_untrusted(self, records: list[bytes]) -> list[bytes]:
        """The frames in front of the first fence; those behind are put aside."""
        frames = first = list[bytes]()
        largest = b"\0\0"
        for record in records:
            if not is_control(record):
                frames.append(record)
                largest = max(largest, record)
                continue
            message = decode_control_untrusted(record)
            if isinstance(message, After):
                frames = self._fence(message.sparse, frames)
            elif message is not None:
                self._owner.on_control(message)
        self._check_superframe_untrusted(largest)
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

    def _check_superframe_untrusted(self, largest: bytes) -> None:
        if not self._owner.superframes and is_superframe(largest):
            raise BadRecord("a superframe, which was not agreed")
