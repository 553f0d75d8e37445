"""A member behind a port: frames and control messages over one reliable channel of the transport.

 in    channel messages ─▶ join ─▶ split into records ─▶ frames to the switch
                                                     └▶ control messages to `on_control`
 out   frames ─▶ join once ─▶ cut to the channel's message size ─▶ one `send_nowait`

The record stream is cut at any byte, so a batch costs one join, however many frames it has. Control
messages overtake the frames that still wait for credit, and keep their order among themselves.

While the channel's bulk lane is busy, flows that send little take its sparse lane, a record stream
of its own (`vswitch/members/sparse.py`), and such frames overtake those that wait for credit, too.
Within a flow order is kept.

Where the two sides have agreed on it, frames leave on the channel's datagram lane instead; control
messages never do.

What cannot be a record, or a superframe where none was agreed, closes the channel with code
PROTOCOL and raises `BadRecord`. Other errors are the channel's own: see `switch/device.py`, rules 5
to 7. The file knows the transport by the shape of its channel alone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from vswitch.errors import BadRecord
from vswitch.frames.load import load_of
from vswitch.frames.records import pack, pack_whole
from vswitch.frames.segment import without_superframes_untrusted
from vswitch.members.channel import MessageChannel
from vswitch.members.incoming import Incoming
from vswitch.members.lane_choice import AUTO, DATAGRAM, KCP, LaneRule
from vswitch.members.protocol import (
    AFTER_HELLO,
    ALL_KINDS,
    After,
    ByeCode,
    ControlMessage,
    encode_control,
)
from vswitch.members.sparse import LaneChooser
from vswitch.switch.device import Description

if TYPE_CHECKING:
    from transport import Channel

MEASURE_WAIT: Final = 0.2  # seconds; whoever asks for a status sits there
_LOOKS: Final = 20  # meanwhile

# Control messages are a handful in the life of a session; a queue this long means that the peer has
# stopped reading.
MAX_QUEUED_CONTROLS = 64
# The channel hears of what is kept above it in steps, since each costs a look at the session. A
# thousand sessions can keep 16 MiB that nobody has heard of.
HELD_STEP = 16 * 1024  # bytes


def _ignore_control(message: ControlMessage) -> None:
    pass


def _ignore_blocked() -> None:
    pass


class MemberDevice:
    """A channel as a device. Implements `vswitch.switch.device.Device`.

    `on_control` is called from within `read_nowait` with each control message of the kinds in
    `hears`, which the peer may send; others are counted, and not looked at. Too many of them end
    the session, or with `floods_end` off are counted too: a member has but the one switch.
    `on_blocked` is called when a control message has to wait for credit while no frame may be
    waiting; it must see to it that somebody waits for `wait_writable` and then calls
    `write_nowait`, which `Port.flush_soon` does.
    """

    def __init__(
        self,
        channel: MessageChannel,
        *,
        name: str,
        mtu: int = 1500,
        superframes: bool = False,
        hears: frozenset[str] = ALL_KINDS,
        floods_end: bool = True,
        on_control: Callable[[ControlMessage], None] = _ignore_control,
    ) -> None:
        self.name = name
        self.mtu = mtu
        self.superframes = superframes
        self.hears = hears
        self.floods_end = floods_end
        self.on_control = on_control
        self.on_blocked: Callable[[], None] = _ignore_blocked
        self._channel = channel
        self._bulk, self._sparse = channel.bulk, channel.sparse
        self._incoming = Incoming(channel, self, trio.current_time)
        self._chooser = LaneChooser()
        self._datagrams: DatagramSender | None = None  # until another lane than KCP is agreed
        self._unread: list[bytes] = []  # of one slice at most
        self._unread_bytes = 0
        self._told = 0  # bytes that the channel was told are kept here
        self._controls: deque[bytes] = deque()
        self._closed = False

    def use_lane(self, lane: str) -> None:
        """What was agreed: kcp, datagram or auto. At most once, before frames are carried."""
        if lane != KCP:
            self._datagrams = DatagramSender(self._channel, lane, self.mtu)
            self._incoming.open_datagrams(self._datagrams.lane)

    def admit(self, name: str, lane: str, *, superframes: bool) -> None:
        """The peer is this member, and this was agreed with it; once, before frames are carried.
        Of control messages that come from now on only those of `AFTER_HELLO` are looked at.
        """
        self.name = name
        self.superframes = superframes
        self.hears = AFTER_HELLO
        self.use_lane(lane)

    @property
    def lane_mode(self) -> str:
        """What was agreed."""
        return KCP if self._datagrams is None else self._datagrams.mode

    @property
    def lane(self) -> str:
        """What frames leave on now: kcp or datagram."""
        return DATAGRAM if self._datagrams is not None and self._datagrams.active else KCP

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that were taken and can never be written, and control messages that were not
        looked at, by reason.
        """
        dropped = self._incoming.dropped
        return dict(dropped if self._datagrams is None else dropped + self._datagrams.dropped)

    @property
    def held(self) -> int:
        """Bytes that came in and are kept above the channel. HOT PATH."""
        return self._incoming.held + self._unread_bytes

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        return Description(f"member:{self.name}", self.dropped)

    async def wait_readable(self) -> None:
        if self._unread or self._incoming.waiting:
            await trio.lowlevel.checkpoint()
        else:
            await self._channel.wait_readable()

    # How frames go on without a task being woken: by one call from below, here at a member; at a
    # switch, `Switch.ingress` stands in the pump's place.
    #
    #   Endpoint.receive_task ─▶ Channel.deliver ─▶ take_once ─▶ take = Pump._take:
    #      1. read_nowait here ─▶ Incoming ─▶ Lane.receive_nowait     what came
    #      2. TAP.write_nowait                                        goes to the host
    #      3. given = QueuedPump.take ─▶ TAP.read_nowait        whose answer, if it is there,
    #           ─▶ write_nowait here ─▶ Lane.send_nowait              goes back
    #
    # What was sent leaves in one go, with acknowledgements, when all channels had their turn.
    async def push(self, take: Callable[[], bool]) -> None:
        more = True

        def take_once() -> bool:
            nonlocal more
            more = take()
            return more and not (self._unread or self._incoming.waiting)

        while more:
            # A burst too long for one turn: others have theirs in between.
            if self._unread or self._incoming.waiting:
                await trio.lowlevel.checkpoint()
                more = take()
            else:
                await self._channel.push(take_once)

    def read_nowait(self, limit: int) -> list[bytes]:
        # HOT PATH
        records = self._unread
        if not records or (len(records) < limit and self._incoming.waiting):
            try:
                records = records + self._incoming.receive_untrusted()
            except BadRecord as error:
                self.close(ByeCode.PROTOCOL, str(error))
                raise
            if self._closed:  # by what came in a control message; there may be more behind it
                self._incoming.throw_away()
                raise trio.ClosedResourceError("this member was unplugged")
        if len(records) > limit:
            self._unread, records = records[limit:], records[:limit]
            self._unread_bytes = sum(map(len, self._unread))
        elif self._unread:
            self._unread, self._unread_bytes = [], 0
        held = self._incoming.held + self._unread_bytes
        if abs(held - self._told) >= HELD_STEP:
            self._told = held
            self._channel.hold(held)
        if not records:
            raise trio.WouldBlock
        return records

    async def wait_writable(self) -> None:
        await self._channel.wait_writable()

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        if self._datagrams is not None and records and self._datagrams.takes():
            if self._controls:
                self.write_nowait([])
            return self._datagrams.send(records)
        bulk = self._bulk
        if len(records) == 1 and not self._controls:  # any credit is enough, so it is asked once
            progress = self._channel.progress()
            if self._chooser.skips(progress, 1):
                messages = pack(records, bulk.message_size)
                try:
                    bulk.send_nowait(messages)
                except trio.WouldBlock:
                    return 0
                self._chooser.skipped(progress[0] + len(messages))
                return 1
        credit = bulk.credit
        overtaking = len(self._controls)
        if overtaking:
            records = [*self._controls, *records]
        if credit <= 0 or not records:
            try:
                bulk.send_nowait(())  # raises if the channel is closed or broken
            except trio.WouldBlock:
                pass
            return 0
        progress = self._channel.progress()
        if not self._chooser.skips(progress, len(records)):
            return self._write_both(records[overtaking:], credit)
        taken = len(records)
        if sum(map(len, records)) > credit:
            taken = _how_many(records, credit)
            records = records[:taken]
        messages = pack(records, bulk.message_size)
        bulk.send_nowait(messages)
        self._chooser.skipped(progress[0] + len(messages))
        for _ in range(min(overtaking, taken)):
            self._controls.popleft()
        return max(0, taken - overtaking)

    def _write_both(self, records: list[bytes], credit: int) -> int:
        """Flow by flow to one lane or the other, control messages first. HOT PATH."""
        channel, chooser, controls = self._channel, self._chooser, self._controls
        first: list[bytes] = []
        while controls and credit > 0:
            credit -= len(controls[0])
            first.append(controls.popleft())
        now = trio.current_time()
        choice = chooser.choose(records, channel.progress(), credit, self._sparse.credit, now)
        if choice.sparse:
            self._send_sparse(choice.sparse)
        if choice.fence:
            first.append(encode_control(After(channel.progress()[2])))
        records = first + choice.bulk
        if records:
            self._bulk.send_nowait(pack(records, self._bulk.message_size))
        chooser.sent(channel.progress(), fence=choice.fence)
        return choice.taken

    def overtake_nowait(
        self, records: list[bytes], waits: Callable[[int], bool]
    ) -> tuple[list[bytes], list[bytes]]:
        """Implements `vswitch.switch.device.Overtaking`: over the sparse lane."""
        channel, chooser = self._channel, self._chooser
        credit = self._sparse.credit
        if credit <= 0:
            return [], records
        progress = channel.progress()
        passing, rest = chooser.overtake(records, progress, credit, waits, trio.current_time())
        if passing:
            self._send_sparse(passing)
            chooser.sent(channel.progress())
        return passing, rest

    def round_trip(self) -> float | None:
        """Implements `vswitch.switch.device.Distant`."""
        return self._channel.round_trip

    def lossy(self) -> bool:
        """Implements `vswitch.switch.device.Distant`."""
        return self._channel.lossy

    def _send_sparse(self, records: list[bytes]) -> None:
        self._sparse.send_nowait(pack(records, self._sparse.message_size))

    def send_control(self, message: ControlMessage) -> None:
        """Send a control message, ahead of all frames that still wait.

        Raises `trio.WouldBlock` when 64 of them wait already: the peer has stopped reading, and the
        session is worth ending. `ValueError` for a message above 16 KiB.
        """
        record = encode_control(message)
        if len(self._controls) >= MAX_QUEUED_CONTROLS:
            raise trio.WouldBlock
        self._controls.append(record)
        self.write_nowait([])
        if self._controls:
            self.on_blocked()

    def _throw_away(self) -> None:
        self._closed = True
        self._unread.clear()
        self._unread_bytes = 0
        self._incoming.throw_away()
        self._controls.clear()

    def close(self, code: int = ByeCode.NORMAL, reason: str = "") -> None:
        """End the session, and tell the peer why."""
        self._throw_away()
        self._channel.close(code, reason)

    async def aclose(self) -> None:
        self._throw_away()
        await self._channel.aclose()


