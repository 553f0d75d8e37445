"""A member whose kernel lies, run in a lab host: the real `join`, and superframes made here.

    python hostile_member.py STATE NAME VICTIM < join string

VICTIM is a MAC address. Prints how many records went to it and how many to all, and for how many
frames they claim to stand; then goes on to be a member until it is killed.
"""

import json
import sys
from functools import partial
from pathlib import Path

import trio

from vswitch.config.options import JoinConfig
from vswitch.frames.ethernet import BROADCAST, parse_mac
from vswitch.frames.records import SUPERFRAME, encode_record
from vswitch.frames.virtio import FRAME_AT, UDP, VIRTIO_HEADER, stands_for
from vswitch.joining.member import join
from vswitch.testing import FakeInterface
from vswitch.testing.superframes import Flow, superframe

FIELDS = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")


def changed(record, **fields):
    values = dict(zip(FIELDS, VIRTIO_HEADER.unpack_from(record, 4), strict=True)) | fields
    return record[:4] + VIRTIO_HEADER.pack(*values.values()) + record[FRAME_AT:]


def patched(record, at, new):
    at += FRAME_AT
    return record[:at] + new + record[at + len(new) :]


def hostile(destination):
    """Superframes that a kernel would take, and that would do harm or be mangled there."""
    flow = Flow(destination=destination)
    tcp = superframe(flow, bytes(3000), 1448)
    udp = superframe(Flow(destination=destination, protocol=UDP), bytes(20_000), 1472)
    small = superframe(flow, bytes(100))
    return [
        *(changed(tcp, gso_size=size) for size in (0, 1, 63, 1449, 9000, 65535)),
        *(changed(tcp, gso_type=kind) for kind in (2, 3, 4, 5, 0x7F, 0x85)),
        *(changed(tcp, flags=flags) for flags in (0, 2, 0xFF)),
        *(changed(tcp, csum_start=start) for start in (0, 14, 33, 60_000, 65535)),
        *(changed(tcp, csum_offset=offset) for offset in (0, 6, 65535)),
        *(changed(small, csum_start=start) for start in (0, 80, 65535)),
        changed(udp, gso_type=3),
        changed(udp, gso_size=100),  # 200 segments
        patched(tcp, 16, b"\x00\x20"),  # the length of IP
        patched(tcp, 16, b"\xff\xff"),
        patched(tcp, 20, b"\x20\x00"),  # a fragment
        patched(tcp, 46, b"\xf0"),  # a TCP header of 60 bytes
        patched(tcp, 14, b"\x4f"),  # IP options
        patched(udp, 38, b"\x00\x08"),  # the length of UDP
        patched(tcp, 12, b"\x88\xb5"),  # not IP at all
        encode_record(SUPERFRAME, small[4 : FRAME_AT + 40]),
    ]


async def main(state, name, victim):
    config = JoinConfig(state=Path(state), name=name, invite=sys.stdin.readline().strip())
    interface = FakeInterface(superframes=True)
    # Together less than a port's queue holds, so that none is lost on the way.
    to_victim, to_all = (hostile(mac) for mac in (parse_mac(victim), BROADCAST))
    async with trio.open_nursery() as nursery:
        welcome = await nursery.start(partial(join, config, open_interface=interface.open))
        assert welcome.offload
        interface.feed_records(to_victim + to_all)
        sent = {
            "to_victim": len(to_victim),
            "to_all": len(to_all),
            "stand_for": [sum(map(stands_for, records)) for records in (to_victim, to_all)],
        }
        print(json.dumps(sent), flush=True)


trio.run(main, *sys.argv[1:])
