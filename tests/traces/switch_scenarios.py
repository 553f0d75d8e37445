"""A switch with all its features on, and seeded frames of every kind on its ports.

Batches go in by `Switch.ingress`, one after the other, and after each the time moves on a little
and tasks have their turn, at moments where no two of them are due together: so nothing depends on
the order in which Trio runs them.
"""

import random
from collections.abc import Awaitable, Callable

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.traces.trace import Trace
from vswitch.features.impair import Impairments, Orders
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings, SwitchSettings
from vswitch.frames.ethernet import BROADCAST
from vswitch.frames.records import frame_record
from vswitch.switch.port import Bound, Port
from vswitch.switch.switch import Switch, open_switch
from vswitch.testing import FakeDevice, arp_reply, arp_request, ethernet, icmp_echo, vlan_tagged
from vswitch.testing.groups import igmp, igmp3_report, mld, mld2_report, multicast_data
from vswitch.testing.superframes import random_flow, superframe

STEP = 0.03125  # seconds; a power of two, so that the sum is exact
BPDU = bytes.fromhex("0180c2000000")
# As much of it as a guard looks at: IPv4 without its checksum, UDP from port 67 to 68.
DHCP_OFFER = bytes.fromhex("4500001c000000004011000000000000ffffffff0043004400080000")


class Bench:
    """A switch and what its ports got."""

    def __init__(
        self, trace: Trace, seed: int, switch: Switch, managed: FeatureManager, clock
    ) -> None:
        self.trace, self.switch, self.managed, self.clock = trace, switch, managed, clock
        self.rng = random.Random(seed)
        self.devices: dict[str, FakeDevice] = {}
        self.last: dict[str, list[bytes]] = {}  # what each port got in the last step
        self._events = 0

    def attach(self, name: str, *, bound: Bound | None = None, bridge=False, **options) -> Port:
        device = self.devices[name] = FakeDevice(name, **options)
        return self.switch.attach(device, name=name, bound=bound, bridge=bridge)

    def mac(self, number: int) -> bytes:
        return bytes([2, 0, 0, 0, 0, number])

    def frame(self, source: int) -> bytes:
        """What a station says, honest or not."""
        rng, mac = self.rng, self.mac(source)
        other = rng.randrange(1, 10)
        ours, theirs = f"10.0.0.{source}", f"10.0.0.{other}"
        group = rng.choice(["239.1.2.3", "239.1.2.4", "224.0.0.251"])
        group6 = rng.choice(["ff05::1:3", "ff02::fb"])
        frames: list[Callable[[], bytes]] = [
            lambda: icmp_echo(mac, ours, self.mac(other), theirs, data=bytes(rng.randrange(1400))),
            lambda: icmp_echo(mac, ours, self.mac(other), theirs, data=bytes(56)),
            lambda: ethernet(self.mac(other), mac, 0x88B5, rng.randbytes(rng.randrange(200))),
            lambda: arp_request(mac, ours, theirs),
            lambda: arp_request(mac, theirs, ours),  # of another one's address
            lambda: arp_reply(mac, ours, self.mac(other), theirs),
            lambda: ethernet(BROADCAST, mac, 0x88B5, b"to all"),
            lambda: ethernet(self.mac(100 + other), mac, 0x88B5, b"to nobody"),
            lambda: multicast_data(mac, group),
            lambda: multicast_data(mac, group6),
            lambda: igmp(mac, 0x16, group),
            lambda: igmp(mac, 0x17, group),
            lambda: igmp3_report(mac, [(4, group, [])]),
            lambda: mld(mac, 131, group6),
            lambda: mld2_report(mac, [(4, group6, [])]),
            lambda: ethernet(self.mac(other), mac, 0x0800, bytes(1600)),  # too long
            lambda: ethernet(self.mac(other), rng.choice([b"\1" * 6, bytes(6)]), 0x0800, b"x"),
            lambda: ethernet(BPDU, mac, 0x0027, bytes(40)),
            lambda: ethernet(BROADCAST, mac, 0x0800, DHCP_OFFER),
            lambda: b"\2" * rng.randrange(14),
        ]
        frame = rng.choice(frames)()
        if rng.random() < 0.2:
            frame = vlan_tagged(frame, rng.choice([10, 20, 30]), priority=rng.randrange(8))
        return frame

    def superframe(self, source: int) -> bytes:
        """TCP or UDP in one piece, as a kernel hands it over; now and then a broken one."""
        rng = self.rng
        flow = attrs.evolve(
            random_flow(rng), source=self.mac(source), destination=self.mac(rng.randrange(1, 10))
        )
        payload = rng.randbytes(rng.randrange(1, 8000))
        record = superframe(flow, payload, rng.choice([0, 536, 1200, 1400]))
        if rng.random() < 0.1:
            at = rng.randrange(4, 60)
            record = record[:at] + rng.randbytes(1) + record[at + 1 :]
        return record

    def batch(self, number: int, *, superframes: float = 0.0) -> list[bytes]:
        """Records of the stations behind a port, of a stray one sometimes, or of many at once."""
        rng = self.rng
        size = rng.choice([1, 1, 2, 5, 20])
        source = number if rng.random() < 0.9 else rng.randrange(1, 10)
        if rng.random() < 0.1:  # much of the same
            return [frame_record(self.frame(source))] * rng.randrange(10, 200)
        return [
            self.superframe(source)
            if rng.random() < superframes
            else frame_record(self.frame(source))
            for _ in range(size)
        ]

    async def ingress(self, port: Port, records: list[bytes]) -> None:
        """A batch comes in; write down the forecast, who got what, and the counters."""
        if not port.attached:
            return
        trace = self.trace
        trace.add(trio.current_time(), "in", port.name, len(records), b"".join(records))
        decision = self.switch.explain(port, records[0])
        trace.add("forecast", decision)
        self.switch.ingress(port, records)
        await self.elapse(STEP)
        trace.add("counters", port.name, port.counters.snapshot(), port.blocked)

    async def elapse(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            await wait_all_tasks_blocked()
            self.clock.jump(STEP)
            await wait_all_tasks_blocked()
            self.collect()

    def collect(self) -> None:
        """What the ports have got, and what the switch has noticed."""
        for name, device in self.devices.items():
            for record in device.written:
                self.trace.add(trio.current_time(), "out", name, len(record), record)
            self.last[name] = device.written.copy()
            device.take()
        for event in self.switch.events.since(self._events):
            self._events = event.number
            self.trace.add("event", event)

    def conclude(self) -> None:
        """Everything that is counted, and where the stations are."""
        statistics = self.switch.statistics()
        self.trace.add(statistics)
        for entry in self.switch.fdb_entries():
            self.trace.add(entry)


def run(trace: Trace, seed: int, story: Callable[[Bench], Awaitable[None]], **settings) -> None:
    """Play a story on a switch of its own."""
    clock = MockClock()

    async def main() -> None:
        async with open_switch(max_queued_frames=200) as switch, trio.open_nursery() as nursery:
            managed = FeatureManager(switch, Settings(**settings))
            bench = Bench(trace, seed, switch, managed, clock)
            await bench.elapse(10 * STEP)  # ticks are not due when stations age
            nursery.start_soon(managed.run)
            await bench.elapse(STEP)
            await story(bench)
            bench.conclude()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)


