"""What a member goes by while it runs, and other options in their place: all or none.

They are those of its table in a file ([join], [exec] or [proxy]), whoever has said them. `AT_ONCE`
is the one place that says what holds without another start; nothing is kept beyond the run.

Invariant: no secret is shown: no option is one, and the join string is no option.

Error contract: `ConfigError` for what is wrong or needs another start; then all is as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs
import trio

from vswitch.addresses import WAY_OUT
from vswitch.config.document import (
    FILE,
    LIVE,
    OPTION,
    SENT,
    Change,
    Document,
    Flat,
    check_plain,
    differences,
    flatten,
    spelled,
    written,
)
from vswitch.config.options import JoinConfig
from vswitch.config.sources import bounded, fill, options_of
from vswitch.errors import ConfigError, Problem
from vswitch.logs import event, set_level
from vswitch.management.answers import ConfigSetting, ConfigState, Configured
from vswitch.management.handlers.config import told

log = logging.getLogger(__name__)

AT_ONCE: Final = frozenset(("accept_routes", "exit_node", "log_level"))


class MemberConfiguration:
    """The options in force. Implements `vswitch.management.handlers.common.Configurable`."""

    def __init__(
        self,
        config: JoinConfig,
        go_by: Callable[[JoinConfig], Awaitable[None]],
    ) -> None:
        """`go_by` has what is `AT_ONCE` of other options hold."""
        self._began = self._config = config
        self._go_by = go_by

    def whole(self) -> dict[str, Any]:
        """The options that are not as by default."""
        return _tables(self._config)

    def state(self) -> ConfigState:
        """The same, and who says each."""
        config = self._config
        live = {each.key for each in self._unsaved()}

        def source(name: str) -> str:
            from_file = config.given is not None and name not in config.given
            return FILE if from_file and config.config is not None else OPTION

        return ConfigState(
            file=None if config.config is None else str(config.config),
            saved_file=None,
            settings=[
                ConfigSetting(
                    key=list(key), value=value, source=LIVE if key in live else source(key[-1])
                )
                for key, value in flatten(self.whole()).items()
            ],
        )

    async def replace(self, tables: Mapping[str, Any]) -> Configured:
        """Go by these until the end. Not to be called again meanwhile."""
        before = self._config
        new = self._config = await trio.to_thread.run_sync(self._read, tables)
        if new.log_level != before.log_level:
            set_level(new.log_level)
        await self._go_by(new)
        changes = differences(_flat(before), _flat(new))
        said = ",".join(spelled(each.key) for each in changes)
        event(log, "reloaded", member=new.name, changes=said or "none", count=len(changes))
        return Configured(changes=told(changes), unsaved=told(self._unsaved()), saved=[])

    def _unsaved(self) -> list[Change]:
        return differences(_flat(self._began), _flat(self._config))

    def _read(self, tables: Mapping[str, Any]) -> JoinConfig:
        """In a thread."""
        now, cls = self._config, type(self._config)
        said = flatten(tables)
        wished = {(cls.table, "name"): now.name, **said}  # nobody else is asked here
        others = {each.key[1] for each in differences(_flat(now), wished) if each.key[1:]}
        same = {
            field.name: getattr(now, field.name)
            for field in attrs.fields(cls)
            if field.init and field.name not in others
        }
        try:
            document = Document(SENT, tables)
            new = fill(cls, same, document, table=cls.table, tables=(cls.table,))
            check_plain(said)
        except (ConfigError, ValueError) as error:
            raise ConfigError(bounded(str(error))) from None
        keys = ", ".join(
            f"{cls.table}.{name}"
            for name in options_of(cls)
            if name not in AT_ONCE and getattr(new, name) != getattr(now, name)
        )
        if keys:
            raise ConfigError(
                f"{keys}: cannot change while this member runs: say it where it is started (its "
                "file, flags or variables) and start it again; nothing has changed"
            ).of(Problem.RESTART, keys=keys)
        check_routes(new)
        return new


def check_routes(config: JoinConfig) -> None:
    """`ConfigError` for wishes about routes that exclude each other, or what goes with them."""
    if config.via is not None and (config.advertise or config.exit_node):
        raise ConfigError("--advertise and --exit-node are told to a switch, not with --via")
    if config.bridge is not None and (config.advertise or config.exit_node):
        raise ConfigError("--bridge has no routes: what is behind a bridge is in the LAN already")
    if config.exit_node and any(each in WAY_OUT for each in config.advertise):
        raise ConfigError("--exit-node and --advertise exit: the way out cannot be another's")
    if config.exit_node == config.name:
        raise ConfigError(f"--exit-node {config.name}: that is this member itself")


def _tables(config: JoinConfig) -> dict[str, Any]:
    """What a file says that makes these options, and no more; the name is always there."""
    plain = attrs.asdict(type(config)(name=config.name), recurse=False)
    said = {
        name: written(value)
        for name, entry in options_of(type(config)).items()
        if entry.in_file and (value := getattr(config, name)) is not None
        if name == "name" or value != plain[name]
    }
    return {config.table: said}


def _flat(config: JoinConfig) -> Flat:
    return flatten(_tables(config))
