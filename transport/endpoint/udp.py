"""The UDP socket: batches in, batches out; what not every kernel does is asked of `kernel.py`.

`DatagramSocket` is the small protocol that the endpoint knows; `UdpSocket` is the real one and
`testing.MemorySocket` the other. Receiving never blocks and takes a bounded batch; sending never
waits: what the kernel does not take is counted, and KCP repeats what mattered.

A socket that listens at every address of a host gives peers' addresses with an end of our own
behind: the local address that was asked, as the control message that makes an answer leave from
there, since a firewall or NAT before the peer lets in no answer from another. Other sockets leave
the source to the routes. A socket that does not listen hears ICMP, as does a connected one.

Error contract: opening raises OSError as the kernel gave it. Afterwards nothing is raised for
what happens on the network; a closed socket raises `trio.ClosedResourceError`.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

import trio

from transport.constants import MAX_DATAGRAM
from transport.endpoint import obstacles
from transport.endpoint.kernel import ANCILLARY_ROOM, KERNEL, ControlMessage, End, Kernel
from transport.handshake.floodgate import Shares
from transport.wire.trains import Address, Bytes, PipeAddress, Refusal, Train, cut

_TRAIN_DATAGRAMS: Final = 64  # in one call: UDP_MAX_SEGMENTS of the kernels before 6.9
_LAY_UP_TO: Final = 256 * 1024  # bytes of reads in one turn, unless one read more
_COPY_UP_TO: Final = 4096  # bytes that are copied out of the buffer of reads
_REFUSALS: Final = 1024  # of one turn, more than a turn's trains
_TRAIN_BYTES: Final = 65_000  # in one call, below the largest UDP payload of 65,507


class DatagramSocket(Protocol):
    """What an endpoint needs of a socket."""

    drops: Counter[str]
    refused: deque[Refusal]  # what did not leave; whoever reads it takes it out

    @property
    def local_address(self) -> Address: ...

    async def wait_readable(self) -> None:
        """Until `receive_nowait` would give something. ClosedResourceError after close."""

    drained: bool  # whether the last `receive_nowait` has left nothing behind

    def receive_nowait(self, limit: int) -> list[Train]:
        """Trains from about `limit` reads, good until the next call; empty when nothing waits."""

    def send_nowait(self, trains: Iterable[Train]) -> None:
        """Send all or count what could not be sent."""

    def rebind(self) -> None:
        """Interfaces may have come and gone."""

    def limit_inits(self, shares: Shares) -> None:
        """Let in these shares of the inits that arrive, if the kernel can do that."""

    def close(self) -> None:
        """Idempotent."""


class UdpSocket:
    """A non-blocking kernel socket, IPv4, IPv6 or both."""

    def __init__(
        self,
        sock: socket.socket,
        device: str | None = None,
        *,
        pinned: bool = False,
        hears: bool = False,
        kernel: Kernel = KERNEL,
    ) -> None:
        """`pinned`: answer from the address that was asked; `hears`: what ICMP says."""
        sock.setblocking(False)
        self._sock = sock
        self._device = device
        self._mapped = sock.family == socket.AF_INET6
        self._ends = 4 if self._mapped else 2  # fields of an address without an end of our own
        self._hears = hears
        kernel.prepare(sock, pinned=pinned, hears=hears)
        self._kernel = kernel
        self._read = kernel.read
        # What came with the last read, and what that says: nearly always the same again.
        self._ancillary: list[ControlMessage] = []
        self._said: tuple[int, End] = (0, ())
        self.drops: Counter[str] = Counter()
        self.refused: deque[Refusal] = deque(maxlen=_REFUSALS)
        self._view = memoryview(bytearray(_LAY_UP_TO + MAX_DATAGRAM + 1))
        self.drained = True
        self._sends_trains = kernel.sends_trains  # until the kernel refuses one

    @property
    def local_address(self) -> Address:
        return self._sock.getsockname()  # type: ignore[no-any-return]

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def receive_buffer(self) -> int:
        """Bytes that the kernel granted (it doubles what it is asked for)."""
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    async def wait_readable(self) -> None:
        number = self._sock.fileno()
        if number < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(number)

    def receive_nowait(self, limit: int) -> list[Train]:
        """Reads are laid end to end, so datagrams of one sender and size become a train whether
        the kernel has joined them (UDP_GRO) or not. HOT PATH.
        """
        trains: list[Train] = []
        receive, view = self._sock.recvmsg_into, self._view
        start = end = full = 0  # of the train that is being laid, and the size of its datagrams
        aligned = True  # it has ended with no shorter datagram
        sender: Address = ()
        peer: Address = ()  # the sender as the kernel gives it, and with what
        before, (joined, local) = self._ancillary, self._said
        self.drained = False
        try:
            for _ in range(limit):
                size, ancillary, _, address = receive((view[end:],), ANCILLARY_ROOM)
                if size == full and ancillary == before and address == peer and aligned:
                    end += size  # one more of the same: on a plain wire that is nearly all
                    if end > _LAY_UP_TO:
                        break
                    continue
                if not size:
                    self.drops["malformed"] += 1
                    continue
                if ancillary != before:
                    before = self._ancillary = ancillary
                    joined, local = self._said = self._read(ancillary)
                segment, peer = joined or size, address
                if local:
                    address = (*address, local)
                # A train goes on while its datagrams are of one size, and ends with a shorter one,
                # such as the last slice of a unit.
                goes_on = segment == full or (size == segment < full)
                if not goes_on or address != sender or not aligned:
                    if end > start:
                        trains.append((_laid(view[start:end]), sender, full))
                    start, sender, full = end, address, segment
                end += size
                aligned = not (end - start) % full
                if end > _LAY_UP_TO:
                    break
        except BlockingIOError:
            self.drained = True
            if not end:  # woken by what ICMP says, which a send has met before
                self._hear()
        except OSError as error:
            # An ICMP error that belongs to an earlier datagram; the next read is good again.
            if error.errno == errno.EBADF:
                raise trio.ClosedResourceError from None
            self.drops["unreachable"] += 1
            self._hear()
        if end > start:
            trains.append((_laid(view[start:end]), sender, full))
        return trains

    def _hear(self) -> bool:
        """Take what ICMP has said of datagrams that left; whether it has said anything."""
        heard = False
        for ancillary, address in self._kernel.notices(self._sock) if self._hears else ():
            said = obstacles.of_notice(ancillary, format_host(address))
            heard |= said is not None
            if said:
                self.refused.append((address, 0, 0, said))
        return heard

    def send_nowait(self, trains: Iterable[Train]) -> None:
        """A train leaves in one call (UDP_SEGMENT), or in several if it is long. HOT PATH."""
        for train in trains:
            data, address, size = train
            if len(data) <= size or not self._sends_trains:
                self._send_singly(train)
            elif len(data) <= _TRAIN_BYTES and len(data) <= _TRAIN_DATAGRAMS * size:
                self._send_train(train)
            else:
                step = max(1, min(_TRAIN_DATAGRAMS, _TRAIN_BYTES // size)) * size
                for at in range(0, len(data), step):
                    self._send_train((data[at : at + step], address, size))

    def _send_train(self, train: Train) -> None:
        data, address, size = train
        ancillary = self._kernel.cutting(size)
        if len(address) > self._ends:
            ancillary += address[-1]
            address = address[: self._ends]
        try:
            self._sock.sendmsg((data,), ancillary, 0, address)
        except BlockingIOError:
            self.drops["socket_full"] += -(-len(data) // size)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise trio.ClosedResourceError from None
            # A device without checksum offload (EIO): singly they may pass, and other paths may
            # still take trains. A kernel that knows no trains says so, but one of before 2025
            # says the same of datagrams that are too big for the interface.
            heard = self._hear()
            passed = self._send_singly(train)
            if (
                passed
                and not heard
                and error.errno in (errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
            ):
                self._sends_trains = False

    def _send_singly(self, train: Train) -> bool:
        """Whether the kernel takes what it has room for."""
        data, address, size = train
        ancillary: End = ()
        to = address
        if len(address) > self._ends:
            ancillary, to = address[-1], address[: self._ends]
        too_big = unreachable = 0
        why = ""
        datagrams: Iterable[Bytes] = (data,) if len(data) <= size else cut(train)
        sock = self._sock
        for datagram in datagrams:
            if too_big and len(datagram) == size:
                too_big += 1
                continue
            try:
                if ancillary:
                    sock.sendmsg((datagram,), ancillary, 0, to)
                else:
                    sock.sendto(datagram, to)
            except BlockingIOError:
                self.drops["socket_full"] += 1
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise trio.ClosedResourceError from None
                number = error.errno or 0
                if self._hear():
                    number = self._send_again(datagram, ancillary, to)
                if number == errno.EMSGSIZE:
                    too_big += 1
                elif number:
                    unreachable += 1
                    why = obstacles.of_send(number, format_host(to))
        if too_big:
            self.refused.append((address, size, too_big, ""))
        if unreachable:
            self.drops["unreachable"] += unreachable
        if why:
            self.refused.append((address, size, unreachable, why))
        return not (too_big or unreachable)

    def _send_again(self, datagram: Bytes, ancillary: End, to: Address) -> int:
        """Send what ICMP about an earlier one may have stopped; the error of this one, or 0."""
        try:
            self._sock.sendmsg((datagram,), ancillary, 0, to)
        except OSError as error:
            self._hear()
            return error.errno or 0
        return 0

    def limit_inits(self, shares: Shares) -> None:
        try:
            self._kernel.limit_inits(self._sock, shares)
        except OSError:  # no Linux, or a sandbox forbids it: then each is looked at, as ever
            self.drops["no_filter"] += 1

    def rebind(self) -> None:
        """A socket that is bound to an interface stays so when that is gone; one that came instead,
        under the same name, has another number.
        """
        if self._device is not None:
            with suppress(OSError):  # it is not there, or we have no privilege: as before
                self._kernel.bind_interface(self._sock, self._device)

    def can_reach(self, host: str) -> bool:
        """Whether `host`, a literal, is of a family that this socket can send to."""
        six = ":" in host
        if not self._mapped:
            return not six
        bound = self.local_address[0]
        return bound == "::" or six

    def to_native(self, host: str, port: int) -> Address:
        """An address as this socket's family writes it: IPv4 is mapped on a dual-stack one."""
        literal, _, scope = host.partition("%")
        if not self._mapped:
            return (host, port)
        if ipaddress.ip_address(literal).version == 4:
            return (f"::ffff:{literal}", port, 0, 0)
        if literal.startswith("fe80:"):  # by its interface, or by that to which we are bound
            scope = scope or self._device or ""
        return (literal, port, 0, socket.if_nametoindex(scope) if scope else 0)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


