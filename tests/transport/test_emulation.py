"""One direction of a path: each law by itself."""

import math
from itertools import groupby, pairwise

import attrs
import pytest

from transport.emulation import Direction, PathSpec, flip

MANY = 40_000  # packets, where a share is looked at


def run(spec, count, *, size=1000, spacing=0.0, seed=1, start=100.0):
    """Offer packets; for each the list of its arrivals, and the direction."""
    way = Direction(spec, seed)
    return [way.offer(size, start + number * spacing) for number in range(count)], way


def near(share, expected, count, spread=1.0):
    """Whether a share of `count` is within five standard deviations; `spread` widens the one."""
    return abs(share - expected) < 5 * spread * math.sqrt(expected * (1 - expected) / count)


def balanced(counts):
    gone = counts.lost + counts.queue_full + counts.too_big + counts.down
    return counts.offered + counts.duplicated == counts.delivered + gone


def test_a_perfect_path_delivers_at_once():
    fates, way = run(PathSpec(), 3, spacing=0.5)
    assert fates == [[(100.0, None)], [(100.5, None)], [(101.0, None)]]
    assert way.counts.delivered_bytes == 3000


def test_the_rate_spaces_packets_by_their_size_and_the_delay_comes_on_top():
    way = Direction(PathSpec(rate=8e6, delay=0.25))  # a microsecond a byte
    arrivals = [way.offer(size, 10.0)[0][0] for size in (1000, 500, 1500)]
    assert arrivals == pytest.approx([10.251, 10.2515, 10.253], abs=1e-9)


def test_a_link_that_was_idle_owes_nothing():
    fates, _ = run(PathSpec(rate=8e6), 5, spacing=0.01)
    assert [fate[0][0] for fate in fates] == pytest.approx(
        [100.001 + number * 0.01 for number in range(5)]
    )


def test_overload_leaves_at_exactly_the_rate():
    fates, way = run(PathSpec(rate=8e6, queue=20_000), 50_000, spacing=0.0005)
    arrivals = [fate[0][0] for fate in fates if fate]
    span = arrivals[-1] - arrivals[0]
    assert (len(arrivals) - 1) * 8000 / span == pytest.approx(8e6, rel=1e-9)
    assert way.counts.queue_full == 50_000 - len(arrivals)


def test_the_queue_takes_as_many_bytes_as_it_has_and_no_more():
    fates, way = run(PathSpec(rate=8e6, queue=10_000), 15)
    assert [bool(fate) for fate in fates] == [True] * 10 + [False] * 5
    assert way.last_drop == "queue_full"
    assert way.backlog(100.0) == pytest.approx(10_000)
    assert way.backlog(100.0045) == pytest.approx(5_500)
    assert way.offer(4_400, 100.0045)
    assert not way.offer(200, 100.0045)
    assert way.backlog(101.0) == 0


def test_a_packet_longer_than_the_queue_passes_an_idle_link_alone():
    way = Direction(PathSpec(rate=8e6, queue=100))
    assert way.offer(1000, 0.0) == [(pytest.approx(0.001), None)]
    assert not way.offer(10, 0.0005 - 1e-5)
    assert way.offer(10, 0.00095)


def test_no_rate_is_no_queue():
    fates, way = run(PathSpec(queue=0), 100)
    assert all(fates)
    assert way.backlog(100.0) == 0


def test_random_loss_has_its_mean_and_no_memory():
    fates, way = run(PathSpec(loss=0.1), MANY)
    lost = [not fate for fate in fates]
    assert near(sum(lost) / MANY, 0.1, MANY)
    after_lost = [now for before, now in pairwise(lost) if before]
    assert near(sum(after_lost) / len(after_lost), 0.1, len(after_lost))
    assert way.counts.lost == sum(lost)
    assert way.last_drop == "lost"


