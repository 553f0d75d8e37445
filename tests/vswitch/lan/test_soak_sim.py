"""I1 to I8 in virtual minutes of churn, and that the instruments see what they look for."""

import pytest
import trio

from benchmarks.soak import watch
from benchmarks.soak.ledger import MARK, Ledger
from benchmarks.soak.world import Plan, soak
from transport.crypto import cipher
from transport.testing.network import open_network
from transport.wire.datagrams import Suite


@pytest.mark.parametrize("minutes", [4, pytest.param(10, marks=pytest.mark.long)])
def test_minutes_of_churn(minutes):
    report = soak(Plan(seconds=minutes * 60.0, seed=1))
    assert report.breaches == []
    counts = report.counts
    # It was as bad as it should be.
    assert counts["checks"] == len(report.looks) >= minutes // 2 - 1  # once all is quiet
    assert counts["frames received"] > 500 * minutes
    assert counts["lives"] > 3 * minutes
    assert min(counts["died"], counts["left"], counts["replays from their own address"]) > 1
    fates = ("rebind", "outage", "renew", "stall", "burst", "leave", "die")
    assert min(counts[f"fate: {fate}"] for fate in fates) > 1
    # Two for each handshake: some were renewed.
    assert counts["keys"] > 2 * counts["lives"] + 4 * minutes
    assert report.drops["queue_full"] > 0
    assert report.drops["reserved_destination"] > 0


def test_with_long_queues_nothing_is_missing_but_what_waited_too_long():
    report = soak(Plan(seconds=120.0, seed=2, queue=4096))
    assert report.breaches == []
    assert "queue_full" not in report.drops


def test_a_nonce_that_is_used_twice_is_seen():
    ledger = Ledger(1)
    with watch.watched_nonces(ledger):
        sealer = cipher.Sealer(Suite.AESGCM, bytes(32), 1)
        sealer.seal(4, b"one")
        sealer.seal(4, b"two")
        assert ledger.breaches == []
        sealer.counter = 1
        sealer.seal(4, b"three")
        assert [line[:2] for line in ledger.breaches] == ["I6"]
        cipher.Sealer(Suite.AESGCM, bytes(32), 2).seal(4, b"another with the same key")
        assert len(ledger.breaches) == 2


@pytest.mark.parametrize(("datagram", "breaches"), [(b"a" + MARK, 1), (b"a" * 40, 0)])
async def test_a_frame_in_clear_is_seen(autojump_clock, datagram, breaches):
    ledger = Ledger(1)
    async with open_network() as network:
        watch.Tap(network, ledger, watch.random.Random(1))
        a, b = network.socket("10.0.0.1"), network.socket("10.0.0.2")
        a.send_nowait([(datagram, b.local_address, len(datagram))])
        await trio.sleep(1)
    assert len(ledger.breaches) == breaches
