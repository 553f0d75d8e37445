"""The Trio handle of a session: messages in, messages out, one end.

A channel carries whole messages, reliably and in order: those of `send` and `receive`, which are
of the lane `bulk`. What is sent on the lane `sparse` does not wait for what was lost of the rest.
What is sent on `datagrams`, once both sides have agreed and called `open_datagrams`, is not
repeated when it is lost. A lane's `send_nowait` takes a batch while there is credit and transmits
it at once; `receive_nowait` gives all that has arrived.

The waiting verbs are checkpoints always; one task may wait in each direction
(`trio.BusyResourceError`). `push` saves the wake-up: what arrives is handled where it arrives, by a
plain call.

Error contract: `trio.ClosedResourceError` after our own close; `ChannelBroken`, a
`trio.BrokenResourceError` with code and reason, when the session is over, after everything that
had arrived has been read. A session that was ended since it held too much memory, since the peer
cannot be understood, or for a fault in here, keeps nothing, and none does after our own close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from transport.crypto.identity import PublicKey
from transport.endpoint.udp import format_address
from transport.lanes.datagram import DatagramLane
from transport.lanes.lanes import Progress, SparseLane
from transport.lanes.reliable import ReliableLane
from transport.session.events import Ended
from transport.session.session import Session
from transport.stats import SessionStatistics
from transport.wire.control import CloseCode
from transport.wire.datagrams import Credential
from transport.wire.trains import Address

GRACE = 1.0  # seconds that aclose() waits for what was sent to be acknowledged


class ChannelBroken(trio.BrokenResourceError):
    """The session behind a channel is over."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.reason)
        self.code = ended.code
        self.reason = ended.reason
        self.by_peer = ended.by_peer

    def __str__(self) -> str:
        return self.reason or "the peer has closed the session"


class _Shell(Protocol):
    """What a channel needs of its endpoint."""

    def transmit(self, session: Session) -> None: ...
    def close(self, session: Session, code: int, reason: str) -> None: ...
    def failed(self, session: Session, error: Exception) -> None: ...
    def forget_credential(self, session: Session) -> None: ...
    def expect(self, session: Session, key: PublicKey) -> None: ...
    def seek(
        self, session: Session, addresses: Sequence[Address], *, elsewhere: bool = False
    ) -> None: ...
    def rebind(self) -> None: ...
    def now(self) -> float: ...


class Lane:
    """Messages of one kind over a channel, both ways."""

    __slots__ = ("_channel", "_lane")

    def __init__(self, channel: Channel, lane: ReliableLane | SparseLane | DatagramLane) -> None:
        self._channel = channel
        self._lane = lane

    @property
    def message_size(self) -> int:
        """Bytes of a message that fits a sealed unit as they are now. On the sparse lane that is
        one datagram; on the datagram lane too, or on a path that loses nothing `max_message`.
        """
        return self._lane.message_size

    @property
    def max_message(self) -> int:
        """Bytes of the largest message. A reliable lane cuts what is above `message_size`."""
        return self._lane.max_message

    @property
    def credit(self) -> int:
        """Bytes that may be sent now; none if zero or less."""
        return self._lane.credit

    @property
    def readable(self) -> bool:
        """Whether `receive_nowait` has something, on hold or not."""
        return self._lane.readable

    def send_nowait(self, messages: Sequence[bytes]) -> None:
        """Send a batch, above the credit too; `trio.WouldBlock` if there was none. HOT PATH."""
        channel = self._channel
        session, shell = channel._session, channel._shell
        if channel._closed or session.ending.ended is not None:
            channel._check()
        if self._lane.credit <= 0:
            raise trio.WouldBlock
        self._lane.send(messages, shell.now())
        shell.transmit(session)

    def receive_nowait(self) -> list[bytes]:
        """All that has arrived; `trio.WouldBlock` if that is nothing. The end of the session is
        raised when no lane has anything. HOT PATH.
        """
        channel = self._channel
        if channel._closed:
            raise trio.ClosedResourceError
        session = channel._session
        if not self._lane.readable:
            if not session.readable:
                channel._check()
            raise trio.WouldBlock
        messages = self._lane.take_messages()
        if session.lanes.flush_due:  # room again: the peer is waiting to hear of it
            channel._shell.transmit(session)
        return messages


