"""All foreign ports of a switch: sockets opened, clients served, and everything gone at the end.

A listener that fails, by a fault in a program, ends alone: its ports are unplugged, it says so
(`ended`), is counted (`fault`), logged with a traceback, and an event (`listener-ended`).

Error contract of `open_foreign`: `VswitchError` for a socket that cannot be had; afterwards
nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import ExitStack, asynccontextmanager

import trio
from attrs import Factory, define

from vswitch.errors import VswitchError
from vswitch.foreign.client_limit import note_fault
from vswitch.foreign.kinds import KINDS, Clients, ForeignSettings
from vswitch.foreign.sockets import open_place, shown
from vswitch.logs import event
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
    listeners: list[Listener] = []
    with ExitStack() as sockets:
        async with trio.open_nursery() as nursery:
            await _open_all(switch, foreign, sockets, nursery, listeners)
            for each in listeners:
                event(
                    log,
                    "foreign-listening",
                    logging.WARNING,
                    name=each.name,
                    kind=each.kind,
                    listen=each.listen,
                    plain_text="not encrypted, not authenticated: whoever reaches it is in the LAN",
                )
            try:
                yield listeners
            finally:
                nursery.cancel_scope.cancel()


async def _open_all(
    switch: Switch,
    foreign: Sequence[ForeignSettings],
    sockets: ExitStack,
    nursery: trio.Nursery,
    listeners: list[Listener],
) -> None:
    opened: dict[object, tuple[Clients, str, list[Listener]]] = {}
    for number, settings in enumerate(foreign):
        kind, place = KINDS[settings.kind], settings.listen
        assert place is not None  # `load_foreign` sees to it
        key = number if kind.add is None else (settings.kind, place)
        if key not in opened:
            sock = sockets.enter_context(open_place(place, stream=kind.stream))
            opened[key] = kind.serve(switch, sock, settings), shown(sock.getsockname()), []
            nursery.start_soon(_run, switch, opened[key][0], opened[key][2])
        clients, where, its = opened[key]
        listener = Listener(settings.kind, settings.name, where, clients.refused)
        its.append(listener)
        listeners.append(listener)
        if kind.add is not None:
            await _contained(switch, [listener], kind.add(clients, settings))


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
