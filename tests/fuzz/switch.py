"""A switch with all features between several ports, of which some mean harm.

An input is a list of deeds: batches of any records, also none, at any port; settings of ports and
switch changed; impairments; features ticked far ahead; time; a port that takes nothing; ports that
come and go. Invariants: nothing is raised and no port goes down; every frame is accounted for; no
superframe on a plain port; no tag on the access port whose settings stay as they are.
"""

import random
from collections.abc import Iterator

import trio
from attrs import frozen
from trio.testing import MockClock

from tests.fuzz.frames import any_record
from tests.fuzz.reader import Reader
from vswitch.errors import ConfigError
from vswitch.features.impair import Impairments, Orders
from vswitch.features.manager import FeatureManager
from vswitch.features.rule_set import read_rules
from vswitch.features.settings import ANY_PORT, PortSettings, Settings, SwitchSettings
from vswitch.frames.ethernet import VLAN_TAGS
from vswitch.frames.records import SUPERFRAME
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice

MOST_DEEDS = 120
BEGUN = {
    "p1": {"vlan": 10, "mac_limit": 3, "rate_in": "1M", "frames_in": "500"},
    "p2": {"trunk": "10,20", "native": 10, "isolated": True},
    "p3": {"trunk": "all", "rate_out": "2M"},
    "p4": {"vlan": 20, "sticky": True, "trusted": True},
    "p5": {"vlan": 10, "addresses": ["10.0.0.5"]},  # stays so
    "p6": {"mirror": ["p1", "p2"]},
}
PORTS = tuple(BEGUN)
PORT_CHANGES = (
    ("vlan", "10"), ("vlan", "none"), ("trunk", "10,20"), ("trunk", "none"), ("native", "20"),
    ("isolated", "on"), ("isolated", "off"), ("trusted", "on"), ("rate_in", "1M"),
    ("rate_out", "100k"), ("frames_in", "100"), ("frames_out", "10"), ("source_guard", "on"),
    ("arp_check", "on"), ("dhcp_guard", "on"), ("ra_guard", "on"), ("bpdu_guard", "on"),
    ("loop_guard", "off"), ("storm_broadcast", "10"), ("storm_unknown", "off"), ("mac_limit", "1"),
    ("sticky", "false"), ("macs", "02:00:00:00:00:01"), ("mirror", "p3"), ("mirror", "none"),
    ("static_macs", "02:00:00:00:00:02@10"), ("addresses", "10.0.0.1,fd00::/8"), ("rate_in", "off"),
)  # fmt: skip
SWITCH_CHANGES = (
    ("guard", "on"), ("guard", "off"), ("flood_limit", "100"), ("vlans", "true"),
    ("multicast_snooping", "false"), ("multicast_snooping", "true"),
)  # fmt: skip
RULES = tuple(
    read_rules({"list": lines}, "rules")
    for lines in (
        [],
        ["deny p1 -> any tcp", "deny any -> p3 icmp"],
        ["allow p2 -> p1", "deny any -> p1", "deny p6 -> any udp 53"],
    )
)
DEEDS = (
    "batch", "batch", "batch", "batch", "again", "port", "switch", "impair", "unimpair", "tick",
    "time", "stop", "replug", "explain", "rules",
)  # fmt: skip


_of_ports: dict[str, PortSettings] = {}


@frozen(kw_only=True)
class _Settings(Settings):
    """Remembers what follows from what: making a converter for each port takes most of a run."""

    def of_port(self, name: str, group: str = "") -> PortSettings:
        said = [sorted(self.ports.get(key, {}).items()) for key in (ANY_PORT, group, name)]
        key = repr(said)
        if key not in _of_ports:
            _of_ports[key] = super().of_port(name, group)
        return _of_ports[key]


