"""A virtual Ethernet switch whose ports reach across the Internet.

    async with open_switch() as switch:                 # a switch in this program
        async with switch.open_port("bot") as port:     # a coroutine on a port
            async for frame in port: ...

    await nursery.start(serve, ServeConfig(...))         # the switch that members reach
    await nursery.start(join, JoinConfig(name="pc1"))    # a TAP of this host, plugged in

What is exported here is the interface of the library, and is loaded when it is first used;
docs/architecture.md draws the house.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vswitch.config.options import JoinConfig, ServeConfig
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

_NAMES = {  # by the module that has them
    "vswitch.config.options": "JoinConfig ServeConfig",
    "vswitch.devices.open_tap": "open_tap",
    "vswitch.devices.program_interface": "ProgramInterface",
    "vswitch.devices.tap": "TapConfig TapDevice",
    "vswitch.errors": "ConfigError NotFound NotReachable PrivilegeError "
    "RefusedError TimedOut VswitchError",
    "vswitch.joining.member": "join",
    "vswitch.serving.server": "Serving serve",
    "vswitch.switch.counters": "CounterSnapshot DropReason",
    "vswitch.switch.device": "Device",
    "vswitch.switch.local": "LocalPort",
    "vswitch.switch.port": "Port SwitchStatistics",
    "vswitch.switch.switch": "Switch open_switch",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


if not TYPE_CHECKING:  # a checker would take it for any name at all

    def __getattr__(name: str) -> Any:
        """Load a name on first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
