"""Whatever members with valid keys send, in any order, and whenever it is read: what each session
holds is within its documented limit, all of them within that of the process; what is accounted is
what is there; nothing raises; and in the end nothing is held.

What is really there is found out at the end, through the public face alone: all that the members
send is made of one byte, then every gap is filled with another one, and all is read.
"""

import gc
import random
import struct
from types import FunctionType, ModuleType

import pytest

from transport.constants import (
    DATAGRAM_INBOX_BYTES,
    INBOX_BYTES,
    KCP_MTU,
    MAX_FRAGMENTS,
    MESSAGE_COST,
    PARTIAL_BYTES,
    RECEIVE_BYTES,
)
from transport.crypto.cipher import conversation_number
from transport.handshake.admission import Grant
from transport.lanes.arrivals import SEGMENT_COST
from transport.lanes.lanes import SPARSE
from transport.testing.cores import KnownPeers, Wire
from transport.wire.control import Arrivals, Close, Ping, Rekey, encode_control
from transport.wire.datagrams import CONTROL, DATA, DATAGRAM
from transport.wire.trains import cut

MEMBERS = 3
LIMIT = 40 << 20  # of the process
THEIRS, FILLED, OURS = b"o", b"f", b"s"
SIZES = [0, 1, 3, 20, 400, 1300]
DEEDS = [
    *(
        "next",
        "next",
        "ahead",
        "far",
        "repeated",
        "mixed",
        "tiny",
        "fragments",
        "slices",
        "control",
    ),
    *("datagrams", "rekey", "read", "keep", "use", "send", "hold", "time", "time"),
]


class Lane:
    """What a member says on one of its reliable lanes."""

    def __init__(self, bit):
        self.bit = bit
        self.next = 0  # the first number that was never sent
        self.gaps = []  # numbers before it that were left out


