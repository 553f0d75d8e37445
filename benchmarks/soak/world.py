"""The whole of it: network, switch, stations, a stranger, and looks at quiet moments.

Every `LOOK_EVERY` seconds all stop talking, whoever is away comes back, and when nothing is under
way the books are checked: every frame that was owed has arrived, once, in order; the switch's
counters are those of the stations; tasks, descriptors and objects are as many as before.

Errors: a wait that takes too long is a breach, too; then the run ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import attrs
import trio
from trio.testing import MockClock

from benchmarks.soak.ledger import Ledger
from benchmarks.soak.order import in_fixed_order
from benchmarks.soak.station import PATIENCE, SERVER, Station
from benchmarks.soak.watch import Leftovers, Log, Stranger, Tap, watched_nonces
from transport import Grant, PrivateKey, open_endpoint
from transport.testing.network import Link, open_network
from vswitch.members.device import MemberDevice
from vswitch.switch.switch import open_switch

__all__ = ["Plan", "Report", "soak"]

LOOK_EVERY = 120.0  # virtual seconds
EPOCH_NS = 1_700_000_000 * 10**9
GROWTH = 1.02  # of the objects, from the second look on
GROWTH_FREE = 2000  # objects: tables of addresses and strangers that fill up, and are bounded
RESIDENT_FREE = 16.0  # MiB that the process may grow from the second look on


@attrs.frozen
class Plan:
    """What to run. Seconds are virtual."""

    seconds: float = 600.0
    seed: int = 1
    members: int = 8
    chat: float = 0.8  # seconds between two frames of a station
    fates: float = 12.0  # seconds between two misfortunes of a station
    queue: int = 64  # frames of a port: short enough that some are refused


@attrs.frozen
class Report:
    """What was seen. `breaches` is empty, or something is wrong."""

    plan: Plan
    counts: dict[str, int]
    breaches: list[str]
    looks: list[Leftovers]
    drops: dict[str, int]


class World:
    """Everything that a run has."""

    def __init__(self, plan: Plan, network, switch, ledger: Ledger) -> None:
        self.seed, self.members = plan.seed, plan.members
        self.network, self.switch, self.ledger = network, switch, ledger
        rng = random.Random(plan.seed)
        self.identity = PrivateKey.from_raw(rng.randbytes(32))
        self.tap = Tap(network, ledger, random.Random(plan.seed + 1))
        self.stations = [Station(self, number + 1) for number in range(plan.members)]
        self.awake = trio.Event()
        self.awake.set()
        self._random = rng
        self._busy = 0

    def open_endpoint(self, sock, key, **options):
        return open_endpoint(
            sock,
            key,
            random_bytes=self.network.random_bytes,
            timestamp_ns=lambda: EPOCH_NS + round(trio.current_time() * 1e9),
            **options,
        )

    # --- The switch's side --------------------------------------------------------------------

    def look_up(self, peer, credential):
        return Grant()

    async def receive(self, channel) -> None:
        (station,) = [each for each in self.stations if each.key.public == channel.peer]
        if station.port is not None:  # who comes back takes his own place
            self.switch.detach(station.port)
        device = MemberDevice(channel, name=f"m{station.number}")
        port = station.port = self.switch.attach(device, name=device.name)
        device.on_blocked = port.flush_soon
        await port.wait_detached()

    # --- Waiting ------------------------------------------------------------------------------

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A look waits until this is over."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(PATIENCE) as patience:
            while not condition():  # noqa: ASYNC110 (polled in no time at all)
                await trio.sleep(0.1)
        if patience.cancelled_caught:
            raise RuntimeError(f"in vain: {what}; {self.unrest()}")

    def quiet(self) -> bool:
        """Nothing is under way to or from anybody."""
        return not (self._busy or self.unrest())

    def unrest(self) -> list[str]:
        """Who waits for what."""
        found = [
            f"{port.name}: {port.statistics().queued_frames} frames, {flying} bytes to it"
            for port in self.switch.ports
            if (flying := port.device._channel.statistics().in_flight)
            or port.statistics().queued_frames
        ]
        return found + [
            f"m{each.number}: {each.in_flight} bytes from it"
            for each in self.stations
            if each.in_flight
        ]

    # --- What happens -------------------------------------------------------------------------

    async def weather(self) -> None:
        """The network's own moods."""
        link, rng = self.network.link, self._random
        while True:
            link.delay, link.jitter = rng.choice([0.001, 0.02, 0.1]), rng.choice([0.0, 0.01, 0.05])
            link.loss = rng.choice([0.0, 0.01, 0.05, 0.15])
            link.duplicate, link.corrupt = rng.choice([0.0, 0.02]), rng.choice([0.0, 0.01])
            await trio.sleep(rng.uniform(5.0, 40.0))

    async def look(self, endpoint, stranger: Stranger, looks: list[Leftovers]) -> None:
        """Wait for a quiet moment, and check the books."""
        self.awake = trio.Event()
        await self.wait_for(lambda: not self._busy, "end of all misfortunes")
        await self.wait_for(self.quiet, "quiet")
        await trio.sleep(1.0)  # acknowledgements, and what came twice
        await self.wait_for(self.quiet, "quiet again")
        ledger = self.ledger
        ledger.check()
        stranger.check()
        statistics = self.switch.statistics()
        totals = statistics.totals
        if totals.rx_frames + totals.flood_copies - totals.tx_frames - totals.dropped:
            ledger.breach("I2", f"the switch's totals: {totals}")
        if len(self.switch.ports) != self.members or endpoint.statistics().sessions != self.members:
            ledger.breach("I5", f"ports {len(self.switch.ports)}, {endpoint.statistics()}")
        await self.wait_for(lambda: endpoint.statistics().half_open == 0, "no half-open handshake")
        looks.append(Leftovers.now())
        _compare(looks, ledger)
        self.awake.set()


