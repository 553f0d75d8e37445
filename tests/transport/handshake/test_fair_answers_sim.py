"""One member, or one address, asks 10,000 times a second; somebody honest needs one answer a second
meanwhile, and gets it, whatever the answer is. Virtual time."""

import pytest

from transport.handshake.admission import REFUSALS_PER_KEY, Grant
from transport.handshake.cookie import MAC_BYTES, MacStamper
from transport.handshake.initiator import Connected, Refused
from transport.handshake.messages import Initiation, Peer
from transport.handshake.reset import RESETS_TOTAL, Resets
from transport.testing.cores import KnownPeers, Wire
from transport.wire.datagrams import RESPONSE, InitPayload, Result, Suite

RATE = 10_000  # a second
SECONDS = 5
HONEST = 4
STEP = 0.01


class Provoker:
    """A member with an init for each of its addresses and ports, and a cookie from each."""

    def __init__(self, server, identity, hosts, *, resume, now):
        jar = server.demux._responder._admission._own[0].jar
        peer = Peer(server.identity.public)
        self.inits = []
        for place in range(1200):  # more than the server remembers the answers of
            host, port = f"203.0.113.{place % hosts}", 1024 + place // hosts
            stamper = MacStamper(peer.key.raw)
            dummy = stamper.stamp(bytes(200), now)
            source = f"{host} {port}".encode()
            mac1 = dummy[-2 * MAC_BYTES : -MAC_BYTES]
            stamper.consume_reply_untrusted(jar.reply(mac1, 7, source, now), now)
            payload = InitPayload(10**18, stamper.cookie(now), resume, receive_window=128)
            init = Initiation(identity, peer, Suite.CHACHAPOLY, 7).init(payload)
            self.inits.append((stamper.stamp(init, now), (host, port)))
        self.sent = 0

    def next(self, count):
        self.sent += count
        return [self.inits[each % len(self.inits)] for each in range(self.sent - count, self.sent)]


# What the provoker is told: how many sessions the server takes, what it shows, who it is.
ANSWERS = {
    "full": (0, 0, Result.OK),
    "session lost": (100, 12345, Result.OK),
    "refused": (100, 0, Result.REVOKED),
    "half-open places full": (100, 0, Result.OK),
}


@pytest.mark.parametrize(("answer", "hosts"), [("full", 1), *((each, 50) for each in ANSWERS)])
def test_who_provokes_answers_leaves_the_others_theirs(answer, hosts):
    places, resume, result = ANSWERS[answer]
    wire = Wire(delay=0.01)
    known = KnownPeers()
    server = wire.host("198.51.100.1", authority=known, max_sessions=places)
    honest = [wire.host(f"192.0.2.{number + 1}") for number in range(HONEST)]
    known.keys.update({host.identity.public: Grant() for host in honest})
    member = wire.host("203.0.113.254").identity
    known.keys[member.public] = Grant(result=result)
    provoker = Provoker(server, member, hosts, resume=resume, now=wire.now)
    served = 0
    for step in range(round(SECONDS / STEP)):
        server.demux.receive_datagrams(provoker.next(round(RATE * STEP)), wire.now)
        if step % round(1 / STEP) == 0:
            for host in honest:
                host.events.clear()
                host.connect(server, patience=0.9)
        wire.advance(STEP)
        if step % round(1 / STEP) == round(0.95 / STEP):
            served += sum(isinstance(host.events[0], Connected | Refused) for host in honest)
    assert served >= 0.95 * HONEST * SECONDS
    told = sum(
        each.data[0] == RESPONSE and each.destination[0].startswith("203.0.113.")
        for each in wire.sent
    )
    # With half-open handshakes, their number; a copy of an init is no new one.
    most = 8 * 8 * 2 if answer == "half-open places full" else (SECONDS + 1) * REFUSALS_PER_KEY * 8
    assert 0 < told <= most


@pytest.mark.parametrize("way", ["all ports of one host", "one index from everywhere"])
def test_who_provokes_resets_leaves_the_others_theirs(way):
    resets = Resets(Wire().host("198.51.100.1").identity, 0.0, bytes)
    own = resets.index(1)
    served = told = asked = 0
    for number in range(RATE * SECONDS):
        now = number / RATE
        if way == "one index from everywhere":
            address, index = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1), own
        else:
            address, index = ("203.0.113.1", number), resets.index(number)
        told += resets.answer(index, address, now) is not None
        if number % (RATE // HONEST) == 0:
            each = asked % HONEST
            asked += 1
            served += (
                resets.answer(resets.index(2**18 + each), ("192.0.2.1", each), now) is not None
            )
    assert served >= 0.95 * asked
    assert 0 < told <= RESETS_TOTAL * (SECONDS + 1)
