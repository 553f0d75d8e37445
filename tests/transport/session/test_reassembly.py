"""Slices to units: side by side, scattered, doubled, missing, malformed, and bounded."""

import random
from collections import Counter

import pytest

from transport.constants import (
    KCP_MTU,
    MAX_SLICES,
    PARTIAL_BYTES,
    PARTIAL_UNITS,
    SLICE_SIZE,
    TAG_SIZE,
)
from transport.crypto.cipher import Opener, Sealer
from transport.session.reassembly import Reassembly
from transport.wire.datagrams import DATA, HEADER, Suite
from transport.wire.trains import cut

KEY = bytes(32)


def sealer():
    return Sealer(Suite.CHACHAPOLY, KEY, 7)


def assembly(**named):
    drops = Counter()
    return Reassembly(KCP_MTU + TAG_SIZE, drops, **named), drops


def slices_of(content, seal=None):
    train, size = (seal or sealer()).seal_unit(DATA, content, SLICE_SIZE)
    return cut((train, (), size))


def plaintexts(units):
    opener = Opener(Suite.CHACHAPOLY, KEY)
    return [opener.open_unit_untrusted(*unit) for unit in units]


@pytest.mark.parametrize(
    "size", [1, SLICE_SIZE - TAG_SIZE, SLICE_SIZE - TAG_SIZE + 1, 5000, KCP_MTU - 1, KCP_MTU]
)
def test_a_unit_in_one_train(size):
    content = random.Random(size).randbytes(size)
    slices = slices_of(content)
    assert len(slices) == -(-(size + TAG_SIZE) // SLICE_SIZE)
    assert max(map(len, slices)) - min(map(len, slices)) < MAX_SLICES
    whole, drops = assembly()
    assert plaintexts(whole.take_untrusted(b"".join(slices), len(slices[0]))) == [content]
    assert not drops
    assert len(whole) == whole.waiting == 0


def test_several_units_in_one_train():
    seal = sealer()
    contents = [bytes([number]) * (3 * SLICE_SIZE - TAG_SIZE) for number in range(4)]
    slices = [each for content in contents for each in slices_of(content, seal)]
    whole, drops = assembly()
    assert plaintexts(whole.take_untrusted(b"".join(slices), len(slices[0]))) == contents
    assert not drops


@pytest.mark.parametrize("seed", range(20))
def test_slices_in_any_order_of_any_units(seed):
    rng = random.Random(seed)
    seal = sealer()
    contents = [rng.randbytes(rng.randrange(1, KCP_MTU)) for _ in range(10)]
    slices = [each for content in contents for each in slices_of(content, seal)]
    rng.shuffle(slices)
    whole, drops = assembly()
    units = [unit for each in slices for unit in whole.take_untrusted(each, len(each))]
    assert sorted(plaintexts(units)) == sorted(contents)
    assert not drops
    assert whole.waiting == 0


def test_a_train_whose_first_slice_was_lost():
    slices = slices_of(bytes(4 * SLICE_SIZE - TAG_SIZE))
    whole, drops = assembly()
    assert whole.take_untrusted(b"".join(slices[1:]), len(slices[1])) == []
    assert whole.waiting == 3
    (unit,) = whole.take_untrusted(slices[0], len(slices[0]))
    assert plaintexts([unit]) == [bytes(4 * SLICE_SIZE - TAG_SIZE)]
    assert not drops


def test_a_slice_twice_is_a_replay():
    slices = slices_of(bytes(3000))
    whole, drops = assembly()
    for _ in range(2):
        assert whole.take_untrusted(slices[1], len(slices[1])) == []
    assert drops == {"replay": 1}


def test_a_slice_of_what_was_opened_is_a_replay():
    slices = slices_of(bytes(3000))
    whole, drops = assembly(seen=lambda datagram: datagram == slices[0])
    assert whole.take_untrusted(slices[0], len(slices[0])) == []
    assert drops == {"replay": 1}
    assert whole.waiting == 0


@pytest.mark.parametrize(
    ("place", "slices"), [(0, 0), (1, 0), (2, 2), (255, 3), (0, MAX_SLICES + 1), (0, 255)]
)
def test_an_impossible_place(place, slices):
    whole, drops = assembly()
    datagram = HEADER.pack(DATA, place, slices, 0, 7, 0) + bytes(100)
    assert whole.take_untrusted(datagram, len(datagram)) == []
    assert drops == {"malformed": 1}
    assert whole.waiting == 0


def test_slices_that_disagree_about_their_number():
    whole, drops = assembly()
    for slices in (3, 4):
        datagram = HEADER.pack(DATA, 1, slices, 0, 7, 0) + bytes(100)
        assert whole.take_untrusted(datagram, len(datagram)) == []
    assert drops == {"malformed": 1}


def test_a_unit_larger_than_was_agreed():
    whole, drops = assembly()
    size = KCP_MTU // 2 + 100
    train = b"".join(HEADER.pack(DATA, place, 2, 0, 7, 0) + bytes(size) for place in range(2))
    assert whole.take_untrusted(train, len(train) // 2) == []
    for place in range(2):
        datagram = HEADER.pack(DATA, place, 2, 0, 7, 1) + bytes(size)
        assert whole.take_untrusted(datagram, len(datagram)) == []
    assert drops == {"malformed": 4}
    assert whole.waiting == 0


def test_what_waits_is_bounded_oldest_out_first():
    whole, drops = assembly()
    for counter in range(PARTIAL_UNITS + 10):
        datagram = HEADER.pack(DATA, 0, 2, 0, 7, counter) + bytes(100)
        whole.take_untrusted(datagram, len(datagram))
    assert len(whole) == PARTIAL_UNITS
    assert drops == {"incomplete": 10}
    last = HEADER.pack(DATA, 1, 2, 0, 7, 10) + bytes(100)  # of the oldest that is left
    assert len(whole.take_untrusted(last, len(last))) == 1


def test_what_waits_is_bounded_in_bytes():
    whole, _ = assembly()
    most = 0
    for counter in range(200):
        datagram = HEADER.pack(DATA, 0, 2, 0, 7, counter) + bytes(KCP_MTU)
        whole.take_untrusted(datagram, len(datagram))
        most = max(most, whole.waiting)
    assert most * KCP_MTU <= PARTIAL_BYTES + KCP_MTU