def _laid(train: memoryview) -> Bytes:
    """What was read: a large train stays where it is, a small one is handier as bytes."""
    return train if len(train) > _COPY_UP_TO else bytes(train)


def open_udp(
    host: str = "",
    port: int = 0,
    *,
    device: str | None = None,
    listens: bool = False,
    kernel: Kernel = KERNEL,
) -> UdpSocket:
    """A socket bound to `host` (a literal; empty for all of both families) and `port`.

    `device`: send and receive on this interface only. `listens`: peers come to it, so answers
    leave from the address that each has asked, where the host has several; a socket that goes to
    its peers hears ICMP instead. Raises OSError.
    """
    if host in ("", "::"):
        try:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        except OSError:  # a kernel without IPv6
            host, sock = "", socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    else:
        version = ipaddress.ip_address(host.partition("%")[0]).version
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host not in ("", "::"))
        kernel.before_bind(sock)
        if device is not None:
            kernel.bind_interface(sock, device)
        # As the kernel wants it: a link-local address has its interface in a field of its own.
        numeric = socket.AI_NUMERICHOST | socket.AI_PASSIVE
        found = socket.getaddrinfo(host or None, port, sock.family, sock.type, flags=numeric)
        sock.bind(found[0][4])
    except OSError:
        sock.close()
        raise
    every = host in ("", "::", "0.0.0.0")
    return UdpSocket(sock, device, pinned=listens and every, hears=not listens, kernel=kernel)


def format_address(address: Address) -> str:
    """For people: `203.0.113.9:41022`, `[2001:db8::1]:41022` or `[fe80::1%eth0]:41022`; of a pipe,
    what it is called.
    """
    if isinstance(address, PipeAddress):
        return address.description
    host, port = format_host(address), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def format_host(address: Address) -> str:
    """The same without the port."""
    host = str(address[0])
    if host.startswith("fe80:") and "%" not in host:
        try:
            host += f"%{socket.if_indextoname(address[3])}"
        except OSError:  # it is gone
            host += f"%{address[3]}"
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    return host
