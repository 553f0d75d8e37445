"""How many inits are looked at in a flood, and how soon it is over."""

from math import inf

import pytest

from transport.handshake.floodgate import LIMIT, OPEN, SLOT, FloodGate


def flood(gate, rate, seconds, *, proven=False, since=0.0):
    """So many a second arrive; those that the gate lets in are seen. How many that were."""
    seen, credit = 0, 0.0
    for number in range(int(rate * seconds)):
        now = since + number / rate
        if now >= gate.deadline():
            gate.handle_timeout(now)
        credit += gate.shares[proven]
        if credit >= 1:
            credit -= 1
            seen += 1
            gate.saw(proven=proven, now=now)
    return seen


def test_a_crowd_is_no_flood():
    gate = FloodGate(0.0)
    assert flood(gate, LIMIT * 0.9, 5) == int(LIMIT * 0.9 * 5)
    assert gate.shares == OPEN
    assert gate.deadline() == inf


@pytest.mark.parametrize("rate", [6_000, 20_000, 100_000])
def test_of_a_flood_about_the_limit_is_looked_at(rate):
    gate = FloodGate(0.0)
    flood(gate, rate, 2)
    seen = flood(gate, rate, 4, since=2.0)
    assert seen / 4 == pytest.approx(LIMIT, rel=0.25)


def test_inits_with_a_cookie_are_not_limited_by_a_flood_without():
    gate = FloodGate(0.0)
    flood(gate, 20_000, 2)
    assert gate.shares[0] < 0.3
    assert gate.shares[1] == 1.0
    assert flood(gate, 100, 1, proven=True, since=2.0) == 100


def test_proofs_can_be_a_flood_as_well():
    gate = FloodGate(0.0)
    flood(gate, 20_000, 2, proven=True)
    assert gate.shares[0] == 1.0
    assert gate.shares[1] < 0.3


def test_the_gate_opens_again_step_by_step():
    gate = FloodGate(0.0)
    flood(gate, 50_000, 3)
    now, shares = 3.0, []
    while gate.shares != OPEN:
        now = max(now, gate.deadline())
        gate.handle_timeout(now)
        shares.append(gate.shares[0])
    assert now < 3.0 + 10 * SLOT
    assert shares == sorted(shares)
    assert gate.deadline() == inf


def test_the_gate_is_open_after_a_long_silence():
    gate = FloodGate(0.0)
    for now in (1000.0, 2000.0, 3000.0):
        gate.saw(proven=False, now=now)
        assert gate.shares == OPEN
