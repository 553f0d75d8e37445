"""What holds for every path and every traffic: accounts, order, the queue's bound, the rate."""

from hypothesis import given
from hypothesis import strategies as st

from transport.emulation import Direction, PathSpec

chances = st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0])
seconds = st.sampled_from([0.0, 0.0, 0.001, 0.2])
rates = st.none() | st.sampled_from([64e3, 5e6, 1e9])
specs = st.builds(
    PathSpec,
    rate=rates,
    queue=st.integers(0, 20_000),
    delay=seconds,
    jitter=seconds,
    ordered=st.booleans(),
    loss=chances,
    burst_loss=st.sampled_from([0.0, 0.05, 0.5]),
    burst_length=st.sampled_from([1.0, 10.0]),
    reorder=chances,
    reorder_delay=seconds,
    duplicate=chances,
    corrupt=chances,
    mtu=st.none() | st.integers(100, 9000),
    up=st.booleans(),
)
# What happens to a direction: packets with the time since the one before, and new specs.
traffic = st.lists(
    st.tuples(st.integers(1, 9000), st.sampled_from([0.0, 1e-6, 1e-3, 1.0])) | specs, max_size=60
)


def played(spec, events, seed):
    """Every packet's time, size and arrivals, after whole play; and the direction."""
    way, now, seen = Direction(spec, seed), 1000.0, []
    for event in events:
        if isinstance(event, PathSpec):
            way.change(event, now)
            continue
        size, pause = event
        now += pause
        before = way.backlog(now)
        seen.append((now, size, before, way.spec, way.offer(size, now)))
    return way, seen


@given(specs, traffic, st.integers(0, 9))
def test_accounts_bounds_and_determinism(spec, events, seed):
    way, seen = played(spec, events, seed)
    counts = way.counts
    gone = counts.lost + counts.queue_full + counts.too_big + counts.down
    assert counts.offered + counts.duplicated == counts.delivered + gone
    assert counts.offered == len(seen)
    assert counts.delivered == sum(len(arrivals) for *_, arrivals in seen)
    for now, size, backlog, at_that_time, arrivals in seen:
        for when, bit in arrivals:
            assert when >= now + at_that_time.delay
            assert bit is None or 0 <= bit < size * 8
        if arrivals:
            assert at_that_time.up
            assert size <= (at_that_time.mtu or size)
        if arrivals and at_that_time.rate is not None and backlog:
            assert backlog + size <= at_that_time.queue + 1
    assert played(spec, events, seed)[1] == seen


orderly = st.builds(
    PathSpec, rate=rates, delay=seconds, jitter=seconds, ordered=st.just(True), loss=chances
)
orderly_traffic = st.lists(
    st.tuples(st.integers(1, 9000), st.sampled_from([0.0, 1e-6, 1e-3])) | orderly, max_size=60
)


@given(orderly, orderly_traffic)
def test_order_is_kept_through_every_change(spec, events):
    _, seen = played(spec, events, 1)
    arrivals = [when for *_, arrivals in seen for when, _ in arrivals]
    assert arrivals == sorted(arrivals)


@given(st.sampled_from([64e3, 5e6, 1e9]), st.lists(st.integers(1, 9000), min_size=2, max_size=60))
def test_no_two_packets_arrive_faster_than_the_rate(rate, sizes):
    way = Direction(PathSpec(rate=rate, queue=10**6))
    arrivals = [way.offer(size, 1000.0)[0][0] for size in sizes]
    for size, before, after in zip(sizes[1:], arrivals, arrivals[1:], strict=False):
        assert abs(after - before - size * 8 / rate) < 1e-9
