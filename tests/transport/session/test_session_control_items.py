"""What control items change: each in the part of the session that it concerns, and nowhere else."""

import pytest

from tests.transport.session.lone import HOME, lone_session
from transport.path.mtu import USUAL_SIZE
from transport.session.events import Ended, PathChanged
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
    encode_control,
)
from transport.wire.datagrams import DATA

NOW = 100.0
AWAY = ("192.0.2.1", 2000)


class World:
    """A session's parts, with a message under way."""

    def __init__(self):
        self.session = session = lone_session(NOW)
        self.keys, self.paths, self.lanes = session.keys, session.paths, session.lanes
        self.probing, self.paced = session._probing, session._outbox.paced
        self.ending, self.events = session.ending, session.events
        self.lanes.bulk.send([b"x"], NOW)
        self.lanes.bulk.units_to_send(NOW, suspect=False)

    def hear(self, *items, address=HOME, now=NOW + 0.1):
        self.session._receive_control_untrusted(encode_control(*items), address, now)

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
    while not world.lanes.overdue:
        late = max(late, world.lanes.deadline())
        world.lanes.handle_timeout(late)
        world.lanes.bulk.units_to_send(late, suspect=False)
        late += 0.1
    world.paced.add(b"aabb", 2, 1, 0.5, late)
    assert not world.repeats
    world.hear(Pong(bytes(8)), now=late)
    assert world.repeats
    assert not world.paced  # it is among what is sent again


def test_pieces_that_are_not_overdue_go_on_leaving(world):
    world.paced.add(b"aabb", 2, 1, 0.5, NOW)
    world.hear(Pong(bytes(8)))
    assert world.paced


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
    datagrams = world.lanes.open_datagrams(1000, NOW)
    for _ in range(20):
        world.keys.current.sealer.seal(DATA, b"")
    world.hear(Arrivals(10, 10))
    world.hear(Arrivals(12, 15))
    world.hear(Arrivals(13, 16))
    assert datagrams.meter.lost == 3
    world.hear(Arrivals(20, 40))  # more than were sealed
    world.hear(Arrivals(20, 41))
    assert datagrams.meter.lost == 3


def test_probes_without_an_answer_are_no_losses(world):
    datagrams = world.lanes.open_datagrams(1000, NOW)
    for _ in range(20):
        world.keys.current.sealer.seal(DATA, b"")
    world.hear(Arrivals(10, 10), Pong(bytes(8)))
    probes = len(world.sizes_asked(NOW + 0.1))
    assert probes > 1
    world.hear(Arrivals(15 - probes, 15))
    world.hear(Arrivals(16 - probes, 16))
    assert datagrams.meter.lost == 0


def test_questions_change_nothing(world):
    world.hear(Ping(bytes(8)), PathChallenge(bytes(8)), address=AWAY)
    assert world.paths.current == HOME
    assert not world.events
    assert not world.repeats
    assert not world.keys.wanted
    assert world.ending.ended is None
