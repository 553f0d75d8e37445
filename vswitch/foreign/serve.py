"""All foreign ports of a switch: sockets opened, clients served, and everything gone at the end.

A listener that fails, by a fault in a program, ends alone: its ports are unplugged, it says so
(`ended`), is counted (`fault`), logged with a traceback, and an event (`listener-ended`).

Error contract: `VswitchError` for a socket that cannot be had; afterwards nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import Factory, define

from vswitch.errors import VswitchError
from vswitch.foreign.client_limit import note_fault
from vswitch.foreign.kinds import KINDS, Clients, ForeignSettings
from vswitch.foreign.sockets import open_place, shown
from vswitch.logs import event
from vswitch.runtime import single_error
from vswitch.switch.switch import Switch

log = logging.getLogger(__name__)


@define(eq=False)
class Listener:
    """One listener that serves."""

    kind: str
    name: str
    listen: str  # where it really listens
    refused: Counter[str] = Factory(Counter)  # who got no port, by reason
    ended: str | None = None  # by a fault, under this reference in the log


class ForeignPorts:
    """All foreign ports of a switch. Those that share a socket begin and end together."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._groups: dict[object, _Group] = {}
        self._nursery: trio.Nursery | None = None  # while it runs

    @property
    def listeners(self) -> list[Listener]:
        """Those that serve, or have ended by a fault."""
        return [listener for group in self._groups.values() for listener in group.listeners]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def release(self, foreign: Sequence[ForeignSettings]) -> None:
        """End those that are none of these, so that others can have their places."""
        wanted = _grouped(foreign)
        for key, group in list(self._groups.items()):
            if group.settings != wanted.get(key) or any(each.ended for each in group.listeners):
                del self._groups[key]
                group.scope.cancel()
                await group.gone.wait()

    async def apply(self, foreign: Sequence[ForeignSettings]) -> None:
        """Have exactly these: what has not changed stays, with its clients.

        Raises:
            VswitchError: a socket cannot be had; what has not changed is there still.
        """
        await self.release(foreign)
        for key, said in _grouped(foreign).items():
            if key not in self._groups:
                if (nursery := self._nursery) is None:
                    await trio.lowlevel.checkpoint()  # it was cancelled, as this may be
                    raise VswitchError("the switch is stopping")
                group = _Group(said)
                await nursery.start(self._serve, group)
                self._groups[key] = group

    async def _serve(self, group: _Group, *, task_status: trio.TaskStatus[None]) -> None:
        first = group.settings[0]
        kind, place = KINDS[first.kind], first.listen
        assert place is not None  # `load_foreign` sees to it
        try:
            with group.scope, single_error(), open_place(place, stream=kind.stream) as sock:
                clients, where = kind.serve(self._switch, sock, first), shown(sock.getsockname())
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_run, self._switch, clients, group.listeners)
                    for each in group.settings:
                        listener = Listener(each.kind, each.name, where, clients.refused)
                        group.listeners.append(listener)
                        if kind.add is not None:
                            await _contained(self._switch, [listener], kind.add(clients, each))
                        event(
                            log,
                            "foreign-listening",
                            logging.WARNING,
                            name=each.name,
                            kind=each.kind,
                            listen=where,
                            plain_text="not encrypted, not authenticated: whoever reaches it is in "
                            "the LAN",
                        )
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            group.gone.set()


@define(eq=False)
class _Group:
    """What has one socket."""

    settings: tuple[ForeignSettings, ...]
    listeners: list[Listener] = Factory(list)
    scope: trio.CancelScope = Factory(trio.CancelScope)
    gone: trio.Event = Factory(trio.Event)


def _grouped(foreign: Sequence[ForeignSettings]) -> dict[object, tuple[ForeignSettings, ...]]:
    """By the socket that they have, or their name."""
    found: dict[object, tuple[ForeignSettings, ...]] = {}
    key: object
    for settings in foreign:
        alone = KINDS[settings.kind].add is None
        key = settings.name if alone else (settings.kind, settings.listen)
        found[key] = (*found.get(key, ()), settings)
    return found


async def serve_foreign(
    switch: Switch,
    foreign: Sequence[ForeignSettings],
    *,
    task_status: trio.TaskStatus[list[Listener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve these foreign ports until cancelled. Started, with the listeners, when all are open."""
    async with open_foreign(switch, foreign) as listeners:
        task_status.started(listeners)
        await trio.sleep_forever()


@asynccontextmanager
async def open_foreign(
    switch: Switch, foreign: Sequence[ForeignSettings]
) -> AsyncIterator[list[Listener]]:
    """Serve these foreign ports, for as long as the context lasts."""
    ports = ForeignPorts(switch)
    async with trio.open_nursery() as nursery:
        await nursery.start(ports.run)
        await ports.apply(foreign)
        try:
            yield ports.listeners
        finally:
            nursery.cancel_scope.cancel()


async def _run(switch: Switch, clients: Clients, listeners: list[Listener]) -> None:
    await _contained(switch, listeners, clients.run())


async def _contained(switch: Switch, listeners: list[Listener], job: Awaitable[None]) -> None:
    """A fault in a program ends this job, and nothing else."""
    try:
        await job
    except VswitchError:  # for people to mend
        raise
    except Exception as error:
        first = listeners[0]
        reference = note_fault(first.refused, error, name=first.name, ended=True)
        for each in listeners:
            each.ended = reference
            facts = {"name": each.name, "reference": reference}
            switch.events.add("listener-ended", now=switch.now(), **facts)
