"""What a member with valid keys says above the transport: control messages, and record streams over
three lanes with fences.

Invariants: BadRecord and nothing else; what is taken of a message is printable, bounded, and means
the same when it is sent on; records come out whole; what is kept above the channel is bounded by
its windows, so that a member that obeys them cannot make it grow.
"""

import json
import random
from collections.abc import Iterator

import trio

from tests.fuzz.frames import any_record
from tests.fuzz.reader import Reader
from vswitch.errors import BadRecord
from vswitch.frames.build import arp_request
from vswitch.frames.records import CONTROL, MAX_RECORD, encode_record, frame_record
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import (
    After,
    Bye,
    Hello,
    Leave,
    Look,
    Moved,
    Notice,
    Peers,
    Rekey,
    Roster,
    Sight,
    Update,
    Welcome,
    Who,
    decode_control_untrusted,
    encode_control,
)
from vswitch.testing.channels import FakeChannel, FakeLane

FRAME = arp_request("02:00:00:00:00:0a", "10.0.0.1", "10.0.0.2")

GATEWAY = "192.168.1.0/24 via 10.0.0.3 pc2"
MESSAGES = (
    Hello(
        mtu=1500,
        mac="02:00:00:00:00:0a",
        offload=True,
        software="x",
        address="10.0.0.9/24",
        advertise=["192.168.1.0/24", "::/0"],
    ),
    Welcome("pc1", 3, "10.0.0.2/24", "10.0.0.0/24", [GATEWAY], ["10.0.0.1"], "lan"),
    Notice("hello"),
    Leave(),
    Look(),
    Sight("192.0.2.11:7026"),
    Roster(),
    Rekey("A" * 43 + "=", 1_900_000_000),
    Moved("A" * 43 + "="),
    Who("pc1"),
    Peers(("pc2 up 10.77.0.3 02:00:00:00:00:01", "pc3 away - -"), more=True),
    Update(mtu=1400, gateways=["fd00::/16 via fd77::3 pc2"], address="fd00::7/64"),
    Bye(3, "reason"),
    After(7),
)
PLAIN = [json.loads(encode_control(message)[4:]) for message in MESSAGES]
TEXTS = (
    "", "a", "auto", "none", "\x00", "\x1b[31m", "\ud800", "\u202epc", "pс1", "x" * 2000,
    "10.0.0.1", "10.0.0.1/33", "fe80::1%a/64", "::/0", "0.0.0.0/0", "ff:ff:ff:ff:ff:ff", "１",
    GATEWAY,
)  # fmt: skip
NUMBERS = (0, -1, 1, 1500, 2**31, 2**63, 2**64, 10**400, 1.5, -0.0, 1e308)


def run_control(data: bytes) -> None:
    reader = Reader(data)
    body = reader.rest() if reader.below(3) == 0 else _grammar(reader)
    refused = ""
    try:
        message = decode_control_untrusted(encode_record(CONTROL, body[:16_384]))
    except BadRecord as bad:
        message, refused = None, str(bad)
    assert len(refused) < 400  # it is logged
    assert refused.isprintable()
    if message is not None:
        for name in message.__attrs_attrs__:
            said = getattr(message, name.name)
            for text in said if isinstance(said, tuple) else (said,):
                assert not isinstance(text, str) or (text.isprintable() and len(text) <= 1000)
        assert decode_control_untrusted(encode_control(message)) == message


def _grammar(reader: Reader) -> bytes:
    """A message in JSON, with other values, names and shapes in places."""
    fields = dict(reader.choice(PLAIN))
    for _ in range(reader.below(4)):
        name = reader.choice(sorted(fields)) if reader.chance(0.9) else reader.choice(TEXTS)
        fields[name] = _value(reader, 0)
    text = json.dumps(fields, ensure_ascii=reader.chance(0.5))
    if reader.chance(0.1):
        text = text[:-1] + ', "kind": "after", "sparse": ' + "9" * reader.number(2) + "}"
    if reader.chance(0.1):
        text = text.replace("1", reader.choice(("NaN", "Infinity", "1" * 5000, "[" * 3000)), 1)
    return text.encode(errors="surrogatepass")


def _value(reader: Reader, depth: int) -> object:
    match reader.below(6 if depth < 3 else 4):
        case 0:
            return reader.choice(TEXTS)
        case 1:
            return reader.choice(NUMBERS)
        case 2:
            return reader.choice((None, True, False))
        case 3:
            return reader.take(6).decode(errors="replace")
        case 4:
            items = [_value(reader, depth + 1) for _ in range(reader.below(4))]
            times = reader.choice((1, 1, 300))
            return items * (1 if depth else times)  # a long list of long lists is our own burden
        case _:
            return {reader.choice(TEXTS): _value(reader, depth + 1)}


def control_seeds() -> Iterator[tuple[str, bytes]]:
    for number, message in enumerate(MESSAGES):
        yield type(message).__name__.lower(), b"\0" + encode_control(message)[4:]
        yield f"changed-{number}", bytes((1, number, 2, 1, 1, number, 2, 0, 5, 1, 2, 4, 9, 9))
        yield f"nested-{number}", bytes((1, number, 1, 1, 4, 2, 3, 4, 0, 5, 255, 1, 255, 0))