@pytest.mark.parametrize(("mean", "length"), [(0.05, 10), (0.02, 3), (0.2, 1)])
def test_burst_loss_has_its_mean_and_its_run_length(mean, length):
    fates, _ = run(PathSpec(burst_loss=mean, burst_length=length), 4 * MANY)
    runs = [len(list(group)) for lost, group in groupby(not fate for fate in fates) if lost]
    # Runs, not packets, are independent: a mean over n packets has the spread of n/length runs.
    assert near(sum(runs) / (4 * MANY), mean, 4 * MANY, spread=math.sqrt(2 * length))
    spread = math.sqrt(length * (length - 1))  # of a geometric distribution
    assert abs(sum(runs) / len(runs) - length) <= 5 * spread / math.sqrt(len(runs))


def test_what_is_lost_has_used_the_link():
    fates, _ = run(PathSpec(rate=8e6, queue=10**9, loss=0.5), 1000)
    assert max(fate[0][0] for fate in fates if fate) > 100.9


def test_what_is_too_big_vanishes_and_uses_nothing():
    way = Direction(PathSpec(rate=8e6, mtu=1400))
    assert way.offer(1401, 0.0) == []
    assert way.last_drop == "too_big"
    assert way.offer(1400, 0.0) == [(pytest.approx(0.0014), None)]
    assert (way.counts.too_big, way.counts.delivered) == (1, 1)


def test_a_path_that_is_down_takes_nothing_and_comes_back():
    way = Direction(PathSpec(delay=1.0))
    way.change(PathSpec(delay=1.0, up=False), 1.0)
    assert way.offer(100, 1.0) == []
    assert way.last_drop == "down"
    way.change(PathSpec(delay=1.0), 2.0)
    assert way.offer(100, 2.0) == [(3.0, None)]
    assert way.counts.down == 1


def test_jitter_is_uniform_and_overtakes():
    fates, _ = run(PathSpec(delay=0.1, jitter=0.02), MANY, spacing=0.001)
    extra = [fate[0][0] - 100.1 - number * 0.001 for number, fate in enumerate(fates)]
    assert min(extra) >= -1e-9
    assert max(extra) <= 0.02 + 1e-9
    for quarter in (0.25, 0.5, 0.75):
        assert near(sum(each < quarter * 0.02 for each in extra) / MANY, quarter, MANY)
    arrivals = [fate[0][0] for fate in fates]
    assert arrivals != sorted(arrivals)


def test_ordered_jitter_delays_and_never_overtakes():
    fates, _ = run(PathSpec(delay=0.1, jitter=0.02, ordered=True), MANY, spacing=0.001)
    arrivals = [fate[0][0] for fate in fates]
    assert arrivals == sorted(arrivals)
    assert max(at - 100.1 - n * 0.001 for n, at in enumerate(arrivals)) <= 0.02 + 1e-9


def test_reordering_holds_its_share_back_and_the_others_not():
    fates, way = run(PathSpec(delay=0.1, reorder=0.25, reorder_delay=0.05), MANY, spacing=0.001)
    extra = [fate[0][0] - 100.1 - number * 0.001 for number, fate in enumerate(fates)]
    held = [each for each in extra if each > 0.01]
    assert held == pytest.approx([0.05] * len(held))
    assert near(len(held) / MANY, 0.25, MANY)
    assert way.counts.reordered == len(held)
    assert max(each for each in extra if each <= 0.01) < 1e-9


def test_duplication_makes_a_second_copy_of_its_share():
    fates, way = run(PathSpec(duplicate=0.1), MANY)
    twice = sum(len(fate) == 2 for fate in fates)
    assert near(twice / MANY, 0.1, MANY)
    assert way.counts.duplicated == twice
    assert way.counts.delivered == MANY + twice


def test_corruption_flips_one_bit_anywhere_in_its_share():
    fates, way = run(PathSpec(corrupt=0.2), MANY, size=2)
    bits = [bit for [(_, bit)] in fates if bit is not None]
    assert near(len(bits) / MANY, 0.2, MANY)
    assert set(bits) == set(range(16))
    assert way.counts.corrupted == len(bits)
    assert way.offer(0, 200.0) == [(200.0, None)]