async def converse(bench: Bench, ports: list[Port], turns: int, superframes: float = 0.0) -> None:
    for _ in range(turns):
        port = bench.rng.choice(ports)
        await bench.ingress(port, bench.batch(port.number, superframes=superframes))


def plain_switch(trace: Trace) -> None:
    """Learning, floods, and devices that take less than they get; a port goes, another comes."""

    async def story(bench: Bench) -> None:
        ports = [bench.attach(f"p{number}") for number in range(1, 5)]
        ports.append(bench.attach("slow", capacity=3))
        ports.append(bench.attach("small", mtu=1280))
        await converse(bench, ports, 250)
        everybody = frame_record(ethernet(BROADCAST, bench.mac(1), 0x88B5, bytes(100)))
        bench.switch.ingress(ports[0], [everybody] * 50)
        bench.switch.detach(ports.pop(4))  # with a queue
        await converse(bench, ports, 100)
        ports.append(bench.attach("new"))
        bench.switch.flush_fdb(port=ports[0])
        await converse(bench, ports, 150)
        await bench.elapse(310.0)  # stations age
        await converse(bench, ports, 50)

    run(trace, 1, story, ports={"*": {"loop_guard": False}})


def superframes(trace: Trace) -> None:
    """Cut for some devices, passed to others."""

    async def story(bench: Bench) -> None:
        ports = [bench.attach(f"p{number}", superframes=number < 3) for number in range(1, 6)]
        ports.append(bench.attach("small", mtu=1280))
        await converse(bench, ports, 300, superframes=0.5)

    run(trace, 2, story)