class Member:
    def __init__(self, wire, server, known, number, rng):
        self.wire, self.server, self.rng = wire, server, rng
        self.host = wire.host(f"192.0.2.{number}", authority=known)
        known.keys[self.host.identity.public] = Grant()
        self.login()

    def login(self):
        self.host.connect(self.server)
        self.wire.settle()
        self.session = self.server.session
        assert self.session.peer == self.host.identity.public
        self.lanes = [Lane(0), Lane(SPARSE)]
        self.kept = []
        self.number = conversation_number(self.host.session.keys.current.handshake_hash)
        self.over_counted = False
        if self.rng.random() < 0.7:
            for each in (self.session, self.host.session):
                each.open_datagrams(self.wire.now)

    # --- What it sends ------------------------------------------------------------------------

    def segment(self, lane, sn, size, fragment=0, content=THEIRS):
        head = (self.number ^ lane.bit, 81, fragment, 128, 0, sn, 0, size)
        return struct.pack("<IBBHIIII", *head) + content * size

    def unit(self, kind, plaintext, *, slices=False):
        size = 1416
        train = self.host.session.keys.current.sealer.seal_unit(kind, plaintext, size)
        datagrams = cut((train[0], self.host.address, train[1]))
        if slices:
            self.rng.shuffle(datagrams)
            datagrams = datagrams[: self.rng.randrange(1, len(datagrams) + 1)]
        here = [(each, self.host.address) for each in datagrams]
        self.server.demux.receive_datagrams(here, self.wire.now)

    def say(self, lane, count, size, gap=0):
        """Segments with new numbers, after a gap, as many to a unit as fit."""
        lane.gaps += range(lane.next, lane.next + gap)
        lane.next += gap
        most = (KCP_MTU if not lane.bit else 1400) // (24 + size)
        while count > 0:
            several = min(count, most)
            numbers = range(lane.next, lane.next + several)
            self.unit(DATA, b"".join([self.segment(lane, sn, size) for sn in numbers]))
            lane.next += several
            count -= several

    def do(self, deed):
        rng, session = self.rng, self.session
        lane = rng.choice(self.lanes)
        large = 60_000 if not lane.bit else 1300
        match deed:
            case "next":
                self.say(lane, rng.choice([1, 5, 40]), rng.choice([*SIZES, large]))
            case "ahead":
                self.say(
                    lane, rng.choice([1, 5, 40]), rng.choice([*SIZES, large]), rng.randrange(3)
                )
            case "far":
                self.say(lane, 1, rng.choice([0, 1, large]), rng.choice([2, 200, 5000]))
            case "repeated" if lane.next:
                sn = rng.randrange(lane.next)
                if sn not in lane.gaps:
                    for _ in range(rng.choice([1, 50])):
                        self.unit(DATA, self.segment(lane, sn, rng.choice([0, 1300])))
            case "mixed" if lane.next:
                # One that is missing, and many that are there, so often that they would add up.
                there = self.segment(lane, lane.next - 1, 1300 if not lane.bit else 300)
                for sn in lane.gaps[:100]:
                    self.unit(DATA, self.segment(lane, sn, 1) + there * (40 if not lane.bit else 3))
                del lane.gaps[:100]
            case "tiny":
                self.say(lane, 5000, rng.choice([0, 1]), rng.randrange(2))
            case "fragments":
                count = rng.choice([2, 30, 127])
                for number in range(count):
                    segment = self.segment(lane, lane.next, large, count - number - 1)
                    self.unit(DATA, segment)
                    lane.next += 1
            case "slices":
                for _ in range(rng.choice([1, 60])):
                    self.unit(DATAGRAM, THEIRS * rng.randrange(1, 60_000), slices=True)
            case "control":
                self.unit(CONTROL, encode_control(Ping(b"12345678"), Rekey(), Arrivals(1, 2)))
            case "datagrams":
                for _ in range(rng.choice([1, 100])):
                    self.unit(DATAGRAM, THEIRS * rng.choice([0, 1, 1300, 60_000]))
            case "rekey":
                self.host.session.renew()
                self.host.demux.touch(self.host.session)
            # --- What the program above does --------------------------------------------------
            case "read":
                self.take()
            case "keep":
                self.kept += self.take()
                session.held_above = sum(len(each) + MESSAGE_COST for each in self.kept)
            case "use":
                self.kept.clear()
                session.held_above = 0
            case "send":
                while session.ended is None and session.bulk.credit > 0 and rng.random() < 0.99:
                    session.bulk.send([OURS * 10_000], self.wire.now)
            case "hold":
                session.lanes.hold_bulk = not session.lanes.hold_bulk
        self.server.demux.touch(session)

    def take(self):
        session = self.session
        loose = [] if session.datagrams is None else session.datagrams.take_messages()
        return [*session.bulk.take_messages(), *session.sparse.take_messages(), *loose]

    # --- What is held ---------------------------------------------------------------------------

    @property
    def received(self):
        """Of what it has sent: bytes that are held, as the session accounts for them."""
        lanes = self.session.lanes
        return lanes.held - lanes.in_flight

    def limit(self):
        """What docs/security.md says that a member can make a session hold, below the program."""
        lanes = self.session.lanes
        return sum(
            INBOX_BYTES + RECEIVE_BYTES + 2 * lane.max_message + MAX_FRAGMENTS * SEGMENT_COST
            for lane in reliable(lanes)
        ) + (DATAGRAM_INBOX_BYTES + KCP_MTU if lanes.datagrams is not None else 0)

    def check(self):
        assert self.received <= self.limit()
        assert self.session.reassembly.held <= PARTIAL_BYTES
        if self.session.ended is not None:
            assert self.session.lanes.held == unread(self.session.lanes)

    def overhead(self):
        """What counts besides the content of the messages and segments that are held."""
        lanes, count = self.session.lanes, 0
        for lane in reliable(lanes):
            arrivals = lane.kcp.arrivals
            count += MESSAGE_COST * (len(lane.inbox) + len(arrivals._messages))
            count += SEGMENT_COST * (len(arrivals.ahead) + len(arrivals._parts))
        return count + (
            0 if lanes.datagrams is None else MESSAGE_COST * len(lanes.datagrams._inbox)
        )

    def content(self):
        """Fill every gap and read everything: the bytes that had been there before."""
        found = 0
        for lane in self.lanes:
            conversation = self.session.lanes.bulk if not lane.bit else self.session.lanes.sparse
            for sn in range(lane.next):
                self.unit(DATA, self.segment(lane, sn, 1, content=FILLED))
                if sn % 64 == 0:
                    found += sum(each.count(THEIRS) for each in conversation.take_messages())
        while rest := self.take():
            found += sum(each.count(THEIRS) for each in rest)
        return found


def unread(lanes):
    """What messages cost that can be read."""
    inboxes = [lane.inbox for lane in reliable(lanes)]
    if lanes.datagrams is not None:
        inboxes.append(lanes.datagrams._inbox)
    return sum(len(each) + MESSAGE_COST for inbox in inboxes for each in inbox)


def kept(session):
    """Bytes of all content that can be found from a session, whatever holds it."""
    found, seen, ahead = 0, set(), [session]
    while ahead:
        each = ahead.pop()
        if id(each) in seen or isinstance(each, (type, FunctionType, ModuleType)):
            continue
        seen.add(id(each))
        if isinstance(each, (bytes, bytearray)):
            found += sum(each.count(content * 20) * 20 for content in (THEIRS, FILLED, OURS))
        ahead += gc.get_referents(each)
    return found


def reliable(lanes):
    return [lanes.bulk] if lanes.sparse.reliable is None else [lanes.bulk, lanes.sparse.reliable]


