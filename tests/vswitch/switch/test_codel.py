"""When a record that waits is dropped for its age, and when it is not."""

from math import inf

import pytest

from vswitch.frames.records import frame_record
from vswitch.switch.codel import LEAST_INTERVAL, SLACK, STALL_TRIPS, Codel, Patience
from vswitch.switch.device import Distant, patience_with
from vswitch.switch.egress import EgressQueue, Pool

PATIENCE = Patience(0.0)
LATE = 2 * SLACK


class Far:
    """Of a device, what says how far it is."""

    def __init__(self, round_trip, lossy):
        self._round_trip, self._lossy = round_trip, lossy

    def round_trip(self):
        return self._round_trip

    def lossy(self):
        return self._lossy


def record(host, size):
    """A frame record from one MAC address."""
    return frame_record(bytes([2, 0, 0, 0, 0, host] * 2) + b"\x88\xb5" + bytes(size - 18))


def drops_in(codel, seconds, *, waited=LATE, since=0.0, step=0.01):
    """How many of the records that are taken every `step` seconds are dropped."""
    times = [since + step * number for number in range(round(seconds / step))]
    return sum(codel.drops(waited, PATIENCE, now, last=False) for now in times)


def test_a_short_wait_drops_nothing():
    assert drops_in(Codel(), 10, waited=SLACK * 0.9) == 0


def test_a_burst_drops_nothing():
    """A queue that is long for less than an interval has done its work."""
    codel = Codel()
    for start in range(20):
        assert drops_in(codel, LEAST_INTERVAL * 0.9, since=start) == 0
        assert not codel.drops(0.0, PATIENCE, start + 0.5, last=False)


def test_records_may_wait_longer_on_a_path_that_loses_things():
    usual, lossy = Patience(0.1), Patience(0.1, lossy=True)
    assert lossy.target == usual.target + 0.1 * STALL_TRIPS
    assert lossy.interval == usual.interval + 0.1 * STALL_TRIPS
    assert Patience(None, lossy=True).target == inf


@pytest.mark.parametrize("lossy", [False, True])
def test_a_device_says_whether_its_path_loses_things(lossy):
    assert patience_with(Far(0.1, lossy)).target == Patience(0.1, lossy=lossy).target
    assert patience_with(Far(None, lossy)).target == inf
    assert patience_with(None, slow=True).target == Patience(0.0).target


def test_a_device_has_a_path_though_it_fails_to_say_which():
    class Broken(Far):
        def round_trip(self):
            raise AttributeError

    device = Broken(0.1, False)
    assert isinstance(device, Distant)
    with pytest.raises(AttributeError):
        patience_with(device)


def test_a_queue_that_stands_drops_ever_more():
    codel = Codel()
    counts = [drops_in(codel, 1, since=float(second)) for second in range(5)]
    assert 5 <= counts[0] <= 30
    assert counts == sorted(counts)
    assert counts[-1] > 2 * counts[0]


def test_dropping_stops_when_the_queue_has_gone():
    codel = Codel()
    drops_in(codel, 3)
    assert not codel.drops(0.0, PATIENCE, 3.0, last=False)
    assert drops_in(codel, LEAST_INTERVAL, since=3.0) == 0


def test_dropping_begins_faster_when_it_ended_not_long_ago():
    codel = Codel()
    fresh = drops_in(codel, 0.5)
    drops_in(codel, 2, since=0.5)
    codel.drops(0.0, PATIENCE, 2.5, last=False)
    assert drops_in(codel, 0.5, since=2.51) > fresh


def test_the_last_record_of_a_flow_is_never_dropped():
    codel = Codel()
    assert not any(codel.drops(9.0, PATIENCE, 0.01 * n, last=True) for n in range(1000))


@pytest.mark.parametrize("trip", [0.01, 0.2, 1.0])
def test_patience_follows_the_path(trip):
    patience = Patience(trip)
    assert patience.target == SLACK + trip
    assert patience.interval > 2 * trip


def test_records_for_a_device_without_a_path_are_not_dropped_for_waiting():
    patience = Patience(None)
    assert patience.target == inf
    assert not any(Codel().drops(1e9, patience, float(n), last=False) for n in range(100))


# --- In the queue ------------------------------------------------------------------------------


def fill(queue, flow, count, now):
    records = [record(flow, 1000) for _ in range(count)]
    assert queue.offer(records, now) == []
    return records


def test_records_that_stood_too_long_are_given_up_and_none_is_forgotten():
    queue = EgressQueue()
    offered = fill(queue, 1, 1000, 0.0)
    taken, late, now = [], [], 0.0
    while queue:
        taken += queue.take(1000, now, PATIENCE)
        late += queue.take_late()
        now += 0.005
    assert late
    assert len(taken) + len(late) == len(offered)
    assert queue.bytes == 0
    assert queue.take_late() == []


def test_a_flow_loses_nothing_for_another_that_stands():
    queue = EgressQueue()
    fill(queue, 1, 1000, 0.0)
    now, pings, got = 0.0, 0, []
    while queue:
        if pings < 100:
            queue.offer([record(2, 64)], now)
            pings += 1
        got += queue.take(1000, now, PATIENCE)
        now += 0.005
    assert sum(len(record) < 200 for record in got) == pings == 100
    assert all(len(record) > 200 for record in queue.take_late())


def test_queues_share_a_pool():
    pool = Pool(size=1_000_000)
    queues = [EgressQueue(max_bytes=1_000_000, pool=pool) for _ in range(10)]
    refused = 0
    for queue in queues:
        records = [record(1, 1000) for _ in range(1000)]
        refused += len(queue.offer(records))
    assert pool.used == sum(queue.bytes for queue in queues)
    assert pool.used < 1_700_000
    assert refused
    assert min(queue.bytes for queue in queues) > 60_000  # nobody is left without
    for queue in queues:
        queue.take(10_000)
        queue.put_back([b"\0" * 100])
        queue.clear()
    assert pool.used == 0
