"""What the members of a LAN reach through one another, and how they hear of it.

A network is in force while a member that offers it is connected, as far as the operator has
approved it (`registry/approvals.py`). Each member is told at its welcome, and again whenever that
has changed: at once, and then once in `PAUSE` at most, whatever comes and goes. Members that must
not know of each other are no gateways to each other.

Error contract: nothing is raised for what a member does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NoReturn

import trio

from vswitch.addresses import MAX_GATEWAYS
from vswitch.members.protocol import Gateway, Update
from vswitch.serving.connected_member import ConnectedMember

PAUSE: Final = 0.25  # seconds: a member takes 20 messages in one, and 16 updates at once


class Gateways:
    """Those of one LAN."""

    def __init__(
        self, connected: Mapping[bytes, ConnectedMember], separated: Callable[[str], bool]
    ) -> None:
        """`connected` are the members, by key; `separated` says who may not know of others."""
        self._connected = connected
        self._separated = separated
        self._changed = trio.Event()

    def seen_by(self, name: str) -> tuple[str, ...]:
        """What the member of that name is told, itself included."""
        alone = self._separated(name)
        found = [
            Gateway(
                str(network), _bare(each.address6 if network.version == 6 else each.address), own
            )
            for each in self._connected.values()
            if (own := each.member.name) == name or not (alone or self._separated(own))
            for network in each.networks
        ]
        return tuple(map(str, sorted(found)[:MAX_GATEWAYS]))

    def changed(self) -> None:
        """Somebody came or went who offers something, or the operator has decided otherwise."""
        self._changed.set()

    async def run(self) -> NoReturn:
        """Tell everybody of each change, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            for each in list(self._connected.values()):
                told = self.seen_by(each.member.name)
                if told == each.told:
                    continue
                each.told = told
                # One that has stopped reading loses its session by itself.
                with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                    each.device.send_control(Update(gateways=told))
            await trio.sleep(PAUSE)


def _bare(address: str | None) -> str:
    assert address is not None  # `networks_of` sees to it
    return address.partition("/")[0]
