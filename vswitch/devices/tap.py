"""A TAP interface: made, attached to and configured, and as a device that hands over plain frames.

The interface is made through netlink, attached, and its persistence cleared at once: it lives as
long as the file descriptor and is gone after any end of the process, kill -9 included. One that is
there already was made persistent by an administrator for an unprivileged user: it is attached to,
configured as far as privileges allow, and stays when the process ends. `attach` blocks: a Trio
program runs it in a thread.

Invariants: a closed device has the descriptor -1 and wakes whoever waits on it; records go in
and come out in the kernel's order; a frame that the kernel refuses is counted in `dropped` under
its reason and is no failure. The drain is one system call and one join per frame: a read into a
prepared buffer behind a header costs 25 % more than joining header and frame, and a packet
information header in the record header's place saves less on writes than it costs on reads.

Errors: `PrivilegeError` and `VswitchError` when attaching or configuring, with what to do; else
`trio.ClosedResourceError`, `trio.BrokenResourceError` and `trio.BusyResourceError` as the device
protocol says.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from transport.platform import LINUX
from vswitch.config.quantities import to_mtu
from vswitch.config.words import to_interface
from vswitch.devices import netlink
from vswitch.devices.host_interface import HostFacts
from vswitch.devices.routing import NOTHING, Routing, apply
from vswitch.devices.upkeep import ADDRESS, LINK_LOCAL, MTU, UP, Condition, lacking
from vswitch.errors import PrivilegeError, VswitchError
from vswitch.frames.records import FRAME, HEADER_SIZE, VIRTIO_HEADER_SIZE
from vswitch.frames.virtio import MAX_SEGMENTS
from vswitch.switch.device import Description

log = logging.getLogger(__name__)

TUN_PATH = "/dev/net/tun"
# linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
IFF_TAP = 0x0002
IFF_MULTI_QUEUE = 0x0100
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
TUNSETOFFLOAD = 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
TUNSETVNETLE = 0x400454DC
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 1, 2, 4, 8, 32, 64
Ask = Callable[..., Awaitable[Any]]  # of a function that blocks, and its arguments
IFREQ = struct.Struct("16sH22x")  # struct ifreq: name, flags, rest of the union

# What the host may leave undone, best first. A kernel refuses a set of which it does not know a
# member: USO came with Linux 6.2, and only as a pair. TSO_ECN is no promise to negotiate ECN.
_TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
OFFLOADS = (_TSO | TUN_F_USO4 | TUN_F_USO6, _TSO, TUN_F_CSUM, 0)

# Bytes of the longest frame that the kernel may leave uncut: with its headers it fits one sealed
# unit of the transport (62,288 bytes), so that a superframe is one message, one seal, one call.
# A record could hold 65,535.
GSO_MAX_SIZE = 62_000

MAX_TXQUEUELEN = 100_000  # frames: beyond any use, and far below the kernel's 2^32

# Of the route to the LAN: behind all that a host gives its own by itself (NetworkManager has 50 to
# 1,000, and 20,000 more for an interface that leads nowhere), so that none of them loses to it.
LAN_METRIC = 32_000

# What of router advertisements an interface takes, as settings of the kernel: nothing; addresses,
# and no way out of the LAN; all, on a host that forwards, too.
ACCEPT_RA = {
    "off": {"accept_ra": "0"},
    "addresses": {"accept_ra_defrtr": "0", "accept_ra_rt_info_max_plen": "0"},
    "on": {"accept_ra": "2", "accept_ra_defrtr": "1"},
}
IPV6_SETTINGS = Path("/proc/sys/net/ipv6/conf")

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


def _check(read: Callable[[Any], object], what: str, value: object) -> None:
    try:
        read(value)
    except ValueError as error:
        raise VswitchError(f"{what} {value!r}: {error}") from None


def _check_queue(_: object, __: object, frames: int | None) -> None:
    if frames is not None and not 1 <= frames <= MAX_TXQUEUELEN:
        raise VswitchError(f"txqueuelen {frames} is out of range: 1 to {MAX_TXQUEUELEN} frames")


@attrs.frozen
class TapConfig:
    """What the interface shall be.

    With `offload`, the kernel hands over superframes and leaves checksums to whoever needs them. It
    is a wish: a kernel without the virtio-net header gets an interface without, and the log a line.
    How an interface that was there before was attached to the last time does not matter.
    `txqueuelen` bounds what waits to be read, a superframe being one frame; None leaves the
    kernel's 1,000. One TCP stream fills whatever there is, and every other frame waits behind it.
    """

    name: str = attrs.field(validator=lambda _, __, name: _check(to_interface, "name", name))
    mac: str | None = None  # as aa:bb:cc:dd:ee:ff; None leaves the kernel's choice
    new_mac: str | None = None  # the same, for an interface alone that is made here
    mtu: int = attrs.field(default=1500, validator=lambda _, __, mtu: _check(to_mtu, "MTU", mtu))
    address: str | None = None  # CIDR form; IPv6 link-local comes by itself
    offload: bool = False
    txqueuelen: int | None = attrs.field(default=None, validator=_check_queue)  # frames
    accept_ra: str | None = None  # see ACCEPT_RA; None leaves the kernel's choice


@attrs.frozen
class Attached:
    """An open, non-blocking descriptor of a TAP interface; the holder closes it."""

    fd: int
    link: netlink.Link  # as the kernel shows it after configuration
    persistent: bool  # was there before us and stays when we go
    offload: bool  # with the virtio-net header


class _NoOffloadsError(VswitchError):
    """This kernel does not know the virtio-net header."""


def attach(config: TapConfig) -> Attached:
    """Make the interface that `config` names, or take the one that is there, and attach to it."""
    if not LINUX:
        raise VswitchError(
            "a TAP interface needs Linux: here only `serve` without one, and members in a "
            "program of your own (the library), run"
        )
    name = config.name
    existing = netlink.find_link(name)
    if existing is not None and not existing.tap:
        raise VswitchError(
            f"{name} is there already and is no TAP interface; choose another name with --dev"
        )
    fd = _open_tun()
    try:
        if existing is None:
            _create(name)
            config = attrs.evolve(config, mac=config.mac or config.new_mac)
        try:
            _claim(fd, existing, name, offload=config.offload)
        except _NoOffloadsError as error:
            log.warning("tap-without-offload dev=%s reason=%s", name, error)
            config = attrs.evolve(config, offload=False)
            # A descriptor can be attached once only.
            os.close(fd)
            fd = -1
            fd = _open_tun()
            _claim(fd, existing, name, offload=False)
        if existing is None:
            fcntl.ioctl(fd, TUNSETPERSIST, 0)
        _configure(config, forgive=existing is not None)
        link = netlink.find_link(name)
        if link is None:
            raise VswitchError(f"{name} was deleted while it was being set up")
        return Attached(fd=fd, link=link, persistent=existing is not None, offload=config.offload)
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise


def _open_tun() -> int:
    try:
        return os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            advice = "load it with `modprobe tun`; a container needs `--device /dev/net/tun`"
        else:
            advice = (
                "run as root, or let this user open it (`chmod 666 /dev/net/tun`, which is usual); "
                "a container needs `--device /dev/net/tun`"
            )
        raise PrivilegeError(f"cannot open {TUN_PATH}: {error.strerror}; {advice}") from error


def _create(name: str) -> None:
    try:
        netlink.create_tap(name)
    except PrivilegeError as error:
        raise _with_advice(error, name) from error
    except VswitchError as error:
        cause = error.__cause__
        # pyroute2 knows the numbers of the calls for some architectures only: attaching makes
        # the interface as well. If another process was quicker, attaching says so.
        forgiven = (errno.EOPNOTSUPP, errno.EBUSY)
        if not (isinstance(cause, OSError) and cause.errno in forgiven):
            raise


def _claim(fd: int, existing: netlink.Link | None, name: str, *, offload: bool) -> None:
    flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if offload else 0)
    try:
        try:
            fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(os.fsencode(name), flags))
        except OSError as error:
            # One that was made for several queues is for who says so; we take one of them. Others
            # could have theirs, and the frames with it.
            if error.errno != errno.EINVAL or existing is None or existing.carrier:
                raise
            fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(os.fsencode(name), flags | IFF_MULTI_QUEUE))
    except OSError as error:
        if error.errno == errno.EINVAL and existing is not None and existing.carrier:
            error.errno = errno.EBUSY
        if error.errno == errno.EINVAL and offload:
            raise _NoOffloadsError(f"the kernel refuses a virtio-net header on {name}") from error
        if error.errno == errno.EBUSY:
            raise VswitchError(
                f"{name} is in use by another process; choose another name with --dev"
            ) from error
        if error.errno in (errno.EPERM, errno.EACCES):
            if existing is not None:
                raise PrivilegeError(
                    f"cannot attach to {name}: it is there already, for another user: run as root "
                    f"or as that user (`ip -d link show {name}`), or choose another name with --dev"
                ) from error
            refused = PrivilegeError(f"cannot attach to {name}: {error.strerror}")
            raise _with_advice(refused, name) from error
        raise VswitchError(f"cannot attach to {name}: {error.strerror}") from error
    if offload:
        _offer_offloads(fd, name)


def _offer_offloads(fd: int, name: str) -> None:
    """Settle the virtio-net header, and offer the most that this kernel knows."""
    try:
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VIRTIO_HEADER_SIZE))
        if sys.byteorder == "big":
            fcntl.ioctl(fd, TUNSETVNETLE, struct.pack("i", 1))
        for offloads in OFFLOADS:
            try:
                fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                log.debug("tap-offload dev=%s offloads=%#x", name, offloads)
                return
        log.warning("tap-offload dev=%s reason=the kernel takes no offloads", name)
    except OSError as error:
        raise _NoOffloadsError(f"cannot set up offloads of {name}: {error.strerror}") from error


def _with_advice(error: PrivilegeError, name: str) -> PrivilegeError:
    return PrivilegeError(
        f"{error}; or, as root, once: `ip tuntap add dev {name} mode tap user $USER &&"
        f" ip link set {name} up`"
    )


def _configure(config: TapConfig, *, forgive: bool) -> None:
    """MAC before up: the kernel makes the IPv6 link-local address from it when the link rises."""
    try:
        if config.accept_ra is not None:
            _accept_ra(config.name, config.accept_ra)
        netlink.configure(
            config.name,
            mac=config.mac,
            mtu=config.mtu,
            txqueuelen=config.txqueuelen,
            gso_max_size=GSO_MAX_SIZE if config.offload else None,
            gso_max_segs=MAX_SEGMENTS if config.offload else None,
            up=True,
        )
        if config.address is not None:
            netlink.add_address(config.name, config.address, metric=LAN_METRIC)
    except PrivilegeError as error:
        if not forgive:
            raise
        log.warning("tap-unconfigured dev=%s reason=%s", config.name, error)


def _accept_ra(name: str, wish: str) -> None:
    """Before the link is up: the kernel asks for routers at once."""
    settings = IPV6_SETTINGS / name
    for key, value in ACCEPT_RA[wish].items():
        try:
            (settings / key).write_text(value)
        except FileNotFoundError:
            continue  # a kernel without IPv6, or without that
        except OSError as error:
            reason = f"cannot set {key}: {error.strerror}"
            log.warning("tap-unconfigured dev=%s reason=%s", name, reason)


@attrs.define(eq=False)
class TapDevice:
    """An attached TAP interface; made by `open_tap`. Implements `vswitch.switch.device.Device`."""

    name: str
    mac: str
    mtu: int  # bytes of Ethernet payload
    persistent: bool  # was there before us and stays when we go
    _fd: int
    address: str | None = None  # the one that we set, in CIDR form
    superframes: bool = False
    dropped: Counter[str] = attrs.field(factory=Counter)  # frames, by reason
    # Calls what asks the kernel, where the interface is: here, or in another network namespace.
    _ask: Ask = attrs.field(default=trio.to_thread.run_sync, repr=False)
    private: bool = False  # in a network that nobody else sets up: what is done there is meant
    routing: Routing = NOTHING  # that we set
    _gone: str | None = attrs.field(init=False, default=None)  # why, once the kernel said so
    _setting: trio.Lock = attrs.field(init=False, factory=trio.Lock)  # while anything is set
    _had_link_local: bool = attrs.field(init=False, default=False)
    _headers: list[bytes] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._set_lengths(self.mtu)

    def _set_lengths(self, mtu: int) -> None:
        self.mtu = mtu
        self._headers = record_headers(FRAME, mtu + ETHERNET_OVERHEAD)

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        return Description(f"local:{self.name}", self.dropped)

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
                self._count_refused(error)
            done += 1
        return done

    async def facts(self) -> HostFacts:
        """Implements `vswitch.devices.host_interface.HostInterface`."""
        facts: HostFacts = await self._ask(netlink.host_facts, self.name)
        return attrs.evolve(facts, apart=self.private)

    async def set_address(self, address: str | None) -> None:
        """Replace the address that we set by another, in CIDR form, or by none."""
        self._open_fd()
        async with self._setting:
            if address == self.address:
                return
            try:
                await self._ask(_replace_address, self.name, self.address, address)
            except PrivilegeError as error:
                if not self.persistent:
                    raise
                log.warning("tap-unconfigured dev=%s reason=%s", self.name, error)
            self.address = address

    async def set_routing(self, wanted: Routing) -> None:
        """Implements `vswitch.devices.routing.Routed`."""
        async with self._setting:
            before, self.routing = self.routing, wanted  # it may be done in part
            await self._ask(apply, self.name, wanted, before)

    async def set_mtu(self, mtu: int) -> None:
        """Change the MTU of the live interface, in bytes; longer frames are dropped from now on."""
        self._open_fd()
        _check(to_mtu, "MTU", mtu)
        async with self._setting:
            await self._ask(partial(netlink.configure, self.name, mtu=mtu))
            self._set_lengths(mtu)

    async def lacking(self) -> dict[str, str]:
        """Implements `vswitch.devices.upkeep.Kept`."""
        self._open_fd()
        async with self._setting:
            return await self._look()

    async def mend(self) -> dict[str, str]:
        """Implements `vswitch.devices.upkeep.Kept`."""
        self._open_fd()
        async with self._setting:
            lacks = await self._look()
            if lacks:
                await self._ask(_mend, self.name, self.mtu, self.address, lacks)
            return lacks

    async def _look(self) -> dict[str, str]:
        found = await self._ask(netlink.condition, self.name)
        self._had_link_local |= found.link_local
        addresses = () if self.address is None else (self.address,)
        return lacking(Condition(True, self.mtu, addresses, self._had_link_local), found)

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

    def _count_refused(self, error: OSError) -> None:
        """The kernel has refused a frame; `trio.BrokenResourceError` if it is the device's end."""
        if error.errno in DEVICE_GONE:
            raise self._broken(error) from error
        self.dropped[DROP_REASON.get(error.errno or 0, "refused")] += 1

    def _broken(self, error: OSError) -> trio.BrokenResourceError:
        self._gone = f"{self.name} is gone: {os.strerror(error.errno or 0)}"
        return trio.BrokenResourceError(self._gone)


def _replace_address(name: str, old: str | None, new: str | None) -> None:
    # The old one first: the kernel takes all others of a subnet away with its first one.
    if old is not None:
        netlink.remove_address(name, old)
    if new is not None:
        try:
            netlink.add_address(name, new, metric=LAN_METRIC)
        except VswitchError:
            if old is not None:
                netlink.add_address(name, old, metric=LAN_METRIC)
            raise


def _mend(name: str, mtu: int, address: str | None, lacks: Collection[str]) -> None:
    if MTU in lacks or UP in lacks:
        netlink.configure(name, mtu=mtu, up=True)
    if ADDRESS in lacks and address is not None:
        netlink.add_address(name, address, metric=LAN_METRIC)
    if LINK_LOCAL in lacks:
        netlink.renew_link_local(name)


def record_headers(flag: int, longest: int) -> list[bytes]:
    """The header of a record for each length that its body can have."""
    return [struct.pack(">HH", flag, length) for length in range(longest + 1)]
