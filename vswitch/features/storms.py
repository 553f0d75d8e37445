"""Storm limits of the ports; what they do is in `core/storm.py`."""

from __future__ import annotations

from vswitch.core.bucket import Bucket
from vswitch.core.stages import Stage
from vswitch.core.storm import MIN_BURST, Shares, StormStage
from vswitch.features.feature import Feature
from vswitch.settings import PortSettings, SwitchSettings
from vswitch.switch import Port, Switch

__all__ = ["Storms"]


class Storms(Feature):
    """Limits for broadcast, multicast and unknown unicast, and for all copies together."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._shares = Shares(None)

    def changed(self, switch: SwitchSettings) -> None:
        """The flood limit."""
        self._shares.limit = switch.flood_limit

    def ingress(self, port: Port, settings: PortSettings) -> Stage | None:
        """The limits of this port."""
        limits = (settings.storm_broadcast, settings.storm_multicast, settings.storm_unknown)
        if self._shares.limit is None and limits == (None, None, None):
            return None
        broadcast, multicast, unknown = map(_bucket, limits)
        return StormStage(
            port.number,
            broadcast,
            multicast,
            unknown,
            self._shares,
            self._switch.look_up,
            self._switch.count_ports,
        )

    def gone(self, number: int) -> None:
        """Its share is free."""
        self._shares.forget(number)


def _bucket(rate: int | None) -> Bucket | None:
    """A second's worth at once: hosts that start say much."""
    return None if rate is None else Bucket(rate, max(rate, MIN_BURST))