class DatagramSender:
    """What leaves on the datagram lane, whole records, while it is that lane's turn.

    Nothing waits or is repeated. What the lane does not take in one turn is left to the caller's
    queue; a record that no unit can hold, or a superframe that cannot be cut, is dropped and
    counted in `dropped`, in frames.
    """

    __slots__ = ("_channel", "_mtu", "_rule", "dropped", "lane")

    def __init__(self, channel: MessageChannel, mode: str, mtu: int) -> None:
        """`mode`: datagram or auto; `mtu`: bytes, what superframes are cut for."""
        self._channel = channel
        self.lane = channel.open_datagrams()
        self._mtu = mtu
        self._rule = LaneRule(trio.current_time()) if mode == AUTO else None
        self.dropped: Counter[str] = Counter()

    @property
    def mode(self) -> str:
        """As it was agreed."""
        return DATAGRAM if self._rule is None else AUTO

    @property
    def active(self) -> bool:
        """Whether frames left here when they were last looked at."""
        return self._rule is None or self._rule.datagram

    def takes(self) -> bool:
        """Whether frames leave here now. HOT PATH of the lane."""
        if self._rule is None:
            return True
        channel = self._channel
        sent, arrived, _, _ = channel.progress()
        return self._rule.choose(trio.current_time(), channel.lost_at, sent - arrived)

    def send(self, records: list[bytes]) -> int:
        """How many records were taken, from the front. HOT PATH of the lane."""
        lane = self.lane
        size, limit, credit = lane.message_size, lane.max_message, lane.credit
        taken = len(records)
        if sum(map(len, records)) > credit:
            taken = _how_many(records, credit)
            records = records[:taken]
        if not records:
            with suppress(trio.WouldBlock):
                lane.send_nowait(())  # raises if the channel is closed or broken
            return 0
        if size < limit or max(map(len, records)) > limit:
            records = self._small(records, limit)
        if records:
            lane.send_nowait(pack_whole(records, size))
        return taken

    def _small(self, records: list[bytes], limit: int) -> list[bytes]:
        """The batch without superframes, and without what no unit can hold."""
        records, refused = without_superframes_untrusted(records, self._mtu)
        self.dropped["bad_superframe"] += refused
        if records and max(map(len, records)) > limit:
            fitting = [record for record in records if len(record) <= limit]
            self.dropped["too_long"] += load_of(records).frames - load_of(fitting).frames
            return fitting
        return records


def _how_many(records: list[bytes], credit: int) -> int:
    """Records that may be given: the one that exhausts the credit is the last."""
    for index, record in enumerate(records):
        if credit <= 0:
            return index
        credit -= len(record)
    return len(records)


async def measured(channels: Sequence[Channel]) -> None:
    """Have their round trips measured anew, as far as that takes no longer than people wait."""
    for channel in channels:
        channel.measure()
    for _ in range(_LOOKS):
        if not any(channel.statistics().measuring for channel in channels):
            break
        await trio.sleep(MEASURE_WAIT / _LOOKS)
