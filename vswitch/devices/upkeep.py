"""An interface is kept as it was set up: what other programs take away is put back.

Network managers flush addresses, set links down and change MTUs of interfaces that they find. At
each notice of the kernel's the interface is looked at: its address, its link-local address, whether
it is up, its MTU. What lacks is put back and logged; more than `MendLimit` lets pass means that
somebody means it, so it waits, which is logged too.

Error contract of `keep`, which does not end while the kernel gives notices: nothing of the kernel's
refusals is raised; each is logged once for as long as it is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final, Protocol, runtime_checkable

import trio
from attrs import frozen

from vswitch.devices.notices import watch_network
from vswitch.errors import VswitchError
from vswitch.logs import event

log = logging.getLogger(__name__)

ADDRESS, LINK_LOCAL, UP, MTU = "address", "link-local", "up", "mtu"


@frozen
class Condition:
    """What the kernel has of an interface, or what it should have."""

    up: bool
    mtu: int  # bytes
    addresses: Collection[str]  # CIDR form
    link_local: bool  # has an IPv6 address of its link


def lacking(wanted: Condition, found: Condition) -> dict[str, str]:
    """What is not as wanted, and what the kernel has instead. More addresses are no matter."""
    lacks = {}
    if found.mtu != wanted.mtu:
        lacks[MTU] = str(found.mtu)
    if wanted.up and not found.up:
        lacks[UP] = "down"
    if not set(wanted.addresses) <= set(found.addresses):
        others = sorted(each for each in found.addresses if not each.startswith("fe80:"))
        lacks[ADDRESS] = " ".join(others) or "none"
    if wanted.link_local and not found.link_local:
        lacks[LINK_LOCAL] = "none"
    return lacks


@runtime_checkable
class Kept(Protocol):
    """An interface that others can change, too."""

    @property
    def name(self) -> str:
        """Of the interface."""

    @property
    def private(self) -> bool:
        """Whether only who uses it can change it, so that nothing is put back."""

    async def lacking(self) -> dict[str, str]:
        """What of it is not as it was set up, of `address`, `link-local`, `up`, `mtu`, and what it
        is instead. `VswitchError` if that cannot be found out.
        """

    async def mend(self) -> dict[str, str]:
        """Put it back: what it was. `VswitchError` if the kernel refuses."""


class MendLimit:
    """How often something is put back: a few times at once, then once a minute. Pure."""

    BURST: Final = 5
    INTERVAL: Final = 60.0  # seconds

    def __init__(self) -> None:
        self._left = float(self.BURST)
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next time is free, which this one takes; `now` in seconds."""
        self._left = min(self.BURST, self._left + (now - self._at) / self.INTERVAL) - 1
        self._at = now
        return max(0.0, -self._left * self.INTERVAL)


async def keep(interface: Kept) -> None:
    """Look after the interface."""
    limit, dev = MendLimit(), interface.name
    refused: str | None = None
    contested = False

    async def look() -> None:
        nonlocal refused, contested
        try:
            lacks = await interface.lacking()
            if not lacks:
                return
            pause = limit.wait(trio.current_time())
            if pause and not contested:
                what = ",".join(lacks)
                event(log, "interface-contested", logging.WARNING, dev=dev, what=what)
            contested = pause > 0
            await trio.sleep(pause)
            for what, found in (await interface.mend()).items():
                event(log, "interface-mended", logging.WARNING, dev=dev, what=what, was=found)
            refused = None
        except VswitchError as error:
            if str(error) != refused:
                event(log, "interface-not-mended", logging.WARNING, dev=dev, reason=error)
            refused = str(error)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # whoever carries its frames finds out

    await watch_network(look)
