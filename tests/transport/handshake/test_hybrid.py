"""Which handshakes are hybrid: what two sides want, what a path takes, what an attacker does."""

import pytest

from transport.constants import (
    HANDSHAKE_SLICE_SIZE,
    HYBRID_INIT_SIZE,
    HYBRID_RESPONSE_SIZE,
    INIT_SIZE,
    REKEY_AFTER,
)
from transport.crypto.kem import PostQuantum
from transport.handshake.admission import Grant
from transport.handshake.cookie import CookieJar
from transport.handshake.initiator import Connected, GaveUp, Refused
from transport.testing.cores import Datagram, client_and_server
from transport.wire.control import CloseCode
from transport.wire.datagrams import (
    COOKIE,
    INIT,
    INIT_SLICE,
    RESPONSE,
    RESPONSE_SLICE,
    Result,
)

REQUIRE, AUTO, OFF = PostQuantum.REQUIRE, PostQuantum.AUTO, PostQuantum.OFF
INITS = (INIT, INIT_SLICE)


def hybrid(wire, host):
    return host.session.statistics(wire.now).hybrid


def by_client(wire, client, *kinds):
    return [d for d in wire.sent if d.source == client.address and d.data[0] in kinds]


def only(size):
    """Drop what is larger."""
    return lambda datagram: [datagram] if len(datagram.data) <= size else []


def test_two_that_take_it_have_it_after_one_round_trip():
    wire, client, server = client_and_server(delay=0.05, connected=False)
    client.connect(server)
    wire.advance(0.1)
    assert hybrid(wire, client)
    assert [len(d.data) for d in wire.sent[:2]] == [HYBRID_INIT_SIZE, HYBRID_RESPONSE_SIZE]
    assert HYBRID_INIT_SIZE + 28 == 1444
    wire.advance(0.1)
    assert hybrid(wire, server)
    client.send(b"hello")
    wire.advance(0.1)
    assert server.read() == [b"hello"]


@pytest.mark.parametrize("theirs", list(PostQuantum))
@pytest.mark.parametrize("ours", list(PostQuantum))
def test_the_stricter_side_decides(ours, theirs):
    wire, client, server = client_and_server(
        delay=0.01, connected=False, post_quantum=(ours, theirs)
    )
    client.connect(server)
    wire.advance(3.0)
    (event,) = client.events
    if {ours, theirs} == {REQUIRE, OFF}:
        assert isinstance(event, Refused)
        assert event.result is Result.HYBRID
        assert (client.demux.sessions, server.demux.sessions) == (0, 0)
        wire.advance(10.0)
        assert server.demux.half_open == 0
        return
    assert isinstance(event, Connected)
    assert hybrid(wire, client) == hybrid(wire, server) == (OFF not in (ours, theirs))


def test_rekeys_are_of_the_same_form():
    wire, client, server = client_and_server(delay=0.01)
    wire.sent.clear()
    wire.advance(2 * REKEY_AFTER + 30.0)
    assert client.session.statistics(wire.now).rekeys == 2
    assert {len(d.data) for d in by_client(wire, client, *INITS)} == {HYBRID_INIT_SIZE}
    assert hybrid(wire, client)
    assert hybrid(wire, server)


def test_an_older_peer_is_asked_in_its_form_from_then_on():
    """One that knows nothing of it drops hybrid inits, as one that is told to does."""
    wire, client, _ = client_and_server(delay=0.01, connected=False, post_quantum=(AUTO, OFF))
    client.connect(wire.hosts["198.51.100.1", 7450])
    wire.advance(1.0)
    assert [len(d.data) for d in by_client(wire, client, *INITS)] == [HYBRID_INIT_SIZE, INIT_SIZE]
    wire.sent.clear()
    wire.advance(REKEY_AFTER + 15.0)
    assert [len(d.data) for d in by_client(wire, client, *INITS)] == [INIT_SIZE]
    assert client.session.statistics(wire.now).rekeys == 1


# --- Paths that do not take a whole init --------------------------------------------------------


