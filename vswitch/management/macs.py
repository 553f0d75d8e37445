"""What the control socket answers about the MAC table: list, add, delete, flush.

Error contract: `ConfigError` for arguments that are wrong, `NotFound` for what is not there.
"""

from __future__ import annotations

from typing import Any

import trio

from vswitch.core.frame import format_mac, parse_mac
from vswitch.errors import ConfigError
from vswitch.features.macs import Macs
from vswitch.managed import Managed
from vswitch.management.control import Handler
from vswitch.vlan_values import to_vlan

__all__ = ["mac_handlers"]


def mac_handlers(managed: Managed) -> dict[str, Handler]:
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
