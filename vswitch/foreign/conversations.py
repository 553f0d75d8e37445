"""KCP without a session: a conversation that carries the framed stream, in plain text.

    datagrams ─▶ segments in order (transport/lanes/kcp.py) ─▶ FramedStream ─▶ records, and back

What kcp-go does when nothing is set: a datagram has 1,400 bytes, 32 segments may be under way or
wait to be read, nothing is encrypted, nothing sent for repair. The bytes of the stream are cut
anywhere into segments, which have no fragments. Who dials makes the conversation number up.

KCP has no handshake and no end. So a conversation begins with any datagram that carries content
(`opening_untrusted`), and takes up there: at its first number, and at the number that it says to
await. That is zero and zero for a new one; for one that is older than this switch its stream goes
on, out of step until the next frame, instead of waiting for ever. Its end is silence: of who owes
an acknowledgement for `UNANSWERED`, or of who says nothing for as long as the listener bears.

What may be under way grows from `FIRST_WINDOW` as in TCP (RFC 5681): so little is sent to an
address that has not yet acknowledged anything, which may be made up.

Invariants: what is held is at most `WINDOW` segments each way, those of one write more, what one
read gives, and two frames; segments cost a constant time each. Pure; `now` in seconds. Error
contract: `BadRecord` for a stream that cannot be followed any further.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from math import inf

from attrs import frozen

from transport.errors import BadPacket
from transport.lanes.kcp import Conversation
from transport.lanes.segments import HEADER, PUSH, TELL
from vswitch.errors import BadRecord
from vswitch.foreign.formats import FramedStream, longest_frame
from vswitch.foreign.streams import OUT_OF_STEP, StepLimit
from vswitch.frames.records import HEADER_SIZE

SEGMENTS_SIZE = 1400  # bytes of a datagram that is sent
LONGEST = 1500  # bytes of one that is taken: kcp-go sends no longer ones, whatever is set
WINDOW = 32  # segments under way at most, and segments that may wait to be read
FIRST_WINDOW = 1  # segments: as KCP itself begins
LEAST_WINDOW = 2.0
PEER_ACK_DELAY = 0.2  # seconds: kcp-go acknowledges each 100 ms, and later where it is busy
UNANSWERED = 20.0  # seconds without a word, while something is not acknowledged: it has gone
ASK_INTERVAL = 0.5  # seconds between two questions to one who takes nothing
_TURN = 64 * 1024  # bytes that are read at once
# Records that wait for their port, below which more is read at once: an acknowledgement that leaves
# before tells of a shut window, and kcp-go looks at one that opens each 100 ms alone.
_READY = 256
_SEGMENT_HEADER = HEADER.size


@frozen
class Opening:
    """With what a conversation begins, or goes on."""

    conv: int  # its number
    receive_from: int = 0  # number of the first segment that comes
    send_from: int = 0  # number of the first segment that is awaited


def conversation_of(datagram: bytes) -> int:
    """The number of the conversation that a datagram says to be of; -1 for none. HOT PATH."""
    return int.from_bytes(datagram[:4], "little") if len(datagram) >= _SEGMENT_HEADER else -1


def opening_untrusted(datagram: bytes) -> Opening | None:
    """What a datagram opens; None if it is not made of segments of one conversation, or has no
    content in it.
    """
    if len(datagram) > LONGEST:
        return None
    opening, conversation, at = None, conversation_of(datagram), 0
    while at < len(datagram):
        if len(datagram) - at < _SEGMENT_HEADER:
            return None
        conv, command, fragment, _, _, number, una, size = HEADER.unpack_from(datagram, at)
        at += _SEGMENT_HEADER + size
        possible = conv == conversation and PUSH <= command <= TELL and fragment < WINDOW
        if not possible or at > len(datagram):
            return None
        if command == PUSH and opening is None:
            opening = Opening(conv, number, una)
    return opening


class PlainConversation:
    """The records that come and go in one conversation."""

    def __init__(self, opening: Opening, mtu: int, dropped: Counter[str], now: float) -> None:
        """`dropped`: frames and segments that are dropped, by reason."""
        self.conv = opening.conv
        self._kcp = Conversation(
            opening.conv,
            mtu=SEGMENTS_SIZE,
            send_window=FIRST_WINDOW,
            receive_window=WINDOW,
            drops=dropped,
            now=now,
            receive_from=opening.receive_from,
            send_from=opening.send_from,
            ack_delay=PEER_ACK_DELAY,
        )
        self._codec = FramedStream(mtu, dropped)
        self._steps = StepLimit()
        self._longest = HEADER_SIZE + longest_frame(mtu)
        self._dropped = dropped
        self._ready: deque[bytes] = deque()  # records of one read
        self._window = float(FIRST_WINDOW)  # segments that may be under way
        self._slow_start_to = float(WINDOW)
        self._halved_at = -inf  # what was sent before that has its loss paid for
        self._owed_since = now  # an acknowledgement, if anything is owed
        self._flushed_at = now

    # --- What comes -------------------------------------------------------------------------

    def receive_untrusted(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take datagrams of this conversation in; `BadRecord` when no stream can come of it."""
        # HOT PATH
        kcp = self._kcp
        self._owed_since = now
        for datagram in datagrams:
            try:
                kcp.input_untrusted((datagram,), now)
            except BadPacket as bad:
                if kcp.arrivals.broken:
                    raise BadRecord("segments that make no message: another KCP is spoken") from bad
                self._dropped[bad.reason] += 1
        acked = len(kcp.recovery.take_acked(now))
        if acked:
            grown = acked if self._window < self._slow_start_to else acked / self._window
            self._window = min(WINDOW, self._window + grown)
        self._note_losses(now)
        if kcp.arrivals.ready and len(self._ready) < _READY:
            self._read(now)

    @property
    def readable(self) -> bool:
        """Whether something has come that has not been taken."""
        return bool(self._ready or self._kcp.arrivals.ready)

    def take_untrusted(self, limit: int, now: float) -> list[bytes]:
        """Up to so many records; `BadRecord` when there can be none any more. HOT PATH."""
        ready = self._ready
        if not ready:
            self._read(now)
        return [ready.popleft() for _ in range(min(limit, len(ready)))]

    def _read(self, now: float) -> None:
        data = b"".join(self._kcp.receive(_TURN))
        self._ready.extend(self._codec.feed_untrusted(data))
        if self._steps.exceeded(self._codec.lost_steps, now):
            raise BadRecord(OUT_OF_STEP)

    # --- What goes --------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Segments that may still be given to it."""
        kcp = self._kcp
        return int(self._window) - len(kcp.recovery.segments) - len(kcp.queue)

    def write(self, records: Sequence[bytes], now: float) -> int:
        """Send as many of these as there is room for; how many. HOT PATH."""
        kcp, taken, size = self._kcp, 0, 0
        most, pieces = self.room * kcp.message_size, []
        for record in records:
            if size >= most:
                break
            taken += 1
            if len(record) > self._longest:
                self._dropped["oversize"] += 1
            else:
                pieces.append(record)
                size += len(record)
        if pieces:
            if not kcp.has_work:
                self._owed_since = now
            data, step = b"".join(pieces), kcp.message_size
            kcp.send([data[at : at + step] for at in range(0, size, step)])
        return taken

    def datagrams(self, now: float) -> list[bytes]:
        """What leaves now: repetitions, acknowledgements, and what has been written. HOT PATH."""
        kcp, recovery = self._kcp, self._kcp.recovery
        if now >= recovery.deadline():
            recovery.handle_timeout(now)
            self._note_losses(now)
        again: list[bytes] = []
        while recovery.to_repeat and (datagram := kcp.repeat(now)) is not None:
            again.append(datagram)
        kcp.send_window = int(self._window)
        self._flushed_at = now
        return again + kcp.flush(now)

    def _note_losses(self, now: float) -> None:
        """A loss halves the window, once for what was under way then."""
        lost = self._kcp.recovery.take_lost()
        if lost and max(segment.sent for segment in lost) > self._halved_at:
            self._halved_at = now
            self._window = self._slow_start_to = max(LEAST_WINDOW, self._window / 2)

    # --- Time -------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `datagrams` has something more, or the other side has gone; infinite if never."""
        kcp = self._kcp
        if not kcp.has_work:
            return inf
        due = min(kcp.recovery.deadline(), self._owed_since + UNANSWERED)
        return min(due, self._flushed_at + ASK_INTERVAL) if kcp.shut else due

    def has_gone(self, now: float) -> bool:
        """Whether the other side has owed an acknowledgement for too long."""
        return self._kcp.has_work and now >= self._owed_since + UNANSWERED

    @property
    def held(self) -> int:
        """Bytes that are kept, for tests of its bounds."""
        kcp = self._kcp
        return (
            kcp.unacknowledged + kcp.arrivals.held + self._codec.held + sum(map(len, self._ready))
        )

    def close(self) -> None:
        """Let go of everything."""
        self._kcp.close()
        self._ready.clear()
