"""Captures of a switch: what is in them, and that they cost nobody else anything."""

import math
import struct
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.errors import ConfigError, NotFound
from vswitch.features import capture as core
from vswitch.features.manager import FeatureManager
from vswitch.frames.pcapng import totals_at_end
from vswitch.frames.records import frame_of, frame_record
from vswitch.management.handlers import HANDLERS
from vswitch.management.handlers.common import Controlled
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, arp_request, ethernet
from vswitch.testing.superframes import Flow, superframe

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
ALL = b"\xff" * 6


def read(data):
    """Port, direction, frame, length and comment of each packet, by a small reader of its own."""
    at, names, packets, statistics = 0, [], [], {}
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + size - 4]
        if kind == 1:
            names.append(options(body[8:])[2].decode())
        elif kind == 6:
            number, _, _, captured, length = struct.unpack_from("<IIIII", body)
            said = options(body[20 + captured + -captured % 4 :])
            direction = "in" if said[2][0] == 1 else "out"
            packets.append(
                (names[number], direction, body[20 : 20 + captured], length, said[1].decode())
            )
        elif kind == 5:
            said = options(body[12:])
            statistics[names[body[0]]] = tuple(
                int.from_bytes(said[each], "little") for each in (4, 5)
            )
        at += size
    return packets, statistics


def options(data):
    found, at = {}, 0
    while at + 4 <= len(data):
        code, length = struct.unpack_from("<HH", data, at)
        if not code:
            break
        found[code] = data[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return found


class Bench:
    """A switch of three ports, and captures that are read."""

    def __init__(self, switch, nursery):
        self.switch, self.nursery = switch, nursery
        self.devices = [FakeDevice() for _ in range(3)]
        for number, device in enumerate(self.devices, 1):
            switch.attach(device, name=f"pc{number}")
        controlled = Controlled(FeatureManager(switch), None, None, None)
        self.captures = controlled.captures
        self.begin = partial(HANDLERS["capture"], controlled)

    async def start(self, **args):
        data, ended, done = [], trio.Event(), trio.Event()

        async def send(piece):
            await trio.lowlevel.checkpoint()
            data.append(piece)

        stream = await self.begin(args)

        async def run():
            await stream.run(send, ended)
            done.set()

        self.nursery.start_soon(run)
        await wait_all_tasks_blocked()

        async def finish():
            ended.set()
            await done.wait()
            return b"".join(data)

        return finish

    async def feed(self, port, *frames):
        self.devices[port - 1].feed(*frames)
        await wait_all_tasks_blocked()


@pytest.fixture
async def bench():
    async with open_switch() as switch, trio.open_nursery() as nursery:
        yield Bench(switch, nursery)
        nursery.cancel_scope.cancel()


async def test_frames_with_port_direction_and_decision(bench):
    finish = await bench.start(all=True)
    flooded, known = ethernet(ALL, A, 0x0800, b"hello"), ethernet(A, B, 0x0800, b"back")
    refused = ethernet(B, ALL, 0x0800)
    await bench.feed(1, flooded)
    await bench.feed(2, known)
    await bench.feed(3, refused)
    data = await finish()
    packets, statistics = read(data)
    assert packets == [
        ("pc1", "in", flooded, 19, "to pc2, pc3 (ff:ff:ff:ff:ff:ff: a group address)"),
        ("pc2", "out", flooded, 19, "from pc1"),
        ("pc3", "out", flooded, 19, "from pc1"),
        ("pc2", "in", known, 18, "to pc1 (02:00:00:00:00:0a: known)"),
        ("pc1", "out", known, 18, "from pc2"),
        ("pc3", "in", refused, 14, "dropped: source_multicast (refused for what its header says)"),
    ]
    assert statistics == {"pc1": (2, 0), "pc2": (2, 0), "pc3": (2, 0)}
    assert totals_at_end(data) == (6, 0)
    assert bench.switch._observers == ()


async def test_ports_filter_direction_snap_length_count_and_drops(bench):
    arp = arp_request(A, "10.0.0.1", "10.0.0.2")
    some = await bench.start(ports=["pc1"], filter="arp", direction="in", snaplen=20, count=2)
    drops = await bench.start(all=True, drops=True)
    await bench.feed(1, ethernet(ALL, A, 0x0800), arp, arp, arp)
    await bench.feed(2, ethernet(B, B, 0x0800), ethernet(A, bytes(6), 0x0800))
    packets, statistics = read(await some())
    assert [(port, direction, frame, size) for port, direction, frame, size, _ in packets] == [
        ("pc1", "in", arp[:20], len(arp))
    ] * 2
    assert statistics == {"pc1": (2, 0)}
    packets, _ = read(await drops())
    assert [comment.split(" (")[0] for *_, comment in packets] == ["dropped: source_zero"]


async def test_it_ends_after_its_time_and_by_its_count(bench, autojump_clock):
    for args in ({"seconds": 30.0}, {"count": 1}):
        finish = await bench.start(all=True, **args)
        await bench.feed(1, ethernet(ALL, A, 0x0800))
        await trio.sleep(31)
        assert bench.switch._observers == ()
        packets, _ = read(await finish())
        assert packets


async def test_ports_that_come_later(bench):
    finish = await bench.start(all=True)
    device = FakeDevice()
    port = bench.switch.attach(device, name="late")
    device.feed(ethernet(ALL, A, 0x0800))
    await wait_all_tasks_blocked()
    bench.switch.detach(port)
    another = FakeDevice()
    bench.switch.attach(another, name="later")
    another.feed(ethernet(ALL, B, 0x0800))
    await wait_all_tasks_blocked()
    packets, _ = read(await finish())
    assert [port for port, direction, *_ in packets if direction == "in"] == ["late", "later"]


async def test_a_reader_that_is_too_slow_misses_frames_and_is_told(bench, monkeypatch):
    monkeypatch.setitem(core.Capture.__init__.__kwdefaults__, "max_items", 10)
    finish = await bench.start(ports=["pc1"])
    frames = [ethernet(ALL, A, 0x0800, bytes([n])) for n in range(60)]
    await bench.feed(1, *frames)
    data = await finish()
    packets, statistics = read(data)
    assert statistics == {"pc1": (60, 50)}
    assert totals_at_end(data) == (60, 50)
    assert [frame for _, _, frame, _, _ in packets] == frames[:10]
    assert len(bench.devices[1].take()) == 60


async def test_a_fault_in_a_capture_ends_it_and_frames_go_on(bench, monkeypatch, caplog):
    finish = await bench.start(all=True)
    monkeypatch.setattr(bench.switch, "explain", None)
    await bench.feed(1, ethernet(ALL, A, 0x0800))
    assert len(bench.devices[1].take()) == 1
    assert bench.switch._observers == ()
    assert "capture-failed" in caplog.text
    await finish()


async def test_text(bench):
    finish = await bench.start(ports=["pc1"], format="text")
    await bench.feed(1, arp_request(A, "10.0.0.1", "10.0.0.2"))
    line, last = (await finish()).decode().splitlines()
    assert " in  pc1 02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp 10.0.0.1 > 10.0.0.2" in line
    assert line.endswith("to pc2, pc3 (ff:ff:ff:ff:ff:ff: a group address)")
    assert last == "#1 0"


async def test_superframes_are_kept_whole_with_a_note(bench):
    device = FakeDevice(superframes=True)
    bench.switch.attach(device, name="big")
    finish = await bench.start(ports=["big"], snaplen=100)
    record = superframe(Flow(), bytes(5000), 1400)
    bench.switch.ingress(bench.switch.ports[-1], [record])
    packets, _ = read(await finish())
    ((_, _, frame, length, comment),) = packets
    assert frame == frame_of(record)[:100]
    assert length == len(frame_of(record))
    assert comment.startswith("superframe of 4 frames, as it travels; to ")


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        ({}, ConfigError),
        ({"ports": ["pc9"]}, NotFound),
        ({"ports": "pc1"}, ConfigError),
        ({"all": True, "filter": "frobnicate"}, ConfigError),
        ({"all": True, "direction": "up"}, ConfigError),
        ({"all": True, "snaplen": 3}, ConfigError),
        ({"all": True, "count": True}, ConfigError),
        ({"all": True, "seconds": "soon"}, ConfigError),
        ({"all": True, "seconds": -1.0}, ConfigError),
        ({"all": True, "seconds": math.nan}, ConfigError),
    ],
)
async def test_a_wrong_request_is_refused(bench, args, kind):
    with pytest.raises(kind):
        await bench.begin(args)


