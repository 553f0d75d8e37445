"""KCP as kcp-go speaks it: a client is a conversation, at the address that it comes from.

    datagram ─▶ whose conversation? ─▶ its engine ─▶ framed stream ─▶ port, and back

No engine sees a datagram before its sender has a place among the clients, which a whole datagram
of segments with content in it is given (`conversations.py`); what has none costs a look at its
headers. A client is forgotten after `idle` seconds of silence, and after `UNANSWERED` with
something that it should have acknowledged.

One that comes from another address than before is known by its conversation number, and goes on
where it was, once the old address has been silent (`ClientLimit.has_moved`). An address with a new
conversation, which is how a client looks that was started again, gets its place then, too. Until
then neither is heard: KCP repeats what is not acknowledged.

Error contract: as in `datagrams.py`. `ConnectionEnded` from a device whose other side has gone, or
sends what cannot be followed.
"""

from __future__ import annotations

import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from vswitch.addresses import HostPort
from vswitch.errors import BadRecord
from vswitch.foreign.client_limit import ClientLimit, note_fault
from vswitch.foreign.conversations import (
    LONGEST,
    UNANSWERED,
    Opening,
    PlainConversation,
    conversation_of,
    opening_untrusted,
)
from vswitch.foreign.datagrams import Correspondent, SharedSocket
from vswitch.foreign.sockets import (
    Address,
    Sender,
    can_answer,
    client_socket,
    enlarge,
    find,
    holder_of,
    shown,
)
from vswitch.foreign.streams import ConnectionEnded
from vswitch.frames.records import frame_of
from vswitch.switch.device import Description, Waiter
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch

if TYPE_CHECKING:
    from vswitch.foreign.kinds import ForeignSettings


class KcpDevice(Correspondent):
    """One conversation with one address. Implements `vswitch.switch.device.Device`."""

    superframes = False

    def __init__(
        self,
        shared: SharedSocket,
        address: Address,
        name: str,
        conversation: PlainConversation,
        dropped: Counter[str],
    ) -> None:
        """`dropped` is that of the conversation, which is the device's from here on."""
        super().__init__(shared, address, dropped)
        self.name = name
        self.mtu = shared.mtu
        self.heard = trio.current_time()  # when something came last
        self.conversation = conversation
        self.on_first: Callable[[bytes], None] | None = None  # gets the first frame, once
        self._came: list[bytes] = []  # datagrams of one wake-up
        self._closed = False
        self._moved = False  # the conversation is another device's now
        self._gone: str | None = None  # why, once the other side has
        self._readable, self._writable = Waiter(), Waiter()
        self._timer = trio.CancelScope()

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        return Description(f"foreign-{self.name}", self.dropped)

    async def keep_time(self) -> None:
        """Send what is due, until the device is closed."""
        while not self._closed:
            deadline = inf if self._gone is not None else self.conversation.deadline()
            with trio.CancelScope(deadline=deadline) as self._timer:
                await trio.sleep_forever()
            if not self._closed:
                try:
                    self._work()
                except Exception as error:
                    note_fault(self._shared.refused, error, name=self.name)

    def hand_over(self) -> PlainConversation:
        """Give the conversation up, to a device at its new address."""
        self._moved = True
        return self.conversation

    def put_untrusted(self, datagram: bytes) -> None:
        """A datagram of the conversation has come in; the caller wakes the reader. HOT PATH."""
        if self._closed:
            return
        if len(datagram) > LONGEST:
            self.dropped["oversize"] += 1
        else:
            self._came.append(datagram)

    def wake_reader(self) -> None:
        """Take in what has come, and answer it."""
        if self._closed:
            return
        self._work()
        if self._gone is not None or self.conversation.readable:
            self._readable.wake()

    def wake_writer(self) -> None:
        self._writable.wake()

    async def wait_readable(self) -> None:
        await self._readable.wait(self._can_read)

    def read_nowait(self, limit: int) -> list[bytes]:
        # HOT PATH
        if not self._can_read():
            raise trio.WouldBlock
        try:
            records = self.conversation.take_untrusted(limit, trio.current_time())
        except BadRecord as error:
            self._end(str(error))
            records = []
        self._flush()  # the other side may hear that there is room again
        if not records:
            self._check()
            raise trio.WouldBlock
        if self.on_first is not None:
            first, self.on_first = self.on_first, None
            first(frame_of(records[0]))
        return records

    async def wait_writable(self) -> None:
        await self._writable.wait(self._can_write)

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        if not self._can_write():
            return 0
        taken = self.conversation.write(records, trio.current_time())
        self._flush()
        return taken

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._came.clear()
        if not self._moved:
            self.conversation.close()
        self._shared.devices.discard(self)
        self._timer.cancel()
        self._readable.wake()
        self._writable.wake()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _work(self) -> None:
        """What has come in and what is due. HOT PATH."""
        now, conversation = trio.current_time(), self.conversation
        came, self._came = self._came, []
        try:
            if came:
                conversation.receive_untrusted(came, now)
            elif conversation.has_gone(now):
                self._end(f"nothing has come back for {UNANSWERED:.0f} s")
        except BadRecord as error:
            self._end(str(error))
        except Exception:
            self._end("a fault of vswitch has ended the conversation")
            raise
        if self._gone is None:
            self._flush()
            if conversation.room > 0:
                self._writable.wake()

    def _end(self, reason: str) -> None:
        self._gone = reason
        self._readable.wake()
        self._writable.wake()

    def _flush(self) -> None:
        """Send what is to leave now. What the kernel does not take is lost, and sent again."""
        # HOT PATH
        if self._gone is not None or self._closed:
            return
        conversation = self.conversation
        for datagram in conversation.datagrams(trio.current_time()):
            if not self._send(datagram):
                self._shared.note_full()
                self.dropped["socket_full"] += 1
        due = conversation.deadline()
        if due < self._timer.deadline:
            self._timer.deadline = due

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"{self.name} is closed")
        if self._gone is not None:
            raise ConnectionEnded(self._gone)

    def _can_read(self) -> bool:
        if self._closed or not self.conversation.readable:
            self._check()
            return False
        return True

    def _can_write(self) -> bool:
        self._check()
        return not self._shared.full and self.conversation.room > 0


