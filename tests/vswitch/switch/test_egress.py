"""The queue in front of a device: in order within a flow, fair between flows, bounded."""

import random
from collections import Counter

import pytest

from vswitch.frames.flows import FLOWS, bucket_of
from vswitch.frames.records import frame_record
from vswitch.switch.egress import (
    MAX_QUEUED_BYTES,
    MAX_QUEUED_FRAMES,
    QUANTUM,
    EgressQueue,
)
from vswitch.testing.superframes import Flow, superframe

ALL = 10**9


def of_host(host, number=0, size=64):
    """A frame record from one MAC address, of this many bytes with its header."""
    head = bytes([2, 0, 0, 0, 0, host] * 2) + b"\x88\xb5" + number.to_bytes(4, "big")
    return frame_record(head + bytes(size - 4 - len(head)))


def hosts_apart(count):
    """Last bytes of MAC addresses whose flows do not share a bucket, which any two may."""
    found = {}
    for host in range(256):
        found.setdefault(bucket_of(of_host(host)), host)
    return list(found.values())[:count]


HOSTS = hosts_apart(8)


def record(flow, number=0, size=64):
    return of_host(HOSTS[flow], number, size)


def of_flow(records, flow):
    return [each for each in records if each[9] == HOSTS[flow]]


def test_one_flow_keeps_its_order():
    queue = EgressQueue()
    first, second = [record(1, n) for n in range(3)], [record(1, n) for n in range(3, 5)]
    assert queue.offer(first) == []
    assert queue.offer(second) == []
    assert (len(queue), queue.bytes) == (5, 5 * 64)
    assert queue.take(ALL) == first + second
    assert (len(queue), queue.bytes) == (0, 0)


def test_a_flow_that_begins_does_not_wait_for_one_that_fills_the_queue():
    queue = EgressQueue()
    bulk = [record(1, n, 60_000) for n in range(15)]
    queue.offer(bulk)
    assert queue.take(1) == bulk[:1]
    ping = record(2)
    queue.offer([ping])
    assert queue.take(1) == [ping]
    assert queue.take(ALL) == bulk[1:]


def test_flows_take_turns_by_bytes():
    queue = EgressQueue(max_bytes=ALL, max_frames=ALL)
    queue.offer([record(1, n, 1500) for n in range(200)])
    queue.offer([record(2, n, 60) for n in range(5000)])
    taken = queue.take(200_000)
    sizes = Counter()
    for each in taken:
        sizes[each[9]] += len(each)
    assert abs(sizes[HOSTS[1]] - sizes[HOSTS[2]]) <= 2 * QUANTUM + 1500


def test_a_sparse_flow_that_comes_again_and_again_does_not_starve_others():
    queue = EgressQueue(max_bytes=ALL, max_frames=ALL)
    queue.offer([record(1, n, 1500) for n in range(100)])
    served = 0
    for turn in range(100):
        queue.offer([record(2, turn), record(3, turn)])
        served += len(of_flow(queue.take(1600), 1))
    assert served >= 60


@pytest.mark.parametrize("seed", range(10))
def test_order_is_kept_within_flows_and_nothing_is_lost(seed):
    rng = random.Random(seed)
    queue = EgressQueue(max_frames=50, max_bytes=20_000)
    number, given, refused, taken = 0, [], [], []
    for _ in range(300):
        batch = []
        for _ in range(rng.randrange(1, 12)):
            batch.append(record(rng.randrange(5), number, rng.randrange(40, 1500)))
            number += 1
        given += batch
        refused += queue.offer(batch)
        assert len(queue) <= 50
        assert queue.bytes <= 20_000
        got = queue.take(rng.randrange(1, 8000))
        back = got[rng.randrange(len(got)) :] if got and rng.random() < 0.3 else []
        queue.put_back(back)
        taken += got[: len(got) - len(back)]
    while got := queue.take(5000):
        taken += got
    assert (len(queue), queue.bytes, queue.frames) == (0, 0, 0)
    assert sorted(taken + refused) == sorted(given)
    for flow in range(5):
        numbers = [int.from_bytes(each[18:22], "big") for each in of_flow(taken, flow)]
        assert numbers == sorted(numbers)


