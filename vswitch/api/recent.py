"""Answers that several callers get: what was made for one is given to others for a moment.

    said = await recent.get("/v1/status", networks, make)

So a page, a scrape and scripts that ask at the same time cost the switch one answer, and however
many there are, of each kind `1 / LIFE` answers a second. All end at the same moments, every `LIFE`
seconds: so what is made of another answer is no older than that may be.

Invariants: an answer is as of a moment at most `LIFE` seconds before it was asked for, or as long
as it took to make, and behind all that the API had changed and all events of the switch until then.
Of one kind one is made at a time. What is kept is bounded.

Error contract: what `make` raises, for whom it was called; the next one makes it anew.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

import trio
from attrs import Factory, define

LIFE: Final = 0.1  # seconds; nobody who looks sees that, and frames have the rest of the time
_MOST: Final = 64  # kinds of answers that are kept


@define(eq=False)
class _Kind:
    making: trio.Lock = Factory(trio.Lock)
    answer: Any = None
    tick: float = -1.0  # when it was begun
    seen: object = None  # what held then
    ready: float = -math.inf  # when it was there


class Recent:
    """The latest answer of each kind."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()
        self._changes = 0

    def changed(self) -> None:
        """Something is not as it was: what was begun before is given to nobody else."""
        self._changes += 1

    async def get(
        self, kind: Hashable, look: Callable[[], object], make: Callable[[], Awaitable[Any]]
    ) -> Any:
        """The answer of that kind, made now or a moment ago; never one from before `look` gave
        something else. Not a checkpoint where it is there.
        """
        known = self._kinds.setdefault(kind, _Kind())
        self._kinds.move_to_end(kind)
        if len(self._kinds) > _MOST:
            self._kinds.popitem(last=False)
        asked = trio.current_time()
        if (known.tick, known.seen) != (asked // LIFE, (self._changes, look())):
            async with known.making:
                tick, seen = trio.current_time() // LIFE, (self._changes, look())
                if known.seen != seen or (known.tick != tick and known.ready < asked):
                    known.answer = await make()
                    known.tick, known.seen, known.ready = tick, seen, trio.current_time()
        return known.answer
