"""Who may have a port: a bounded number of clients, and a bounded rate of new ones.

Anybody who reaches a foreign listener gets a port, and sources of datagrams can be made up. So
there are at most `max_ports` of them, and after a burst of that size a few a second; the rest is
refused, counted by reason, and told once a minute in the log.

Places are shared between source addresses (`holder_of`). When none is left, who holds fewer than
the largest holder, and would still not hold more, gets the place of that one's longest silent
client. Who comes again with the MAC address of a client that is silent takes its place at once.
Else, over datagrams, where nothing says that a client has ended, it may get the place of
one that has been silent for a while: a short while for one of its own, which is how a program looks
that was started again, a long one for another's.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Protocol

import trio

from vswitch.errors import RefusedError
from vswitch.logs import event
from vswitch.switch.device import Device
from vswitch.switch.port import Port
from vswitch.switch.port_lifecycle import DetachListener
from vswitch.switch.switch import Switch

if TYPE_CHECKING:
    from vswitch.foreign.kinds import ForeignSettings

log = logging.getLogger(__name__)

FAULT = "fault"  # refused by a mistake in a program; its traceback is in the log
NEW_PER_SECOND = 8.0  # clients, after a burst of `max_ports`
OWN_SILENCE = 3.0  # seconds, until a new client takes the place of one from the same address
OTHERS_SILENCE = 60.0  # the same, of one from another address that holds no more than its share
MOVE_SILENCE = 1.0  # seconds, until a client has moved whose MAC address comes from another port
LOOK_INTERVAL = 0.1  # seconds between two fruitless looks at all clients
KEEP_PER_AGEING = 4  # how often stations are kept that would age out
TELL_INTERVAL = 60.0  # seconds between two lines about refusals


def note_fault(refused: Counter[str], error: Exception, **fields: object) -> str:
    """Count a fault in a program, and log the first with its traceback; under which reference."""
    refused[FAULT] += 1
    reference = secrets.token_hex(4)
    if refused[FAULT] == 1:
        event(log, "foreign-fault", logging.ERROR, error, reference=reference, **fields)
    return reference


class Client(Device, Protocol):
    """A device that knows when something came last."""

    heard: float


class ClientLimit:
    """The ports of one listener, and who gets none."""

    def __init__(self, switch: Switch, settings: ForeignSettings, *, forgets: bool = False) -> None:
        """`forgets`: nothing says that a client is gone, so its silence may cost it its place."""
        self.refused: Counter[str] = Counter()  # clients, or their datagrams, by reason
        self.ports: dict[Port, Client] = {}
        self._holders: dict[str, set[Port]] = {}  # none is empty
        self._most = 0  # places of the largest holder
        self._stations: dict[bytes, Port] = {}  # by the MAC address of the first frame
        self._switch = switch
        self._settings = settings
        self._forgets = forgets
        self._look_again = 0.0  # before that nobody has been silent for long enough
        self._tokens = float(settings.max_ports)
        self._filled = trio.current_time()
        self._told = -TELL_INTERVAL

    def may_come(self, holder: str) -> bool:
        """Whether there is a place for one more of that holder just now, or one is made for it; if
        not, that is counted.
        """
        now, limit = trio.current_time(), self._settings.max_ports
        self._tokens = min(limit, self._tokens + (now - self._filled) * NEW_PER_SECOND)
        self._filled = now
        if len(self.ports) >= limit:
            if len(self._holders.get(holder, ())) + 1 < self._most:
                self._switch.detach(self._longest_silent(holder))
                return True  # at no cost, as it evens out what is left to even out
            spare = self._spare(holder, now) if self._tokens >= 1 else None
            if spare is None:
                self.refuse("ports_taken")
                return False
            self._switch.detach(spare)
        elif self._switch.count_ports() >= self._switch.max_ports:
            self.refuse("switch_full")
            return False
        elif self._tokens < 1:
            self.refuse("too_many_new")
            return False
        self._tokens -= 1
        return True

    def moves(self, station: bytes, holder: str) -> bool:
        """Whether a new client of that holder, with this MAC address, is one that has been silent
        for so long that it has moved; its old port is gone then.
        """
        before = self._stations.get(station)
        if before is None or not self.has_moved(before, holder):
            return False
        self._switch.detach(before)
        return True

    def settle(self, station: bytes, port: Port, holder: str, nursery: trio.Nursery) -> None:
        """The MAC address of a new client is known, who has the port. If another had it that has
        just spoken, that one goes when it is silent from now on.
        """
        if any(station) and not station[0] & 1:
            before = self._stations.get(station)
            self._stations[station] = port
            if before is not None and before is not port:
                nursery.start_soon(self._follow, before, holder)

    def note_station(self, port: Port, holder: str, nursery: trio.Nursery, frame: bytes) -> None:
        """The first frame of a client whose port was there before it."""
        self.moves(frame[6:12], holder)
        self.settle(frame[6:12], port, holder, nursery)

    def has_moved(self, port: Port, holder: str) -> bool:
        """Whether a client that seems to come from elsewhere now has been silent for so long."""
        patience = MOVE_SILENCE if port in self._holders.get(holder, ()) else OTHERS_SILENCE
        return self.ports[port].heard + patience <= trio.current_time()

    async def forget(self) -> None:
        """Unplug who has been silent for `idle`, until cancelled. Without such a limit keep the
        stations of all.
        """
        fdb, idle = self._switch.fdb, self._settings.idle
        while idle == inf:
            await trio.sleep(fdb.ageing_time / KEEP_PER_AGEING)
            for port in self.ports:
                fdb.refresh(port.number, self._switch.now())
        while True:
            now = trio.current_time()
            for port, device in list(self.ports.items()):
                if device.heard + idle <= now:
                    self._switch.detach(port)
            # Nobody who comes later has to go before this.
            heard = [device.heard for device in self.ports.values()]
            await trio.sleep_until(min(heard, default=now) + idle)

    async def _follow(self, port: Port, holder: str) -> None:
        """Unplug a client that had just spoken when it came from elsewhere, and is silent since."""
        client = self.ports.get(port)
        if client is not None:
            heard = client.heard
            await trio.sleep(MOVE_SILENCE)
            if port.attached and client.heard == heard and self.has_moved(port, holder):
                self._switch.detach(port)

    def plug(self, device: Client, name: str, gone: DetachListener, holder: str) -> Port | None:
        """Attach the device; None if the switch has no port left, and the device is closed then."""

        def detached(port: Port) -> None:
            if self.ports.pop(port, None) is not None:
                self._holders[holder].discard(port)
                if not self._holders[holder]:
                    del self._holders[holder]
                self._most = max(map(len, self._holders.values()), default=0)
                for station in [each for each, has in self._stations.items() if has is port]:
                    del self._stations[station]
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
        self.ports[port] = device
        places = self._holders.setdefault(holder, set())
        places.add(port)
        self._most = max(self._most, len(places))
        return port

    def _longest_silent(self, holder: str) -> Port:
        """Of the largest holders; of `holder` if it is one."""
        own = self._holders.get(holder, set())
        largest = [own] if len(own) == self._most else self._holders.values()
        return min(
            (port for places in largest if len(places) == self._most for port in places),
            key=lambda port: self.ports[port].heard,
        )

    def _spare(self, holder: str, now: float) -> Port | None:
        """The port of a client that has been silent for so long that it may be gone."""
        if not self._forgets or now < self._look_again:
            return None
        port = self._longest_silent(holder)
        patience = OWN_SILENCE if port in self._holders.get(holder, ()) else OTHERS_SILENCE
        if self.ports[port].heard + patience <= now:
            return port
        self._look_again = now + LOOK_INTERVAL
        return None

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
