"""Datagram layouts: where each field lies, and that nothing else is accepted."""

import struct

import attrs
import pytest

from transport import constants
from transport.errors import BadPacket
from transport.path import mtu as pathmtu
from transport.wire import datagrams as wire
from transport.wire.datagrams import (
    Credential,
    CredentialKind,
    InitPayload,
    ResponsePayload,
    Result,
    Suite,
)

TOKEN = Credential(CredentialKind.TOKEN, b"tokentok")
NOISE_INIT = bytes(range(184))
NOISE_RESPONSE = bytes(range(96))


def init(credential=TOKEN, suite=Suite.AESGCM, index=0x01020304):
    return wire.encode_init_clear(credential, suite, index) + NOISE_INIT + b"1" * 16 + b"2" * 16


def response():
    return wire.encode_response(0x01020304, 0x0A0B0C0D, NOISE_RESPONSE) + bytes(32)


def reason(function, data):
    with pytest.raises(BadPacket) as caught:
        function(data)
    return caught.value.reason


# --- Init ------------------------------------------------------------------------------------


def test_init_fields_are_where_the_document_says():
    datagram = init()
    assert len(datagram) == constants.INIT_SIZE == 232
    assert datagram[:8] == bytes([1, 1, 2, 2, 4, 3, 2, 1])
    assert datagram[8:16] == b"tokentok"
    header = wire.decode_init_untrusted(datagram)
    assert header.credential == TOKEN
    assert header.suite is Suite.AESGCM
    assert header.sender_index == 0x01020304
    assert header.clear == datagram[:16]
    assert header.noise == datagram[16:200]
    assert header.mac1 == datagram[200:216]


@pytest.mark.parametrize("size", [0, 1, 16, 200, 231, 233, 65535])
def test_init_of_another_size(size):
    assert reason(wire.decode_init_untrusted, init()[:1] * size) == "malformed"


@pytest.mark.parametrize(
    ("at", "value", "expected"),
    [
        (1, 0, "bad_version"),
        (1, 2, "bad_version"),
        (2, 3, "malformed"),
        (3, 0, "malformed"),
        (3, 3, "malformed"),
    ],
    ids=["version-0", "version-2", "credential-kind", "suite-0", "suite-3"],
)
def test_init_with_an_impossible_field(at, value, expected):
    datagram = bytearray(init())
    datagram[at] = value
    assert reason(wire.decode_init_untrusted, bytes(datagram)) == expected


def test_init_payload_layout():
    payload = InitPayload(
        timestamp_ns=0x1122334455667788,
        cookie_echo=b"c" * 16,
        resume=0x99,
        kcp_mtu=1200,
        receive_window=512,
        max_slices=4,
        takes_parity=True,
    )
    data = payload.encode()
    assert len(data) == 88
    fields = 0x1122334455667788, b"c" * 16, 0x99, 1200, 512, 4, 1
    assert data == struct.pack("<Q16sQHHB3xI", *fields) + bytes(44)
    assert wire.decode_init_payload_untrusted(data) == payload


def test_init_payload_ignores_what_later_versions_may_use():
    payload = InitPayload(timestamp_ns=1, receive_window=128)
    data = payload.encode()[:37] + b"\xff" * 3 + b"\xfc" + b"\xff" * 47
    assert wire.decode_init_payload_untrusted(data) == payload


@pytest.mark.parametrize("size", [0, 87, 89])
def test_init_payload_of_another_size(size):
    assert reason(wire.decode_init_payload_untrusted, bytes(size)) == "malformed"


BAD_PARAMETERS = [
    {"kcp_mtu": constants.MIN_KCP_MTU - 1},
    {"receive_window": 127},
    {"max_slices": 0},
]


@pytest.mark.parametrize("bad", BAD_PARAMETERS, ids=str)
def test_parameters_that_no_session_could_use(bad):
    good = InitPayload(timestamp_ns=1, receive_window=128, kcp_mtu=constants.MIN_KCP_MTU)
    assert wire.decode_init_payload_untrusted(good.encode()) == good
    data = attrs.evolve(good, **bad).encode()
    assert reason(wire.decode_init_payload_untrusted, data) == "malformed"
    answer = ResponsePayload(association=1, index_copy=2, receive_window=128)
    assert wire.decode_response_payload_untrusted(answer.encode()) == answer
    data = attrs.evolve(answer, **bad).encode()
    assert reason(wire.decode_response_payload_untrusted, data) == "malformed"


