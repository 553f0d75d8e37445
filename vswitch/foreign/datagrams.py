"""One datagram socket, and what is at its other ends: each peer of it is a device.

    socket readable ─▶ up to 256 datagrams ─▶ whose is it? ─▶ that device's inbox ─▶ its port

Used for raw UDP, VXLAN, QEMU's datagrams and KCP, by the switch and by `join --via`. A datagram
that the kernel refuses is dropped and counted at its device; when the socket itself is full, all
its devices are until it is not. Where the socket listens at every address of a host, a device sends
from the one that its peer's newest datagram came to. The inbox of a device is bounded, and what is
too much is dropped and counted, so that one peer neither stalls nor starves another.

Error contract: nothing from the network raises. A fault in a program costs the datagram that has
shown it, which is counted (`fault`), and the first is logged with its traceback.
"""

from __future__ import annotations

import errno
import socket
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable

import trio

from vswitch.foreign.client_limit import note_fault
from vswitch.foreign.formats import longest_frame, record_untrusted
from vswitch.foreign.sockets import ANCILLARY_ROOM, Address, Ancillary, Sender, answering
from vswitch.frames.records import HEADER_SIZE
from vswitch.switch.device import Description, Waiter

BATCH = 256  # datagrams of one wake-up: half a millisecond of work
INBOX = 1024  # frames that wait for their port's task, which takes 64 at a turn

SEND_REASONS = {
    errno.EMSGSIZE: "too_long",
    errno.ENOBUFS: "no_memory",
    errno.ENOMEM: "no_memory",
}


Judge = Callable[[bytes, Sender], "tuple[Correspondent, bytes] | None"]


class SharedSocket:
    """A bound, non-blocking datagram socket that belongs to whoever opened it."""

    def __init__(self, sock: socket.socket, mtu: int, *, longest: int | None = None) -> None:
        """`longest`: bytes of a datagram, where that is not the longest frame."""
        self.sock = sock
        self.mtu = mtu
        self.refused: Counter[str] = Counter()  # datagrams that are nobody's, by reason
        # One byte more than fits, so that what is cut off shows.
        self._size = (longest or longest_frame(mtu)) + 1
        self.devices: set[Correspondent] = set()
        # A UNIX socket says "full" for one peer that does not read, not for itself.
        self.fills = sock.family != socket.AF_UNIX
        # There, what comes beside the data may be open files, which nobody wants.
        self._room = ANCILLARY_ROOM if self.fills else 0
        self.full = False
        self._full = trio.Event()

    def note_full(self) -> None:
        """The kernel takes nothing more just now."""
        self.full = True
        self._full.set()

    async def run(self, judge: Judge) -> None:
        """Give what comes in to the devices, until cancelled.

        `judge` says whose a datagram is and which frame is in it, or None when it was dropped.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_room)
            while True:
                await trio.lowlevel.wait_readable(self.sock)
                self._receive(judge)

    def _receive(self, judge: Judge) -> None:
        # HOT PATH
        receive, size, room = self.sock.recvmsg, self._size, self._room
        touched: set[Correspondent] = set()
        for _ in range(BATCH):
            try:
                data, ancillary, _, address = receive(size, room)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error for something that was sent
            try:
                found = judge(data, address)
                if found is not None:
                    device, frame = found
                    if ancillary != device.asked:
                        device.answer(ancillary)
                    device.put_untrusted(frame)
                    touched.add(device)
            except Exception as error:
                self._note_fault(error)
        for device in touched:
            try:
                device.wake_reader()
            except Exception as error:
                self._note_fault(error)

    def _note_fault(self, error: Exception) -> None:
        note_fault(self.refused, error)

    async def _wait_for_room(self) -> None:
        while True:
            await self._full.wait()
            self._full = trio.Event()
            await trio.lowlevel.wait_writable(self.sock)
            self.full = False
            for device in self.devices:
                device.wake_writer()


class Correspondent(ABC):
    """The device of one peer of a shared socket, as far as that is concerned."""

    def __init__(self, shared: SharedSocket, address: Address, dropped: Counter[str]) -> None:
        """`dropped`: what of this device's was dropped, by reason."""
        self.address = address
        self.dropped = dropped
        self.asked: Ancillary = []  # the address of ours that its newest datagram came to
        self._source: Ancillary = []  # what makes datagrams leave from there
        self._shared = shared
        shared.devices.add(self)

    @abstractmethod
    def put_untrusted(self, datagram: bytes) -> None:
        """Something has come in; the caller wakes the reader."""

    @abstractmethod
    def wake_reader(self) -> None:
        """All of one wake-up has come in."""

    @abstractmethod
    def wake_writer(self) -> None:
        """The socket takes something again."""

    def answer(self, asked: Ancillary) -> None:
        """From now on send from where that came to."""
        self.asked, self._source = asked, answering(asked)

    def _send(self, *parts: bytes) -> bool:
        """Send a datagram; False if the socket takes none now. What it refuses is counted."""
        # HOT PATH
        sock, source = self._shared.sock, self._source
        try:
            if source:
                sock.sendmsg(parts, source, 0, self.address)
            else:
                sock.sendto(b"".join(parts), self.address)
        except BlockingIOError:
            return False
        except OSError as error:
            if source and error.errno in (errno.EINVAL, errno.ENETUNREACH):
                # Nothing can be sent from there: it was a broadcast, or is not ours any more.
                self._source = []
            self.dropped[SEND_REASONS.get(error.errno or 0, "unreachable")] += 1
        return True


