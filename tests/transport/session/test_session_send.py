"""What leaves in one turn: all that is due, in its order, and what that asks of others."""

import itertools
from collections import Counter

import pytest

from transport.constants import (
    CONFIRM_INTERVAL,
    KCP_MTU,
    MAX_SLICES,
    RECEIVE_WINDOW,
    REJECT_AFTER_UNITS,
    TAG_SIZE,
)
from transport.crypto.cipher import Opener, Sealer
from transport.errors import KeyExhausted
from transport.lanes.datagram import REPORT_INTERVAL, STALL
from transport.lanes.lanes import Lanes
from transport.path.address import PathTable
from transport.path.liveness import SUSPECT_AFTER, Liveness
from transport.path.mtu import STALL_MAX, USUAL_SIZE, Probing
from transport.session.exchange import ControlExchange
from transport.session.keyring import KeyPair, Keyring
from transport.session.outbox import Dispatch
from transport.session.scheduler import Scheduler
from transport.wire.control import (
    Arrivals,
    Ping,
    Pong,
    Rekey,
    decode_control_untrusted,
    encode_control,
)
from transport.wire.datagrams import CONTROL, DATA, LOOSE, Suite
from transport.wire.trains import cut

NOW = 100.0
HOME = ("192.0.2.1", 1000)
SUITE, KEY = Suite.CHACHAPOLY, bytes(32)


class World:
    """The way out of a session, whose peer opens what comes."""

    def __init__(self, *, initiator=False):
        pair = KeyPair(SUITE, 1, Sealer(SUITE, KEY, 2), Opener(SUITE, KEY), NOW, bytes(32))
        self.keys = Keyring(pair, NOW, lambda: 0.0)
        self.paths = PathTable(HOME, bytes)
        self.lanes = Lanes(
            7, kcp_mtu=KCP_MTU, receive_window=RECEIVE_WINDOW, drops=Counter(), now=NOW
        )
        self.liveness = Liveness(NOW, initiator=initiator, jitter=lambda: 0.0)
        self.probing = Probing(HOME, NOW, largest_unit=KCP_MTU, max_slices=MAX_SLICES)
        self.exchange = ControlExchange(NOW, bytes, initiator=initiator)
        self.dispatch = Dispatch(self.keys, self.paths, self.liveness)
        self.scheduler = Scheduler(
            self.keys,
            self.paths,
            self.lanes,
            self.liveness,
            self.probing,
            self.exchange,
            self.dispatch,
            initiator=initiator,
        )
        self._opener = Opener(SUITE, KEY)

    def turn(self, now=NOW):
        """Datagrams of one turn."""
        self.scheduler.seal_due(now)
        return [datagram for train in self.dispatch.take() for datagram in cut(train)]

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
    loose = world.lanes.open_loose(world.probing.slice_size, NOW)
    world.lanes.bulk.send([b"bulk"])
    world.lanes.send_sparse([b"sparse"], NOW)
    loose.send([b"loose"])
    world.exchange.queue(Rekey())
    world.probing.begin(NOW)
    datagrams = world.turn()
    kinds = [each[0] for each in datagrams]
    assert kinds == sorted(kinds, key=[CONTROL, LOOSE, DATA].index)
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
    loose = world.lanes.open_loose(10_000, NOW)
    world.lanes.bulk.send([b"x"])
    loose.send([b"x"])
    world.turn()
    assert world.lanes.bulk.slice_size == loose.slice_size == world.probing.slice_size


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


@pytest.mark.parametrize("what", ["nothing", "pieces", "loose"])
def test_what_else_has_new_keys_confirmed(what):
    world = World(initiator=True)
    loose = world.lanes.open_loose(world.probing.slice_size, NOW)
    if what == "pieces":
        world.dispatch.trickle.add(b"aabb", 2, 1, 9.0, NOW)
    elif what == "loose":
        loose.send([b"x"])
    later = NOW + 2 * CONFIRM_INTERVAL
    pings = [item for item in world.items(later) if isinstance(item, Ping)]
    assert len(pings) == (what != "nothing")


def test_a_responder_confirms_nothing(world):
    world.lanes.bulk.send([b"x"])
    assert world.items(NOW + 9.0) == []


def test_what_has_come_of_the_datagram_lane_is_reported(world):
    loose = world.lanes.open_loose(world.probing.slice_size, NOW)
    world.heard()
    loose.receive_untrusted(b"x", 1, NOW)
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
    return USUAL_SIZE in [len(each) for each in world.turn(now)]


def test_datagrams_without_any_report_make_the_path_suspect(world):
    now = searched(world)
    loose = world.lanes.open_loose(world.probing.slice_size, now)
    loose.send([b"x"])
    assert not searches(world, now)
    loose.send([b"x"])
    assert not searches(world, now + STALL / 2)
    loose.send([b"x"])
    assert searches(world, now + STALL)


def test_a_segment_that_never_gets_through_makes_the_path_suspect(world):
    now = searched(world)
    world.lanes.bulk.send([b"x"])
    world.turn(now)
    for _ in range(2):
        assert not searches(world, now)
        now += STALL_MAX
        world.lanes.bulk.flush_due = True
    world.turn(now)
    assert searches(world, now)


def test_towards_a_silent_peer_datagrams_are_dropped_and_probes_wait(world):
    loose = world.lanes.open_loose(world.probing.slice_size, NOW)
    loose.send([b"x"])
    assert world.turn()
    now = NOW + SUSPECT_AFTER
    world.probing.begin(now)
    loose.send([b"x"])
    assert world.turn(now) == []
    assert loose.sent == 1


def test_pieces_leave_when_they_are_due_and_then_what_waited_for_them(world):
    world.dispatch.trickle.add(b"aabb", 2, 1, 0.5, NOW)
    world.lanes.bulk.send([b"x"])
    assert world.turn() == []
    assert world.turn(NOW + 0.4) == []
    piece, unit = world.turn(NOW + 0.5)
    assert piece == b"bb"
    assert unit[0] == DATA


def test_the_round_trip_is_that_of_acknowledgements_or_else_of_pings(world):
    assert world.scheduler.round_trip is None
    world.exchange.ping(NOW)
    ((_, ping),) = world.exchange.take()
    world.exchange.receive_untrusted(encode_control(Pong(ping.data)), HOME, NOW + 0.3)
    assert world.scheduler.round_trip == pytest.approx(0.3)
    peer = World().lanes.bulk
    world.lanes.bulk.send([b"x"])
    peer.receive_units(world.lanes.bulk.units_to_send(NOW, suspect=False), NOW)
    world.lanes.bulk.receive_units(peer.units_to_send(NOW, suspect=False), NOW + 0.1)
    assert world.scheduler.round_trip == world.lanes.rtt == pytest.approx(0.1)


def test_what_was_sealed_before_the_keys_were_used_up_still_leaves(world):
    world.keys.current.sealer.counter = REJECT_AFTER_UNITS - 1
    world.exchange.queue(Rekey())
    world.lanes.bulk.send([b"x"])
    with pytest.raises(KeyExhausted):
        world.scheduler.seal_due(NOW)
    ((train, _, _),) = world.dispatch.take()
    assert train[0] == CONTROL
    assert len(train) > TAG_SIZE
