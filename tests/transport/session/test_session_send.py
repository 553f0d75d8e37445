"""What leaves in one turn: all that is due, in its order, and what that asks of others."""

import itertools

import pytest

from tests.transport.session.lone import HOME, KEY, SUITE, lone_session
from transport.constants import CONFIRM_INTERVAL, REJECT_AFTER_UNITS, TAG_SIZE
from transport.crypto.cipher import Opener, Sealer
from transport.lanes.datagram import REPORT_INTERVAL, STALL
from transport.path.keepalive import SUSPECT_AFTER
from transport.path.mtu import STALL_MAX, USUAL_SIZE
from transport.wire.control import (
    Arrivals,
    Ping,
    Pong,
    Rekey,
    decode_control_untrusted,
    encode_control,
)
from transport.wire.datagrams import CONTROL, DATA, DATAGRAM
from transport.wire.trains import cut

NOW = 100.0


class World:
    """A session, whose peer opens what comes."""

    def __init__(self, *, initiator=False):
        self.session = session = lone_session(NOW, initiator=initiator)
        self.keys, self.paths, self.lanes = session.keys, session.paths, session.lanes
        self.liveness, self.probing = session._liveness, session._probing
        self.exchange, self.paced = session._exchange, session._outbox.paced
        self._opener = Opener(SUITE, KEY)

    def turn(self, now=NOW):
        """Datagrams of one turn."""
        trains = self.session.datagrams_to_send(now)
        return [datagram for train in trains for datagram in cut(train)]

    def items(self, now=NOW):
        """The control items among them."""
        plaintexts = [
            self._opener.open_untrusted(each) for each in self.turn(now) if each[0] == CONTROL
        ]
        return [item for plaintext in plaintexts for item in decode_control_untrusted(plaintext)]

    def heard(self):
        """Something has come under the keys in use."""
        pair = self.keys.current
        pair.opener.open_untrusted(Sealer(SUITE, KEY, 1).seal(DATA, b""))


@pytest.fixture
def world():
    return World()


def test_a_turn_with_nothing_to_say(world):
    assert world.turn() == []


def test_all_that_is_due_leaves_in_its_order(world):
    lane = world.lanes.open_datagrams(world.probing.slice_size, NOW)
    world.lanes.bulk.send([b"bulk"], NOW)
    world.lanes.sparse.send([b"sparse"], NOW)
    lane.send([b"datagram"], NOW)
    world.exchange.queue(Rekey())
    world.probing.begin(NOW)
    datagrams = world.turn()
    kinds = [each[0] for each in datagrams]
    assert kinds == sorted(kinds, key=[CONTROL, DATAGRAM, DATA].index)
    assert len(datagrams[0]) < 100 < len(datagrams[1])  # the item, and then the probes
    opener = Opener(SUITE, KEY)
    opened = [opener.open_untrusted(each) for each in datagrams if each[0] == DATA]
    assert [b"sparse" in unit for unit in opened] == [True, False]
    assert world.turn() == []


def test_probes_are_as_large_as_they_try(world):
    world.probing.begin(NOW)
    assert USUAL_SIZE in [len(each) for each in world.turn()]


def test_a_path_that_has_changed_is_searched_at_once(world):
    assert world.turn() == []
    world.paths.moved(("192.0.2.1", 2000), NOW)
    assert USUAL_SIZE in [len(each) for each in world.turn()]


def test_units_have_the_size_that_the_path_takes(world):
    datagrams = world.lanes.open_datagrams(10_000, NOW)
    world.lanes.bulk.send([b"x"], NOW)
    datagrams.send([b"x"], NOW)
    world.turn()
    assert world.lanes.bulk.slice_size == datagrams.slice_size == world.probing.slice_size


def test_new_keys_are_confirmed_again_while_data_leaves_under_them():
    world = World(initiator=True)
    world.exchange.ping(NOW)
    assert len(world.items()) == 1
    pings = []
    for step in range(1, 41):
        now = NOW + step * CONFIRM_INTERVAL / 4
        world.lanes.bulk.flush_due = True
        pings += [now for item in world.items(now) if isinstance(item, Ping)]
    assert len(pings) >= 8
    gaps = [later - earlier for earlier, later in itertools.pairwise(pings)]
    assert min(gaps) >= CONFIRM_INTERVAL - 1e-9
    world.heard()
    world.lanes.bulk.flush_due = True
    assert world.items(NOW + 5.0) == []


