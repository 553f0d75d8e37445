"""How much of the switch's time the API may take: a share of it, so that frames keep the rest.

What an answer has cost is known behind it: it is spent then, and who asks next waits until there is
something left again. What has not been used for a while is there at once.

Pure; `now` in seconds. Nothing here raises.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

RATE: Final = 0.05  # seconds of each second
STRANGERS_RATE: Final = 0.01  # the same, for those who log in, or ask whether it lives
BURST: Final = 0.5  # seconds at once, after a pause
_DEAREST: Final = 0.1  # seconds of one answer; more was somebody else's time in between


@define
class Share:
    """Seconds that may be spent."""

    rate: float = RATE
    burst: float = BURST
    _left: float = field(init=False)
    _at: float = field(init=False, default=0.0)

    @_left.default
    def _full(self) -> float:
        return self.burst

    def wait(self, now: float) -> float:
        """Seconds until there is something left."""
        self._left = min(self.burst, self._left + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)
        return max(0.0, -self._left / self.rate)

    def spend(self, now: float, seconds: float, apart: float = 0.0) -> None:
        """An answer has cost that, and so much apart from the tasks of others, in a thread. No
        answer costs more than what a pause brings: others must not wait for it without end.
        """
        self.wait(now)
        self._left -= min(min(seconds, _DEAREST) + apart, self.burst)
