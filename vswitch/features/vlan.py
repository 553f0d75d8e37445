"""VLANs by port: `vlan` makes an access port, `trunk` a trunk, with a `native` VLAN or none.

A switch has VLANs as soon as the settings of any port, attached or not, name one, or with `vlans`
in `[switch]`; never by what happens to be plugged in. Without, every port is transparent: all tags
pass, as through a cable. With VLANs a port that says nothing is an access port of VLAN 1, so that
nothing is reachable from everywhere because somebody forgot to say so.

On a port that says both, `trunk` comes before `vlan`. What is done to frames stands in
`vswitch/core/vlan.py`. Stations of a port whose VLANs change are forgotten.
"""

from __future__ import annotations

from vswitch.core.stages import Stage
from vswitch.core.vlan import Membership, Tagging, Untagging, parse_vlans
from vswitch.features.feature import Feature
from vswitch.settings import PortSettings, Settings
from vswitch.switch import Port, Switch

__all__ = ["DEFAULT_VLAN", "Vlans", "membership_of", "vlans_on"]

DEFAULT_VLAN = 1


def vlans_on(settings: Settings) -> bool:
    """Whether a switch with these settings has VLANs."""
    return settings.switch.vlans or any(
        said.get(name) is not None and str(said[name]).lower() not in ("none", "")
        for said in settings.ports.values()
        for name in ("vlan", "trunk")
    )


def membership_of(settings: PortSettings) -> Membership:
    """The VLANs of a port on a switch that has VLANs."""
    if settings.trunk is not None:
        return Membership(parse_vlans(settings.trunk), settings.native)
    return Membership(untagged=settings.vlan or DEFAULT_VLAN)


class Vlans(Feature):
    """The VLANs of one switch."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._on = False
        self._ports: dict[int, Membership | None] = {}  # None: transparent
        switch.carries = self.carries

    @property
    def keeps_apart(self) -> bool:
        """See `Feature`: without VLANs nobody is asked."""
        return self._on

    def heard(self, settings: Settings) -> bool:
        """See `Feature`: VLANs for one port are VLANs for all."""
        before, self._on = self._on, vlans_on(settings)
        return self._on != before

    def ingress(self, port: Port, settings: PortSettings) -> Stage | None:
        """The tag of its VLAN for what comes in."""
        membership = membership_of(settings) if self._on else None
        if self._ports.get(port.number) != membership:
            self._switch.flush_fdb(port=port)
        self._ports[port.number] = membership
        return None if membership is None else Tagging(membership)

    def egress(self, port: Port, settings: PortSettings) -> Stage | None:
        """No tag for what leaves untagged."""
        membership = self._ports.get(port.number)
        if membership is None or membership.untagged is None:
            return None
        return Untagging(membership.untagged)

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Frames of a VLAN leave by the ports that carry it."""
        return self.carries(egress, vlan)

    def carries(self, number: int, vlan: int) -> bool:
        """Whether the port of that number has that VLAN."""
        membership = self._ports.get(number)
        return membership is None or membership.carries(vlan)

    def gone(self, number: int) -> None:
        """The port is down."""
        self._ports.pop(number, None)
