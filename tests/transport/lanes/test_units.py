"""The size of sealed units follows the pace of the path and what it loses."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from transport.congestion.pacing import FAST_RATE
from transport.constants import KCP_HEADER_SIZE, KCP_MTU, SLICE_SIZE, TAG_SIZE
from transport.lanes.units import BURST, CLEAN_BYTES, TOGETHER, UnitSize, unit_bytes

QUICK = 1e9  # bytes a second

MOST = (KCP_MTU + TAG_SIZE) // SLICE_SIZE


def send(sizes, size):
    """What a lane does after each turn."""
    sizes.clean += size
    if sizes.clean >= sizes.grows_at:
        sizes.grow()


def clean(sizes):
    """So much has gone through that loss does not bound it."""
    for _ in range(1 + MOST):
        send(sizes, CLEAN_BYTES * MOST)
    return sizes


def quick_path():
    sizes = clean(UnitSize(KCP_MTU))
    sizes.on_pace(QUICK)
    return sizes


def test_it_starts_with_one_slice_until_the_pace_is_known():
    sizes = UnitSize(KCP_MTU)
    assert sizes.slices == sizes.allowed == 1
    assert sizes.message_size == unit_bytes(1) - KCP_HEADER_SIZE
    sizes.on_pace(inf)  # not known yet
    assert sizes.slices == 1
    sizes.on_pace(QUICK)  # nor whether it loses anything
    assert sizes.slices == 1
    assert sizes.allowed == MOST


def test_on_a_quick_path_it_is_the_largest_that_both_take():
    assert quick_path().slices == MOST
    assert quick_path().message_size == KCP_MTU - KCP_HEADER_SIZE
    for mtu, most in [
        (unit_bytes(5), 5),
        (unit_bytes(5) - 1, 5),
        (600, 1),  # a peer whose units are smaller than a slice
    ]:
        sizes = clean(UnitSize(mtu))
        sizes.on_pace(QUICK)
        assert sizes.most == sizes.slices == most


def test_on_a_slow_path_a_unit_leaves_within_a_moment():
    sizes = clean(UnitSize(KCP_MTU))
    sizes.on_pace(5e6 / 8)
    assert sizes.slices == TOGETHER
    sizes.on_pace(8 * SLICE_SIZE / BURST)
    assert sizes.slices == 9  # a little more than eight: bursts grow with the pace
    sizes.on_pace(1.0)  # and back at once
    assert sizes.slices == sizes.allowed == TOGETHER


@given(st.lists(st.floats(1.0, 1e10), min_size=1))
def test_it_follows_the_pace_both_ways(paces):
    sizes = clean(UnitSize(KCP_MTU))
    for pace in paces:
        sizes.on_pace(pace)
        assert TOGETHER <= sizes.slices == sizes.allowed <= MOST
        if pace <= FAST_RATE:
            assert sizes.slices == TOGETHER or sizes.slices * SLICE_SIZE <= 2 * BURST * pace


def test_a_full_unit_fills_its_slices():
    for slices in range(1, MOST + 1):
        assert unit_bytes(slices) + TAG_SIZE == slices * SLICE_SIZE


def test_a_loss_makes_it_one_slice_at_once():
    sizes = quick_path()
    sizes.on_lost()
    assert sizes.slices == 1
    assert sizes.allowed == MOST  # the path would take more
    sizes.on_pace(QUICK)
    assert sizes.slices == 1


def test_it_doubles_after_enough_went_through():
    sizes = quick_path()
    sizes.on_lost()
    seen, sent = [sizes.slices], 0
    while sizes.slices < MOST:
        send(sizes, 64 * 1024)
        sent += 64 * 1024
        if sizes.slices != seen[-1]:
            seen.append(sizes.slices)
    assert seen == [1, 2, 4, 8, 16, 32, 44]
    assert sent == sum(CLEAN_BYTES * each for each in seen[:-1])


def test_a_loss_starts_the_count_again():
    sizes = quick_path()
    for _ in range(10):
        sizes.on_lost()
        send(sizes, CLEAN_BYTES - 1)
        assert sizes.slices == 1


def test_the_largest_unit_fits_whatever_a_datagram_carries():
    sizes = quick_path()
    for slice_size in (532, 956, 1184, 1416, 1456, 8956):
        sizes.resize(slice_size)
        assert sizes.message_size == KCP_MTU - KCP_HEADER_SIZE
        assert (sizes.slices - 1) * slice_size < KCP_MTU + TAG_SIZE <= sizes.slices * slice_size


def test_after_a_loss_a_unit_stays_one_slice_of_the_new_size():
    sizes = quick_path()
    sizes.on_lost()
    sizes.resize(956)
    assert sizes.message_size == 956 - TAG_SIZE - KCP_HEADER_SIZE


def test_fewer_slices_where_fewer_make_the_largest_unit():
    sizes = quick_path()
    sizes.on_lost()
    while sizes.slices < 16:
        send(sizes, CLEAN_BYTES)
    sizes.resize(8956)
    assert sizes.slices == 7


def test_clean_bytes_do_not_lift_it_above_the_pace():
    sizes = quick_path()
    sizes.on_lost()
    sizes.on_pace(1e6)
    for _ in range(100):
        send(sizes, CLEAN_BYTES)
    assert sizes.slices == TOGETHER
    sizes.on_pace(QUICK)
    assert sizes.slices == MOST
