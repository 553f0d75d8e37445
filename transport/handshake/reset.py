"""Stateless reset: tells a peer that its session is lost here (cf. RFC 9000 section 10.3).

A responder that was killed gets sealed datagrams for receiver indices that it no longer knows.
It cannot prove who it is with keys that are gone, so each response gives the initiator, under its
seal, a token for later: a MAC of the receiver index under a key that follows from the responder's
static key and so survives everything. The answer to a datagram with an unknown index is the token
of that index; the initiator that holds the same one shakes hands again, and that is all it does.

    reset key = BLAKE2s(key = static private key, "vswitch reset v1")
    token     = BLAKE2s-128(key = reset key, receiver index, 4 bytes little-endian)
    index     = 20 random bits, and above them 12 bits of BLAKE2s(key = reset key, those)

The 12 bits tell an index that we have once given away from what a stranger makes up, who is met
with silence.

While there are two static keys, new tokens are of the newer one, and indices of either are known,
so that none is lost when the key is replaced, nor in a restart after that. Of the older key's
indices one in 4,096 is taken for the newer one's: its owner finds out by silence instead.

Invariants: a reset is smaller than anything that causes one, so two responders cannot keep each
other busy and a forged source gains nothing; at most one a second goes to an address and port, and
50 in all, shared fairly between indices and hosts; a token says nothing about another index; index
0 is never given away.

Pure; `now` in seconds. Error contract: nothing is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2s
from typing import Final

from transport.constants import RESET_TOKEN_SIZE
from transport.crypto.identity import PrivateKey
from transport.ratelimit import BucketTable, FairBucket, address_key
from transport.wire.datagrams import encode_reset
from transport.wire.trains import Address

RESETS_TOTAL: Final = 50.0  # a second: all that a flood of forged datagrams can make us send
RESETS_PER_ADDRESS: Final = 1.0  # a second, per host and port; one is enough
RESET_BURST: Final = 1.0  # of one address: a member that has lost its switch sends many datagrams
# Seconds for which an index, and a host, is held to what it has used of the total. A source can be
# forged; an index is known to its owner and to who reads the path. A host may have many members.
RESET_MEMORY: Final = 2.5

_LOW_BITS = 20  # a million indices: those of before a restart are hardly ever given away again
_LOW = (1 << _LOW_BITS) - 1


class Resets:
    """A responder's tokens, and its answers to datagrams that are for nobody."""

    __slots__ = ("_addresses", "_keys", "_random", "_total", "silent")

    def __init__(
        self,
        identity: PrivateKey,
        now: float,
        random_bytes: Callable[[int], bytes],
        *,
        silent: bool = False,
    ) -> None:
        """`silent`: tokens are given, so that it can be changed, and no datagram is answered."""
        self.silent = silent
        self.set_identities([identity])
        self._random = random_bytes
        self._total = FairBucket(RESETS_TOTAL, RESETS_TOTAL, RESET_MEMORY, now)
        self._addresses = BucketTable(RESETS_PER_ADDRESS, RESET_BURST)

    def set_identities(self, identities: Sequence[PrivateKey]) -> None:
        """As `Endpoint.set_identities`: what is given away from now on is the first one's."""
        self._keys = [blake2s(b"vswitch reset v1", key=each.raw()).digest() for each in identities]

    def token(self, index: int) -> bytes:
        """What the initiator is told for one receiver index."""
        return _token(self._keys[0], index)

    def index(self, chance: int) -> int:
        """A receiver index that this responder knows for its own, now and after a restart."""
        return _index(self._keys[0], chance)

    def answer(self, index: int, address: Address, now: float) -> bytes | None:
        """The reset for a sealed datagram from `address` with an index that nobody has.

        Under a flood this is a comparison, or a hash. Behind one NAT live many members, so an
        address is host and port first, and the host has its share of the total.
        """
        key = None if self.silent else self._key_of(index)
        if key is None:
            return None
        if not self._addresses.allow(f"{address[0]} {address[1]}".encode(), now):
            return None
        if not self._total.allow(now, b"index %d" % index, address_key(address[0])):
            return None
        return encode_reset(self._random(7), _token(key, index))

    def _key_of(self, index: int) -> bytes | None:
        """Under which it was given away."""
        for key in self._keys:
            if index == _index(key, index):
                return key
        return None


def _token(key: bytes, index: int) -> bytes:
    body = index.to_bytes(4, "little")
    return blake2s(body, key=key, digest_size=RESET_TOKEN_SIZE).digest()


def _index(key: bytes, chance: int) -> int:
    low = chance & _LOW
    check = blake2s(low.to_bytes(3, "little"), key=key, digest_size=2).digest()
    return low | (int.from_bytes(check, "little") & 0xFFF) << _LOW_BITS
