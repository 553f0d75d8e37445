"""R20: how long a newcomer needs where a flood leaves room for a share of the inits only."""

import random

import pytest

from transport.handshake.admission import Grant
from transport.handshake.floodgate import LIMIT
from transport.handshake.initiator import Connected, GaveUp
from transport.testing.cores import KnownPeers, Wire
from transport.wire.datagrams import INIT, INIT_SLICE

NO_PROOF = bytes(16)
PATIENCE = 10.0
NEWCOMERS = 200


def times(monkeypatch, bare, proven, *, largest=1432, newcomers=NEWCOMERS, patience=PATIENCE):
    """Seconds that each needs when such shares of inits without and with a proof get through."""
    monkeypatch.setattr("transport.handshake.admission.LOAD_THRESHOLD", 1e-3)  # all need a proof
    chance, took = random.Random(20), []
    for number in range(newcomers):
        wire = Wire(seed=number, delay=0.02, largest=largest)
        known = KnownPeers()
        server = wire.host("198.51.100.1", authority=known)

        def passes(datagram):
            if datagram.data[0] not in (INIT, INIT_SLICE):
                return [datagram]
            share = bare if datagram.data.endswith(NO_PROOF) else proven
            return [datagram] * (chance.random() < share)

        wire.filter = passes
        client = wire.host("192.0.2.7")
        known.keys[client.identity.public] = Grant()
        client.connect(server, patience=patience)
        began = wire.now
        while not client.events and wire.now < began + patience:
            wire.advance(0.05)
        assert not client.events or isinstance(client.events[0], (Connected, GaveUp))
        took.append(wire.now - began)
    return sorted(took)


@pytest.mark.parametrize(
    ("bare", "proven", "in_time"),
    [
        (LIMIT / 20_000, 1.0, 0.95),  # a flood of 20,000 a second
        (1.0, LIMIT / 20_000, 0.85),  # the same of inits with made-up proofs
        (LIMIT / 10_000, LIMIT / 10_000, 0.88),  # half of each
    ],
)
def test_a_newcomer_is_in_within_three_seconds(monkeypatch, bare, proven, in_time):
    took = times(monkeypatch, bare, proven)
    assert sum(each <= 3.0 for each in took) >= in_time * NEWCOMERS
    assert took[NEWCOMERS // 2] <= 1.0


@pytest.mark.parametrize(
    ("arriving", "median"),
    [(20_000, 3.0), (87_000, 12.0)],  # slices a second with a proof
)
def test_a_newcomer_on_a_small_path_needs_three_slices_and_is_in_soon(
    monkeypatch, arriving, median
):
    took = times(monkeypatch, 1.0, LIMIT / arriving, largest=548, newcomers=60, patience=5 * median)
    assert took[30] <= median