WINDOW = 16_384  # bytes on the way of each lane
# Above the channel: what two turns took of each lane, and a record that is not whole on each.
KEPT = 4 * WINDOW + 2 * MAX_RECORD
TURNS = 400
LANES = ("bulk", "bulk", "sparse", "datagrams", "read")


class _Refilled(FakeLane):
    """Gives a few messages at a time, as one whose inbox is filled from a longer queue."""

    portion = 4

    def receive_nowait(self) -> list[bytes]:
        messages = super().receive_nowait()
        self.inbox = messages[self.portion :]
        return messages[: self.portion]


def _channels() -> tuple[FakeChannel, FakeChannel]:
    ours, theirs = FakeChannel(1200, WINDOW), FakeChannel(1200, WINDOW)
    ours.bulk = _Refilled(ours, 1200, 127 * 1200)
    ours.join(theirs)
    return ours, theirs


def run_records(data: bytes) -> None:
    trio.run(_records, Reader(data))


async def _records(reader: Reader) -> None:
    ours, theirs = _channels()
    device = MemberDevice(ours, name="m", superframes=reader.chance(0.5))
    datagrams = reader.chance(0.5)
    if datagrams:
        device.use_lane("datagram")
        theirs.open_datagrams()
    given = taken = 0  # bytes of frames that were sent whole, and of records that came out
    for _ in range(TURNS):
        if not reader:
            break
        lane = reader.choice(LANES)
        if lane == "datagrams" and not datagrams:
            continue
        for _ in range(0 if lane == "read" else reader.choice((1, 1, 2, 12))):
            given += _send(getattr(theirs, lane), reader, whole=lane == "datagrams")
        try:
            records = device.read_nowait(reader.choice((64, 1)))
        except trio.WouldBlock:
            continue
        except BadRecord:
            return
        assert all(len(record) == 4 + int.from_bytes(record[2:4], "big") for record in records)
        taken += sum(map(len, records))
        in_channel = sum(WINDOW - getattr(theirs, name).credit for name in set(LANES) - {"read"})
        assert given - taken - in_channel <= KEPT, "kept above the channel"
    theirs.close()  # no fence waits any longer
    for _ in range(10_000):
        try:
            device.read_nowait(64)
        except (trio.WouldBlock, trio.BrokenResourceError, BadRecord):
            return
    raise AssertionError("what was sent never ends")


def _send(to: FakeLane, reader: Reader, *, whole: bool) -> int:
    """Some of a lane, as far as its window goes; bytes of whole frames in it."""
    frames, content = 0, b""
    match reader.below(6):
        case 0 | 1:  # frames that carry nothing, or some that do
            content = frame_record(reader.choice((b"", FRAME, bytes(1000)))) * (
                1 + reader.below(20)
            )
            frames = len(content)
        case 2:
            content = encode_control(After(reader.edge(32)))
        case 3:
            content = any_record(reader)
            frames = len(content)
        case 4:
            content = encode_control(reader.choice(MESSAGES))
        case _:
            content = reader.blob(2000)
    if to.credit <= len(content) or not content:
        return 0
    size = len(content) if whole else reader.choice((1200, 60, 3))
    if not whole and reader.chance(0.2):
        content = content[: reader.number(2)]  # and the next message is no record
        frames = 0
    to.send_nowait([content[at : at + size] for at in range(0, len(content), size)])
    return frames


def record_seeds() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    frame = bytes((0, 1, 5))  # a few small frames
    yield "bulk", bytes((0, 0)) + (b"\0\0" + frame + b"\0\0\0\0") * 6
    yield "sparse", bytes((0, 0)) + (b"\2\0" + frame + b"\0\0\0\0") * 6
    fence = bytes((2, 0x83))  # after three
    yield (
        "fence",
        bytes((0, 0))
        + b"\0\0"
        + fence
        + b"\0\0\0\0"
        + (b"\0\0" + frame + b"\0\0\0\0" + b"\2\0" + frame + b"\0\0\0\0") * 4,
    )
    yield "datagrams", bytes((0, 255)) + (b"\3\0" + frame + b"\0\0") * 6
    for number in range(4):
        yield f"any-{number}", bytes((0, 255 * (number & 1))) + chance.randbytes(150)
    turns = b"".join(_fenced_turns(number) for number in range(24))
    yield "finding-2-bulk-that-never-ends", bytes(2) + turns


def _fenced_turns(number: int) -> bytes:
    """Twelve bulk messages, every fourth a fence that opens for one more of the sparse lane; and
    more on that than the fences let through.
    """
    empty, full = bytes((0, 0, 0, 0, 0)), bytes((0, 2, 12, 0, 0))
    fences = [
        bytes((2, 0xC0)) + (3 * number + each).to_bytes(4, "little") + bytes(2)
        for each in (1, 2, 3)
    ]
    bulk = b"".join(fence + 3 * empty for fence in fences)
    return bytes((0, 3)) + bulk + b"\0" + bytes((2, 0)) + full + b"\0"