def guards(trace: Trace) -> None:
    """All guards, isolation, limits of stations, sticky and static addresses."""

    async def story(bench: Bench) -> None:
        ports = [
            bench.attach(f"p{n}", bound=Bound(bench.mac(n), f"10.0.0.{n}")) for n in range(1, 5)
        ]
        ports += [bench.attach(name) for name in ("router", "sticky", "few")]
        ports.append(bench.attach("lan", bridge=True))
        await converse(bench, ports, 300)
        bench.managed.change_port("p2", {"isolated": "no", "static_macs": "02:00:00:00:00:09"})
        bench.managed.change_switch({"guard": "no"})
        await converse(bench, ports, 200)
        await bench.elapse(60.0)
        bench.managed.change_switch({"guard": "yes"})
        await converse(bench, ports, 100)

    ports = {
        "*": {"bpdu_guard": False},  # else most ports would be shut most of the time
        "p4": {"bpdu_guard": True},
        "router": {"trusted": True},
        "p1": {"isolated": True},
        "p2": {"isolated": True},
        "sticky": {"sticky": True, "mac_limit": 2, "source_guard": False},
        "few": {"mac_limit": 1, "source_guard": False},
    }
    run(trace, 3, story, switch=SwitchSettings(guard=True), ports=ports)


def vlans_and_snooping(trace: Trace) -> None:
    """Access ports, trunks with and without a native VLAN, groups in each VLAN, a mirror."""

    async def story(bench: Bench) -> None:
        names = ("a1", "a2", "b1", "b2", "trunk", "all", "mon")
        ports = [bench.attach(name, superframes=name == "all") for name in names]
        await bench.elapse(5.0)
        await bench.ingress(ports[5], [frame_record(igmp(bench.mac(6), 0x11, "0.0.0.0", code=100))])
        await converse(bench, ports, 350, superframes=0.1)
        bench.managed.change_port("b2", {"vlan": "10"})
        bench.managed.change_port("mon", {"mirror": "none"})
        await bench.elapse(30.0)
        await converse(bench, ports, 200)
        bench.managed.change_switch({"multicast_snooping": "no"})
        await converse(bench, ports, 50)

    ports = {
        "a1": {"vlan": 10},
        "a2": {"vlan": 10},
        "b1": {"vlan": 20},
        "b2": {"vlan": 20},
        "trunk": {"trunk": "10,20", "native": 1},
        "all": {"trunk": "all"},
        "mon": {"mirror": "a1,trunk"},
    }
    run(trace, 4, story, switch=SwitchSettings(multicast_snooping=True), ports=ports)


def storms_and_loops(trace: Trace) -> None:
    """Rates, storms, floods beyond the limit; then two ports are one loop, and are let back."""

    async def story(bench: Bench) -> None:
        ports = [bench.attach(f"p{number}") for number in range(1, 7)]
        await converse(bench, ports, 200)
        everybody = frame_record(ethernet(BROADCAST, bench.mac(1), 0x88B5, bytes(100)))
        for _ in range(40):
            await bench.ingress(ports[0], [everybody] * 300)
        for _ in range(200):  # what leaves p5 comes in on p6, and the other way round
            await bench.ingress(ports[bench.rng.randrange(4)], [everybody])
            for name, port in (("p5", ports[5]), ("p6", ports[4])):
                looped = bench.last[name][:20]
                if looped:
                    await bench.ingress(port, looped)
        await bench.elapse(15.0)
        await converse(bench, ports, 100)

    ports = {
        "*": {"storm_broadcast": 500, "storm_multicast": 50, "storm_unknown": 50},
        "p2": {"rate_in": "100k", "frames_in": 20},
        "p3": {"rate_out": "200k", "frames_out": 50},
    }
    run(trace, 5, story, switch=SwitchSettings(flood_limit=3000), ports=ports)


def impaired(trace: Trace) -> None:
    """A port with a wire that is slow, loses, doubles and reorders."""

    async def story(bench: Bench) -> None:
        ports = [bench.attach(f"p{number}") for number in range(1, 5)]
        orders = Orders(
            delay=0.2, jitter=0.1, loss=0.1, duplicate=0.05, reorder=0.05, rate=1e6, seed=7
        )
        bench.managed.feature(Impairments).begin(ports[1], orders)
        bench.managed.change_port("p2", {})
        await converse(bench, ports, 150)
        bench.managed.feature(Impairments).end(ports[1])
        await converse(bench, ports, 30)

    run(trace, 6, story, ports={"*": {"loop_guard": False}})


SCENARIOS: tuple[Callable[[Trace], None], ...] = (
    plain_switch,
    superframes,
    guards,
    vlans_and_snooping,
    storms_and_loops,
    impaired,
)
