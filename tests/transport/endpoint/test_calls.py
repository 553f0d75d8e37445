"""How many Python functions a lone message runs through: what its processes spend is in them.

Counted are the calls of functions of this package, as `sys.setprofile` sees them, on one thread,
between two cores without a socket: a message of 100 bytes there, one back, and the turn in which
the answer is received. Warm: two hundred such rounds have gone before, some milliseconds apart,
so that nothing is being searched or learned. The middle of many rounds counts, since every now and
then one does what is due ten times a second. Nothing here depends on the machine, but on what the
compiler makes a function: until 3.12 a list comprehension is one (PEP 709).
"""

import statistics
import sys
from collections import Counter
from pathlib import Path

import transport
from transport.testing.cores import client_and_server

MESSAGE = bytes(100)
PACKAGE = Path(transport.__file__).parent
LANES = {"lanes", "congestion"}  # where what is lost and how much may leave is decided
WARM, COUNTED = 200, 41  # rounds

EXACT = sys.implementation.name == "cpython" and sys.version_info[:2] == (3, 11)


class Ends:
    """Both ends of a session, and the wire between them."""

    def __init__(self):
        self.wire, *hosts = client_and_server()
        self.wire.advance(2.0)  # the path's size is found
        self.demuxes = [host.demux for host in hosts]
        self.sessions = [host.session for host in hosts]
        self.addresses = [host.address for host in hosts]

    def send(self, end):
        self.sessions[end].bulk.send((MESSAGE,), self.wire.now)
        self.demuxes[end].touch(self.sessions[end])

    def leave(self, end):
        """What the endpoint does at the end of each turn; what leaves."""
        demux = self.demuxes[end]
        trains = demux.datagrams_to_send(self.wire.now)
        demux.settle(self.wire.now)
        demux.deadline()
        return trains

    def arrive(self, end, trains):
        """What the endpoint does with what it received; the messages."""
        self.wire.now += 0.0005
        demux, source = self.demuxes[end], self.addresses[1 - end]
        arriving = [(bytes(data), source, size) for data, _, size in trains]
        for run in demux.sort_trains(arriving, self.wire.now):
            demux.receive_run(*run, self.wire.now)
        return self.sessions[end].bulk.take_messages()

    def round(self):
        """A message there and back."""
        self.wire.now += 0.001
        for end in (0, 1):
            self.send(end)
            trains = self.leave(end)
            assert len(trains) == 1
            assert self.arrive(1 - end, trains) == [MESSAGE]
        assert self.leave(0) == []  # the acknowledgement may wait


def calls_of(what):
    """Calls of each room while `what()` runs."""
    rooms = Counter()

    def see(frame, event, _):
        if event == "call":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE) and path.parent.name != "testing":
                rooms[path.parent.name] += 1

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        what()
    finally:
        sys.setprofile(before)
    return rooms


def test_a_lone_message_there_and_back_runs_through_few_functions():
    ends = Ends()
    for _ in range(WARM):
        ends.round()
    rounds = [calls_of(ends.round) for _ in range(COUNTED)]
    lanes = statistics.median(sum(rooms[name] for name in LANES) for rooms in rounds)
    others = statistics.median(
        sum(calls for name, calls in rooms.items() if name not in LANES) for rooms in rounds
    )
    assert min(rooms["crypto"] for rooms in rounds) > 0  # it is seen at all
    # Others compile comprehensions differently, and name what C does in other ways.
    slack = 0 if EXACT else 20
    assert others <= 62 + slack
    assert lanes <= 65 + slack


def test_the_answer_to_a_lone_message_does_not_wait_for_what_acknowledgements_say():
    ends = Ends()
    for _ in range(WARM):
        ends.round()
    first = ends.sessions[0].bulk
    ends.send(0)
    assert ends.arrive(1, ends.leave(0)) == [MESSAGE]
    ends.send(1)
    ends.wire.now += 0.002  # longer than the round trips before
    before = first.congestion.rtt
    assert ends.arrive(0, ends.leave(1)) == [MESSAGE]
    assert first.unlearned is not None
    assert first.congestion.rtt == before
    ends.leave(0)
    assert first.unlearned is None
    assert first.congestion.rtt > before


def test_an_acknowledgement_alone_makes_nobody_look_for_what_may_leave():
    ends = Ends()
    for _ in range(WARM):
        ends.round()
    ends.send(0)
    ends.arrive(1, ends.leave(0))
    assert ends.leave(1) == []  # the acknowledgement waits for an answer
    ends.wire.now = ends.sessions[1].deadline()
    ends.demuxes[1].handle_timeout(ends.wire.now)
    acknowledgement = ends.leave(1)
    assert len(acknowledgement) == 1
    assert ends.arrive(0, acknowledgement) == []
    first = ends.sessions[0].bulk
    assert not first.flush_due
    assert not first.has_work
    assert ends.leave(0) == []
