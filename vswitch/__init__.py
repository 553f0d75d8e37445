"""A virtual Ethernet switch whose ports reach across the Internet.

    async with open_switch() as switch:                 # a switch in this program
        async with switch.open_port("bot") as port:     # a coroutine on a port
            async for frame in port: ...

    await nursery.start(serve, ServeConfig(...))         # the switch that members reach
    await nursery.start(join, JoinConfig(name="pc1"))    # a TAP of this host, plugged in
                                                         # (or a `ProgramInterface`: no TAP)

What is exported here is the interface of the library; docs/architecture.md draws the house.
"""

from vswitch.config.commands import JoinConfig, ServeConfig
from vswitch.devices.open_tap import open_tap
from vswitch.devices.program_interface import ProgramInterface
from vswitch.devices.tap import TapConfig, TapDevice
from vswitch.errors import (
    ConfigError,
    NotFound,
    NotReachable,
    PrivilegeError,
    RefusedError,
    TimedOut,
    VswitchError,
)
from vswitch.joining.member import join
from vswitch.serving.server import Serving, serve
from vswitch.switch.counters import CounterSnapshot, DropReason
from vswitch.switch.device import Device
from vswitch.switch.local import LocalPort
from vswitch.switch.port import Port, SwitchStatistics
from vswitch.switch.switch import Switch, open_switch

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
    "ProgramInterface",
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
