import base64

import pytest

from vswitch.errors import BadRecord
from vswitch.frames.records import CONTROL, encode_record, is_control
from vswitch.members.protocol import (
    Bye,
    ByeCode,
    Hello,
    Moved,
    Notice,
    Rekey,
    Update,
    Welcome,
    decode_control_untrusted,
    encode_control,
)

KEY = base64.b64encode(bytes(range(32))).decode()
WELCOME = Welcome(
    name="pc1",
    port=3,
    address="10.77.0.2/24",
    network="10.77.0.0/24",
    gateways=["192.168.1.0/24 via 10.77.0.3 pc2", "::/0 via fd77::3 pc2"],
    names=["10.77.0.1", "fd00::1"],
    domain="home.example",
    mtu=1500,
    software="vswitch 0.1",
    address6="fd77::2/64",
)
MESSAGES = [
    Hello(mtu=1500, mac="02:00:00:00:00:01"),
    Hello(mtu=9000, mac="02:00:00:00:00:01", offload=True, software="x", address="10.0.0.9/24"),
    Hello(mtu=576, mac="02:00:00:00:00:01", address="none", advertise=["10.0.0.0/8", "::/0"]),
    WELCOME,
    Welcome(name="a", port=1),
    Welcome(name="a", port=1, offload=True),
    Notice("Grüße"),
    Update(),
    Update(address="10.77.0.3/24", mtu=1400, gateways=[], names=["10.77.0.1"]),
    Rekey(KEY, 1_900_000_000),
    Moved(KEY),
    Update(names=[], domain="lan.example"),
    Bye(),
    Bye(ByeCode.REVOKED, "key revoked"),
]


def record(text):
    return encode_record(CONTROL, text.encode())


@pytest.mark.parametrize("message", MESSAGES)
def test_round_trip(message):
    encoded = encode_control(message)
    assert is_control(encoded)
    assert decode_control_untrusted(encoded) == message


def test_wire_form():
    assert encode_control(Bye(ByeCode.FULL, "no port")) == record(
        '{"kind": "bye", "code": 10, "reason": "no port"}'
    )


def test_lists_become_tuples():
    assert WELCOME.gateways == ("192.168.1.0/24 via 10.77.0.3 pc2", "::/0 via fd77::3 pc2")
    assert Update(names=["10.0.0.1"]).names == ("10.0.0.1",)


def test_what_a_newer_peer_says_is_ignored():
    assert decode_control_untrusted(record('{"kind": "weather", "sun": true}')) is None
    message = decode_control_untrusted(record('{"kind": "notice", "text": "hi", "colour": 3}'))
    assert message == Notice("hi")
    bye = decode_control_untrusted(record('{"kind": "bye", "code": 77}'))
    assert bye == Bye(77)
    assert ByeCode(77) is ByeCode.UNKNOWN


def test_what_an_older_peer_does_not_say():
    welcome = decode_control_untrusted(record('{"kind": "welcome", "name": "a", "port": 1}'))
    assert welcome.offload is False
    hello = '{"kind": "hello", "mtu": 1500, "mac": "02:00:00:00:00:01"}'
    assert decode_control_untrusted(record(hello)).offload is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"hello"',
        "null",
        "{}",
        '{"kind": 5}',
        '{"kind": ["bye"]}',
        '{"kind": "bye", "code": NaN}',
        '{"kind": "bye", "code": Infinity}',
        "[" * 16_000,
        '{"kind": "bye", "code": ' + "9" * 10_000 + "}",
    ],
    ids=lambda text: text[:20],
)
def test_no_message_at_all(text):
    with pytest.raises(BadRecord):
        decode_control_untrusted(record(text))


def test_bytes_that_are_not_utf8():
    with pytest.raises(BadRecord, match="not JSON"):
        decode_control_untrusted(encode_record(CONTROL, b'{"kind": "\xff"}'))


