"""Captures of a running switch: what `vswitch capture` gets over the control socket.

    captures = Captures(switch, managed.port)
    stream = captures.begin({"ports": ["pc1"], "filter": "arp"})

While nobody captures, the switch has no observer and pays nothing. A capture is asked what it wants
before anything is copied, its memory is bounded (`vswitch.core.capture`), and a reader that is too
slow misses frames. So does nobody else.

Error contract: `ConfigError` and `NotFound` for a request that is wrong. While frames pass nothing
raises: a fault in here ends all captures, is logged, and the frames go on.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import trio

from vswitch.core import pcapng
from vswitch.core.capture import Capture, PcapngWriter, TextWriter, describe
from vswitch.core.frame_filter import parse_filter_untrusted
from vswitch.core.policy import HEAD_SIZE
from vswitch.core.stages import Decision
from vswitch.core.virtio import FRAME_AT
from vswitch.errors import ConfigError
from vswitch.management.control import Stream
from vswitch.switch import Port, Switch
from vswitch.version import VERSION

__all__ = ["Captures"]

SNAP_LENGTH = 262_144  # bytes: tcpdump's default, longer than any frame
DIRECTIONS = {"in": (pcapng.IN,), "out": (pcapng.OUT,), "both": (pcapng.IN, pcapng.OUT)}
# Seconds between two looks: a batch of frames is written at once, and whoever watches does not
# notice it.
PAUSE = 0.02

_log = logging.getLogger(__name__)
_Send = Callable[[bytes], Awaitable[None]]


class _Running:
    """A capture, and which ports it is for."""

    def __init__(
        self, kept: Capture, names: frozenset[str] | None, directions: tuple[int, ...]
    ) -> None:
        self.kept = kept
        self.names = names
        self.directions = directions
        self.changed = trio.Event()

    def wants(self, port: Port, direction: int) -> bool:
        return direction in self.directions and (self.names is None or port.name in self.names)


class Captures:
    """All captures of a switch. Implements `vswitch.core.stages.Observer`."""

    def __init__(self, switch: Switch, port_named: Callable[[str], Port]) -> None:
        self._switch = switch
        self._port_named = port_named
        self._running: tuple[_Running, ...] = ()
        self._ports: dict[int, Port] = {}
        self._decisions: dict[bytes, tuple[bool, str]] = {}  # of this batch, by head
        self._source: Port | None = None  # where the batch came in that goes out now, and when
        self._source_at = -math.inf
        # Frames have the clock of the switch, which began somewhere.
        self._epoch = time.time_ns() - int(trio.current_time() * 1e9)

    def begin(self, args: Mapping[str, Any]) -> Stream:
        """The answer to a request; it captures when its stream runs."""
        names = _texts(args, "ports")
        ports = [self._port_named(name).name for name in names]
        if not names and args.get("all") is not True:
            raise ConfigError("name the ports to capture on, or all of them with --all")
        try:
            matches = parse_filter_untrusted(str(args.get("filter") or ""))
        except ValueError as error:
            raise ConfigError(f"--filter: {error}") from None
        directions = DIRECTIONS.get(str(args.get("direction") or "both"))
        if directions is None:
            raise ConfigError(f"--direction: one of {', '.join(DIRECTIONS)}")
        snap_length = _whole(args, "snaplen", 14, SNAP_LENGTH) or SNAP_LENGTH
        seconds = args.get("seconds")
        if not isinstance(seconds, int | float | None) or isinstance(seconds, bool):
            raise ConfigError("--for: a duration")
        kept = Capture(
            matches,
            snap_length=snap_length,
            count=_whole(args, "count", 1, 1 << 62),
            drops_only=args.get("drops") is True,
        )
        running = _Running(kept, None if args.get("all") is True else frozenset(ports), directions)
        writer: PcapngWriter | TextWriter
        if args.get("format") == "text":
            writer = TextWriter()
        else:
            shown = ports or [port.name for port in self._switch.ports]
            writer = PcapngWriter(f"vswitch {VERSION}", shown, snap_length)
        return Stream({}, partial(self._run, running, writer, seconds))

    async def _run(
        self,
        running: _Running,
        writer: PcapngWriter | TextWriter,
        seconds: float | None,
        send: _Send,
        ended: trio.Event,
    ) -> None:
        self._add(running)
        try:
            await send(writer.head())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wake_at, ended, running)
                until = trio.current_time() + (math.inf if seconds is None else seconds)
                # Only the waiting ends at a moment: what was taken goes out whole, or the file
                # would end inside a block.
                while not (running.kept.over or ended.is_set()):
                    with trio.move_on_at(until) as waiting:
                        await running.changed.wait()
                        running.changed = trio.Event()
                        await trio.sleep(PAUSE)
                    if waiting.cancelled_caught or running not in self._running:
                        break
                    await send(writer.write(running.kept.take()))
                nursery.cancel_scope.cancel()
        finally:
            self._remove(running)
        last = writer.write(running.kept.take())
        await send(last + writer.tail(running.kept.tallies, self._wall(trio.current_time())))

    def _add(self, running: _Running) -> None:
        if not self._running:
            self._switch.add_observer(self)
        self._running = (*self._running, running)

    def _remove(self, running: _Running) -> None:
        self._running = tuple(each for each in self._running if each is not running)
        if not self._running:
            self._switch.remove_observer(self)

    def _wall(self, now: float) -> int:
        return self._epoch + int(now * 1e9)

    # --- vswitch.core.stages.Observer -------------------------------------------------------

    def saw_ingress(self, port: int, records: list[bytes], now: float) -> None:
        """A batch came in."""
        self._source = source = self._port(port)
        self._source_at = now
        self._decisions.clear()
        if source is not None:
            self._saw(source, pcapng.IN, records, now, partial(self._decided, source))

    def saw_egress(self, port: int, records: list[bytes], now: float) -> None:
        """A batch goes out."""
        egress, source = self._port(port), self._source
        if egress is not None:
            # One batch has one moment on its whole way; what has another is the switch's own.
            forwarded = source is not None and now == self._source_at
            comment = f"from {source.name}" if source and forwarded else "from the switch"
            self._saw(egress, pcapng.OUT, records, now, lambda record: (False, comment))

    def _saw(
        self,
        port: Port,
        direction: int,
        records: list[bytes],
        now: float,
        decide: Callable[[bytes], tuple[bool, str]],
    ) -> None:
        try:
            for running in self._running:
                if running.wants(port, direction):
                    for record in records:
                        running.kept.add(port.name, direction, record, self._wall(now), decide)
                    if running.kept.waiting or running.kept.over:
                        running.changed.set()
        except Exception:
            _log.exception("capture-failed port=%d", port.number)
            for running in self._running:
                self._remove(running)
                running.changed.set()

    def _decided(self, port: Port, record: bytes) -> tuple[bool, str]:
        # With the record's header, which has the length: too long is a matter of it.
        head = record[: FRAME_AT + HEAD_SIZE]
        known = self._decisions.get(head)
        if known is not None:
            return known
        decision: Decision = self._switch.explain(port, record)
        decided = not decision.egress, describe(decision, self._name)
        # Stages look at more than the head.
        if not port.ingress_stages and not any(map(self._has_stages, decision.egress)):
            self._decisions[head] = decided
        return decided

    def _has_stages(self, number: int) -> bool:
        port = self._port(number)
        return port is None or bool(port.egress_stages)

    def _name(self, number: int) -> str:
        port = self._port(number)
        return str(number) if port is None else port.name

    def _port(self, number: int) -> Port | None:
        port = self._ports.get(number)
        if port is None or not port.attached:
            self._ports = {each.number: each for each in self._switch.ports}
            port = self._ports.get(number)
        return port


async def _wake_at(ended: trio.Event, running: _Running) -> None:
    await ended.wait()
    running.changed.set()


def _texts(args: Mapping[str, Any], key: str) -> list[str]:
    said = args.get(key, [])
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise ConfigError(f"{key}: a list of names")
    return said


def _whole(args: Mapping[str, Any], key: str, least: int, most: int) -> int | None:
    said = args.get(key)
    if said is None:
        return None
    if not isinstance(said, int) or isinstance(said, bool) or not least <= said <= most:
        raise ConfigError(f"--{key}: a whole number, {least} to {most}")
    return said
