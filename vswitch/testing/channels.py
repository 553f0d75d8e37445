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


class FakeChannel:
    """One end; see `vswitch.ports.messages.MessageChannel` for the methods.

    `closed_with` is the code and reason given to `close`, None while open.
    """

    def __init__(self, message_size: int, window: int) -> None:
        self.message_size = self.sparse_message_size = message_size
        self.round_trip: float | None = None
        self.lossy = False
        self.window = window  # bytes that may be on their way to the other end
        self.closed_with: tuple[int, str] | None = None
        self._other = self
        self._inbox: list[bytes] = []
        self._sparse_inbox: list[bytes] = []
        self._loose_inbox: list[bytes] = []
        self.loose_open = False
        self.loose_size = self.loose_limit = 50 * message_size  # a path that loses nothing
        self.lost_at = -inf
        self._given = self._sparse_given = 0  # messages sent by the other end to this one
        self._held = False
        self._readable = Waiter()
        self._writable = Waiter()

    @property
    def credit(self) -> int:
        """Bytes that may be sent now."""
        return self.window - sum(map(len, self._other._inbox))

    @property
    def sparse_credit(self) -> int:
        """The same for the sparse lane."""
        return self.window - sum(map(len, self._other._sparse_inbox))

    @property
    def loose_credit(self) -> int:
        """The same for the datagram lane."""
        return self.window - sum(map(len, self._other._loose_inbox))

    def open_loose(self) -> None:
        self.loose_open = True

    def send_loose_nowait(self, messages: Sequence[bytes]) -> None:
        self._can_write()
        if self.loose_credit <= 0:
            raise trio.WouldBlock
        if max(map(len, messages), default=0) > self.loose_limit:
            raise ValueError("a message above loose_limit")
        if self._other.loose_open:
            self._other._loose_inbox.extend(messages)
            self._other._readable.wake()

    def progress(self) -> tuple[int, int, int, int]:
        """A message has arrived when the other end has received it."""
        other = self._other
        waiting, sparse_waiting = len(other._inbox), len(other._sparse_inbox)
        given, sparse_given = other._given, other._sparse_given
        return given, given - waiting, sparse_given, sparse_given - sparse_waiting

    def send_nowait(self, messages: Sequence[bytes]) -> None:
        self._can_write()
        if self.credit <= 0:
            raise trio.WouldBlock
        self._other._inbox.extend(messages)
        self._other._given += len(messages)
        self._other._readable.wake()

    def send_sparse_nowait(self, messages: Sequence[bytes]) -> None:
        self._can_write()
        if self.sparse_credit <= 0:
            raise trio.WouldBlock
        self._other._sparse_inbox.extend(messages)
        self._other._sparse_given += len(messages)
        self._other._readable.wake()

    async def wait_writable(self) -> None:
        await self._writable.wait(self._can_write)

    @property
    def bulk_waits(self) -> bool:
        return bool(self._inbox)

    @property
    def sparse_waits(self) -> bool:
        return bool(self._sparse_inbox)

    @property
    def loose_waits(self) -> bool:
        return bool(self._loose_inbox)

    @property
    def ended(self) -> bool:
        return self.closed_with is not None or self._other.closed_with is not None

    def hold_bulk(self, held: bool) -> None:
        self._held = held

    def receive_nowait(self) -> list[bytes]:
        self._can_read()
        if not self._inbox:
            raise trio.WouldBlock
        messages, self._inbox = self._inbox, []
        self._other._writable.wake()
        return messages

    def receive_sparse_nowait(self) -> list[bytes]:
        self._can_read()
        if not self._sparse_inbox:
            raise trio.WouldBlock
        messages, self._sparse_inbox = self._sparse_inbox, []
        return messages

    def receive_loose_nowait(self) -> list[bytes]:
        self._can_read()
        if not self._loose_inbox:
            raise trio.WouldBlock
        messages, self._loose_inbox = self._loose_inbox, []
        self._other._writable.wake()
        return messages

    async def wait_readable(self) -> None:
        await self._readable.wait(self._can_read)

    async def push(self, take: Callable[[], bool]) -> None:
        while True:
            await self.wait_readable()
            if self._can_read() and not take():
                return

    def close(self, code: int = 0, reason: str = "") -> None:
        if self.closed_with is None:
            self.closed_with = (code, reason)
        for end in (self, self._other):
            end._readable.wake()
            end._writable.wake()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _can_read(self) -> bool:
        if self.closed_with is not None:
            raise trio.ClosedResourceError("the channel was closed")
        if self._inbox and not (self._held and self._other.closed_with is None):
            return True
        if self._sparse_inbox or self._loose_inbox:
            return True
        if not self._inbox and self._other.closed_with is not None:
            raise trio.BrokenResourceError("the other end was closed")
        return False

    def _can_write(self) -> bool:
        if self.closed_with is not None:
            raise trio.ClosedResourceError("the channel was closed")
        if self._other.closed_with is not None:
            raise trio.BrokenResourceError("the other end was closed")
        return self.credit > 0 and (not self.loose_open or self.loose_credit > 0)


def fake_channel_pair(
    *, message_size: int = 1200, window: int = 64 * 1024
) -> tuple[FakeChannel, FakeChannel]:
    """Two connected ends; sizes in bytes."""
    one, other = FakeChannel(message_size, window), FakeChannel(message_size, window)
    one._other, other._other = other, one
    return one, other
