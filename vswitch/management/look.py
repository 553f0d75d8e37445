"""The verbs of the control socket that look inside a running switch.

`server.py` takes all of them with one line. Each handler checks its arguments, which come from
whoever may ask (the switch's own user and root), and raises `VswitchError` for what is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from vswitch.capture import Captures
from vswitch.managed import Managed
from vswitch.management.control import Handler, Stream

__all__ = ["look_handlers"]


def look_handlers(managed: Managed) -> dict[str, Handler]:
    """By verb."""
    captures = Captures(managed.switch, managed.port)
    return {"capture": _soon(captures.begin)}


def _soon(
    answer: Callable[[dict[str, Any]], dict[str, Any] | Stream],
) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any] | Stream]]:
    """A handler of an answer that needs no waiting."""

    async def handler(args: dict[str, Any]) -> dict[str, Any] | Stream:
        await trio.lowlevel.checkpoint()
        return answer(args)

    return handler
