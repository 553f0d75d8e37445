"""A KCP conversation: messages in order over datagrams, wire-compatible with KCP (ikcp.c).

Joins the receiving half (`arrivals.py`), the sending half, which is here, and what is under way
(`congestion/recovery.py`). A segment is parsed once and stored once: what comes in is cut out of
its datagram when it is taken, and of what goes out the message itself is kept, not what it became
on the wire.

What differs from ikcp.c is whose the timers are. `Recovery` decides what is lost, and when it is
sent again, since KCP would send everything at once again where a path has become slow; a peer whose
window is shut is asked each `SHUT_INTERVAL`; dead links are the session's business. A peer that
has KCP's own timers does not notice.

* Only datagrams that passed the AEAD come in: to whom one says that all has arrived, it has.
* A message has at most 127 fragments; the caller asks `in_flight` before it sends, since what is
  queued here has no bound.
* Message mode; the empty message is a message. One in stream mode at the other end is understood.
* The millisecond clock starts at zero with the conversation. Times and numbers go round at 2^32;
  times are only given back and compared for being the same.

Pure; `now` in seconds. Errors: `BadPacket` from `input_untrusted`, `ValueError` for a message that
is too long.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from transport.congestion.recovery import Recovery
from transport.constants import KCP_HEADER_SIZE, MAX_FRAGMENTS, SHUT_INTERVAL
from transport.errors import BadPacket
from transport.lanes.arrivals import Arrivals
from transport.lanes.segments import ACK, ASK, HEADER, PUSH, ROUND, TELL, joined

PEER_WINDOW: Final = 128  # segments, until the peer says how many it takes: KCP's own least


class Conversation:
    """One reliable, ordered message lane with a peer."""

    __slots__ = (
        "_arrivals",
        "_ask_at",
        "_peer_window",
        "_queue",
        "_queued",
        "_send_window",
        "_start",
        "_tell",
        "_told",
        "acknowledgements",
        "conv",
        "max_message",
        "message_size",
        "mtu",
        "recovery",
    )

    def __init__(
        self,
        conv: int,
        *,
        mtu: int,
        send_window: int,
        receive_window: int,
        drops: Counter[str],
        now: float,
    ) -> None:
        """`mtu`: bytes of a datagram that comes out of `flush`; windows in segments; what of the
        peer's segments is dropped is counted in `drops`.
        """
        self.conv = conv
        self.mtu = mtu
        self.message_size = mtu - KCP_HEADER_SIZE  # one segment, one datagram
        self.max_message = self.message_size * MAX_FRAGMENTS
        self.recovery = Recovery(now)
        self.acknowledgements = b""  # in the first datagram that `flush` gave last
        self._start = now
        self._arrivals = Arrivals(receive_window, drops)
        self._queue: deque[tuple[int, bytes]] = deque()  # fragments that follow, and content
        self._queued = 0  # bytes of them
        self._send_window = send_window
        self._peer_window = PEER_WINDOW
        self._ask_at = now  # when a peer whose window is shut may be asked again
        self._tell = False  # how many segments are taken here
        self._told = receive_window

    def send(self, messages: Sequence[bytes]) -> None:
        """Queue messages; they leave with the next `flush`. HOT PATH."""
        queue, most = self._queue, self.message_size
        for message in messages:
            size = len(message)
            if size <= most:
                queue.append((0, message))
            elif size <= self.max_message:
                parts = range(0, size, most)
                queue += [
                    (len(parts) - 1 - number, message[at : at + most])
                    for number, at in enumerate(parts)
                ]
            else:
                raise ValueError(f"a message of {size} bytes; at most {self.max_message}")
            self._queued += size

    def input_untrusted(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take authentic datagrams in.

        Raises `BadPacket("not_kcp")` when one is not made of segments of this conversation, or
        their fragments make no message; the segments before that have been taken, and are to be
        acknowledged. HOT PATH.
        """
        refused = False
        for datagram in datagrams:
            try:
                self._take_untrusted(datagram, now)
            except BadPacket:
                refused = True
        if refused:
            raise BadPacket("not_kcp")

    def _take_untrusted(self, datagram: bytes, now: float) -> None:
        recovery, conversation = self.recovery, self.conv
        una = recovery.una
        at, end = 0, len(datagram)
        try:
            while True:
                start = at + KCP_HEADER_SIZE
                if start > end:
                    raise BadPacket("not_kcp")
                conv, command, fragment, window, time, number, told, size = HEADER.unpack_from(
                    datagram, at
                )
                at = start + size
                if conv != conversation or at > end or not PUSH <= command <= TELL:
                    raise BadPacket("not_kcp")
                una = told
                self._peer_window = window
                if command == PUSH:
                    self._arrivals.take_untrusted(number, fragment, time, datagram, start, at)
                elif command == ACK:
                    recovery.on_ack(number, time, now)
                elif command == ASK:
                    self._tell = True
                if at == end:
                    return
        finally:
            # After the acknowledgements of single segments, which say when each has arrived; and
            # the last one is the newest, behind acknowledgements that are said again.
            if una != recovery.una:
                recovery.on_una(una, now)

    def receive(self, limit: int) -> list[bytes]:
        """Whole messages in order, until about `limit` bytes are taken, each message counting
        `MESSAGE_COST` more than its size. HOT PATH.
        """
        messages = self._arrivals.read(limit)
        if not self._told and self._arrivals.window:
            self._tell = True
        return messages

    def flush(self, now: float, most: int | None = None) -> list[bytes]:
        """Datagrams due now: acknowledgements and new segments, of at most `most` bytes where no
        segment is larger; `mtu` if that is None. HOT PATH.
        """
        recovery, queue, conv = self.recovery, self._queue, self.conv
        una = self._arrivals.next
        acks = self._arrivals.take_acks()
        if not (acks or queue or self._tell):
            return []
        window = self._told = self._arrivals.window
        clock = self._clock(now)
        pack = HEADER.pack
        segments = [pack(conv, ACK, 0, window, time, number, una, 0) for number, time in acks]
        if self._tell or self.shut:
            self._probe_window(segments, window, now)
        if queue:
            room = min(self._send_window, self._peer_window) - recovery.outstanding
            while queue and room > 0:
                room -= 1
                fragment, content = queue.popleft()
                size = len(content)
                self._queued -= size
                number = recovery.on_sent(fragment, content, clock, now)
                head = pack(conv, PUSH, fragment, window, clock, number, una, size)
                segments.append(head + content)
        if not segments:
            return []
        datagrams = joined(segments, most or self.mtu)
        first = min(len(acks), len(datagrams[0]) // KCP_HEADER_SIZE)
        self.acknowledgements = datagrams[0][: first * KCP_HEADER_SIZE]
        return datagrams

    def _probe_window(self, segments: list[bytes], window: int, now: float) -> None:
        """Say how much is taken here, and ask a peer that takes nothing."""
        una = self._arrivals.next
        if self.shut and now >= self._ask_at:
            self._ask_at = now + SHUT_INTERVAL
            segments.append(HEADER.pack(self.conv, ASK, 0, window, 0, 0, una, 0))
        if self._tell:
            self._tell = False
            segments.append(HEADER.pack(self.conv, TELL, 0, window, 0, 0, una, 0))

    def repeat(self, now: float) -> bytes | None:
        """A datagram with a lost segment, to be sent now; None when there is none."""
        clock = self._clock(now)
        segment = self.recovery.repeat(clock, now)
        if segment is None:
            return None
        number, fragment, content = segment.sn, segment.fragment, segment.content
        window, una = self._arrivals.window, self._arrivals.next
        self._told = window
        size = len(content)
        return HEADER.pack(self.conv, PUSH, fragment, window, clock, number, una, size) + content

    @property
    def in_flight(self) -> int:
        """Bytes on their way: without what is lost and not yet sent again."""
        return self.recovery.pipe + self._queued

    @property
    def span(self) -> int:
        """Bytes from the first segment on that the peer is missing."""
        return self.recovery.span + self._queued

    @property
    def unacknowledged(self) -> int:
        """Bytes of segments that have not arrived, or of which we do not know it."""
        return self.recovery.unacknowledged + self._queued

    @property
    def held(self) -> int:
        """Bytes that have come and wait, each segment counting more than its content."""
        return self._arrivals.held

    @property
    def has_gap(self) -> bool:
        """Whether something came here before what the peer sent ahead of it."""
        return self._arrivals.has_gap

    @property
    def broken(self) -> bool:
        """Whether the peer's fragments make no message."""
        return self._arrivals.broken

    @property
    def has_work(self) -> bool:
        """Whether something is not acknowledged."""
        return bool(self.recovery.unacknowledged or self._queue)

    @property
    def shut(self) -> bool:
        """Whether the peer takes nothing now: it is asked when we flush, each `SHUT_INTERVAL`."""
        return bool(self._queue and not self._peer_window)

    @property
    def oldest(self) -> int | None:
        """Number of the segment that has been on its way for longest; None if none is."""
        return self.recovery.oldest

    def _clock(self, now: float) -> int:
        return int((now - self._start) * 1000) & ROUND
