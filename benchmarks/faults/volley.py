"""Many datagrams in one call into the kernel (sendmmsg), which Python does not offer.

A call of Python's for each costs more than the kernel's whole way to the receiver, and a source
that shares the machine with what it tests must cost little. UDP_SEGMENT would be cheaper still, but
gives all datagrams of a call one sender.

Sources: sendmmsg(2), struct msghdr in recvmsg(2). Errors: OSError where the kernel takes no
datagram at all for another reason than being full.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Sequence

__all__ = ["Volley"]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct msghdr; without a name the datagram goes where the socket is connected to."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = (("message", _Message), ("sent", ctypes.c_uint))


_PASSING = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.EHOSTUNREACH))


class Volley:
    """Datagrams that were made beforehand, for a connected socket."""

    def __init__(self, sock: socket.socket, datagrams: Sequence[bytes]) -> None:
        self._fd = sock.fileno()
        self._count = len(datagrams)
        self._bytes = ctypes.create_string_buffer(b"".join(datagrams))
        self._iovecs = (_Iovec * self._count)()
        self._headers = (_Header * self._count)()
        base, iovec = ctypes.addressof(self._bytes), ctypes.addressof(self._iovecs)
        for number, datagram in enumerate(datagrams):
            self._iovecs[number].base, self._iovecs[number].length = base, len(datagram)
            message = self._headers[number].message
            message.iov, message.iov_length = iovec, 1
            base += len(datagram)
            iovec += ctypes.sizeof(_Iovec)
        self._call = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

    def send(self, first: int, count: int) -> None:
        """Send `count` of them from number `first` on, after the last the first again. What the
        kernel does not take is lost, as on a wire.
        """
        while count:
            at = first % self._count
            step = min(count, self._count - at)
            where = ctypes.addressof(self._headers) + at * ctypes.sizeof(_Header)
            taken = self._call(self._fd, where, step, 0)
            if taken <= 0:
                number = ctypes.get_errno()
                if number not in _PASSING:
                    raise OSError(number, os.strerror(number))
                taken = 1  # this one is lost; the next may not be
            first += taken
            count -= taken