@pytest.mark.parametrize("largest", [548, 1232, HYBRID_INIT_SIZE - 1])
def test_an_interface_that_is_too_small_costs_one_round_trip(largest):
    wire, client, server = client_and_server(delay=0.05, connected=False, largest=largest)
    client.connect(server)
    wire.advance(0.21)
    assert hybrid(wire, client)
    sizes = [len(d.data) for d in by_client(wire, client, INIT_SLICE)]
    assert sizes == [548, 548, 548, 1416 - 2 * 500 + 48]  # one for a cookie, then all three
    answer = [d for d in wire.sent if d.data[0] == RESPONSE_SLICE]
    assert sum(len(d.data) for d in answer) < sum(sizes[1:])
    assert max(len(d.data) for d in answer) <= HANDSHAKE_SLICE_SIZE
    assert client.demux.drops == {}


@pytest.mark.parametrize("size", [548, 1243])
def test_a_path_that_swallows_what_is_large_is_found_out_in_a_second(size):
    wire, client, server = client_and_server(delay=0.05, connected=False)
    wire.filter = only(size)
    client.connect(server)
    wire.advance(1.0)
    assert hybrid(wire, client)
    assert hybrid(wire, server)
    wire.sent.clear()
    wire.advance(REKEY_AFTER + 15.0)  # which knows by now
    assert client.session.statistics(wire.now).rekeys == 1
    assert by_client(wire, client, INIT) == []


def test_a_large_answer_that_is_lost_is_asked_for_in_slices():
    wire, client, server = client_and_server(delay=0.05, connected=False)
    wire.filter = lambda d: [d] if d.data[0] != RESPONSE or len(d.data) < 1000 else []
    client.connect(server)
    wire.advance(1.5)
    assert hybrid(wire, client)
    client.send(b"x")
    wire.advance(1.0)
    assert server.read() == [b"x"]


def test_what_is_kept_of_a_path_is_the_form_that_was_answered():
    """A round trip is so long that the next init, a plain one, has left before the answer."""
    wire, client, _ = client_and_server(delay=0.35, connected=False)
    wire.filter = only(548)
    client.connect(wire.hosts["198.51.100.1", 7450])
    wire.advance(5.0)
    for rekeys in (1, 2):
        wire.sent.clear()
        wire.advance(REKEY_AFTER + 15.0)
        assert client.session.statistics(wire.now).rekeys == rekeys
        assert by_client(wire, client, *INITS)[0].data[0] == INIT_SLICE


@pytest.mark.parametrize("round_trip", [0.4, 1.4, 3.0])
def test_a_cookie_may_come_after_the_next_init(round_trip):
    """It answers slices, and the next init, a plain one, has left meanwhile."""
    wire, client, server = client_and_server(delay=round_trip / 2, connected=False)
    wire.filter = only(548)
    client.connect(server, patience=60.0)
    wire.advance(1.0 + 3 * round_trip)  # a no to a plain init, a cookie, an answer
    assert hybrid(wire, client)


def test_a_path_that_swallows_slices_gets_whole_inits_again():
    wire, client, _ = client_and_server(delay=0.01, connected=False)
    wire.filter = only(548)
    client.connect(wire.hosts["198.51.100.1", 7450])
    wire.advance(30.0)
    assert client.session.datagram_size < HYBRID_INIT_SIZE
    wire.filter = lambda d: [d] if d.data[0] != INIT_SLICE else []
    client.session.renew()
    client.demux.touch(client.session)
    wire.advance(1.0)
    assert client.session.statistics(wire.now).rekeys == 1
    assert hybrid(wire, client)


def test_slices_may_come_in_any_order_and_again():
    wire, client, server = client_and_server(connected=False, largest=548)
    held = []

    def shuffle(datagram):
        kind = datagram.data[0]
        asks = kind == INIT_SLICE and datagram.data.endswith(bytes(16))  # for a cookie
        if asks or kind not in (INIT_SLICE, RESPONSE_SLICE):
            return [datagram]
        held.append(datagram)
        if len(held) < 3:
            return []
        arriving = [*reversed(held), *held]
        held.clear()
        return arriving

    wire.filter = shuffle
    client.connect(server)
    wire.advance(0.4)
    assert hybrid(wire, client)
    assert server.demux.sessions == 1


