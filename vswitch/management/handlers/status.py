"""Handlers of `vswitch status`, and of `revoke` when it has changed the registry."""

from __future__ import annotations

from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
)
from vswitch.management.status import to_json


async def status(controlled: Controlled, args: Args) -> Result:
    """`vswitch status`."""
    return to_json(await controlled.status())


async def revoked(controlled: Controlled, args: Args) -> Result:
    """The registry has changed: look again at everybody who is connected."""
    return {"disconnected": controlled.check_revoked()}
