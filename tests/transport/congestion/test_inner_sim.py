"""A TCP inside the LAN, over real lanes and a simulated path that loses.

What `python -m benchmarks.inner` shows whole. 60 Mbit/s and 50 ms: 260 packets in a round trip, so
without parity there is always one that is missing.
"""

import pytest

from benchmarks.inner import CONTROLS, Bbr, Sample, measure

MBIT, RTT, SECONDS = 60, 50, 6.0
SEED = 20


def found(control, loss, **options):
    return measure(control, MBIT, RTT, loss, seed=SEED, seconds=SECONDS, **options)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_clean_path_is_filled_without_waiting(control):
    goodput, mean, p95, wire = found(control, 0.0)
    assert goodput >= 0.95 * MBIT
    assert mean <= p95 <= 1.1
    assert wire <= 1.15


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_the_inner_round_trip_on_a_path_that_loses(loss):
    goodput, mean, _, wire = found("bbr", loss)
    assert goodput >= 0.9 * MBIT
    assert mean <= 1.5
    assert wire <= 1.3


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_cubic_waits_as_little(loss):
    """How fast it gets depends on when it leaves slow start: 30 to 60 Mbit/s with eight seeds."""
    goodput, mean, _, _ = found("cubic", loss)
    assert goodput >= 0.4 * MBIT
    assert mean <= 1.8


def test_without_parity_everything_waits_for_repetitions():
    _, mean, _, _ = found("bbr", 0.05, parity=False)
    assert mean >= 2


def test_the_same_seed_gives_the_same_run():
    first, second = (measure("bbr", 20, 20, 0.01, seed=3, seconds=1.0) for _ in range(2))
    assert first == second


def test_bbr_looks_at_the_empty_path():
    """When the shortest round trip is ten seconds old, with four packets, and then goes on."""
    control, now, delivered = Bbr(), 0.0, 0
    modes = []
    while now < 12.0:
        now += 0.01
        delivered += 10
        rtt = 0.05 if now < 1 else 0.06
        under_way = 4 if control.mode == "probe_rtt" else 50
        prior = delivered - round(rtt * 1000)
        control.on_ack(Sample(10, rtt, 1000.0, under_way, delivered, prior), now)
        if not modes or modes[-1] != control.mode:
            modes.append(control.mode)
        if control.mode == "probe_rtt":
            assert control.window == control.LEAST
    assert modes == ["startup", "probe_bw", "probe_rtt", "probe_bw"]
    assert control.min_rtt == 0.06
    assert control.window >= 0.9 * 2 * 1000 * 0.06
