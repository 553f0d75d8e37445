"""`serve --local-port`: the switch's own host, or a LAN behind it, as a port, without a session.

    TAP ⇄ port of the switch

The host gets the first address of the subnet, which no member has; in a bridge the TAP has none.
The switch's services have that address, too, and stand beside the kernel (`services/host.py`). A
TAP that fails takes down its port, as everywhere, and the switch goes on.
"""

from __future__ import annotations

from ipaddress import IPv4Interface

import trio

from vswitch.addresses import switch_address
from vswitch.config.options import ServeConfig
from vswitch.devices.bridge import OpenInterface, open_host_end
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.frames.ethernet import parse_mac
from vswitch.registry.rules import LOCAL_PORT
from vswitch.services.host import HostBeside, open_host_beside, station_of
from vswitch.switch.switch import Switch


async def serve_local_port(
    switch: Switch,
    config: ServeConfig,
    *,
    open_interface: OpenInterface = open_tap,
    task_status: trio.TaskStatus[HostBeside | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Have the port until cancelled, or until its TAP fails. Started when it is attached, with the
    host of the services if they are there.
    """
    subnet = config.subnet
    address = f"{switch_address(subnet)}/{subnet.prefixlen}" if config.bridge is None else None
    wanted = TapConfig(
        name=config.dev, mtu=config.mtu, address=address, offload=True, accept_ra="addresses"
    )
    async with open_host_end(open_interface, wanted, config) as device:
        if address is None:
            port = switch.attach(device, name=LOCAL_PORT, bridge=True)
            task_status.started(None)
            await port.wait_detached()
            return
        mac, interface = parse_mac(device.mac), IPv4Interface(address)
        host = HostBeside(device, station_of(switch, mac, interface, answers=False), switch.now)
        port = switch.attach(host, name=LOCAL_PORT)
        async with open_host_beside(switch, host, port):
            task_status.started(host)
            await port.wait_detached()
