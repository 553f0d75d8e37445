"""Paths move only to an address that has answered, and nobody gets much before it has."""

import itertools

import pytest

from transport.constants import AMPLIFICATION, SEALED_OVERHEAD
from transport.path.address import PATH_CHANGE_INTERVAL, PATH_TIMEOUT, PathTable

HOME = ("192.0.2.1", 1000)
AWAY = ("192.0.2.1", 2000)
OTHER = ("203.0.113.9", 3000)
CHALLENGE_SIZE = SEALED_OVERHEAD + 11


@pytest.fixture
def paths():
    numbers = itertools.count(1)
    return PathTable(HOME, lambda size: next(numbers).to_bytes(size, "big"))


def test_an_answer_from_the_candidate_moves_the_path(paths):
    challenge = paths.observe(AWAY, 100, 0.0)
    assert len(challenge) == 8
    assert paths.current == HOME
    assert paths.changes == 0
    assert paths.answered(challenge, AWAY, 0.5)
    assert paths.current == AWAY
    assert paths.changes == 1


def test_an_answer_counts_once(paths):
    challenge = paths.observe(AWAY, 100, 0.0)
    assert paths.answered(challenge, AWAY, 0.1)
    assert not paths.answered(challenge, AWAY, 0.2)


@pytest.mark.parametrize(
    ("data", "address", "now"),
    [
        (b"guessed!", AWAY, 0.1),
        (None, HOME, 0.1),
        (None, OTHER, 0.1),
        (None, AWAY, PATH_TIMEOUT),
    ],
    ids=["wrong-data", "from-the-old-path", "from-elsewhere", "too-late"],
)
def test_answers_that_move_nothing(paths, data, address, now):
    challenge = paths.observe(AWAY, 100, 0.0)
    assert not paths.answered(data or challenge, address, now)
    assert paths.current == HOME
    assert paths.changes == 0


def test_an_answer_nobody_asked_for(paths):
    assert not paths.answered(b"", AWAY, 0.0)
    assert not paths.answered(bytes(8), AWAY, 0.0)


def test_the_challenge_is_repeated_while_it_lives(paths):
    first = paths.observe(AWAY, 100, 0.0)
    assert paths.observe(AWAY, 100, 0.5) == first
    assert paths.observe(AWAY, 100, PATH_TIMEOUT) != first


def test_a_new_candidate_replaces_the_old_one(paths):
    first = paths.observe(AWAY, 100, 0.0)
    second = paths.observe(OTHER, 100, 0.1)
    assert first != second
    assert not paths.answered(first, AWAY, 0.2)
    assert paths.answered(second, OTHER, 0.2)


@pytest.mark.parametrize("size", [1, 10, 14, 15, 32, 1432])
def test_never_more_than_three_times_the_bytes(paths, size):
    got = sent = 0
    now = 0.0
    for _ in range(500):
        got += size
        if paths.observe(AWAY, size, now) is not None:
            sent += CHALLENGE_SIZE
        assert sent <= AMPLIFICATION * got
        now += 0.01
    assert (sent > 0) == (size * AMPLIFICATION * PATH_TIMEOUT / 0.01 >= CHALLENGE_SIZE)


def test_the_amplification_budget_of_one_address_is_not_spent_on_another(paths):
    paths.observe(AWAY, 10_000, 0.0)
    assert paths.observe(OTHER, 14, 0.0) is None


def test_a_session_changes_its_path_once_a_second_at_most(paths):
    paths.answered(paths.observe(AWAY, 100, 0.0), AWAY, 0.1)
    assert paths.observe(OTHER, 100, 0.1 + PATH_CHANGE_INTERVAL - 0.01) is None
    assert paths.observe(OTHER, 100, 0.1 + PATH_CHANGE_INTERVAL) is not None


def test_a_handshake_proves_an_address(paths):
    challenge = paths.observe(AWAY, 100, 0.0)
    paths.moved(OTHER, 0.1)
    assert paths.current == OTHER
    assert paths.changes == 0  # no challenge has led to it
    assert not paths.answered(challenge, AWAY, 0.2)
