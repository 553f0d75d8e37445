"""The newer side of a conversation with an older peer, in which nothing is left to chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from transport.crypto.identity import PrivateKey
from transport.crypto.kem import PostQuantum
from transport.handshake.admission import Grant
from transport.handshake.initiator import Connected, GaveUp, Refused
from transport.handshake.messages import Peer
from transport.handshake.responder import Accepted
from transport.testing.cores import KnownPeers, Wire
from transport.wire.datagrams import COOKIE, INIT, RESPONSE, Suite

RECORDED = Path(__file__).with_name("recorded.json")
MEMBER = PrivateKey.from_raw(b"\x11" * 32), ("192.0.2.1", 41022)
SWITCH = PrivateKey.from_raw(b"\x22" * 32), ("198.51.100.1", 7450)
STEP = 0.01  # seconds, as of the older side
STEPS = 150  # a second and a half: three inits
HELLO = b"from the newer one"
HYBRID_LEAST = 1000  # bytes: an older peer is silent to what is of that size

# What the older side sends in a step, when it has received this.
Older = Callable[[list[bytes]], list[bytes]]


class Conversation:
    """One side: `role` is that of the older one, `wish` what this one wants."""

    def __init__(self, role: str, suite: Suite, wish: PostQuantum) -> None:
        (key, here), (other, there) = (SWITCH, MEMBER) if role == "member" else (MEMBER, SWITCH)
        self.asked: list[bytes] = []  # handshake datagrams of this side, each once
        self.read: list[bytes] = []
        self._there = there
        self._sent: list[bytes] = []
        self._wire = Wire(seed=1)
        self._wire.filter = lambda datagram: self._sent.append(datagram.data) or []
        authority = KnownPeers({other.public: Grant()}) if role == "member" else None
        self.host = self._wire.host(
            *here, authority=authority, identity=key, suite=suite, post_quantum=wish
        )
        if authority is None:
            now = self._wire.now
            self.host.demux.connect(Peer(other.public), there, now, now + 10.0)

    def hold(self, older: Older) -> None:
        """All of it."""
        greeted, answers = False, list[bytes]()
        for _ in range(STEPS):
            for data in answers:
                self.host.inject(data, self._there)
            self._wire.advance(STEP)
            if self.events and isinstance(self.events[0], (Accepted, Connected)):
                self.read += self.host.read()
                if not greeted:
                    self.host.send(HELLO)
                    greeted = True
            for data in self._sent:
                handshake = data[0] in (INIT, RESPONSE, COOKIE) and len(data) < HYBRID_LEAST
                if handshake and data not in self.asked:
                    self.asked.append(data)
            answers = older(self._sent)
            self._sent = []

    @property
    def events(self) -> list[Accepted | Connected | Refused | GaveUp]:
        return self.host.events

    @property
    def hybrid(self) -> bool:
        return self.host.session.statistics(self._wire.now).hybrid


def fixed_ephemerals() -> Callable[[], PrivateKey]:
    """In place of `PrivateKey.generate`, for one conversation."""
    chance = random.Random(3)
    return lambda: PrivateKey.from_raw(chance.randbytes(32))