class _Attack:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.last: list[bytes] = []

    async def run(self) -> None:
        on = SwitchSettings(multicast_snooping=self.reader.chance(0.5))
        async with open_switch() as switch, trio.open_nursery() as nursery:
            self.switch = switch
            self.managed = FeatureManager(switch, _Settings(switch=on, ports=BEGUN))
            nursery.start_soon(self.managed.run)
            self.devices = {name: self._device(name) for name in PORTS}
            self.ports = {
                name: switch.attach(device, name=name) for name, device in self.devices.items()
            }
            for _ in range(MOST_DEEDS):
                if not self.reader:
                    break
                await self._deed(self.reader.choice(DEEDS))
                self._check()
            await trio.sleep(2.0)  # what was held and what ticks
            self._check()
            nursery.cancel_scope.cancel()

    def _device(self, name: str) -> FakeDevice:
        return FakeDevice(name, superframes=name in ("p2", "p4"))

    async def _deed(self, deed: str) -> None:
        reader, switch = self.reader, self.switch
        name = reader.choice(PORTS)
        port = self.ports[name]
        match deed:
            case "batch":
                self.last = [any_record(reader) for _ in range(reader.choice((1, 1, 2, 4, 0)))]
                switch.ingress(port, self.last)
            case "again":
                again = self.last * reader.below(200)
                switch.ingress(port, [bytes(bytearray(record)) for record in again])
            case "port":
                key, value = reader.choice(PORT_CHANGES)
                if name != "p5":
                    self._change(lambda: self.managed.change_port(name, {key: value}))
            case "switch":
                key, value = reader.choice(SWITCH_CHANGES)
                self._change(lambda: self.managed.change_switch({key: value}))
            case "impair":
                orders = Orders(
                    delay=reader.choice((0.0, 0.06, 1.0)),
                    jitter=reader.choice((0.0, 0.01)),
                    loss=reader.choice((0.0, 0.5, 1.0)),
                    duplicate=reader.choice((0.0, 0.5)),
                    rate=reader.choice((None, 1e5, 1e9)),
                    direction=reader.choice(("both", "in", "out")),
                    seconds=reader.choice((None, 1.0)),
                )
                self.managed.feature(Impairments).begin(port, orders)
                self.managed.change_port(name, {})
            case "unimpair":
                self.managed.feature(Impairments).end(port)
            case "tick":
                ahead = reader.choice((0.0, 1.0, 30.0, 400.0))
                for feature in self.managed.features:
                    feature.tick(trio.current_time() + ahead)
            case "time":
                await trio.sleep(reader.choice((0.001, 0.1, 1.0, 11.0)))
            case "stop":
                self.devices[name].capacity = reader.choice((0, 1, None))
                self.devices[name].take()
            case "replug":
                switch.detach(port)
                self.devices[name] = self._device(name)
                self.ports[name] = switch.attach(self.devices[name], name=name)
            case "rules":
                self.managed.change_rules(reader.choice(RULES))
            case "explain":
                switch.explain(port, any_record(reader))

    def _change(self, change) -> None:
        try:
            change()
        except ConfigError:
            pass  # settings that do not fit together

    def _check(self) -> None:
        for name, port in self.ports.items():
            assert port.attached, f"{name} has gone down"
        for name, device in self.devices.items():
            for record in device.written:
                assert device.superframes or record[:2] != SUPERFRAME.to_bytes(2, "big")
                assert name != "p5" or record[16:18] not in VLAN_TAGS
            if device.capacity is None:
                device.take()
        now = self.switch.statistics()
        ended = now.totals.tx_frames + now.totals.dropped + now.queued_frames + now.held_frames
        assert now.totals.rx_frames + now.totals.flood_copies == ended


def run(data: bytes) -> None:
    trio.run(_Attack(Reader(data)).run, clock=MockClock(autojump_threshold=0.0))


def seeds() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    yield "arp", b"\0" + _batch(0, b"\1")
    for number in range(6):
        yield f"any-{number}", bytes((255 * (number & 1),)) + chance.randbytes(200)
    for number in range(4):
        batch = b"".join(bytes((0, each)) + chance.randbytes(24) for each in range(5))
        yield f"batches-{number}", bytes((255,)) + batch
    guards = ("arp_check", "dhcp_guard")
    said = b"".join(_deed("port", 0, PORT_CHANGES.index((guard, "on"))) for guard in guards)
    kinds = ((0, b"\1"), (1, b"\0"), (4, b"\0\x80"))
    guarded = b"".join(_batch(0, content, kind=kind) for kind, content in kinds)
    yield "guards", b"\0" + said + guarded + _deed("switch", 0, 0) + guarded
    flood = _batch(0, b"\xff" + (1400).to_bytes(2, "little"), kind=1) + _deed("again", 0, 199)
    empty = _deed("batch", 0, 4)
    report = _deed("batch", 2, 0, 2, 1, 4, 0, 0, 5, 4, 3, 4, 0, 0)  # in VLAN 7
    twice = _deed("impair", 2, 0, 0, 0, 1, 0, 1, 0)
    yield "reports-twice", b"\xff" + twice + report + _deed("again", 2, 199)
    yield "finding-21-empty-batch", b"\0" + flood + _deed("time", 0, 1) + empty


def _deed(deed: str, *said: int) -> bytes:
    return bytes((DEEDS.index(deed), *said))


def _batch(port: int, content: bytes, *, kind: int = 0) -> bytes:
    """Of one frame, as `any_record` reads it: to all, of a kind, untagged and unharmed."""
    return _deed("batch", port, 0, 2, 1, 4, 0, 0, kind) + content + bytes(2)
