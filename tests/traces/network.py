"""Demuxes on emulated paths in virtual time, all of it written into a trace.

    net = Net(trace, seed=1)
    server = net.host("198.51.100.1", authority=net.known)
    client = net.host("192.0.2.1")
    net.path(client, server, PathSpec(rate=10e6, delay=0.02))
    client.connect(server)
    client.bulk(messages=1000, size=1400)
    net.run(5.0)

Hosts read whatever has arrived at once, and sources fill the credit that there is.
"""

import heapq
import random
from collections.abc import Callable
from itertools import count

from tests.traces.trace import Trace
from transport import Grant, Peer, PrivateKey, Suite
from transport.crypto.kem import PostQuantum
from transport.crypto.noise import NO_PSK
from transport.emulation import Direction, PathSpec
from transport.endpoint.demux import Demux
from transport.handshake.initiator import Connected, GaveUp, Refused
from transport.handshake.messages import NO_CREDENTIAL
from transport.handshake.responder import Accepted
from transport.session.session import Session
from transport.testing.cores import KnownPeers
from transport.testing.network import packet_size
from transport.wire.trains import Address, cut

START = 5_000.0  # seconds
WALL_CLOCK_NS = 1_700_000_000 * 10**9


class Host:
    """One demux at one address."""

    def __init__(self, net: "Net", address: Address, identity: PrivateKey, **options) -> None:
        self.net, self.address, self.identity = net, address, identity
        self.demux = Demux(
            identity,
            now=net.now,
            random_bytes=net.random.randbytes,
            timestamp_ns=lambda: WALL_CLOCK_NS + round((net.now - START) * 1e9),
            **options,
            post_quantum=PostQuantum.OFF,  # whose chance has no seed
        )
        self.sessions: list[Session] = []
        self.sources: list[Callable[[Session], None]] = []  # called with the newest session
        self.reads = True

    @property
    def session(self) -> Session | None:
        return self.sessions[-1] if self.sessions else None

    def connect(
        self, to: "Host", *, credential=NO_CREDENTIAL, psk=NO_PSK, patience: float = 10.0
    ) -> None:
        now = self.net.now
        peer = Peer(to.identity.public, credential, psk)
        self.demux.connect(peer, to.address, now, now + patience)

    def bulk(self, messages: int, size: int) -> None:
        """Send so many as fast as they are taken."""
        numbers = iter(range(messages))

        def fill(session: Session) -> None:
            while session.bulk.credit > 0 and (number := next(numbers, None)) is not None:
                session.bulk.send([number.to_bytes(4, "big") * (size // 4)], self.net.now)
                self.demux.touch(session)

        self.sources.append(fill)

    def act(self, what: Callable[[Session], object]) -> None:
        """Do something with the newest session, if there is one that has not ended."""
        if self.session is not None and self.session.ended is None:
            what(self.session)
            self.demux.touch(self.session)

    def every(self, seconds: float, what: Callable[[Session, int], object], times: int) -> None:
        """Do it again and again; with a number."""
        for number in range(times):
            self.net.at(
                number * seconds, lambda n=number: self.act(lambda session: what(session, n))
            )

    def poll(self) -> None:
        """Take and write down all that has come."""
        add, now = self.net.trace.add, self.net.now
        while (event := self.demux.next_event()) is not None:
            add(now, self.address, type(event).__name__, getattr(event, "result", ""))
            if isinstance(event, (Accepted, Connected)):
                self.sessions.append(event.session)
            else:
                assert isinstance(event, (Refused, GaveUp))
        for number, session in enumerate(self.sessions):
            while (change := session.next_event()) is not None:
                add(now, self.address, number, change)
            if not self.reads or not session.readable:
                continue
            lanes = {
                "bulk": session.bulk.take_messages(),
                "sparse": session.sparse.take_messages(),
                # by the name it had when the traces were recorded
                "loose": session.datagrams.take_messages() if session.datagrams else [],
            }
            for lane, messages in lanes.items():
                for message in messages:
                    add(now, self.address, number, lane, len(message), message)
            self.demux.touch(session)
        if self.session is not None and self.session.ended is None:
            for source in self.sources:
                source(self.session)

    def conclude(self) -> None:
        """Everything that is counted."""
        add, demux, now = self.net.trace.add, self.demux, self.net.now
        add(now, self.address, demux.sessions, demux.half_open, demux.received, demux.drops)
        add("gate", demux.gate.shares)
        for session in self.sessions:
            add(session.statistics(now), session.ended, session.bulk.message_size, session.drained)


class Net:
    """All hosts, the paths between them, and the time."""

    def __init__(self, trace: Trace, *, seed: int, largest: int = 1472) -> None:
        self.trace, self.largest, self.seed = trace, largest, seed
        self.now = START
        self.random = random.Random(seed)
        self.known = KnownPeers()
        self.hosts: dict[Address, Host] = {}
        self._ways: dict[tuple[str, str], Direction] = {}
        self._events: list[tuple[float, int, object]] = []  # a call, or a datagram that arrives
        self._serial = count()

    def host(
        self, ip: str, port: int = 7450, *, identity=None, authority=None, suite=None, **options
    ) -> Host:
        """A new host, which all authorities know; what was at the address is gone."""
        identity = identity or PrivateKey.from_raw(self.random.randbytes(32))
        self.known.keys[identity.public] = Grant()
        options.update(authority=authority, suite=suite or Suite.CHACHAPOLY)
        host = self.hosts[(ip, port)] = Host(self, (ip, port), identity, **options)
        return host

    def path(self, a: Host, b: Host, there: PathSpec, back: PathSpec | None = None) -> None:
        """What the path between two hosts is like, from now on."""
        for way, spec in (((a, b), there), ((b, a), back or there)):
            key = (way[0].address[0], way[1].address[0])
            if key in self._ways:
                self._ways[key].change(spec, self.now)
            else:
                self._ways[key] = Direction(spec, self.seed * 1000 + len(self._ways))

    def burden(self, a: Host, b: Host, *, rate: float, seconds: float) -> None:
        """Others send as well on the way from one host to the other; bit/s."""
        way, pause = self._ways[(a.address[0], b.address[0])], 1500 * 8 / rate
        for number in range(round(seconds / pause)):
            self.at(number * pause, lambda: way.offer(1500, self.now))

    def rebind(self, host: Host, address: Address) -> None:
        """The host is seen at another address from now on, and only there."""
        for (source, target), way in list(self._ways.items()):
            if source == host.address[0]:
                self._ways[(address[0], target)] = way
            elif target == host.address[0]:
                self._ways[(source, address[0])] = way
        del self.hosts[host.address]
        host.address = address
        self.hosts[address] = host

    def at(self, seconds: float, what: Callable[[], object]) -> None:
        """Do it so many seconds from now."""
        heapq.heappush(self._events, (self.now + seconds, next(self._serial), what))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self._flush()
        while (due := self._next()) <= end:
            self.now = max(self.now, due)
            self._happen()
            for host in list(self.hosts.values()):
                if (deadline := host.demux.deadline()) is not None and deadline <= self.now:
                    host.demux.handle_timeout(self.now)
            self._flush()
        self.now = end

    def conclude(self) -> None:
        """Write down all statistics."""
        for host in self.hosts.values():
            host.conclude()
        for way in self._ways.values():
            self.trace.add(way.counts)

    def _next(self) -> float:
        dues = [host.demux.deadline() for host in self.hosts.values()]
        if self._events:
            dues.append(self._events[0][0])
        return min((due for due in dues if due is not None), default=float("inf"))

    def _happen(self) -> None:
        batches: dict[Address, list[tuple[bytes, Address]]] = {}
        while self._events and self._events[0][0] <= self.now:
            what = heapq.heappop(self._events)[2]
            if isinstance(what, tuple):
                data, source, destination = what
                batches.setdefault(destination, []).append((data, source))
            else:
                what()
        for address, batch in batches.items():
            if address in self.hosts:
                self.hosts[address].demux.receive_datagrams(batch, self.now)

    def _flush(self) -> None:
        for host in list(self.hosts.values()):
            host.poll()
            while (trains := host.demux.datagrams_to_send(self.now)) or host.demux.settle(self.now):
                for train in trains:
                    for data in cut(train):
                        self._carry(data, host, train[1])
                host.poll()

    def _carry(self, data: bytes, host: Host, destination: Address) -> None:
        source = host.address
        if len(data) > self.largest:
            self.trace.add(self.now, source, "refused", len(data))
            host.demux.too_big(
                [(destination, len(data), 1, "")], host.demux.live_sessions(), self.now
            )
            return
        self.trace.add(self.now, source, destination, len(data), data[0], data)
        way = self._ways.get((source[0], destination[0]))
        if way is None:
            arrivals = [(self.now, None)]
        else:
            arrivals = way.offer(packet_size(data, destination[0]), self.now)
        for due, bit in arrivals:
            copy = data
            if bit is not None:
                at = bit // 8 % len(data)
                copy = data[:at] + bytes((data[at] ^ 1 << bit % 8,)) + data[at + 1 :]
            heapq.heappush(self._events, (due, next(self._serial), (copy, source, destination)))
