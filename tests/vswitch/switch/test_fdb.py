import sys

import pytest

from vswitch.switch.fdb import Fdb, FdbEntry


def mac(number):
    return b"\x02" + number.to_bytes(5, "big")


def known(fdb, now=0.0):
    """(port, last byte of the MAC) of all entries, the longest silent of each port first."""
    return [(entry.port, int(entry.mac[-2:], 16)) for entry in fdb.entries(now)]


def ports_of(fdb, now=0.0):
    ports = [entry.port for entry in fdb.entries(now)]
    return {port: ports.count(port) for port in set(ports)}


def test_a_learned_station_is_looked_up_on_its_port():
    fdb = Fdb()
    assert fdb.lookup(0, mac(1), 0.0) is None
    assert fdb.learn(0, mac(1), 3, 0.0)
    assert not fdb.learn(0, mac(1), 3, 0.1)
    assert fdb.lookup(0, mac(1), 0.1) == 3
    assert len(fdb) == 1


def test_vlans_are_separate():
    fdb = Fdb()
    fdb.learn(0, mac(1), 1, 0.0)
    fdb.learn(7, mac(1), 2, 0.0)
    assert fdb.lookup(0, mac(1), 0.0) == 1
    assert fdb.lookup(7, mac(1), 0.0) == 2
    assert fdb.lookup(8, mac(1), 0.0) is None


def test_a_station_that_moves_is_found_on_its_new_port():
    fdb = Fdb()
    fdb.learn(0, mac(1), 1, 0.0)
    assert fdb.learn(0, mac(1), 2, 0.0)
    assert fdb.lookup(0, mac(1), 0.0) == 2
    assert (fdb.statistics().moved, fdb.statistics().learned) == (1, 1)
    assert fdb.flush(port=1) == 0


def test_an_entry_ages_out_to_the_moment():
    fdb = Fdb(ageing_time=300.0)
    fdb.learn(0, mac(1), 1, 0.0)
    assert fdb.lookup(0, mac(1), 299.9) == 1
    assert fdb.lookup(0, mac(1), 300.0) is None
    assert fdb.entries(300.0) == []
    assert fdb.expire(299.9) == 0
    assert fdb.expire(300.0) == 1
    assert len(fdb) == 0
    assert fdb.statistics().expired == 1


def test_being_heard_again_keeps_an_entry():
    fdb = Fdb(ageing_time=300.0)
    fdb.learn(0, mac(1), 1, 0.0)
    fdb.learn(0, mac(1), 1, 200.0)
    assert fdb.expire(450.0) == 0
    assert fdb.lookup(0, mac(1), 450.0) == 1
    assert fdb.lookup(0, mac(1), 500.0) is None


def test_an_aged_entry_that_is_heard_again_is_new_and_did_not_move():
    fdb = Fdb(ageing_time=300.0)
    fdb.learn(0, mac(1), 1, 0.0)
    assert fdb.learn(0, mac(1), 2, 400.0)
    statistics = fdb.statistics()
    assert (statistics.learned, statistics.expired, statistics.moved) == (2, 1, 0)
    assert fdb.lookup(0, mac(1), 400.0) == 2


def test_expire_stops_at_the_first_young_entry_of_each_port():
    fdb = Fdb(ageing_time=300.0)
    for number in range(10):
        fdb.learn(0, mac(number), number % 2, float(number))
    assert fdb.expire(304.0) == 5
    assert known(fdb, 304.0) == [(0, 6), (0, 8), (1, 5), (1, 7), (1, 9)]


def test_flush_by_port_by_vlan_by_both_and_all():
    def filled():
        fdb = Fdb()
        for port in (1, 2):
            for vlan in (0, 7):
                fdb.learn(vlan, mac(port), port, 0.0)
        return fdb

    assert filled().flush(port=1) == 2
    assert filled().flush(vlan=7) == 2
    assert filled().flush(port=1, vlan=7) == 1
    assert filled().flush(port=3) == 0
    fdb = filled()
    assert fdb.flush() == 4
    assert len(fdb) == 0
    assert fdb.statistics().flushed == 4


