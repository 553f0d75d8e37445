"""What a program may choose about its transport, and the table of congestion controllers.

One `TransportConfig` is given to an endpoint and handed down unchanged to each session and its
lanes. Error contract: ValueError for a name that is not in the table.
"""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

from transport.congestion.controller import ControllerFactory
from transport.congestion.delay import DelayController

CONTROLLERS: Final[dict[str, ControllerFactory]] = {
    "delay": DelayController,  # a short queue; CUBIC's share beside flows that fill it
}


@frozen
class TransportConfig:
    """The choices for all sessions of an endpoint."""

    congestion: str = field(default="delay")
    """The congestion controller of each reliable lane: a name of `CONTROLLERS`."""

    @congestion.validator
    def _check_congestion(self, _attribute: object, name: str) -> None:
        if name not in CONTROLLERS:
            known = ", ".join(CONTROLLERS)
            raise ValueError(f"no congestion controller {name!r}; there are: {known}")


DEFAULT_CONFIG: Final = TransportConfig()
