"""The two ends of a handshake: same keys at both, nothing for anybody else."""

from hashlib import blake2s

import attrs
import pytest

from transport.constants import INIT_SIZE, MACS_SIZE, RESPONSE_SIZE
from transport.crypto.cipher import conversation_number
from transport.crypto.identity import PrivateKey
from transport.crypto.noise import NO_PSK
from transport.errors import BadPacket
from transport.handshake.messages import Initiation, InitReader, Peer
from transport.wire.datagrams import (
    DATA,
    Credential,
    CredentialKind,
    InitPayload,
    ResponsePayload,
    Suite,
    decode_init_untrusted,
    decode_response_untrusted,
)

CLIENT = PrivateKey.from_raw(b"\x11" * 32)
SERVER = PrivateKey.from_raw(b"\x22" * 32)
PSK = b"\x33" * 32
TOKEN = Credential(CredentialKind.TOKEN, b"tokentok")
PAYLOAD = InitPayload(timestamp_ns=1, receive_window=128)
ANSWER = ResponsePayload(association=0x55, index_copy=0xB0, receive_window=128)
CLIENT_INDEX, SERVER_INDEX = 0xA0, 0xB0

both_suites = pytest.mark.parametrize("suite", list(Suite))


def start(suite=Suite.CHACHAPOLY, psk=PSK):
    initiation = Initiation(CLIENT, Peer(SERVER.public, TOKEN, psk), suite, CLIENT_INDEX)
    return initiation, initiation.init(PAYLOAD)


def read(init, psk=PSK, identity=SERVER):
    reader = InitReader(identity, decode_init_untrusted(init + bytes(MACS_SIZE)))
    peer = reader.read_peer_untrusted()
    return reader, peer, reader.read_payload_untrusted(psk)


def answer(reader, payload=ANSWER):
    response, pair = reader.respond(payload, 7.0)
    return decode_response_untrusted(response + bytes(MACS_SIZE)), pair


def reason(function, *arguments, **named):
    with pytest.raises(BadPacket) as caught:
        function(*arguments, **named)
    return caught.value.reason


@both_suites
def test_initiator_and_responder_derive_matching_keys(suite):
    initiation, init = start(suite)
    assert len(init) == INIT_SIZE - MACS_SIZE
    reader, peer, payload = read(init)
    assert peer == CLIENT.public
    assert payload == PAYLOAD
    response, ours = reader.respond(ANSWER, 7.0)
    assert len(response) == RESPONSE_SIZE - MACS_SIZE
    header = decode_response_untrusted(response + bytes(MACS_SIZE))
    assert (header.sender_index, header.receiver_index) == (SERVER_INDEX, CLIENT_INDEX)
    read_answer, theirs = initiation.read_response_untrusted(header, 9.0)
    assert read_answer == ANSWER
    assert (ours.local_index, theirs.local_index) == (SERVER_INDEX, CLIENT_INDEX)
    assert (ours.born, theirs.born) == (7.0, 9.0)
    assert ours.suite is theirs.suite is suite
    assert ours.handshake_hash == theirs.handshake_hash
    to_server, to_client = theirs.sealer.seal(DATA, b"up"), ours.sealer.seal(DATA, b"down")
    assert int.from_bytes(to_server[4:8], "little") == SERVER_INDEX
    assert int.from_bytes(to_client[4:8], "little") == CLIENT_INDEX
    assert ours.opener.open_untrusted(to_server) == b"up"
    assert theirs.opener.open_untrusted(to_client) == b"down"
    assert reason(theirs.opener.open_untrusted, theirs.sealer.seal(DATA, b"up")) == "bad_seal"


def test_two_handshakes_share_nothing():
    pairs = []
    for _ in range(2):
        initiation, init = start()
        reader, *_ = read(init)
        header, pair = answer(reader)
        initiation.read_response_untrusted(header, 0.0)
        pairs.append(pair)
    assert pairs[0].handshake_hash != pairs[1].handshake_hash
    datagram = pairs[0].sealer.seal(DATA, b"x")
    assert datagram[16:] != pairs[1].sealer.seal(DATA, b"x")[16:]


def test_a_wrong_pre_shared_key_does_not_open():
    _, init = start(psk=NO_PSK)
    assert reason(read, init) == "bad_handshake"
    assert read(init, psk=NO_PSK)[1] == CLIENT.public


def test_an_init_for_another_server_does_not_open():
    _, init = start()
    assert reason(read, init, identity=PrivateKey.generate()) == "bad_handshake"


@pytest.mark.parametrize("at", [2, 3, 4, 8, 15], ids=["kind", "suite", "index", "id", "id-end"])
def test_the_clear_bytes_of_an_init_are_authenticated(at):
    _, init = start()
    changed = bytearray(init)
    changed[at] ^= 3 if at == 3 else 1
    assert reason(read, bytes(changed)) in ("bad_handshake", "malformed")


def test_a_response_must_repeat_its_index():
    initiation, init = start()
    header, _ = answer(read(init)[0])
    forged = attrs.evolve(header, sender_index=header.sender_index ^ 1)
    assert reason(initiation.read_response_untrusted, forged, 0.0) == "bad_handshake"


def test_a_forged_response_does_not_end_a_handshake():
    initiation, init = start()
    header, _ = answer(read(init)[0])
    for bit in range(8 * len(header.noise)):
        noise = bytearray(header.noise)
        noise[bit // 8] ^= 1 << bit % 8
        forged = attrs.evolve(header, noise=bytes(noise))
        assert reason(initiation.read_response_untrusted, forged, 0.0) == "bad_handshake"
    assert initiation.read_response_untrusted(header, 0.0)[0] == ANSWER


def test_a_response_to_another_init():
    initiation, _ = start()
    _, other = start()
    header, _ = answer(read(other)[0])
    assert reason(initiation.read_response_untrusted, header, 0.0) == "bad_handshake"


def test_conversation_number():
    digest = blake2s(bytes(32) + b"conv").digest()
    assert conversation_number(bytes(32)) == int.from_bytes(digest[:4], "little")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_pre_shared_key_is_32_bytes(size):
    with pytest.raises(ValueError, match="psk"):
        Peer(SERVER.public, TOKEN, bytes(size))


def test_a_pre_shared_key_is_never_shown():
    assert repr(PSK) not in repr(Peer(SERVER.public, TOKEN, PSK))
