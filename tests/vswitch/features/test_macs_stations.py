"""Which addresses may be heard where: limits, owners, moves that are too many."""

import tracemalloc

from vswitch.features.macs import FREEZE, MOVES_WINDOW, MacDrop, PortRules, Stations
from vswitch.switch.counters import DropReason
from vswitch.switch.events import EventLog
from vswitch.switch.fdb import Fdb


def mac(number):
    return b"\x02" + number.to_bytes(5, "big")


def made(**rules):
    fdb, events = Fdb(), EventLog()
    stations = Stations(fdb, events)
    fdb.set_policy(stations, None)
    for port, name in ((1, "a"), (2, "b"), (3, "c")):
        stations.set_rules(port, rules.get(name, PortRules(name)))
    return fdb, stations, events


def kinds(events):
    return [(event.kind, event.port) for event in events.since()]


def test_a_port_at_its_limit_learns_no_more_and_keeps_what_it_has():
    # As Linux' bridge_fdb_learning_limit.sh: 16 addresses, a limit of 8.
    fdb, _, events = made(a=PortRules("a", limit=8))
    said = [fdb.learn(0, mac(number), 1, 0.0) for number in range(16)]
    assert said == [True] * 8 + [MacDrop.MAC_LIMIT] * 8
    assert fdb.judge(0, mac(20), 1, 0.0) == MacDrop.MAC_LIMIT
    assert fdb.judge(0, mac(7), 1, 0.0) is None
    assert [fdb.learn(0, mac(number), 1, 1.0) for number in range(8)] == [False] * 8
    assert fdb.learn(0, mac(20), 2, 1.0) is True
    assert fdb.learn(0, mac(20), 1, 1.0) == MacDrop.MAC_LIMIT  # a move is one more, too
    assert fdb.lookup(0, mac(20), 1.0) == 2
    # Static ones are not learned, and do not count; those that age out make room.
    fdb.pin(0, mac(30), 1)
    assert fdb.learn(0, mac(30), 1, 1.0) is False
    assert fdb.learn(0, mac(15), 1, 302.0) is True
    assert set(kinds(events)) == {("mac-limit", "a")}
    statistics = fdb.statistics()
    assert statistics.learned == statistics.entries - 1 + statistics.expired


def test_a_static_address_is_where_it_is():
    fdb, stations, events = made()
    fdb.learn(0, mac(1), 2, 0.0)
    stations.set_static({(0, mac(1)): "a"})
    fdb.pin(0, mac(1), 1)
    assert fdb.lookup(0, mac(1), 1e9) == 1
    assert fdb.learn(0, mac(1), 2, 1.0) == fdb.judge(0, mac(1), 2, 1.0) == "mac_refused"
    assert fdb.learn(0, mac(1), 1, 1.0) is False
    assert fdb.flush() == 0
    assert fdb.entries(5.0)[0].static
    # It is not anybody else's while its port is away.
    fdb.forget(1)
    stations.port_down(1)
    assert fdb.lookup(0, mac(1), 1.0) is None
    assert fdb.learn(0, mac(1), 2, 1.0) == DropReason.MAC_REFUSED
    assert events.since()[0].facts["owner"] == "a"
    # In another VLAN it is another address.
    assert fdb.learn(7, mac(1), 2, 1.0) is True


def test_what_a_sticky_port_has_learned_is_its_own_until_flushed():
    fdb, stations, events = made(a=PortRules("a", limit=2, sticky=True))
    fdb.learn(0, mac(1), 1, 0.0)
    assert fdb.learn(0, mac(1), 2, 0.0) == DropReason.MAC_REFUSED
    assert fdb.learn(0, mac(1), 2, 1000.0) == DropReason.MAC_REFUSED  # aged out, still its own
    fdb.forget(1)
    stations.port_down(1)
    assert fdb.learn(0, mac(1), 2, 1000.0) == DropReason.MAC_REFUSED
    stations.set_rules(3, PortRules("a", limit=2, sticky=True))  # the same name, another number
    assert fdb.learn(0, mac(1), 3, 1001.0) is True
    assert fdb.learn(0, mac(2), 3, 1001.0) is True
    assert fdb.learn(0, mac(3), 3, 5000.0) == MacDrop.MAC_LIMIT
    assert stations.release(name="a", vlan=7) == 0
    assert stations.release(name="a") == 2
    assert fdb.learn(0, mac(1), 2, 5000.0) is True
    assert kinds(events)[0] == ("mac-refused", "b")
    # Sticky on a port that has stations already: they are its own from now on.
    stations.set_rules(2, PortRules("b", sticky=True))
    assert fdb.learn(0, mac(1), 3, 5000.0) == DropReason.MAC_REFUSED
    stations.set_rules(2, PortRules("b"))
    assert fdb.learn(0, mac(1), 3, 5000.0) is True


