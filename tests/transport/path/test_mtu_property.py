"""Whatever the path takes, and whatever is lost on it, the search ends at that, and goes on."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from transport.path.mtu import LARGEST_SIZE, SMALLEST_SIZE, PathMtu, grain

HEADERS = 28
payloads = st.integers(600, 9000).map(lambda mtu: mtu - HEADERS)
rtts = st.floats(0.0005, 0.9)
checked = settings(max_examples=300)


class Path:
    """Answers come a round trip later, in any order; the search is asked when it wants to be."""

    def __init__(self, rng, *, loss=0.0):
        self.now = 0.0
        self.rng, self.loss = rng, loss
        self.probes = self.bytes = 0
        self.search = PathMtu(0.0)
        self.search.begin(0.0)
        self._answers = []  # when, size, epoch

    def run(self, until, largest, interface, rtt):
        search = self.search
        while True:
            due = min([search.due, *(when for when, *_ in self._answers)])
            if due > until:
                self.now = until
                return
            self.now = max(self.now, due)
            for answer in [each for each in self._answers if each[0] <= self.now]:
                self._answers.remove(answer)
                search.acknowledged(*answer[1:], self.now)
            for size in search.probes(self.now, rtt):
                self.probes += 1
                if size > interface:
                    search.too_big(size, self.now)
                    continue
                self.bytes += size
                if size <= largest and self.rng.random() >= self.loss:
                    when = self.now + rtt * self.rng.uniform(0.8, 1.0)
                    self._answers.append((when, size, search.epoch))
            assert SMALLEST_SIZE <= search.size <= LARGEST_SIZE


@checked
@given(payloads, payloads, rtts, st.randoms(use_true_random=False))
def test_the_search_finds_the_largest_size_that_passes(largest, interface, rtt, rng):
    path = Path(rng)
    path.run(120.0, largest, interface, rtt)
    most = min(largest, interface)
    assert most - grain(most) <= path.search.size <= most
    assert path.search.due > 120.0 + 300  # and rests
    assert path.probes < 80
    assert path.bytes < 200_000


@checked
@given(st.lists(payloads, min_size=2, max_size=4), rtts, st.randoms(use_true_random=False))
def test_the_search_follows_a_path_whose_mtu_changes(sizes, rtt, rng):
    path = Path(rng)
    for number, largest in enumerate(sizes):
        path.run(120.0 * (number + 1), largest, LARGEST_SIZE, rtt)
        assert largest - grain(largest) <= path.search.size <= largest
        path.search.restart(path.now)


@checked
@given(payloads, st.floats(0.0, 0.6), st.integers(0, 2**32))
def test_loss_never_makes_it_use_more_nor_get_stuck(largest, loss, seed):
    path = Path(random.Random(seed), loss=loss)
    path.run(700.0, largest, LARGEST_SIZE, 0.1)
    assert path.search.size <= max(largest, 1200)
    path.loss = 0.0
    path.run(2000.0, largest, LARGEST_SIZE, 0.1)
    assert largest - grain(largest) <= path.search.size <= largest


@checked
@given(payloads, payloads, st.floats(0.001, 0.2), st.floats(0, 0.1))
def test_a_black_hole_is_left_within_five_seconds(before, after, rtt, phase):
    path = Path(random.Random(0))
    path.run(120.0, before, LARGEST_SIZE, rtt)
    now = 120.0 + phase
    path.search.watch(1, now, rtt)
    while now < 125.0 and path.search.size > after:
        now += 0.1
        path.run(now, after, LARGEST_SIZE, rtt)
        path.search.watch(1, now, rtt)
    assert path.search.size <= after
