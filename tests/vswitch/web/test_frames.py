"""Frames of a WebSocket: examples of RFC 6455, wsproto as the other end, what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, Pong

from vswitch.errors import BadRecord
from vswitch.web.frames import (
    BINARY,
    CLOSE,
    FRAGMENT_LIMIT,
    MESSAGE_LIMIT,
    PING,
    PONG,
    FrameReader,
    encode,
    encode_all,
    mask,
)

KEY = bytes.fromhex("37fa213d")


def read(data, *, masked=False):
    return FrameReader(masked=masked).feed_untrusted(data)


# --- RFC 6455 section 5.7 ------------------------------------------------------------------------


def test_the_masked_example():
    """There a text; here, for the masking alone."""
    assert mask(b"Hello", KEY) == bytes.fromhex("7f9f4d5158")


def test_ping_and_pong():
    ping = bytes.fromhex("890548656c6c6f")
    assert b"".join(encode(PING, b"Hello")) == ping
    assert read(ping) == [(PING, b"Hello")]
    pong = bytes.fromhex("8a8537fa213d7f9f4d5158")
    assert b"".join(encode(PONG, b"Hello", KEY)) == pong
    assert read(pong, masked=True) == [(PONG, b"Hello")]


def test_256_bytes():
    data = bytes.fromhex("827E0100") + bytes(range(256))
    assert encode_all([bytes(range(256))], client=False) == data
    assert read(data) == [(BINARY, bytes(range(256)))]


def test_a_message_in_fragments():
    """As the text of the example, with a ping in between, which may be."""
    data = bytes.fromhex("0203 48656c 8900 8002 6c6f".replace(" ", ""))
    assert read(data) == [(PING, b""), (BINARY, b"Hello")]


# --- Properties ----------------------------------------------------------------------------------


keys = st.one_of(
    st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=1).map(lambda key: 4 * key)
)


@given(st.binary(max_size=300), keys)
def test_masking_is_what_the_rfc_says(data, key):
    assert mask(data, key) == bytes(each ^ key[at % 4] for at, each in enumerate(data))


messages = st.lists(st.one_of(st.binary(max_size=200), st.integers(0, MESSAGE_LIMIT)), max_size=5)


@settings(max_examples=30)  # of which wsproto's masking takes most
@given(messages, st.booleans(), st.integers(1, 70_000))
def test_wsproto_reads_what_we_write(sizes, client, step):
    datagrams = [bytes(each) for each in sizes]  # of content, or so many zeros
    data = encode_all(datagrams, client=client)
    other = Connection(ConnectionType.SERVER if client else ConnectionType.CLIENT)
    got = [b""]
    for at in range(0, len(data), step):
        other.receive_data(data[at : at + step])
        for event in other.events():
            assert isinstance(event, BytesMessage)
            got[-1] += bytes(event.data)
            if event.message_finished:
                got.append(b"")
    assert got[:-1] == datagrams


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200).map(lambda data: BytesMessage(data=data)),
            st.binary(max_size=200).map(lambda data: BytesMessage(data, message_finished=False)),
            st.binary(max_size=125).map(lambda data: Ping(payload=data)),
            st.binary(max_size=125).map(lambda data: Pong(payload=data)),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.integers(1, 300),
)
def test_we_read_what_wsproto_writes(events, client, step):
    """Also in fragments, cut anywhere, and with control frames between them."""
    other = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
    data = b"".join(other.send(each) for each in events)
    expected, part = [], b""
    for each in events:
        if isinstance(each, BytesMessage):
            part += each.data
            if each.message_finished:
                expected.append((BINARY, part))
                part = b""
        else:
            expected.append((PING if isinstance(each, Ping) else PONG, bytes(each.payload)))
    reader, got = FrameReader(masked=client), []
    for at in range(0, len(data), step):
        got += reader.feed_untrusted(data[at : at + step])
    assert got == expected


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "81 00",  # text
        "c2 00",  # a bit of an extension
        "83 00",  # no such kind
        "82 80 00000000",  # masked by a server
        "82 7e 007d",  # a length that could be shorter
        "82 7f",  # more than any message has
        "02 7e ffff",  # begins: see below
        "09 00",  # a ping in fragments
        "89 7e",  # a long ping
        "88 01 03",  # half a reason
        "80 00",  # the end of nothing
        "02 00 82 00",  # a message within another
        "02 01 00 80 7e ffff",  # fragments that are too long together
    ],
)
def test_what_is_refused(data):
    reader = FrameReader(masked=False)
    if data == "02 7e ffff":
        assert reader.feed_untrusted(bytes.fromhex(data)) == []
        reader.feed_untrusted(bytes(MESSAGE_LIMIT))
        data = "00 01"
    with pytest.raises(BadRecord):
        reader.feed_untrusted(bytes.fromhex(data))


def test_an_unmasked_client_is_refused():
    with pytest.raises(BadRecord):
        read(b"".join(encode(CLOSE, b"")), masked=True)


def test_too_much_is_not_written():
    with pytest.raises(ValueError):
        encode(BINARY, bytes(MESSAGE_LIMIT + 1))


def test_what_is_held_is_bounded():
    reader = FrameReader(masked=False)
    for number in range(FRAGMENT_LIMIT):
        reader.feed_untrusted(bytes.fromhex("000100" if number else "020100"))
    assert reader.held == FRAGMENT_LIMIT
    with pytest.raises(BadRecord, match="too many fragments"):
        reader.feed_untrusted(bytes.fromhex("0000"))
