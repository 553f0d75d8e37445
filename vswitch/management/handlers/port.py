"""Handlers of `vswitch port set` and `vswitch switch set`: settings of a running switch."""

from __future__ import annotations

from vswitch.errors import ConfigError
from vswitch.features.base import ANY_PORT
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
    port_name,
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
    name = port_name(managed, name)
    managed.change_port(name, changes)
    here = [port for port in managed.switch.ports if name in (port.name, port.group, ANY_PORT)]
    blocked = [port.blocked for port in here if port.name == name]
    return {
        "name": name,
        "settings": to_json(managed.settings.of_port(name)),
        "blocked": blocked[0] if blocked else None,
        "ports": len(here),
    }
