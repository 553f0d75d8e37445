"""What a session does because time has passed, and when that is.

Before the end: keys become too old, the peer is asked for a sign of life or given up, new keys and
overdue acknowledgements are asked for. After it: the last word is said, and then nothing more.

Invariants: a session without unacknowledged data wakes for its keepalive, its rekey and the search
for the path's size alone. Pure; `now` in seconds; raises nothing.
"""

from __future__ import annotations

from transport.lanes.lanes import Lanes
from transport.path.liveness import Action, Liveness
from transport.path.mtu import Probing
from transport.session.closing import Ending
from transport.session.exchange import ControlExchange
from transport.session.keyring import Keyring
from transport.session.outbox import Trickle
from transport.wire.control import CloseCode, Rekey


class Timeouts:
    """The deadlines of one session."""

    __slots__ = (
        "_ending",
        "_exchange",
        "_initiator",
        "_keys",
        "_lanes",
        "_liveness",
        "_probing",
        "_trickle",
    )

    def __init__(
        self,
        keys: Keyring,
        lanes: Lanes,
        liveness: Liveness,
        probing: Probing,
        trickle: Trickle,
        exchange: ControlExchange,
        ending: Ending,
        *,
        initiator: bool,
    ) -> None:
        """`initiator`: it is the one to start handshakes."""
        self._keys = keys
        self._lanes = lanes
        self._liveness = liveness
        self._probing = probing
        self._trickle = trickle
        self._exchange = exchange
        self._ending = ending
        self._initiator = initiator

    def deadline(self) -> float:
        """When `handle_timeout` wants to be called, or something to be sent, at the latest."""
        if self._ending.ended is not None:
            return self._ending.deadline()
        due = min(self._liveness.deadline(), self._keys.deadline(), self._lanes.deadline())
        due = min(due, self._trickle.at, self._probing.due)
        return min(due, self._keys.rekey_at) if self._initiator else due

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if self._ending.ended is not None:
            self._ending.handle_timeout(now)
            return
        if not self._keys.expire(now):
            self._ending.fail(CloseCode.TIMEOUT, "no new keys in time", by_peer=False)
            return
        match self._liveness.poll(now):
            case Action.DEAD:
                self._ending.peer_silent(now)
                return
            case Action.PING:
                self._exchange.ping(now)
            case Action.NOTHING:
                pass
        if self._lanes.asks(now):
            self._exchange.ping(now)
        self._keys.handle_timeout(now)
        if not self._initiator and self._keys.asks(now):
            self._exchange.queue(Rekey())
        self._lanes.handle_timeout(now)