def test_overflow_evicts_the_least_recently_used():
    # Open vSwitch, "MAC table overflow": a table of 10, one station a second.
    fdb = Fdb(capacity=10)
    for number in range(10):
        fdb.learn(0, mac(number), 1, float(number))
    fdb.learn(0, mac(10), 1, 10.0)
    assert known(fdb, 10.0) == [(1, number) for number in range(1, 11)]

    # A station that is heard again is no longer the oldest.
    fdb.learn(0, mac(1), 1, 11.0)
    fdb.learn(0, mac(11), 1, 12.0)
    assert known(fdb, 12.0) == [(1, number) for number in [3, 4, 5, 6, 7, 8, 9, 10, 1, 11]]
    assert fdb.statistics().evicted == 2
    assert len(fdb) == 10


def test_overflow_is_fair_between_ports():
    # Open vSwitch, "MAC table overflow fairness": the port with the most entries pays, so that
    # the shares of ports that all ask for more become equal.
    fdb = Fdb(capacity=10)
    number = 0

    def learn(port, count):
        nonlocal number
        for _ in range(count):
            fdb.learn(0, mac(number), port, float(number))
            number += 1

    learn(1, 10)
    assert ports_of(fdb) == {1: 10}
    learn(2, 5)
    assert ports_of(fdb) == {1: 5, 2: 5}
    learn(3, 3)
    assert sorted(ports_of(fdb).values()) == [3, 3, 4]
    learn(4, 2)
    assert sorted(ports_of(fdb).values()) == [2, 2, 3, 3]
    # The newest of each port stay.
    newest = {port: max(n for p, n in known(fdb) if p == port) for port in (1, 2, 3, 4)}
    assert newest == {1: 9, 2: 14, 3: 17, 4: 19}


def test_a_port_that_invents_addresses_drives_out_its_own_only():
    fdb = Fdb(capacity=100)
    for number in range(10):
        fdb.learn(0, mac(number), 1, 0.0)
    for number in range(1000, 11_000):
        fdb.learn(0, mac(number), 2, 1.0)
    assert ports_of(fdb, 1.0) == {1: 10, 2: 90}
    assert fdb.statistics().evicted == 10_000 - 90


def test_capacity_is_never_exceeded_and_default_is_that_of_open_vswitch():
    fdb = Fdb()
    for number in range(8193):
        fdb.learn(0, mac(number), number % 5, 0.0)
    assert len(fdb) == fdb.capacity == 8192
    assert fdb.statistics().entries == 8192


def count_calls(call):
    """Python-level events of one call: a measure of its steps that no machine load disturbs."""
    events = 0

    def trace(frame, event, argument):
        nonlocal events
        events += 1
        return trace

    before = sys.gettrace()  # that of a coverage run
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return events


@pytest.mark.parametrize("ports", [1, 100])
def test_learning_costs_the_same_in_a_full_table_of_any_size(ports):
    costs = set()
    for capacity in (200, 8000):
        fdb = Fdb(capacity=capacity)
        for number in range(capacity):
            fdb.learn(0, mac(number), number % ports, 0.0)
        costs.add(count_calls(lambda fdb=fdb: fdb.learn(0, mac(99_999), 0, 1.0)))
        assert fdb.statistics().evicted == 1
    assert len(costs) == 1


def test_entries_are_listed_by_port_with_their_age():
    fdb = Fdb()
    fdb.learn(7, bytes.fromhex("02005e10000a"), 3, 10.0)
    assert fdb.entries(12.5) == [FdbEntry(vlan=7, mac="02:00:5e:10:00:0a", port=3, age=2.5)]


@pytest.mark.parametrize("limits", [{"capacity": 0}, {"ageing_time": 0.0}])
def test_limits_have_to_make_sense(limits):
    with pytest.raises(ValueError, match="FDB needs"):
        Fdb(**limits)
