"""Who may have a port: a bounded number of clients, and a bounded rate of new ones.

Anybody who reaches a foreign listener gets a port, and sources of datagrams can be made up. So
there are at most `max_ports` of them, and after a burst of that size a few a second; the rest is
refused, counted by reason, and told once a minute in the log.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from typing import TYPE_CHECKING

import trio

from vswitch.errors import RefusedError
from vswitch.logs import event
from vswitch.switch.device import Device
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch
from vswitch.switch.tasks import DetachListener

if TYPE_CHECKING:
    from vswitch.foreign.kinds import ForeignSettings

log = logging.getLogger(__name__)

FAULT = "fault"  # refused by a mistake in a program; its traceback is in the log
NEW_PER_SECOND = 8.0  # clients, after a burst of `max_ports`
TELL_INTERVAL = 60.0  # seconds between two lines about refusals


def note_fault(refused: Counter[str], error: Exception, **fields: object) -> str:
    """Count a fault in a program, and log the first with its traceback; under which reference."""
    refused[FAULT] += 1
    reference = secrets.token_hex(4)
    if refused[FAULT] == 1:
        event(log, "foreign-fault", logging.ERROR, error, reference=reference, **fields)
    return reference


class ClientLimit:
    """The ports of one listener, and who gets none."""

    def __init__(self, switch: Switch, settings: ForeignSettings) -> None:
        self.refused: Counter[str] = Counter()  # clients, or their datagrams, by reason
        self.ports: set[Port] = set()
        self._switch = switch
        self._settings = settings
        self._tokens = float(settings.max_ports)
        self._filled = trio.current_time()
        self._told = -TELL_INTERVAL

    def may_come(self) -> bool:
        """Whether there is a place for one more just now; if not, that is counted."""
        now, limit = trio.current_time(), self._settings.max_ports
        self._tokens = min(limit, self._tokens + (now - self._filled) * NEW_PER_SECOND)
        self._filled = now
        if len(self.ports) >= limit:
            self.refuse("ports_taken")
            return False
        if self._tokens < 1:
            self.refuse("too_many_new")
            return False
        self._tokens -= 1
        return True

    def plug(self, device: Device, name: str, gone: DetachListener) -> Port | None:
        """Attach the device; None if the switch has no port left, and the device is closed then."""

        def detached(port: Port) -> None:
            self.ports.discard(port)
            gone(port)

        try:
            port = self._switch.attach(
                device,
                name=name,
                on_detach=detached,
                group=self._settings.name,
                bridge=self._settings.leads_to_bridge,
            )
        except (RefusedError, trio.ClosedResourceError):
            self.refuse("switch_full")
            device.close()
            return None
        self.ports.add(port)
        return port

    def refuse(self, reason: str) -> None:
        """Count somebody who gets no port."""
        self.refused[reason] += 1
        now = trio.current_time()
        if now - self._told >= TELL_INTERVAL:
            self._told = now
            event(
                log,
                "foreign-refused",
                logging.WARNING,
                name=self._settings.name,
                reason=reason,
                times=self.refused[reason],
            )

    def close(self) -> None:
        """Unplug everybody."""
        for port in list(self.ports):
            self._switch.detach(port)
