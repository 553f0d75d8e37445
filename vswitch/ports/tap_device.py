"""A TAP interface that hands over plain frames, and what every TAP device does.

Invariants: a closed device has the descriptor -1 and wakes whoever waits on it; records go in
and come out in the kernel's order; a frame that the kernel refuses is counted in `dropped` under
its reason and is no failure. The drain is one system call and one join per frame: a read into a
prepared buffer behind a header costs 25 % more than joining header and frame, and a packet
information header in the record header's place saves less on writes than it costs on reads.

Errors: `PrivilegeError` and `VswitchError` when configuring, with what to do; else
`trio.ClosedResourceError`, `trio.BrokenResourceError` and `trio.BusyResourceError` as the device
protocol says.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections import Counter

import attrs
import trio

from vswitch.core.records import FRAME, HEADER_SIZE
from vswitch.errors import PrivilegeError
from vswitch.ports import netlink
from vswitch.ports.tap_setup import check_mtu

__all__ = [
    "DEVICE_GONE",
    "DROP_REASON",
    "ETHERNET_OVERHEAD",
    "READ_SIZE",
    "TapDevice",
    "record_headers",
]

log = logging.getLogger(__name__)

# The kernel cuts a frame to the buffer without a word, and the MTU may be raised behind our back:
# nothing is longer than this, a superframe with its virtio-net header included.
READ_SIZE = 65_600  # bytes
ETHERNET_OVERHEAD = 14 + 4 + 4  # bytes: header and two VLAN tags

DROP_REASON = {
    errno.EIO: "link_down",
    errno.EINVAL: "malformed",
    errno.ENOBUFS: "no_memory",
    errno.ENOMEM: "no_memory",
}
DEVICE_GONE = (errno.EBADFD, errno.ENODEV, errno.ENXIO, errno.EFAULT)


@attrs.define(eq=False)
class TapDevice:
    """An attached TAP interface; made by `open_tap`. Implements `vswitch.ports.device.Device`."""

    name: str
    mac: str
    mtu: int  # bytes of Ethernet payload
    persistent: bool  # was there before us and stays when we go
    _fd: int
    address: str | None = None  # the one that we set, in CIDR form
    superframes: bool = False
    dropped: Counter[str] = attrs.field(factory=Counter)  # frames, by reason
    _gone: str | None = attrs.field(init=False, default=None)  # why, once the kernel said so
    _headers: list[bytes] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._set_lengths(self.mtu)

    def _set_lengths(self, mtu: int) -> None:
        self.mtu = mtu
        self._headers = record_headers(FRAME, mtu + ETHERNET_OVERHEAD)

    async def wait_readable(self) -> None:
        await trio.lowlevel.wait_readable(self._open_fd())

    async def wait_writable(self) -> None:
        await trio.lowlevel.wait_writable(self._open_fd())

    def read_nowait(self, limit: int) -> list[bytes]:
        """1 to `limit` records; `trio.WouldBlock` when the kernel has none. HOT PATH."""
        fd = self._open_fd()
        read = os.read
        headers = self._headers
        records: list[bytes] = []
        append = records.append
        try:
            for _ in range(limit):
                frame = read(fd, READ_SIZE)
                try:
                    append(headers[len(frame)] + frame)
                except IndexError:
                    self.dropped["oversize"] += 1
        except BlockingIOError:
            pass
        except OSError as error:
            if not records:
                raise self._broken(error) from error
        if not records:
            raise trio.WouldBlock
        return records

    def write_nowait(self, records: list[bytes]) -> int:
        """Give frames to the kernel: how many it took or refused from the front. HOT PATH."""
        fd = self._open_fd()
        write = os.write
        done = 0
        for record in records:
            try:
                write(fd, record[HEADER_SIZE:])
            except BlockingIOError:
                return done
            except OSError as error:
                if error.errno in DEVICE_GONE:
                    raise self._broken(error) from error
                self.dropped[DROP_REASON.get(error.errno or 0, "refused")] += 1
            done += 1
        return done

    async def set_address(self, address: str | None) -> None:
        """Replace the address that we set by another, in CIDR form, or by none."""
        self._open_fd()
        if address == self.address:
            return
        try:
            await trio.to_thread.run_sync(_replace_address, self.name, self.address, address)
        except PrivilegeError as error:
            if not self.persistent:
                raise
            log.warning("tap-unconfigured dev=%s reason=%s", self.name, error)
        self.address = address

    async def set_mtu(self, mtu: int) -> None:
        """Change the MTU of the live interface, in bytes; longer frames are dropped from now on."""
        self._open_fd()
        check_mtu(mtu)
        await trio.to_thread.run_sync(lambda: netlink.configure(self.name, mtu=mtu))
        self._set_lengths(mtu)

    def close(self) -> None:
        """Let go of the interface, which goes with it unless it was there before."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            trio.lowlevel.notify_closing(fd)
            os.close(fd)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise trio.ClosedResourceError(f"{self.name} is closed")
        if self._gone is not None:
            raise trio.BrokenResourceError(self._gone)
        return self._fd

    def _broken(self, error: OSError) -> trio.BrokenResourceError:
        self._gone = f"{self.name} is gone: {os.strerror(error.errno or 0)}"
        return trio.BrokenResourceError(self._gone)


def _replace_address(name: str, old: str | None, new: str | None) -> None:
    # The old one first: the kernel takes all others of a subnet away with its first one.
    if old is not None:
        netlink.remove_address(name, old)
    if new is not None:
        netlink.add_address(name, new)


def record_headers(flag: int, longest: int) -> list[bytes]:
    """The header of a record for each length that its body can have."""
    return [struct.pack(">HH", flag, length) for length in range(longest + 1)]
