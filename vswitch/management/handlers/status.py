"""Handlers of `vswitch status`, and of `revoke` when it has changed the registry."""

from __future__ import annotations

from vswitch.errors import ConfigError
from vswitch.management.handlers.common import Args, Controlled, Result, text_of
from vswitch.management.status import to_json


async def status(controlled: Controlled, args: Args) -> Result:
    """`vswitch status`."""
    return to_json(await controlled.status())


async def revoked(controlled: Controlled, args: Args) -> Result:
    """The registry has changed: look again at everybody who is connected."""
    return {"disconnected": controlled.check_revoked()}


async def bar(controlled: Controlled, args: Args) -> Result:
    """The registry could not take a revocation: keep the member out for as long as this runs."""
    if (name := text_of(args, "name")) is None:
        raise ConfigError("name: of a member")
    return {"disconnected": controlled.bar(name)}
