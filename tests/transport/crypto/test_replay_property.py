"""The ring against the plain definition: a set of all counters ever marked."""

from hypothesis import given
from hypothesis import strategies as st

from transport.crypto.replay import COUNTER_LIMIT, WINDOW, ReplayWindow


class Model:
    """Remembers everything; the definition of the window and nothing else."""

    def __init__(self):
        self.seen = set()

    def check(self, counter):
        newest = max(self.seen, default=-1)
        return counter < COUNTER_LIMIT and counter not in self.seen and newest - counter < WINDOW

    def mark(self, counter):
        new = self.check(counter)
        if new:
            self.seen.add(counter)
        return new


# Near the edges that matter: the window's ends, slots that collide, the top of the number range.
bases = st.sampled_from([0, WINDOW, 7 * WINDOW, 2**32, COUNTER_LIMIT - 3 * WINDOW, COUNTER_LIMIT])
near = st.one_of(
    st.integers(-6, 6),
    st.builds(lambda turns, off: turns * WINDOW + off, st.integers(-2, 2), st.integers(-3, 3)),
    st.integers(-2 * WINDOW, 2 * WINDOW),
)
counters = st.builds(
    lambda base, offset: min(max(base + offset, 0), 2**64 - 1), bases, near
) | st.integers(0, 2**64 - 1)


def clustered(base):
    return st.lists(
        near.map(lambda offset: min(max(base + offset, 0), 2**64 - 1)), min_size=1, max_size=80
    )


@given(st.one_of(st.lists(counters, max_size=80), bases.flatmap(clustered)))
def test_every_answer_equals_the_models(sequence):
    window, model = ReplayWindow(), Model()
    for counter in sequence:
        assert window.check(counter) == model.check(counter)
        assert window.mark(counter) == model.mark(counter)
        assert window.highest == max(model.seen, default=-1)
    for counter in sequence:
        assert window.check(counter) == model.check(counter)


@given(bases.flatmap(clustered), st.randoms(use_true_random=False))
def test_marks_of_a_burst_in_any_order_take_each_counter_once(sequence, random):
    window = ReplayWindow()
    taken = []
    burst = sequence * 2
    random.shuffle(burst)
    for counter in burst:
        if window.mark(counter):
            taken.append(counter)
    assert len(taken) == len(set(taken))
    assert not any(window.check(counter) for counter in taken)
