"""What a session does because time has passed, on either side."""

import itertools
from collections import Counter, deque
from math import inf

import pytest

from transport.constants import (
    KCP_MTU,
    MAX_SLICES,
    RECEIVE_WINDOW,
    REJECT_AFTER,
    REKEY_AFTER,
    REKEY_AFTER_FAILURES,
    STALL_PROBE,
    TOMBSTONE,
)
from transport.crypto.cipher import Opener, Sealer
from transport.lanes.lanes import Lanes
from transport.path.liveness import DEAD_AFTER, KEEPALIVE, SUSPECT_AFTER, Liveness
from transport.path.mtu import Probing
from transport.session.closing import Ending
from transport.session.events import Ended
from transport.session.exchange import ControlExchange
from transport.session.keyring import ASK_INTERVAL, KeyPair, Keyring
from transport.session.outbox import Trickle
from transport.session.timeouts import Timeouts
from transport.wire.control import CloseCode, Ping, Rekey
from transport.wire.datagrams import Suite

HOME = ("192.0.2.1", 1000)


class World:
    """A session's parts on one side, at second 0."""

    def __init__(self, *, initiator=True):
        suite, key = Suite.CHACHAPOLY, bytes(32)
        pair = KeyPair(suite, 1, Sealer(suite, key, 2), Opener(suite, key), 0.0, bytes(32))
        self.keys = Keyring(pair, 0.0, lambda: 0.0)
        self.lanes = Lanes(
            7, kcp_mtu=KCP_MTU, receive_window=RECEIVE_WINDOW, drops=Counter(), now=0.0
        )
        self.liveness = Liveness(0.0, initiator=initiator, jitter=lambda: 0.0)
        self.probing = Probing(HOME, 0.0, largest_unit=KCP_MTU, max_slices=MAX_SLICES)
        self.trickle = Trickle()
        self.exchange = ControlExchange(0.0, bytes, initiator=initiator)
        self.ending = Ending(self.lanes, self.exchange, self.trickle, deque())
        self.timeouts = Timeouts(
            self.keys,
            self.lanes,
            self.liveness,
            self.probing,
            self.trickle,
            self.exchange,
            self.ending,
            initiator=initiator,
        )

    def run(self, until, *, heard=False):
        """(time, item) of all that is queued at the deadlines, as if it left at once; with
        `heard`, and were answered at once.
        """
        seen, now = [], 0.0
        while self.ending.ended is None and (due := self.timeouts.deadline()) <= until:
            assert due > now or not seen  # else its owner would spin
            now = due
            self.timeouts.handle_timeout(now)
            for _, item in self.exchange.take():
                seen.append((pytest.approx(now), type(item)))
                self.liveness.sent(now, wants_answer=True)
                if heard:
                    self.liveness.received(now)
        return seen


def test_an_idle_initiator_wakes_for_its_keepalive():
    assert World().run(4 * KEEPALIVE, heard=True) == [(KEEPALIVE * n, Ping) for n in (1, 2, 3, 4)]


def test_an_idle_responder_sleeps():
    world = World(initiator=False)
    assert world.timeouts.deadline() == DEAD_AFTER


def test_a_silent_peer_is_asked_and_then_given_up():
    world = World()
    seen = world.run(inf)
    assert seen[:2] == [(KEEPALIVE, Ping), (KEEPALIVE + SUSPECT_AFTER, Ping)]
    assert world.ending.ended == Ended(CloseCode.TIMEOUT, "the peer has fallen silent", False)
    assert world.timeouts.deadline() == DEAD_AFTER
    assert world.ending.last_word(DEAD_AFTER) is not None
    world.timeouts.handle_timeout(DEAD_AFTER)
    assert world.ending.finished


def test_new_keys_are_wanted_in_time_and_again_and_without_them_it_ends():
    world = World()
    world.run(REKEY_AFTER - 0.1, heard=True)
    assert not world.keys.wanted
    world.run(REKEY_AFTER, heard=True)
    assert world.keys.wanted
    assert REKEY_AFTER < world.keys.rekey_at <= world.timeouts.deadline() + KEEPALIVE
    world.run(REJECT_AFTER, heard=True)
    assert world.ending.ended == Ended(CloseCode.TIMEOUT, "no new keys in time", False)
    assert world.ending.finished


def test_a_responder_with_worn_keys_asks_for_new_ones_each_second():
    world = World(initiator=False)
    world.keys.current.opener.failures = REKEY_AFTER_FAILURES
    asked = []
    for step in range(12):
        world.timeouts.handle_timeout(step * ASK_INTERVAL / 4)
        asked += [step for _, item in world.exchange.take() if item == Rekey()]
    assert asked == [4, 8]


def test_an_initiator_with_worn_keys_asks_nobody():
    world = World()
    world.keys.current.opener.failures = REKEY_AFTER_FAILURES
    world.timeouts.handle_timeout(2 * ASK_INTERVAL)
    assert world.exchange.take() == []


def test_overdue_acknowledgements_are_asked_for():
    world = World(initiator=False)
    world.lanes.bulk.send([b"x"])
    pings, now = [], 0.0
    while now < 2.9:  # before the peer is a suspect
        if world.lanes.flush_due:
            world.lanes.bulk.units_to_send(now, suspect=False)
        now = max(now, world.timeouts.deadline())
        world.timeouts.handle_timeout(now)
        pings += [now for _ in world.exchange.take()]
    assert len(pings) > 2
    gaps = [later - earlier for earlier, later in itertools.pairwise(pings)]
    assert min(gaps) >= STALL_PROBE - 1e-9


def test_pieces_and_probes_are_waited_for():
    world = World()
    world.trickle.add(b"aabb", 2, 1, 0.5, 1.0)
    assert world.timeouts.deadline() == 1.5
    world.probing.begin(1.2)
    assert world.timeouts.deadline() == 1.2


def test_after_the_end_only_the_last_word_is():
    world = World()
    world.lanes.bulk.send([b"x"])
    world.ending.close(1, "x", 5.0)
    assert world.timeouts.deadline() == 5.0
    while world.ending.last_word(6.0) is not None:
        pass
    assert world.timeouts.deadline() == 5.0 + TOMBSTONE
    world.timeouts.handle_timeout(5.0 + TOMBSTONE - 0.001)
    assert not world.ending.finished
    world.timeouts.handle_timeout(5.0 + TOMBSTONE)
    assert world.ending.finished
    assert world.exchange.take() == []
