"""The size of sealed units follows what the path loses."""

from transport.constants import KCP_HEADER_SIZE, KCP_MTU, SLICE_SIZE, TAG_SIZE
from transport.units import CLEAN_BYTES, UnitSize, unit_bytes

MOST = (KCP_MTU + TAG_SIZE) // SLICE_SIZE


def test_it_starts_with_the_largest_that_both_take():
    assert UnitSize(KCP_MTU).slices == MOST
    assert UnitSize(KCP_MTU).message_size == KCP_MTU - KCP_HEADER_SIZE
    assert UnitSize(unit_bytes(5)).slices == 5
    assert UnitSize(unit_bytes(5) + 1).slices == 6
    assert UnitSize(600).slices == 1  # a peer whose units are smaller than a slice


def test_a_full_unit_fills_its_slices():
    for slices in range(1, MOST + 1):
        assert unit_bytes(slices) + TAG_SIZE == slices * SLICE_SIZE


def test_a_loss_makes_it_one_slice_at_once():
    sizes = UnitSize(KCP_MTU)
    sizes.on_sent(1000, repaired=True)
    assert sizes.slices == 1


def test_it_doubles_after_enough_went_through():
    sizes = UnitSize(KCP_MTU)
    sizes.on_sent(1000, repaired=True)
    seen, sent = [sizes.slices], 0
    while sizes.slices < MOST:
        sizes.on_sent(64 * 1024, repaired=False)
        sent += 64 * 1024
        if sizes.slices != seen[-1]:
            seen.append(sizes.slices)
    assert seen == [1, 2, 4, 8, 16, 32, 44]
    assert sent == sum(CLEAN_BYTES * each for each in seen[:-1])


def test_a_loss_starts_the_count_again():
    sizes = UnitSize(KCP_MTU)
    for _ in range(10):
        sizes.on_sent(CLEAN_BYTES - 1, repaired=False)
        sizes.on_sent(1, repaired=True)
        assert sizes.slices == 1


def test_the_largest_unit_fits_whatever_a_datagram_carries():
    sizes = UnitSize(KCP_MTU)
    for slice_size in (532, 956, 1184, 1416, 1456, 8956):
        sizes.resize(slice_size)
        assert sizes.message_size == KCP_MTU - KCP_HEADER_SIZE
        assert (sizes.slices - 1) * slice_size < KCP_MTU + TAG_SIZE <= sizes.slices * slice_size


def test_after_a_loss_a_unit_stays_one_slice_of_the_new_size():
    sizes = UnitSize(KCP_MTU)
    sizes.on_sent(1000, repaired=True)
    sizes.resize(956)
    assert sizes.message_size == 956 - TAG_SIZE - KCP_HEADER_SIZE


def test_fewer_slices_where_fewer_make_the_largest_unit():
    sizes = UnitSize(KCP_MTU)
    sizes.on_sent(1000, repaired=True)
    while sizes.slices < 16:
        sizes.on_sent(CLEAN_BYTES, repaired=False)
    sizes.resize(8956)
    assert sizes.slices == 7
