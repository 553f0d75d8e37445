"""The books of the soak find whatever is wrong: else a clean soak would say nothing."""

import pytest

from benchmarks.soak.ledger import ALL, NOBODY, RESERVED, Ledger
from vswitch.switch.counters import DropReason, PortCounters


class Pair:
    """Two stations, and a switch that does what the test says."""

    def __init__(self):
        self.ledger = Ledger(1)
        self.a, self.b = self.ledger.begin(1), self.ledger.begin(2)
        self.ports = {self.a: PortCounters(), self.b: PortCounters()}
        for life, counters in self.ports.items():
            self.ledger.up(life, counters)
            life.known = 0.0

    def send(self, target, count=1):
        """Frames that the switch takes from A."""
        frames = []
        for _ in range(count):
            frame = self.ledger.make(self.a, target, 100, 1.0)
            self.ledger.given(self.a, target, frame)
            frames.append(frame)
            self.ports[self.a].rx_frames += 1
            self.ports[self.a].rx_bytes += len(frame)
        return frames

    def bring(self, *frames, life=None):
        life = life or self.b
        for frame in frames:
            self.ports[life].tx_frames += 1
            self.ledger.arrived(life, frame)

    def found(self):
        self.ledger.check()
        return [line.partition(":")[0] for line in self.ledger.breaches]


@pytest.fixture
def pair():
    return Pair()


@pytest.mark.parametrize("target", [ALL, NOBODY, 2])
def test_what_arrives_once_and_in_order_is_right(pair, target):
    pair.bring(*pair.send(target, 5))
    assert pair.found() == []
    pair.bring(*pair.send(target, 5))
    assert pair.found() == []


@pytest.mark.parametrize("lost", [0, 2, 4])
def test_a_frame_that_is_missing(pair, lost):
    frames = pair.send(2, 5)
    pair.bring(*frames[:lost], *frames[lost + 1 :])
    assert pair.found() == ["I1"]


def test_all_of_a_flow_is_missing(pair):
    pair.send(ALL, 3)
    assert pair.found() == ["I1"]


def test_a_frame_that_a_full_queue_refused(pair):
    frames = pair.send(2, 5)
    pair.bring(*frames[1:])
    pair.ports[pair.b].drop(DropReason.QUEUE_FULL, 1)
    assert pair.found() == []


def test_a_frame_that_comes_twice_or_late(pair):
    one, two = pair.send(2, 2)
    pair.bring(one, one, two)
    assert pair.found() == ["I1"]
    pair = Pair()
    one, two = pair.send(2, 2)
    pair.bring(two, one)
    assert pair.found() == ["I1", "I1"]  # too late, and so missing


def test_a_frame_that_was_changed(pair):
    (frame,) = pair.send(2)
    pair.bring(frame[:-1] + bytes([frame[-1] ^ 1]))
    assert pair.found() == ["I1"]


def test_a_frame_for_others(pair):
    c = pair.ledger.begin(3)
    pair.ports[c] = PortCounters()
    pair.ledger.up(c, pair.ports[c])
    c.known = 2.0
    (early,) = pair.send(3)  # as it was sent, nobody knew station 3
    pair.bring(early)
    pair.bring(early, life=c)
    assert pair.found() == []
    c.known = 0.5
    (late,) = pair.send(3)
    pair.bring(late)
    pair.bring(late, life=c)
    assert pair.found() == ["I4"]


def test_a_frame_that_comes_back_or_is_against_the_policy(pair):
    (frame,) = pair.send(ALL)
    pair.bring(frame)
    pair.bring(frame, life=pair.a)
    pair.bring(*pair.send(RESERVED))
    pair.ports[pair.a].drop(DropReason.RESERVED_DESTINATION, 1)
    assert pair.found() == ["I4", "I4"]


def test_accounts_that_differ_by_one(pair):
    pair.bring(*pair.send(2, 3))
    pair.ports[pair.b].tx_frames += 1
    pair.ports[pair.a].rx_frames -= 1
    assert pair.found() == ["I2", "I2"]


def test_who_dies_loses_what_was_at_risk_and_no_more(pair):
    pair.bring(*pair.send(2, 2))
    pair.ports[pair.a].rx_bytes -= 150
    pair.ledger.end(pair.a, "died", at_risk=150)
    assert pair.found() == []
    pair = Pair()
    pair.bring(*pair.send(2, 2))
    pair.ports[pair.a].rx_bytes -= 151
    pair.ledger.end(pair.a, "died", at_risk=150)
    assert pair.found() == ["I3"]


def test_all_that_one_sent_who_said_goodbye_is_owed(pair):
    frames = pair.send(2, 3)
    pair.bring(*frames[:2])
    pair.ledger.end(pair.a, "left")
    assert pair.found() == ["I1"]
