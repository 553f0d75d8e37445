# Invariant: whatever the bytes and however they are cut, the readers of foreign formats raise
# BadRecord or nothing, give frames of possible length alone, and hold little back; and how a stream
# is cut changes nothing as long as it is in step.

import os
import random
import struct
from collections import Counter

import pytest

from vswitch.errors import BadRecord, ConfigError
from vswitch.foreign.formats import (
    FramedStream,
    QemuStream,
    record_untrusted,
    vxlan_header,
    without_vxlan_untrusted,
)
from vswitch.foreign.kinds import load_foreign
from vswitch.frames.headers import autoconfiguration_untrusted
from vswitch.frames.records import frame_record
from vswitch.testing import arp_request, icmp_echo

INPUTS = int(os.environ.get("VSWITCH_FUZZ_INPUTS", "300"))
A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
FRAMES = [
    arp_request(A, "10.0.0.1", "10.0.0.2"),
    icmp_echo(A, "10.0.0.1", B, "10.0.0.2", data=bytes(56)),
    icmp_echo(A, "10.0.0.1", B, "10.0.0.2", data=b"\xbc\xbc\x00\x40" * 360),
]


def pieces(chance, data):
    at = 0
    while at < len(data):
        size = chance.choice([1, 2, 5, 60, 1500, 9000])
        yield data[at : at + size]
        at += size


def encoded(codec, frame):
    return b"".join(codec.encode([frame_record(frame)]))


@pytest.mark.parametrize("codec", [FramedStream, QemuStream])
def test_damaged_streams_give_possible_frames_or_end(codec):
    chance = random.Random(7)
    for _ in range(INPUTS):
        parts = []
        for _ in range(chance.randrange(1, 12)):
            part = bytearray(encoded(codec, chance.choice(FRAMES)))
            match chance.randrange(5):
                case 0:
                    part[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
                case 1:
                    del part[chance.randrange(len(part)) :]
                case 2:
                    part = bytearray(chance.randbytes(chance.randrange(200)))
            parts.append(bytes(part))
        reader = codec(1500, Counter())
        try:
            for piece in pieces(chance, b"".join(parts)):
                for record in reader.feed_untrusted(piece):
                    assert record[:2] == b"\xbc\xbc"
                    assert struct.unpack(">H", record[2:4])[0] == len(record) - 4
                    assert 14 <= len(record) - 4 <= 1522
                assert reader.held <= 2 * 1526
        except BadRecord:
            assert codec is QemuStream


@pytest.mark.parametrize("codec", [FramedStream, QemuStream])
def test_a_stream_in_step_may_be_cut_anywhere(codec):
    chance = random.Random(8)
    for _ in range(INPUTS // 10):
        frames = [chance.choice(FRAMES) for _ in range(20)]
        dropped = Counter()
        reader, found = codec(1500, dropped), []
        for piece in pieces(chance, b"".join(encoded(codec, frame) for frame in frames)):
            found += reader.feed_untrusted(piece)
        assert [record[4:] for record in found] == frames
        assert not dropped


def test_random_datagrams_are_frames_by_their_length_alone():
    chance = random.Random(9)
    for _ in range(INPUTS):
        data = chance.randbytes(chance.randrange(1600))
        record = record_untrusted(data, 1522, Counter())
        assert (record is not None) == (14 <= len(data) <= 1522)
        found = without_vxlan_untrusted(data)
        assert found is None or (found[0] < 1 << 24 and found[1] == data[8:])
        if record is not None:
            autoconfiguration_untrusted(record)
        vni = chance.randrange(1 << 24)
        assert without_vxlan_untrusted(vxlan_header(vni) + data) == (vni, data)


def test_damaged_files_give_whole_settings_or_a_config_error(tmp_path):
    chance = random.Random(10)
    valid = (
        b'[[foreign]]\nkind = "udp"\nlisten = "0.0.0.0:5555"\nmax_ports = 64\nname = "lab"\n'
        b'idle = 300\n[[foreign]]\nkind = "vxlan"\nremote = "h:1"\nvni = 42\n'
        b'[[foreign]]\nkind = "qemu-stream"\nlisten = "unix:/x"\n'
    )
    path = tmp_path / "f.toml"
    for _ in range(INPUTS):
        data = bytearray(valid)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        message = ""
        try:
            found = load_foreign(path)
        except ConfigError as error:
            message = str(error)
        if message:
            assert str(path) in message
        else:
            assert all(each.kind and each.name and each.listen for each in found)
