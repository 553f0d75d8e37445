"""Rates of the ports, in both directions; what they do is in `core/rates.py`."""

from __future__ import annotations

from vswitch.core.counters import DropReason
from vswitch.core.rates import Shaper, rate_stage
from vswitch.core.stages import Stage
from vswitch.features.feature import Feature
from vswitch.settings import PortSettings
from vswitch.switch import Port, Switch

__all__ = ["Rates"]


class Rates(Feature):
    """Limits in bits and frames a second; off unless a port has some."""

    def __init__(self, switch: Switch) -> None:
        pass

    def ingress(self, port: Port, settings: PortSettings) -> Stage | None:
        """What the member may send."""
        return rate_stage(DropReason.RATE_IN, settings.rate_in, settings.frames_in)

    def egress(self, port: Port, settings: PortSettings) -> Stage | None:
        """What it gets."""
        port.shape(None if settings.rate_out is None else Shaper(settings.rate_out))
        return rate_stage(DropReason.RATE_OUT, None, settings.frames_out)
