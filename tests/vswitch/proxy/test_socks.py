"""SOCKS5 messages, against the bytes of RFC 1928 and 1929."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.errors import BadRecord
from vswitch.proxy import socks
from vswitch.proxy.socks import Datagram, Refused, Reply, Request

IPV6 = bytes.fromhex("20010db8000000000000000000000007")
READERS = [
    socks.read_greeting_untrusted,
    socks.read_credentials_untrusted,
    socks.read_request_untrusted,
]


@pytest.mark.parametrize(
    ("reader", "data", "message"),
    [
        (socks.read_greeting_untrusted, b"\5\2\0\2", socks.Greeting(b"\0\2")),
        (socks.read_greeting_untrusted, b"\5\0", socks.Greeting(b"")),
        (socks.read_credentials_untrusted, b"\1\3abc\2xy", socks.Credentials(b"abc", b"xy")),
        (socks.read_credentials_untrusted, b"\1\0\0", socks.Credentials(b"", b"")),
        (
            socks.read_request_untrusted,
            b"\5\1\0\1\x0a\x4d\0\2\0\x50",
            Request(socks.CONNECT, "10.77.0.2", 80),
        ),
        (
            socks.read_request_untrusted,
            b"\5\3\0\4" + IPV6 + b"\xff\xff",
            Request(socks.UDP_ASSOCIATE, "2001:db8::7", 65535),
        ),
        (socks.read_request_untrusted, b"\5\1\0\3\3pc1\x01\xbb", Request(1, "pc1", 443)),
        (socks.read_request_untrusted, b"\5\1\0\3\3::1\x01\xbb", Request(1, "::1", 443)),
    ],
)
def test_message_is_read_when_all_of_it_is_there(reader, data, message):
    for end in range(len(data)):
        assert reader(data[:end]) is None
    assert reader(data) == (message, len(data))
    assert reader(data + b"more") == (message, len(data))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\5\2\0\1\0", Reply.COMMAND_NOT_SUPPORTED),
        (b"\5\1\0\2\0", Reply.ADDRESS_TYPE_NOT_SUPPORTED),
        (b"\5\1\0\3\0\0\0", Reply.HOST_UNREACHABLE),
        (b"\5\1\0\3\4a b!\0\0", Reply.HOST_UNREACHABLE),
        (b"\5\1\0\3\2\xc3\xa9\0\0", Reply.HOST_UNREACHABLE),
        (b"\5\1\0\3\5-flag\0\0", Reply.HOST_UNREACHABLE),
    ],
)
def test_request_that_is_refused_has_its_code(data, code):
    with pytest.raises(Refused) as refused:
        socks.read_request_untrusted(data)
    assert refused.value.code is code


@pytest.mark.parametrize("reader", READERS)
def test_another_version_is_none_of_ours(reader):
    with pytest.raises(BadRecord):
        reader(b"\4\1\0\x50\x0a\0\0\1\0")


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1", b"\0\1\0\1" + bytes(6), b"\0\0\0\1\1\2\3\4\5"])
def test_no_datagram(data):
    with pytest.raises(BadRecord):
        socks.read_datagram_untrusted(data)


def test_fragment_is_refused():
    with pytest.raises(BadRecord, match="fragment"):
        socks.read_datagram_untrusted(b"\0\0\1\1\x0a\0\0\1\0\x35word")


addresses = st.ip_addresses().map(str)
ports = st.integers(0, 65535)


@given(addresses, ports, st.binary(max_size=100))
def test_datagram_there_and_back(host, port, payload):
    data = socks.datagram(host, port, payload)
    assert socks.read_datagram_untrusted(data) == Datagram(host, port, payload)


@given(addresses, ports, st.sampled_from(Reply))
def test_reply_has_the_layout_of_a_request(host, port, code):
    data = socks.reply(code, host, port)
    assert data[:3] == bytes((5, code, 0))
    read = socks.read_request_untrusted(b"\5\1\0" + data[3:])
    assert read == (Request(socks.CONNECT, host, port), len(data))


@given(st.sampled_from(READERS), st.binary(max_size=600))
def test_no_reader_waits_for_ever(reader, data):
    """Of hostile bytes: an answer, a refusal, or more is needed, but not more than MAX_MESSAGE."""
    try:
        found = reader(data)
    except BadRecord:
        return
    if found is None:
        assert len(data) < socks.MAX_MESSAGE
    else:
        assert found[1] <= min(len(data), socks.MAX_MESSAGE)


def test_answers():
    assert socks.method_reply(socks.NO_METHOD) == b"\5\xff"
    assert socks.credentials_reply(True) == b"\1\0"
    assert socks.credentials_reply(False)[1] != 0
