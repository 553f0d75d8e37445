"""What leaves in one turn, and in which order.

What is said about the session goes first, since it is small and much depends on it: control items,
and then the probes of the path. After them come the datagram lane, the next piece of a unit that
leaves slowly, the sparse lane, and bulk, which has most and would hold up all others.

Pure; `now` in seconds. Error contract: `KeyExhausted`; what was sealed before stays and leaves.
"""

from __future__ import annotations

from transport.constants import CONFIRM_INTERVAL
from transport.lanes.datagram import LooseLane
from transport.lanes.lanes import Lanes
from transport.path.address import PathTable
from transport.path.liveness import Liveness
from transport.path.mtu import Probing
from transport.session.exchange import ControlExchange
from transport.session.keyring import Keyring
from transport.session.outbox import Dispatch
from transport.wire.control import Arrivals


class Scheduler:
    """The turns of one session."""

    __slots__ = (
        "_dispatch",
        "_exchange",
        "_initiator",
        "_keys",
        "_lanes",
        "_liveness",
        "_paths",
        "_probing",
    )

    def __init__(
        self,
        keys: Keyring,
        paths: PathTable,
        lanes: Lanes,
        liveness: Liveness,
        probing: Probing,
        exchange: ControlExchange,
        dispatch: Dispatch,
        *,
        initiator: bool,
    ) -> None:
        """`initiator`: it is its datagrams that confirm new keys."""
        self._keys = keys
        self._paths = paths
        self._lanes = lanes
        self._liveness = liveness
        self._probing = probing
        self._exchange = exchange
        self._dispatch = dispatch
        self._initiator = initiator

    @property
    def round_trip(self) -> float | None:
        """Seconds, smoothed, from acknowledgements or from pings; None before the first."""
        rtt = self._lanes.rtt
        return self._exchange.round_trip if rtt is None else rtt

    def seal_due(self, now: float) -> None:
        """Have all sealed that has to leave now. Raises `KeyExhausted`. HOT PATH."""
        dispatch, lanes, probing = self._dispatch, self._lanes, self._probing
        trickle, bulk, loose = dispatch.trickle, lanes.bulk, lanes.loose
        if loose is not None:
            self._look_after_loose(loose, now)
        if lanes.flush_due or trickle:
            self._confirm_keys(now)
        if self._exchange.queued:
            dispatch.seal_control(self._exchange.take(), now)
        if probing.due_on(self._paths.current, now):
            self._seal_probes(now)
        if lanes.flush_due:
            probing.watch(lanes.oldest, now, self.round_trip)
            lanes.resize(probing.slice_size)
        if loose is not None and loose.flush_due:
            loose.slice_size = probing.slice_size
            units = loose.take_units(now, suspect=self._liveness.suspect(now))
            dispatch.seal_loose(units, loose.slice_size, now)
        if now >= trickle.at:
            dispatch.next_piece(now)
            if not trickle:
                bulk.flush_due = True  # for what has waited for that
        sparse = lanes.sparse
        if sparse is not None and sparse.flush_due:
            units = lanes.sparse_units_to_send(now, suspect=self._liveness.suspect(now))
            dispatch.seal_units(sparse, units, bulk, now)
        if bulk.flush_due:
            suspect = self._liveness.suspect(now)
            units = bulk.units_to_send(now, suspect=suspect, busy=bool(trickle))
            dispatch.seal_units(bulk, units, bulk, now)

    def _look_after_loose(self, loose: LooseLane, now: float) -> None:
        """What the datagram lane needs of the other parts before anything is sealed."""
        if loose.report_due(now):
            _, opened, expected = self._keys.totals()
            self._exchange.queue(Arrivals(opened, expected))
        if loose.flush_due:
            self._confirm_keys(now)
            if loose.shaken(now, self.round_trip):
                self._probing.doubt(now)

    def _confirm_keys(self, now: float) -> None:
        """Ping again while nothing has come under new keys: the ping that confirms them may be
        lost, and the slices of a large unit confirm nothing.
        """
        if (
            self._initiator
            and self._keys.current.opener.newest < 0
            and now - self._exchange.pinged_at >= CONFIRM_INTERVAL
        ):
            self._exchange.ping(now)

    def _seal_probes(self, now: float) -> None:
        """Datagrams that nobody needs, to learn the size of the path."""
        suspect = self._liveness.suspect(now)
        probes = self._probing.plaintexts(
            self._paths.current, now, self.round_trip, suspect=suspect
        )
        for plaintext, size in probes:
            self._dispatch.seal_probe(plaintext, size)
