"""A frame or superframe record of any shape, and all that looks into one.

Invariants: BadRecord and nothing else; what a superframe is cut into are frames of the MTU, as many
as it stands for; a filter answers for any frame.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from tests.fuzz.reader import Reader
from tests.fuzz.untrusted import find
from vswitch.errors import BadRecord
from vswitch.frames.build import arp_reply, arp_request, ethernet, icmp_echo, vlan_tagged
from vswitch.frames.filter import parse_filter_untrusted
from vswitch.frames.igmp import read_untrusted
from vswitch.frames.load import load_of
from vswitch.frames.records import FRAME, SUPERFRAME, encode_record, frame_of, frame_record
from vswitch.frames.segment import without_superframes_untrusted
from vswitch.testing.groups import igmp, igmp3_report, mld, mld2_report, multicast_data
from vswitch.testing.superframes import Flow, superframe

MACS = [bytes((2, 0, 0, 0, 0, number)) for number in range(4)] + [b"\xff" * 6, bytes(6)]
TEXTS = (
    "ip and src 10.0.0.1 or arp",
    "not vlan 7 and (udp or ip6) and port 67",
    "proto 1 or broadcast",
)
MTUS = (576, 1280, 1500, 9000)


def any_frame(reader: Reader) -> bytes:
    """A frame that somebody might send, or what somebody with bad intentions would."""
    source, target = reader.choice(MACS), reader.choice(MACS)
    group4, group6 = f"239.1.2.{reader.below(4)}", f"ff15::{1 + reader.below(3)}"
    frame: bytes
    match reader.below(11):
        case 0:
            frame = arp_request(source, f"10.0.0.{reader.below(5)}", "10.0.0.2")
        case 1:
            frame = icmp_echo(source, "10.0.0.1", target, "10.0.0.2", data=reader.blob(9100))
        case 2:
            frame = igmp(source, reader.choice((0x11, 0x12, 0x16, 0x17, reader.below(256))), group4)
        case 3:
            frame = igmp3_report(source, [(reader.below(8), group4, [])])
        case 4:
            frame = mld(source, reader.choice((130, 131, 132)), group6, delay=reader.edge(16))
        case 5:
            frame = mld2_report(source, [(reader.below(8), group6, [])])
        case 6:
            frame = multicast_data(source, reader.choice((group4, group6)))
        case 7:
            frame = arp_reply(source, "10.0.0.1", target, "10.0.0.2")
        case 8:  # a bridge speaks
            frame = ethernet(
                b"\x01\x80\xc2\0\0" + bytes((reader.below(48),)), source, 0x0026, reader.blob(64)
            )
        case 9:
            frame = ethernet(target, source, reader.edge(16), reader.blob(65_000))
        case _:
            frame = reader.blob(65_000)
    for _ in range(reader.choice((0, 0, 0, 1, 2, 3))):
        if len(frame) >= 12:
            vlan = reader.choice((0, 10, 20, 4095, 7))
            frame = vlan_tagged(frame, vlan, tpid=reader.choice((0x8100, 0x88A8)))
    return damaged(reader, frame)


def any_record(reader: Reader) -> bytes:
    """A frame record, or a superframe that may lie."""
    kind = reader.below(8)
    if kind == 0:
        flow = Flow(
            version=reader.choice((4, 6)),
            protocol=reader.choice((6, 17)),
            tags=reader.choice(((), (), (10,), (10, 20))),
            source=reader.choice(MACS),
            destination=reader.choice(MACS),
            flags=reader.below(256),
            tcp_options=b"\1" * (4 * reader.below(11)),
        )
        record = superframe(flow, reader.blob(60_000), reader.edge(16))
        return record[:4] + damaged(reader, record[4:])
    frame = any_frame(reader)
    if kind == 1:
        return encode_record(SUPERFRAME, reader.take(10).ljust(10, b"\0") + frame[:65_000])
    return frame_record(frame[:65_000])


def damaged(reader: Reader, data: bytes) -> bytes:
    if not reader.chance(0.3):
        return data
    changed = bytearray(data)
    for _ in range(1 + reader.below(4)):
        if changed:
            changed[reader.number(2) % len(changed)] = reader.edge(8)
    if reader.chance(0.2):
        del changed[reader.number(2) % (len(changed) + 1) :]
    return bytes(changed)


def run(data: bytes) -> None:
    reader = Reader(data)
    record, mtu = any_record(reader), reader.choice(MTUS)
    body = record[4:] if record[1] == FRAME & 0xFF else record[14:]
    for name in ("network_untrusted", "upper_ipv4_untrusted", "upper_ipv6_untrusted"):
        find("vswitch", name)(record, 4 + reader.below(200))
    find("vswitch", "rule_key_untrusted")(record)
    find("vswitch", "token_untrusted")(record, bytes(8))
    find("vswitch", "autoconfiguration_untrusted")(record)
    find("vswitch", "record_untrusted")(body, mtu + 22, Counter())
    if len(body) >= 14:
        with suppress(BadRecord):
            read_untrusted(body)
    parse_filter_untrusted(reader.choice(TEXTS))(body)
    if record[:2] != SUPERFRAME.to_bytes(2, "big"):
        return
    for name in ("check_superframe_untrusted", "is_usual_untrusted", "inspect_untrusted"):
        with suppress(BadRecord):
            find("vswitch", name)(record, mtu)
    stands_for = load_of([record]).frames
    pieces, refused = without_superframes_untrusted([record], mtu)
    assert len(pieces) + refused == stands_for
    assert all(14 <= len(frame_of(piece)) <= mtu + 22 for piece in pieces)


def seeds() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    for kind in range(11):  # one of each frame, whole, and one in damage
        yield f"frame-{kind}", bytes((2, 0, 4, 1, 1, kind)) + bytes(20) + chance.randbytes(40)
        yield f"damaged-{kind}", bytes((3, 1, 2, 1, 1, kind)) + chance.randbytes(60)
    for number in range(6):
        yield f"superframe-{number}", bytes(1) + chance.randbytes(90)
    yield "superframe-whole", bytes((0, 0, 0, 0, 0, 1, 16, 3, 0xFF, 0x70, 0x17, 0xC0, 0x64, 5, 0))
    yield "virtio", bytes((1,)) + bytes(8) + chance.randbytes(20)
