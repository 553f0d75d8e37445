"""A member behind a port: frames and control messages over one reliable channel of the transport.

 in    channel messages ─▶ join ─▶ split into records ─▶ frames to the switch
                                                     └▶ control messages to `on_control`
 out   frames ─▶ join once ─▶ cut to the channel's message size ─▶ one `send_nowait`

The record stream is cut at any byte, so a batch costs one join, however many frames it has. Control
messages overtake the frames that still wait for credit, and keep their order among themselves.

What cannot be a record, or a superframe where none was agreed, closes the channel with code
PROTOCOL and raises `BadRecord`. Other errors are the channel's own: see `device.py`, rules 5 to 7.
The file knows the transport by the shape of its channel alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from vswitch.core.control import (
    ByeCode,
    ControlMessage,
    decode_control_untrusted,
    encode_control,
)
from vswitch.core.records import RecordSplitter, is_control, is_superframe, pack
from vswitch.errors import BadRecord

__all__ = ["MAX_QUEUED_CONTROLS", "MemberDevice", "MessageChannel"]

# Control messages are a handful in the life of a session; a queue this long means that the peer has
# stopped reading.
MAX_QUEUED_CONTROLS = 64

LARGE_MESSAGE = 8192  # bytes from which a copy costs more than the steps of looking at a message


class MessageChannel(Protocol):
    """What is needed of a transport channel: reliable, ordered messages and byte credit."""

    @property
    def message_size(self) -> int:
        """Bytes of a message that fills one sealed unit."""

    @property
    def credit(self) -> int:
        """Bytes that may be given now; none when 0 or less."""

    def send_nowait(self, messages: Sequence[bytes]) -> None:
        """Send all at once, above the credit too; `trio.WouldBlock` if there was none before."""

    async def wait_writable(self) -> None:
        """Return when there is credit."""

    def receive_nowait(self) -> list[bytes]:
        """All messages that wait, at least one; `trio.WouldBlock` when there is none."""

    async def wait_readable(self) -> None:
        """Return when a message waits."""

    async def push(self, take: Callable[[], bool]) -> None:
        """Call `take()`, which receives, whenever a message waits, until it gives False."""

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the session and tell the peer why."""

    async def aclose(self) -> None:
        """`close`, gracefully."""


def _ignore_control(message: ControlMessage) -> None:
    pass


def _ignore_blocked() -> None:
    pass


class MemberDevice:
    """A channel as a device. Implements `vswitch.ports.device.Device`.

    `on_control` is called from within `read_nowait` with each control message that is known here.
    `on_blocked` is called when a control message has to wait for credit while no frame may be
    waiting; it must see to it that somebody waits for `wait_writable` and then calls
    `write_nowait`, which `Port.flush_soon` does.
    """

    def __init__(
        self,
        channel: MessageChannel,
        *,
        name: str,
        mtu: int = 1500,
        superframes: bool = False,
        on_control: Callable[[ControlMessage], None] = _ignore_control,
    ) -> None:
        self.name = name
        self.mtu = mtu
        self.superframes = superframes
        self.on_control = on_control
        self.on_blocked: Callable[[], None] = _ignore_blocked
        self._channel = channel
        self._splitter = RecordSplitter()
        self._unread: deque[bytes] = deque()  # at most one burst of the channel
        self._controls: deque[bytes] = deque()
        self._closed = False

    async def wait_readable(self) -> None:
        if self._unread:
            await trio.lowlevel.checkpoint()
        else:
            await self._channel.wait_readable()

    async def push(self, take: Callable[[], bool]) -> None:
        more = True

        def take_once() -> bool:
            nonlocal more
            more = take()
            return more and not self._unread

        while more:
            if self._unread:  # a burst too long for one turn: others have theirs in between
                await trio.lowlevel.checkpoint()
                more = take()
            else:
                await self._channel.push(take_once)

    def read_nowait(self, limit: int) -> list[bytes]:
        # HOT PATH
        unread = self._unread
        if not unread:
            messages = self._channel.receive_nowait()
            try:
                records = self._frames_untrusted(messages)
            except BadRecord as error:
                self.close(ByeCode.PROTOCOL, str(error))
                raise
            if self._closed:  # by what came in a control message
                raise trio.ClosedResourceError("this member was unplugged")
            if not records:
                raise trio.WouldBlock
            if len(records) <= limit:
                return records
            unread.extend(records)
        return [unread.popleft() for _ in range(min(limit, len(unread)))]

    def _frames_untrusted(self, messages: list[bytes]) -> list[bytes]:
        feed = self._splitter.feed_untrusted
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
            controls = [record for record in records if is_control(record)]
            records = [record for record in records if not is_control(record)]
            for record in controls:
                message = decode_control_untrusted(record)
                if message is not None:
                    self.on_control(message)
            largest = max(records, default=b"\0\0")
        if not self.superframes and is_superframe(largest):
            raise BadRecord("a superframe, which was not agreed")
        return records

    async def wait_writable(self) -> None:
        await self._channel.wait_writable()

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        channel = self._channel
        credit = channel.credit
        overtaking = len(self._controls)
        if overtaking:
            records = [*self._controls, *records]
        if credit <= 0 or not records:
            try:
                channel.send_nowait(())  # raises if the channel is closed or broken
            except trio.WouldBlock:
                pass
            return 0
        taken = len(records)
        if sum(map(len, records)) > credit:
            taken = _how_many(records, credit)
            records = records[:taken]
        channel.send_nowait(pack(records, channel.message_size))
        for _ in range(min(overtaking, taken)):
            self._controls.popleft()
        return max(0, taken - overtaking)

    def send_control(self, message: ControlMessage) -> None:
        """Send a control message, ahead of all frames that still wait.

        Raises `trio.WouldBlock` when 64 of them wait already: the peer has stopped reading, and the
        session is worth ending. `ValueError` for a message above 16 KiB.
        """
        record = encode_control(message)
        if len(self._controls) >= MAX_QUEUED_CONTROLS:
            raise trio.WouldBlock
        self._controls.append(record)
        self.write_nowait([])
        if self._controls:
            self.on_blocked()

    def close(self, code: int = ByeCode.NORMAL, reason: str = "") -> None:
        """End the session, and tell the peer why."""
        self._closed = True
        self._unread.clear()
        self._controls.clear()
        self._channel.close(code, reason)

    async def aclose(self) -> None:
        self._closed = True
        self._unread.clear()
        self._controls.clear()
        await self._channel.aclose()


def _how_many(records: list[bytes], credit: int) -> int:
    """Records that may be given: the one that exhausts the credit is the last."""
    for index, record in enumerate(records):
        if credit <= 0:
            return index
        credit -= len(record)
    return len(records)