def test_a_port_with_a_list_takes_no_other_sources():
    fdb, stations, events = made(a=PortRules("a", bound=frozenset([mac(1)])))
    assert fdb.learn(0, mac(1), 1, 0.0) is True
    assert fdb.learn(0, mac(2), 1, 0.0) == DropReason.MAC_REFUSED
    assert kinds(events) == [("mac-refused", "a")]
    fdb.learn(0, mac(3), 2, 0.0)
    stations.set_rules(2, PortRules("b", bound=frozenset([mac(4)])))
    assert fdb.lookup(0, mac(3), 0.0) is None
    assert fdb.learn(0, mac(3), 2, 0.0) == DropReason.MAC_REFUSED


def test_an_address_that_moves_to_and_fro_stays_where_it_is_for_a_while():
    fdb, _, events = made()
    fdb.learn(0, mac(1), 1, 0.0)
    said = [fdb.learn(0, mac(1), 2 - moves % 2, moves) for moves in range(5)]
    assert said == [True, True, True, True, MacDrop.MAC_FROZEN]
    assert fdb.lookup(0, mac(1), 5.0) == 1
    assert fdb.learn(0, mac(1), 3, 5.0) == fdb.judge(0, mac(1), 3, 5.0) == MacDrop.MAC_FROZEN
    assert fdb.learn(0, mac(1), 1, 5.0) is False
    assert kinds(events)[-1] == ("mac-frozen", "a")
    assert [kind for kind, _ in kinds(events)].count("mac-moved") == 4
    assert fdb.learn(0, mac(1), 2, 4.0 + FREEZE) is True
    # Its port went away: it may come anywhere.
    fdb.forget(2)
    assert fdb.learn(0, mac(1), 3, 4.0 + FREEZE) is True


def test_a_station_that_roams_at_leisure_is_left_alone():
    fdb, _, _ = made()
    step = MOVES_WINDOW / 4 + 1
    assert all(fdb.learn(0, mac(1), number % 2 + 1, number * step) for number in range(50))


def test_a_full_table_of_static_entries_learns_nothing_and_fails_nowhere():
    fdb = Fdb(capacity=3)
    assert fdb.learn(0, mac(9), 1, 0.0) is True
    assert [fdb.pin(0, mac(number), 1) for number in range(4)] == [True, True, True, False]
    assert fdb.learn(0, mac(9), 1, 0.0) is False
    assert fdb.pin(0, mac(1), 2) is True
    assert fdb.lookup(0, mac(1), 0.0) == 2
    fdb.unpin(0, mac(1))
    fdb.unpin(0, mac(1))
    assert fdb.learn(0, mac(9), 1, 0.0) is True
    fdb.unlearn(0, mac(9))
    fdb.unlearn(0, mac(2))
    statistics = fdb.statistics()
    gone = statistics.expired + statistics.evicted + statistics.flushed
    assert statistics.learned == statistics.entries - statistics.static + gone
    fdb.forget(1)
    fdb.forget(2)
    assert len(fdb) == 0


def test_memory_is_bounded_whatever_the_sources():
    fdb, _, events = made(a=PortRules("a", limit=8192), b=PortRules("b", sticky=True, limit=8192))
    victims = [mac(1 << 30 | number) for number in range(30)]
    for victim in victims:
        fdb.learn(0, victim, 3, 0.0)
    for number in range(20_000):
        fdb.learn(0, mac(number), 1, 0.0)
        fdb.learn(0, mac(number), 2, 0.0)
    tracemalloc.start()
    for number in range(20_000, 60_000):
        fdb.learn(0, mac(number), 1, 1.0)
        fdb.learn(0, mac(number), 2, 1.0)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 5_000_000
    assert len(fdb) <= fdb.capacity
    assert all(fdb.lookup(0, victim, 1.0) == 3 for victim in victims)
    assert len(events.since()) < 100


def test_nothing_is_held_where_that_is_off():
    fdb, stations, events = made()

    def flap(times, since):
        return [fdb.learn(0, mac(1), 1 + each % 2, since + each) for each in range(times)]

    stations.set_freeze(None)
    assert flap(40, 0.0) == [True] * 40
    assert "mac-frozen" not in {kind for kind, _ in kinds(events)}
    stations.set_freeze(5.0)
    assert MacDrop.MAC_FROZEN in flap(10, 100.0)
    stations.set_freeze(None)
    assert fdb.learn(0, mac(1), 1, 110.0) in (True, False)
    assert fdb.learn(0, mac(1), 2, 110.1) is True
