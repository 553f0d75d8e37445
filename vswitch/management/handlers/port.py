"""Handlers of `vswitch port set` and `vswitch switch set`: settings of a running switch."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs

from vswitch.config.document import LIVE, Key
from vswitch.errors import ConfigError
from vswitch.features.base import ANY_PORT
from vswitch.features.rule_set import RuleSet
from vswitch.features.settings import InForce, toml_key
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
    note,
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
        said = _as_in_file(changes, managed.settings.switch)
        await note(controlled, args, {("switch", key): value for key, value in said.items()})
    switch = managed.settings.switch
    bare = to_json(attrs.evolve(switch, rules=RuleSet()))  # what is read of rules is no JSON
    return {
        "settings": bare | {"rules": dict(switch.rules.table)},
        "table": managed.settings.table("switch"),
        "in_force": [
            _in_force(controlled, each, "switch") for each in managed.settings.of_switch()
        ],
    }


async def port_set(controlled: Controlled, args: Args) -> Result:
    """`vswitch port set`: change settings of a port."""
    managed, name, changes = controlled.managed, args.get("name"), args.get("changes")
    if not isinstance(name, str) or not isinstance(changes, dict):
        raise ConfigError("port-set needs the name of a port, and changes")
    name = port_name(managed, name)
    managed.change_port(name, changes)
    if changes:
        said = _as_in_file(changes, managed.settings.of_port(name))
        await note(controlled, args, {("port", name, key): value for key, value in said.items()})
    here = [port for port in managed.switch.ports if name in (port.name, port.group, ANY_PORT)]
    named = next((port for port in here if port.name == name), None)
    return {
        "name": name,
        "settings": to_json(managed.settings.of_port(name)),
        "table": managed.settings.table(f"port.{toml_key(name)}"),
        "in_force": [
            _in_force(controlled, each, "port", name)
            for each in managed.settings.in_force(name, named)
        ],
        "blocked": None if named is None else named.blocked,
        "ports": len(here),
    }


def _as_in_file(changes: dict[str, Any], settings: object) -> dict[str, Any]:
    """`yes` and `no` are what people say: kept is true or false, or it would differ from a file
    that says the same.
    """
    values = {key: getattr(settings, key, None) for key in changes}
    return {
        key: values[key] if said is not None and isinstance(values[key], bool) else said
        for key, said in changes.items()
    }


async def port_copy(controlled: Controlled, args: Args) -> Result:
    """`vswitch rename`: what is said of a port holds for another name, too."""
    name, to = args.get("name"), args.get("to")
    if not isinstance(name, str) or not isinstance(to, str):
        raise ConfigError("port-copy needs two names")
    return await copy_settings(controlled, name, to)


async def copy_settings(controlled: Controlled, name: str, to: str) -> Result:
    """What is said of a port holds for another name, too, unless something else is said of that:
    live where it was said live, and kept where it is in the file or was kept.
    """
    managed, configuration = controlled.managed, controlled.configuration
    said, own = managed.settings.ports.get(name, {}), managed.settings.ports.get(to, {})
    copied = {key: value for key, value in said.items() if key not in own}
    if not copied:
        return {"settings": [], "live": []}
    managed.change_port(to, copied)
    live = []
    if configuration is not None:
        source = partial(configuration.source, controlled.network)
        live = sorted(key for key in copied if source(("port", name, key)) in (LIVE, ""))
        for save in (False, True):
            part: dict[Key, Any] = {
                ("port", to, key): copied[key] for key in copied if (key in live) is not save
            }
            if part:
                await note(controlled, {"save": save}, part)
    return {"settings": sorted(copied), "live": live}


def _in_force(controlled: Controlled, each: InForce, *table: str) -> Result:
    """`text` is the value as it is written in a configuration file."""
    said, configuration = "", controlled.configuration
    if configuration is not None:
        said = configuration.source(controlled.network, (*table, each.key))
    value = {"key": each.key, "value": each.value, "text": each.text}
    return {**value, "source": each.source, "help": each.help, "said": said}
