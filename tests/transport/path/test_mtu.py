"""The search for the path's datagram size: what passes is used, soon, and nothing else for long."""

import itertools
from math import inf

import pytest

from transport.path.mtu import (
    BASE_SIZE,
    LARGEST_SIZE,
    LONGEST_WAIT,
    RAISE_AFTER,
    RESTART_INTERVAL,
    RETRY_AFTER,
    SMALLEST_SIZE,
    STALL_MAX,
    STALL_MIN,
    TRIES,
    USUAL_SIZE,
    PathMtu,
    grain,
)

RTT = 0.05


class Path:
    """A path, and the search on it; time passes from deadline to deadline."""

    def __init__(self, largest, *, interface=inf, smallest=SMALLEST_SIZE):
        self.now = 1000.0
        self.largest = largest  # what passes
        self.interface = interface  # what the interface takes
        self.sent = []  # time and size of each probe
        self.search = PathMtu(self.now, smallest)
        self.search.begin(self.now)

    def turn(self):
        """What happens at this moment: answers come after a round trip."""
        search = self.search
        for _ in range(100):
            sizes = search.probes(self.now, RTT)
            self.sent += [(self.now, size) for size in sizes]
            for size in sizes:
                if size > self.interface:
                    search.too_big(size, self.now)
            arrived = [size for size in sizes if size <= min(self.largest, self.interface)]
            if arrived:
                self.now += RTT
            for size in arrived:
                search.acknowledged(size, search.epoch, self.now)
            if not sizes or search.due > self.now:
                return
        raise AssertionError("it goes on without end")

    def run(self, seconds):
        end = self.now + seconds
        while max(self.now, self.search.due) <= end:
            self.now = max(self.now, self.search.due)
            self.turn()
        self.now = max(self.now, end)

    def stall(self, seconds, step=0.1):
        """Data is on its way and nothing of it arrives; when the search began anew, if it did."""
        began, epoch = self.now, self.search.epoch
        while self.now < began + seconds:
            self.search.watch(7, self.now, RTT)
            if self.search.epoch != epoch:
                return self.now - began
            self.now += step
        return None


def test_the_base_is_used_before_anything_is_proven():
    search = PathMtu(0.0)
    assert search.size == BASE_SIZE
    assert search.probes(100.0, None) == ()  # nobody is known to be there
    search.begin(100.0)
    assert search.probes(100.0, None) == (SMALLEST_SIZE, BASE_SIZE, USUAL_SIZE)
    assert search.size == BASE_SIZE


@pytest.mark.parametrize("largest", [1432, 1452, 1472, 8952, 8972])
def test_common_sizes_are_found_exactly(largest):
    path = Path(largest)
    path.run(60.0)
    assert path.search.size == largest


def test_a_usual_path_takes_one_round_trip():
    path = Path(1472, interface=1472)
    path.turn()
    assert path.search.size == 1472
    assert path.now == pytest.approx(1000.0 + 2 * RTT)


def test_a_size_that_the_interface_refuses_is_ruled_out_at_once():
    path = Path(9000, interface=1392)
    path.run(1.0)
    assert 1392 - grain(1392) < path.search.size <= 1392
    assert len(path.sent) < 20


def test_a_path_below_the_base_is_noticed_after_one_wait():
    path = Path(972)
    path.run(LONGEST_WAIT)
    assert SMALLEST_SIZE <= path.search.size <= 972
    path.run(30.0)
    assert 972 - grain(972) < path.search.size <= 972


def test_an_interface_below_the_base():
    path = Path(9000, interface=800)
    path.run(0.5)
    assert 800 - grain(800) < path.search.size <= 800


def test_an_interface_that_takes_nothing_is_not_asked_without_end():
    path = Path(9000, interface=100)
    path.run(RAISE_AFTER / 2)
    assert len(path.sent) <= 3
    assert path.search.size == SMALLEST_SIZE


