"""A bounded, safe KCP conversation: the only importer of the KCP binding.

KCP (ikcp.c) is an ARQ without clock, sockets, authentication, handshake or end. This wrapper
shows only what is safe of the binding and keeps the engine's known hazards inside:

* only datagrams that passed the AEAD come in: one forged segment can empty the send buffer;
* `setmtu` is called once, before the first message; `.mtu` and `.mss` are never written (the
  binding would not reallocate its buffer);
* the output callback only appends to a list, closes over nothing else and returns 0: anything
  else surfaces as SystemError or as a cycle that is never collected;
* a message has at most 127 fragments, and the caller asks `in_flight` before it sends, since
  KCP queues without bound;
* KCP bounds what it holds of a peer in segments, not in bytes: its receive window is narrowed
  to one message of the most fragments while that is too much;
* a peer with more fragments waiting than a message may have, and no message, has broken the
  protocol: `BadPacket`;
* dead links and liveness are the session's business, so KCP's own verdict is disabled;
* the 32-bit millisecond clock starts at zero with the session; KCP compares it signed, so its
  wrap after 49.7 days is harmless.

Message mode; the empty message is a message. One thread only. Errors: `BadPacket` from
`input_untrusted`, `ValueError` for a message that is too long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from siokcp import KCPConnection

from transport.constants import (
    KCP_HEADER_SIZE,
    KCP_INTERVAL,
    KCP_MIN_RTO_MS,
    KCP_RESEND,
    MAX_FRAGMENTS,
    MESSAGE_COST,
    RECEIVE_BYTES,
)
from transport.errors import BadPacket

__all__ = ["Conversation", "split_segments"]


# KCP halves its slow-start threshold when it repeats a segment, and does nothing else with it
# while its own congestion control is off: so the threshold tells of losses.
_NO_LOSS = 0x7FFFFFFF


_COPY_UP_TO = 8192  # bytes of a datagram: above, a call more costs less than a copy


def split_segments(datagram: bytes, size: int) -> list[bytes]:
    """What `flush` gave, cut between segments into pieces of at most `size` bytes where that is
    possible: a segment that is larger is a piece of its own.
    """
    pieces: list[bytes] = []
    start = at = 0
    end = len(datagram)
    while at < end:
        # The length of a segment's content stands at the end of its 24-byte header.
        following = at + KCP_HEADER_SIZE + int.from_bytes(datagram[at + 20 : at + 24], "little")
        if following - start > size and at > start:
            pieces.append(datagram[start:at])
            start = at
        at = following
    pieces.append(datagram[start:])
    return pieces


def _no_log(_: str) -> None:
    """The engine's own log stays off (its mask is 0); the binding wants a callable."""