class World:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.wire = Wire(seed=seed)
        self.known = KnownPeers()
        self.server = self.wire.host("198.51.100.1", authority=self.known, memory_limit=LIMIT)
        self.members = [
            Member(self.wire, self.server, self.known, number + 1, self.rng)
            for number in range(MEMBERS)
        ]

    @property
    def accounted(self):
        return self.server.demux._budget.total

    def step(self):
        member = self.rng.choice(self.members)
        if member.session.ended is not None or member.host.session.ended is not None:
            self.wire.advance(5.0)
            member.login()
        deed = self.rng.choice(DEEDS)
        member.do(deed)
        self.wire.advance(self.rng.choice([0.01, 0.2, 3.0]) if deed == "time" else 0.0)
        self.check()

    def check(self):
        held = 0
        for session in self.server.demux.live_sessions():
            if session.ended is None:
                held += session.lanes.held + session.reassembly.held + session.held_above
        assert self.accounted == held <= LIMIT
        for member in self.members:
            member.check()
        assert self.server.demux.drops["core_failed"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_what_is_held_is_accounted_and_within_its_limits(seed):
    world = World(seed)
    for _ in range(150):
        world.step()
    for member in world.members:
        if member.session.ended is None:
            accounted = member.received - member.overhead()
            there = member.content()
            assert accounted == there
        member.do("slices")
        member.host.close()
        world.wire.settle()
        member.do("slices")  # and afterwards
        world.wire.settle()
        assert member.session.reassembly.held == 0
    world.wire.advance(5.0)
    for member in world.members:
        member.take()
        assert member.session.lanes.held == member.session.lanes.in_flight == 0
        assert kept(member.session) == 0
    assert world.accounted == 0
    assert world.server.demux.sessions == 0


def test_what_comes_again_beside_something_new_does_not_add_up():
    """Sessions whose accounts grow with what they do not hold would keep newcomers out."""
    world = World(1)
    member = world.members[0]
    lane = member.lanes[0]
    member.say(lane, 1, 1300, gap=1000)
    there = member.segment(lane, 1000, 1300)
    for sn in range(200):
        member.unit(DATA, member.segment(lane, sn, 1) + there * 40)
        member.take()
        world.wire.advance(0.0)
    assert member.session.ended is None
    assert member.received <= 1300 + SEGMENT_COST
    world.check()


def laden():
    """A member whose session holds something of each kind, and how much of it can be read."""
    world = World(2)
    member = world.members[0]
    session, now = member.session, world.wire.now
    session.open_datagrams(now)
    can_be_read = 0
    for lane in member.lanes:
        member.say(lane, 100, 1300)
        can_be_read += 100 * 1300
        member.say(lane, 1, 0)
        member.unit(DATA, member.segment(lane, lane.next, 1300, fragment=1))
        lane.next += 1
        member.say(lane, 100, 1300, gap=1)
    for _ in range(10):
        member.unit(DATAGRAM, THEIRS * 1000)
    can_be_read += 10 * 1000
    member.unit(DATAGRAM, THEIRS * 60_000, slices=True)
    world.wire.cut()
    for lane in (session.bulk, session.sparse, session.datagrams):
        lane.send([OURS * (1300 + number) for number in range(100)], now)
    world.server.demux.touch(session)
    world.wire.settle()
    world.check()
    assert session.lanes.in_flight > 200_000
    assert kept(session) > can_be_read + 400_000
    return world, member, can_be_read


def test_who_is_ended_for_memory_keeps_nothing():
    world, member, _ = laden()
    session = member.session
    session.held_above = LIMIT
    world.server.demux.touch(session)
    world.wire.settle()
    assert world.server.demux.drops["memory"] == 1
    assert "memory" in session.ended.reason
    assert session.lanes.held == session.reassembly.held == kept(session) == 0
    assert not session.readable
    world.check()
    member.say(member.lanes[0], 10, 1300)  # afterwards
    world.wire.settle()
    assert kept(session) == 0


def test_who_cannot_be_understood_keeps_nothing():
    world, member, _ = laden()
    session = member.session
    lane = member.lanes[0]
    gap = lane.next - 101
    member.unit(DATA, member.segment(lane, gap, 0, fragment=200))
    world.wire.settle()
    assert "never makes a message" in session.ended.reason
    assert session.lanes.held == kept(session) == 0


def test_a_fault_in_here_leaves_nothing():
    world, member, _ = laden()
    world.server.demux.failed(member.session, ArithmeticError(), world.wire.now)
    assert member.session.lanes.held == kept(member.session) == 0


@pytest.mark.parametrize("end", ["closed by the peer", "fallen silent", "replaced"])
def test_after_an_orderly_end_what_had_arrived_can_be_read_and_nothing_else_is_kept(end):
    world, member, can_be_read = laden()
    session = member.session
    if end == "closed by the peer":
        member.unit(CONTROL, encode_control(Close(0, "done")))
    elif end == "fallen silent":
        world.wire.advance(200.0)
    else:
        world.wire.heal()
        member.login()
    world.wire.settle()
    assert session.ended is not None
    assert kept(session) == can_be_read
    assert session.lanes.held == unread(session.lanes) == can_be_read + 212 * MESSAGE_COST
    world.check()
    messages = [
        *session.bulk.take_messages(),
        *session.sparse.take_messages(),
        *session.datagrams.take_messages(),
    ]
    assert sum(map(len, messages)) == can_be_read
    del messages
    assert session.lanes.held == kept(session) == 0
