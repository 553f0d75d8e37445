"""Stateless reset: a responder that lost its memory, who believes it, what a flood gets of it."""

import pytest

from transport.constants import RESET_SIZE, SEALED_OVERHEAD, TOMBSTONE
from transport.crypto.identity import PrivateKey
from transport.errors import BadPacket
from transport.handshake.admission import Grant
from transport.handshake.initiator import RESET_INTERVAL
from transport.handshake.reset import RESETS_TOTAL, Resets
from transport.testing.cores import KnownPeers, client_and_server
from transport.wire.control import CloseCode
from transport.wire.datagrams import DATA, HEADER, INIT, RESET, decode_reset_untrusted, encode_reset

KEY = PrivateKey.from_raw(b"\x22" * 32)
OTHER_KEY = PrivateKey.from_raw(b"\x23" * 32)
STRANGER = ("203.0.113.9", 999)


def resets(key=KEY, **options):
    return Resets(key, 0.0, bytes, **options)


def sent(wire, host, kind):
    return [each for each in wire.sent if each.source == host.address and each.data[0] == kind]


def restarted(wire, client, server, **options):
    """The same server without its memory, at the same address."""
    authority = KnownPeers({client.identity.public: Grant()})
    return wire.host(*server.address, identity=server.identity, authority=authority, **options)


# --- Tokens and indices -----------------------------------------------------------------------


def test_a_token_survives_a_restart_and_is_of_one_index_and_one_server():
    assert resets().token(77) == resets().token(77)
    assert len({resets().token(77), resets().token(78), resets(OTHER_KEY).token(77)}) == 3


def test_the_layout():
    datagram = encode_reset(b"1234567", b"t" * 16)
    assert datagram == b"\x061234567" + b"t" * 16
    assert len(datagram) == RESET_SIZE < SEALED_OVERHEAD
    assert decode_reset_untrusted(datagram) == b"t" * 16


@pytest.mark.parametrize("size", [0, 1, 23, 25, 1000])
def test_other_sizes_are_malformed(size):
    with pytest.raises(BadPacket, match="malformed"):
        decode_reset_untrusted(b"\x06" * size)


def test_zeros_are_no_token():
    """They are what a responder without resets says."""
    with pytest.raises(BadPacket, match="malformed"):
        decode_reset_untrusted(encode_reset(b"1234567", bytes(16)))


def test_indices_are_known_again_and_others_are_not():
    ours = {resets().index(chance) for chance in range(2000)}
    assert len(ours) == 2000
    assert all(resets().index(index) == index for index in ours)
    assert not all(resets(OTHER_KEY).index(index) == index for index in ours)


def test_an_index_that_a_stranger_makes_up_is_met_with_silence():
    subject = resets()
    answered = sum(
        subject.answer(number * 2_654_435_761 % 2**32, ("10.0.0.1", number), number) is not None
        for number in range(1, 40_000)
    )
    assert answered < 40  # one in 4,096


def test_with_two_identities_indices_of_both_are_answered_now_and_after_a_restart():
    index = resets().index(77)
    both = resets(OTHER_KEY)
    both.set_identities([OTHER_KEY, KEY])
    assert both.answer(index, STRANGER, 0.0)[8:] == resets().token(index)
    new = both.index(123_456)
    assert (new, both.token(new)) == (resets(OTHER_KEY).index(new), resets(OTHER_KEY).token(new))
    assert both.answer(new, ("203.0.113.10", 1), 0.0)[8:] == both.token(new)
    both.set_identities([OTHER_KEY])
    assert both.answer(index, ("203.0.113.11", 1), 0.0) is None


def test_an_index_of_ours_is_answered_with_its_token():
    index = resets().index(123_456)
    assert resets().answer(index, STRANGER, 0.0)[8:] == resets().token(index)


def test_once_a_second_to_an_address():
    subject = resets()
    index = subject.index(5)
    times = [n / 100 for n in range(301) if subject.answer(index, STRANGER, n / 100)]
    assert times == [0.0, 1.0, 2.0, 3.0]
    # Behind one NAT live many members.
    assert subject.answer(index, (STRANGER[0], 1000), 3.0)


def test_fifty_a_second_in_all():
    """R21: a flood, even of indices that are ours, and from everywhere."""
    subject = resets()
    answers = sum(
        subject.answer(subject.index(n), (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1), n / 50_000)
        is not None
        for n in range(100_000)
    )
    assert answers <= RESETS_TOTAL * 3  # what has gathered, and two seconds


def test_an_address_that_has_had_its_own_takes_none_from_the_others():
    subject = resets()
    index = subject.index(5)
    for _ in range(1000):
        subject.answer(index, STRANGER, 0.0)
    assert subject.answer(index, ("10.0.0.1", 1), 0.0)


# --- Both ends --------------------------------------------------------------------------------