def test_a_lost_slice_costs_a_retry_and_leaves_nothing():
    wire, client, server = client_and_server(connected=False, largest=548)
    lost = []

    def lose(datagram):
        if datagram.data[0] == INIT_SLICE and datagram.data[2] == 1 and not lost:
            lost.append(datagram)
            return []
        return [datagram]

    wire.filter = lose
    client.connect(server)
    wire.advance(2.0)
    assert lost
    assert hybrid(wire, client)
    table = server.demux._responder._admission._slices
    wire.advance(REKEY_AFTER + 15.0)  # the next init in slices takes out what is old
    assert len(table) == 0


def test_of_all_copies_of_slices_each_has_to_come_through_once():
    """A flood leaves room for few, and hardly ever for three in a row."""
    wire, client, server = client_and_server(delay=0.01, connected=False, largest=548)
    came = []

    def one_a_second(datagram):
        if datagram.data[0] != INIT_SLICE or datagram.data.endswith(bytes(16)):
            return [datagram]
        wanted = {piece: second for second, piece in enumerate((2, 0, 1))}[datagram.data[2]]
        if int(wire.now - began) != wanted:
            return []
        came.append(datagram)
        return [datagram]

    wire.filter = one_a_second
    began = wire.now
    client.connect(server)
    wire.advance(1.95)
    assert {datagram.data[2] for datagram in came} == {2, 0}
    assert client.demux.sessions == server.demux.half_open == 0
    wire.advance(1.5)
    assert hybrid(wire, client)


def test_slices_that_have_no_answer_for_long_are_new_ones():
    wire, client, server = client_and_server(delay=0.01, connected=False, largest=548)
    wire.filter = lambda d: [] if d.data[0] == RESPONSE_SLICE else [d]
    client.connect(server)
    wire.advance(10.0)
    messages = [d.data[8:16] for d in by_client(wire, client, INIT_SLICE)]
    assert 3 <= len(set(messages)) <= 4  # one for a cookie, and each for some seconds


def test_slices_without_a_cookie_are_not_kept():
    wire, client, server = client_and_server(connected=False, largest=548)
    wire.filter = lambda d: [] if d.data[0] == COOKIE else [d]
    client.connect(server)
    wire.advance(9.0)
    assert server.demux.drops["slice_unproven"] > 3
    assert len(server.demux._responder._admission._slices) == 0
    assert client.demux.sessions == 0


# --- Somebody on the path -----------------------------------------------------------------------


def test_who_holds_back_hybrid_inits_holds_back_the_session():
    """He can do that to any session. He does not get one without ML-KEM-768."""
    wire, client, server = client_and_server(delay=0.01, connected=False)
    wire.filter = lambda d: [d] if len(d.data) in (INIT_SIZE, 140, 64) else []
    client.connect(server)
    wire.advance(11.0)
    assert [type(each) for each in client.events] == [GaveUp]
    assert client.demux.sessions == server.demux.sessions == 0
    plain = [d for d in by_client(wire, client, INIT) if len(d.data) == INIT_SIZE]
    assert plain  # were sent, and answered with no


@pytest.mark.parametrize("largest", [1432, 548])
def test_made_up_cookies_keep_no_older_switch_away_and_make_no_storm(largest):
    """By who reads the path and knows the switch's public key, and cannot hold anything back."""
    wire, client, server = client_and_server(
        delay=0.01, connected=False, post_quantum=(AUTO, OFF), largest=largest
    )
    jar = CookieJar(server.identity.public.raw, wire.random.randbytes)

    def forge(datagram):
        if datagram.source == client.address and datagram.data[0] in INITS:
            mac1, index = datagram.data[-32:-16], int.from_bytes(datagram.data[4:8], "little")
            cookie = jar.reply(mac1, index, b"anybody", wire.now)
            return [datagram, Datagram(cookie, server.address, client.address)]
        return [datagram]

    wire.filter = forge
    client.connect(server)
    wire.advance(9.0)
    assert [type(each) for each in client.events] == [Connected]
    asked = {d.data for d in by_client(wire, client, *INITS)}
    assert len(asked) < 40