def test_a_size_is_tried_a_few_times_before_it_counts_as_too_large():
    path = Path(1300)
    path.run(120.0)
    for size in {size for _, size in path.sent}:
        assert [each for _, each in path.sent].count(size) <= TRIES
    waits = [second - first for (first, _), (second, _) in itertools.pairwise(path.sent)]
    assert max(waits) <= LONGEST_WAIT


def test_two_lost_probes_of_three_do_no_harm():
    search = PathMtu(0.0)
    search.begin(0.0)
    for number in range(TRIES):
        sizes = search.probes(search.due, RTT)
        assert USUAL_SIZE in sizes, number
    search.acknowledged(USUAL_SIZE, search.epoch, search.due)
    assert search.size == USUAL_SIZE


def test_a_search_that_is_over_costs_nothing_for_ten_minutes():
    path = Path(1472)
    path.run(120.0)
    sent = len(path.sent)
    path.run(RAISE_AFTER - 121.0)
    assert len(path.sent) == sent


def test_a_path_that_has_become_better_is_found_after_ten_minutes():
    path = Path(1300)
    path.run(120.0)
    path.largest = 1472
    path.run(RAISE_AFTER + 60.0)
    assert path.search.size == 1472


def test_a_raise_keeps_what_is_known():
    path = Path(1272)
    path.run(120.0)
    found, path.sent = path.search.size, []
    path.run(RAISE_AFTER + 60.0)
    assert path.search.size == found
    assert min(size for _, size in path.sent) > found


@pytest.mark.parametrize("largest", [1472, 1272, 1252, 972, 600])
def test_a_black_hole(largest):
    """Five seconds until data fits again, of which two at most after the first small probe."""
    path = Path(1472)
    path.run(120.0)
    path.largest = largest
    began = path.now
    assert path.stall(10.0) == pytest.approx(STALL_MIN, abs=0.11)
    assert path.search.size == BASE_SIZE
    path.run(LONGEST_WAIT)
    assert path.search.size <= largest
    assert path.now - began < 5.0
    path.run(60.0)
    assert largest - grain(largest) < path.search.size <= largest


def test_a_stall_for_another_reason_costs_a_round_trip():
    path = Path(8972)
    path.run(120.0)
    path.stall(10.0)
    path.turn()
    assert path.search.size == 8972
    assert path.now - path.sent[-1][0] <= 2 * RTT


