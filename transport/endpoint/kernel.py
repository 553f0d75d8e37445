"""What kernels do for a UDP socket beyond sending and receiving: Linux, and a twin that needs less.

`Linux` joins and cuts datagrams, answers from the address that was asked, hears ICMP, never
fragments, binds to an interface and drops inits early. `Portable` does none of this: each datagram
is a call of its own, routes choose the source address, only errors of calls tell that a peer is out
of reach, and the kernel may fragment, so that the path's MTU may be found too large. `KERNEL` is
the one of this process.

Nothing of this is looked up per datagram: a socket binds what it needs when it is made.

Error contract: OSError as the kernel gave it; `Portable` raises it for what it cannot do.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct
from typing import Final, Protocol, TypeAlias

from transport.constants import SOCKET_BUFFER
from transport.endpoint import obstacles, socketfilter
from transport.handshake.floodgate import Shares
from transport.platform import LINUX
from transport.wire.trains import Address

ControlMessage: TypeAlias = tuple[int, int, bytes]
End: TypeAlias = tuple[ControlMessage, ...]  # of our own, behind a peer's address
Notice: TypeAlias = tuple[list[ControlMessage], Address]

ANCILLARY_ROOM: Final = 128  # bytes; a dual-stack socket may bring messages of both families
_NOTICES: Final = 64  # of ICMP, heard at once

# From linux/in.h and linux/in6.h; Python does not name them all.
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
# Never fragment, and ask nobody but the interface what is too big: path/mtu.py finds the path's
# size, and routers' messages about it can be forged.
_PMTUDISC_PROBE: Final = 3
_BUFFERS_FORCE: Final = ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF))  # SO_*BUFFORCE

# From linux/udp.h.
_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103  # control message, u16: cut what is sent to datagrams of this size
_UDP_GRO: Final = 104  # control message, int: what was received is datagrams of this size
_U16: Final = Struct("=H")

# Packet information, both ways: struct in_pktinfo of linux/in.h, in6_pktinfo of linux/ipv6.h.
_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_NO_INTERFACE: Final = bytes(4)  # the routes choose it
_LINK_LOCAL: Final = b"\xfe\x80"  # addresses that are good on one interface alone


class Kernel(Protocol):
    """What `UdpSocket` asks beyond plain sockets."""

    sends_trains: bool  # whether `cutting` may be asked for

    def before_bind(self, sock: socket.socket) -> None:
        """Never fragment, and large buffers, as far as the kernel allows."""

    def bind_interface(self, sock: socket.socket, device: str) -> None:
        """Send and receive there only."""

    def prepare(self, sock: socket.socket, *, pinned: bool, hears: bool) -> None:
        """`pinned`: tell which address was asked; `hears`: keep what ICMP says."""

    def read(self, ancillary: list[ControlMessage]) -> tuple[int, End]:
        """What is said of a read: bytes of each datagram that the kernel has joined, 0 if it has
        not; and what makes an answer leave from where this came to, or nothing.
        """

    def cutting(self, size: int) -> list[ControlMessage]:
        """What makes the kernel cut what is sent to datagrams of `size` bytes."""

    def notices(self, sock: socket.socket) -> Sequence[Notice]:
        """Take what ICMP has said, of datagrams to these addresses."""

    def limit_inits(self, sock: socket.socket, shares: Shares) -> None:
        """Let in these shares of the inits that arrive."""


class Linux:
    """Linux 4.18 and later; before 5.0 every datagram is a read of its own."""

    sends_trains = True

    def before_bind(self, sock: socket.socket) -> None:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        for force, plain in _BUFFERS_FORCE:
            try:
                sock.setsockopt(socket.SOL_SOCKET, force, SOCKET_BUFFER)
            except PermissionError:  # as much as the system allows
                sock.setsockopt(socket.SOL_SOCKET, plain, SOCKET_BUFFER)

    def bind_interface(self, sock: socket.socket, device: str) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())

    def prepare(self, sock: socket.socket, *, pinned: bool, hears: bool) -> None:
        six = sock.family == socket.AF_INET6
        if hears:
            sock.setsockopt(socket.IPPROTO_IP, obstacles.IP_RECVERR, 1)
            if six:
                sock.setsockopt(socket.IPPROTO_IPV6, obstacles.IPV6_RECVERR, 1)
        if pinned and six:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        elif pinned:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        with suppress(OSError):  # before Linux 5.0
            sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)

    def read(self, ancillary: list[ControlMessage]) -> tuple[int, End]:
        joined = 0
        local: End = ()
        for level, kind, data in ancillary:
            if level == _SOL_UDP and kind == _UDP_GRO:
                joined = int.from_bytes(data, sys.byteorder)
            elif level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
                # Only a link-local address needs its interface: answers to others go by the routes.
                interface = data[16:] if data.startswith(_LINK_LOCAL) else _NO_INTERFACE
                local = ((level, kind, data[:16] + interface),)
            elif level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                local = ((level, kind, _NO_INTERFACE + data[4:8] + bytes(4)),)
        return joined, local

    def cutting(self, size: int) -> list[ControlMessage]:
        return [(_SOL_UDP, _UDP_SEGMENT, _U16.pack(size))]

    def notices(self, sock: socket.socket) -> Sequence[Notice]:
        found: list[Notice] = []
        for _ in range(_NOTICES):
            try:
                _, ancillary, _, address = sock.recvmsg(0, ANCILLARY_ROOM, socket.MSG_ERRQUEUE)
            except OSError:  # that was all; of a closed socket whoever sends or receives hears
                break
            found.append((ancillary, address))
        return found

    def limit_inits(self, sock: socket.socket, shares: Shares) -> None:
        socketfilter.apply(sock, shares)


class Portable:
    """Sockets as POSIX has them, and nothing more."""

    sends_trains = False

    def before_bind(self, sock: socket.socket) -> None:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            size = SOCKET_BUFFER
            while size > sock.getsockopt(socket.SOL_SOCKET, option):
                try:
                    sock.setsockopt(socket.SOL_SOCKET, option, size)
                    break
                except OSError:  # BSD refuses what is beyond its limit, where Linux cuts
                    size //= 2

    def bind_interface(self, sock: socket.socket, device: str) -> None:
        raise OSError(errno.EOPNOTSUPP, f"binding to an interface ({device}) needs Linux")

    def prepare(self, sock: socket.socket, *, pinned: bool, hears: bool) -> None:
        pass

    def read(self, ancillary: list[ControlMessage]) -> tuple[int, End]:
        return 0, ()

    def cutting(self, size: int) -> list[ControlMessage]:
        raise OSError(errno.EOPNOTSUPP, "cutting to datagrams needs Linux")

    def notices(self, sock: socket.socket) -> Sequence[Notice]:
        return ()

    def limit_inits(self, sock: socket.socket, shares: Shares) -> None:
        if min(shares) < 1.0:
            raise OSError(errno.EOPNOTSUPP, "a filter in the kernel needs Linux")


KERNEL: Final[Kernel] = Linux() if LINUX else Portable()
