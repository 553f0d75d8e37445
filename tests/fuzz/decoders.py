"""Every function that takes outside bytes, or outside text, and nothing else; new ones included.

The first two bytes of an input choose the function by a checksum of its name, so an input goes on
meaning the same when others come and go.

Invariants: bytes lead to BadPacket or BadRecord and nothing else, text to ValueError or
ConfigError.
"""

import json
from bisect import bisect
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from types import FunctionType
from zlib import crc32

from tests.fuzz.reader import Reader
from tests.fuzz.untrusted import find, simple, takes_text
from transport.crypto.identity import PublicKey
from transport.errors import BadPacket
from transport.wire.control import Arrivals, Close, MtuAck, MtuProbe, Ping, Rekey
from transport.wire.control import encode_control as encode_items
from transport.wire.datagrams import (
    Credential,
    InitPayload,
    ResponsePayload,
    Suite,
    encode_init_clear,
    encode_reset,
    encode_response,
)
from vswitch.addresses import HostPort
from vswitch.errors import BadRecord, ConfigError
from vswitch.foreign.formats import vxlan_header
from vswitch.frames.build import arp_request, icmp_echo, vlan_tagged
from vswitch.frames.records import CONTROL, FRAME, SUPERFRAME, encode_record
from vswitch.members.protocol import Hello
from vswitch.members.protocol import encode_control as encode_message
from vswitch.proxy.socks import datagram as socks_datagram
from vswitch.registry.invite import JoinString
from vswitch.testing.groups import igmp3_report, mld2_report

A = bytes.fromhex("02000000000a")
LONGEST = 16_000  # bytes of a body; control records have at most 16 KiB


@cache
def functions(text: bool) -> list[tuple[int, str, FunctionType]]:
    """By place on the ring of checksums."""
    return sorted(
        (crc32(function.__qualname__.encode()) & 0xFFFF, name, function)
        for name, function in simple().items()
        if takes_text(function) is text
    )


def chosen(place: int, text: bool) -> FunctionType:
    ring = functions(text)
    return ring[bisect(ring, (place, "~")) - 1][2]


def run(data: bytes) -> None:
    reader = Reader(data)
    function = chosen(reader.number(2), text=False)
    if function.__code__.co_varnames[0] == "record":
        flag = reader.choice((FRAME, SUPERFRAME, CONTROL))
        given = encode_record(flag, reader.take(LONGEST))
    else:
        given = reader.rest()
    try:
        function(given)
    except (BadPacket, BadRecord):
        pass


def run_text(data: bytes) -> None:
    reader = Reader(data)
    kind, place = reader.choice(("parse", "parse", "join", "orders", "firewall")), reader.number(2)
    text = reader.rest().decode(errors="surrogateescape")
    try:
        match kind:
            case "parse":
                chosen(place, text=True)(text)
            case "join":
                JoinString.parse_untrusted(text)
            case "orders":
                _orders(text)
            case "firewall":
                _rules(text, place)
    except (ConfigError, ValueError):
        pass


def _orders(text: str) -> None:
    try:
        args = json.loads(text)
    except (ValueError, RecursionError):
        words = text.split("\n")
        args = dict(zip(("delay", "rate", "for", "loss", "direction"), words, strict=False))
    if isinstance(args, dict):  # what the control socket lets through
        find("vswitch", "orders_untrusted")(args)


def _rules(text: str, port: int) -> None:
    with suppress(BadRecord):
        find("vswitch", "nft_chains_untrusted")(text, "input", port)
    with suppress(BadRecord):
        find("vswitch", "legacy_chains_untrusted")(text, "ip", "input", port)


def _input(name: str, body: bytes) -> Iterator[bytes]:
    for text in (False, True):
        for place, full, _ in functions(text):
            if full.endswith(f":{name}"):
                yield place.to_bytes(2, "little") + body