@pytest.mark.parametrize(
    "fields",
    [
        '"kind": "hello", "mtu": 1500',
        '"kind": "hello", "mtu": "1500", "mac": "02:00:00:00:00:01"',
        '"kind": "hello", "mtu": 1500.0, "mac": "02:00:00:00:00:01"',
        '"kind": "hello", "mtu": true, "mac": "02:00:00:00:00:01"',
        '"kind": "hello", "mtu": 67, "mac": "02:00:00:00:00:01"',
        '"kind": "hello", "mtu": 9001, "mac": "02:00:00:00:00:01"',
        '"kind": "hello", "mtu": 1500, "mac": "02:00:00:00:00"',
        '"kind": "hello", "mtu": 1500, "mac": "02:00:00:00:00:01", "offload": 1',
        '"kind": "hello", "mtu": 1500, "mac": "02:00:00:00:00:01", "address": "10.0.0.1"',
        '"kind": "welcome", "name": "PC1", "port": 1',
        '"kind": "welcome", "name": "pc1\\n", "port": 1',
        '"kind": "welcome", "name": "-pc", "port": 1',
        '"kind": "welcome", "name": "pc1", "port": 0',
        '"kind": "welcome", "name": "pc1", "port": 1, "offload": 1',
        '"kind": "welcome", "name": "pc1", "port": 1, "address": "10.0.0.256/24"',
        '"kind": "welcome", "name": "pc1", "port": 1, "address": "fe80::1%x;y/64"',
        '"kind": "welcome", "name": "pc1", "port": 1, "network": "10.0.0.1/24"',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": "10.0.0.0/8 via 10.77.0.3 pc2"',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": [10]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0/8"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": null',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0/8 via 10.77.0.3"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.1/8 via 10.77.0.3 pc2"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0/8 via fd77::3 pc2"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["::/0 via 10.77.0.3 pc2"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0 via 10.77.0.3 pc2"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0/8 by 10.77.0.3 pc2"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0/8 via 10.77.0.3/24 b"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0/8 via fe80::3%x pc2"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0/8 via 10.77.0.3 PC2"]',
        '"kind": "welcome", "name": "a", "port": 1, "gateways": ["10.0.0.0/8 via 10.77.0.3 pc2 "]',
        '"kind": "welcome", "name": "pc1", "port": 1, "address6": "fd77::2"',
        '"kind": "hello", "mtu": 1500, "mac": "02:00:00:00:00:01", "advertise": ["exit"]',
        '"kind": "welcome", "name": "pc1", "port": 1, "names": ["dns.example"]',
        '"kind": "welcome", "name": "pc1", "port": 1, "domain": "a b"',
        '"kind": "notice"',
        '"kind": "notice", "text": null',
        '"kind": "notice", "text": "two\\nlines"',
        '"kind": "notice", "text": "\\u001b[31m"',
        '"kind": "notice", "text": "\\ud800"',
        '"kind": "update", "mtu": 1e3',
        '"kind": "moved"',
        '"kind": "moved", "key": "AAECAw=="',
        f'"kind": "moved", "key": "{KEY} "',
        f'"kind": "rekey", "key": "{KEY}"',
        f'"kind": "rekey", "key": "{KEY}", "until": -1',
        f'"kind": "rekey", "key": "{KEY}", "until": 1.5',
        '"kind": "rekey", "key": null, "until": 1',
        '"kind": "bye", "code": -1',
        '"kind": "bye", "code": 256',
    ],
)
def test_malformed_fields(fields):
    with pytest.raises(BadRecord, match="malformed"):
        decode_control_untrusted(record("{" + fields + "}"))


def test_lists_and_texts_are_bounded():
    gateways = ", ".join(['"10.0.0.0/8 via 10.77.0.3 pc2"'] * 65)
    with pytest.raises(BadRecord, match="malformed") as caught:
        decode_control_untrusted(record('{"kind": "update", "gateways": [' + gateways + "]}"))
    assert len(str(caught.value)) < 300  # it goes to a log
    with pytest.raises(BadRecord, match="1000 characters"):
        decode_control_untrusted(record('{"kind": "notice", "text": "' + "x" * 1001 + '"}'))


def test_a_program_cannot_build_a_wrong_message():
    with pytest.raises(ValueError, match="mtu 20 is not in 576 to 9000"):
        Hello(mtu=20, mac="02:00:00:00:00:01")
    with pytest.raises(ValueError, match="not a member name"):
        Welcome(name="Two Words", port=1)


def test_encoding_refuses_what_exceeds_a_control_record():
    many = [f"fd00:1111:2222:3333:4444:5555:6666:{i:x}" for i in range(256)]
    gateways = [f"{address}/128 via {address} {'a' * 63}" for address in many[:64]]
    encode_control(Update(gateways=gateways))
    with pytest.raises(ValueError, match="at most 16384"):
        encode_control(Update(gateways=gateways, names=many))
