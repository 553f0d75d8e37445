"""What a member needs of a transport channel: `transport.Channel` has it, and test doubles do.

Two lanes of reliable messages, each in order, with byte credit. What is lost on one holds up
nothing on the other, so between them there is no order. And a lane of messages that are not
repeated, if both sides have agreed to it. Errors are the channel's own, as the rules
5 to 7 of `vswitch/switch/device.py` want them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class MessageLane(Protocol):
    """Messages and byte credit of one lane, both ways."""

    @property
    def message_size(self) -> int:
        """Bytes of a message that fits a sealed unit as they are now; on the sparse lane that is
        one datagram.
        """

    @property
    def max_message(self) -> int:
        """Bytes of the largest message; on the datagram lane `message_size` is that while the path
        loses nothing.
        """

    @property
    def credit(self) -> int:
        """Bytes that may be given now; none when 0 or less."""

    def send_nowait(self, messages: Sequence[bytes]) -> None:
        """Send all at once, above the credit too; `trio.WouldBlock` if there was none before."""

    @property
    def readable(self) -> bool:
        """Whether `receive_nowait` has something, held or not."""

    def receive_nowait(self) -> list[bytes]:
        """The messages that wait, at least one; `trio.WouldBlock` when there is none. The end of
        the session is raised when no lane has one.
        """


class MessageChannel(Protocol):
    """A bulk lane and a sparse one, which are reliable, and one of datagrams."""

    @property
    def bulk(self) -> MessageLane:
        """Everything but what follows."""

    @property
    def sparse(self) -> MessageLane:
        """What must not wait behind it."""

    def open_datagrams(self) -> MessageLane:
        """Both sides take messages of the datagram lane from now on, each whole or not at all.
        Idempotent.
        """

    @property
    def round_trip(self) -> float | None:
        """Seconds to the peer and back, about; None while that is not known."""

    @property
    def lossy(self) -> bool:
        """Whether the path loses things, as far as is known."""

    @property
    def lost_at(self) -> float:
        """When the path was last found to lose something, on Trio's clock; -inf for never."""

    def progress(self) -> tuple[int, int, int, int]:
        """Messages given to bulk, how many of the first of them have arrived, the same of sparse;
        for messages that are no larger than `message_size`.
        """

    async def wait_writable(self) -> None:
        """Return when there is credit for bulk, and for the datagram lane if it is open."""

    def hold_bulk(self, held: bool) -> None:
        """While held, bulk messages do not count as waiting for the next two."""

    def hold(self, held: int) -> None:
        """Bytes that were received and are kept above, for the account of the session."""

    async def wait_readable(self) -> None:
        """Return when a message waits, on any lane."""

    async def push(self, take: Callable[[], bool]) -> None:
        """Call `take()`, which receives, whenever a message waits, until it gives False."""

    @property
    def ended(self) -> bool:
        """Whether nothing arrives any more."""

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the session and tell the peer why."""

    async def aclose(self) -> None:
        """`close`, gracefully."""
