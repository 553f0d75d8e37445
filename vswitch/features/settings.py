"""What a switch and its ports are told to do beyond forwarding: settings, from a file or live.

    [switch]            # SwitchSettings
    [port.pc1]          # PortSettings of the port of that name
    [port."*"]          # what ports have that say nothing else
    [rules]             # RuleSet: who may open what to whom

Each setting is one attrs field with `metadata=option(...)` in the file of its feature, spelled the
same in the configuration file and in `vswitch port set pc1 key=value`. Converters take text or a
TOML value, and raise `ValueError` with the reason alone. Here all of them are put together.

Error contract: `ConfigError`, one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import Factory, frozen

from vswitch.config.networks import below, tables_of
from vswitch.config.sources import Source, options_of, shortened, structure
from vswitch.config.words import to_port_name
from vswitch.errors import ConfigError
from vswitch.features.base import ANY_PORT
from vswitch.features.loops import LoopSettings
from vswitch.features.macs import MAC_LIMIT, MacSwitchSettings, usual_limit
from vswitch.features.mirror import MirrorSettings
from vswitch.features.multicast import MulticastSwitchSettings
from vswitch.features.name_policy import NamePolicySettings
from vswitch.features.rates import RateSettings
from vswitch.features.rule_set import RuleSet, read_rules
from vswitch.features.rules import RuleSwitchSettings
from vswitch.features.storms import StormSettings, StormSwitchSettings
from vswitch.features.trust import Served
from vswitch.registry.rules import SERVICES_PORT
from vswitch.state import DEFAULT_NETWORK
from vswitch.switch.port import Port

TABLES = ("switch", "port", "rules")

_GUARDS = ("source_guard", "arp_check", "dhcp_guard", "ra_guard", "bpdu_guard")
_IDS = ("vlan", "trunk", "native")
_SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
# In which `vswitch port show` has them.
_ORDER = (
    *("trusted", "isolated", "source_guard", "arp_check", "dhcp_guard", "ra_guard", "bpdu_guard"),
    *("addresses", "rate_in", "rate_out", "frames_in", "frames_out"),
    *("storm_broadcast", "storm_multicast", "storm_unknown", "loop_guard"),
    *("vlan", "trunk", "native", "mac_limit", "sticky", "macs", "mirror", "static_macs"),
    *("names_allowed",),
)


# What a port is before anybody says anything.
_BEGUN: dict[str, dict[str, Any]] = {SERVICES_PORT: {"trusted": True}}


def _in_order(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    return sorted(fields, key=lambda field: _ORDER.index(field.name))


@frozen(kw_only=True, slots=False)
class SwitchSettings(
    MulticastSwitchSettings, StormSwitchSettings, MacSwitchSettings, RuleSwitchSettings
):
    """Settings of the whole switch."""


@frozen(kw_only=True, slots=False, field_transformer=_in_order)
class PortSettings(LoopSettings, RateSettings, StormSettings, MirrorSettings, NamePolicySettings):
    """Settings of one port."""


@frozen
class InForce:
    """A setting as it is in force. `source` is the table that says so, the setting that it follows
    from, or "" for what nobody has said.
    """

    key: str
    value: Any
    source: str
    help: str

    @property
    def text(self) -> str:
        """The value as it is written in a file, and in `port set`."""
        value = self.value
        if value is None:
            return '"none"' if self.key in _IDS else '"off"'
        if isinstance(value, tuple):
            return json.dumps(",".join(value))
        if isinstance(value, float):
            scale = next((each for each in _SCALES if not value % each[0]), None)
            return f"{value!r}" if scale is None else f'"{value / scale[0]:.0f}{scale[1]}"'
        return json.dumps(value)  # a boolean, a whole number or ASCII, as TOML has them


@frozen(kw_only=True)
class Settings:
    """All of them, as far as anybody has said something."""

    network: str = DEFAULT_NETWORK  # whose they are
    switch: SwitchSettings = SwitchSettings()
    ports: Mapping[str, Mapping[str, Any]] = Factory(dict)  # by port name, as they were written
    served: Served = Factory(Served)  # by the switch itself, from which more follows

    def of_port(self, name: str, group: str = "") -> PortSettings:
        """What holds for the port of that name: its own words, before those for its group, before
        those for any port. The ports of one foreign listener are a group of its name.
        """
        known = self.ports
        said = {
            **_BEGUN.get(name, {}),
            **known.get(ANY_PORT, {}),
            **known.get(group, {}),
            **known.get(name, {}),
        }
        return structure(PortSettings, said, f"port.{name}")

    def table(self, name: str) -> str:
        """The table of the file with that name, such as port.pc1, as it is written there."""
        return f"[{below(self.network)}{name}]"

    def in_force(self, name: str, port: Port | None = None) -> list[InForce]:
        """What the port of that name goes by, and why; `port` is that port, if it is attached."""
        group = "" if port is None else port.group
        settings = self.of_port(name, group)
        fields = options_of(PortSettings)
        found = []
        for key, value in spelled(settings).items():
            tables = (each for each in (name, group, ANY_PORT) if key in self.ports.get(each, {}))
            source = next((self.table(f"port.{toml_key(each)}") for each in tables), "")
            # An operator who says so himself shuts a trusted port for a bridge, too.
            said = value is not None and key == "bpdu_guard"
            if key in _GUARDS and settings.trusted and not said:
                value, source = False, "trusted"
            elif key in self.served.guards and name in self.served.ports:
                value, source = False, "the switch itself"
            elif key in _GUARDS and value is None:
                implied = self.served.guards.get(key, "")
                source = f"guard of {self.table('switch')}" if self.switch.guard else implied
                value = bool(source)
            elif key == "mac_limit" and value is None:
                guarded = self.switch.guard
                value = MAC_LIMIT if port is None else usual_limit(settings, port, guarded=guarded)
            found.append(InForce(key, value, source, fields[key].help))
        return found

    def separated(self, name: str) -> bool:
        """Whether the port of that name is kept from others: isolated, or of VLANs."""
        tables = (self.ports.get(ANY_PORT, {}), self.ports.get(name, {}))
        if not any(key in table for table in tables for key in ("isolated", "vlan", "trunk")):
            return False  # no parsing: this is asked of every member for one
        settings = self.of_port(name)
        return settings.isolated or settings.vlan is not None or settings.trunk is not None

    def names_allowed(self, name: str) -> tuple[str, ...] | None:
        """The policy of names of a port; None without one. Asked for each question of a port."""
        tables = (self.ports.get(name, {}), self.ports.get(ANY_PORT, {}))
        if not any("names_allowed" in table for table in tables):
            return None
        return self.of_port(name).names_allowed

    def by_name(self) -> dict[str, PortSettings]:
        """What holds for each name that anything is said of."""
        return {name: self.of_port(name) for name in self.ports}

    def of_switch(self) -> list[InForce]:
        """What the whole switch goes by."""
        fields, usual = options_of(SwitchSettings), spelled(SwitchSettings())
        table = self.table("switch")
        return [
            InForce(key, value, "" if value == usual[key] else table, fields[key].help)
            for key, value in spelled(self.switch).items()
        ]

    def with_port(self, name: str, changes: Mapping[str, Any]) -> Settings:
        """With other settings of one port; `ConfigError` if they are wrong, or unknown."""
        _check_port(name, "port")
        ports = {**self.ports, name: {**self.ports.get(name, {}), **changes}}
        changed = attrs.evolve(self, ports=ports)
        changed.of_port(name)
        return changed

    def with_switch(self, changes: Mapping[str, Any]) -> Settings:
        """With other settings of the whole switch; `ConfigError` if they are wrong, or unknown."""
        said = {**spelled(self.switch), **changes}
        return attrs.evolve(self, switch=structure(SwitchSettings, said, "switch")).with_rules(
            self.switch.rules
        )

    def with_rules(self, rules: RuleSet) -> Settings:
        """With other rules."""
        return attrs.evolve(self, switch=attrs.evolve(self.switch, rules=rules))


def load_settings(path: Source | None, network: str = DEFAULT_NETWORK) -> Settings:
    """The tables of a configuration file that are settings of that network."""
    place, document = tables_of(path, network)
    ports = _table(document.get("port", {}), f"{place}port")
    named = {name: _table(said, f"{place}port.{name}") for name, said in ports.items()}
    problems: list[str] = []
    for name, said in named.items():
        try:
            _check_port(name, f"{place}port")
            structure(PortSettings, said, f"{place}port.{name}")
        except ConfigError as error:
            problems.append(str(error))
    switch = _table(document.get("switch", {}), f"{place}switch")
    try:
        settings = Settings(
            network=network,
            switch=structure(SwitchSettings, switch, f"{place}switch"),
            ports=named,
        )
    except ConfigError as error:
        raise ConfigError("\n".join([str(error), *problems])) from None
    try:
        settings = settings.with_rules(read_rules(document.get("rules", {}), f"{place}rules"))
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def spelled(settings: attrs.AttrsInstance) -> dict[str, Any]:
    """Settings by name, for status and messages."""
    return {name: getattr(settings, name) for name in options_of(type(settings))}


def toml_key(name: str) -> str:
    """A key of TOML."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name)


def _check_port(name: str, place: str) -> None:
    try:
        to_port_name(name)
    except ValueError as error:
        raise ConfigError(f"{place}.{shortened(json.dumps(name))}: {error}") from None


def _table(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: must be a table: write [{place.rpartition(' ')[2]}]")
    return value
