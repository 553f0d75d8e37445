"""Handlers of members and invites: what commands do with the registry itself, for who is elsewhere.

What is changed is written down first, and then looked at by the switch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from vswitch.config.addressing import to_routes
from vswitch.config.places import to_publics
from vswitch.config.sources import shortened
from vswitch.config.words import to_name
from vswitch.errors import ConfigError, NotFound, Problem, VswitchError
from vswitch.management.handlers.common import Args, Controlled, Result
from vswitch.management.handlers.port import copy_settings
from vswitch.management.members import invites_of, make_invite, member_status, ports_up
from vswitch.management.status import SCHEMA, InviteStatus, to_json
from vswitch.management.workers import run_sync
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Member

T = TypeVar("T")
_LONGEST = 366 * 86400.0  # seconds that an invite can be used


async def members(controlled: Controlled, args: Args) -> Result:
    """The members, and the invites that can still be used."""
    registry = _registry(controlled)

    def read() -> tuple[list[Member], list[InviteStatus]]:
        known = registry.members()
        return known, invites_of(registry, known, time.time())

    known, invites = await run_sync(read)
    up = ports_up((await controlled.status()).ports)
    told = [to_json(member_status(each, up)) for each in known]
    return {"schema": SCHEMA, "members": told, "invites": [to_json(each) for each in invites]}


async def member(controlled: Controlled, args: Args) -> Result:
    """One member."""
    name = str(args.get("name"))
    for each in (await members(controlled, {}))["members"]:
        if each["name"] == name and each["revoked"] is None:
            found: Result = each
            return found
    said = f"no member is named {shortened(name)}: see `vswitch members`"
    raise NotFound(said).of(Problem.NO_MEMBER, name=shortened(name))


async def member_set(controlled: Controlled, args: Args) -> Result:
    """Give it another name, or approve networks behind it."""
    registry, name, new = _registry(controlled), str(args["name"]), args.get("to")
    routes = None if args.get("routes") is None else _said("routes", to_routes, args["routes"])
    if new is not None:
        _said("name", to_name, new)
    if routes is not None:
        await run_sync(registry.approve, name, routes)
    if new is not None and new != name:
        await run_sync(registry.rename, name, new)
        await copy_settings(controlled, name, new)
        name = new
    controlled.check_revoked()
    return await member(controlled, {"name": name})


async def member_disable(controlled: Controlled, args: Args) -> Result:
    """Keep it out, or let it in again."""
    since = time.time() if args.get("disabled") is True else None
    name = str(args["name"])
    await run_sync(_registry(controlled).disable, name, since)
    controlled.check_revoked()
    return await member(controlled, {"name": name})


async def member_revoke(controlled: Controlled, args: Args) -> Result:
    """Shut it out for good, and end the open invites of its name."""
    revoke = partial(_registry(controlled).revoke, str(args["name"]), time.time())
    await run_sync(revoke)
    return {"disconnected": controlled.check_revoked()}


async def invite(controlled: Controlled, args: Args) -> Result:
    """A join string."""
    registry, served = _registry(controlled), controlled.served
    if served is None:
        raise VswitchError("this switch has no members")
    name, public = _said("name", to_name, args["name"]), _said("public", to_publics, args["public"])
    seconds = args["expires"]
    if not 1 <= seconds <= _LONGEST or not math.isfinite(seconds):
        said = f"expires: 1 to {_LONGEST:.0f} seconds"
        raise ConfigError(said).of(Problem.EXPIRES, most=f"{_LONGEST:.0f}")
    now = time.time()
    again = args.get("again") is True
    made = partial(make_invite, registry, served, name, now, now + seconds, public, again=again)
    string = await run_sync(made)
    return {"schema": SCHEMA, "name": name, "string": string, "expires": now + seconds}


def _said(key: str, read: Callable[[Any], T], value: object) -> T:
    try:
        return read(value)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def _registry(controlled: Controlled) -> Registry:
    if controlled.registry is None:
        raise VswitchError("this switch has no members")
    return controlled.registry