# --- Response --------------------------------------------------------------------------------


def test_response_fields_are_where_the_document_says():
    datagram = response()
    assert len(datagram) == constants.RESPONSE_SIZE == 140
    assert datagram[:12] == bytes([2, 1, 0, 0, 4, 3, 2, 1, 13, 12, 11, 10])
    header = wire.decode_response_untrusted(datagram)
    assert (header.sender_index, header.receiver_index) == (0x01020304, 0x0A0B0C0D)
    assert header.noise == datagram[12:108] == NOISE_RESPONSE


@pytest.mark.parametrize("size", [0, 12, 139, 141])
def test_response_of_another_size(size):
    assert reason(wire.decode_response_untrusted, response()[:1] * size) == "malformed"


@pytest.mark.parametrize(
    ("at", "expected"), [(1, "bad_version"), (2, "malformed"), (3, "malformed")]
)
def test_response_with_an_impossible_field(at, expected):
    datagram = bytearray(response())
    datagram[at] = 7
    assert reason(wire.decode_response_untrusted, bytes(datagram)) == expected


def test_response_payload_layout():
    payload = ResponsePayload(
        association=0x1122334455667788,
        index_copy=0x01020304,
        resumed=True,
        result=Result.FULL,
        kcp_mtu=1300,
        receive_window=256,
        max_slices=2,
        reset_token=b"r" * 16,
        takes_parity=True,
        server_time_ms=0x55,
    )
    data = payload.encode()
    assert len(data) == 48
    assert data == struct.pack(
        "<QIBBHHBx16sIQ", 0x1122334455667788, 0x01020304, 1, 3, 1300, 256, 2, b"r" * 16, 1, 0x55
    )
    assert wire.decode_response_payload_untrusted(data) == payload


def test_response_payload_with_a_result_that_nobody_knows():
    data = bytearray(ResponsePayload(association=1, index_copy=2, receive_window=128).encode())
    data[13] = max(Result) + 1
    assert reason(wire.decode_response_payload_untrusted, bytes(data)) == "malformed"
    assert reason(wire.decode_response_payload_untrusted, bytes(47)) == "malformed"


# --- The others ------------------------------------------------------------------------------


def test_cookie_index():
    datagram = bytes([3, 1, 0, 0, 4, 3, 2, 1]) + bytes(56)
    assert len(datagram) == constants.COOKIE_REPLY_SIZE == 64
    assert wire.decode_cookie_index_untrusted(datagram) == 0x01020304
    for size in (0, 63, 65):
        assert reason(wire.decode_cookie_index_untrusted, bytes(size)) == "malformed"


def test_sealed_header_layout():
    header = wire.HEADER.pack(wire.DATA, 0, 1, 0, 0x01020304, 0x1122334455667788)
    assert header == bytes.fromhex("04000100 04030201 8877665544332211")
    assert len(header) == constants.DATA_HEADER_SIZE


def test_replies_are_smaller_than_what_causes_them():
    assert constants.COOKIE_REPLY_SIZE < constants.RESPONSE_SIZE < constants.INIT_SIZE


def test_a_full_datagram_fits_a_pppoe_line():
    ipv6_and_udp = 40 + 8
    datagram = constants.DATA_HEADER_SIZE + constants.SLICE_SIZE
    assert datagram + ipv6_and_udp <= 1492


def test_a_full_unit_has_room_in_the_smallest_datagrams():
    smallest = pathmtu.SMALLEST_SIZE - constants.DATA_HEADER_SIZE
    assert constants.MAX_SLICES * smallest >= constants.KCP_MTU + constants.TAG_SIZE


def test_a_peer_may_take_more_slices_than_we_ever_send():
    payload = InitPayload(timestamp_ns=1, receive_window=128, max_slices=255)
    assert wire.decode_init_payload_untrusted(payload.encode()) == payload


def test_a_full_unit_leaves_in_one_call():
    datagram = constants.DATA_HEADER_SIZE + constants.SLICE_SIZE
    largest_udp_payload = 65_507
    slices = (constants.KCP_MTU + constants.TAG_SIZE) // constants.SLICE_SIZE
    assert slices * datagram <= largest_udp_payload
    assert constants.KCP_MTU < 1 << 16  # its place in the handshake is 16 bits wide
