# Invariant: whatever the bytes, the functions that see them raise BadRecord or nothing, hold no
# more than one record back, and forwarding accounts for every frame.

import json
import random

import pytest

from vswitch.errors import BadRecord
from vswitch.frames.ethernet import vlan_of
from vswitch.frames.headers import header
from vswitch.frames.records import (
    CONTROL,
    FRAME,
    MAX_RECORD,
    SUPERFRAME,
    RecordSplitter,
    encode_record,
    frame_record,
    is_control,
    split_whole_untrusted,
)
from vswitch.members.protocol import (
    Bye,
    Hello,
    Notice,
    Update,
    Welcome,
    decode_control_untrusted,
    encode_control,
)
from vswitch.switch.counters import PortCounters
from vswitch.switch.forwarding import Forwarder, refuse_head
from vswitch.testing import arp_request, icmp_echo, vlan_tagged

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
FRAMES = [
    arp_request(A, "10.0.0.1", "10.0.0.2"),
    icmp_echo(A, "10.0.0.1", B, "10.0.0.2", data=bytes(56)),
    vlan_tagged(vlan_tagged(arp_request(B, "10.0.0.2", "10.0.0.1"), 7), 8, tpid=0x88A8),
]
CONTROLS = [
    encode_control(message)
    for message in (
        Hello(mtu=1500, mac=A, offload=True, software="x", address="10.0.0.9/24"),
        Welcome(
            "pc1",
            3,
            "10.0.0.2/24",
            "10.0.0.0/24",
            ["fd00::/16 via fd77::3 pc2"],
            ["10.0.0.1"],
            "lan",
        ),
        Notice("hello"),
        Update(mtu=1400, gateways=["10.0.0.0/8 via 10.0.0.3 pc2"]),
        Bye(3, "reason"),
    )
]
STREAM = b"".join(
    [
        *map(frame_record, FRAMES),
        *CONTROLS,
        encode_record(SUPERFRAME, bytes(10) + FRAMES[1] + bytes(3000)),
    ]
)


