"""The verbs of the control socket that look inside a running switch.

`serving/server.py` takes all of them with one line. Each handler checks its arguments, which come
from whoever may ask (the switch's own user and root), and raises `VswitchError` for what is wrong.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from vswitch.config.converters import to_vlan
from vswitch.errors import ConfigError
from vswitch.features.capture import Captures
from vswitch.features.impair import Impairments, orders_untrusted, said
from vswitch.features.macs import Macs
from vswitch.features.manager import FeatureManager
from vswitch.frames.ethernet import format_mac, parse_mac
from vswitch.frames.headers import summary
from vswitch.frames.records import frame_record
from vswitch.management.socket import Handler, Stream
from vswitch.management.trace import parse_trace_untrusted
from vswitch.switch.events import Event
from vswitch.switch.port import SwitchStatistics
from vswitch.switch.switch import Switch

EVENT_PAUSE = 0.2  # seconds between two looks for somebody who follows the events

_Send = Callable[[bytes], Awaitable[None]]


def look_handlers(managed: FeatureManager) -> dict[str, Handler]:
    """By verb."""
    captures = Captures(managed.switch, managed.port)
    return {
        "capture": _soon(captures.begin),
        "events": _soon(partial(_events, managed.switch)),
        "impair": _soon(partial(_impair, managed)),
        "trace": _soon(partial(_trace, managed)),
    }


def totals_of(statistics: SwitchStatistics) -> dict[str, int]:
    """The counters of all ports together, those that are gone included."""
    totals = statistics.totals
    return {
        "rx_frames": totals.rx_frames,
        "rx_bytes": totals.rx_bytes,
        "tx_frames": totals.tx_frames,
        "tx_bytes": totals.tx_bytes,
        "flood_copies": totals.flood_copies,
        "dropped": totals.dropped,
        "queued_frames": statistics.queued_frames,
        "held_frames": statistics.held_frames,
    }


def _soon(
    answer: Callable[[dict[str, Any]], dict[str, Any] | Stream],
) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any] | Stream]]:
    """A handler of an answer that needs no waiting."""

    async def handler(args: dict[str, Any]) -> dict[str, Any] | Stream:
        await trio.lowlevel.checkpoint()
        return answer(args)

    return handler


def _impair(managed: FeatureManager, args: dict[str, Any]) -> dict[str, Any]:
    """`vswitch impair`: begin, end, or only list."""
    impairments = managed.feature(Impairments)
    name = args.get("port")
    if name is not None:
        port = managed.port(str(name))
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


def _trace(managed: FeatureManager, args: dict[str, Any]) -> dict[str, Any]:
    """`vswitch trace`: what would happen to a frame, and why."""
    try:
        question = parse_trace_untrusted(str(args.get("frame", "")))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    port = managed.port(question.port)
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


def _events(switch: Switch, args: dict[str, Any]) -> dict[str, Any] | Stream:
    """`vswitch events`: those that are still there, or one line of JSON for each as it comes."""
    since = args.get("since", 0)
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


# -------------------------------------------------------------------------------------------------
# What the control socket answers about the MAC table: list, add, delete, flush.
#
# Error contract: `ConfigError` for arguments that are wrong, `NotFound` for what is not there.


def mac_handlers(managed: FeatureManager) -> dict[str, Handler]:
    """The handlers by verb."""
    table = managed.feature(Macs)
    switch = managed.switch

    async def show(args: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        port, vlan = _text(args, "port"), _vlan(args)
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

    async def add(args: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        name, mac = _text(args, "name"), _mac(args)
        if name is None:
            raise ConfigError("mac-add needs the name of a port")
        return {"name": name, "mac": format_mac(mac), "vlan": table.add(name, mac, _vlan(args))}

    async def delete(args: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"removed": table.remove(_mac(args), _vlan(args))}

    async def flush(args: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"flushed": table.flush(_text(args, "port"), _vlan(args))}

    return {"mac-list": show, "mac-add": add, "mac-del": delete, "mac-flush": flush}


def _text(args: dict[str, Any], key: str) -> str | None:
    value = args.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{key} must be text")
    return value


def _mac(args: dict[str, Any]) -> bytes:
    try:
        return parse_mac(_text(args, "mac") or "")
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _vlan(args: dict[str, Any]) -> int | None:
    value = args.get("vlan")
    try:
        return 0 if value in (0, "0") else to_vlan(value)
    except ValueError as error:
        raise ConfigError(f"VLAN {value!r}: {error}") from None