def test_a_server_that_was_killed_has_its_client_back_in_a_round_trip():
    wire, client, server = client_and_server(delay=0.02)
    again = restarted(wire, client, server)
    client.send(b"to a server that knows nothing")
    wire.advance(0.1)
    (reset,) = sent(wire, again, RESET)
    assert len(reset.data) == RESET_SIZE
    assert client.session.ended.code == CloseCode.TIMEOUT
    assert client.session.ended.by_peer
    assert again.demux.half_open == 0  # nothing waits for who begins anew
    client.connect(again)
    wire.advance(0.1)
    client.send(b"again")
    wire.advance(0.1)
    assert again.read() == [b"again"]
    assert not server.events[1:]


def test_a_silent_server_does_not_answer_and_is_found_all_the_same():
    wire, client, server = client_and_server(delay=0.02)
    again = restarted(wire, client, server, silent=True)
    client.send(b"x")
    wire.advance(4.0)
    assert sent(wire, again, RESET) == []
    assert client.session.ended is None
    wire.advance(2.0)  # a new handshake after five seconds
    assert client.session.ended.by_peer


def test_a_session_that_is_known_goes_on_after_a_reset():
    """Whatever a token is worth to who has it, it ends nothing."""
    wire, client, server = client_and_server()
    old = client.session.keys.current
    client.inject(encode_reset(bytes(7), old.reset_token), STRANGER)
    wire.settle()
    assert client.session.keys.current is not old
    assert (client.session.ended, server.session.ended) == (None, None)
    client.send(b"goes on")
    wire.settle()
    assert server.read() == [b"goes on"]
    assert (client.demux.sessions, server.demux.sessions) == (1, 1)


def test_a_reset_is_believed_once_in_ten_seconds():
    wire, client, server = client_and_server()
    for step in range(201):
        token = client.session.keys.current.reset_token
        client.inject(encode_reset(bytes(7), token), STRANGER)
        wire.settle()
        if step < 200:
            wire.advance(0.1)
    believed = client.session.statistics(wire.now).rekeys
    assert believed == 200 * 0.1 // RESET_INTERVAL + 1
    assert client.demux.drops == {"reset_limited": 201 - believed}
    assert server.session.ended is None


def test_a_token_of_a_former_key_of_another_server_or_of_nobody():
    wire, client, server = client_and_server()
    old = client.session.keys.current
    client.session.keys.rekey_at = wire.now
    client.demux.touch(client.session)
    wire.settle()
    tokens = [old.reset_token, resets().token(old.sealer.counter), b"\x01" * 16]
    wire.sent.clear()
    for token in tokens:
        client.inject(encode_reset(bytes(7), token), server.address)
    assert client.demux.drops == {"unexpected": len(tokens)}
    wire.settle()
    assert sent(wire, client, INIT) == []


def test_every_bit_of_a_token_counts():
    wire, client, _ = client_and_server()
    honest = encode_reset(bytes(7), client.session.keys.current.reset_token)
    for bit in range(64, 192):
        flipped = bytearray(honest)
        flipped[bit // 8] ^= 1 << bit % 8
        client.inject(bytes(flipped), STRANGER)
    assert client.demux.drops == {"unexpected": 128}
    wire.sent.clear()
    client.inject(honest, STRANGER)
    wire.settle()
    assert sent(wire, client, INIT)


def test_a_reset_hurries_a_handshake_that_waits():
    """The server was away for long, and its client is between two inits."""
    wire, client, server = client_and_server(delay=0.01)
    wire.cut()
    client.send(b"x")
    wire.advance(20.0)
    again = restarted(wire, client, server)
    wire.heal()
    client.inject(encode_reset(bytes(7), client.session.keys.current.reset_token), STRANGER)
    wire.sent.clear()
    wire.advance(0.05)
    assert len(sent(wire, client, INIT)) == 1
    assert client.session.ended.by_peer
    assert again.demux.half_open == 0


def test_nobody_resets_a_reset():
    """Two servers, and somebody who sends each the other's: nothing goes round."""
    wire, _, server = client_and_server()
    index = server.demux._responder.resets.index(9)
    server.inject(HEADER.pack(DATA, 0, 1, 0, index, 0) + bytes(16), STRANGER)
    (reset,) = wire.collect()
    assert reset.data[0] == RESET
    for _ in range(3):
        wire.advance(1.0)
        server.inject(reset.data, STRANGER)
        assert wire.collect() == []


def test_an_endpoint_that_only_connects_resets_nobody():
    wire, client, server = client_and_server()
    wire.cut()
    client.close()
    wire.advance(TOMBSTONE + 1)
    wire.heal()
    wire.sent.clear()
    server.send(b"late")
    wire.settle()
    assert sent(wire, client, RESET) == []
    assert client.demux.drops["unknown_index"]


def test_a_lost_session_begins_anew_without_waiting_for_the_half_open_one():
    """The handshake that named the association leaves nothing behind: one cookie less."""
    wire, client, server = client_and_server(delay=0.02)
    again = restarted(wire, client, server)
    client.send(b"x")
    wire.advance(0.1)
    wire.sent.clear()
    client.connect(again)
    wire.advance(0.1)
    assert len(sent(wire, client, INIT)) == 1
    assert again.demux.sessions == 1