def test_flip_flips_the_bit_and_no_other():
    assert flip(b"\x00\x00\x00", 9) == b"\x00\x02\x00"
    assert flip(b"\x00\x00\x00", 9, offset=1) == b"\x00\x00\x02"
    assert flip(flip(b"abc", 20), 20) == b"abc"


def test_the_seed_decides():
    spec = PathSpec(loss=0.1, jitter=0.01, duplicate=0.1, corrupt=0.1, reorder=0.1)
    assert run(spec, 500, seed=7)[0] == run(spec, 500, seed=7)[0]
    assert run(spec, 500, seed=7)[0] != run(spec, 500, seed=8)[0]


def test_a_faster_link_sends_what_waits_as_it_was_and_drops_nothing_for_it():
    way = Direction(PathSpec(rate=8e3, queue=10_000))  # a byte in a millisecond
    assert [way.offer(1000, 0.0)[0][0] for _ in range(3)] == [1.0, 2.0, 3.0]
    way.change(PathSpec(rate=8e6, queue=10_000), 0.5)
    assert way.backlog(0.5) == pytest.approx(2500)
    assert way.offer(1000, 0.5) == [(pytest.approx(3.001), None)]
    assert way.offer(1000, 4.0) == [(pytest.approx(4.001), None)]


def test_a_slower_link_makes_the_newest_wait_for_all_before_it():
    way = Direction(PathSpec(rate=8e6, queue=10_000))
    way.offer(1000, 0.0)
    way.change(PathSpec(rate=8e3, queue=10_000), 0.0005)
    assert way.backlog(0.0005) == pytest.approx(500)
    assert way.offer(1000, 0.0005) == [(pytest.approx(1.5005), None)]


def test_a_shorter_delay_does_not_reorder():
    way = Direction(PathSpec(delay=1.0))
    assert way.offer(100, 0.0) == [(1.0, None)]
    way.change(PathSpec(delay=0.1), 0.5)
    assert way.offer(100, 0.5) == [(1.0, None)]
    assert way.offer(100, 0.95) == [(pytest.approx(1.05), None)]


def test_runs_of_loss_end_with_the_spec():
    way = Direction(PathSpec(burst_loss=0.99, burst_length=1e9), seed=3)
    while way.offer(1, 0.0):
        pass
    way.change(PathSpec(), 1.0)
    assert way.offer(1, 1.0)
    way.change(PathSpec(burst_loss=0.01, burst_length=1e9), 2.0)
    assert way.offer(1, 2.0)


def test_the_counters_add_up():
    spec = PathSpec(rate=8e6, queue=5000, mtu=1000, loss=0.1, duplicate=0.1, corrupt=0.1)
    way = Direction(spec, 5)
    for number in range(2000):
        way.change(attrs.evolve(spec, up=number % 7 > 0), number * 1e-4)
        way.offer(900 + number % 200, number * 1e-4)
    assert balanced(way.counts)
    assert all(attrs.astuple(way.counts)[:7])


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"loss": 1.5}, "loss must be 0 to 1"),
        ({"corrupt": -0.1}, "corrupt must be"),
        ({"delay": -1}, "delay must be 0 or more"),
        ({"jitter": math.nan}, "jitter"),
        ({"queue": -1}, "queue"),
        ({"rate": 0}, "rate must be 1 or more"),
        ({"rate": math.inf}, "rate"),
        ({"mtu": 0}, "mtu"),
        ({"burst_length": 0.5}, "burst_length"),
        ({"burst_loss": 0.9, "burst_length": 2}, "the pauses between them"),
        ({"burst_loss": 1.0}, "the pauses between them"),
    ],
)
def test_a_path_that_cannot_be_is_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        PathSpec(**fields)