def test_data_that_gets_through_is_no_black_hole():
    search = Path(1472).search
    search.acknowledged(SMALLEST_SIZE, search.epoch, 1000.0)
    epoch = search.epoch
    for number in range(1000):
        search.watch(number // 5, 1000.0 + number / 10, RTT)
    for number in range(100):
        search.watch(None, 1200.0 + number / 10, RTT)
    assert search.epoch == epoch


def test_long_round_trips_have_more_patience():
    for rtt, patience in ((0.2, STALL_MIN), (0.6, 1.8), (5.0, STALL_MAX)):
        path = Path(1472)
        path.run(120.0)
        epoch = path.search.epoch
        began = path.now
        while path.search.epoch == epoch:
            path.search.watch(7, path.now, rtt)
            path.now += 0.1
        assert path.now - 0.1 - began == pytest.approx(patience, abs=0.11)


def test_stalls_restart_the_search_now_and_then():
    path = Path(1472)
    path.run(120.0)
    path.stall(10.0)
    path.turn()
    again = path.stall(20.0)
    assert again == pytest.approx(RESTART_INTERVAL, abs=0.2)


def test_a_dead_path_is_asked_rarely_and_for_ever():
    path = Path(0)
    path.run(60.0)
    sizes = [size for _, size in path.sent]
    assert 60 / (RETRY_AFTER + TRIES) - 1 < sizes.count(BASE_SIZE) / TRIES < 60 / RETRY_AFTER + 1
    assert path.search.size == BASE_SIZE  # nothing was learned of sizes
    path.largest = 1472
    path.run(RETRY_AFTER + LONGEST_WAIT)
    assert path.search.size == 1472


def test_a_silent_peer_is_left_alone():
    path = Path(1472)
    path.search.hold(path.now)
    assert path.search.probes(path.now, RTT) == ()
    path.run(LONGEST_WAIT + 1.0)
    assert path.search.size == 1472


def test_answers_of_another_path_are_not_believed():
    path = Path(1472)
    path.run(10.0)
    old = path.search.epoch
    path.search.restart(path.now)
    path.search.probes(path.now, RTT)
    path.search.acknowledged(1432, old, path.now)
    assert path.search.size == BASE_SIZE
    path.search.acknowledged(1432, path.search.epoch, path.now)
    assert path.search.size == 1432


def test_answers_to_what_was_never_asked_are_not_believed():
    path = Path(1472)
    path.search.probes(path.now, RTT)
    for size in (0, 1, 1433, 9000, 65_535):
        path.search.acknowledged(size, path.search.epoch, path.now)
    assert path.search.size == BASE_SIZE


def test_an_answer_that_is_late_counts():
    path = Path(1272)
    path.run(120.0)
    assert path.search.size <= 1272
    path.search.acknowledged(USUAL_SIZE, path.search.epoch, path.now)
    assert path.search.size == USUAL_SIZE


def test_a_roamer_to_a_smaller_and_a_larger_path():
    path = Path(8972)
    path.run(120.0)
    for largest in (1272, 8972):
        path.largest = largest
        path.search.restart(path.now)
        assert path.search.size == BASE_SIZE
        path.run(60.0)
        assert largest - grain(largest) < path.search.size <= largest


def test_a_peer_that_searches_anew_makes_us_do_so_once():
    path = Path(1472)
    path.search.peer_searches(1, path.now)  # both begin together
    path.run(RESTART_INTERVAL)
    epoch = path.search.epoch
    for number in (1, 1, 2, 2, 1, 2):
        path.search.peer_searches(number, path.now)
    assert path.search.epoch == epoch + 1
    path.search.peer_searches(3, path.now)  # perhaps because of us
    path.run(RESTART_INTERVAL)
    path.search.peer_searches(3, path.now)
    assert path.search.epoch == epoch + 1


@pytest.mark.parametrize("delay", [0.001, 0.3, 1.4])
def test_two_searches_do_not_drive_each_other(delay):
    a, b = PathMtu(0.0), PathMtu(0.0)
    for one in (a, b):
        one.begin(0.0)
        one.peer_searches(1, 0.0)
    now, under_way = 10.0, []
    a.restart(now)
    for _ in range(3000):
        now += 0.01
        for one, other in ((a, b), (b, a)):
            under_way += [(now + delay, other, one.epoch) for _ in one.probes(now, 2 * delay)]
        for each in [each for each in under_way if each[0] <= now]:
            under_way.remove(each)
            each[1].peer_searches(each[2], now)
    assert (a.epoch, b.epoch) == (2, 2)


def test_an_interface_that_has_become_smaller():
    path = Path(8972)
    path.run(120.0)
    path.interface = 1272
    path.search.too_big(8972, path.now)
    assert path.search.size == BASE_SIZE
    epoch = path.search.epoch
    path.search.too_big(8972, path.now)  # what had left before
    assert path.search.epoch == epoch
    path.run(1.0)
    assert 1272 - grain(1272) < path.search.size <= 1272


def test_what_is_refused_when_the_search_is_over_is_not_tried():
    """A unit sealed for a larger path leaves late."""
    path = Path(1400)
    path.run(60.0)
    found, tried = path.search.size, len(path.sent)
    assert found < 1450
    assert path.search.due > path.now + 60.0
    path.search.too_big(1450, path.now)
    path.run(60.0)
    assert path.search.size == found
    assert len(path.sent) == tried


def test_a_peer_that_takes_few_slices_sets_the_smallest():
    path = Path(900, smallest=1432)
    path.run(30.0)
    assert path.search.size == 1432
    assert min(size for _, size in path.sent) == 1432
    path.largest = LARGEST_SIZE
    path.run(60.0)
    assert path.search.size == LARGEST_SIZE
