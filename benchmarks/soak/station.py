"""A station: talks to the others, and has a bad life; everything about it is written down."""

from __future__ import annotations

import random

import trio

from benchmarks.soak.ledger import ALL, NOBODY, RESERVED, Ledger, Life
from benchmarks.soak.watch import Tap
from transport import Peer, PrivateKey
from vswitch.frames.records import frame_of, frame_record
from vswitch.members.device import MemberDevice

__all__ = ["Station"]

SIZES, SIZE_WEIGHTS = (0, 40, 500, 1400), (2, 3, 2, 2)
SERVER = ("198.51.100.1", 7450)
LONGEST_OUTAGE = 55.0  # s: with what is lost around it, still below the minute that ends a session
STALL = 15.0  # s, at most, that it does not read
PATIENCE = 200.0  # virtual seconds for what must happen
FATES = {"rebind": 6, "outage": 2, "renew": 2, "stall": 2, "burst": 3, "leave": 1, "die": 2}


class Station:
    """One member with its own endpoint; `number` counts from 1."""

    def __init__(self, world, number: int) -> None:
        self.world, self.number = world, number
        self.random = random.Random(f"{world.seed}/{number}")
        self.key = PrivateKey.from_raw(self.random.randbytes(32))
        self.port = None  # the newest of it at the switch
        self.life: Life | None = None
        self.device: MemberDevice | None = None
        self._socket = None
        self._scope: trio.CancelScope | None = None
        self._reading = trio.Event()
        self._reading.set()
        self._sending = trio.Lock()

    @property
    def address(self) -> str:
        return f"10.0.{self.number >> 8}.{self.number & 255}"

    @property
    def ledger(self) -> Ledger:
        return self.world.ledger

    @property
    def tap(self) -> Tap:
        return self.world.tap

    @property
    def in_flight(self) -> int:
        """Bytes that its session has not been acknowledged."""
        return 0 if self.device is None else self.device._channel.statistics().in_flight

    # --- Coming and going ---------------------------------------------------------------------

    async def plug_in(self, nursery: trio.Nursery) -> None:
        """Connect, and say hello: then the switch knows it."""
        life = self.ledger.begin(self.number)
        self._scope = await nursery.start(self._live, life)
        self.life = life
        await self.send(ALL, 0)
        await self.world.wait_for(lambda: not self.in_flight, f"hello of station {self.number}")
        life.known = trio.current_time()

    async def _live(self, life: Life, *, task_status) -> None:
        world, before = self.world, self.port
        with trio.CancelScope() as scope:
            sock = world.network.socket(self.address)
            async with world.open_endpoint(sock, self.key) as endpoint:
                device = await self._connect(endpoint, before)
                self.ledger.up(life, self.port.counters)
                self.device, self._socket = device, sock
                task_status.started(scope)
                try:
                    await self._read(life, device)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    if self.device is device:
                        self.ledger.breach("I8", f"station {self.number} lost its session: {error}")

    async def _connect(self, endpoint, before) -> MemberDevice:
        """Until the switch has a port for it. An answer that is not confirmed in time, because the
        path loses what would, is void: then a member tries again.
        """

        def plugged() -> bool:
            return self.port is not None and self.port is not before

        while True:
            peer = Peer(self.world.identity.public)
            channel = await endpoint.connect(peer, [SERVER], patience=90)
            await self.world.wait_for(
                lambda channel=channel: plugged() or channel.ended, f"port of station {self.number}"
            )
            if plugged():
                return MemberDevice(channel, name=f"m{self.number}")

    async def _read(self, life: Life, device: MemberDevice) -> None:
        while True:
            await self._reading.wait()
            await device.wait_readable()
            if not self._reading.is_set():
                continue
            try:
                for record in device.read_nowait(64):
                    self.ledger.arrived(life, frame_of(record))
            except trio.WouldBlock:
                continue

    def _gone(self, how: str) -> None:
        assert self.life is not None
        seen = self.device._channel.statistics()
        # What the switch had, and had not handled when the next session took the place, was
        # acknowledged: at most a window of it (a fence may have held it back).
        self.ledger.end(self.life, how, seen.in_flight + seen.window)
        self.life = self.device = None
        self._reading.set()
        self._scope.cancel()

    async def leave(self) -> None:
        """Say goodbye, when all that it has sent has arrived."""
        async with self._sending:
            await self.world.wait_for(lambda: not self.in_flight, f"peace of {self.number}")
            self._gone("left")

    async def die(self) -> None:
        """Be gone without a word: the endpoint's last words reach nobody."""
        async with self._sending:
            self.tap.cut_from[self.address] += 1
            self._gone("died")
            await trio.sleep(0.5)
            self.tap.cut_from[self.address] -= 1

    # --- Talking ------------------------------------------------------------------------------

    async def send(self, target: int, size: int) -> None:
        async with self._sending:
            if (device := self.device) is None:
                return
            life, now = self.life, trio.current_time()
            if device._channel.bulk.credit <= 0:
                return  # a kernel's queue would drop it
            frame = self.ledger.make(life, target, size, now)
            if device.write_nowait([frame_record(frame)]):
                self.ledger.given(life, target, frame)

    async def chat(self, pace: float) -> None:
        """Frames to everybody, to one, to nobody, and some that no switch passes on."""
        rng = self.random
        while True:
            await trio.sleep(rng.expovariate(1 / pace))
            await self.world.awake.wait()
            await self.send(self._target(), *rng.choices(SIZES, SIZE_WEIGHTS))

    def _target(self) -> int:
        other = self.random.randrange(1, self.world.members)
        other += other >= self.number
        return self.random.choices([ALL, NOBODY, RESERVED, other], [15, 5, 2, 78])[0]

    # --- Misfortunes --------------------------------------------------------------------------

    async def suffer(self, nursery: trio.Nursery, pace: float) -> None:
        """One misfortune after the other, for ever."""
        rng = self.random
        while True:
            await trio.sleep(rng.uniform(0.2, 1.8) * pace)
            if not self.world.awake.is_set():
                # A session counts its minute from what it heard last: first there is traffic again.
                await self.world.awake.wait()
                continue
            with self.world.busy():
                (fate,) = rng.choices(list(FATES), list(FATES.values()))
                self.ledger.counts[f"fate: {fate}"] += 1
                await getattr(self, f"_{fate}")(nursery)

    async def _rebind(self, nursery: trio.Nursery) -> None:
        self.world.network.rebind(self._socket)

    async def _renew(self, nursery: trio.Nursery) -> None:
        self.device._channel.renew()

    async def _outage(self, nursery: trio.Nursery) -> None:
        which = self.random.choice([(1, 0), (0, 1), (1, 1)])
        seconds = self.random.choice([2.0, 10.0, LONGEST_OUTAGE]) * self.random.uniform(0.5, 1.0)
        self.tap.cut_from[self.address] += which[0]
        self.tap.cut_to[self.address] += which[1]
        await trio.sleep(seconds)
        self.tap.cut_from[self.address] -= which[0]
        self.tap.cut_to[self.address] -= which[1]
        # The next one is another one: what heals is heard of within a second or two.
        await trio.sleep(10.0)

    async def _stall(self, nursery: trio.Nursery) -> None:
        self._reading = trio.Event()
        await trio.sleep(self.random.uniform(0.5, STALL))
        self._reading.set()

    async def _burst(self, nursery: trio.Nursery) -> None:
        target = self._target()
        for _ in range(self.random.choice([20, 60])):
            await self.send(target, 1400)

    async def _leave(self, nursery: trio.Nursery) -> None:
        await self.leave()
        await trio.sleep(self.random.uniform(0.5, 10.0))
        await self.plug_in(nursery)

    async def _die(self, nursery: trio.Nursery) -> None:
        await self.die()
        await trio.sleep(self.random.choice([0.0, 5.0, 20.0]))
        await self.plug_in(nursery)
