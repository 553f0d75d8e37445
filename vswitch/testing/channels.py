"""`fake_channel_pair`: two ends of a message channel, in memory, without a network.

They keep the contract of a transport channel: whole messages in order, also on the datagram lane,
of which a test may take some out; byte credit that returns as the other end reads,
`trio.ClosedResourceError` here and `trio.BrokenResourceError` there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import trio

from vswitch.switch.device import Waiter


class FakeLane:
    """One end of a lane; see `vswitch.members.channel.MessageLane` for the methods."""

    def __init__(self, channel: FakeChannel, message_size: int, max_message: int) -> None:
        self.message_size = message_size
        self.max_message = max_message
        self.open = True  # what comes is dropped otherwise
        self.given = 0  # messages sent by the other end to this one
        self.inbox: list[bytes] = []
        self._channel = channel
        self.other = self

    @property
    def credit(self) -> int:
        """Bytes that may be sent now."""
        return self._channel.window - sum(map(len, self.other.inbox))

    @property
    def readable(self) -> bool:
        return bool(self.inbox)

    def send_nowait(self, messages: Sequence[bytes]) -> None:
        self._channel.can_write()
        if self.credit <= 0:
            raise trio.WouldBlock
        if max(map(len, messages), default=0) > self.max_message:
            raise ValueError("a message above max_message")
        if self.other.open:
            self.other.inbox.extend(messages)
            self.other.given += len(messages)
            self.other._channel.wake(readable=True)

    def receive_nowait(self) -> list[bytes]:
        self._channel.can_read()
        if not self.inbox:
            raise trio.WouldBlock
        messages, self.inbox = self.inbox, []
        self.other._channel.wake(writable=True)
        return messages


class FakeChannel:
    """One end; see `vswitch.members.channel.MessageChannel` for the methods.

    `closed_with` is the code and reason given to `close`, None while open; `held_above` what was
    said last to `hold`.
    """

    def __init__(self, message_size: int, window: int) -> None:
        large = 50 * message_size
        self.bulk = FakeLane(self, message_size, 127 * message_size)
        self.sparse = FakeLane(self, message_size, 127 * message_size)
        self.datagrams = FakeLane(self, large, large)  # a path that loses nothing
        self.datagrams.open = False
        self.round_trip: float | None = None
        self.lossy = False
        self.lost_at = -inf
        self.window = window  # bytes that may be on their way to the other end
        self.closed_with: tuple[int, str] | None = None
        self.held_above = 0
        self._other = self
        self._held = False
        self._readable = Waiter()
        self._writable = Waiter()

    def join(self, other: FakeChannel) -> None:
        """What is sent at one end arrives at the other."""
        for one, two in ((self, other), (other, self)):
            one._other = two
            one.bulk.other, one.sparse.other = two.bulk, two.sparse
            one.datagrams.other = two.datagrams

    def open_datagrams(self) -> FakeLane:
        self.datagrams.open = True
        return self.datagrams

    def progress(self) -> tuple[int, int, int, int]:
        """A message has arrived when the other end has received it."""
        bulk, sparse = self._other.bulk, self._other.sparse
        return (
            bulk.given,
            bulk.given - len(bulk.inbox),
            sparse.given,
            sparse.given - len(sparse.inbox),
        )

    async def wait_writable(self) -> None:
        await self._writable.wait(self.can_write)

    @property
    def ended(self) -> bool:
        return self.closed_with is not None or self._other.closed_with is not None

    def hold_bulk(self, held: bool) -> None:
        self._held = held

    def hold(self, held: int) -> None:
        self.held_above = held

    async def wait_readable(self) -> None:
        await self._readable.wait(self.can_read)

    async def push(self, take: Callable[[], bool]) -> None:
        while True:
            await self.wait_readable()
            if self.can_read() and not take():
                return

    def close(self, code: int = 0, reason: str = "") -> None:
        if self.closed_with is None:
            self.closed_with = (code, reason)
        for end in (self, self._other):
            end.wake(readable=True, writable=True)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def wake(self, *, readable: bool = False, writable: bool = False) -> None:
        """Have those look again who wait."""
        if readable:
            self._readable.wake()
        if writable:
            self._writable.wake()

    def can_read(self) -> bool:
        """Whether something is to be received, unless it is held."""
        if self.closed_with is not None:
            raise trio.ClosedResourceError("the channel was closed")
        if self.bulk.inbox and not (self._held and self._other.closed_with is None):
            return True
        if self.sparse.inbox or self.datagrams.inbox:
            return True
        if not self.bulk.inbox and self._other.closed_with is not None:
            raise trio.BrokenResourceError("the other end was closed")
        return False

    def can_write(self) -> bool:
        """Whether there is credit."""
        if self.closed_with is not None:
            raise trio.ClosedResourceError("the channel was closed")
        if self._other.closed_with is not None:
            raise trio.BrokenResourceError("the other end was closed")
        return self.bulk.credit > 0 and (not self.datagrams.open or self.datagrams.credit > 0)


def fake_channel_pair(
    *, message_size: int = 1200, window: int = 64 * 1024
) -> tuple[FakeChannel, FakeChannel]:
    """Two connected ends; sizes in bytes."""
    one, other = FakeChannel(message_size, window), FakeChannel(message_size, window)
    one.join(other)
    return one, other
