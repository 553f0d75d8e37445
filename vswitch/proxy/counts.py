"""What one listener counts, and who may have one more connection. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from attrs import Factory, define, field

from vswitch.proxy.relay import Traffic
from vswitch.proxy.status import ProxyStatus


class Gate(Protocol):
    """Who may have one more connection, or be one more UDP client."""

    def enter(self, client: str) -> str | None:
        """None if a place is taken, until `leave`; else the reason why not, which is counted.
        `client` is an IP address, "" of a Unix socket.
        """

    def leave(self, client: str) -> None:
        """Give the place back."""


@define
class Limit:
    """A `Gate` for so many at once and no more."""

    most: int
    open: int = 0

    def enter(self, client: str = "") -> str | None:
        """None if there is room for one more, which is then taken until `leave`."""
        if self.open >= self.most:
            return "full"
        self.open += 1
        return None

    def leave(self, client: str = "") -> None:
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
