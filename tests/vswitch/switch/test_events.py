import pytest

from vswitch.switch.events import BURST, INTERVAL, EventLog


def test_events_are_numbered_and_found_again():
    log = EventLog()
    assert (log.last, log.since()) == (0, [])
    log.add("mac-moved", "pc1", now=1.0, mac="02:00:00:00:00:01", vlan=7)
    log.add("started", now=2.0)
    assert [(e.number, e.at, e.kind, e.port) for e in log.since()] == [
        (1, 1.0, "mac-moved", "pc1"),
        (2, 2.0, "started", ""),
    ]
    assert dict(log.since()[0].facts) == {"mac": "02:00:00:00:00:01", "vlan": 7}
    assert [event.number for event in log.since(1)] == [2]
    assert log.since(2) == log.since(99) == []
    with pytest.raises(TypeError):
        log.since()[0].facts["vlan"] = 8


def test_the_ring_is_bounded_and_shows_what_was_lost():
    log = EventLog(capacity=3)
    for number in range(10):
        log.add("tick", str(number), now=float(number))
    assert [event.number for event in log.since()] == [8, 9, 10]
    assert [event.number for event in log.since(2)] == [8, 9, 10]
    assert [event.number for event in log.since(9)] == [10]


def test_events_that_come_too_often_are_counted_and_push_out_nothing():
    log = EventLog()
    log.add("frozen", "pc2", now=0.0)
    for _ in range(1000):
        log.add("moved", "pc1", now=0.0)
    assert log.last == 1 + BURST
    assert log.add("moved", "pc2", now=0.0) is not None
    later = log.add("moved", "pc1", now=INTERVAL)
    assert later.facts == {"suppressed": 1000 - BURST}
    assert log.add("moved", "pc1", now=INTERVAL).facts == {}


def test_memory_of_events_that_came_often_is_bounded():
    log = EventLog()
    for number in range(10_000):
        log.add("moved", str(number), now=0.0)
    assert len(log._gates) <= 4096
