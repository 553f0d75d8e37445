"""Server-sent events (WHATWG HTML, section 9.2): a stream of JSON lines, as a page reads it.

Each line is one event, `data:`; its number, where it has one, is the `id:` that a client says in
Last-Event-ID when it comes back. Every `HEARTBEAT` seconds there is a comment, so that whoever is
on the way sees that the stream lives.

Error contract: that of the stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import trio

from vswitch.api.table import EVENT_STREAM, Call
from vswitch.management.stream import Stream
from vswitch.runtime import single_error

HEARTBEAT: Final = 15.0  # seconds
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_AGAIN: Final = b"retry: 1000\n\n"  # milliseconds until a client comes back

Send = Callable[[bytes], Awaitable[None]]


def as_events(stream: Stream) -> Stream:
    """The same, as events."""
    return Stream(partial(_run, stream))


def last_event_id(text: str | None) -> int | None:
    """The number that a client has seen last; None where it says none."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


async def answer_events(call: Call, ask: Callable[[dict[str, Any]], Awaitable[Any]]) -> Any:
    """A list, a line for each, or server-sent events, as it was asked for: see `EventsAsked`."""
    headers, since = call.request.headers, call.query.since
    wanted = EVENT_STREAM in headers.get("accept", "")
    if wanted and (seen := last_event_id(headers.get("last-event-id"))) is not None:
        since = seen
    answer = await ask({"since": since, "follow": wanted or call.query.follow})
    return as_events(answer) if wanted and isinstance(answer, Stream) else answer


async def _run(stream: Stream, send: Send, ended: trio.Event) -> None:
    turn = trio.Lock()
    waiting, head = b"", _AGAIN

    async def say(data: bytes) -> None:
        async with turn:
            await send(data)

    async def say_lines(piece: bytes) -> None:
        nonlocal waiting, head
        *lines, waiting = (waiting + piece).split(b"\n")
        events, head = head + b"".join(map(_event, lines)), b""
        if events:
            await say(events)

    async def live() -> None:
        while True:
            await trio.sleep(HEARTBEAT)
            await say(b":\n\n")

    with single_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            await stream.run(say_lines, ended)
            nursery.cancel_scope.cancel()


def _event(line: bytes) -> bytes:
    if not line:
        return b""
    number = json.loads(line).get("number")
    name = b"" if number is None else b"id: %d\n" % number
    return name + b"data: " + line + b"\n\n"
