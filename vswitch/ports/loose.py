"""The sending half of a member's datagram lane: whole records, each message a unit of its own.

    frames ─▶ (superframes cut, if the path loses something) ─▶ whole records ─▶ `send_loose_nowait`

Nothing here waits or is repeated. What the lane does not take in one turn is left to the caller's
queue; a record that no unit can hold, or a superframe that cannot be cut, is dropped and counted in
`dropped`, in frames.

Errors are those of the channel.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import trio

from vswitch.core.lane_choice import AUTO, DATAGRAM, LaneRule
from vswitch.core.load import load_of
from vswitch.core.records import pack_whole
from vswitch.core.segment import without_superframes_untrusted
from vswitch.ports.messages import MessageChannel

__all__ = ["LooseSender"]


class LooseSender:
    """What leaves on the datagram lane of one channel, while it is that lane's turn."""

    __slots__ = ("_channel", "_mtu", "_rule", "dropped")

    def __init__(self, channel: MessageChannel, mode: str, mtu: int) -> None:
        """`mode`: datagram or auto; `mtu`: bytes, what superframes are cut for."""
        channel.open_loose()
        self._channel = channel
        self._mtu = mtu
        self._rule = LaneRule(trio.current_time()) if mode == AUTO else None
        self.dropped: Counter[str] = Counter()

    @property
    def mode(self) -> str:
        """As it was agreed."""
        return DATAGRAM if self._rule is None else AUTO

    @property
    def active(self) -> bool:
        """Whether frames left here when they were last looked at."""
        return self._rule is None or self._rule.datagram

    def takes(self) -> bool:
        """Whether frames leave here now. HOT PATH of the lane."""
        if self._rule is None:
            return True
        channel = self._channel
        sent, arrived, _, _ = channel.progress()
        return self._rule.choose(trio.current_time(), channel.lost_at, sent - arrived)

    def send(self, records: list[bytes]) -> int:
        """How many records were taken, from the front. HOT PATH of the lane."""
        channel = self._channel
        size, limit = channel.loose_size, channel.loose_limit
        credit = channel.loose_credit
        taken = len(records)
        if sum(map(len, records)) > credit:
            taken = _how_many(records, credit)
            records = records[:taken]
        if not records:
            with suppress(trio.WouldBlock):
                channel.send_loose_nowait(())  # raises if the channel is closed or broken
            return 0
        if size < limit or max(map(len, records)) > limit:
            records = self._small(records, limit)
        if records:
            channel.send_loose_nowait(pack_whole(records, size))
        return taken

    def _small(self, records: list[bytes], limit: int) -> list[bytes]:
        """The batch without superframes, and without what no unit can hold."""
        records, refused = without_superframes_untrusted(records, self._mtu)
        self.dropped["bad_superframe"] += refused
        if records and max(map(len, records)) > limit:
            fitting = [record for record in records if len(record) <= limit]
            self.dropped["too_long"] += load_of(records).frames - load_of(fitting).frames
            return fitting
        return records


def _how_many(records: list[bytes], credit: int) -> int:
    for index, record in enumerate(records):
        if credit <= 0:
            return index
        credit -= len(record)
    return len(records)
