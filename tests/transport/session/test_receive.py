"""What comes in: opened, sorted by lane, and counted; what a new address brings about."""

from collections import Counter, deque

import pytest

from transport.constants import KCP_MTU, MAX_SLICES, RECEIVE_WINDOW
from transport.crypto.cipher import Opener, Sealer
from transport.lanes.lanes import Lanes
from transport.path.address import PathTable
from transport.path.liveness import Liveness
from transport.path.mtu import Probing
from transport.session.closing import Ending
from transport.session.events import Ended
from transport.session.exchange import ControlExchange
from transport.session.keyring import KeyPair, Keyring
from transport.session.outbox import Trickle
from transport.session.reactions import Reactions
from transport.session.receive import Intake
from transport.wire.control import Close, PathChallenge, Ping, Pong, encode_control
from transport.wire.datagrams import CONTROL, DATA, LOOSE, Suite

NOW = 100.0
HOME = ("192.0.2.1", 1000)
AWAY = ("192.0.2.1", 2000)
SLICE = 1416


def new_lanes(drops):
    return Lanes(7, kcp_mtu=KCP_MTU, receive_window=RECEIVE_WINDOW, drops=drops, now=NOW)


class World:
    """The way into a session, and a peer that seals for it."""

    def __init__(self, *, initiator=False):
        suite, key = Suite.CHACHAPOLY, bytes(32)
        self.drops = Counter()
        self.lanes = new_lanes(self.drops)
        self.peer = new_lanes(Counter())
        self.sealer = Sealer(suite, key, 1)
        pair = KeyPair(suite, 1, Sealer(suite, key, 2), Opener(suite, key), NOW, bytes(32))
        keys = Keyring(pair, NOW, lambda: 0.0)
        self.paths = PathTable(HOME, lambda size: b"c" * size)
        self.liveness = Liveness(NOW, initiator=initiator, jitter=lambda: 0.0)
        self.exchange = ControlExchange(NOW, bytes, initiator=initiator)
        trickle, events = Trickle(), deque()
        self.ending = Ending(self.lanes, self.exchange, trickle, events)
        probing = Probing(HOME, NOW, largest_unit=KCP_MTU, max_slices=MAX_SLICES)
        self.intake = Intake(
            keys,
            self.paths,
            self.lanes,
            self.liveness,
            self.exchange,
            Reactions(keys, self.paths, self.lanes, probing, trickle, self.ending, events),
            self.ending,
            self.drops,
            initiator=initiator,
        )

    def data(self, *messages, sparse=False):
        """Trains of the peer with these messages."""
        if sparse:
            self.peer.send_sparse(messages, NOW)
            units = self.peer.sparse_units_to_send(NOW, suspect=False)
        else:
            self.peer.bulk.send(messages)
            units = self.peer.bulk.units_to_send(NOW, suspect=False)
        return [self.seal(DATA, unit) for unit in units]

    def control(self, *items):
        return self.seal(CONTROL, encode_control(*items))

    def seal(self, kind, plaintext):
        train, size = self.sealer.seal_unit(kind, plaintext, SLICE)
        return bytes(train), size

    def hear(self, *trains, address=HOME, now=NOW):
        self.intake.receive_trains(trains, address, now)

    def read(self):
        sparse = [] if self.lanes.sparse is None else self.lanes.sparse.take_messages(more=False)
        loose = [] if self.lanes.loose is None else self.lanes.loose.take_messages()
        return self.lanes.bulk.take_messages(more=False), sparse, loose


@pytest.fixture
def world():
    return World()


def test_each_lane_gets_its_own_in_order(world):
    world.lanes.open_loose(SLICE, NOW)
    world.hear(
        *world.data(b"one", b"two"),
        world.seal(LOOSE, b"first"),
        *world.data(b"between", sparse=True),
        world.control(Ping(bytes(8))),
        world.seal(LOOSE, b"second"),
        *world.data(b"three"),
    )
    assert world.read() == ([b"one", b"two", b"three"], [b"between"], [b"first", b"second"])
    assert world.exchange.take()[0] == (None, Pong(bytes(8)))
    assert world.drops == {}