class Channel(trio.abc.AsyncResource):
    """One session with one peer. Made by an endpoint, never directly."""

    def __init__(self, shell: _Shell, session: Session, credential: Credential) -> None:
        self._shell = shell
        self._session = session
        self._closed = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._parked = 0  # tasks that wait in these
        self._doubters = trio.lowlevel.ParkingLot()  # for `doubt`
        self._take: Callable[[], bool] | None = None  # of the task in `push`, while it waits
        self._failure: Exception | None = None  # what that raised
        self._datagrams: Lane | None = None
        self.bulk = Lane(self, session.bulk)
        self.sparse = Lane(self, session.sparse)
        self.credential = credential

    @property
    def peer(self) -> PublicKey:
        """The peer's proven public key."""
        return self._session.peer

    @property
    def identity(self) -> PublicKey | None:
        """Of one that a peer began: which public key of ours it asked for in its latest handshake;
        None for one that we began.
        """
        return self._session.identity

    @property
    def remote(self) -> str:
        """Where the peer is now, for people."""
        return format_address(self._session.paths.current)

    @property
    def address(self) -> Address:
        """Where the peer is now, as the socket writes it."""
        return self._session.paths.current

    @property
    def path_kind(self) -> str:
        """How the peer is reached: `udp`, or what the pipe is called."""
        return self._session.path_kind

    @property
    def round_trip(self) -> float | None:
        """Seconds to the peer and back, smoothed; None while that is not known."""
        return self._session.round_trip

    @property
    def lossy(self) -> bool:
        """The path has lost something, and has not shown since that this was all."""
        return self._session.lanes.lossy

    @property
    def lost_at(self) -> float:
        """When it was last found that the path loses something, on Trio's clock."""
        return self._session.lanes.lost_at

    @property
    def datagrams(self) -> Lane:
        """The lane of messages that are not repeated. RuntimeError before `open_datagrams`."""
        if self._datagrams is None:
            raise RuntimeError("the datagram lane was not opened")
        return self._datagrams

    def open_datagrams(self) -> Lane:
        """The peer takes messages of the datagram lane, and so do we. Without this what comes is
        dropped; so only when both sides have agreed. Idempotent.
        """
        self._datagrams = Lane(self, self._session.open_datagrams(self._shell.now()))
        return self._datagrams

    @property
    def ended(self) -> bool:
        """Whether nothing arrives any more; what has can still be read."""
        return self._session.ended is not None

    def hold_bulk(self, held: bool) -> None:
        """While held, what waits on the bulk lane is no reason to wake anybody; it stays there,
        and the peer is held back when it is much.
        """
        self._session.lanes.hold_bulk = held

    def hold(self, held: int) -> None:
        """Of what was received here, so many bytes are kept above and not used up: they count as
        the session's memory. It is settled at once, so not for each message.
        """
        if held < 0:
            raise ValueError(f"nobody keeps {held} bytes")
        self._session.held_above = held
        if self._session.ended is None:
            self._shell.transmit(self._session)

    def progress(self) -> Progress:
        """What of both reliable lanes has reached the peer. HOT PATH."""
        return self._session.lanes.progress()

    def statistics(self) -> SessionStatistics:
        return self._session.statistics(self._shell.now())

    def measure(self) -> None:
        """Ask how far the peer is; `statistics` says it in a round trip, `measuring` until then."""
        self._session.measure(self._shell.now())
        self._shell.transmit(self._session)

    def forget_credential(self) -> None:
        """The peer knows our key by now: rekeys show that alone. For a single-use token."""
        self._shell.forget_credential(self._session)

    def expect(self, key: PublicKey) -> None:
        """The peer has another key from now on: handshakes ask for that, and the session goes on.
        For whoever has connected. Raises ValueError for a key that nobody can own.
        """
        self._shell.expect(self._session, key)

    def probe(self) -> None:
        """The way to the peer may have changed: let it see where we are now, at once."""
        self._shell.rebind()
        self._session.probe(self._shell.now())
        self._shell.transmit(self._session)

    @property
    def silent(self) -> bool:
        """Something was sent that deserves an answer, and nothing has come for seconds."""
        return self._session.silent(self._shell.now())

    async def wait_silent(self) -> None:
        """Until the peer of a session that we initiated is found silent, or `doubt` says that it
        may be. While it is silent that is once a second.
        """
        await trio.lowlevel.checkpoint()
        self._check()
        await self._doubters.park()
        self._check()

    def doubt(self) -> None:
        """The peer may not be where it was: whoever waits for its silence goes on."""
        self._doubters.unpark_all()

    def seek(self, addresses: Sequence[Address], *, elsewhere: bool = False) -> None:
        """Ask at all these addresses, and where the peer was, for the session; where it is answered
        first the session goes on. For whoever has connected. `elsewhere`: not where the peer was,
        so that the session moves as soon as another answers; meanwhile it goes on where it is.
        """
        self._shell.seek(self._session, addresses, elsewhere=elsewhere)

    def renew(self) -> None:
        """We may have slept: ask at once, with a new handshake, whether the session still is."""
        self._session.renew()
        self.probe()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._session.ended is not None:
            raise ChannelBroken(self._session.ended)

    # --- Sending ------------------------------------------------------------------------------

    async def send(self, messages: Sequence[bytes]) -> None:
        """Wait for credit, then send on the bulk lane."""
        await self.wait_writable()
        self.bulk.send_nowait(messages)

    async def wait_writable(self) -> None:
        """Until there is credit, on the datagram lane too if it is open."""
        await trio.lowlevel.checkpoint()
        self._check()
        while not self._session.writable:
            await self._park(self._writers)
            self._check()

    # --- Receiving ----------------------------------------------------------------------------

    async def receive(self) -> list[bytes]:
        """Wait for messages of the bulk lane, then give all of them."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.bulk.receive_nowait()
            except trio.WouldBlock:
                self._check()
                await self._park(self._readers)

    async def wait_readable(self) -> None:
        """Until something has arrived on any lane."""
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if self._session.readable:
                return
            self._check()
            await self._park(self._readers)

    async def push(self, take: Callable[[], bool]) -> None:
        """Call `take()` whenever messages wait, until it gives False.

        It must read them with `receive_nowait` of a lane, and is called wherever they come in, so
        that they cost no wake-up of this task; what it raises comes out here. It may send on any
        channel of the endpoint: all leaves together when every channel has had its turn.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if self._session.readable:
                if not take():
                    return
                await trio.lowlevel.checkpoint()
                continue
            self._check()
            self._take = take
            try:
                await self._park(self._readers)
                stopped = self._take is None
            finally:
                self._take = None
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if stopped:
                return

    async def _park(self, lot: trio.lowlevel.ParkingLot, *, alone: bool = True) -> None:
        if alone and lot:
            raise trio.BusyResourceError("another task is already waiting here")
        self._parked += 1
        try:
            await lot.park()
        finally:
            self._parked -= 1

    # --- The end ------------------------------------------------------------------------------

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session now and tell the peer; what was not acknowledged may be lost."""
        if not self._closed:
            self._closed = True
            self._shell.close(self._session, code, reason)
            self.update()

    def abort(self, error: Exception) -> None:
        """What is done with this channel has raised: it ends, the log has the error, and the peer a
        reference to that.
        """
        if not self._closed:
            self._closed = True
            self._shell.failed(self._session, error)
            self.update()

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session after what was sent has arrived, or a second has passed."""
        try:
            with trio.move_on_after(GRACE):
                while not (self._closed or self._session.ended or self._session.drained):
                    await self._park(self._drained, alone=False)
        finally:
            self.close(code, reason)
        await trio.lowlevel.checkpoint()

    def deliver(self) -> None:
        """The endpoint's: something has come in. Raises nothing. HOT PATH."""
        if self._take is not None and self._session.readable and not self._closed:
            try:
                if self._take():
                    if self._session.readable:  # more than it takes at once: the task goes on
                        self._readers.unpark_all()
                    return
            except Exception as error:
                self._failure = error
            self._take = None
            self._readers.unpark_all()

    def update(self) -> None:
        """The endpoint's: something happened to the session. HOT PATH."""
        session = self._session
        over = self._closed or session.ending.ended is not None
        # Whoever pushes is called where something comes in, in `deliver`.
        if not over and self._parked == (self._take is not None):
            return
        if (over or self._take is None) and self._readers and (over or session.readable):
            self._readers.unpark_all()
        if self._drained and (over or session.drained):
            self._drained.unpark_all()
        if self._writers and (over or session.writable):
            self._writers.unpark_all()
        if over:
            self._doubters.unpark_all()
