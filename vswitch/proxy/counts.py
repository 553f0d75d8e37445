"""What one listener of the proxy counts, and how many connections all of them may have. Pure."""

from __future__ import annotations

from collections import Counter

from attrs import Factory, define, field

from vswitch.management.status import ProxyStatus
from vswitch.proxy.relay import Traffic


@define
class Limit:
    """So many at once and no more."""

    most: int
    open: int = 0

    def enter(self) -> bool:
        """Whether there is room for one more, which is then taken until `leave`."""
        if self.open >= self.most:
            return False
        self.open += 1
        return True

    def leave(self) -> None:
        """One less."""
        self.open -= 1


@define
class Counts:
    """Of one listener. `open` and `total` are connections, or UDP associations."""

    kind: str
    listen: str
    target: str | None = None
    open: int = 0
    total: int = 0
    failed: Counter[str] = field(factory=Counter)  # connections that came to nothing, by reason
    drops: Counter[str] = field(factory=Counter)  # datagrams, by reason
    traffic: Traffic = Factory(Traffic)

    def status(self) -> ProxyStatus:
        """As `vswitch status` tells it."""
        return ProxyStatus(
            kind=self.kind,
            listen=self.listen,
            target=self.target,
            open=self.open,
            total=self.total,
            up_bytes=self.traffic.up,
            down_bytes=self.traffic.down,
            failed=dict(self.failed),
            drops=dict(self.drops),
        )
