"""What a `serve` is told to do, of each of its networks: read from the file, and checked together.

Error contract: `ConfigError`, one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations, product
from typing import TypeVar

from attrs import frozen

from vswitch.config.networks import below, load_network, other_networks
from vswitch.config.options import NetworkConfig, ServeConfig
from vswitch.config.places import Listen
from vswitch.config.sources import Source, flag_of, options_of, read_tables
from vswitch.errors import ConfigError
from vswitch.features.settings import Settings, load_settings
from vswitch.foreign.kinds import ForeignSettings, load_foreign
from vswitch.services.publish_rules import PublishRule, load_published
from vswitch.serving.services import ServicesSettings, load_services
from vswitch.state import DEFAULT_NETWORK, StateDir

T = TypeVar("T")


@frozen
class NetworkPlan:
    """One network as the configuration has it."""

    name: str
    files: StateDir
    config: NetworkConfig
    settings: Settings
    foreign: tuple[ForeignSettings, ...]
    services: ServicesSettings
    published: tuple[PublishRule, ...]
    live: frozenset[Listen] = frozenset()  # of what is published: what no file says

    @property
    def logged(self) -> str | None:
        """How its lines in the log name it."""
        return None if self.name == DEFAULT_NETWORK else self.name


def plan_networks(config: ServeConfig, document: Source | None = None) -> tuple[NetworkPlan, ...]:
    """Of each network, the default one first. Reads the file, unless the tables are given."""
    path = config.config if document is None else document
    problems: list[str] = []

    def tried(read: Callable[[], T], instead: T) -> T:
        try:
            return read()
        except ConfigError as error:
            problems.extend(str(error).splitlines())
            return instead

    def planned(name: str, own: NetworkConfig, urls: Sequence[str] = ()) -> NetworkPlan:
        return NetworkPlan(
            name,
            config.files.network(name),
            own,
            tried(lambda: load_settings(path, name), Settings()),
            tried(lambda: load_foreign(path, urls, name), ()),
            tried(lambda: load_services(path, name, own.subnet), ServicesSettings()),
            tried(lambda: load_published(path, own.subnet, name), ()),
        )

    plans = [planned(DEFAULT_NETWORK, config, config.foreign)]
    others: list[str] = []
    for name in tried(partial(other_networks, path), others):
        assert path is not None  # names come from it
        plans.append(planned(name, tried(partial(load_network, path, name), NetworkConfig())))
    if problems := problems or [*_lone_options(config, path), *_conflicts(path, plans)]:
        raise ConfigError("\n".join(problems))
    return tuple(plans)


def _lone_options(config: ServeConfig, path: Source | None) -> Iterator[str]:
    """Options of `serve` that mean nothing without another one."""
    tables = {} if path is None else read_tables(path)
    keys = {name: each.at or f"serve.{name}" for name, each in options_of(ServeConfig).items()}

    def named(option: str) -> str:
        """As whoever says it has it: a key of the file, or a flag."""
        table, key = keys[option].split(".")
        its = tables.get(table)
        in_file = isinstance(its, dict) and key in its
        return f"{path}: {keys[option]}" if in_file else flag_of(option)

    def wanted(option: str) -> str:
        return f"{keys[option]} ({flag_of(option)})"

    if config.bridge is not None and not config.local_port:
        yield f"{named('bridge')}: is for the local port: give {wanted('local_port')}, too"
    certificate, key = "https_certificate", "https_key"
    for one, other in ((certificate, key), (key, certificate)):
        if getattr(config, one) is not None and getattr(config, other) is None:
            yield f"{named(one)}: give {wanted(other)}, too, or neither"
    for option in (certificate, key, "https_prefix", "https_public"):
        if config.https is None and getattr(config, option):
            yield f"{named(option)}: is for an HTTPS side: give {wanted('https')}, too"


def _conflicts(path: Source | None, plans: Sequence[NetworkPlan]) -> Iterator[str]:
    """What one network, or two, cannot have."""
    for plan in plans:
        its = plan.config
        if plan.name != DEFAULT_NETWORK and its.bridge is not None and not its.local_port:
            yield f"{_place(path, plan)}bridge is for its local port: say local_port = true, too"
    for one, other in combinations(plans, 2):
        for rule, before in product(other.published, one.published):
            if rule.listen.overlaps(before.listen):
                place = f"{_place(path, other)}publish"
                yield f"{place}: {rule.listen} takes what comes to {before.listen} of {one.name}"
    plugged = [plan for plan in plans if plan.config.local_port]
    for one, other in combinations(plugged, 2):
        mine, its = other.config, one.config
        place = _place(path, other)
        if mine.dev == its.dev:
            yield f"{place}dev = {mine.dev}: the network {one.name} has that TAP"
        if mine.bridge is not None and mine.bridge == its.bridge:
            yield (
                f"{place}bridge = {mine.bridge}: the network {one.name} is in that bridge, "
                "which would make one LAN of both"
            )
        elif mine.bridge is None and its.bridge is None and mine.subnet.overlaps(its.subnet):
            yield (
                f"{place}subnet = {mine.subnet}: this host has an address of "
                f"{its.subnet} in the network {one.name}: give another subnet, or no local_port"
            )


def _place(path: Source | None, plan: NetworkPlan) -> str:
    """What stands before the keys of one that is in the file."""
    return f"{path}: {below(plan.name)}"
