"""A TAP in a Linux bridge, for as long as it is wanted: a LAN behind this host joins the switch.

 given a bridge       the TAP is put in, and taken out at the end
 given an interface   that is in a bridge: the same with that one
                      else a bridge `vsb-NAME` is made with both in it; addresses and routes of the
                      interface move to the bridge, and back at the end, when the bridge goes

A bridge that we made and did not remove (kill -9) is known by its alias, used again, and removed at
the end of that. One that something else has been put into stays.

Error contract: `PrivilegeError` and `VswitchError`, with what to do; nothing is left half done.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio
from attrs import frozen

from vswitch.config.converters import INTERFACE_CHARS
from vswitch.devices import netlink
from vswitch.devices.dhcp_filter import DhcpGuard
from vswitch.devices.host_interface import HostInterface
from vswitch.devices.tap import TapConfig
from vswitch.errors import ConfigError, VswitchError
from vswitch.logs import event

log = logging.getLogger(__name__)

PREFIX = "vsb-"


@frozen
class Place:
    """Where a TAP was put."""

    tap: str
    bridge: str
    interface: str | None = None  # for which the bridge was made, by us


@asynccontextmanager
async def in_bridge(tap: str, target: str) -> AsyncIterator[Place]:
    """Have the TAP in the bridge that `target` is or is in, or in a new one with it."""
    place = await trio.to_thread.run_sync(enter_bridge, tap, target)
    try:
        yield place
    finally:
        # Also when cancelled: three quick questions to the kernel, and the host is as it was.
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(leave_bridge, place)
            except VswitchError as error:
                event(log, "bridge-left-behind", logging.ERROR, dev=place.bridge, reason=error)


def enter_bridge(tap: str, target: str) -> Place:
    """Put the TAP into a bridge. Blocking."""
    link = netlink.find_link(target)
    if link is None:
        raise VswitchError(
            f"there is no bridge or interface {target}: `ip link` lists them; see --bridge"
        )
    if target == tap:
        raise VswitchError(f"{target} is the TAP itself: --bridge names what it is bridged with")
    if link.kind == "bridge":
        place = Place(tap, target)
    elif link.master is not None:
        master = netlink.find_link(link.master)
        ours = master is not None and master.alias == _alias(target)
        place = Place(tap, link.master, target if ours else None)
        if ours:
            event(log, "bridge-adopted", dev=link.master, interface=target)
    else:
        place = _make(tap, target, link.mac)
    try:
        netlink.configure(tap, master=place.bridge, up=True)
        _set_ipv6(tap, on=False)
    except BaseException:
        leave_bridge(place)
        raise
    event(log, "bridged", dev=tap, bridge=place.bridge)
    return place


def leave_bridge(place: Place) -> None:
    """Take the TAP out, and away what was made for it. Blocking."""
    netlink.release(place.tap)
    _set_ipv6(place.tap, on=True)  # one that was there before stays, and is as it was
    if place.interface is None or netlink.find_link(place.bridge) is None:
        return
    others = set(netlink.bridge_ports(place.bridge)) - {place.tap, place.interface}
    if others:
        event(
            log,
            "bridge-left-behind",
            logging.WARNING,
            dev=place.bridge,
            reason=f"in use by {', '.join(sorted(others))}",
        )
        return
    netlink.release(place.interface)
    if netlink.find_link(place.interface) is not None:
        netlink.move_addresses(place.bridge, place.interface)
    netlink.delete(place.bridge)
    event(log, "bridge-removed", dev=place.bridge, interface=place.interface)


def _make(tap: str, interface: str, mac: str) -> Place:
    """A bridge with the interface in it."""
    name = (PREFIX + interface)[:INTERFACE_CHARS]
    place = Place(tap, name, interface)
    existing = netlink.find_link(name)
    if existing is not None and existing.alias != _alias(interface):
        raise VswitchError(
            f"{name} is there already: put {interface} into a bridge, and name that with --bridge"
        )
    if existing is None:
        netlink.create_bridge(name, mac=mac, alias=_alias(interface))
        event(log, "bridge-made", dev=name, interface=interface)
    try:
        netlink.configure(interface, up=True, master=name)
        netlink.move_addresses(interface, name)
    except BaseException:
        leave_bridge(place)
        raise
    return place


def _alias(interface: str) -> str:
    return f"vswitch bridge of {interface}"


def _set_ipv6(tap: str, *, on: bool) -> None:
    """No address of its own on a bridge port: the kernel gives IPv6 ones by itself."""
    try:
        Path(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6").write_text("0" if on else "1")
    except OSError:
        pass  # a kernel without IPv6, or settings that are read-only: an address that is unused


# -------------------------------------------------------------------------------------------------
# The host's end of a port: a TAP, in a bridge if that is wished for.
#
# Error contract: that of the interface and of `bridge.py`; `ConfigError` for wishes that exclude
# each other.

OpenInterface = Callable[[TapConfig], AbstractAsyncContextManager[HostInterface]]


class BridgeWishes(Protocol):
    """What the configuration says of it."""

    @property
    def bridge(self) -> str | None:
        """A bridge, or an interface to be bridged with."""

    @property
    def bridge_dhcp(self) -> bool:
        """Whether DHCP may pass."""


@asynccontextmanager
async def open_host_end(
    open_interface: OpenInterface, wanted: TapConfig, wishes: BridgeWishes
) -> AsyncIterator[HostInterface]:
    """The interface, and the bridge around it."""
    if wishes.bridge is not None and wanted.address is not None:
        raise ConfigError(
            "an address and --bridge: a bridge port has none; give it to the bridge instead"
        )
    async with open_interface(wanted) as interface:
        if wishes.bridge is None:
            yield interface
            return
        async with in_bridge(interface.name, wishes.bridge):
            yield interface if wishes.bridge_dhcp else DhcpGuard(interface)
