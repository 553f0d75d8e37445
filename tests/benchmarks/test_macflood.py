"""An address that flaps a thousand times a second, and what the other stations notice: nothing."""

from vswitch.features.macs import PortRules, Stations
from vswitch.switch.events import EventLog
from vswitch.switch.fdb import Fdb


def test_flapping_leaves_others_alone_and_the_log_readable():
    fdb, events = Fdb(), EventLog()
    stations = Stations(fdb, events)
    fdb.set_policy(stations, None)
    for number in (1, 2, 3):
        stations.set_rules(number, PortRules(f"p{number}"))
    victim, flapping = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
    fdb.learn(0, victim, 3, 0.0)
    moves = 0
    for step in range(60_000):  # one minute
        now = step / 1000
        moves += fdb.learn(0, flapping, step % 2 + 1, now) is True
        fdb.learn(0, victim, 3, now)
    assert moves <= 10
    assert fdb.lookup(0, victim, 60.0) == 3
    assert fdb.statistics().moved <= 10
    assert len(events.since()) <= 10
    assert len(stations._moving) == 1
