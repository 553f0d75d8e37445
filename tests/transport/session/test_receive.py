"""What comes in: opened, sorted by lane, and counted; what a new address brings about."""

from collections import Counter

import pytest

from tests.transport.session.lone import HASH, HOME, KEY, SUITE, lone_session
from transport.constants import KCP_MTU, RECEIVE_WINDOW
from transport.crypto.cipher import Opener, Sealer, conversation_number
from transport.lanes.lanes import Lanes
from transport.path.keepalive import SUSPECT_AFTER
from transport.session.events import Ended
from transport.wire.control import Close, PathChallenge, Ping, Pong, encode_control
from transport.wire.datagrams import CONTROL, DATA, DATAGRAM

NOW = 100.0
AWAY = ("192.0.2.1", 2000)
SLICE = 1416


class World:
    """A session, and a peer that seals for it."""

    def __init__(self, *, initiator=False):
        self.session = session = lone_session(NOW, initiator=initiator)
        self.drops, self.lanes, self.paths = session.drops, session.lanes, session.paths
        self.liveness, self.exchange = session._liveness, session._exchange
        self.ending = session.ending
        self.peer = Lanes(
            conversation_number(HASH),
            kcp_mtu=KCP_MTU,
            receive_window=RECEIVE_WINDOW,
            drops=Counter(),
            now=NOW,
        )
        self.sealer = Sealer(SUITE, KEY, 1)

    def data(self, *messages, sparse=False):
        """Trains of the peer with these messages."""
        if sparse:
            self.peer.sparse.send(messages, NOW)
            units = self.peer.sparse.units_to_send(NOW, suspect=False)
        else:
            self.peer.bulk.send(messages, NOW)
            units = self.peer.bulk.units_to_send(NOW, suspect=False)
        return [self.seal(DATA, unit) for unit in units]

    def control(self, *items):
        return self.seal(CONTROL, encode_control(*items))

    def seal(self, kind, plaintext):
        train, size = self.sealer.seal_unit(kind, plaintext, SLICE)
        return bytes(train), size

    def hear(self, *trains, address=HOME, now=NOW):
        self.session.receive_trains(trains, address, now)

    def read(self):
        sparse = self.lanes.sparse.take_messages()
        lane = self.lanes.datagrams
        datagrams = [] if lane is None else lane.take_messages()
        return self.lanes.bulk.take_messages(), sparse, datagrams


def received(world):
    """Datagrams and bytes."""
    statistics = world.session.statistics(NOW)
    return statistics.received_datagrams, statistics.received_bytes


@pytest.fixture
def world():
    return World()


def test_each_lane_gets_its_own_in_order(world):
    world.lanes.open_datagrams(SLICE, NOW)
    world.hear(
        *world.data(b"one", b"two"),
        world.seal(DATAGRAM, b"first"),
        *world.data(b"between", sparse=True),
        world.control(Ping(bytes(8))),
        world.seal(DATAGRAM, b"second"),
        *world.data(b"three"),
    )
    assert world.read() == ([b"one", b"two", b"three"], [b"between"], [b"first", b"second"])
    assert world.exchange.take()[0] == (None, Pong(bytes(8)))
    assert world.drops == {}


def test_what_opened_is_counted_in_datagrams_and_bytes(world):
    trains = [*world.data(b"one"), world.seal(DATA, b""), world.seal(DATAGRAM, bytes(3000))]
    world.hear(*trains)
    assert received(world) == (2 + 3, sum(len(train) for train, _ in trains))
    assert world.drops == {"loose_unasked": 3}  # slices of the one unit


def test_what_does_not_open_counts_for_nothing(world):
    ((train, size),) = world.data(b"x")
    world.hear((train[:-1] + bytes((train[-1] ^ 1,)), size), now=NOW + 9.0)
    assert world.drops == {"bad_seal": 1}
    assert received(world) == (0, 0)
    assert world.liveness.idle(NOW + 9.0) == 9.0
    assert world.read()[0] == []


def test_anything_that_opened_is_a_sign_of_life(world):
    world.hear(world.seal(CONTROL, b"\x01"), now=NOW + 9.0)
    assert world.drops == {"bad_control": 1}
    assert world.liveness.idle(NOW + 9.0) == 0.0


