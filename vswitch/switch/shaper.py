"""When what waits for a port may leave: a rate in bits a second that delays instead of dropping.

Pure; `now` in seconds.
"""

from __future__ import annotations

from vswitch.frames.load import wire_bytes
from vswitch.switch.bucket import Bucket

SHAPER_BURST = 0.02  # seconds of the rate: more than a task that is to wake up comes too late
MIN_SHAPER_BURST = 16 * 1024  # bytes
MIN_DELAY = 0.001  # seconds: a wake-up for each frame would cost more than the frame
MAX_DELAY = 1.0  # seconds after which to look again: the rate may have changed


class Shaper:
    """When the next bytes of a port may leave. What has left is spent, and may be more than there
    was: then nothing leaves until that is paid.
    """

    __slots__ = ("_bucket",)

    def __init__(self, bits: float) -> None:
        rate = bits / 8
        self._bucket = Bucket(rate, max(rate * SHAPER_BURST, MIN_SHAPER_BURST))

    def room(self, now: float) -> int:
        """Bytes that may leave now; 0 for none."""
        self._bucket.fill(now)
        return max(0, int(self._bucket.tokens))

    def spend(self, records: list[bytes]) -> None:
        """These leave."""
        self._bucket.tokens -= sum(map(wire_bytes, records))

    def refund(self, records: list[bytes]) -> None:
        """These have not left after all."""
        self._bucket.tokens += sum(map(wire_bytes, records))

    def delay(self, now: float) -> float:
        """Seconds to wait until something may leave; 0 if it may now."""
        if self.room(now):
            return 0.0
        return min(max(MIN_DELAY, (1 - self._bucket.tokens) / self._bucket.rate), MAX_DELAY)
