"""A TAP interface of this host as a device: the kernel's end of a port.

Errors: `PrivilegeError` and `VswitchError` when opening, with what to do; afterwards those of
the device.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from vswitch.devices.tap import Ask, Attached, TapConfig, TapDevice, attach
from vswitch.devices.tap_offload import OffloadTapDevice


@asynccontextmanager
async def open_tap(config: TapConfig) -> AsyncIterator[TapDevice]:
    """Make or attach to the interface that `config` names, and close it at the end.

    `superframes` of the device says whether it has the offloads that `config` may ask for.
    """
    device = tap_device(await trio.to_thread.run_sync(attach, config), config)
    try:
        yield device
    finally:
        device.close()


def tap_device(
    attached: Attached,
    config: TapConfig,
    *,
    ask: Ask = trio.to_thread.run_sync,
    private: bool = False,
) -> TapDevice:
    """The device for an attached interface, whose descriptor it closes; see `TapDevice`."""
    kind = OffloadTapDevice if attached.offload else TapDevice
    return kind(
        name=config.name,
        mac=attached.link.mac,
        mtu=attached.link.mtu,
        persistent=attached.persistent,
        fd=attached.fd,
        address=config.address,
        ask=ask,
        private=private,
    )
