"""The reliable lane of a session: messages in order, through KCP, in sealed units of fitting size.

Joins the conversation, the window in bytes, the size of units and the timing of acknowledgements.
What comes in has passed the AEAD; what goes out is plaintext for the session to seal. KCP is
flushed after every batch of inputs and of outputs, so nothing waits for a timer on its way but a
lone acknowledgement, and that for 5 ms.

Pure; `now` in seconds. Error contract: bad segments are counted in `drops`; `broken` is set when
the peer can never be understood again; ValueError for a message over `max_message`.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from math import inf

from transport.congestion import DelayWindow
from transport.constants import (
    ACK_BYTES,
    ACK_DELAY,
    INBOX_BYTES,
    KCP_HEADER_SIZE,
    KCP_INTERVAL,
    MESSAGE_COST,
    SEND_WINDOW,
    SUSPECT_SEND_INTERVAL,
)
from transport.errors import BadPacket
from transport.kcp import Conversation, split_segments
from transport.units import UnitSize, unit_bytes

__all__ = ["ReliableLane"]

_KCP_ACK = 82  # ikcp.c: IKCP_CMD_ACK


class ReliableLane:
    """One KCP conversation with all that paces it."""

    def __init__(
        self,
        number: int,
        *,
        kcp_mtu: int,
        receive_window: int,
        drops: Counter[str],
        now: float,
    ) -> None:
        """`number`: KCP's conversation number; `kcp_mtu`: bytes of the largest unit."""
        self.kcp = Conversation(
            number,
            mtu=kcp_mtu,
            send_window=SEND_WINDOW,
            receive_window=receive_window,
            now=now,
        )
        self.flush_due = False
        self.broken = False  # the peer sent fragments that never make a message
        self._drops = drops
        self._units = UnitSize(kcp_mtu)
        self._window = DelayWindow(now)
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._last_flush = now
        self._unacknowledged = 0  # bytes of segments since the last flush
        self._ack_at = inf
        self._gate_open_at = 0.0

    # --- The program above ------------------------------------------------------------------

    @property
    def message_size(self) -> int:
        """Bytes of a message that fills one sealed unit, as large as they are now."""
        return self._units.message_size

    @property
    def slice_size(self) -> int:
        """Bytes of a sealed unit that one datagram carries."""
        return self._units.slice_size

    def resize(self, slice_size: int) -> None:
        """The path takes datagrams of another size from now on."""
        self._units.resize(slice_size)

    @property
    def credit(self) -> int:
        """Bytes that may be given to `send` now; none if zero or less."""
        return self._window.window - self.kcp.in_flight

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""
        return self._window.window

    @property
    def rtt(self) -> float | None:
        """Seconds, smoothed, from acknowledgements; None before the first."""
        return self._window.rtt

    @property
    def readable(self) -> bool:
        return bool(self._inbox)

    def send(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages. HOT PATH."""
        self.kcp.send(messages, now)
        self.flush_due = True
        if self.credit <= 0:
            self._window.on_limited()

    def take_messages(self, *, more: bool) -> list[bytes]:
        """All messages that have arrived. With `more`, go on with what KCP was held back with.
        HOT PATH.
        """
        messages = list(self._inbox)
        self._inbox.clear()
        full = self._inbox_bytes >= INBOX_BYTES
        self._inbox_bytes = 0
        if full and more:
            self._drain()
            self.flush_due = True  # tells the peer that there is room
        return messages

    def close(self) -> None:
        """Nothing more comes or goes; what was held back is acknowledged, so it can be read."""
        with suppress(BadPacket):
            self._inbox.extend(self.kcp.receive(sys.maxsize))
        self.kcp.close()

    # --- Receiving --------------------------------------------------------------------------

    def receive_units(self, units: list[bytes], now: float) -> None:
        """Plaintexts of sealed units, each one KCP datagram. HOT PATH."""
        try:
            self.kcp.input_untrusted(units, now)
        except BadPacket as bad:
            self._drops[bad.reason] += 1
        self._owe_acknowledgement(units, now)
        acked = self.kcp.take_acked()
        if acked:
            self._window.on_acked(acked, now)
        self._drain()

    def heard(self) -> None:
        """Something authentic came in: the peer is not silent."""
        self._gate_open_at = 0.0

    def _owe_acknowledgement(self, units: list[bytes], now: float) -> None:
        """Acknowledge much at once, and a little together with the answer to it, if one comes
        soon: a datagram less for each lone frame, and a wake-up less for the peer. HOT PATH.
        """
        self._unacknowledged += sum(map(len, units))
        if self._unacknowledged >= ACK_BYTES or _only_acknowledgements(units[-1]):
            self.flush_due = True  # in the second case for what KCP repeats or may send now
        elif self._ack_at > now + ACK_DELAY:
            self._ack_at = now + ACK_DELAY

    def _drain(self) -> None:
        room = INBOX_BYTES - self._inbox_bytes
        if room <= 0:
            return
        try:
            messages = self.kcp.receive(room)
        except BadPacket as bad:
            self._drops[bad.reason] += 1
            self.broken = True
            return
        self._inbox.extend(messages)
        self._inbox_bytes += sum(map(len, messages)) + MESSAGE_COST * len(messages)

    # --- Time and sending -------------------------------------------------------------------

    def deadline(self) -> float:
        """When `handle_timeout` wants to be called; infinite when there is nothing to do."""
        return min(self._ack_at, self._tick_at()) if self.kcp.has_work else self._ack_at

    def _tick_at(self) -> float:
        """When KCP wants to look at its unacknowledged segments again."""
        return max(self._last_flush + KCP_INTERVAL, self._gate_open_at)

    def handle_timeout(self, now: float) -> None:
        if now >= self._ack_at or (self.kcp.has_work and now >= self._tick_at()):
            self.flush_due = True

    def units_to_send(self, now: float, *, suspect: bool) -> list[bytes]:
        """Plaintexts for sealed units that have to leave now. Towards a `suspect` peer, which
        owes an answer for long, only as much as shows when the path heals. HOT PATH.
        """
        self.flush_due = False
        self._last_flush = now
        self._unacknowledged, self._ack_at = 0, inf
        units = self.kcp.flush(now)
        if not units:
            return units
        if suspect:
            units = self._through_the_gate(units, now)
        self._units.on_sent(sum(map(len, units)), repaired=self.kcp.repaired)
        if self._units.slices == 1:
            return _one_slice_each(units, self.slice_size)
        return units

    def _through_the_gate(self, units: list[bytes], now: float) -> list[bytes]:
        if now < self._gate_open_at:
            self._drops["suspect_gate"] += len(units)
            return []
        units = _one_slice_each(units, self.slice_size)
        self._drops["suspect_gate"] += len(units) - 1
        slices = -(-len(units[0]) // self.slice_size)
        self._gate_open_at = now + slices * SUSPECT_SEND_INTERVAL
        return units[:1]


def _one_slice_each(units: list[bytes], slice_size: int) -> list[bytes]:
    """As far as segments allow: one that is larger stays as it is."""
    most = unit_bytes(1, slice_size)
    return [part for unit in units for part in split_segments(unit, most)]


def _only_acknowledgements(unit: bytes) -> bool:
    """Whether a unit from KCP holds nothing that has to be acknowledged itself: its last segment
    is an acknowledgement, and those come first.
    """
    return len(unit) % KCP_HEADER_SIZE == 0 and unit[4 - KCP_HEADER_SIZE] == _KCP_ACK
