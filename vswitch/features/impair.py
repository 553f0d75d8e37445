"""A worse wire between a port and the switch, on purpose: `vswitch impair pc1 --delay 40ms`.

    task of the feature ─── what is due ──▶ Switch.resume ─▶ the stages behind it, and on
    Impaired.take ── every frame ──▶ Direction.offer ─▶ its time of arrival, or it is lost

Each way of a port has a stage around a `transport.emulation.Direction`, seeded, so that the same
frames meet the same fate. Frames are judged one by one, superframes are cut for it. What waits is
held in memory, bounded, and counted in `port.held_frames`: to the frame,
`rx + copies = tx + drops + queued + held`. Duplicates count as copies, what is lost as `impaired`.

An impairment ends by itself after its time, and with its port; then what is held goes on at once.
The stage is pure (`now` in seconds), the feature is the shell around it.

Error contract: `ConfigError`, with the flag and the reason, for orders that cannot be read or that
no path can have.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import attrs
import trio

from transport.emulation import Direction, PathSpec
from vswitch.config.quantities import to_duration, to_rate, to_seconds
from vswitch.errors import ConfigError
from vswitch.features.base import Feature, Stages
from vswitch.frames.load import load_of
from vswitch.frames.records import HEADER_SIZE
from vswitch.frames.segment import without_superframes_untrusted
from vswitch.switch.counters import Drop, DropReason, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch

MAX_HELD_FRAMES = 65_536  # of one way of one port: a second at what a port can carry
MAX_HELD_BYTES = 32 << 20
REORDER_DELAY = 0.010  # seconds that `reorder` holds a frame back
SLACK = 0.0005  # seconds by which a frame may be early: a timer does no better

MAX_DELAY = 60.0  # seconds
MIN_RATE, MAX_RATE = 1e3, 100e9  # bit/s
MAX_SEED = 1 << 32
DIRECTIONS = ("in", "out", "both")

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", re.ASCII)


class ImpairDrop(Drop):
    """On either way."""

    IMPAIRED = "impaired"  # lost on purpose, by `vswitch impair`


@attrs.frozen(kw_only=True)
class Orders:
    """What the wire is to be like."""

    delay: float = 0.0  # seconds
    jitter: float = 0.0  # seconds on top of it at most; order is kept
    loss: float = 0.0  # shares, 0 to 1
    duplicate: float = 0.0
    reorder: float = 0.0
    rate: float | None = None  # bit/s
    seed: int = 1
    direction: str = "both"  # in, out, both: seen from the switch
    seconds: float | None = None  # for how long

    def spec(self) -> PathSpec:
        """As a path; `ConfigError` if there is none like that."""
        try:
            return PathSpec(
                delay=self.delay,
                jitter=self.jitter,
                ordered=True,
                loss=self.loss,
                duplicate=self.duplicate,
                reorder=self.reorder,
                reorder_delay=REORDER_DELAY,
                rate=self.rate,
            )
        except ValueError as error:
            raise ConfigError(f"impair: {error}") from None


def orders_untrusted(args: Mapping[str, Any]) -> Orders:
    """The orders in a request: text by name of the flag; what is missing or None is not asked."""
    asked = {key: args[key] for key in ("delay", "rate", "for") if args.get(key) is not None}
    shares = {key: args.get(key) for key in ("loss", "duplicate", "reorder")}
    delay, jitter = _delay(asked.get("delay", "0ms"))
    seed = args.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < MAX_SEED):
        raise ConfigError(f"--seed: a whole number, 0 to {MAX_SEED - 1}")
    direction = args.get("direction") or "both"
    if direction not in DIRECTIONS:
        raise ConfigError(f"--direction: one of {', '.join(DIRECTIONS)}")
    try:
        seconds = to_duration(asked["for"]) if "for" in asked else None
    except ValueError as error:
        raise ConfigError(f"--for: {error}") from None
    rate = _rate(asked.get("rate"))
    if "delay" not in asked and rate is None and not any(shares.values()):
        raise ConfigError("say what the wire is to be like: --delay, --loss, --rate and so on")
    orders = Orders(
        delay=delay,
        jitter=jitter,
        rate=rate,
        seed=1 if seed is None else seed,
        direction=direction,
        seconds=seconds,
        **{key: 0.0 if text is None else _share(key, text) for key, text in shares.items()},
    )
    orders.spec()
    return orders


def said(orders: Orders) -> str:
    """The orders as they could have been written."""
    words = []
    if orders.delay or orders.jitter:
        jitter = f"~{_short(orders.jitter * 1e3)}ms" if orders.jitter else ""
        words.append(f"delay {_short(orders.delay * 1e3)}ms{jitter}")
    for name in ("loss", "duplicate", "reorder"):
        share = getattr(orders, name)
        words += [f"{name} {_short(share * 100)}%"] if share else []
    if orders.rate is not None:
        words.append(f"rate {_short(orders.rate / 1e6)}M")
    return ", ".join([*words, f"seed {orders.seed}", f"direction {orders.direction}"])


def _short(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _delay(text: object) -> tuple[float, float]:
    first, tilde, second = str(text).partition("~")
    return _time(first), _time(second) if tilde else 0.0


def _time(text: str) -> float:
    try:
        seconds = to_seconds(text)
    except ValueError:
        raise ConfigError(
            f"--delay {text[:20]}: write 40ms, or 40ms~5ms for up to 5 ms more"
        ) from None
    if seconds > MAX_DELAY:
        raise ConfigError(f"--delay {text}: at most {MAX_DELAY:g}s")
    return seconds


def _share(flag: str, text: object) -> float:
    match = _SHARE.fullmatch(str(text))
    if match is None or float(match[1]) > 100:
        raise ConfigError(f"--{flag} {str(text)[:20]}: write 0% to 100%")
    return float(match[1]) / 100


def _rate(text: Any) -> float | None:
    try:
        rate = to_rate(text)
    except ValueError:
        rate = 0.0
    if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        raise ConfigError(f"--rate {str(text)[:20]}: write 1k to 100G, in bit/s, such as 10M")
    return rate


class Impaired:
    """One way of a port. Implements `vswitch.switch.stages.Stage`."""

    def __init__(
        self, direction: Direction, mtu: int, hold: Callable[[int, float], None], said: str
    ) -> None:
        self._direction = direction
        self._mtu = mtu
        self._hold = hold  # called with how many frames more are held, and when the next is due
        self._said = said
        self._held: list[tuple[float, int, bytes]] = []  # a heap
        self._bytes = 0
        self._order = count()

    @property
    def next_due(self) -> float:
        """When `due` gives something; infinite if nothing is held."""
        return self._held[0][0] if self._held else math.inf

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """What arrives at once; the rest is held, or lost."""
        frames, refused = without_superframes_untrusted(records, self._mtu, {})
        counters.drop(DropReason.BAD_SUPERFRAME, refused)
        held, lost = self._held, 0
        before = len(held)
        for record in frames:
            size = len(record)
            arrivals = self._direction.offer(size - HEADER_SIZE, now)
            if not arrivals:
                lost += 1
            for number, (arrival, _) in enumerate(arrivals):
                counters.flood_copies += number > 0
                if len(held) >= MAX_HELD_FRAMES or self._bytes >= MAX_HELD_BYTES:
                    lost += 1
                    continue
                heapq.heappush(held, (arrival, next(self._order), record))
                self._bytes += size
        counters.drop(ImpairDrop.IMPAIRED, lost)
        at_once = self.due(now)
        self._hold(len(held) - before, self.next_due)
        return at_once

    def due(self, now: float) -> list[bytes]:
        """What has arrived by now, in order. Whoever calls it counts."""
        held, due = self._held, []
        while held and held[0][0] <= now + SLACK:
            record = heapq.heappop(held)[2]
            self._bytes -= len(record)
            due.append(record)
        return due

    def explain(self, record: bytes, now: float) -> Explained:
        """It goes on, most likely."""
        return Explained(record, self._said)


@attrs.define(eq=False)
class Impairment:
    """What is in force at a port."""

    port: Port
    orders: Orders
    until: float  # on the clock of the switch
    ingress: Impaired | None = None
    egress: Impaired | None = None

    @property
    def stages(self) -> tuple[Impaired, ...]:
        """Both, as far as they are there."""
        return tuple(stage for stage in (self.ingress, self.egress) if stage is not None)


class Impairments(Feature[object, object]):
    """The impairments of one switch."""

    guards = False

    def __init__(self, switch: Switch) -> None:
        self.active: dict[int, Impairment] = {}  # by port number
        self._switch = switch
        self._wake_at = math.inf
        self._changed = trio.Event()

    def begin(self, port: Port, orders: Orders) -> None:
        """Impair a port from now on, instead of as before."""
        spec = orders.spec()
        self.end(port)
        now = port.now()
        until = math.inf if orders.seconds is None else now + orders.seconds
        impairment = Impairment(port, orders, until)
        # At the wire, as in `manager.FEATURES`: first on the way in, last on the way out.
        if orders.direction != "out":
            impairment.ingress = self._stage(port, spec, orders.seed * 2)
            port.ingress_stages = (impairment.ingress, *port.ingress_stages)
        if orders.direction != "in":
            impairment.egress = self._stage(port, spec, orders.seed * 2 + 1)
            port.egress_stages = (*port.egress_stages, impairment.egress)
        self.active[port.number] = impairment
        self._switch.events.add("impaired", port.name, now=now, direction=orders.direction)
        self._changed.set()

    def end(self, port: Port) -> bool:
        """Let a port be as it is; whether it was impaired. What was held goes on at once."""
        impairment = self.active.get(port.number)
        if impairment is None:
            return False
        self._release(impairment, math.inf)
        self.active.pop(port.number, None)
        gone = impairment.stages
        port.ingress_stages = tuple(each for each in port.ingress_stages if each not in gone)
        port.egress_stages = tuple(each for each in port.egress_stages if each not in gone)
        self._switch.events.add("unimpaired", port.name, now=port.now())
        return True

    def port_stages(self, port: Port, settings: object) -> Stages:
        """Those of the impairment that is in force there."""
        impairment = self.active.get(port.number)
        return Stages() if impairment is None else Stages(impairment.ingress, impairment.egress)

    def port_down(self, number: int) -> None:
        """What is held for a port that is down has nowhere to go."""
        impairment = self.active.pop(number, None)
        if impairment is not None:
            self._release(impairment, math.inf)

    async def run(self) -> None:
        """Put held frames back in when they are due, and end what is over."""
        while True:
            now = trio.current_time()
            for impairment in list(self.active.values()):
                self._release(impairment, now)
                if impairment.until <= now + SLACK:
                    self.end(impairment.port)
            self._wake_at = min(
                (
                    min(impairment.until, *(stage.next_due for stage in impairment.stages))
                    for impairment in self.active.values()
                ),
                default=math.inf,
            )
            with trio.move_on_at(self._wake_at):
                await self._changed.wait()
            self._changed = trio.Event()

    def _stage(self, port: Port, spec: PathSpec, seed: int) -> Impaired:
        def hold(frames: int, due: float) -> None:
            port.held_frames += frames
            if due < self._wake_at:
                self._wake_at = due
                self._changed.set()

        said = "impaired: it may be late, lost or twice there"
        return Impaired(Direction(spec, seed), self._switch.mtu, hold, said)

    def _release(self, impairment: Impairment, now: float) -> None:
        port = impairment.port
        for stage in impairment.stages:
            records = stage.due(now)
            if records:
                port.held_frames -= load_of(records).frames
                self._switch.resume(port, records, stage)
