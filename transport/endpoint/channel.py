"""The Trio handle of a session: messages in, messages out, one end.

A channel carries whole messages, reliably and in order. `send_nowait` takes a batch while there
is credit and transmits it at once; `receive_nowait` gives all that has arrived. The waiting
verbs are checkpoints always; one task may wait in each direction (`trio.BusyResourceError`).
What is sent with `send_sparse_nowait` has a lane of its own: it does not wait for what was lost of
the rest, and `receive_sparse_nowait` gives it. What is sent with `send_loose_nowait`, once both
sides have agreed and called `open_loose`, is not repeated when it is lost. `push` saves the
wake-up: what arrives is handled where it arrives, by a plain call.

Error contract: `trio.ClosedResourceError` after our own close; `ChannelBroken`, a
`trio.BrokenResourceError` with code and reason, when the session is over, after everything that
had arrived has been read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from transport.crypto.identity import PublicKey
from transport.endpoint.udp import format_address
from transport.lanes.datagram import LooseLane
from transport.lanes.lanes import Progress
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
    def forget_credential(self, session: Session) -> None: ...
    def rebind(self) -> None: ...
    def now(self) -> float: ...


class Channel(trio.abc.AsyncResource):
    """One session with one peer. Made by an endpoint, never directly."""

    def __init__(self, shell: _Shell, session: Session, credential: Credential) -> None:
        self._shell = shell
        self._session = session
        self._closed = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._take: Callable[[], bool] | None = None  # of the task in `push`, while it waits
        self._failure: Exception | None = None  # what that raised
        self.credential = credential

    @property
    def peer(self) -> PublicKey:
        """The peer's proven public key."""
        return self._session.peer

    @property
    def remote(self) -> str:
        """Where the peer is now, for people."""
        return format_address(self._session.paths.current)

    @property
    def address(self) -> Address:
        """Where the peer is now, as the socket writes it."""
        return self._session.paths.current

    @property
    def message_size(self) -> int:
        """Bytes of a message that fills one sealed unit; larger ones are fragmented."""
        return self._session.message_size

    @property
    def credit(self) -> int:
        """Bytes that may be sent now; none if zero or less."""
        return self._session.credit

    @property
    def sparse_credit(self) -> int:
        """Bytes that may be sent on the sparse lane now; none if zero or less."""
        return self._session.lanes.sparse_credit

    @property
    def sparse_message_size(self) -> int:
        """Bytes of a message that fills one datagram of the sparse lane."""
        return self._session.lanes.sparse_message_size

    @property
    def round_trip(self) -> float | None:
        """Seconds to the peer and back, smoothed; None while that is not known."""
        return self._session.round_trip

    @property
    def lossy(self) -> bool:
        """The path has lost something, and has not shown since that this was all."""
        return self._session.lanes.lossy

    @property
    def bulk_waits(self) -> bool:
        """Whether `receive_nowait` has something, on hold or not."""
        return self._session.lane.readable

    @property
    def sparse_waits(self) -> bool:
        """Whether `receive_sparse_nowait` has something."""
        return self._session.lanes.sparse_readable

    @property
    def loose_size(self) -> int:
        """Bytes of a message of the datagram lane that fits a unit as they are now: one datagram,
        or on a path that loses nothing `loose_limit`.
        """
        return self._loose.message_size

    @property
    def loose_limit(self) -> int:
        """Bytes of the largest message of the datagram lane."""
        return self._loose.limit

    @property
    def loose_credit(self) -> int:
        """Bytes that the datagram lane takes now; none if zero or less."""
        return self._loose.credit

    @property
    def loose_waits(self) -> bool:
        """Whether `receive_loose_nowait` has something."""
        return self._session.lanes.loose_readable

    @property
    def lost_at(self) -> float:
        """When it was last found that the path loses something, on Trio's clock."""
        return self._session.lanes.lost_at

    @property
    def _loose(self) -> LooseLane:
        loose = self._session.lanes.loose
        if loose is None:
            raise RuntimeError("the datagram lane was not opened")
        return loose

    def open_loose(self) -> None:
        """The peer takes messages of the datagram lane, and so do we. Without this what comes is
        dropped; so only when both sides have agreed.
        """
        self._session.open_loose(self._shell.now())

    @property
    def ended(self) -> bool:
        """Whether nothing arrives any more; what has can still be read."""
        return self._session.ended is not None

    def hold_bulk(self, held: bool) -> None:
        """While held, what waits on the bulk lane is no reason to wake anybody; it stays there,
        and the peer is held back when it is much.
        """
        self._session.lanes.hold_bulk = held

    def progress(self) -> Progress:
        """What of both lanes has reached the peer. HOT PATH."""
        return self._session.lanes.progress()

    def statistics(self) -> SessionStatistics:
        return self._session.statistics(self._shell.now())

    def forget_credential(self) -> None:
        """The peer knows our key by now: rekeys show that alone. For a single-use token."""
        self._shell.forget_credential(self._session)

    def probe(self) -> None:
        """The way to the peer may have changed: let it see where we are now, at once."""
        self._shell.rebind()
        self._session.probe(self._shell.now())
        self._shell.transmit(self._session)

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

    def send_nowait(self, messages: Sequence[bytes]) -> None:
        """Send a batch; `trio.WouldBlock` if there is no credit. HOT PATH."""
        self._check()
        if self._session.credit <= 0:
            raise trio.WouldBlock
        self._session.send(messages, self._shell.now())
        self._shell.transmit(self._session)

    def send_sparse_nowait(self, messages: Sequence[bytes]) -> None:
        """Send a batch on the lane that does not wait behind the first; in order among
        themselves. `trio.WouldBlock` if it has no credit.
        """
        self._check()
        if self.sparse_credit <= 0:
            raise trio.WouldBlock
        self._session.send_sparse(messages, self._shell.now())
        self._shell.transmit(self._session)

    def send_loose_nowait(self, messages: Sequence[bytes]) -> None:
        """Send a batch on the datagram lane, each message a unit of its own that comes whole or not
        at all. `trio.WouldBlock` if it takes nothing more in this turn. HOT PATH of that lane.
        """
        self._check()
        if self._loose.credit <= 0:
            raise trio.WouldBlock
        self._session.send_loose(messages, self._shell.now())
        self._shell.transmit(self._session)

    async def send(self, messages: Sequence[bytes]) -> None:
        """Wait for credit, then send."""
        await self.wait_writable()
        self.send_nowait(messages)

    async def wait_writable(self) -> None:
        """Until there is credit, on the datagram lane too if it is open."""
        await trio.lowlevel.checkpoint()
        self._check()
        while not self._session.writable:
            await self._park(self._writers)
            self._check()

    # --- Receiving ----------------------------------------------------------------------------

    def receive_nowait(self) -> list[bytes]:
        """Everything that has arrived on the bulk lane; `trio.WouldBlock` if that is nothing.
        HOT PATH.
        """
        if self._closed:
            raise trio.ClosedResourceError
        if not self._session.lane.readable:
            if not self.sparse_waits and not self.loose_waits:
                self._check()
            raise trio.WouldBlock
        messages = self._session.take_messages(self._shell.now())
        if self._session.lanes.flush_due:  # room again: the peer is waiting to hear of it
            self._shell.transmit(self._session)
        return messages

    def receive_sparse_nowait(self) -> list[bytes]:
        """Everything that has arrived on the sparse lane; `trio.WouldBlock` if that is nothing."""
        if self._closed:
            raise trio.ClosedResourceError
        if not self.sparse_waits:
            if not self._session.lane.readable and not self.loose_waits:
                self._check()
            raise trio.WouldBlock
        messages = self._session.take_sparse_messages(self._shell.now())
        if self._session.lanes.flush_due:
            self._shell.transmit(self._session)
        return messages

    def receive_loose_nowait(self) -> list[bytes]:
        """Everything that has come on the datagram lane; `trio.WouldBlock` if that is nothing."""
        if self._closed:
            raise trio.ClosedResourceError
        if not self.loose_waits:
            if not self._session.readable:
                self._check()
            raise trio.WouldBlock
        return self._session.take_loose_messages()

    async def receive(self) -> list[bytes]:
        """Wait for messages of the bulk lane, then give all of them."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.receive_nowait()
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

        It must read them with `receive_nowait`, and is called wherever they come in, so that they
        cost no wake-up of this task; what it raises comes out here. It may send on any channel of
        the endpoint: all leaves together when every channel has had its turn.
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

    async def _park(self, lot: trio.lowlevel.ParkingLot) -> None:
        if lot:
            raise trio.BusyResourceError("another task is already waiting here")
        await lot.park()

    # --- The end ------------------------------------------------------------------------------

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session now and tell the peer; what was not acknowledged may be lost."""
        if not self._closed:
            self._closed = True
            self._session.close(code, reason, self._shell.now())
            self._shell.transmit(self._session)
            self.update()

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session after what was sent has arrived, or a second has passed."""
        try:
            with trio.move_on_after(GRACE):
                while not (self._closed or self._session.ended or self._session.drained):
                    await self._drained.park()
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
        over = self._closed or session.ended is not None
        if self._readers and (over or session.readable):
            self._readers.unpark_all()
        if self._drained and (over or session.drained):
            self._drained.unpark_all()
        if self._writers and (over or session.writable):
            self._writers.unpark_all()
