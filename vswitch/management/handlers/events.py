"""Handler of `vswitch events`: those that are still there, or one line for each as it comes."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import trio

from vswitch.errors import ConfigError
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
    Send,
)
from vswitch.management.stream import Stream
from vswitch.switch.events import Event, EventLog

EVENT_PAUSE = 0.2  # seconds between two looks for somebody who follows the events


async def events(controlled: Controlled, args: Args) -> Result | Stream:
    """`vswitch events`: those that are still there, or one line of JSON for each as it comes."""
    return said_events(controlled.managed.switch.events, args)


def said_events(log: EventLog, args: Args) -> Result | Stream:
    """The same of any program that notes what happens."""
    since = args.get("since", 0)
    if not isinstance(since, int) or isinstance(since, bool) or since < 0:
        raise ConfigError("since: the number of an event")
    if args.get("follow") is True:
        return Stream(partial(_follow, log, since))
    return {"events": [_event(event) for event in log.since(since)]}


async def _follow(log: EventLog, since: int, send: Send, ended: trio.Event) -> None:
    if since > log.last:
        since = 0  # a number of a program that was there before this one
    while not ended.is_set():
        events = log.since(since)
        if events:
            since = events[-1].number
            lines = [json.dumps(_event(event)) + "\n" for event in events]
            await send("".join(lines).encode())
        with trio.move_on_after(EVENT_PAUSE):
            await ended.wait()


def _event(event: Event) -> dict[str, Any]:
    at = time.time() - (trio.current_time() - event.at)
    named = {"number": event.number, "at": at, "kind": event.kind, "port": event.port}
    return {**named, **event.facts, **named}  # in this order, and no fact hides one of these