def _compare(looks: list[Leftovers], ledger: Ledger) -> None:
    """Against the second look: before it tables fill up, and Python imports."""
    if len(looks) < 3:
        return
    base, now = looks[1], looks[-1]
    if (now.tasks, now.fds) != (base.tasks, base.fds):
        ledger.breach("I5", f"tasks and descriptors: {base}, then {now}")
    if now.objects > GROWTH * base.objects + GROWTH_FREE:
        ledger.breach("I5", f"objects: {base.objects}, then {now.objects}")
    if now.resident > base.resident + RESIDENT_FREE:
        ledger.breach("I5", f"memory: {base.resident:.1f} MiB, then {now.resident:.1f}")


@asynccontextmanager
async def _open_world(plan: Plan, ledger: Ledger):
    async with (
        open_network(plan.seed, Link(delay=0.02)) as network,
        open_switch(max_queued_frames=plan.queue) as switch,
        trio.open_nursery() as nursery,
    ):
        network.log = _NoLog()
        world = World(plan, network, switch, ledger)
        sock = network.socket(*SERVER)
        async with world.open_endpoint(sock, world.identity, authority=world) as endpoint:
            await nursery.start(endpoint.serve, world.receive)
            yield world, endpoint
            nursery.cancel_scope.cancel()


class _NoLog:
    """Where the network writes what nobody reads."""

    def append(self, fate: object) -> None:
        pass


async def _main(plan: Plan, ledger: Ledger, tell: Callable[[str], None]) -> Report:
    looks: list[Leftovers] = []
    drops: dict[str, int] = {}
    async with _open_world(plan, ledger) as (world, endpoint), trio.open_nursery() as nursery:
        stranger = Stranger(world.network, world.tap, SERVER, ledger, random.Random(plan.seed + 2))
        for each in world.stations:
            await each.plug_in(nursery)
        nursery.start_soon(world.weather)
        nursery.start_soon(stranger.run)
        for each in world.stations:
            nursery.start_soon(each.chat, plan.chat)
            nursery.start_soon(each.suffer, nursery, plan.fates)
        begun = trio.current_time()
        while trio.current_time() < begun + plan.seconds:
            await trio.sleep(LOOK_EVERY)
            await world.look(endpoint, stranger, looks)
            spent = (trio.current_time() - begun) / 60
            tell(f"{spent:.0f} min: {ledger.counts['frames received']} frames, {looks[-1]}")
        drops |= {str(k): v for k, v in world.switch.statistics().totals.drops.items()}
        drops |= dict(endpoint.statistics().drops)
        nursery.cancel_scope.cancel()
    return Report(plan, dict(ledger.counts), ledger.breaches, looks, drops)


def soak(plan: Plan, tell: Callable[[str], None] = lambda line: None) -> Report:
    """Run it to its end, in a Trio of its own."""
    ledger = Ledger(plan.seed)
    with watched_nonces(ledger), Log(ledger).listening():
        clock = MockClock(autojump_threshold=0)
        return in_fixed_order(lambda: trio.run(_main, plan, ledger, tell, clock=clock))
