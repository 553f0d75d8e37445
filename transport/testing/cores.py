"""Demuxes joined by a wire in memory, without Trio and without a clock: for tests of the cores.

    wire, client, server = client_and_server()
    client.session.bulk.send([b"hello"], wire.now)
    wire.settle()
    assert server.read() == [b"hello"]

`wire.now` only moves by `advance`, which stops at every deadline on the way. All that was ever
sent is in `wire.sent`; `wire.filter` decides what becomes of a datagram: a list of what arrives
in its place. Numbers come from a seed; the keys of handshakes do not, but nothing depends on them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable

from attrs import Factory, define, frozen

from transport.congestion.choice import DEFAULT_CONFIG, TransportConfig
from transport.constants import MAX_SESSIONS, MEMORY_LIMIT
from transport.crypto.identity import PrivateKey, PublicKey
from transport.crypto.kem import PostQuantum
from transport.crypto.noise import NO_PSK
from transport.endpoint.demux import Demux
from transport.handshake.admission import Authority, Grant
from transport.handshake.attempt import Negotiation
from transport.handshake.initiator import Connected, GaveUp, Refused
from transport.handshake.messages import NO_CREDENTIAL, Peer
from transport.handshake.responder import Accepted
from transport.session.session import Session
from transport.wire.datagrams import Credential, Suite
from transport.wire.trains import Address, cut

START = 5_000.0  # seconds; a monotonic clock does not begin at zero
WALL_CLOCK_NS = 1_700_000_000 * 10**9  # what the hosts take for the time of day at START


@frozen
class Datagram:
    """A datagram on the wire."""

    data: bytes
    source: Address
    destination: Address


@define
class KnownPeers:
    """An authority over two tables."""

    keys: dict[PublicKey, Grant] = Factory(dict)
    credentials: dict[Credential, Grant] = Factory(dict)
    asked: int = 0  # look-ups

    def look_up(self, peer: PublicKey, credential: Credential) -> Grant | None:
        self.asked += 1
        return self.keys.get(peer) or self.credentials.get(credential)


class Host:
    """One demux at one address, and what it has reported."""

    def __init__(self, wire: Wire, address: Address, identity: PrivateKey, demux: Demux) -> None:
        self.address = address
        self.identity = identity
        self.demux = demux
        self.events: list[Accepted | Connected | Refused | GaveUp] = []
        self.clock_offset_ns = 0  # of the wall clock, to set it wrong
        self._wire = wire

    def connect(
        self,
        to: Host,
        *,
        credential: Credential = NO_CREDENTIAL,
        psk: bytes = NO_PSK,
        patience: float = 10.0,
    ) -> Negotiation:
        """Start a session; nothing is sent before the wire settles."""
        now = self._wire.now
        peer = Peer(to.identity.public, credential, psk)
        return self.demux.connect(peer, to.address, now, now + patience)

    @property
    def session(self) -> Session:
        """The newest session that was reported."""
        sessions = [e.session for e in self.events if isinstance(e, (Accepted, Connected))]
        return sessions[-1]

    def send(self, *messages: bytes) -> None:
        """Give messages to the newest session; they leave when the wire settles."""
        self.session.bulk.send(messages, self._wire.now)
        self.demux.touch(self.session)

    def read(self) -> list[bytes]:
        """What the newest session has received."""
        messages = self.session.bulk.take_messages()
        self.demux.touch(self.session)
        return messages

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the newest session."""
        self.session.close(code, reason, self._wire.now)
        self.demux.touch(self.session)

    def inject(self, data: bytes, source: Address) -> None:
        """A datagram comes in past the wire, say from an attacker at `source`."""
        self.demux.receive_datagrams([(data, source)], self._wire.now)


