"""A TAP in a Linux bridge, for as long as it is wanted: a LAN behind this host joins the switch.

 given a bridge       the TAP is put in, and taken out at the end
 given an interface   that is in a bridge: the same with that one
                      else a bridge `vsb-NAME` is made with both in it; what the interface carries,
                      addresses and routes, moves to the bridge, and back at the end, when the
                      bridge goes

The move is a transaction (`relocation.py`): it is whole, and proven, or nothing has changed. A
bridge that we made and did not remove (kill -9) is known by its alias. The next start that wants it
uses it again, does what is left of the move, and removes it at the end of that; the next start that
does not want it puts its interface back. One that something else has been put into stays. A bridge
keeps its MTU: the kernel would give it the smallest of its ports.

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

from vswitch.config.words import INTERFACE_CHARS
from vswitch.devices import netlink
from vswitch.devices.carried import apply, carried
from vswitch.devices.home_filter import HomeFilter
from vswitch.devices.host_interface import HostInterface
from vswitch.devices.relocation import Step, describe, missing, plan
from vswitch.devices.tap import TapConfig, TapDevice
from vswitch.devices.upkeep import Kept, keep
from vswitch.errors import ConfigError, PrivilegeError, VswitchError
from vswitch.logs import event
from vswitch.runtime import single_error

log = logging.getLogger(__name__)

PREFIX = "vsb-"
_DOWN = ", which was down"  # of the interface, in the alias of its bridge
_SETTINGS = Path("/proc/sys/net")
# Of an interface's settings: what the bridge has of its own.
_OWN = frozenset(("disable_ipv6", "mtu", "stable_secret"))

OpenInterface = Callable[[TapConfig], AbstractAsyncContextManager[HostInterface]]


class BridgeWishes(Protocol):
    """What the configuration says of it."""

    @property
    def bridge(self) -> str | None:
        """A bridge, or an interface to be bridged with."""

    @property
    def bridge_dhcp(self) -> bool:
        """Whether DHCP may pass."""

    @property
    def bridge_ra(self) -> bool:
        """Whether router advertisements of IPv6 may pass."""


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
        if (
            isinstance(interface, TapDevice) and not interface.private
        ):  # what else there is has no part in the host
            await trio.to_thread.run_sync(put_back_left_behind, wishes.bridge)
        if wishes.bridge is None:
            async with _kept(interface):
                yield interface
            return
        passes = {"dhcp": wishes.bridge_dhcp, "ra": wishes.bridge_ra}
        stays = frozenset(kind for kind, wished in passes.items() if not wished)
        async with in_bridge(interface.name, wishes.bridge), _kept(interface):
            yield HomeFilter(interface, stays) if stays else interface


@asynccontextmanager
async def _kept(interface: HostInterface) -> AsyncIterator[None]:
    """Look after the interface meanwhile, if others can change it."""
    with single_error():
        async with trio.open_nursery() as nursery:
            if isinstance(interface, Kept) and not interface.private:
                nursery.start_soon(keep, interface)
            yield
            nursery.cancel_scope.cancel()


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
            await trio.to_thread.run_sync(leave_bridge, attachment)


def enter_bridge(tap: str, target: str) -> Attachment:
    """Put the TAP into a bridge. Blocking."""
    link = netlink.find_link(target)
    if link is None:
        raise VswitchError(
            f"there is no bridge or interface {target}: `ip link` lists them; see --bridge"
        )
    if link.name == tap:
        raise VswitchError(f"{target} is the TAP itself: --bridge names what it is bridged with")
    attachment = _place(tap, link)
    try:
        bridge = netlink.find_link(attachment.bridge)
        if bridge is None:  # not yet
            _make(attachment, link)
        else:
            _enter(tap, bridge)
        if attachment.interface is not None:
            netlink.configure(attachment.interface, up=True, master=attachment.bridge)
            move(attachment.interface, attachment.bridge)
    except BaseException:
        leave_bridge(attachment)
        raise
    event(log, "bridged", dev=tap, bridge=attachment.bridge)
    if (reason := _filtered(attachment.bridge)) is not None:
        event(log, "bridge-filtered", logging.WARNING, dev=attachment.bridge, reason=reason)
    return attachment


def leave_bridge(attachment: Attachment) -> None:
    """Take the TAP out, and away what was made for it. Blocking; what cannot be is logged."""
    tap, bridge, interface = attachment.tap, attachment.bridge, attachment.interface
    try:
        if interface is not None and (link := netlink.find_link(bridge)) is not None:
            others = set(netlink.bridge_ports(bridge)) - {tap, interface}
            if others:
                reason = f"in use by {', '.join(sorted(others))}"
                event(log, "bridge-left-behind", logging.WARNING, dev=bridge, reason=reason)
            else:
                _dissolve(link, interface)
        netlink.release(tap)
    except VswitchError as error:
        event(log, "bridge-left-behind", logging.ERROR, dev=bridge, reason=error)
    _set_ipv6(tap, on=True)  # one that was there before stays, and is as it was


def put_back_left_behind(wanted: str | None) -> None:
    """Dissolve the bridges of processes that were killed, but for that of `wanted`. Blocking.

    While such a bridge is made or in use there is a TAP in it before and as long as its interface
    is, so that one with its interface alone has nobody left.
    """
    target = None if wanted is None else netlink.find_link(wanted)
    for link in netlink.bridges():
        interface = link.alias.removeprefix(_alias("")).removesuffix(_DOWN)
        if not _is_of(link, interface) or netlink.bridge_ports(link.name) != [interface]:
            continue
        if target is not None and target.name in (interface, link.name):
            continue
        try:
            _dissolve(link, interface)
        except PrivilegeError:  # a member without any, whose TAP root has made
            return
        except VswitchError as error:
            event(log, "bridge-left-behind", logging.ERROR, dev=link.name, reason=error)


def move(source: str, target: str) -> None:
    """Move what an interface carries to another: all of it, or nothing. Blocking."""
    moving = plan(source, target, carried(source), carried(target))
    done: list[Step] = []
    try:
        for steps in (moving.gives, moving.takes):
            apply(steps, done)
            for entry in missing(moving.wanted, carried(target)):
                raise VswitchError(f"{target} has not kept {describe(entry)}")
    except BaseException:
        for step in reversed(done):
            try:
                apply([step.inverse], [])
            except VswitchError as error:
                event(log, "move-not-undone", logging.ERROR, dev=step.dev, reason=error)
        raise


def _place(tap: str, link: netlink.Link) -> Attachment:
    """Where the TAP goes: into that bridge, that of the interface, or a new one."""
    name = link.name
    if link.kind == "bridge":
        return Attachment(tap, name)
    if link.master is not None:
        master = netlink.find_link(link.master)
        if master is None or master.kind != "bridge":
            raise VswitchError(
                f"{name} is in {link.master}, which is no bridge: name that one with --bridge"
            )
        ours = _is_of(master, name)
        if ours:
            event(log, "bridge-adopted", dev=link.master, interface=name)
        return Attachment(tap, link.master, name if ours else None)
    bridge = (PREFIX + name)[:INTERFACE_CHARS]
    existing = netlink.find_link(bridge)
    if existing is not None and not _is_of(existing, name):
        raise VswitchError(
            f"{bridge} is there already: put {name} into a bridge, and name that with --bridge"
        )
    return Attachment(tap, bridge, name)


def _make(attachment: Attachment, link: netlink.Link) -> None:
    """The bridge, with the TAP in it. The interface follows when nothing can be refused any more:
    what cannot be told in full is found out here.
    """
    carried(link.name)
    alias = _alias(link.name) + ("" if link.up else _DOWN)
    netlink.create_bridge(attachment.bridge, mac=link.mac, mtu=link.mtu, alias=alias, up=False)
    _copy_settings(link.name, attachment.bridge)
    bridge = netlink.find_link(attachment.bridge)
    assert bridge is not None
    _enter(attachment.tap, bridge)
    netlink.configure(attachment.bridge, up=True)
    event(log, "bridge-made", dev=attachment.bridge, interface=link.name)


def _enter(tap: str, bridge: netlink.Link) -> None:
    # Said once by somebody, an MTU stays; saying what it is already counts for nothing.
    other = bridge.mtu + (1 if bridge.mtu < netlink.MAX_BRIDGE_MTU else -1)
    netlink.configure(bridge.name, mtu=other)
    netlink.configure(bridge.name, mtu=bridge.mtu)
    netlink.configure(tap, master=bridge.name, up=True)
    _set_ipv6(tap, on=False)
    link = netlink.find_link(tap)
    if link is not None and link.mtu < bridge.mtu:
        event(log, "bridge-mtu", dev=bridge.name, mtu=bridge.mtu, lan=link.mtu)


def _dissolve(bridge: netlink.Link, interface: str) -> None:
    """Give the interface back what the bridge carries, and remove that: the port goes with it."""
    if netlink.find_link(interface) is not None:
        move(bridge.name, interface)
    netlink.delete(bridge.name)
    if bridge.alias.endswith(_DOWN) and netlink.find_link(interface) is not None:
        netlink.configure(interface, up=False)
    event(log, "bridge-removed", dev=bridge.name, interface=interface)


def _alias(interface: str) -> str:
    return f"vswitch bridge of {interface}"


def _is_of(bridge: netlink.Link, interface: str) -> bool:
    """Whether we have made the bridge for the interface."""
    return bridge.alias in (_alias(interface), _alias(interface) + _DOWN)


def _copy_settings(source: str, target: str) -> None:
    """The bridge hears router advertisements, forwards and filters as the interface did."""
    for family in ("ipv6", "ipv4"):
        for file in sorted((_SETTINGS / family / "conf" / source).glob("*")):
            if file.name in _OWN:
                continue
            other = _SETTINGS / family / "conf" / target / file.name
            try:
                if (value := file.read_text()) != other.read_text():
                    other.write_text(value)
            except OSError:  # cannot be set, or settings are read-only: as for every new interface
                continue


def _filtered(bridge: str) -> str | None:
    """Whether the host's firewall sees what passes the bridge, and how to change it."""
    switches = [
        f"net.bridge.bridge-nf-call-{name}=0"
        for name in ("iptables", "ip6tables")
        if _is_on(_SETTINGS / "bridge" / f"bridge-nf-call-{name}")
        or _is_on(Path(f"/sys/class/net/{bridge}/bridge/nf_call_{name}"))
    ]
    if not switches:
        return None
    return (
        "br_netfilter sends what passes the bridge through the host's FORWARD chain, which Docker "
        f"and others set to drop: `sysctl -w {' '.join(switches)}` ends that"
    )


def _is_on(setting: Path) -> bool:
    try:
        return setting.read_text().strip() == "1"
    except OSError:  # a kernel without it
        return False


def _set_ipv6(tap: str, *, on: bool) -> None:
    """No address of its own on a bridge port: the kernel gives IPv6 ones by itself."""
    try:
        (_SETTINGS / f"ipv6/conf/{tap}/disable_ipv6").write_text("0" if on else "1")
    except OSError:
        pass  # a kernel without IPv6, or settings that are read-only: an address that is unused
