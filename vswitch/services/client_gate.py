"""Who may use a published service now: networks, rates, connections at once. Pure but for a clock.

A client is an IPv4 address, or a /64 of IPv6, of which a host has as many addresses as it likes.
Invariants: what is known of clients is bounded; who has something open is known for as long, and
of the others those that were here last.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from attrs import define

from vswitch.services.proxy_protocol import plain_address
from vswitch.services.publish_rules import PublishLimits
from vswitch.switch.bucket import Bucket

BURST: Final = 5.0  # seconds of a rate that may come at once, and ten new ones at least
_LEAST_BURST: Final = 10.0
_REMEMBERED: Final = 4096  # clients that have nothing open, for their rates
_PARSED: Final = 1024  # addresses: a client comes again


Key: TypeAlias = IPv4Address | IPv6Address


@define(eq=False)
class _Client:
    bucket: Bucket | None
    open: int = 0


class ClientGate:
    """The `Gate` of one rule, whose limits may be others later; what is open stays."""

    def __init__(self, limits: PublishLimits, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self.open = 0
        self._clock = clock
        self._here: dict[Key, _Client] = {}  # who has something open
        self._gone: dict[Key, _Client] = {}  # the others, longest unseen first
        self.limits = limits

    @property
    def limits(self) -> PublishLimits:
        """Those in force."""
        return self._limits

    @limits.setter
    def limits(self, limits: PublishLimits) -> None:
        self._limits, self._per_client = limits, limits.per_client
        self._bucket = _bucket(limits.rate)
        self._gone.clear()
        for client in self._here.values():
            client.bucket = _bucket(limits.rate_per_client)

    def enter(self, client: str) -> str | None:
        """None if a place is taken, until `leave`; else why not."""
        limits, address = self._limits, _address(client)
        if any(address in each for each in limits.deny):
            return "denied"
        if limits.allow and not any(address in each for each in limits.allow):
            return "denied"
        if self.open >= limits.max_connections:
            return "full"
        key, now = _key(address), self._clock()
        known = self._here.get(key) or self._gone.pop(key, None)
        if known is None:
            known = _Client(_bucket(limits.rate_per_client))
        if self._per_client is not None and known.open >= self._per_client:
            return "client_full"
        if known.bucket is not None and not known.bucket.allow(now, 1):
            self._keep(key, known)
            return "client_rate"
        if self._bucket is not None and not self._bucket.allow(now, 1):
            self._keep(key, known)
            return "rate"
        self._here[key] = known
        known.open += 1
        self.open += 1
        return None

    def leave(self, client: str) -> None:
        """Give the place back."""
        self.open -= 1
        key = _key(_address(client))
        known = self._here[key]
        known.open -= 1
        if not known.open:
            del self._here[key]
            self._keep(key, known)

    def _keep(self, key: Key, known: _Client) -> None:
        """For its rate, once it has nothing open."""
        if known.bucket is None or known.open:
            return
        self._gone[key] = known
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]


def _bucket(rate: float | None) -> Bucket | None:
    return None if rate is None else Bucket(rate, max(_LEAST_BURST, rate * BURST))


@lru_cache(_PARSED)
def _address(client: str) -> Key:
    return plain_address(client)


def _key(address: Key) -> Key:
    if isinstance(address, IPv4Address):
        return address
    return IPv6Address(int(address) >> 64 << 64)
