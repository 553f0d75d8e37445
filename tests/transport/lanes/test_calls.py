"""What a lone message costs, in something that can be counted: calls of Python functions.

Code is cold when a lone message comes, and each function that is called costs its misses.
"""

import sys
from pathlib import Path

import transport
from transport.testing.cores import client_and_server

ROOMS = [str(Path(transport.__file__).parent / room) for room in ("lanes", "congestion")]
MOST = 85  # of lanes and congestion, there and back, for the transports of both sides


def one_way(wire, sender, receiver, message):
    assert sender.session.bulk.credit > 0
    sender.send(message)
    for train, _, size in sender.demux.datagrams_to_send(wire.now):
        arriving = [(bytes(train), sender.address, size)]
        receiver.demux.receive_trains(arriving, wire.now)
    assert receiver.session.bulk.take_messages() == [message]
    wire.now += 0.0005


def calls_of(work):
    """Calls in these rooms while `work()` runs."""
    calls = 0

    def note(frame, event, _argument):
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(tuple(ROOMS))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def test_a_lone_message_there_and_back():
    wire, client, server = client_and_server()

    def there_and_back():
        one_way(wire, client, server, b"question")
        one_way(wire, server, client, b"answer")

    for _ in range(100):
        there_and_back()
    calls = sorted(calls_of(there_and_back) for _ in range(101))
    assert 20 < calls[50] <= MOST  # a few end a round of the congestion control
