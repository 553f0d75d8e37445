"""`fake_channel_pair`: two ends of a reliable message channel, in memory, without a network.

They keep the contract of a transport channel: whole messages in order, byte credit that returns
as the other end reads, `trio.ClosedResourceError` here and `trio.BrokenResourceError` there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from vswitch.ports.device import Waiter

__all__ = ["FakeChannel", "fake_channel_pair"]


class FakeChannel:
    """One end; see `vswitch.ports.member.MessageChannel` for the methods.

    `closed_with` is the code and reason given to `close`, None while open.
    """

    def __init__(self, message_size: int, window: int) -> None:
        self.message_size = message_size
        self.window = window  # bytes that may be on their way to the other end
        self.closed_with: tuple[int, str] | None = None
        self._other = self
        self._inbox: list[bytes] = []
        self._readable = Waiter()
        self._writable = Waiter()

    @property
    def credit(self) -> int:
        """Bytes that may be sent now."""
        return self.window - sum(map(len, self._other._inbox))

    def send_nowait(self, messages: Sequence[bytes]) -> None:
        if not self._can_write():
            raise trio.WouldBlock
        self._other._inbox.extend(messages)
        self._other._readable.wake()

    async def wait_writable(self) -> None:
        await self._writable.wait(self._can_write)

    def receive_nowait(self) -> list[bytes]:
        if not self._can_read():
            raise trio.WouldBlock
        messages, self._inbox = self._inbox, []
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
        if not self._inbox and self._other.closed_with is not None:
            raise trio.BrokenResourceError("the other end was closed")
        return bool(self._inbox)

    def _can_write(self) -> bool:
        if self.closed_with is not None:
            raise trio.ClosedResourceError("the channel was closed")
        if self._other.closed_with is not None:
            raise trio.BrokenResourceError("the other end was closed")
        return self.credit > 0


def fake_channel_pair(
    *, message_size: int = 1200, window: int = 64 * 1024
) -> tuple[FakeChannel, FakeChannel]:
    """Two connected ends; sizes in bytes."""
    one, other = FakeChannel(message_size, window), FakeChannel(message_size, window)
    one._other, other._other = other, one
    return one, other
