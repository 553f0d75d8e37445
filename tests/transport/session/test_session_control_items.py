"""What control items change: each in the part of the session that it concerns, and nowhere else."""

from collections import Counter, deque

import pytest

from transport.constants import KCP_MTU, MAX_SLICES, RECEIVE_WINDOW
from transport.crypto.cipher import Opener, Sealer
from transport.lanes.lanes import Lanes
from transport.path.address import PathTable
from transport.path.mtu import USUAL_SIZE, Probing
from transport.session.closing import Ending
from transport.session.events import Ended, PathChanged
from transport.session.exchange import ControlExchange
from transport.session.keyring import KeyPair, Keyring
from transport.session.outbox import Trickle
from transport.session.reactions import Reactions
from transport.wire.control import (
    Arrivals,
    Close,
    MtuAck,
    MtuProbe,
    PathChallenge,
    PathResponse,
    Ping,
    Pong,
    Rekey,
)
from transport.wire.datagrams import DATA, Suite

NOW = 100.0
HOME = ("192.0.2.1", 1000)
AWAY = ("192.0.2.1", 2000)


class World:
    """A session's parts, with a message under way."""

    def __init__(self):
        suite, key = Suite.CHACHAPOLY, bytes(32)
        pair = KeyPair(suite, 1, Sealer(suite, key, 2), Opener(suite, key), NOW, bytes(32))
        self.events = deque()
        self.keys = Keyring(pair, NOW, lambda: 0.0)
        self.paths = PathTable(HOME, lambda size: b"c" * size)
        self.lanes = Lanes(
            7, kcp_mtu=KCP_MTU, receive_window=RECEIVE_WINDOW, drops=Counter(), now=NOW
        )
        self.probing = Probing(HOME, NOW, largest_unit=KCP_MTU, max_slices=MAX_SLICES)
        self.lanes.resize(self.probing.slice_size)
        self.trickle = Trickle()
        exchange = ControlExchange(NOW, bytes, initiator=False)
        self.ending = Ending(self.lanes, exchange, self.trickle, self.events)
        self.reactions = Reactions(
            self.keys,
            self.paths,
            self.lanes,
            self.probing,
            self.trickle,
            self.ending,
            self.events,
        )
        self.lanes.bulk.send([b"x"])
        self.lanes.bulk.units_to_send(NOW, suspect=False)

    def hear(self, *items, address=HOME, now=NOW + 0.1):
        self.reactions.react_untrusted(items, address, now)

    def sizes_asked(self, now):
        """Sizes of the probes that leave."""
        return [size for _, size in self.probing.plaintexts(HOME, now, None, suspect=False)]

    @property
    def repeats(self):
        """Whether what is under way leaves again."""
        return self.lanes.flush_due


@pytest.fixture
def world():
    return World()


def test_an_answered_challenge_moves_the_path_and_repeats_what_went_to_the_old_one(world):
    challenge = world.paths.observe(AWAY, 100, NOW)
    world.hear(PathResponse(challenge), address=AWAY)
    assert world.paths.current == AWAY
    assert world.paths.changes == 1
    assert list(world.events) == [PathChanged(AWAY)]
    assert world.repeats


def test_an_answer_to_no_challenge_moves_nothing(world):
    world.hear(PathResponse(bytes(8)), address=AWAY)
    assert world.paths.current == HOME
    assert world.paths.changes == 0
    assert not world.events
    assert not world.repeats


def test_an_answered_ping_begins_the_search_for_sizes(world):
    assert world.sizes_asked(NOW) == []
    world.hear(Pong(bytes(8)))
    assert world.sizes_asked(NOW + 0.1)


def test_an_answered_ping_repeats_what_is_overdue_and_nothing_else(world):
    world.hear(Pong(bytes(8)))
    assert not world.repeats
    late = world.lanes.deadline()
    while not world.lanes.bulk.kcp.recovery.overdue:
        late = max(late, world.lanes.deadline())
        world.lanes.handle_timeout(late)
        world.lanes.bulk.units_to_send(late, suspect=False)
        late += 0.1
    world.trickle.add(b"aabb", 2, 1, 0.5, late)
    assert not world.repeats
    world.hear(Pong(bytes(8)), now=late)
    assert world.repeats
    assert not world.trickle  # it is among what is sent again


def test_pieces_that_are_not_overdue_go_on_leaving(world):
    world.trickle.add(b"aabb", 2, 1, 0.5, NOW)
    world.hear(Pong(bytes(8)))
    assert world.trickle


def test_an_acknowledged_probe_makes_units_larger(world):
    world.hear(Pong(bytes(8)))
    assert USUAL_SIZE in world.sizes_asked(NOW + 0.1)
    before = world.lanes.bulk.slice_size
    world.hear(MtuAck(USUAL_SIZE, 1))
    assert world.probing.size == USUAL_SIZE
    assert world.lanes.bulk.slice_size == world.probing.slice_size > before


def test_a_peer_that_searches_anew_makes_us_search_anew(world):
    world.hear(Pong(bytes(8)))
    world.sizes_asked(NOW + 0.1)
    world.hear(MtuProbe(1), MtuAck(USUAL_SIZE, 1))
    later = NOW + 100.0
    while world.sizes_asked(later):
        later += 10.0  # until all sizes have been tried
    assert world.sizes_asked(later) == []
    world.hear(MtuProbe(2), now=later)
    assert USUAL_SIZE in world.sizes_asked(later)


def test_a_peer_may_ask_for_new_keys(world):
    assert not world.keys.due(NOW)
    world.hear(Rekey())
    assert world.keys.due(NOW)


def test_a_close_ends_the_session(world):
    world.hear(Close(9, "enough"))
    assert world.ending.ended == Ended(9, "enough", by_peer=True)
    assert world.ending.finished


def test_what_has_come_of_the_datagram_lane_is_believed_as_far_as_it_makes_sense(world):
    world.hear(Arrivals(1, 1))  # nobody has opened it
    loose = world.lanes.open_loose(1000, NOW)
    for _ in range(20):
        world.keys.current.sealer.seal(DATA, b"")
    world.hear(Arrivals(10, 10))
    world.hear(Arrivals(12, 15))
    world.hear(Arrivals(13, 16))
    assert loose.meter.lost == 3
    world.hear(Arrivals(20, 40))  # more than were sealed
    world.hear(Arrivals(20, 41))
    assert loose.meter.lost == 3


def test_probes_without_an_answer_are_no_losses(world):
    loose = world.lanes.open_loose(1000, NOW)
    for _ in range(20):
        world.keys.current.sealer.seal(DATA, b"")
    world.hear(Arrivals(10, 10), Pong(bytes(8)))
    probes = len(world.sizes_asked(NOW + 0.1))
    assert probes > 1
    world.hear(Arrivals(15 - probes, 15))
    world.hear(Arrivals(16 - probes, 16))
    assert loose.meter.lost == 0


def test_questions_change_nothing(world):
    world.hear(Ping(bytes(8)), PathChallenge(bytes(8)), address=AWAY)
    assert world.paths.current == HOME
    assert not world.events
    assert not world.repeats
    assert not world.keys.wanted
    assert world.ending.ended is None