class KcpClients:
    """The clients of one listener."""

    def __init__(self, switch: Switch, sock: socket.socket, settings: ForeignSettings) -> None:
        self._limit = ClientLimit(switch, settings, forgets=True)
        self._settings = settings
        self._shared = SharedSocket(sock, settings.mtu_in(switch.mtu), longest=LONGEST)
        self.refused = self._shared.refused = self._limit.refused
        self._switch = switch
        self._clients: dict[Sender, tuple[KcpDevice, Port]] = {}
        self._conversations: dict[int, tuple[KcpDevice, Port]] = {}  # by number
        self._nursery: trio.Nursery  # while it runs

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._shared.run, self._judge_untrusted)
                self._nursery.start_soon(self._limit.forget)
        finally:
            self._limit.close()

    def _judge_untrusted(self, datagram: bytes, address: Sender) -> tuple[KcpDevice, bytes] | None:
        # HOT PATH
        found = self._clients.get(address)
        if found is not None and conversation_of(datagram) == found[0].conversation.conv:
            client = found[0]
        else:
            admitted = self._admit(datagram, address)
            if admitted is None:
                return None
            client = admitted
        client.heard = trio.current_time()
        return client, datagram

    def _admit(self, datagram: bytes, address: Sender) -> KcpDevice | None:
        opening = opening_untrusted(datagram)
        if opening is None or not can_answer(address):
            self._limit.refuse("no_address" if opening else "no_conversation")
            return None
        holder = holder_of(address)
        mine, before = self._clients.get(address), self._conversations.get(opening.conv)
        known = [each for each in (mine, before) if each is not None]
        if not all(self._limit.has_moved(port, holder) for _, port in known):
            self._limit.refuse("conversation_taken")
            return None
        if not known and not self._limit.may_come(holder):
            return None
        name = f"{self._settings.kind}:{shown(address)}"
        if before is not None:
            dropped, conversation = before[0].dropped, before[0].hand_over()
        else:
            dropped = Counter()
            conversation = PlainConversation(
                opening, self._shared.mtu, dropped, trio.current_time()
            )
        for _, port in known:
            self._switch.detach(port)
        device = KcpDevice(self._shared, address, name, conversation, dropped)
        return self._plug(device, holder)

    def _plug(self, device: KcpDevice, holder: str) -> KcpDevice | None:
        address, conv = device.address, device.conversation.conv

        def gone(_: Port) -> None:
            del self._clients[address], self._conversations[conv]

        name = f"{self._settings.name}-{shown(address)}"
        port = self._limit.plug(device, name, gone, holder)
        if port is None:
            return None
        self._clients[address] = self._conversations[conv] = device, port
        device.on_first = partial(self._limit.note_station, port, holder, self._nursery)
        self._nursery.start_soon(device.keep_time)
        return device


@asynccontextmanager
async def connect_kcp(where: HostPort, bind: str | None, mtu: int) -> AsyncIterator[KcpDevice]:
    """A client's side: a conversation with somebody's listener. Others who send are not heard."""
    address = (await find(where, socket.SOCK_DGRAM, bind))[0]
    with client_socket(address, socket.SOCK_DGRAM, bind) as sock:
        enlarge(sock)
        shared = SharedSocket(sock, mtu, longest=LONGEST)
        dropped: Counter[str] = Counter()
        opening = Opening(secrets.randbits(32))
        conversation = PlainConversation(opening, mtu, dropped, trio.current_time())
        device = KcpDevice(shared, address, f"kcp:{where}", conversation, dropped)

        def judge(datagram: bytes, source: Sender) -> tuple[KcpDevice, bytes] | None:
            if source and source[:2] == address and conversation_of(datagram) == opening.conv:
                return device, datagram
            dropped["unknown_peer"] += 1
            return None

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shared.run, judge)
                nursery.start_soon(device.keep_time)
                try:
                    yield device
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            device.close()
