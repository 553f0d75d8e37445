"""The networks of one switch in its configuration file: the default one, and each [network.NAME].

    [serve]                 # what it listens at, and the default network
    [switch] [port.pc1]     # settings of that
    [network.lab]           # NetworkConfig of another network
    [network.lab.switch]    # its settings: the same tables as those of the file, one level down
    [network.lab.port.pc1]

Whoever reads tables of a network asks `tables_of`, whichever it is.

Error contract: `ConfigError` with the file, the place in it and what to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vswitch.addresses import check_name
from vswitch.config.document import too_deep
from vswitch.config.options import NETWORK_TABLES, NetworkConfig
from vswitch.config.sources import Source, read_tables, shortened, structure, unknown
from vswitch.errors import ConfigError
from vswitch.state import DEFAULT_NETWORK

MAX_NETWORKS = 16  # of a switch: each costs a look into its registry for every stranger that knocks


def other_networks(path: Source | None) -> list[str]:
    """The names of the networks beside the default one, in the order of the file."""
    networks = _networks(path)
    for name, table in networks.items():
        try:
            check_name(name)
        except ValueError as error:
            raise ConfigError(f"{path}: network.{shortened(name)}: {error}") from None
        if name == DEFAULT_NETWORK:
            raise ConfigError(
                f"{path}: network.{name}: what stands in [serve] is of the network {name}: write "
                "it there, or give this one another name"
            )
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: network.{name}: must be a table: write [network.{name}]")
    if len(networks) >= MAX_NETWORKS:
        raise ConfigError(f"{path}: network: more than {MAX_NETWORKS - 1} beside that of [serve]")
    return list(networks)


def load_network(path: Source, name: str) -> NetworkConfig:
    """The options of a network beside the default one, which has its own in `ServeConfig`."""
    place, table = tables_of(path, name)
    said = {key: value for key, value in table.items() if key not in NETWORK_TABLES}
    return structure(NetworkConfig, said, place.rstrip("."))


def tables_of(path: Source | None, network: str) -> tuple[str, Mapping[str, Any]]:
    """The tables of a network by name, and what stands before these names in messages."""
    if path is None:
        return "", {}
    if network == DEFAULT_NETWORK:
        return f"{path}: ", read_tables(path)
    networks = _networks(path)
    if not isinstance(networks.get(network), dict):
        raise ConfigError(f"{path}: there is no [network.{shortened(network)}]")
    return f"{path}: {below(network)}", networks[network]


def check_networks(path: Source | None, tables: Mapping[str, Any]) -> None:
    """`ConfigError` for an empty table below [network.NAME] that none can be: one that says
    nothing is not looked at otherwise; and for tables without end.
    """
    if too_deep(tables):
        raise ConfigError(f"{path}: nested too deeply: no configuration")
    networks = tables.get("network")
    problems = [
        f"{path}: {below(shortened(network))[:-1]}: {unknown(key, NETWORK_TABLES, 'table')}"
        for network, its in (networks.items() if isinstance(networks, dict) else ())
        for key, said in (its.items() if isinstance(its, dict) else ())
        if said == {} and key not in NETWORK_TABLES
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def below(network: str) -> str:
    """What stands before the names of a network's tables in the file."""
    return "" if network == DEFAULT_NETWORK else f"network.{network}."


def _networks(path: Source | None) -> dict[str, Any]:
    networks = {} if path is None else read_tables(path).get("network", {})
    if not isinstance(networks, dict):
        raise ConfigError(f"{path}: network: write [network.NAME], such as [network.lab]")
    return networks
