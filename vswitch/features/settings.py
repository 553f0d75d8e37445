"""What a switch and its ports are told to do beyond forwarding: settings, from a file or live.

    [switch]            # SwitchSettings
    [port.pc1]          # PortSettings of the port of that name
    [port."*"]          # what ports have that say nothing else

Each setting is one attrs field with `metadata=option(...)`, spelled the same in the file and in
`vswitch port set pc1 key=value`. Converters take text or a TOML value, and raise `ValueError` with
the reason alone. Nothing here knows what a setting does: that is said in `vswitch/features`.

Error contract: `ConfigError`, one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, field, frozen

from vswitch.config.converters import (
    to_addresses,
    to_bool,
    to_frame_limit,
    to_frame_rate,
    to_mac_limit,
    to_macs,
    to_optional_bool,
    to_port_names,
    to_rate,
    to_stations,
    to_vlan,
    to_vlans,
)
from vswitch.config.options import option, options_of, read_tables, structure
from vswitch.errors import ConfigError

ANY_PORT = "*"
TABLES = ("switch", "port")


@frozen(kw_only=True)
class SwitchSettings:
    """Settings of the whole switch."""

    guard: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("every guard, on every port that is not trusted"),
    )
    flood_limit: int | None = field(
        default=20_000,
        converter=to_frame_limit,
        metadata=option("copies a second that all floods together make, or off"),
    )
    vlans: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("VLANs also while no port has a VLAN setting"),
    )
    multicast_snooping: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("multicast only to ports that have asked for it"),
    )


@frozen(kw_only=True)
class PortSettings:
    """Settings of one port."""

    # Guards; those that say nothing follow `guard` of the switch.
    trusted: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("no guards: a router, DHCP server or bridge is behind this port"),
    )
    isolated: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("reaches only ports that are not isolated"),
    )
    source_guard: bool | None = field(
        default=None,
        converter=to_optional_bool,
        metadata=option("frames only from the MAC and IP addresses of the port"),
    )
    arp_check: bool | None = field(
        default=None,
        converter=to_optional_bool,
        metadata=option("ARP only of who sends it, and not for another port's address"),
    )
    dhcp_guard: bool | None = field(
        default=None,
        converter=to_optional_bool,
        metadata=option("nothing that only a DHCP server sends"),
    )
    ra_guard: bool | None = field(
        default=None,
        converter=to_optional_bool,
        metadata=option("nothing that only an IPv6 router sends"),
    )
    bpdu_guard: bool | None = field(
        default=None,
        converter=to_optional_bool,
        metadata=option("spanning tree on the port shuts it for a while"),
    )
    addresses: tuple[str, ...] = field(
        default=(),
        converter=to_addresses,
        metadata=option("IP addresses and prefixes of the port, besides that from the switch"),
    )
    # Rates.
    rate_in: float | None = field(
        default=None,
        converter=to_rate,
        metadata=option("bits a second that the member may send, as 50M, or off"),
    )
    rate_out: float | None = field(
        default=None,
        converter=to_rate,
        metadata=option("bits a second that the member gets, as 50M, or off"),
    )
    frames_in: float | None = field(
        default=None,
        converter=to_frame_rate,
        metadata=option("frames a second that the member may send, as 10k, or off"),
    )
    frames_out: float | None = field(
        default=None,
        converter=to_frame_rate,
        metadata=option("frames a second that the member gets, as 10k, or off"),
    )
    # Storms and loops.
    storm_broadcast: int | None = field(
        default=1_000,
        converter=to_frame_limit,
        metadata=option("broadcasts a second, or off"),
    )
    storm_multicast: int | None = field(
        default=5_000,
        converter=to_frame_limit,
        metadata=option("frames to groups a second, or off"),
    )
    storm_unknown: int | None = field(
        default=2_000,
        converter=to_frame_limit,
        metadata=option("frames a second to stations that nobody has heard, or off"),
    )
    loop_guard: bool = field(
        default=True,
        converter=to_bool,
        metadata=option("a loop through the port shuts it for a while"),
    )
    vlan: int | None = field(
        default=None,
        converter=to_vlan,
        metadata=option("the VLAN of an access port, 1 to 4094, or none", "VLAN"),
    )
    trunk: str | None = field(
        default=None,
        converter=to_vlans,
        metadata=option("the VLANs that pass tagged, as 10,20-30, or all, or none", "VLANS"),
    )
    native: int | None = field(
        default=None,
        converter=to_vlan,
        metadata=option("the VLAN of what a trunk has untagged, or none", "VLAN"),
    )
    mac_limit: int | None = field(
        default=None,
        converter=to_mac_limit,
        metadata=option(
            "how many stations may be behind the port (32; 256 with a LAN)",
            "NUMBER",
        ),
    )
    sticky: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("addresses that were learned stay with the port"),
    )
    macs: tuple[str, ...] = field(
        default=(),
        converter=to_macs,
        metadata=option("the only addresses that may be behind the port", "MAC,..."),
    )
    mirror: tuple[str, ...] = field(
        default=(),
        converter=to_port_names,
        metadata=option("a monitor: gets copies of what passes these ports, or none", "PORT,..."),
    )
    static_macs: tuple[str, ...] = field(
        default=(),
        converter=to_stations,
        metadata=option("addresses that are behind this port and no other", "MAC[@VLAN],..."),
    )


@frozen(kw_only=True)
class Settings:
    """All of them, as far as anybody has said something."""

    switch: SwitchSettings = SwitchSettings()
    ports: Mapping[str, Mapping[str, Any]] = Factory(dict)  # by port name, as they were written

    def of_port(self, name: str, group: str = "") -> PortSettings:
        """What holds for the port of that name: its own words, before those for its group, before
        those for any port. The ports of one foreign listener are a group of its name.
        """
        known = self.ports
        said = {**known.get(ANY_PORT, {}), **known.get(group, {}), **known.get(name, {})}
        return structure(PortSettings, said, f"port.{name}")

    def with_port(self, name: str, changes: Mapping[str, Any]) -> Settings:
        """With other settings of one port; `ConfigError` if they are wrong, or unknown."""
        ports = {**self.ports, name: {**self.ports.get(name, {}), **changes}}
        changed = attrs.evolve(self, ports=ports)
        changed.of_port(name)
        return changed

    def with_switch(self, changes: Mapping[str, Any]) -> Settings:
        """With other settings of the whole switch; `ConfigError` if they are wrong, or unknown."""
        said = {**spelled(self.switch), **changes}
        return attrs.evolve(self, switch=structure(SwitchSettings, said, "switch"))


def load_settings(path: Path | None) -> Settings:
    """The tables of a configuration file that are settings."""
    if path is None:
        return Settings()
    document = read_tables(path)
    ports = _table(document.get("port", {}), f"{path}: port")
    named = {name: _table(said, f"{path}: port.{name}") for name, said in ports.items()}
    for name, said in named.items():
        structure(PortSettings, said, f"{path}: port.{name}")
    switch = _table(document.get("switch", {}), f"{path}: switch")
    return Settings(switch=structure(SwitchSettings, switch, f"{path}: switch"), ports=named)


def spelled(settings: attrs.AttrsInstance) -> dict[str, Any]:
    """Settings by name, for status and messages."""
    return {name: getattr(settings, name) for name in options_of(type(settings))}


def _table(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: must be a table: write [{place.rpartition(' ')[2]}]")
    return value
