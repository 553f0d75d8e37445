"""The verbs of the control socket of a running switch: `control_handlers` has all of them.

Each handler checks its arguments, which come from whoever may ask (the switch's own user and
root).

Error contract: `ConfigError` for arguments that are wrong, `NotFound` for what is not there; other
`VswitchError`s of what the verb works on pass through.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import trio

from vswitch.config.converters import to_vlan
from vswitch.errors import ConfigError, NotFound
from vswitch.features import capture
from vswitch.features.base import ANY_PORT
from vswitch.features.impair import Impairments, orders_untrusted, said
from vswitch.features.macs import Macs
from vswitch.features.manager import FeatureManager
from vswitch.frames.ethernet import format_mac, parse_mac
from vswitch.frames.filter import parse_filter_untrusted
from vswitch.frames.headers import summary
from vswitch.frames.records import frame_record
from vswitch.management.socket import Handler, Stream
from vswitch.management.status import SwitchStatus, to_json
from vswitch.management.trace import parse_trace_untrusted
from vswitch.switch.events import Event
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch
from vswitch.version import VERSION

EVENT_PAUSE = 0.2  # seconds between two looks for somebody who follows the events
# Seconds between two looks at a capture: a batch of frames is written at once, and whoever watches
# does not notice it.
CAPTURE_PAUSE = 0.02

Args = dict[str, Any]
Result = dict[str, Any]
_Send = Callable[[bytes], Awaitable[None]]


@attrs.frozen(eq=False)
class Controlled:
    """What the verbs work on: a switch with its settings, and what only `serve` knows of it."""

    managed: FeatureManager
    status: Callable[[], Awaitable[SwitchStatus]]
    check_revoked: Callable[[], list[str]]  # disconnects them; their names
    captures: capture.Captures = attrs.field(init=False)

    @captures.default
    def _captures(self) -> capture.Captures:
        return capture.Captures(self.managed.switch)


def control_handlers(controlled: Controlled) -> dict[str, Handler]:
    """The handlers of all verbs, for `serve_control`."""
    return {verb: partial(answer, controlled) for verb, answer in VERBS.items()}


# --- the switch and its settings ---


async def _status(controlled: Controlled, args: Args) -> Result:
    """`vswitch status`."""
    return to_json(await controlled.status())


async def _revoked(controlled: Controlled, args: Args) -> Result:
    """The registry has changed: look again at everybody who is connected."""
    return {"disconnected": controlled.check_revoked()}


async def _switch_set(controlled: Controlled, args: Args) -> Result:
    """`vswitch switch set`: change settings of the whole switch."""
    managed, changes = controlled.managed, args.get("changes")
    if not isinstance(changes, dict):
        raise ConfigError("switch-set needs changes")
    if changes:
        managed.change_switch(changes)
    return {"settings": to_json(managed.settings.switch)}


async def _port_set(controlled: Controlled, args: Args) -> Result:
    """`vswitch port set`: change settings of a port."""
    managed, name, changes = controlled.managed, args.get("name"), args.get("changes")
    if not isinstance(name, str) or not isinstance(changes, dict):
        raise ConfigError("port-set needs the name of a port, and changes")
    name = _port_name(managed, name)
    managed.change_port(name, changes)
    ports = managed.switch.ports
    here = [port for port in ports if name in (port.name, port.group, ANY_PORT)]
    blocked = [port.blocked for port in here if port.name == name]
    return {
        "name": name,
        "settings": to_json(managed.settings.of_port(name)),
        "blocked": blocked[0] if blocked else None,
        "ports": len(here),
    }


# --- the MAC table ---


async def _mac_list(controlled: Controlled, args: Args) -> Result:
    """`vswitch mac`."""
    switch, table = controlled.managed.switch, controlled.managed.feature(Macs)
    port, vlan = _named(controlled, args, "port"), _vlan(args)
    names = {each.number: each.name for each in switch.ports}
    statistics = switch.fdb.statistics()
    macs = [
        {
            "mac": entry.mac,
            "vlan": entry.vlan,
            "port": entry.port,
            "name": names.get(entry.port, ""),
            "kind": table.kind(entry.vlan, parse_mac(entry.mac)),
            "age_s": round(entry.age, 1),
        }
        for entry in switch.fdb_entries()
        if vlan in (None, entry.vlan) and port in (None, names.get(entry.port))
    ]
    return {
        "macs": macs,
        "entries": statistics.entries,
        "capacity": statistics.capacity,
        "learned": statistics.learned,
        "moved": statistics.moved,
        "evicted": statistics.evicted,
    }


async def _mac_add(controlled: Controlled, args: Args) -> Result:
    """`vswitch mac add`."""
    table = controlled.managed.feature(Macs)
    name, mac = _named(controlled, args, "name"), _mac(args)
    if name is None:
        raise ConfigError("mac-add needs the name of a port")
    return {"name": name, "mac": format_mac(mac), "vlan": table.add(name, mac, _vlan(args))}


async def _mac_del(controlled: Controlled, args: Args) -> Result:
    """`vswitch mac del`."""
    return {"removed": controlled.managed.feature(Macs).remove(_mac(args), _vlan(args))}


async def _mac_flush(controlled: Controlled, args: Args) -> Result:
    """`vswitch mac flush`."""
    table = controlled.managed.feature(Macs)
    return {"flushed": table.flush(_named(controlled, args, "port"), _vlan(args))}


# --- looking inside ---


async def _impair(controlled: Controlled, args: Args) -> Result:
    """`vswitch impair`: begin, end, or only list."""
    managed = controlled.managed
    impairments = managed.feature(Impairments)
    name = args.get("port")
    if name is not None:
        port = _port(managed, str(name))
        if args.get("off") is True:
            impairments.end(port)
        else:
            impairments.begin(port, orders_untrusted(args))
    return {
        "impaired": [
            {
                "port": number,
                "name": each.port.name,
                "orders": said(each.orders),
                "left_s": None if math.isinf(each.until) else each.until - each.port.now(),
                "held": each.port.held_frames,
            }
            for number, each in sorted(impairments.active.items())
        ]
    }


async def _trace(controlled: Controlled, args: Args) -> Result:
    """`vswitch trace`: what would happen to a frame, and why."""
    managed = controlled.managed
    try:
        question = parse_trace_untrusted(str(args.get("frame", "")))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    port = _port(managed, question.port)
    decision = managed.switch.explain(port, frame_record(question.frame))
    names = {each.number: each.name for each in managed.switch.ports}
    return {
        "port": port.number,
        "name": port.name,
        "frame": summary(question.frame),
        "steps": list(decision.steps),
        "egress": [{"port": number, "name": names[number]} for number in decision.egress],
        "reason": decision.reason,
    }


async def _events(controlled: Controlled, args: Args) -> Result | Stream:
    """`vswitch events`: those that are still there, or one line of JSON for each as it comes."""
    switch, since = controlled.managed.switch, args.get("since", 0)
    if not isinstance(since, int) or isinstance(since, bool) or since < 0:
        raise ConfigError("since: the number of an event")
    if args.get("follow") is True:
        return Stream({}, partial(_follow, switch, since))
    return {"events": [_event(event) for event in switch.events.since(since)]}


async def _follow(switch: Switch, since: int, send: _Send, ended: trio.Event) -> None:
    while not ended.is_set():
        events = switch.events.since(since)
        if events:
            since = events[-1].number
            lines = [json.dumps(_event(event)) + "\n" for event in events]
            await send("".join(lines).encode())
        with trio.move_on_after(EVENT_PAUSE):
            await ended.wait()


def _event(event: Event) -> dict[str, Any]:
    at = time.time() - (trio.current_time() - event.at)
    named = {"number": event.number, "at": at, "kind": event.kind, "port": event.port}
    return {**named, **event.facts, **named}  # in this order, and no fact hides one of these


async def _capture(controlled: Controlled, args: Args) -> Stream:
    """`vswitch capture`: pcapng or lines, from when its stream runs on."""
    managed = controlled.managed
    names = _texts(args, "ports")
    ports = [_port(managed, name).name for name in names]
    if not names and args.get("all") is not True:
        raise ConfigError("name the ports to capture on, or all of them with --all")
    try:
        matches = parse_filter_untrusted(str(args.get("filter") or ""))
    except ValueError as error:
        raise ConfigError(f"--filter: {error}") from None
    directions = capture.DIRECTIONS.get(str(args.get("direction") or "both"))
    if directions is None:
        raise ConfigError(f"--direction: one of {', '.join(capture.DIRECTIONS)}")
    snap_length = _whole(args, "snaplen", 14, capture.SNAP_LENGTH) or capture.SNAP_LENGTH
    seconds = args.get("seconds")
    if not isinstance(seconds, int | float | None) or isinstance(seconds, bool):
        raise ConfigError("--for: a duration")
    kept = capture.Capture(
        matches,
        snap_length=snap_length,
        count=_whole(args, "count", 1, 1 << 62),
        drops_only=args.get("drops") is True,
    )
    running = capture.RunningCapture(
        kept, None if args.get("all") is True else frozenset(ports), directions
    )
    writer: capture.PcapngWriter | capture.TextWriter
    if args.get("format") == "text":
        writer = capture.TextWriter()
    else:
        shown = ports or [port.name for port in managed.switch.ports]
        writer = capture.PcapngWriter(f"vswitch {VERSION}", shown, snap_length)
    return Stream({}, partial(_run_capture, controlled.captures, running, writer, seconds))


async def _run_capture(
    captures: capture.Captures,
    running: capture.RunningCapture,
    writer: capture.PcapngWriter | capture.TextWriter,
    seconds: float | None,
    send: _Send,
    ended: trio.Event,
) -> None:
    captures.add(running)
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
                    await trio.sleep(CAPTURE_PAUSE)
                if waiting.cancelled_caught or running not in captures.running:
                    break
                await send(writer.write(running.kept.take()))
            nursery.cancel_scope.cancel()
    finally:
        captures.remove(running)
    last = writer.write(running.kept.take())
    await send(last + writer.tail(running.kept.tallies, captures.wall(trio.current_time())))


async def _wake_at(ended: trio.Event, running: capture.RunningCapture) -> None:
    await ended.wait()
    running.changed.set()


# --- arguments ---


def _port_name(managed: FeatureManager, said: str) -> str:
    """The name of a port, for all verbs alike: as it was said where a port has it; else of the port
    with that number; else as it was said, for a port that may come. `NotFound` for a number that
    no port has, since no port can be called so.
    """
    ports = managed.switch.ports
    if any(port.name == said for port in ports):
        return said
    for port in ports:
        if str(port.number) == said:
            return port.name
    if said.isdigit():
        raise NotFound(f"no port {said}: see `vswitch status`")
    return said


def _port(managed: FeatureManager, said: str) -> Port:
    """The port that is up under a name or a number; `NotFound` if there is none."""
    name = _port_name(managed, said)
    for port in managed.switch.ports:
        if port.name == name:
            return port
    raise NotFound(f"no port {said!r}: see `vswitch status`")


def _named(controlled: Controlled, args: Args, key: str) -> str | None:
    said = _text(args, key)
    return None if said is None else _port_name(controlled.managed, said)


def _texts(args: Args, key: str) -> list[str]:
    said = args.get(key, [])
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise ConfigError(f"{key}: a list of names")
    return said


def _whole(args: Args, key: str, least: int, most: int) -> int | None:
    said = args.get(key)
    if said is None:
        return None
    if not isinstance(said, int) or isinstance(said, bool) or not least <= said <= most:
        raise ConfigError(f"--{key}: a whole number, {least} to {most}")
    return said


def _text(args: Args, key: str) -> str | None:
    value = args.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{key} must be text")
    return value


def _mac(args: Args) -> bytes:
    try:
        return parse_mac(_text(args, "mac") or "")
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _vlan(args: Args) -> int | None:
    value = args.get("vlan")
    try:
        return 0 if value in (0, "0") else to_vlan(value)
    except ValueError as error:
        raise ConfigError(f"VLAN {value!r}: {error}") from None


VERBS: dict[str, Callable[[Controlled, Args], Awaitable[Result | Stream]]] = {
    "status": _status,
    "revoked": _revoked,
    "switch-set": _switch_set,
    "port-set": _port_set,
    "mac-list": _mac_list,
    "mac-add": _mac_add,
    "mac-del": _mac_del,
    "mac-flush": _mac_flush,
    "impair": _impair,
    "trace": _trace,
    "events": _events,
    "capture": _capture,
}