@pytest.mark.parametrize("what", ["nothing", "pieces", "datagrams"])
def test_what_else_has_new_keys_confirmed(what):
    world = World(initiator=True)
    datagrams = world.lanes.open_datagrams(world.probing.slice_size, NOW)
    if what == "pieces":
        world.paced.add(b"aabb", 2, 1, 9.0, NOW)
    elif what == "datagrams":
        datagrams.send([b"x"], NOW)
    later = NOW + 2 * CONFIRM_INTERVAL
    pings = [item for item in world.items(later) if isinstance(item, Ping)]
    assert len(pings) == (what != "nothing")


def test_a_responder_confirms_nothing(world):
    world.lanes.bulk.send([b"x"], NOW)
    assert world.items(NOW + 9.0) == []


def test_what_has_come_of_the_datagram_lane_is_reported(world):
    datagrams = world.lanes.open_datagrams(world.probing.slice_size, NOW)
    world.heard()
    datagrams.receive_untrusted(b"x", 1, NOW)
    assert world.items() == []
    assert world.items(NOW + REPORT_INTERVAL) == [Arrivals(1, 1)]
    assert world.items(NOW + REPORT_INTERVAL) == []


def searched(world):
    """When the search for the path's size has found the usual one, and rests."""
    world.probing.begin(NOW)
    world.turn()
    world.probing.acknowledged(USUAL_SIZE, 1, NOW)
    now = NOW
    while world.probing.due <= NOW + 60.0:
        now = max(now, world.probing.due)
        world.turn(now)
    assert world.probing.size == USUAL_SIZE
    return now


def searches(world, now):
    """Whether the search begins anew in this turn."""
    world.liveness.received(now)
    world.liveness.answered()
    return USUAL_SIZE in [len(each) for each in world.turn(now)]


def test_datagrams_without_any_report_make_the_path_suspect(world):
    now = searched(world)
    datagrams = world.lanes.open_datagrams(world.probing.slice_size, now)
    datagrams.send([b"x"], NOW)
    assert not searches(world, now)
    datagrams.send([b"x"], NOW)
    assert not searches(world, now + STALL / 2)
    datagrams.send([b"x"], NOW)
    assert searches(world, now + STALL)


def test_a_segment_that_never_gets_through_makes_the_path_suspect(world):
    now = searched(world)
    world.lanes.bulk.send([b"x"], NOW)
    world.turn(now)
    for _ in range(2):
        assert not searches(world, now)
        now += STALL_MAX
        world.lanes.bulk.flush_due = True
    world.turn(now)
    assert searches(world, now)


def test_towards_a_silent_peer_datagrams_are_dropped_and_probes_wait(world):
    datagrams = world.lanes.open_datagrams(world.probing.slice_size, NOW)
    datagrams.send([b"x"], NOW)
    assert world.turn()
    now = NOW + SUSPECT_AFTER
    world.probing.begin(now)
    datagrams.send([b"x"], NOW)
    assert world.turn(now) == []
    assert datagrams.sent == 1


def test_pieces_leave_when_they_are_due_and_then_what_waited_for_them(world):
    world.paced.add(b"aabb", 2, 1, 0.5, NOW)
    world.lanes.bulk.send([b"x"], NOW)
    assert world.turn() == []
    assert world.turn(NOW + 0.4) == []
    piece, unit = world.turn(NOW + 0.5)
    assert piece == b"bb"
    assert unit[0] == DATA


def test_the_round_trip_is_that_of_acknowledgements_or_else_of_pings(world):
    assert world.session.round_trip is None
    world.exchange.ping(NOW)
    ((_, ping),) = world.exchange.take()
    world.exchange.receive_untrusted(encode_control(Pong(ping.data)), HOME, NOW + 0.3)
    assert world.session.round_trip == pytest.approx(0.3)
    peer = World().lanes.bulk
    world.lanes.bulk.send([b"x"], NOW)
    peer.receive_units(world.lanes.bulk.units_to_send(NOW, suspect=False), NOW)
    world.lanes.bulk.receive_units(peer.units_to_send(NOW, suspect=False), NOW + 0.1)
    assert world.session.round_trip == world.lanes.rtt == pytest.approx(0.1)


def test_what_was_sealed_before_the_keys_were_used_up_still_leaves(world):
    world.keys.current.sealer.counter = REJECT_AFTER_UNITS - 1
    world.exchange.queue(Rekey())
    world.lanes.bulk.send([b"x"], NOW)
    (datagram,) = world.turn()
    assert datagram[0] == CONTROL
    assert len(datagram) > TAG_SIZE
    assert world.session.ended.reason == "the keys are used up"
