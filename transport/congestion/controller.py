"""What a congestion controller is: it says how much may be in flight, and how fast it may leave.

A sender tells its controller what was acknowledged and what was found lost, and reads from it the
congestion window and the pacing rate. Which controller a session has is chosen in
`transport/congestion/choice.py`;
to add one, write a class with these members and give it a row there.

Pure: `now` is an argument, monotonic seconds. Sizes in bytes, rates in bytes a second. A controller
raises nothing, whatever a peer acknowledges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

DATAGRAM: Final = 1400  # bytes, about: what windows are counted in
INITIAL_WINDOW: Final = 16 * DATAGRAM  # 10 to 16 datagrams, as with TCP (RFC 6928)


class SentSegment:
    """A segment that was acknowledged, or was found lost."""

    __slots__ = ("rtt", "sent", "size")

    def __init__(self, size: int, sent: float, rtt: float | None) -> None:
        """`rtt` is None where it is not known which of several copies arrived."""
        self.size = size  # bytes
        self.sent = sent  # when it was sent last
        self.rtt = rtt  # seconds


class Controller(Protocol):
    """The congestion control of one sender."""

    @property
    def window(self) -> int:
        """The congestion window: bytes that may be in flight. HOT PATH."""

    @property
    def pacing_rate(self) -> float:
        """Bytes a second that may leave; infinite before the first round trip. HOT PATH."""

    @property
    def rtt(self) -> float | None:
        """The smoothed round trip in seconds; None before the first."""

    @property
    def loss(self) -> float:
        """Share of what was sent lately that was lost."""

    @property
    def app_limited(self) -> bool:
        """The source uses so little of the window that all of it could leave twice."""

    def on_acknowledged(self, acked: Sequence[SentSegment], in_flight: int, now: float) -> None:
        """These have arrived; `in_flight`: bytes that were under way before they did. HOT PATH."""

    def change_path(self, now: float) -> None:
        """The path is another, of another kind: what was known of it is not true any more."""

    def on_lost(self, lost: Sequence[SentSegment], now: float) -> None:
        """These were found lost, and will be retransmitted."""


class ControllerFactory(Protocol):
    """Makes a controller for a sender that begins now."""

    def __call__(self, now: float) -> Controller: ...
