"""An answer that goes on: `capture`, `events -f`, `mac --watch`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio


@attrs.frozen
class Stream:
    """Bytes that are said as they come."""

    # `run(send, ended)`: send until there is no more to say, or soon after `ended` is set. It is
    # cancelled, or `send` raises `trio.BrokenResourceError`, when the client is gone.
    run: Callable[[Callable[[bytes], Awaitable[None]], trio.Event], Awaitable[None]]
