"""Handlers of `vswitch mac`: the MAC table listed, added to, deleted from, flushed."""

from __future__ import annotations

import json
import time
from functools import partial

import attrs
import trio

from vswitch.config.addressing import to_vlan
from vswitch.config.sources import shortened
from vswitch.config.words import to_port_name
from vswitch.errors import ConfigError
from vswitch.features.macs import Macs
from vswitch.frames.ethernet import format_mac, parse_mac
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
    Send,
    named_of,
    port_of,
    text_of,
)
from vswitch.management.stream import Stream
from vswitch.switch.switch import Switch

WATCH_PAUSE = 0.2  # seconds between two looks whether the table has changed


async def mac_watch(controlled: Controlled, args: Args) -> Stream:
    """`vswitch mac --watch`: a line of JSON for each station that is known, and then for each that
    comes, moves or goes.
    """
    port, vlan = named_of(controlled, args, "port"), _vlan(args)
    return Stream(partial(_watch, controlled.managed.switch, port, vlan))


async def _watch(
    switch: Switch, port: str | None, vlan: int | None, send: Send, ended: trio.Event
) -> None:
    before: dict[tuple[int, str], str] = {}
    version: object = None
    change = "known"
    while not ended.is_set():
        if version != (version := attrs.evolve(switch.fdb.statistics(), entries=0)):
            names = {each.number: each.name for each in switch.ports}
            found = {(e.vlan, e.mac): names.get(e.port, "") for e in switch.fdb_entries()}
            at, lines = time.time(), []
            for key in [*found, *(before.keys() - found.keys())]:
                now, was = found.get(key), before.get(key)
                if now == was or vlan not in (None, key[0]) or port not in (None, now, was):
                    continue
                what = "gone" if now is None else change if was is None else "moved"
                facts = {"at": at, "change": what, "mac": key[1], "vlan": key[0]}
                facts |= {"name": was if now is None else now}
                facts |= {"from": was} if what == "moved" else {}
                lines.append(json.dumps(facts) + "\n")
            if lines:
                await send("".join(lines).encode())
            before = found
        change = "learned"
        with trio.move_on_after(WATCH_PAUSE):
            await ended.wait()


async def mac_list(controlled: Controlled, args: Args) -> Result:
    """`vswitch mac`."""
    switch, table = controlled.managed.switch, controlled.managed.feature(Macs)
    said, vlan = text_of(args, "port"), _vlan(args)
    port = None if said is None else port_of(controlled.managed, said).name
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


async def mac_add(controlled: Controlled, args: Args) -> Result:
    """`vswitch mac add`."""
    table = controlled.managed.feature(Macs)
    name, mac = named_of(controlled, args, "name"), _mac(args)
    if name is None:
        raise ConfigError("mac-add needs the name of a port")
    try:
        to_port_name(name)
    except ValueError as error:
        raise ConfigError(f"port {shortened(name)}: {error}") from None
    vlan = table.add(name, mac, _vlan(args))
    here = sum(port.name == name for port in controlled.managed.switch.ports)
    return {"name": name, "mac": format_mac(mac), "vlan": vlan, "ports": here}


async def mac_del(controlled: Controlled, args: Args) -> Result:
    """`vswitch mac del`."""
    return {"removed": controlled.managed.feature(Macs).remove(_mac(args), _vlan(args))}


async def mac_flush(controlled: Controlled, args: Args) -> Result:
    """`vswitch mac flush`."""
    table = controlled.managed.feature(Macs)
    return {"flushed": table.flush(named_of(controlled, args, "port"), _vlan(args))}


def _mac(args: Args) -> bytes:
    try:
        return parse_mac(text_of(args, "mac") or "")
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _vlan(args: Args) -> int | None:
    value = args.get("vlan")
    try:
        return 0 if value in (0, "0") else to_vlan(value)
    except ValueError as error:
        raise ConfigError(f"VLAN {value!r}: {error}") from None
