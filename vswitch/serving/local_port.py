"""`serve --local-port`: the switch's own host, or a LAN behind it, as a port, without a session.

    TAP ⇄ port of the switch

The host gets the first address of the subnet, which no member has; in a bridge the TAP has none. A
TAP that fails takes down its port, as everywhere, and the switch goes on.
"""

from __future__ import annotations

import trio

from vswitch.addresses import switch_address
from vswitch.config.options import ServeConfig
from vswitch.devices.bridge import OpenInterface, open_host_end
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.registry.rules import LOCAL_PORT
from vswitch.switch.switch import Switch


async def serve_local_port(
    switch: Switch,
    config: ServeConfig,
    *,
    open_interface: OpenInterface = open_tap,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Have the port until cancelled, or until its TAP fails. Started when it is attached."""
    subnet = config.subnet
    address = f"{switch_address(subnet)}/{subnet.prefixlen}" if config.bridge is None else None
    wanted = TapConfig(
        name=config.dev, mtu=config.mtu, address=address, offload=True, accept_ra="addresses"
    )
    async with open_host_end(open_interface, wanted, config) as device:
        port = switch.attach(device, name=LOCAL_PORT, bridge=config.bridge is not None)
        task_status.started()
        await port.wait_detached()
