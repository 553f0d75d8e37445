"""R27: a thousand members come at once, from many addresses or one, to a switch that has none."""

from math import inf

import pytest

from transport.constants import REKEY_AFTER
from transport.handshake.admission import Grant
from transport.handshake.initiator import GaveUp
from transport.testing.cores import KnownPeers, Wire
from vswitch.joining.backoff import FIRST, SPREAD

MEMBERS = 1000
SITE = "192.0.2.1"


def crowd(wire, members, *, one_address):
    known = KnownPeers()
    server = wire.host("198.51.100.1", authority=known, max_sessions=2 * members)
    hosts = [
        wire.host(SITE, 10_000 + n) if one_address else wire.host(f"10.0.{n >> 8}.{n & 255}")
        for n in range(members)
    ]
    for host in hosts:
        known.keys[host.identity.public] = Grant()
    return server, hosts


def come_back(wire, server, hosts, limit):
    """Until all have a session; a member whose attempt has failed begins another."""
    begun, waiting = wire.now, list(hosts)
    for host in hosts:
        host.connect(server, patience=5.0)
    while waiting and wire.now < begun + limit:
        wire.advance(0.05)
        for host in waiting:
            if host.events and isinstance(host.events[-1], GaveUp):
                host.events.clear()
                host.connect(server, patience=5.0)
        waiting = [host for host in waiting if not host.events]
    return wire.now - begun, len(waiting)


@pytest.mark.parametrize(
    ("members", "one_address", "most"),
    [
        (MEMBERS, False, 0.3),
        (100, True, 3.0),
        pytest.param(400, True, 10.0, marks=pytest.mark.long),
    ],
)
def test_a_thousand_members_connect_at_once(members, one_address, most):
    """All have to prove their address: two round trips. A site waits for its cookies as well."""
    wire = Wire(delay=0.05)
    server, hosts = crowd(wire, members, one_address=one_address)
    spent, left = come_back(wire, server, hosts, 10.0)
    assert left == 0
    assert spent <= most
    wire.advance(6.0)
    assert server.demux.sessions == members
    assert server.demux.half_open == 0


def test_fifty_members_behind_one_address_wait_for_no_bucket():
    wire = Wire(delay=0.02)
    server, hosts = crowd(wire, 50, one_address=True)
    spent, left = come_back(wire, server, hosts, 5.0)
    assert left == 0
    assert spent <= 0.2  # two round trips: with a cookie


def test_a_thousand_members_renew_their_keys_at_once():
    wire = Wire(delay=0.05)
    server, hosts = crowd(wire, MEMBERS, one_address=False)
    come_back(wire, server, hosts, 10.0)
    wire.advance(1.0)
    sessions = [host.session for host in hosts]
    begun = wire.now
    for host in hosts:
        host.session.renew()
        host.demux.touch(host.session)
    while any(session.statistics(wire.now).rekeys == 0 for session in sessions):
        wire.advance(0.05)
        assert wire.now - begun <= 10.0
    wire.advance(5.0)
    assert server.demux.sessions == MEMBERS
    assert all(session.ended is None for session in sessions)
    assert wire.now - begun < REKEY_AFTER


@pytest.mark.parametrize(
    ("members", "one_address", "most"),
    [  # R1, R27; more take this test long
        (50, True, 3.0),
        (50, False, 3.0),
        pytest.param(400, False, 10.0, marks=pytest.mark.long),
    ],
)
def test_all_members_of_a_killed_switch(members, one_address, most):
    """Each has something to say within a second, and comes back a moment after it knows. Fifty
    resets a second are for the first of them; the others find out by themselves after five.
    """
    wire = Wire(delay=0.05)
    server, hosts = crowd(wire, members, one_address=one_address)
    come_back(wire, server, hosts, 10.0)
    wire.advance(1.0)
    authority = server.demux._responder._admission._authority
    again = wire.host(
        *server.address, identity=server.identity, authority=authority, max_sessions=members
    )
    begun, back = wire.now, {}
    while again.demux.sessions < members and wire.now < begun + 15:
        step = round((wire.now - begun) / 0.05)
        for number, host in enumerate(hosts):
            if host.session.ended is None:
                if (step + number) % 20 == 0 and host not in back:
                    host.send(b"x")
            elif host not in back:
                back[host] = wire.now + FIRST * (1 + SPREAD)
            elif back[host] <= wire.now:
                host.connect(again, patience=5.0)
                back[host] = inf
        wire.advance(0.05)
    assert again.demux.sessions == members
    assert wire.now - begun <= most
