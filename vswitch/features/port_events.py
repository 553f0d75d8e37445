"""Ports that come and go, and lanes that change, noted for `vswitch events`.

No step that frames take. What other features notice they note themselves, and
`serving/reception.py` what happens to members.
"""

from __future__ import annotations

from vswitch.features.base import Feature
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch


class PortEvents(Feature[object, object]):
    """Notes them in the switch's event log."""

    guards = False

    def __init__(self, switch: Switch) -> None:
        self._events = switch.events
        self._ports: dict[int, Port] = {}
        self._lanes: dict[int, str] = {}

    def port_up(self, port: Port) -> None:
        """A port that is there."""
        self._ports[port.number] = port
        self._events.add("port-up", port.name, now=port.attached_at, port_number=port.number)
        self._look(port, port.attached_at)

    def tick(self, now: float) -> None:
        """Only members have a lane, and few change it: once a second is soon enough."""
        for port in self._ports.values():
            self._look(port, now)

    def port_down(self, number: int) -> None:
        """A port that was there."""
        port = self._ports.pop(number, None)
        if port is None:
            return  # another feature has given it up before it was up here
        self._lanes.pop(number, None)
        reason = "unplugged" if port.error is None else str(port.error)
        self._events.add("port-down", port.name, now=port.now(), port_number=number, reason=reason)

    def _look(self, port: Port, now: float) -> None:
        lane = getattr(port.device, "lane", None)
        if not isinstance(lane, str):
            return
        before = self._lanes.get(port.number)
        self._lanes[port.number] = lane
        if before is not None and before != lane:
            self._events.add("lane-changed", port.name, now=now, lane=lane, before=before)