class Wire:
    """All hosts and what is under way between them."""

    def __init__(self, *, seed: int = 0, delay: float = 0.0, largest: int = 1432) -> None:
        """`largest`: bytes of a datagram that the hosts' interfaces take; they refuse more."""
        self.largest = largest
        self.now = START
        self.delay = delay  # seconds, one way
        self.hosts: dict[Address, Host] = {}
        self.sent: list[Datagram] = []
        self.filter: Callable[[Datagram], Iterable[Datagram]] = lambda datagram: [datagram]
        self.random = random.Random(seed)
        self._on_the_way: deque[tuple[float, Datagram]] = deque()

    def host(
        self,
        ip: str,
        port: int = 7450,
        *,
        authority: Authority | None = None,
        identity: PrivateKey | None = None,
        suite: Suite = Suite.CHACHAPOLY,
        max_sessions: int = MAX_SESSIONS,
        memory_limit: int = MEMORY_LIMIT,
        silent: bool = False,
        config: TransportConfig = DEFAULT_CONFIG,
        post_quantum: PostQuantum = PostQuantum.AUTO,
    ) -> Host:
        """A new host; one that is there already at this address is gone."""
        identity = identity or PrivateKey.from_raw(self.random.randbytes(32))
        host: Host
        demux = Demux(
            identity,
            authority=authority,
            now=self.now,
            random_bytes=self.random.randbytes,
            timestamp_ns=lambda: self._wall_clock() + host.clock_offset_ns,
            suite=suite,
            max_sessions=max_sessions,
            memory_limit=memory_limit,
            silent=silent,
            config=config,
            post_quantum=post_quantum,
        )
        host = self.hosts[(ip, port)] = Host(self, (ip, port), identity, demux)
        return host

    def _wall_clock(self) -> int:
        return WALL_CLOCK_NS + round((self.now - START) * 1e9)

    def rebind(self, host: Host, address: Address) -> None:
        """From now on the host is seen at `address`, and only there."""
        del self.hosts[host.address]
        host.address = address
        self.hosts[address] = host

    def cut(self) -> None:
        """Nothing arrives any more, until `heal`."""
        self.filter = lambda datagram: []

    def heal(self) -> None:
        self.filter = lambda datagram: [datagram]

    def collect(self) -> list[Datagram]:
        """Let every host send what it has; returns that."""
        new: list[Datagram] = []
        for host in list(self.hosts.values()):
            while (event := host.demux.next_event()) is not None:
                host.events.append(event)
            new += self._sent_by(host)
        self.sent += new
        for datagram in new:
            arriving = self.filter(datagram)
            self._on_the_way.extend((self.now + self.delay, each) for each in arriving)
        return new

    def _sent_by(self, host: Host) -> list[Datagram]:
        new: list[Datagram] = []
        while (trains := host.demux.datagrams_to_send(self.now)) or host.demux.settle(self.now):
            made = [
                Datagram(data, host.address, train[1]) for train in trains for data in cut(train)
            ]
            new += [each for each in made if len(each.data) <= self.largest]
            refused = [
                (d.destination, len(d.data), 1, "") for d in made if len(d.data) > self.largest
            ]
            if refused:
                host.demux.too_big(refused, host.demux.live_sessions(), self.now)
        return new

    def _deliver(self) -> bool:
        batches: dict[Address, list[tuple[bytes, Address]]] = {}
        while self._on_the_way and self._on_the_way[0][0] <= self.now:
            datagram = self._on_the_way.popleft()[1]
            arriving = batches.setdefault(datagram.destination, [])
            arriving.append((datagram.data, datagram.source))
        for address, batch in batches.items():
            if address in self.hosts:
                self.hosts[address].demux.receive_datagrams(batch, self.now)
        return bool(batches)

    def settle(self) -> None:
        """Exchange datagrams until nobody has any at this moment."""
        while self.collect() or self._deliver():
            pass

    def deadline(self) -> float | None:
        """When something happens next."""
        dues = [host.demux.deadline() for host in self.hosts.values()]
        if self._on_the_way:
            dues.append(self._on_the_way[0][0])
        return min((due for due in dues if due is not None), default=None)

    def advance(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""
        end = self.now + seconds
        self.settle()
        while (due := self.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            for host in list(self.hosts.values()):
                host.demux.handle_timeout(self.now)
            self.settle()
        self.now = end


def client_and_server(
    *,
    suite: Suite = Suite.CHACHAPOLY,
    delay: float = 0.0,
    seed: int = 0,
    connected: bool = True,
    max_sessions: int = MAX_SESSIONS,
    config: TransportConfig = DEFAULT_CONFIG,
    post_quantum: tuple[PostQuantum, PostQuantum] = (PostQuantum.AUTO, PostQuantum.AUTO),
    largest: int = 1432,
) -> tuple[Wire, Host, Host]:
    """A wire, a client and a server that knows its key; with a session unless told otherwise.
    `post_quantum`: what the client wants, and the server.
    """
    wire = Wire(seed=seed, delay=delay, largest=largest)
    client = wire.host("192.0.2.1", 41022, suite=suite, config=config, post_quantum=post_quantum[0])
    authority = KnownPeers({client.identity.public: Grant()})
    server = wire.host(
        "198.51.100.1",
        authority=authority,
        max_sessions=max_sessions,
        config=config,
        post_quantum=post_quantum[1],
    )
    if connected:
        client.connect(server)
        wire.advance(5 * delay)
    return wire, client, server