def test_a_peer_that_is_heard_gets_what_was_held_back(world):
    world.liveness.sent(NOW - SUSPECT_AFTER, wants_answer=True)
    world.lanes.bulk.send([b"one", b"two"], NOW)
    world.session.datagrams_to_send(NOW)
    assert not world.lanes.flush_due
    world.hear(world.seal(DATA, b""))
    assert world.lanes.flush_due


def test_what_is_bad_does_not_spoil_what_came_with_it(world):
    good = world.data(b"good")
    world.hear(world.seal(DATA, bytes(23)), world.seal(DATA, bytes(100)), *good, *good)
    assert world.drops == {"not_kcp": 2, "replay": 1}
    assert world.read()[0] == [b"good"]


def test_something_newer_from_elsewhere_is_challenged(world):
    world.hear(*world.data(b"x"), address=AWAY)
    assert world.exchange.take() == [(AWAY, PathChallenge(b"c" * 8))]
    assert world.paths.current == HOME
    assert world.read()[0] == [b"x"]


def test_something_older_from_elsewhere_is_not(world):
    late, newer = world.data(b"late")[0], world.data(b"newer")[0]
    world.hear(newer)
    world.hear(late, address=AWAY)
    assert world.exchange.take() == []


def test_who_has_connected_follows_nobody():
    world = World(initiator=True)
    world.hear(*world.data(b"x"), address=AWAY)
    assert world.exchange.take() == []


def test_after_the_end_the_peer_is_told_again_and_no_lane_gets_anything(world):
    world.lanes.open_datagrams(SLICE, NOW)
    world.ending.close(1, "x", NOW)
    world.ending.last_word(NOW + 1.0)
    world.hear(*world.data(b"x"), world.seal(DATAGRAM, b"x"), address=AWAY, now=NOW + 1.0)
    assert world.ending.last_word(NOW + 1.0) is not None
    assert world.read() == ([], [], [])
    assert world.exchange.take() == []


def test_a_close_counts_before_what_came_with_it(world):
    world.hear(*world.data(b"x"), world.control(Close(1, "x")))
    assert world.ending.ended == Ended(1, "x", by_peer=True)
    assert world.read()[0] == []


@pytest.mark.parametrize(
    ("content", "lane"), [("bulk", 0), ("sparse", 1), ("datagrams", 2), ("control", None)]
)
def test_what_confirmed_the_keys_is_no_different(world, content, lane):
    world.lanes.open_datagrams(SLICE, NOW)
    if content == "datagrams":
        datagram, _ = world.seal(DATAGRAM, b"x")
    elif content == "control":
        datagram, _ = world.control(Ping(bytes(8)))
    else:
        ((datagram, _),) = world.data(b"x", sparse=content == "sparse")
    plaintext = Opener(SUITE, KEY).open_untrusted(datagram)
    world.session.confirmed_by(datagram, plaintext, AWAY, NOW + 9.0)
    assert world.read() == tuple([b"x"] if place == lane else [] for place in range(3))
    answers = world.exchange.take()
    assert bool(answers) == (content == "control")
    assert not any(isinstance(item, PathChallenge) for _, item in answers)  # it may be a copy
    assert received(world) == (1, len(datagram))
    assert world.liveness.idle(NOW + 9.0) == 0.0


@pytest.mark.parametrize(
    ("kind", "plaintext", "reason"),
    [
        (DATA, bytes(23), "not_kcp"),
        (DATA, bytes(100), "not_kcp"),
        (CONTROL, b"\x01", "bad_control"),
        (DATAGRAM, b"x", "loose_unasked"),
    ],
)
def test_what_confirmed_the_keys_may_be_bad_for_all_else(world, kind, plaintext, reason):
    datagram, _ = world.seal(kind, plaintext)
    world.session.confirmed_by(datagram, plaintext, HOME, NOW)
    assert world.drops == {reason: 1}


def test_a_keepalive_confirms_keys_and_is_nothing_else(world):
    datagram, _ = world.seal(DATA, b"")
    world.session.confirmed_by(datagram, b"", HOME, NOW)
    assert world.drops == {}
    assert world.read() == ([], [], [])
