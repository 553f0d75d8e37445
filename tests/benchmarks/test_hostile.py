"""The hostile member against a real core on the loopback: each attack is what it says it is."""

import json
import os
import socket
import struct
import time
from contextlib import closing

import pytest

from benchmarks.hostile.__main__ import checks, told
from benchmarks.hostile.member import ATTACKS, Member
from transport import PrivateKey
from transport.endpoint.demux import Demux
from transport.handshake.admission import Grant
from transport.testing.cores import KnownPeers
from transport.wire.datagrams import Suite
from transport.wire.trains import cut
from vswitch.frames.records import CONTROL, FRAME, SUPERFRAME


class Switch:
    """A core that lets one member in, and answers what it says first."""

    def __init__(self, member):
        self.identity = PrivateKey.generate()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.demux = Demux(
            self.identity,
            authority=KnownPeers({member.public: Grant()}),
            now=time.monotonic(),
            random_bytes=os.urandom,
            timestamp_ns=time.time_ns,
            suite=Suite.CHACHAPOLY,
        )
        self.sessions = []
        self.messages = []

    def turn(self):
        now, batch = time.monotonic(), []
        try:
            while True:
                batch.append(self.sock.recvfrom(65_535))
        except BlockingIOError:
            pass
        self.demux.receive_datagrams(batch, now)
        while (event := self.demux.next_event()) is not None:
            self.sessions.append(event.session)
        for session in self.sessions[-1:]:
            messages = session.bulk.take_messages()
            if messages and not self.messages:
                session.bulk.send([b"welcome"], now)
            self.messages += messages
            self.demux.touch(session)
        for train in self.demux.datagrams_to_send(now):
            for datagram in cut(train):
                self.sock.sendto(datagram, train[1])
        self.demux.settle(now)


@pytest.fixture
def pair():
    identity = PrivateKey.generate()
    switch = Switch(identity)
    member = Member(identity, switch.identity.public, switch.sock.getsockname())
    with closing(switch.sock), closing(member):
        while not member.heard:  # until both have said something
            member.turn()
            switch.turn()
        yield member, switch


def attack(name, member, switch, turns=20):
    sent = 0
    for _ in range(turns):
        if member.session is not None:
            sent += ATTACKS[name](member, 100_000)
        member.turn()
        switch.turn()
    assert sent > 0
    return switch.sessions[-1]


def records(switch):
    """Bodies by their flags, behind the hello; the last is cut off."""
    stream, found, at = b"".join(switch.messages), [], 0
    while len(stream) >= at + 4:
        flags, size = struct.unpack_from(">HH", stream, at)
        found.append((flags, stream[at + 4 : at + 4 + size]))
        at += 4 + size
    assert json.loads(found[0][1])["kind"] == "hello"
    assert len(found) > 2
    return found[1:]


def test_control_messages_are_those_of_a_switch(pair):
    attack("control", *pair)
    flags, said = records(pair[1])[0]
    assert flags == CONTROL
    assert json.loads(said)["kind"] == "welcome"
    assert len(json.loads(said)["names"]) == 256


def test_tiny_records_have_no_frame_in_them(pair):
    attack("tiny", *pair)
    assert set(records(pair[1])) == {(FRAME, b"")}


def test_superframes_say_that_they_are_one_frame(pair):
    attack("superframes", *pair, turns=60)
    flags, lie = records(pair[1])[0]
    assert flags == SUPERFRAME
    assert len(lie) > 60_000
    assert lie[:10] == bytes(10)


def test_duplicates_open_and_are_of_the_conversation(pair):
    member, switch = pair
    session = attack("duplicates", member, switch)
    assert session.statistics(time.monotonic()).received_bytes > 500_000
    assert not session.drops.keys() & {"bad_seal", "not_kcp", "malformed"}


def test_pings_are_more_than_a_session_may_send(pair):
    member, switch = pair
    for _ in range(200):
        ATTACKS["pings"](member, 1)
    switch.turn()  # all in one moment
    assert switch.sessions[-1].drops["control_limited"] > 100


def test_it_connects_again_and_again(pair):
    member, switch = pair
    while member.sessions < 3:
        attack("reconnects", member, switch)
    assert len(set(switch.sessions)) >= 2


def look(**changes):
    return {"mbit": 20.0, "p99": 5.0, "resident": 50.0, "switch": 10.0} | changes


def row(beside, ended=()):
    return {
        "attack": "tiny",
        "mbit": 5.0,
        "kept": beside["mbit"] / 20.0,
        "alone": look(),
        "beside": beside,
        "hostile": {"mbit": 5.0},
        "ended": [*ended],
    }


def test_what_is_asked():
    assert all(check.met for check in checks(row(look(), ["evil 3 x: protocol"])))
    assert "nobody" in told(row(look()))
    bad = row(look(mbit=17.0, p99=36.0, resident=400.0), ["pc1 (session)"])
    assert not any(check.met for check in checks(bad))
    assert "pc1 (session)" in told(bad)