def test_what_opened_is_counted_in_datagrams_and_bytes(world):
    trains = [*world.data(b"one"), world.seal(DATA, b""), world.seal(LOOSE, bytes(3000))]
    world.hear(*trains)
    assert world.intake.received_datagrams == 2 + 3
    assert world.intake.received_bytes == sum(len(train) for train, _ in trains)
    assert world.drops == {"loose_unasked": 3}  # slices of the one unit


def test_what_does_not_open_counts_for_nothing(world):
    ((train, size),) = world.data(b"x")
    world.hear((train[:-1] + bytes((train[-1] ^ 1,)), size), now=NOW + 9.0)
    assert world.drops == {"bad_seal": 1}
    assert world.intake.received_datagrams == world.intake.received_bytes == 0
    assert world.liveness.idle(NOW + 9.0) == 9.0
    assert world.read()[0] == []


def test_anything_that_opened_is_a_sign_of_life(world):
    world.hear(world.seal(CONTROL, b"\x01"), now=NOW + 9.0)
    assert world.drops == {"bad_control": 1}
    assert world.liveness.idle(NOW + 9.0) == 0.0


def test_a_peer_that_is_heard_gets_what_was_held_back(world):
    world.lanes.bulk.send([b"one", b"two"])
    world.lanes.bulk.units_to_send(NOW, suspect=True)
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
    world.lanes.open_loose(SLICE, NOW)
    world.ending.close(1, "x", NOW)
    world.ending.last_word(NOW + 1.0)
    world.hear(*world.data(b"x"), world.seal(LOOSE, b"x"), address=AWAY, now=NOW + 1.0)
    assert world.ending.last_word(NOW + 1.0) is not None
    assert world.read() == ([], [], [])
    assert world.exchange.take() == []


def test_a_close_counts_before_what_came_with_it(world):
    world.hear(*world.data(b"x"), world.control(Close(1, "x")))
    assert world.ending.ended == Ended(1, "x", by_peer=True)
    assert world.read()[0] == []


@pytest.mark.parametrize(
    ("content", "lane"), [("bulk", 0), ("sparse", 1), ("loose", 2), ("control", None)]
)
def test_what_confirmed_the_keys_is_no_different(world, content, lane):
    world.lanes.open_loose(SLICE, NOW)
    if content == "loose":
        datagram, _ = world.seal(LOOSE, b"x")
    elif content == "control":
        datagram, _ = world.control(Ping(bytes(8)))
    else:
        ((datagram, _),) = world.data(b"x", sparse=content == "sparse")
    plaintext = Opener(Suite.CHACHAPOLY, bytes(32)).open_untrusted(datagram)
    world.intake.receive_confirmation(datagram, plaintext, AWAY, NOW + 9.0)
    assert world.read() == tuple([b"x"] if place == lane else [] for place in range(3))
    answers = world.exchange.take()
    assert bool(answers) == (content == "control")
    assert not any(isinstance(item, PathChallenge) for _, item in answers)  # it may be a copy
    assert world.intake.received_datagrams == 1
    assert world.intake.received_bytes == len(datagram)
    assert world.liveness.idle(NOW + 9.0) == 0.0


@pytest.mark.parametrize(
    ("kind", "plaintext", "reason"),
    [
        (DATA, bytes(23), "not_kcp"),
        (DATA, bytes(100), "not_kcp"),
        (CONTROL, b"\x01", "bad_control"),
        (LOOSE, b"x", "loose_unasked"),
    ],
)
def test_what_confirmed_the_keys_may_be_bad_for_all_else(world, kind, plaintext, reason):
    datagram, _ = world.seal(kind, plaintext)
    world.intake.receive_confirmation(datagram, plaintext, HOME, NOW)
    assert world.drops == {reason: 1}


def test_a_keepalive_confirms_keys_and_is_nothing_else(world):
    datagram, _ = world.seal(DATA, b"")
    world.intake.receive_confirmation(datagram, b"", HOME, NOW)
    assert world.drops == {}
    assert world.read() == ([], [], [])
