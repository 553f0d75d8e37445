"""What a session does because time has passed, on either side."""

import itertools
from math import inf

import pytest

from tests.transport.session.lone import lone_session
from transport.constants import (
    REJECT_AFTER,
    REKEY_AFTER,
    REKEY_AFTER_FAILURES,
    STALL_PROBE,
    TOMBSTONE,
)
from transport.path.keepalive import DEAD_AFTER, KEEPALIVE, SUSPECT_AFTER
from transport.session.events import Ended
from transport.session.keyring import ASK_INTERVAL
from transport.wire.control import CloseCode, Ping, Rekey


class World:
    """A session's parts on one side, at second 0."""

    def __init__(self, *, initiator=True):
        self.session = session = lone_session(0.0, initiator=initiator)
        self.keys, self.lanes, self.liveness = session.keys, session.lanes, session._liveness
        self.probing, self.paced = session._probing, session._outbox.paced
        self.exchange, self.ending = session._exchange, session.ending

    def run(self, until, *, heard=False):
        """(time, item) of all that is queued at the deadlines, as if it left at once; with
        `heard`, and were answered at once.
        """
        seen, now = [], 0.0
        while self.ending.ended is None and (due := self.session.deadline()) <= until:
            assert due > now or not seen  # else its owner would spin
            now = due
            self.session.handle_timeout(now)
            for _, item in self.exchange.take():
                seen.append((pytest.approx(now), type(item)))
                self.liveness.sent(now, wants_answer=True)
                if heard:
                    self.liveness.received(now)
                    self.liveness.answered()
        return seen


def test_an_idle_initiator_wakes_for_its_keepalive():
    assert World().run(4 * KEEPALIVE, heard=True) == [(KEEPALIVE * n, Ping) for n in (1, 2, 3, 4)]


def test_an_idle_responder_sleeps():
    world = World(initiator=False)
    assert world.session.deadline() == DEAD_AFTER


def test_a_silent_peer_is_asked_and_then_given_up():
    world = World()
    seen = world.run(inf)
    assert seen[:2] == [(KEEPALIVE, Ping), (KEEPALIVE + SUSPECT_AFTER, Ping)]
    assert world.ending.ended == Ended(CloseCode.TIMEOUT, "the peer has fallen silent", False)
    assert world.session.deadline() == DEAD_AFTER
    assert world.ending.last_word(DEAD_AFTER) is not None
    world.session.handle_timeout(DEAD_AFTER)
    assert world.ending.finished


def test_new_keys_are_wanted_in_time_and_again_and_without_them_it_ends():
    world = World()
    world.run(REKEY_AFTER - 0.1, heard=True)
    assert not world.keys.wanted
    world.run(REKEY_AFTER, heard=True)
    assert world.keys.wanted
    assert REKEY_AFTER < world.keys.rekey_at <= world.session.deadline() + KEEPALIVE
    world.run(REJECT_AFTER, heard=True)
    assert world.ending.ended == Ended(CloseCode.TIMEOUT, "no new keys in time", False)
    assert world.ending.finished


def test_a_responder_with_worn_keys_asks_for_new_ones_each_second():
    world = World(initiator=False)
    world.keys.current.opener.failures = REKEY_AFTER_FAILURES
    asked = []
    for step in range(12):
        world.session.handle_timeout(step * ASK_INTERVAL / 4)
        asked += [step for _, item in world.exchange.take() if item == Rekey()]
    assert asked == [4, 8]


def test_an_initiator_with_worn_keys_asks_nobody():
    world = World()
    world.keys.current.opener.failures = REKEY_AFTER_FAILURES
    world.session.handle_timeout(2 * ASK_INTERVAL)
    assert world.exchange.take() == []


def test_overdue_acknowledgements_are_asked_for():
    world = World(initiator=False)
    world.lanes.bulk.send([b"x"], 0.0)
    pings, now = [], 0.0
    while now < 2.9:  # before the peer is a suspect
        if world.lanes.flush_due:
            world.lanes.bulk.units_to_send(now, suspect=False)
        now = max(now, world.session.deadline())
        world.session.handle_timeout(now)
        pings += [now for _ in world.exchange.take()]
    assert len(pings) > 2
    gaps = [later - earlier for earlier, later in itertools.pairwise(pings)]
    assert min(gaps) >= STALL_PROBE - 1e-9


def test_pieces_and_probes_are_waited_for():
    world = World()
    world.paced.add(b"aabb", 2, 1, 0.5, 1.0)
    assert world.session.deadline() == 1.5
    world.probing.begin(1.2)
    assert world.session.deadline() == 1.2


def test_after_the_end_only_the_last_word_is():
    world = World()
    world.lanes.bulk.send([b"x"], 0.0)
    world.ending.close(1, "x", 5.0)
    assert world.session.deadline() == 5.0
    while world.ending.last_word(6.0) is not None:
        pass
    assert world.session.deadline() == 5.0 + TOMBSTONE
    world.session.handle_timeout(5.0 + TOMBSTONE - 0.001)
    assert not world.ending.finished
    world.session.handle_timeout(5.0 + TOMBSTONE)
    assert world.ending.finished
    assert world.exchange.take() == []
