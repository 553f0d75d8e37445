"""R20: how long a newcomer needs where a flood leaves room for a share of the inits only."""

import random

import pytest

from transport.handshake.admission import Grant
from transport.handshake.floodgate import LIMIT
from transport.handshake.initiator import Connected
from transport.testing.cores import KnownPeers, Wire
from transport.wire.datagrams import INIT

NO_PROOF = bytes(16)
PATIENCE = 10.0
NEWCOMERS = 200


def times(monkeypatch, bare, proven):
    """Seconds that each needs when such shares of inits without and with a proof get through."""
    monkeypatch.setattr("transport.handshake.admission.LOAD_THRESHOLD", 1e-3)  # all need a proof
    chance, took = random.Random(20), []
    for number in range(NEWCOMERS):
        wire = Wire(seed=number, delay=0.02)
        known = KnownPeers()
        server = wire.host("198.51.100.1", authority=known)

        def passes(datagram):
            if datagram.data[0] != INIT:
                return [datagram]
            share = bare if datagram.data.endswith(NO_PROOF) else proven
            return [datagram] * (chance.random() < share)

        wire.filter = passes
        client = wire.host("192.0.2.7")
        known.keys[client.identity.public] = Grant()
        client.connect(server, patience=PATIENCE)
        began = wire.now
        while not client.events and wire.now < began + PATIENCE:
            wire.advance(0.05)
        assert not client.events or isinstance(client.events[0], Connected)
        took.append(wire.now - began)
    return sorted(took)


@pytest.mark.parametrize(
    ("bare", "proven", "in_time"),
    [
        (LIMIT / 20_000, 1.0, 0.95),  # a flood of 20,000 a second
        (1.0, LIMIT / 20_000, 0.85),  # the same of inits with made-up proofs
        (LIMIT / 10_000, LIMIT / 10_000, 0.95),  # half of each
    ],
)
def test_a_newcomer_is_in_within_three_seconds(monkeypatch, bare, proven, in_time):
    took = times(monkeypatch, bare, proven)
    assert sum(each <= 3.0 for each in took) >= in_time * NEWCOMERS
    assert took[NEWCOMERS // 2] <= 1.0
