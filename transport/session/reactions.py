"""What the peer's control items change in a session.

Where an answer is due the exchange has given it (`exchange.py`). Here those are told whom an item
concerns: the path has moved, has healed, or takes other sizes; new keys are wanted; so much of the
datagram lane has come; the session is over.

Invariants: an item that comes again changes nothing more, and whatever one says can only change how
we send to who wrote it. Pure; `now` in seconds; raises nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from transport.lanes.lanes import Lanes
from transport.path.address import PathTable
from transport.path.mtu import Probing
from transport.session.closing import Ending
from transport.session.events import Event, PathChanged
from transport.session.keyring import Keyring
from transport.session.outbox import Trickle
from transport.wire.control import (
    Arrivals,
    Close,
    ControlItem,
    MtuAck,
    MtuProbe,
    PathResponse,
    Pong,
    Rekey,
)
from transport.wire.trains import Address


class Reactions:
    """Whom the control items of one session concern."""

    __slots__ = ("_ending", "_events", "_keys", "_lanes", "_paths", "_probing", "_trickle")

    def __init__(
        self,
        keys: Keyring,
        paths: PathTable,
        lanes: Lanes,
        probing: Probing,
        trickle: Trickle,
        ending: Ending,
        events: deque[Event],
    ) -> None:
        self._keys = keys
        self._paths = paths
        self._lanes = lanes
        self._probing = probing
        self._trickle = trickle
        self._ending = ending
        self._events = events

    def react_untrusted(self, items: Iterable[ControlItem], address: Address, now: float) -> None:
        """To the items of one datagram, which came from `address`."""
        for item in items:
            match item:
                case PathResponse(data):
                    if self._paths.answered(data, address, now):
                        self._lanes.repeat(now)  # it went to the old address
                        self._events.append(PathChanged(address))
                case Pong():
                    self._hear_answer(now)
                case MtuProbe(epoch):
                    self._probing.peer_searches(epoch, now)
                case MtuAck(size, epoch):
                    self._probing.acknowledged(size, epoch, now)
                    self._lanes.resize(self._probing.slice_size)
                case Close(code, reason):
                    self._ending.closed_by_peer(code, reason)
                case Rekey():
                    self._keys.wanted = True
                case Arrivals(received, expected):
                    self._hear_report_untrusted(received, expected, now)

    def _hear_answer(self, now: float) -> None:
        """A ping came through, and its answer as well."""
        if self._lanes.bulk.kcp.recovery.overdue:
            self._trickle.clear()  # what leaves so slowly is sent again, too
        self._lanes.answered(now)
        self._probing.begin(now)

    def _hear_report_untrusted(self, received: int, expected: int, now: float) -> None:
        if self._lanes.loose is not None:
            self._lanes.loose.reported_untrusted(
                received,
                expected,
                sealed=self._keys.totals()[0],
                unanswered=self._probing.unanswered,
                now=now,
            )
