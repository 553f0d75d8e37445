"""A virtual Ethernet switch whose ports reach across the Internet.

    async with open_switch() as switch:                 # a switch in this program
        async with switch.open_port("bot") as port:     # a coroutine on a port
            async for frame in port: ...

    await nursery.start(serve, ServeConfig(...))         # the switch that members reach
    await nursery.start(join, JoinConfig(name="pc1"))    # a TAP of this host, plugged in

What is exported here is the interface of the library; docs/architecture.md draws the house.
"""

from vswitch.client import join
from vswitch.config import JoinConfig, ServeConfig
from vswitch.core.counters import CounterSnapshot, DropReason
from vswitch.errors import (
    ConfigError,
    NotFound,
    NotReachable,
    PrivilegeError,
    RefusedError,
    TimedOut,
    VswitchError,
)
from vswitch.ports.device import Device
from vswitch.ports.local import LocalPort
from vswitch.ports.tap import TapConfig, TapDevice, open_tap
from vswitch.server import Serving, serve
from vswitch.switch import Port, Switch, SwitchStatistics, open_switch

__all__ = [
    "ConfigError",
    "CounterSnapshot",
    "Device",
    "DropReason",
    "JoinConfig",
    "LocalPort",
    "NotFound",
    "NotReachable",
    "Port",
    "PrivilegeError",
    "RefusedError",
    "ServeConfig",
    "Serving",
    "Switch",
    "SwitchStatistics",
    "TapConfig",
    "TapDevice",
    "TimedOut",
    "VswitchError",
    "join",
    "open_switch",
    "open_tap",
    "serve",
]
