"""Handlers of `vswitch config`: what a running switch goes by, and another one in its place."""

from __future__ import annotations

from collections.abc import Iterable

from vswitch.config.document import Change, spelled
from vswitch.errors import ConfigError, Problem, VswitchError
from vswitch.management.answers import ConfigChange
from vswitch.management.handlers.common import Args, Controlled, Reloadable, Result
from vswitch.management.status import to_json


def told(changes: Iterable[Change]) -> list[ConfigChange]:
    """Changes as an answer has them."""
    return [
        ConfigChange(key=spelled(each.key), before=each.before, after=each.after)
        for each in changes
    ]


async def config_diff(controlled: Controlled, args: Args) -> Result:
    """`vswitch config diff`."""
    return to_json(await _of(controlled).compare())


async def config_reload(controlled: Controlled, args: Args) -> Result:
    """`vswitch config reload`."""
    revert = args.get("revert", False)
    if not isinstance(revert, bool):
        raise ConfigError("revert: true or false")
    return to_json(await _of(controlled).reload(revert=revert))


async def config_save(controlled: Controlled, args: Args) -> Result:
    """`vswitch config save`."""
    return to_json(await _of(controlled).save())


def _of(controlled: Controlled) -> Reloadable:
    if controlled.configuration is None:
        raise VswitchError("this switch has no configuration").of(Problem.NO_CONFIGURATION)
    return controlled.configuration