def seeds() -> Iterator[tuple[str, bytes]]:
    items = encode_items(
        Ping(b"12345678"), Rekey(), MtuProbe(7, 30), MtuAck(1400, 7), Arrivals(3, 5), Close(1, "no")
    )
    bodies = {
        "decode_init_untrusted": encode_init_clear(Credential(), Suite.AESGCM, 7) + bytes(216),
        "decode_response_untrusted": encode_response(7, 8, bytes(96)) + bytes(32),
        "decode_init_payload_untrusted": InitPayload(timestamp_ns=1, receive_window=128).encode(),
        "decode_response_payload_untrusted": ResponsePayload(
            association=1, index_copy=2, receive_window=128
        ).encode(),
        "decode_cookie_index_untrusted": b"\x03\x01" + bytes(62),
        "decode_reset_untrusted": encode_reset(b"1234567", bytes(range(16))),
        "without_vxlan_untrusted": vxlan_header(42) + arp_request(A, "10.0.0.1", "10.0.0.2"),
        "read_untrusted": igmp3_report(A, [(4, "239.1.2.3", [])]),
        "autoconfiguration_untrusted": b"\0" + icmp_echo(A, "10.0.0.1", A, "10.0.0.2"),
        "read_greeting_untrusted": b"\5\2\0\2",
        "read_credentials_untrusted": b"\1\2me\4word",
        "read_request_untrusted": b"\5\1" + socks_datagram("2001:db8::7", 53, b"")[2:],
        "read_datagram_untrusted": b"\0\0\0\3\3pc1\0\x35word",
    }
    for name, body in bodies.items():
        for found in _input(name, body):
            yield name, found
    yield "mld", next(_input("read_untrusted", mld2_report(A, [(4, "ff15::1", [])])))
    tagged = vlan_tagged(icmp_echo(A, "10.0.0.1", A, "10.0.0.2"), 7)
    yield "tagged", next(_input("autoconfiguration_untrusted", b"\0" + tagged))
    hello = encode_message(Hello(mtu=1500, mac="02:00:00:00:00:0a"))[4:]
    for number, found in enumerate(_input("decode_control_untrusted", items)):
        yield f"items-{number}", found
    for number, found in enumerate(_input("decode_control_untrusted", b"\2" + hello)):
        yield f"message-{number}", found


def text_seeds() -> Iterator[tuple[str, bytes]]:
    filters = "not (ip and src host 10.0.0.1 or vlan 7) and ether host 02:00:00:00:00:0a"
    texts = {
        "parse_filter_untrusted": filters,
        "parse_trace_untrusted": "in=pc1 src=02:00:00:00:00:0a dst=ff:ff:ff:ff:ff:ff vlan=7",
    }
    for name, text in texts.items():
        for found in _input(name, text.encode()):
            yield name, b"\0" + found
    places = HostPort("192.0.2.1", 7450), HostPort("a.example", 1)
    for label, count, member in ("join", 1, ""), ("join-tagged", 2, "pc1"):
        key, where = PublicKey(bytes(range(32))), places[:count]
        join = JoinString(key, bytes(8), bytes(16), where, member).encode()
        yield label, b"\2\0\0" + join.encode()
    drop = [
        {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "udp"}},
        {"drop": None},
    ]
    chain = {"family": "inet", "table": "t", "hook": "input", "policy": "drop"}
    rule = {"family": "inet", "table": "t", "chain": "c", "expr": drop}
    entries = [{"chain": {**chain, "name": "c"}}, {"rule": rule}]
    yield "firewall", b"\4\0\0" + json.dumps({"nftables": entries}).encode()
    orders = {"delay": "40ms~5ms", "loss": "1.5%", "rate": "10M", "seed": 7, "direction": "in"}
    yield "orders", b"\3\0\0" + json.dumps(orders).encode()
    yield "orders-lines", b"\3\0\x0040ms\n10M\n5m\n1%\nout"