def test_an_older_switch_in_the_place_of_a_newer_one_is_found_with_the_second_init():
    wire, client, server = client_and_server(delay=0.01)
    wire.host(
        *server.address,
        identity=server.identity,
        authority=server.demux._responder._admission._authority,
        post_quantum=OFF,
    )
    client.send(b"x")
    wire.sent.clear()
    wire.advance(0.8)
    assert [len(d.data) for d in by_client(wire, client, *INITS)] == [HYBRID_INIT_SIZE, INIT_SIZE]
    assert client.session.ended.code == CloseCode.TIMEOUT
    assert client.session.ended.by_peer


def test_a_switch_that_was_restarted_is_found_on_a_small_path_too():
    """It says no twice within a second: not in this form, and that the session is lost."""
    wire, client, server = client_and_server(delay=0.02, connected=False)
    wire.filter = only(1000)
    client.connect(server)
    wire.advance(3.0)
    authority = server.demux._responder._admission._authority
    wire.host(*server.address, identity=server.identity, authority=authority)
    deaf_until = []  # for slices, once the new switch has given a cookie

    def deaf(datagram):
        if datagram.data[0] == COOKIE and not deaf_until:
            deaf_until.append(wire.now + 1.0)
        held_back = datagram.data[0] == INIT_SLICE and deaf_until and wire.now < deaf_until[0]
        return [] if held_back else only(1000)(datagram)

    wire.filter = deaf
    client.session.renew()
    client.demux.touch(client.session)
    wire.advance(8.0)
    assert deaf_until
    assert client.session.ended is not None
    assert client.session.ended.reason == "the peer has lost the session"


def test_a_newer_switch_in_the_place_of_an_older_one_gets_hybrid_inits():
    wire, client, server = client_and_server(delay=0.01, connected=False, post_quantum=(AUTO, OFF))
    client.connect(server)
    wire.advance(1.0)
    assert not hybrid(wire, client)
    wire.host(
        *server.address,
        identity=server.identity,
        authority=server.demux._responder._admission._authority,
    )
    client.send(b"x")
    wire.sent.clear()
    wire.advance(0.5)
    sizes = [len(d.data) for d in by_client(wire, client, *INITS)]
    assert sizes[0] == INIT_SIZE
    assert set(sizes[1:]) == {HYBRID_INIT_SIZE}
    assert client.session.ended is not None  # it does not know the session, and said so in hybrid


def test_a_switch_that_is_never_content_is_not_asked_faster():
    wire, client, server = client_and_server(delay=0.01, connected=False)
    server.demux._responder._admission._authority.keys[client.identity.public] = Grant(
        result=Result.HYBRID
    )
    client.connect(server)
    wire.advance(3.0)
    assert client.demux.drops["unexpected"] > 0
    assert len(by_client(wire, client, *INITS)) < 60  # with all copies, and slices
    assert client.demux.sessions == 0


def test_a_bit_that_changes_anywhere_on_the_way_makes_no_session():
    wire, client, server = client_and_server(connected=False, delay=0.01)
    client.connect(server)
    (init,) = wire.collect()
    wire.cut()
    place = wire.random
    for _ in range(200):
        data = bytearray(init.data)
        bit = place.randrange(8 * (len(data) - 16))  # mac2 is zeros
        data[bit // 8] ^= 1 << bit % 8
        server.inject(bytes(data), client.address)
    wire.settle()
    assert server.demux.half_open == 0
    assert set(server.demux.drops) <= {"bad_mac1", "malformed", "bad_version", "unknown_index"} | {
        "unknown_type"
    }
