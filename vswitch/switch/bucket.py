"""A token bucket for frames or bytes.

In any span of t seconds at most `burst + rate * t` passes, and one record more where a record costs
more than the whole burst: a superframe is passed whole or not at all, and paid for afterwards.
Pure; a clock that steps back adds nothing.
"""

from __future__ import annotations

import attrs

_ROUNDING = 1e-6  # tokens; float seconds times a rate may fall short by about 1e-9


@attrs.define(eq=False)
class Bucket:
    """Starts full. `rate` in tokens a second, 0 lets nothing through; `burst` in tokens."""

    rate: float
    burst: float
    tokens: float = attrs.field(init=False)
    now: float | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.tokens = self.burst if self.rate else 0.0

    def fill(self, now: float) -> None:
        """What has come in until now."""
        if self.now is None:
            self.now = now
        elif now > self.now:
            self.tokens = min(self.burst, self.tokens + (now - self.now) * self.rate)
            self.now = now

    def allow(self, now: float, cost: float) -> bool:
        """Take `cost` tokens if they are there."""
        self.fill(now)
        if not self.rate or self.tokens < min(cost, self.burst) - _ROUNDING:
            return False
        self.tokens -= cost
        return True

    def grant(self, now: float, wanted: int) -> int:
        """Take as many of `wanted` single tokens as are there."""
        self.fill(now)
        granted = min(wanted, max(0, int(self.tokens + _ROUNDING)))
        self.tokens -= granted
        return granted

    def could(self, now: float, cost: float) -> bool:
        """What `allow` would say; takes nothing."""
        tokens = self.tokens
        if self.now is not None and now > self.now:
            tokens = min(self.burst, tokens + (now - self.now) * self.rate)
        return bool(self.rate) and tokens >= min(cost, self.burst) - _ROUNDING
