"""A KCP conversation: messages in order over datagrams, wire-compatible with KCP (ikcp.c).

Joins the receiving half (`arrivals.py`), the sending half, which is here, and what is under way
(`congestion/recovery.py`). A segment is parsed once and stored once: what comes in is cut out of
its datagram when it is taken, and of what goes out the message itself is kept, not what it became
on the wire.

What differs from ikcp.c is whose the timers are. `Recovery` decides what is lost, and when it is
sent again, since KCP would send everything at once again where a path has become slow; a peer whose
window is shut is asked each `SHUT_INTERVAL`; dead links are the session's business. A peer that
has KCP's own timers does not notice.

* Datagrams have passed the AEAD, or whoever sends them harms its own conversation alone: to whom
  one says that all has arrived, it has.
* A message has at most 127 fragments; the caller asks `in_flight` before it sends, since what is
  queued here has no bound.
* Message mode; the empty message is a message. One in stream mode at the other end is understood.
* The millisecond clock starts at zero with the conversation. Times and numbers go round at 2^32;
  times are only given back and compared for being the same.

Messages that have arrived are for `receive`, which is `Arrivals.read`. Pure; `now` in seconds.
Errors: `BadPacket` from `input_untrusted`, `ValueError` for a message that
is too long.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from transport.congestion.recovery import RTO_SLACK, Recovery
from transport.constants import KCP_HEADER_SIZE, MAX_FRAGMENTS, SHUT_INTERVAL
from transport.errors import BadPacket
from transport.lanes.arrivals import Arrivals
from transport.lanes.segments import ACK, ASK, HEADER, PARITY, PUSH, ROUND, TELL, joined

PEER_WINDOW: Final = 128  # segments, until the peer says how many it takes: KCP's own least


class Conversation:
    """One reliable, ordered message lane with a peer."""

    __slots__ = (
        "_ask_at",
        "_last_command",
        "_peer_window",
        "_start",
        "acknowledgements",
        "arrivals",
        "conv",
        "max_message",
        "message_size",
        "mtu",
        "parity",
        "queue",
        "queued",
        "receive",
        "recovery",
        "send_window",
        "told",
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
        receive_from: int = 0,
        send_from: int = 0,
        ack_delay: float = RTO_SLACK,
        takes_parity: bool = False,
    ) -> None:
        """`mtu`: bytes of a datagram that comes out of `flush`; windows in segments; what of the
        peer's segments is dropped is counted in `drops`; the numbers with which both begin;
        `ack_delay` as in `Recovery`. `takes_parity`: the caller looks at `parity` after each input.
        """
        self.conv = conv
        self.mtu = mtu
        self.message_size = mtu - KCP_HEADER_SIZE  # one segment, one datagram
        self.max_message = self.message_size * MAX_FRAGMENTS
        self.recovery = Recovery(now, send_from, ack_delay)
        self.told = False  # the peer has answered when asked for its window; the caller resets it
        self.acknowledgements = b""  # in the first datagram that `flush` gave last
        self._start = now
        # What `lanes/parity.py` takes: rows that have come, and nobody has looked at.
        self.parity: list[tuple[int, int, int, bytes]] = []
        self._last_command = PARITY if takes_parity else TELL
        self.arrivals = Arrivals(receive_window, drops, receive_from)
        self.receive = self.arrivals.read
        self.queue: deque[tuple[int, bytes]] = deque()  # fragments that follow, and content
        self.queued = 0  # bytes of them
        self.send_window = send_window  # may change at any time
        self._peer_window = PEER_WINDOW
        self._ask_at = now  # when a peer whose window is shut may be asked again

    def send(self, messages: Sequence[bytes]) -> None:
        """Queue messages; they leave with the next `flush`. HOT PATH."""
        queue, most = self.queue, self.message_size
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
            self.queued += size

    def input_untrusted(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take authentic datagrams in.

        Raises `BadPacket("not_kcp")` when one is not made of segments of this conversation, or
        their fragments make no message; the segments before that have been taken, and are to be
        acknowledged. HOT PATH.
        """
        recovery, arrivals, conversation = self.recovery, self.arrivals, self.conv
        last = self._last_command
        take, unpack = arrivals.take_untrusted, HEADER.unpack_from
        refused = False
        for datagram in datagrams:
            una = recovery.una
            at, end = 0, len(datagram)
            try:
                while True:
                    start = at + KCP_HEADER_SIZE
                    if start > end:
                        raise BadPacket("not_kcp")
                    conv, command, fragment, window, time, number, told, size = unpack(datagram, at)
                    at = start + size
                    if conv != conversation or at > end or not PUSH <= command <= last:
                        raise BadPacket("not_kcp")
                    una = told
                    self._peer_window = window
                    if command == PUSH:
                        take(number, fragment, time, datagram, start, at)
                    elif command == ACK:
                        recovery.on_ack(number, time, now)
                    elif command == ASK:
                        arrivals.tell = True
                    elif command == PARITY:
                        self.parity.append((fragment, number, time, datagram[start:at]))
                    else:
                        self.told = True
                    if at == end:
                        break
            except BadPacket:
                refused = True
            # After the acknowledgements of single segments, which say when each has arrived; and
            # the last one is the newest, behind acknowledgements that are said again.
            if una != recovery.una:
                recovery.on_una(una, now)
        if refused:
            raise BadPacket("not_kcp")

    def flush(self, now: float, most: int | None = None) -> list[bytes]:
        """Datagrams due now: acknowledgements and new segments, of at most `most` bytes where no
        segment is larger; `mtu` if that is None. HOT PATH.
        """
        recovery, arrivals, queue, conv = self.recovery, self.arrivals, self.queue, self.conv
        acks = arrivals.acks
        if not (acks or queue or arrivals.tell):
            return []
        una, pack = arrivals.next, HEADER.pack
        window = arrivals.told = arrivals.window if arrivals.held else arrivals.limit
        clock = int((now - self._start) * 1000) & ROUND
        segments: list[bytes] = []
        if acks:
            arrivals.acks = []
            arrivals.again = 0
            for number, time in acks:
                segments.append(pack(conv, ACK, 0, window, time, number, una, 0))
        if arrivals.tell or (queue and not self._peer_window):
            self._probe_window(segments, window, now)
        if queue:
            most_under_way = min(self.send_window, self._peer_window)
            room = most_under_way - len(recovery.segments)
            if room < len(queue):  # the first of those segments may have arrived
                room = most_under_way - recovery.outstanding
            while queue and room > 0:
                room -= 1
                fragment, content = queue.popleft()
                size = len(content)
                self.queued -= size
                number = recovery.on_sent(fragment, content, clock, now)
                head = pack(conv, PUSH, fragment, window, clock, number, una, size)
                segments.append(head + content)
        if not segments:
            return []
        if len(segments) == 1:
            datagrams = segments
        elif sum(map(len, segments)) <= (most := most or self.mtu):
            datagrams = [b"".join(segments)]
        else:
            datagrams = joined(segments, most)
        self.acknowledgements = datagrams[0][: len(acks) * KCP_HEADER_SIZE]
        return datagrams

    def close(self) -> None:
        """Nothing more comes or goes. Whole messages that have arrived can be read."""
        self.queue.clear()
        self.queued = 0
        self.parity.clear()
        self.recovery.close()
        self.arrivals.close()

    def _probe_window(self, segments: list[bytes], window: int, now: float) -> None:
        """Say how much is taken here, and ask a peer that takes nothing."""
        una = self.arrivals.next
        if self.shut and now >= self._ask_at:
            self._ask_at = now + SHUT_INTERVAL
            segments.append(HEADER.pack(self.conv, ASK, 0, window, 0, 0, una, 0))
        if self.arrivals.tell:
            self.arrivals.tell = False
            segments.append(HEADER.pack(self.conv, TELL, 0, window, 0, 0, una, 0))

    def repeat(self, now: float) -> bytes | None:
        """A datagram with a lost segment, to be sent now; None when there is none."""
        clock = int((now - self._start) * 1000) & ROUND
        segment = self.recovery.repeat(clock, now)
        if segment is None:
            return None
        number, fragment, content = segment.sn, segment.fragment, segment.content
        arrivals, una = self.arrivals, self.arrivals.next
        window = arrivals.told = arrivals.window
        size = len(content)
        return HEADER.pack(self.conv, PUSH, fragment, window, clock, number, una, size) + content

    def parity_unit(self, row: int, number: int, time: int, content: bytes) -> bytes:
        """A datagram with a row of parity, as `parity.Groups.add` gave it."""
        una, window = self.arrivals.next, self.arrivals.window
        size = len(content)
        return HEADER.pack(self.conv, PARITY, row, window, time, number, una, size) + content

    @property
    def in_flight(self) -> int:
        """Bytes on their way: without what is lost and not yet sent again."""
        return self.recovery.pipe + self.queued

    @property
    def unacknowledged(self) -> int:
        """Bytes of segments that have not arrived, or of which we do not know it."""
        return self.recovery.unacknowledged + self.queued

    @property
    def has_work(self) -> bool:
        """Whether something is not acknowledged."""
        return bool(self.recovery.unacknowledged or self.queue)

    @property
    def shut(self) -> bool:
        """Whether the peer takes nothing now: it is asked when we flush, each `SHUT_INTERVAL`."""
        return bool(self.queue and not self._peer_window)
