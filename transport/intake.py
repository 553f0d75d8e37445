"""What comes in: put together, opened, sorted, and given to those whom it concerns.

    receive_trains(trains, address, now)     what came for the session's receiver indices
    receive_confirmation(datagram, ...)      what was opened already, since it confirmed the keys
    received_datagrams, received_bytes       of all that has opened

Everything from outside has passed the AEAD and the replay window before anything else looks at it.
What comes in one batch reaches a reliable lane as one batch; after the end no lane gets anything.

Pure; `now` in seconds. Error contract: what is bad is counted in `drops`; nothing is raised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from transport.assembly import Assembly
from transport.constants import DATA_HEADER_SIZE, TAG_SIZE
from transport.control import PathChallenge
from transport.ending import Ending
from transport.errors import BadPacket
from transport.exchange import ControlExchange
from transport.keyring import Keyring
from transport.lanes import Lanes
from transport.liveness import Liveness
from transport.paths import Address, PathTable
from transport.reactions import Reactions
from transport.trains import Bytes
from transport.wire import CONTROL, DATA, LOOSE

__all__ = ["Intake"]


class Intake:
    """The way into one session."""

    __slots__ = (
        "_drops",
        "_ending",
        "_exchange",
        "_initiator",
        "_keys",
        "_lanes",
        "_liveness",
        "_paths",
        "_reactions",
        "assembly",
        "received_bytes",
        "received_datagrams",
    )

    def __init__(
        self,
        keys: Keyring,
        paths: PathTable,
        lanes: Lanes,
        liveness: Liveness,
        exchange: ControlExchange,
        reactions: Reactions,
        ending: Ending,
        drops: Counter[str],
        *,
        initiator: bool,
    ) -> None:
        """`initiator`: who connected somewhere goes on sending there, whatever comes from where."""
        self._keys = keys
        self._paths = paths
        self._lanes = lanes
        self._liveness = liveness
        self._exchange = exchange
        self._reactions = reactions
        self._ending = ending
        self._drops = drops
        self._initiator = initiator
        self.assembly = Assembly(lanes.bulk.kcp.mtu + TAG_SIZE, drops, keys.seen)
        self.received_datagrams = self.received_bytes = 0  # UDP payload

    def receive_trains(
        self, trains: Sequence[tuple[Bytes, int]], address: Address, now: float
    ) -> None:
        """Datagrams whose receiver index is one of ours, all from one address. HOT PATH."""
        bulk: list[bytes] = []
        sparse: list[bytes] = []
        keys, lanes, ending = self._keys, self._lanes, self._ending
        is_sparse, loose = lanes.is_sparse_untrusted, lanes.loose
        opened = newest = size = 0
        take = self.assembly.take_untrusted
        for header, sealed in [unit for train, step in trains for unit in take(train, step)]:
            try:
                pair = keys.find_untrusted(header, now)
                opener = pair.opener
                before = opener.newest
                plaintext = opener.open_unit_untrusted(header, sealed)
                opened += header[2]  # slices
                size += len(sealed) + DATA_HEADER_SIZE * header[2]
                if opener.newest != before and pair is keys.current:
                    newest = len(sealed) + DATA_HEADER_SIZE
                kind = header[0]
                if kind == DATA:
                    if plaintext:
                        (sparse if is_sparse(plaintext) else bulk).append(plaintext)
                elif kind == CONTROL:
                    self._receive_control_untrusted(plaintext, address, now)
                elif loose is None:
                    raise BadPacket("loose_unasked")
                elif ending.ended is None:
                    loose.receive_untrusted(plaintext, header[2], now)
            except BadPacket as bad:
                self._drops[bad.reason] += header[2]
        if not opened:
            return
        self.received_datagrams += opened
        self.received_bytes += size
        self._liveness.received(now)
        lanes.heard()
        if ending.ended is not None:
            ending.heard(now)
            return
        if newest and address != self._paths.current and not self._initiator:
            challenge = self._paths.observe(address, newest, now)
            if challenge is not None:
                self._exchange.queue(PathChallenge(challenge), address)
        if sparse:
            lanes.receive_sparse_units(sparse, now)
        if bulk:
            lanes.bulk.receive_units(bulk, now)

    def receive_confirmation(
        self, datagram: bytes, plaintext: bytes, address: Address, now: float
    ) -> None:
        """The datagram that confirmed the newest keys, and what was in it. Where it came from
        proves nothing: it may be a copy.
        """
        self.received_datagrams += 1
        self.received_bytes += len(datagram)
        self._liveness.received(now)
        lanes, kind = self._lanes, datagram[0]
        try:
            if kind == CONTROL:
                self._receive_control_untrusted(plaintext, address, now)
            elif kind == LOOSE:
                if lanes.loose is None:
                    raise BadPacket("loose_unasked")
                lanes.loose.receive_untrusted(plaintext, datagram[2], now)
            elif not plaintext:
                pass
            elif lanes.is_sparse_untrusted(plaintext):
                lanes.receive_sparse_units([plaintext], now)
            else:
                lanes.bulk.receive_units([plaintext], now)
        except BadPacket as bad:
            self._drops[bad.reason] += 1

    def _receive_control_untrusted(self, plaintext: bytes, address: Address, now: float) -> None:
        items = self._exchange.receive_untrusted(plaintext, address, now)
        self._reactions.react_untrusted(items, address, now)
