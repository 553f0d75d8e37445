"""Token buckets: one for all, one for each source address, and one that is shared fairly.

`BucketTable` has one bucket per source address (IPv4 /32, IPv6 /64), at most `capacity` of them,
the least recently used forgotten first. Forgetting gives its address a full bucket again, so a
flood from more addresses than that is bounded by the cookie, not here. `FairBucket` remembers only
whom it has served, so nobody is forgotten before `capacity` others were served.

Invariants: in any span of t seconds one key is allowed at most burst + rate * t of cost while its
bucket is kept; memory is bounded by `capacity`. A clock that steps back adds nothing.

Error contract: `ValueError` for impossible settings and for text that is no address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from math import exp
from typing import Final

from attrs import define, field, setters
from attrs.validators import ge, gt

from transport.constants import PIPE_HOST

ADDRESS_TABLE: Final = 8192  # rate-limiter entries, least recently used forgotten first


_IPV6_PREFIX_BYTES: Final = 8  # a /64 is one subscriber; whoever has it has all its addresses
_MAPPED: Final = "::ffff:"  # before an IPv4 address, as a dual-stack socket reports it
_OCTETS: Final = frozenset(map(str, range(256)))  # as they are written
_ROUNDING: Final = 1e-6  # tokens; float seconds times a rate may fall short by about 1e-9


@define(slots=True, on_setattr=setters.NO_OP)  # checked once: a flood sets it often
class TokenBucket:
    """A bucket that starts full. `rate` in tokens per second, `burst` in tokens."""

    rate: float = field(validator=gt(0))
    burst: float = field(validator=gt(0))
    now: float
    _tokens: float = field(init=False)

    @_tokens.default
    def _full(self) -> float:
        return float(self.burst)

    def allow(self, now: float, cost: float = 1) -> bool:
        """Take `cost` tokens if they are there; False takes nothing.

        Args:
            now: seconds, monotonic.
            cost: tokens; more than `burst` is never allowed.
        """
        if not self.ready(now, cost):
            return False
        self._tokens -= cost
        return True

    def ready(self, now: float, cost: float = 1) -> bool:
        """Whether `allow` would say yes; takes nothing."""
        if now > self.now:
            self._tokens = min(self.burst, self._tokens + (now - self.now) * self.rate)
            self.now = now
        return self._tokens >= cost - _ROUNDING


@define(slots=True, on_setattr=setters.NO_OP)
class BucketTable:
    """A bucket per key, all with the same rate and burst, made full when first asked for."""

    rate: float = field(validator=gt(0))
    burst: float = field(validator=gt(0))
    capacity: int = field(default=ADDRESS_TABLE, validator=ge(1))
    forgotten: int = field(default=0, init=False)
    """How many buckets were given up for a newer key: grows fast only under a flood."""
    # Tokens, and when they were counted: a flood makes one of these for each datagram.
    _buckets: OrderedDict[bytes, list[float]] = field(factory=OrderedDict, init=False)

    def allow(self, key: bytes, now: float, cost: float = 1) -> bool:
        """Take `cost` tokens of this key's bucket if they are there.

        Args:
            key: from `address_key`.
            now: seconds, monotonic.
            cost: tokens; more than `burst` is never allowed.
        """
        # HOT PATH of a flood
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self.capacity:
                self._buckets.popitem(last=False)
                self.forgotten += 1
            bucket = self._buckets[key] = [float(self.burst), now]
        else:
            self._buckets.move_to_end(key)
            if now > bucket[1]:
                bucket[0] = min(self.burst, bucket[0] + (now - bucket[1]) * self.rate)
                bucket[1] = now
        if bucket[0] < cost - _ROUNDING:
            return False
        bucket[0] -= cost
        return True

    def __len__(self) -> int:
        return len(self._buckets)


@define(slots=True, on_setattr=setters.NO_OP)
class FairBucket:
    """A bucket for all keys: one may take while more is left than it has taken itself, of late.

    So who has taken little comes before who has taken much, and between those who always want more
    it ends up shared evenly, with a rest for newcomers. Who stands under several keys, such as an
    address and an account, is held to the one that has taken most.
    """

    rate: float = field(validator=gt(0))
    burst: float = field(validator=gt(0))
    memory: float = field(validator=gt(0))
    """Seconds in which what a key has taken is forgotten, but for 1/e of it."""
    now: float
    capacity: int = field(default=ADDRESS_TABLE, validator=ge(1))
    _all: TokenBucket = field(init=False)
    # Tokens, and when they were counted; the one that was served longest ago is first.
    _taken: OrderedDict[bytes, tuple[float, float]] = field(factory=OrderedDict, init=False)

    @_all.default
    def _shared(self) -> TokenBucket:
        return TokenBucket(self.rate, self.burst, self.now)

    def allow(self, now: float, *keys: bytes) -> bool:
        """Take a token for who has these keys, if there is one for each. HOT PATH of a flood"""
        taken = [self._of_late(key, now) for key in keys]
        if not self._all.ready(now, max(taken) + 1):
            return False
        self._all.allow(now)
        for key, before in zip(keys, taken, strict=True):
            self._taken[key] = before + 1, now
            self._taken.move_to_end(key)
            if len(self._taken) > self.capacity:
                self._taken.popitem(last=False)
        return True

    def _of_late(self, key: bytes, now: float) -> float:
        taken, since = self._taken.get(key, (0.0, now))
        return taken * exp(min(0.0, since - now) / self.memory)

    def __len__(self) -> int:
        return len(self._taken)


def address_key(host: str) -> bytes:
    """The part of an address that one subscriber holds: 4 bytes of IPv4, 8 bytes of IPv6; all of
    that of a pipe.

    An IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`, what a dual-stack socket reports) gives
    the key of the IPv4 address; a scope (`%eth0`) does not matter.

    Raises:
        ValueError: not the text of an IP address.
    """
    # HOT PATH of a flood: a tenth of the time of what follows, also where the socket is dual-stack.
    parts = host.removeprefix(_MAPPED).split(".")
    if len(parts) == 4 and _OCTETS.issuperset(parts):
        return bytes(map(int, parts))
    if host.startswith(PIPE_HOST):
        return host.encode()
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return address.packed[:_IPV6_PREFIX_BYTES]
        address = address.ipv4_mapped
    return address.packed
