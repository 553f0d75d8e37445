"""How many lines of the log one key may cause: who reconnects all the time must not fill a disk.

A burst, then one a minute, which says how many were left out before it. Pure; `now` in seconds,
monotonic. Memory is bounded by `KEYS`: the key that was heard of longest ago is forgotten, and may
begin anew. No errors.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import Factory, define

from vswitch.switch.bucket import Bucket

BURST: Final = 10  # lines of one key: five times up and down, as on a bad day
EVERY: Final = 60.0  # seconds for one more
KEYS: Final = 4096  # four times as many as a switch has members


@define(eq=False)
class _Key:
    bucket: Bucket = Factory(lambda: Bucket(1 / EVERY, BURST))
    suppressed: int = 0


class LineLimit:
    """The lines of all keys."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, _Key] = OrderedDict()

    def allow(self, key: bytes, now: float) -> int | None:
        """How many lines were left out since the last one; None leaves out this one, too."""
        known = self._keys.get(key)
        if known is None:
            if len(self._keys) >= KEYS:
                self._keys.popitem(last=False)
            known = self._keys[key] = _Key()
        self._keys.move_to_end(key)
        if not known.bucket.allow(now, 1):
            known.suppressed += 1
            return None
        suppressed, known.suppressed = known.suppressed, 0
        return suppressed
