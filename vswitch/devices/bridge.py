"""A TAP in a Linux bridge, for as long as it is wanted: a LAN behind this host joins the switch.

 given a bridge       the TAP is put in, and taken out at the end
 given an interface   that is in a bridge: the same with that one
                      else a bridge `vsb-NAME` is made with both in it; addresses and routes of the
                      interface move to the bridge, and back at the end, when the bridge goes

A bridge that we made and did not remove (kill -9) is known by its alias, used again, and removed at
the end of that. One that something else has been put into stays.

`open_host_end` is the host's end of a port as a whole: a TAP, in a bridge if that is wished for.

Error contract: `PrivilegeError` and `VswitchError`, with what to do; nothing is left half done.
`ConfigError` for wishes that exclude each other.
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
from vswitch.devices.dhcp_filter import DhcpFilter
from vswitch.devices.host_interface import HostInterface
from vswitch.devices.tap import TapConfig
from vswitch.errors import ConfigError, VswitchError
from vswitch.logs import event

log = logging.getLogger(__name__)

PREFIX = "vsb-"

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
            yield interface if wishes.bridge_dhcp else DhcpFilter(interface)


@frozen
class Attachment:
    """Where a TAP was put."""

    tap: str
    bridge: str
    interface: str | None = None  # for which the bridge was made, by us


@asynccontextmanager
async def in_bridge(tap: str, target: str) -> AsyncIterator[Attachment]:
    """Have the TAP in the bridge that `target` is or is in, or in a new one with it."""
    attachment = await trio.to_thread.run_sync(enter_bridge, tap, target)
    try:
        yield attachment
    finally:
        # Also when cancelled: three quick questions to the kernel, and the host is as it was.
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(leave_bridge, attachment)
            except VswitchError as error:
                event(log, "bridge-left-behind", logging.ERROR, dev=attachment.bridge, reason=error)


def enter_bridge(tap: str, target: str) -> Attachment:
    """Put the TAP into a bridge. Blocking."""
    link = netlink.find_link(target)
    if link is None:
        raise VswitchError(
            f"there is no bridge or interface {target}: `ip link` lists them; see --bridge"
        )
    if target == tap:
        raise VswitchError(f"{target} is the TAP itself: --bridge names what it is bridged with")
    if link.kind == "bridge":
        attachment = Attachment(tap, target)
    elif link.master is not None:
        master = netlink.find_link(link.master)
        ours = master is not None and master.alias == _alias(target)
        attachment = Attachment(tap, link.master, target if ours else None)
        if ours:
            event(log, "bridge-adopted", dev=link.master, interface=target)
    else:
        attachment = _make(tap, target, link.mac)
    try:
        netlink.configure(tap, master=attachment.bridge, up=True)
        _set_ipv6(tap, on=False)
    except BaseException:
        leave_bridge(attachment)
        raise
    event(log, "bridged", dev=tap, bridge=attachment.bridge)
    return attachment


def leave_bridge(attachment: Attachment) -> None:
    """Take the TAP out, and away what was made for it. Blocking."""
    netlink.release(attachment.tap)
    _set_ipv6(attachment.tap, on=True)  # one that was there before stays, and is as it was
    if attachment.interface is None or netlink.find_link(attachment.bridge) is None:
        return
    others = set(netlink.bridge_ports(attachment.bridge)) - {attachment.tap, attachment.interface}
    if others:
        event(
            log,
            "bridge-left-behind",
            logging.WARNING,
            dev=attachment.bridge,
            reason=f"in use by {', '.join(sorted(others))}",
        )
        return
    netlink.release(attachment.interface)
    if netlink.find_link(attachment.interface) is not None:
        netlink.move_addresses(attachment.bridge, attachment.interface)
    netlink.delete(attachment.bridge)
    event(log, "bridge-removed", dev=attachment.bridge, interface=attachment.interface)


def _make(tap: str, interface: str, mac: str) -> Attachment:
    """A bridge with the interface in it."""
    name = (PREFIX + interface)[:INTERFACE_CHARS]
    attachment = Attachment(tap, name, interface)
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
        leave_bridge(attachment)
        raise
    return attachment


def _alias(interface: str) -> str:
    return f"vswitch bridge of {interface}"


def _set_ipv6(tap: str, *, on: bool) -> None:
    """No address of its own on a bridge port: the kernel gives IPv6 ones by itself."""
    try:
        Path(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6").write_text("0" if on else "1")
    except OSError:
        pass  # a kernel without IPv6, or settings that are read-only: an address that is unused
