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
* it looks for the place of a segment one by one from the end of those behind a gap: how many tiny
  ones it holds there is bounded (`LONG`), and where they are more than a few (`SHORT`), repeated
  ones are acknowledged here and never reach it, and a peer that sends little else (`REPEATED_MOST`)
  has broken the protocol: `absurd`;
* a peer with more fragments waiting than a message may have, and no message, has broken the
  protocol: `BadPacket`;
* what is lost, and when to send it again, is decided by `congestion/recovery.py`: KCP's timers
would send
  everything again at once where a path has become slow, so they are set out of reach;
* dead links and liveness are the session's business, so KCP's own verdict is disabled;
* the 32-bit millisecond clock starts at zero with the session; KCP compares it signed, so its
  wrap after 49.7 days is harmless.

Message mode; the empty message is a message. One thread only. Errors: `BadPacket` from
`input_untrusted`, `ValueError` for a message that is too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from siokcp import KCPConnection

from transport.congestion.recovery import Recovery
from transport.constants import KCP_HEADER_SIZE, MAX_FRAGMENTS, MESSAGE_COST, RECEIVE_BYTES
from transport.errors import BadPacket

# ikcp.c, little-endian: conv, cmd, frg, wnd, ts, sn, una, len; then len bytes of content.
_SEGMENT = Struct("<IBBHIIII")
_PUSH = 81
_ACK = 82
_NEVER_MS = 60_000  # KCP's longest retransmission timeout
_WND_TS = Struct("<HI")  # at offset 6
_UNA = Struct("<I")  # at offset 16

SHORT: Final = 1024  # segments behind a gap: the engine looks through them in some 2 µs
LONG: Final = 4096  # of them: no more while they are tiny, each costs up to 8 µs to look through
TINY: Final = 256  # bytes of a segment, on average
# Who sends so many again within this time, and next to nothing else, wants to harm. Somebody
# honest repeats what was lost, in units of many segments or at the pace of a path that loses much.
REPEATED_MOST: Final = 100_000
REPEATED_SPAN: Final = 10.0  # seconds
REPEATED_SHARE: Final = 0.9  # of the segments behind a long gap
REPEATED_ACKS: Final = 58  # acknowledgements of repeated segments in one flush: one datagram

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


def leading_acknowledgements(datagram: bytes) -> bytes:
    """The acknowledgements in what `flush` gave: they come first."""
    at = 0
    while at + KCP_HEADER_SIZE <= len(datagram) and datagram[at + 4] == _ACK:
        at += KCP_HEADER_SIZE
    return datagram[:at]


def _no_log(_: str) -> None:
    """The engine's own log stays off (its mask is 0); the binding wants a callable."""