class Conversation:
    """One reliable, ordered message lane with a peer."""

    __slots__ = (
        "_acked",
        "_held",
        "_kcp",
        "_outbox",
        "_pending",
        "_receive_window",
        "_start",
        "in_flight",
        "max_message",
        "message_size",
        "mtu",
        "repaired",
    )

    def __init__(
        self, conv: int, *, mtu: int, send_window: int, receive_window: int, now: float
    ) -> None:
        """`mtu`: bytes of a datagram that comes out of `flush`; windows in segments."""
        outbox: list[bytes] = []

        def output(datagram: bytes, append: object = outbox.append) -> int:
            append(datagram)  # type: ignore[operator]
            return 0

        kcp = KCPConnection(conv, output, _no_log)
        # nodelay 2: a segment's timeout grows linearly, so a healed path is used at once.
        # No congestion window of KCP's own: congestion.py bounds the bytes in flight.
        kcp.nodelay(2, round(KCP_INTERVAL * 1000), KCP_RESEND, 1)
        kcp.rx_minrto = KCP_MIN_RTO_MS  # after nodelay(), which resets it
        kcp.fastlimit = 0  # fast retransmission also after the fifth time
        kcp.dead_link = 0xFFFFFFFF
        kcp.wndsize(send_window, receive_window)
        kcp.setmtu(mtu)
        kcp.update(0)  # flush() does nothing before the first update
        self._kcp = kcp
        self._outbox = outbox
        self._start = now
        self._pending: deque[tuple[int, float]] = deque()  # size and time of unacked segments
        self._acked: list[tuple[int, float]] = []
        self._held = 0  # bytes that came since KCP's receiving queues were empty, less what left
        self._receive_window = kcp.rcv_wnd
        self.mtu = mtu
        self.message_size = mtu - KCP_HEADER_SIZE  # one segment, one datagram
        self.max_message = self.message_size * MAX_FRAGMENTS
        self.repaired = False  # the last flush sent something again that counts as lost
        self.in_flight = 0  # bytes given to `send` and not yet acknowledged

    def send(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages; they leave with the next `flush`. HOT PATH."""
        send, mss, pending = self._kcp.send, self.message_size, self._pending
        for message in messages:
            size = len(message)
            if size <= mss:
                pending.append((size, now))
            elif size <= self.max_message:
                pending.extend((min(mss, size - at), now) for at in range(0, size, mss))
            else:
                raise ValueError(f"a message of {size} bytes; at most {self.max_message}")
            send(message)
            self.in_flight += size

    def input_untrusted(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take authentic datagrams in, several at once since KCP reads segments until the end.

        Raises `BadPacket("not_kcp")` when the engine refuses them; the segments before the one
        that it refused have been taken, and are to be acknowledged. HOT PATH.
        """
        kcp = self._kcp
        kcp.current = self._clock(now)
        if len(datagrams) > 1 and len(datagrams[0]) < _COPY_UP_TO:
            datagrams = (b"".join(datagrams),)
        refused = False
        for datagram in datagrams:
            refused |= kcp.receive_data(datagram) < 0
        if kcp.nrcv_buf or kcp.nrcv_que:
            self._held += sum(map(len, datagrams))
            if self._held > RECEIVE_BYTES:
                kcp.rcv_wnd = min(kcp.rcv_wnd, kcp.nrcv_que + MAX_FRAGMENTS + 1)
        pending = self._pending
        acknowledged = len(pending) - kcp.waitsnd()
        # KCP does not say which segments were acknowledged, only how many are left. Counting
        # from the oldest is exact as soon as the gap closes, and that is all a bound needs.
        while acknowledged > 0:
            size, sent = pending.popleft()
            self.in_flight -= size
            self._acked.append((size, sent))
            acknowledged -= 1
        if refused:
            raise BadPacket("not_kcp")

    def receive(self, limit: int) -> list[bytes]:
        """Whole messages in order, until about `limit` bytes are taken, each message counting
        `MESSAGE_COST` more than its size. HOT PATH.
        """
        messages: list[bytes] = []
        next_event = self._kcp.next_event
        while limit > 0:
            message = next_event()
            if message is None:  # b"" is a message
                kcp = self._kcp
                if kcp.nrcv_que >= MAX_FRAGMENTS and kcp.peeksize() < 0:
                    # Fragments that never make a message.
                    raise BadPacket("not_kcp")
                break
            limit -= len(message) + MESSAGE_COST
            messages.append(message)
        if self._held:
            self._release(sum(map(len, messages)))
        return messages

    def _release(self, size: int) -> None:
        """So many bytes of messages have left KCP's queues. HOT PATH."""
        kcp = self._kcp
        # The headers of segments, acknowledgements and repetitions go when nothing is held.
        self._held = self._held - size if kcp.nrcv_buf or kcp.nrcv_que else 0
        if kcp.rcv_wnd < self._receive_window and self._held <= RECEIVE_BYTES // 2:
            kcp.rcv_wnd = self._receive_window  # the peer is told by KCP, if it was full

    def flush(self, now: float) -> list[bytes]:
        """Datagrams due now: acknowledgements, new segments, repeated segments. HOT PATH."""
        kcp = self._kcp
        kcp.current = self._clock(now)
        kcp.ssthresh = _NO_LOSS
        kcp.flush()
        self.repaired = kcp.ssthresh != _NO_LOSS
        outbox = self._outbox
        if not outbox:
            return []
        datagrams = outbox.copy()
        outbox.clear()
        return datagrams

    def take_acked(self) -> list[tuple[int, float]]:
        """(bytes, time of sending) of each segment acknowledged since the last call."""
        acked, self._acked = self._acked, []
        return acked

    @property
    def has_work(self) -> bool:
        """Whether time alone can make it send: there are unacknowledged segments."""
        return bool(self._pending)

    @property
    def oldest(self) -> int | None:
        """Number of the segment that has been on its way for longest; None if none is."""
        kcp = self._kcp
        number: int | None = kcp.snd_una if kcp.nsnd_buf else None
        return number

    def close(self) -> None:
        """Break the binding's reference to the callback; the engine's memory goes with us."""
        self._kcp.send_cb = None

    def _clock(self, now: float) -> int:
        return int((now - self._start) * 1000) & 0xFFFFFFFF
