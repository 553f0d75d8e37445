"""Connecting: all addresses of a peer are asked side by side, and one outcome counts.

An answer decides, and so does a refusal. Without either it is over when no address can be reached,
or when all have been asked for long enough.

Error contract: `Attempt.result` raises what `Endpoint.connect` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio
from attrs import define, field

from transport.constants import CONNECT_ADDRESSES, CONNECT_STAGGER
from transport.endpoint.demux import Demux
from transport.errors import HandshakeRefused, HandshakeTimeout, PeerUnreachable
from transport.handshake.attempt import Negotiation
from transport.handshake.initiator import Connected, GaveUp, Refused
from transport.handshake.messages import Peer
from transport.session.session import Session
from transport.wire.control import CloseCode
from transport.wire.datagrams import Result
from transport.wire.trains import Address

_REFUSALS: Final = {result: result.name.lower().replace("_", " ") for result in Result} | {
    Result.HYBRID: "one side requires post-quantum handshakes, the other does not make them"
}


@define(eq=False)
class Attempt:
    """One `connect`: its negotiations have one outcome."""

    over: trio.Event = field(factory=trio.Event)
    open: int = 0  # negotiations that may still answer
    obstacles: dict[Address, str] = field(factory=dict)  # who is said to be out of reach, and why
    shut: set[Address] = field(factory=set)  # those to which nothing can be sent at all
    outcome: Connected | Refused | None = None

    def result(self, patience: float) -> Session:
        """What it has come to, now that it is over."""
        outcome = self.outcome
        if isinstance(outcome, Connected):
            return outcome.session
        if isinstance(outcome, Refused):
            raise HandshakeRefused(outcome.result, f"refused: {_REFUSALS[outcome.result]}")
        if self.open:
            raise PeerUnreachable("; ".join(self.obstacles.values()), self.obstacles)
        raise HandshakeTimeout(f"no answer within {patience:g} s", self.obstacles)


class Attempts:
    """Those of one endpoint."""

    def __init__(self, demux: Demux) -> None:
        self._demux = demux
        self.running: dict[Negotiation, Attempt] = {}

    def begin(
        self, peer: Peer, addresses: Sequence[Address], now: float, patience: float
    ) -> Attempt:
        """Ask at all of them, for `patience` seconds. ValueError: no address, or no key."""
        if not addresses:
            raise ValueError("no address to connect to")
        starts = [(each, now + CONNECT_STAGGER * place) for place, each in enumerate(addresses)]
        tries = [
            self._demux.connect(peer, each, start, now + patience)
            for each, start in starts[:CONNECT_ADDRESSES]
        ]
        attempt = Attempt(open=len(tries))
        self.running.update(dict.fromkeys(tries, attempt))
        return attempt

    def end(self, attempt: Attempt) -> None:
        """Nobody is asked any more. Idempotent."""
        for each in [n for n, other in self.running.items() if other is attempt]:
            del self.running[each]
            self._demux.abandon(each)

    def take(self, event: Connected | Refused | GaveUp) -> None:
        """One of its negotiations has ended so."""
        attempt = self.running.get(event.negotiation)
        if attempt is None or attempt.over.is_set():
            if isinstance(event, Connected):
                # Not wanted, and silent: a word under its keys would make the peer take it
                # for our session and drop the one that we use.
                event.session.fail(CloseCode.NORMAL, "not wanted")
                self._demux.touch(event.session)
            return
        attempt.open -= 1
        if not isinstance(event, GaveUp):
            attempt.outcome = event
        if attempt.outcome is not None or not attempt.open:
            attempt.over.set()
            self.end(attempt)

    def obstruct(self, address: Address, why: str, now: float, *, shut: bool) -> None:
        """Whoever tries this address tries its next one at once, if there is any. What was sent and
        refused may be heard the next time, which this host's own verdict excludes: `shut`.
        """
        for attempt in {each for n, each in self.running.items() if n.address == address}:
            attempt.obstacles.setdefault(address, why)
            if shut:  # of a local firewall that rejects ICMP speaks, too, and knows less
                attempt.shut.add(address)
                attempt.obstacles[address] = why
            tries = [n for n, each in self.running.items() if each is attempt]
            if all(each.address in attempt.shut for each in tries):
                attempt.over.set()
            for each in [n for n in tries if not n.sent][:1]:
                self._demux.hurry(each, now)
