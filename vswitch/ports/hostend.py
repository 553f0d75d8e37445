"""The host's end of a port: a TAP, in a bridge if that is wished for.

Error contract: that of the interface and of `bridge.py`; `ConfigError` for wishes that exclude each
other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from vswitch.errors import ConfigError
from vswitch.ports.bridge import in_bridge
from vswitch.ports.dhcp_guard import DhcpGuard
from vswitch.ports.interface import HostInterface
from vswitch.ports.tap import TapConfig

__all__ = ["BridgeWishes", "OpenInterface", "open_host_end"]

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
