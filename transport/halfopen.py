"""Handshakes that were answered and not confirmed: keys kept aside, bounded, for five seconds.

Whoever replays an init gets here too, so an entry may cost nobody else anything: at most 256 in
all and 4 of one peer, the oldest expire first, and a second one of the same peer has to prove
its address, so that replays from elsewhere cannot push the real peer out.
"""

from __future__ import annotations

from collections import Counter

from attrs import frozen

from transport.constants import HALF_OPEN_LIFETIME, HALF_OPEN_PER_PEER, HALF_OPEN_TOTAL
from transport.identity import PublicKey
from transport.keyring import KeyPair
from transport.paths import Address
from transport.session import Session
from transport.wire import Credential

__all__ = ["HalfOpen", "HalfOpenTable"]


@frozen(eq=False)
class HalfOpen:
    """What becomes a session, or a session's new keys, when something opens under `pair`."""

    pair: KeyPair
    peer: PublicKey
    credential: Credential
    timestamp_ns: int
    association: int
    resumes: Session | None
    kcp_mtu: int
    max_slices: int  # that the peer takes
    address: Address  # where the response went: who confirms could read there
    expires: float


class HalfOpenTable:
    """By local index, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[int, HalfOpen] = {}
        self._per_peer: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, peer: PublicKey) -> int:
        return self._per_peer[peer.raw]

    def full_for(self, peer: PublicKey) -> bool:
        return len(self) >= HALF_OPEN_TOTAL or self.of(peer) >= HALF_OPEN_PER_PEER

    def add(self, entry: HalfOpen) -> None:
        self._entries[entry.pair.local_index] = entry
        self._per_peer[entry.peer.raw] += 1

    def remove(self, entry: HalfOpen) -> None:
        del self._entries[entry.pair.local_index]
        self._per_peer[entry.peer.raw] -= 1
        if not self._per_peer[entry.peer.raw]:
            del self._per_peer[entry.peer.raw]

    def expire(self, now: float) -> list[HalfOpen]:
        """Take out what nobody confirmed in time."""
        late: list[HalfOpen] = []
        for entry in self._entries.values():
            if now < entry.expires:
                break
            late.append(entry)
        for entry in late:
            self.remove(entry)
        return late

    def deadline(self) -> float | None:
        first = next(iter(self._entries.values()), None)
        return None if first is None else first.expires

    @staticmethod
    def expiry(now: float) -> float:
        return now + HALF_OPEN_LIFETIME