def mutate(rng, data):
    """Flip, insert, delete, repeat, cut; one to four times."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = rng.choice([0, 1, 0x7F, 0x80, 0xBC, 0xBE, 0xFF])
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            del out[at : at + rng.randint(1, 16)]
        elif kind == 4:
            out[at:at] = out[at : at + rng.randint(1, 64)]
        else:
            del out[at:]
    return bytes(out)


@pytest.mark.parametrize("seed", range(4))
def test_the_splitter_gives_records_or_bad_record_for_any_bytes(seed):
    rng = random.Random(f"splitter {seed}")
    refused = 0
    for _ in range(5000):
        start = rng.randrange(len(STREAM))
        data = mutate(rng, rng.choice([STREAM, STREAM[start:], rng.randbytes(rng.randint(0, 80))]))
        splitter = RecordSplitter()
        try:
            while data:
                size = rng.choice([1, 3, 50, 1200, 70_000])
                for record in splitter.feed_untrusted(data[:size]):
                    flag, length = record[0] << 8 | record[1], record[2] << 8 | record[3]
                    assert flag in (FRAME, SUPERFRAME, CONTROL)
                    assert length == len(record) - 4
                data = data[size:]
                assert splitter.held < MAX_RECORD
        except BadRecord:
            refused += 1
    assert refused > 1000  # the mutations do reach the checks


@pytest.mark.parametrize("seed", range(4))
def test_datagrams_give_records_or_bad_record_for_any_bytes(seed):
    rng = random.Random(f"whole {seed}")
    honest = [frame_record(frame) for frame in FRAMES]
    honest.append(encode_record(SUPERFRAME, bytes(10) + FRAMES[1] + bytes(3000)))
    refused = 0
    for _ in range(5000):
        data = b"".join(rng.choices(honest, k=rng.randint(0, 4)))
        data = rng.choice([mutate(rng, data), data, rng.randbytes(rng.randint(0, 80))])
        try:
            records = split_whole_untrusted([data])
        except BadRecord:
            refused += 1
            continue
        assert b"".join(records) == data
        for record in records:
            assert record[0] << 8 | record[1] in (FRAME, SUPERFRAME)
            assert record[2] << 8 | record[3] == len(record) - 4
    assert refused > 1000


@pytest.mark.parametrize("seed", range(4))
def test_control_messages_of_any_bytes_are_read_or_refused(seed):
    rng = random.Random(f"control {seed}")
    understood = 0
    refusals = []
    for _ in range(5000):
        body = mutate(rng, rng.choice(CONTROLS)[4:])
        try:
            message = decode_control_untrusted(encode_record(CONTROL, body))
        except BadRecord as error:
            refusals.append(str(error))
        else:
            understood += 1
            if message is not None:
                assert decode_control_untrusted(encode_control(message)) == message
    assert len(refusals) > 1000
    assert understood > 50
    assert all(len(text) < 400 and text.isprintable() for text in refusals)  # they are logged


VALUES = [
    None, True, False, 0, -1, 1500, 2**70, 1.5, "", "a", "auto", "\x00", "\ud800", "x" * 2000,
    "10.0.0.1", "10.0.0.1/33", "fe80::1%a/64", [], ["10.0.0.0/8"], [None], [[]], {}, {"a": 1},
]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_control_messages_with_wrong_values_are_refused(seed):
    rng = random.Random(f"values {seed}")
    refused = 0
    for _ in range(5000):
        fields = json.loads(rng.choice(CONTROLS)[4:])
        for name in rng.sample(sorted(fields), rng.randint(1, min(3, len(fields)))):
            fields[name] = rng.choice(VALUES)
        try:
            message = decode_control_untrusted(encode_record(CONTROL, json.dumps(fields).encode()))
        except BadRecord:
            refused += 1
        else:
            if message is not None:
                assert decode_control_untrusted(encode_control(message)) == message
    assert refused > 1000


@pytest.mark.parametrize("seed", range(4))
def test_forwarding_accounts_for_every_frame_of_any_bytes(seed):
    rng = random.Random(f"forwarding {seed}")
    forwarder = Forwarder(mtu=100)
    ports = {port: PortCounters() for port in (1, 2, 3)}
    for port, counters in ports.items():
        forwarder.add_port(port, counters)
    sent = received = 0
    for step in range(625):
        batch = []
        for _ in range(8):
            frame = mutate(rng, rng.choice(FRAMES))
            flag, front = rng.choice([(FRAME, b""), (SUPERFRAME, bytes(10))])
            batch.append(encode_record(flag, (front + frame)[: rng.choice([None, 8, 60])]))
        out = forwarder.ingress(rng.choice([1, 2, 3]), batch, step / 10)
        sent += len(batch)
        received += sum(map(len, out.values()))
    copies = sum(counters.flood_copies for counters in ports.values())
    drops = sum(counters.snapshot().dropped for counters in ports.values())
    assert sent + copies == received + drops
    assert 0 < drops < sent


def test_header_functions_raise_nothing_for_any_frame():
    rng = random.Random("frame")
    refusals = set()
    for _ in range(5000):
        frame = mutate(rng, rng.choice(FRAMES))
        assert not is_control(frame_record(frame))
        refuse_head(frame[:16])
        if len(frame) >= 14:
            assert 0 <= vlan_of(frame) <= 0xFFF
        try:
            parsed = header(frame)
        except ValueError as error:
            refusals.add(str(error).partition("bytes ")[2])
        else:
            assert 14 <= parsed.payload_offset <= len(frame)
            assert frame[parsed.payload_offset - 2 : parsed.payload_offset] == (
                parsed.ethertype.to_bytes(2, "big")
            )
    assert refusals == {"ends inside its header"}
