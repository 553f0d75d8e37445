"""Handlers of `vswitch rekey`: a new key for the switch."""

from __future__ import annotations

from vswitch.errors import VswitchError
from vswitch.management.handlers.common import Args, Controlled, Rekeyable, Result
from vswitch.management.status import to_json


async def rekey_status(controlled: Controlled, args: Args) -> Result:
    """`vswitch rekey --status`."""
    return to_json(await _of(controlled).status())


async def rekey(controlled: Controlled, args: Args) -> Result:
    """`vswitch rekey`."""
    force = args.get("force") is True
    return to_json(await _of(controlled).begin(args["grace"], force=force))


async def rekey_finish(controlled: Controlled, args: Args) -> Result:
    """`vswitch rekey --finish`."""
    return to_json(await _of(controlled).finish(force=args.get("force") is True))


def _of(controlled: Controlled) -> Rekeyable:
    if controlled.rekeying is None:
        raise VswitchError("this switch has no key")
    return controlled.rekeying
