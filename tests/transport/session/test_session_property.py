"""Any sequence of events: what was sent arrives, once, in order, or the session has ended."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from transport.constants import AMPLIFICATION
from transport.handshake.admission import Grant
from transport.handshake.initiator import Connected
from transport.handshake.responder import HALF_OPEN_PER_PEER, Accepted
from transport.testing.cores import Datagram, KnownPeers, Wire, client_and_server

SPOOFED = ("203.0.113.9", 9)

sizes = st.lists(st.sampled_from([0, 1, 100, 1376, 1377, 5000]), min_size=1, max_size=6)
shares = st.sampled_from([0.0, 0.1, 0.3])

events = st.one_of(
    st.tuples(st.just("client sends"), sizes),
    st.tuples(st.just("server sends"), sizes),
    st.tuples(st.just("time passes"), st.sampled_from([0.001, 0.05, 0.5, 3.0, 20.0])),
    st.tuples(st.just("trouble"), st.tuples(shares, shares, shares, shares)),
    st.tuples(st.just("cut"), st.sampled_from(["both", "up", "down"])),
    st.tuples(st.just("heal"), st.none()),
    st.tuples(st.just("rebind"), st.integers(1, 60_000)),
    st.tuples(st.just("rekey"), st.none()),
    st.tuples(st.just("read"), st.none()),
)


class Trouble:
    """A filter for the wire, from a seed."""

    def __init__(self, wire, seed):
        self.wire = wire
        self.rng = random.Random(seed)
        self.loss = self.copies = self.late = self.damage = 0.0
        self.held = []

    def __call__(self, datagram):
        chance = self.rng.random
        out = [] if chance() < self.loss else [datagram]
        if chance() < self.copies:
            out.append(datagram)
        if chance() < self.damage and datagram.data:
            data = bytearray(datagram.data)
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            out.append(Datagram(bytes(data), datagram.source, datagram.destination))
        if chance() < self.late:
            self.held.append(datagram)
        if self.held and chance() < 0.3:
            out.append(self.held.pop(self.rng.randrange(len(self.held))))
        return out


@given(st.lists(events, max_size=25), st.integers(0, 1000))
@settings(max_examples=60)
def test_everything_arrives_once_and_in_order(steps, seed):
    wire, client, server = client_and_server(seed=seed, delay=0.01)
    wire.filter = trouble = Trouble(wire, seed)
    sent, got = {client: [], server: []}, {client: [], server: []}
    cut_since = None
    for what, value in steps:
        match what:
            case "client sends" | "server sends":
                host = client if what == "client sends" else server
                messages = [trouble.rng.randbytes(size) for size in value]
                host.send(*messages)
                sent[host] += messages
            case "time passes":
                # An outage of a minute ends a session; that is another test's subject.
                if cut_since is None or wire.now + value - cut_since < 45:
                    wire.advance(value)
            case "trouble":
                trouble.loss, trouble.copies, trouble.late, trouble.damage = value
            case "cut":
                wire.advance(5.0) if cut_since else None
                cut_since = wire.now if cut_since is None else cut_since
                blocked = {"both": None, "up": server.address, "down": client.address}[value]
                wire.filter = lambda d, to=blocked: (
                    trouble(d) if to is not None and d.destination != to else []
                )
            case "heal":
                if cut_since is not None:
                    cut_since, wire.filter = None, trouble
                    trouble.loss = 0.0
                    wire.advance(10.0)
            case "rebind":
                wire.rebind(client, (client.address[0], value))
            case "rekey":
                client.session.keys.rekey_at = wire.now
                client.demux.touch(client.session)
            case "read":
                got[client] += client.read()
                got[server] += server.read()
    wire.heal()
    wire.advance(45.0)
    got[client] += client.read()
    got[server] += server.read()
    wire.advance(1.0)
    assert client.session.ended is None
    assert server.session.ended is None
    assert got[server] == sent[client]
    assert got[client] == sent[server]
    assert client.session.drained
    assert server.session.drained
    assert (client.demux.sessions, server.demux.sessions) == (1, 1)
    assert server.demux.half_open == 0


class Handshakes(RuleBasedStateMachine):
    """Clients that come, go, restart and set their clocks; somebody who replays all he has seen."""

    def __init__(self):
        super().__init__()
        self.wire = Wire(delay=0.01)
        self.known = KnownPeers()
        self.server = self.wire.host("198.51.100.1", authority=self.known)
        self.past = []  # every client that ever was
        self.clients = {}
        for number in (1, 2):
            self.clients[number] = self.wire.host(f"192.0.2.{number}")
            self.known.keys[self.clients[number].identity.public] = Grant()
            self.past.append(self.clients[number])
        self.addresses = 0
        self.spoofed = 0  # bytes

    numbers = st.sampled_from([1, 2])

    @rule(number=numbers)
    def connect(self, number):
        self.clients[number].connect(self.server, patience=5.0)

    @rule(number=numbers, elsewhere=st.booleans(), clock=st.sampled_from([0, -(10**18), 10**18]))
    def restart(self, number, elsewhere, clock):
        old = self.clients[number]
        self.addresses += elsewhere
        address = ("198.18.0.1", self.addresses) if elsewhere else old.address
        self.wire.hosts.pop(old.address, None)
        self.clients[number] = self.wire.host(*address, identity=old.identity)
        self.clients[number].clock_offset_ns = clock
        self.past.append(self.clients[number])

    @rule(seconds=st.sampled_from([0.005, 0.02, 0.1, 2.0, 6.0]))
    def wait(self, seconds):
        self.wire.advance(seconds)

    @rule(share=st.sampled_from([0.0, 0.3, 1.0]))
    def lose(self, share):
        rng = self.wire.random
        self.wire.filter = lambda datagram: [] if rng.random() < share else [datagram]

    @rule(data=st.data(), spoofed=st.booleans())
    def replay(self, data, spoofed):
        towards = [d for d in self.wire.sent if d.destination == self.server.address]
        if towards:
            seen = towards[data.draw(st.integers(0, len(towards) - 1))]
            self.server.inject(seen.data, SPOOFED if spoofed else seen.source)
            self.spoofed += len(seen.data) * spoofed
            self.wire.settle()

    @invariant()
    def one_session_for_each_key(self):
        live = [each.session for each in self.accepted() if each.session.ended is None]
        peers = [session.peer for session in live]
        assert (
            len(peers)
            == len(set(peers))
            == len(self.server.demux._responder.sessions)
            - len([s for s in self.server.demux._responder.sessions.values() if s.ended])
        )

    @invariant()
    def no_session_that_its_peer_has_not_confirmed(self):
        made = {
            event.session.association
            for client in self.past
            for event in client.events
            if isinstance(event, Connected)
        }
        assert {each.session.association for each in self.accepted()} <= made

    @invariant()
    def little_is_kept_for_the_unproven(self):
        assert self.server.demux.half_open <= HALF_OPEN_PER_PEER * len(self.clients)

    @invariant()
    def a_victim_of_spoofing_gets_little(self):
        got = sum(len(each.data) for each in self.wire.sent if each.destination == SPOOFED)
        assert got <= AMPLIFICATION * self.spoofed

    def accepted(self):
        return [event for event in self.server.events if isinstance(event, Accepted)]

    def teardown(self):
        """However it was: on a network that works, both get in and are heard."""
        self.wire.heal()
        self.wire.advance(70.0)
        for number, client in self.clients.items():
            client.connect(self.server)
            self.wire.advance(9.0)
            client.send(b"%d" % number)
            self.wire.advance(9.0)
            assert self.server.read() == [b"%d" % number]


TestHandshakes = Handshakes.TestCase
TestHandshakes.settings = settings(max_examples=40, stateful_step_count=25)
