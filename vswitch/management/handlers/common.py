"""What every handler of a verb gets and gives, and how it reads its arguments.

Error contract: `ConfigError` for arguments that are wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import attrs

from vswitch.config.document import Key
from vswitch.config.sources import shortened
from vswitch.errors import ConfigError, NotFound, Problem
from vswitch.features import capture
from vswitch.features.manager import FeatureManager
from vswitch.management.answers import ConfigState, Configured
from vswitch.management.status import RekeyStatus, SwitchStatus
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed
from vswitch.services.dhcp_server import DhcpServer
from vswitch.services.publish import Publisher
from vswitch.state import DEFAULT_NETWORK
from vswitch.switch.port import Port

Args = dict[str, Any]
Result = dict[str, Any]
Send = Callable[[bytes], Awaitable[None]]


class Configurable(Protocol):
    """A configuration that can be looked at and changed: of a switch, which is `Reloadable`, or
    of a member (`vswitch.joining.configuration`).
    """

    def whole(self) -> dict[str, Any]:
        """All tables, as they are in force; of a switch but for flags and variables."""

    def state(self) -> ConfigState:
        """All that is said, by whom."""

    async def replace(self, tables: Mapping[str, Any]) -> Configured:
        """Go by these tables; a switch keeps that."""


class Reloadable(Configurable, Protocol):
    """What a switch goes by: `vswitch.serving.reload.Reloader`."""

    def source(self, network: str, key: Key) -> str:
        """Who says it: `file`, `saved` or `live`; "" for nobody."""

    async def compare(self) -> Configured:
        """What differs."""

    async def reload(self, *, revert: bool = False) -> Configured:
        """Read the files again."""

    async def save(self) -> Configured:
        """Keep what was changed live."""

    async def note(self, network: str, said: Mapping[Key, Any], *, save: bool) -> None:
        """Something of a network was changed live; None was taken away. `save` keeps that."""


class Rekeyable(Protocol):
    """A switch that can get a new key: `vswitch.serving.rekeying.Rekeying`."""

    async def status(self) -> RekeyStatus:
        """The keys, and while there are two who has not moved."""

    async def begin(self, seconds: float, *, force: bool = False) -> RekeyStatus:
        """Have a new key, and the old one for so long beside it."""

    async def finish(self, *, force: bool = False) -> RekeyStatus:
        """Have the old key no more."""


@attrs.define(eq=False)
class Controlled:
    """What the verbs work on: a switch with its settings, and what only `serve` knows of it."""

    managed: FeatureManager
    status: Callable[[], Awaitable[SwitchStatus]]
    check_revoked: Callable[[], list[str]]  # disconnects them; their names
    bar: Callable[[str], list[str]]  # a member, until the switch ends; the disconnected
    publisher: Publisher | None = None
    dhcp: Callable[[], DhcpServer | None] = attrs.field(kw_only=True, default=lambda: None)
    registry: Registry | None = attrs.field(kw_only=True, default=None)  # None: without members
    served: LastServed | None = attrs.field(kw_only=True, default=None)
    network: str = attrs.field(kw_only=True, default=DEFAULT_NETWORK)
    configuration: Reloadable | None = attrs.field(kw_only=True, default=None)
    rekeying: Rekeyable | None = attrs.field(kw_only=True, default=None)
    captures: capture.Captures = attrs.field(init=False)

    @captures.default
    def _captures(self) -> capture.Captures:
        return capture.Captures(self.managed.switch)


async def note(controlled: Controlled, args: Args, said: Mapping[Key, Any]) -> None:
    """Something was changed live: keep it, if `save` is among the arguments."""
    save = args.get("save", False)
    if not isinstance(save, bool):
        raise ConfigError("save: true or false")
    if controlled.configuration is not None:
        await controlled.configuration.note(controlled.network, said, save=save)
    elif save:
        text = "this switch has no configuration that something could be saved in"
        raise ConfigError(text).of(Problem.NO_CONFIGURATION)


def texts_of(args: Args, key: str) -> list[str]:
    said = args.get(key, [])
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise ConfigError(f"{key}: a list of names")
    return said


def whole_of(args: Args, key: str, least: int, most: int) -> int | None:
    said = args.get(key)
    if said is None:
        return None
    if not isinstance(said, int) or isinstance(said, bool) or not least <= said <= most:
        raise ConfigError(f"--{key}: a whole number, {least} to {most}")
    return said


def text_of(args: Args, key: str) -> str | None:
    value = args.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{key} must be text")
    return value


def port_name(managed: FeatureManager, said: str) -> str:
    """The name of a port, for all verbs alike: as it was said where a port has it; else of the port
    with that number; else as it was said, for a port that may come. `NotFound` for a number that
    no port has, since no port can be called so.
    """
    ports = managed.switch.ports
    if any(port.name == said for port in ports):
        return said
    for port in ports:
        if str(port.number) == said:
            return port.name
    if said.isdigit():
        raise _no_port(said)
    return said


def port_of(managed: FeatureManager, said: str) -> Port:
    """The port that is up under a name or a number; `NotFound` if there is none."""
    name = port_name(managed, said)
    for port in managed.switch.ports:
        if port.name == name:
            return port
    raise _no_port(said)


def _no_port(said: str) -> NotFound:
    name = shortened(said)
    return NotFound(f"no port {name}: see `vswitch status`").of(Problem.NO_PORT, name=name)


def named_of(controlled: Controlled, args: Args, key: str) -> str | None:
    said = text_of(args, key)
    return None if said is None else port_name(controlled.managed, said)