class DatagramDevice(Correspondent):
    """One peer of a shared socket. Implements `vswitch.switch.device.Device`."""

    superframes = False

    def __init__(
        self,
        shared: SharedSocket,
        address: Address,
        name: str,
        *,
        mtu: int | None = None,
        header: bytes = b"",
    ) -> None:
        """`mtu`: where it is less than that of the socket; `header` stands in front of each frame
        that is sent.
        """
        super().__init__(shared, address, Counter())
        self.name = name
        self.mtu = mtu or shared.mtu
        self.heard = trio.current_time()  # when something came last
        self._header = header
        self._longest = longest_frame(self.mtu)
        self._inbox: deque[bytes] = deque()
        self._closed = False
        self._readable, self._writable = Waiter(), Waiter()

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        return Description(f"foreign-{self.name}", self.dropped)

    def put_untrusted(self, frame: bytes) -> None:
        """A frame has come in; the caller wakes the reader. HOT PATH."""
        record = record_untrusted(frame, self._longest, self.dropped)
        if record is None:
            return
        if len(self._inbox) >= INBOX:
            self.dropped["inbox_full"] += 1
        else:
            self._inbox.append(record)

    def wake_reader(self) -> None:
        self._readable.wake()

    def wake_writer(self) -> None:
        self._writable.wake()

    async def wait_readable(self) -> None:
        await self._readable.wait(self._can_read)

    def read_nowait(self, limit: int) -> list[bytes]:
        if not self._can_read():
            raise trio.WouldBlock
        inbox = self._inbox
        if len(inbox) <= limit:
            records = list(inbox)
            inbox.clear()
            return records
        return [inbox.popleft() for _ in range(limit)]

    async def wait_writable(self) -> None:
        await self._writable.wait(self._can_write)

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        if not self._can_write():
            return 0
        header, longest = self._header, HEADER_SIZE + self._longest
        done = 0
        for record in records:
            if len(record) > longest:
                self.dropped["oversize"] += 1
            elif not self._send(header, record[HEADER_SIZE:]):
                if self._shared.fills:
                    self._shared.note_full()
                    return done
                self.dropped["peer_full"] += 1
            done += 1
        return done

    def close(self) -> None:
        self._closed = True
        self._inbox.clear()
        self._shared.devices.discard(self)
        self._readable.wake()
        self._writable.wake()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"{self.name} is closed")

    def _can_read(self) -> bool:
        self._check()
        return bool(self._inbox)

    def _can_write(self) -> bool:
        self._check()
        return not self._shared.full
