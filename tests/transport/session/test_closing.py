"""The end of a session: which end counts, what the peer is told of it, and for how long."""

from collections import Counter, deque

import pytest

from transport.constants import CLOSE_REPEATS, KCP_MTU, RECEIVE_WINDOW, TOMBSTONE
from transport.lanes.lanes import Lanes
from transport.session.closing import Ending
from transport.session.events import Ended
from transport.session.exchange import ControlExchange
from transport.session.outbox import PacedPieces
from transport.wire.control import Close, CloseCode

NOW = 100.0


class World:
    """An end, and all that stops with it."""

    def __init__(self):
        self.lanes = Lanes(
            7, kcp_mtu=KCP_MTU, receive_window=RECEIVE_WINDOW, drops=Counter(), now=NOW
        )
        self.exchange = ControlExchange(NOW, bytes, initiator=True)
        self.paced = PacedPieces()
        self.events = deque()
        self.ending = Ending(self.lanes, self.exchange, self.paced, self.events)

    def words(self, until):
        """(time after NOW, code) of each Close that leaves, at the deadlines, until it is over."""
        said = []
        while not self.ending.finished and (due := self.ending.deadline()) <= until:
            while (word := self.ending.last_word(due)) is not None:
                said.append((pytest.approx(due - NOW), word.code))
            self.ending.handle_timeout(due)
        return said


@pytest.fixture
def world():
    return World()


def close(ending, code=3):
    ending.close(code, "ours", NOW)


def closed_by_peer(ending, code=4):
    ending.closed_by_peer(code, "theirs")


def silent(ending):
    ending.peer_silent(NOW)


def fail(ending):
    ending.fail(5, "over", by_peer=False)


ENDS = {
    close: Ended(3, "ours", by_peer=False),
    closed_by_peer: Ended(4, "theirs", by_peer=True),
    silent: Ended(CloseCode.TIMEOUT, "the peer has fallen silent", by_peer=False),
    fail: Ended(5, "over", by_peer=False),
}


def test_before_the_end(world):
    assert world.ending.ended is None
    assert not world.ending.finished
    assert world.ending.last_word(NOW) is None


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("again", ENDS)
def test_the_first_end_counts_and_is_told_once(world, end, again):
    end(world.ending)
    again(world.ending)
    assert world.ending.ended == ENDS[end]
    assert list(world.events) == [ENDS[end]]


@pytest.mark.parametrize("end", ENDS)
def test_what_was_queued_stays_and_what_has_arrived_can_be_read(world, end):
    world.exchange.ping(NOW)
    world.paced.add(b"aabb", 2, 1, 0.5, NOW)
    peer = World().lanes.bulk
    peer.send([b"arrived"], NOW)
    world.lanes.bulk.receive_units(peer.units_to_send(NOW, suspect=False), NOW)
    datagrams = world.lanes.open_datagrams(1000, NOW)
    datagrams.send([b"x"], NOW)
    end(world.ending)
    assert world.exchange.take() == []
    assert not world.paced
    assert not datagrams.flush_due
    assert world.lanes.bulk.take_messages() == [b"arrived"]


def test_ours_is_repeated_and_then_kept_in_mind_for_a_while(world):
    close(world.ending)
    assert world.words(NOW + TOMBSTONE - 0.001) == [(delay, 3) for delay in CLOSE_REPEATS]
    assert not world.ending.finished
    assert world.words(NOW + TOMBSTONE) == []
    assert world.ending.finished


def test_no_word_is_said_early(world):
    close(world.ending)
    assert world.ending.last_word(NOW) == Close(3, "ours")
    assert world.ending.last_word(NOW) is None
    assert world.ending.last_word(NOW + CLOSE_REPEATS[1] - 0.001) is None
    assert world.ending.last_word(NOW + CLOSE_REPEATS[1]) is not None


def test_words_that_are_late_are_one(world):
    close(world.ending)
    assert world.ending.last_word(NOW + 1.0) is not None
    assert world.ending.last_word(NOW + 1.0) is None


def test_whoever_still_sends_is_told_again(world):
    close(world.ending)
    assert world.words(NOW + 1.0) == [(delay, 3) for delay in CLOSE_REPEATS]
    for _ in range(5):
        world.ending.heard(NOW + 1.0)
    assert world.words(NOW + 1.5) == [(1.0, 3)]
    world.ending.heard(NOW + 2.0)
    assert world.words(NOW + 2.5) == [(2.0, 3)]


def test_while_a_word_is_to_come_nobody_is_told_besides(world):
    close(world.ending)
    world.ending.last_word(NOW)
    world.ending.heard(NOW + 0.01)
    assert world.ending.last_word(NOW + 0.01) is None


def test_a_peer_that_has_ended_it_is_told_nothing(world):
    closed_by_peer(world.ending)
    assert world.ending.finished
    world.ending.heard(NOW + 1.0)
    assert world.ending.last_word(NOW + 1.0) is None


def test_when_both_have_ended_it_all_is_said(world):
    close(world.ending)
    assert world.ending.last_word(NOW) is not None
    closed_by_peer(world.ending)
    assert world.ending.finished
    assert world.ending.last_word(NOW + 1.0) is None


def test_a_silent_peer_is_told_once(world):
    silent(world.ending)
    assert not world.ending.finished
    assert world.words(NOW) == [(0.0, CloseCode.TIMEOUT)]
    assert world.ending.finished


@pytest.mark.parametrize("by_peer", [True, False])
def test_where_nobody_can_be_told_it_is_over_at_once(world, by_peer):
    world.ending.fail(5, "over", by_peer=by_peer)
    assert world.ending.ended.by_peer is by_peer
    assert world.ending.finished
    assert world.ending.last_word(NOW) is None