def test_a_full_queue_drops_the_oldest_of_the_fattest_flow():
    queue = EgressQueue(max_frames=4)
    fat, thin = [record(1, n, 500) for n in range(3)], record(2)
    queue.offer([*fat, thin])
    assert queue.offer([record(1, 3, 500)]) == fat[:1]
    assert queue.offer([record(2, 1)]) == fat[1:2]
    assert of_flow(queue.take(ALL), 2) == [thin, record(2, 1)]


def test_bytes_are_bounded_as_well():
    queue = EgressQueue(max_bytes=1000)
    assert queue.offer([record(1, n, 400) for n in range(3)]) == [record(1, 0, 400)]
    assert queue.bytes == 800


def test_a_record_that_is_larger_than_the_queue_is_refused():
    queue = EgressQueue(max_bytes=1000)
    assert queue.offer([record(1, 0, 1500)]) == [record(1, 0, 1500)]
    assert (len(queue), queue.bytes) == (0, 0)
    assert queue.take(ALL) == []


def test_a_queue_holds_what_its_default_limits_allow():
    queue = EgressQueue()
    excess = 88
    assert len(queue.offer([record(1)] * (MAX_QUEUED_FRAMES + excess))) == excess
    queue = EgressQueue()
    fit = MAX_QUEUED_BYTES // 60_000
    assert len(queue.offer([record(1, n, 60_000) for n in range(fit + 3)])) == 3


def test_take_gives_at_least_one_and_at_most_the_bytes():
    queue = EgressQueue()
    offered = [record(1, n, 100) for n in range(3)]
    queue.offer(offered)
    assert queue.take(1) == offered[:1]
    assert queue.take(199) == offered[1:2]
    assert queue.take(200) == offered[2:]
    assert queue.take(200) == []


def test_put_back_restores_front_and_bytes():
    queue = EgressQueue()
    offered = [record(1, n, 100) for n in range(3)]
    queue.offer(offered)
    taken = queue.take(ALL)
    queue.put_back(taken[1:])
    assert (len(queue), queue.bytes) == (2, 200)
    queue.offer([record(2)])
    assert queue.take(150) == offered[1:2]
    assert queue.take(ALL) == [offered[2], record(2)]


def test_a_superframe_is_one_record_and_as_many_frames_as_it_stands_for():
    queue = EgressQueue(max_frames=2)
    batch = [superframe(Flow(), bytes(3000), 1000), record(1)]
    assert queue.offer(batch) == []
    assert (len(queue), queue.frames) == (2, 4)
    assert queue.take(1) == batch[:1]
    assert queue.frames == 1


def test_clear_forgets_everything():
    queue = EgressQueue()
    queue.offer([record(1), record(2)])
    queue.put_back(queue.take(1))
    queue.clear()
    assert queue.frames == 0
    assert (len(queue), queue.bytes, queue.take(100)) == (0, 0, [])


@pytest.mark.parametrize("limits", [(0, 100), (1, 0)])
def test_limits_have_to_make_sense(limits):
    with pytest.raises(ValueError, match="at least one"):
        EgressQueue(*limits)


def test_a_flood_of_made_up_flows_is_bounded():
    """Also while nothing is taken, which is when it hurts."""
    queue = EgressQueue()
    for number in range(2000):
        batch = [
            frame_record(number.to_bytes(6, "big") + bytes([2, 0, 0, 0, 0, n]) + b"\x88\xb5")
            for n in range(64)
        ]
        queue.offer(batch)
    assert len(queue) == MAX_QUEUED_FRAMES
    assert len(queue._flows) <= FLOWS
    assert len(queue._new) + len(queue._old) == len(queue._flows)
    count = 0
    while taken := queue.take(1000):
        count += len(taken)
        queue.offer([record(1, count)])
        if count > 3 * MAX_QUEUED_FRAMES:
            break
    assert len(queue._new) + len(queue._old) == len(queue._flows) <= FLOWS
    queue.clear()
    assert not queue._flows