class Conversation:
    """One reliable, ordered message lane with a peer."""

    __slots__ = (
        "_again",
        "_behind",
        "_held",
        "_judged",
        "_kcp",
        "_outbox",
        "_queued",
        "_receive_window",
        "_start",
        "absurd",
        "max_message",
        "message_size",
        "mtu",
        "recovery",
        "repeated",
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
        # No retransmission and no congestion window of KCP's own.
        kcp.nodelay(1, 10, 0, 1)
        kcp.rx_minrto = _NEVER_MS  # after nodelay(), which resets it
        kcp.rx_rto = _NEVER_MS
        kcp.dead_link = 0xFFFFFFFF
        kcp.wndsize(send_window, receive_window)
        kcp.setmtu(mtu)
        kcp.update(0)  # flush() does nothing before the first update
        self._kcp = kcp
        self._outbox = outbox
        self._start = now
        self._queued = 0  # bytes given to `send` that KCP has not sent yet
        self.recovery = Recovery(now)
        self._held = 0  # bytes in KCP's receiving queues
        self._receive_window = kcp.rcv_wnd
        self._behind: set[int] = set()  # numbers given to KCP while it held more than `SHORT`
        self._again: list[tuple[int, int]] = []  # number and time of repeated ones, to acknowledge
        self.repeated = 0  # segments that came again, for the caller to count and set to 0
        # Of the repeated ones: since when, how many, and how many segments were looked at for them.
        self._judged = (now, 0, 0)
        self.absurd = False  # too many of them: the peer is to be given up
        self.mtu = mtu
        self.message_size = mtu - KCP_HEADER_SIZE  # one segment, one datagram
        self.max_message = self.message_size * MAX_FRAGMENTS

    def send(self, messages: Sequence[bytes]) -> None:
        """Queue messages; they leave with the next `flush`. HOT PATH."""
        send, most = self._kcp.send, self.max_message
        for message in messages:
            size = len(message)
            if size > most:
                raise ValueError(f"a message of {size} bytes; at most {most}")
            send(message)
            self._queued += size

    def input_untrusted(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take authentic datagrams in.

        Raises `BadPacket("not_kcp")` when the engine refuses one; the segments before the one
        that it refused have been taken, and are to be acknowledged. HOT PATH.
        """
        kcp = self._kcp
        kcp.current = self._clock(now)
        refused = False
        acks = [self._read_acknowledgements(datagram, now) for datagram in datagrams]
        # One by one behind a gap, which on a path with losses may never be none: what came twice
        # must not count as held twice, or it adds up until the window narrows for nothing.
        if len(datagrams) > 1 and len(datagrams[0]) < _COPY_UP_TO and not kcp.nrcv_buf:
            datagrams, acks = (b"".join(datagrams),), [sum(acks)]
        segments = kcp.nrcv_buf + kcp.nrcv_que
        for datagram, size in zip(datagrams, acks, strict=True):
            if segments > SHORT and kcp.nrcv_buf > SHORT:
                datagram = self._without_repeated(datagram, now)
                if kcp.nrcv_buf > LONG and self._held < TINY * kcp.nrcv_buf:
                    kcp.rcv_wnd = min(kcp.rcv_wnd, kcp.nrcv_que + LONG)
                if not datagram:
                    continue
            # Of several segments some may be held already: which, shows only one by one.
            several = segments and size < len(datagram)
            pieces = split_segments(datagram, 0) if several else [datagram]
            if len(pieces) > 1:
                size = 0  # acknowledgements are pieces of their own
            for piece in pieces:
                bad = kcp.receive_data(piece) < 0
                held = kcp.nrcv_buf + kcp.nrcv_que
                if held != segments:
                    self._held += len(piece) - size - KCP_HEADER_SIZE * (held - segments)
                    segments = held
                if bad:
                    refused = True
                    break
        if self._held > RECEIVE_BYTES:
            kcp.rcv_wnd = min(kcp.rcv_wnd, kcp.nrcv_que + MAX_FRAGMENTS + 1)
        if refused:
            raise BadPacket("not_kcp")

    def _without_repeated(self, datagram: bytes, now: float) -> bytes:
        """What of a datagram KCP has not been given yet."""
        kcp, behind = self._kcp, self._behind
        first, window = kcp.rcv_nxt, kcp.rcv_wnd
        if len(behind) > 2 * self._receive_window:
            behind.clear()  # most have long been read; what is forgotten is only looked for again
        kept: list[bytes] = []
        start = at = looked = 0
        before = self.repeated
        while at + KCP_HEADER_SIZE <= len(datagram):
            _, cmd, _, _, stamp, sn, _, size = _SEGMENT.unpack_from(datagram, at)
            stop = at + KCP_HEADER_SIZE + size
            looked += 1
            if cmd == _PUSH and stop <= len(datagram) and (sn - first) & 0xFFFFFFFF < window:
                if sn in behind:
                    kept.append(datagram[start:at])
                    start = stop
                    self.repeated += 1
                    if len(self._again) < REPEATED_ACKS:
                        self._again.append((sn, stamp))
                else:
                    behind.add(sn)
            at = stop
        kept.append(datagram[start:])
        self._judge(self.repeated - before, looked, now)
        return b"".join(kept)

    def _judge(self, again: int, looked: int, now: float) -> None:
        """So many segments that came again, of so many."""
        since, repeated, segments = self._judged
        if now - since > REPEATED_SPAN:
            since, repeated, segments = now, 0, 0
        self._judged = since, repeated + again, segments + looked
        if repeated + again > max(REPEATED_MOST, REPEATED_SHARE * (segments + looked)):
            self.absurd = True

    def _acknowledge_again(self) -> bytes:
        kcp, again = self._kcp, self._again
        window, una = max(0, kcp.rcv_wnd - kcp.nrcv_que), kcp.rcv_nxt
        self._again = []
        return b"".join(
            [_SEGMENT.pack(kcp.conv, _ACK, 0, window, stamp, sn, una, 0) for sn, stamp in again]
        )

    def _read_acknowledgements(self, datagram: bytes, now: float) -> int:
        """Those come first in a datagram, repeated ones before new ones: the `una` of the last
        segment that is looked at is the newest. Returns their bytes. HOT PATH.
        """
        if len(datagram) < KCP_HEADER_SIZE:
            return 0
        recovery = self.recovery
        conv, cmd, _, _, stamp, sn, una, _ = _SEGMENT.unpack_from(datagram)
        if conv != self._kcp.conv:
            return 0
        at = 0
        while cmd == _ACK:
            recovery.on_ack(sn, stamp, now)
            at += KCP_HEADER_SIZE
            if at + KCP_HEADER_SIZE > len(datagram):
                break
            _, cmd, _, _, stamp, sn, una, _ = _SEGMENT.unpack_from(datagram, at)
        recovery.on_una(una, now)
        return at

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
        if self._held or self._behind:
            self._release(sum(map(len, messages)))
        return messages

    def _release(self, size: int) -> None:
        """So many bytes of messages have left KCP's queues. HOT PATH."""
        kcp = self._kcp
        # What was counted too much (see `input_untrusted`) goes when nothing is held.
        self._held = self._held - size if kcp.nrcv_buf or kcp.nrcv_que else 0
        if self._behind and kcp.nrcv_buf <= SHORT:
            self._behind.clear()
        room = self._held <= RECEIVE_BYTES // 2 and kcp.nrcv_buf <= LONG
        if kcp.rcv_wnd < self._receive_window and room:
            kcp.rcv_wnd = self._receive_window  # the peer is told by KCP, if it was full

    def flush(self, now: float) -> list[bytes]:
        """Datagrams due now: acknowledgements and new segments. HOT PATH."""
        kcp = self._kcp
        kcp.current = clock = self._clock(now)
        new = kcp.snd_nxt
        kcp.flush()
        outbox = self._outbox
        if self._again:
            outbox.append(self._acknowledge_again())
        if not outbox:
            return []
        datagrams = outbox.copy()
        outbox.clear()
        if kcp.snd_nxt != new:
            on_sent = self.recovery.on_sent
            for datagram in datagrams:
                at, end = 0, len(datagram)
                while at < end:
                    _, cmd, _, _, _, sn, _, size = _SEGMENT.unpack_from(datagram, at)
                    stop = at + KCP_HEADER_SIZE + size
                    if cmd == _PUSH and (sn - new) & 0xFFFFFFFF < 0x80000000:
                        self._queued -= size
                        whole = stop - at == end  # else a view: the datagram is kept anyway
                        data = datagram if whole else memoryview(datagram)[at:stop]
                        on_sent(sn, data, clock, now)
                    at = stop
        return datagrams

    def repeat(self, now: float) -> bytes | None:
        """A datagram with a lost segment, to be sent now; None when there is none."""
        clock = self._clock(now)
        segment = self.recovery.repeat(clock, now)
        if segment is None:
            return None
        kcp = self._kcp
        data = bytearray(segment.data)
        _WND_TS.pack_into(data, 6, max(0, kcp.rcv_wnd - kcp.nrcv_que), clock)
        _UNA.pack_into(data, 16, kcp.rcv_nxt)
        return bytes(data)

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
        """Bytes in KCP's receiving queues, each segment counting `MESSAGE_COST` more."""
        kcp = self._kcp
        segments: int = kcp.nrcv_buf + kcp.nrcv_que
        return self._held + MESSAGE_COST * segments

    @property
    def has_gap(self) -> bool:
        """Whether something came here before what the peer sent ahead of it."""
        return bool(self._kcp.nrcv_buf)

    @property
    def has_work(self) -> bool:
        """Whether something is not acknowledged."""
        return bool(self.recovery.unacknowledged or self._queued or self._kcp.nsnd_que)

    @property
    def shut(self) -> bool:
        """Whether the peer takes nothing now: KCP asks again when it is flushed, with growing
        intervals.
        """
        return bool(self._kcp.nsnd_que and not self._kcp.rmt_wnd)

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
