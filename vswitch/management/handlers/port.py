"""Handlers of `vswitch port set` and `vswitch switch set`: settings of a running switch."""

from __future__ import annotations

from vswitch.errors import ConfigError
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
)
from vswitch.management.status import to_json


async def switch_set(controlled: Controlled, args: Args) -> Result:
    """`vswitch switch set`: change settings of the whole switch."""
    managed, changes = controlled.managed, args.get("changes")
    if not isinstance(changes, dict):
        raise ConfigError("switch-set needs changes")
    if changes:
        managed.change_switch(changes)
    return {"settings": to_json(managed.settings.switch)}


async def port_set(controlled: Controlled, args: Args) -> Result:
    """`vswitch port set`: change settings of a port."""
    managed, name, changes = controlled.managed, args.get("name"), args.get("changes")
    if not isinstance(name, str) or not isinstance(changes, dict):
        raise ConfigError("port-set needs the name of a port, and changes")
    managed.change_port(name, changes)
    blocked = [port.blocked for port in managed.switch.ports if port.name == name]
    return {
        "name": name,
        "settings": to_json(managed.settings.of_port(name)),
        "blocked": blocked[0] if blocked else None,
    }