async def test_more_frames_than_it_may_look_at_are_missed_unseen(bench, monkeypatch):
    monkeypatch.setattr(core, "BURST", 20)
    finish = await bench.start(ports=["pc1"], filter="arp", direction="in")
    bench.captures.running[0].kept._looks = 20.0
    await bench.feed(1, *[arp_request(A, "10.0.0.1", "10.0.0.2")] * 50)
    packets, statistics = read(await finish())
    seen, missed = statistics["pc1"]
    assert seen == 50
    assert len(packets) == 50 - missed
    assert 20 <= len(packets) <= 40
    assert len(bench.devices[1].take()) == 50


async def test_decisions_are_the_same_for_alike_frames_and_for_no_others(bench):
    finish = await bench.start(ports=["pc1"], direction="in")
    long = ethernet(ALL, A, 0x0800, bytes(1600))
    await bench.feed(1, *[ethernet(ALL, A, 0x0800, bytes(20))] * 2, long, ethernet(B, A, 0x0800))
    packets, _ = read(await finish())
    assert [comment.split(" (")[0] for *_, comment in packets] == [
        "to pc2, pc3",
        "to pc2, pc3",
        "dropped: oversize",
        "to pc2, pc3",
    ]
    assert "not known, flooded" in packets[-1][-1]


async def test_frames_of_the_switch_itself(bench):
    finish = await bench.start(all=True, direction="out")
    await bench.feed(1, ethernet(ALL, A, 0x0800))
    await trio.sleep(0.001)
    bench.switch.originate(frame_record(ethernet(ALL, B, 0x0800)), [3])
    packets, _ = read(await finish())
    assert [(port, comment) for port, *_, comment in packets] == [
        ("pc2", "from pc1"),
        ("pc3", "from pc1"),
        ("pc3", "from the switch"),
    ]


async def test_what_fills_is_taken_at_once(bench, monkeypatch):
    monkeypatch.setattr("vswitch.management.handlers.capture.CAPTURE_PAUSE", 3600.0)
    monkeypatch.setitem(core.Capture.__init__.__kwdefaults__, "max_items", 10)
    finish = await bench.start(ports=["pc1"])
    for number in range(20):
        await bench.feed(1, ethernet(ALL, A, 0x0800, bytes([number])))
    assert len(bench.captures.running[0].kept.take()) < 5
    _, statistics = read(await finish())
    assert statistics == {"pc1": (20, 0)}
