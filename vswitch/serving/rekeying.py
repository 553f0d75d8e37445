"""A new key for a switch that serves: begun, told to the members, and at the end without the old.

Members that are connected are told at once, others when they come by the old key. Sessions go on in
any case, until at the end those are closed whose members have not moved. One change at a time, and
none while another configuration is taken; whoever asks may go away meanwhile.

The grace is counted while the switch serves, by a clock that nobody sets: members that are away
have that long to come, whatever the date was said to be, and however long the switch was down.

Error contract: `RefusedError` for what cannot be done now or needs `force`; `VswitchError` for what
could not be written, and then all is as it was.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import trio
from attrs import evolve

from vswitch.clocks import utc
from vswitch.errors import ConfigError, RefusedError, VswitchError
from vswitch.logs import event
from vswitch.management.status import RekeyMember, RekeyStatus
from vswitch.registry.registry import Registry
from vswitch.registry.rules import MAX_GRACE
from vswitch.serving.networks import Networks
from vswitch.serving.reload import Reloader
from vswitch.serving.switch_keys import SwitchKeys, forget_old, replace
from vswitch.state import DEFAULT_NETWORK, StateDir

_LOOK: Final = 600.0  # seconds after which is written down what is left; a crash gives back as much
_NAMED: Final = 20  # members, in a sentence

log = logging.getLogger(__name__)


class Rekeying:
    """Implements `vswitch.management.handlers.common.Rekeyable`."""

    def __init__(self, files: StateDir, networks: Networks, reloader: Reloader) -> None:
        self._files = files
        self._networks = networks
        self._reloader = reloader
        self._changed = trio.Event()
        self._counted = trio.current_time()  # when the grace had left what it says

    @property
    def keys(self) -> SwitchKeys:
        """Those in force."""
        return self._networks.keys

    async def status(self) -> RekeyStatus:
        """The keys, and while there are two who has not moved."""
        keys = self.keys
        if keys.grace is None or keys.old is None:
            return RekeyStatus(key=keys.public.fingerprint())
        moved = {
            connected.member.key
            for network in self._networks.running.values()
            for connected in network.reception.connected.values()
            if connected.switch_key == keys.public
        }
        waiting, invites = await trio.to_thread.run_sync(self._waiting, keys, moved)
        return RekeyStatus(
            key=keys.public.fingerprint(),
            old_key=keys.grace.old.fingerprint(),
            since=keys.grace.since,
            until=time.time() + max(0.0, self._left),
            waiting=waiting,
            invites=invites,
        )

    async def begin(self, seconds: float, *, force: bool = False) -> RekeyStatus:
        """Have a new key, and the old one for so long beside it. Without a grace all members are
        cut off, which needs `force`.
        """
        if not math.isfinite(seconds) or not 0 <= seconds <= MAX_GRACE:
            raise ConfigError(f"grace: 0 to {MAX_GRACE / 86400:.0f} days")
        async with self._changing():
            keys = self.keys
            if keys.old is not None:
                raise RefusedError(
                    "the switch has a new key already, and members are moving to it: see `vswitch "
                    "rekey --status`; `vswitch rekey --finish` ends that"
                )
            if not seconds and not force:
                everybody = [
                    _named(name, member.name)
                    for name, network in self._networks.running.items()
                    for member in await trio.to_thread.run_sync(network.registry.current)
                ]
                if everybody:
                    raise RefusedError(
                        f"without a grace all members are cut off until they join with a new "
                        f"invite ({_listed(everybody)}): give --force"
                    )
            now = time.time()
            new = await trio.to_thread.run_sync(
                replace, keys, self._files, self._registries[DEFAULT_NETWORK], now, seconds
            )
            await self._go_by(new)
            if not seconds:
                await self._cancel_invites(now)
            until = "none" if new.grace is None else utc(now + seconds, "%Y-%m-%d %H:%M UTC")
            said = {"key": new.public.fingerprint(), "old": keys.public.fingerprint()}
            event(log, "switch-rekeyed", logging.WARNING, None, **said, until=until)
            self._note("switch-rekeyed", **said, until=until)
        return await self.status()

    async def finish(self, *, force: bool = False) -> RekeyStatus:
        """Have the old key no more. Who has not moved is cut off, which needs `force`."""
        async with self._changing():
            await self._finish(force=force)
        return await self.status()

    async def _finish(self, *, force: bool) -> None:
        keys, grace = self.keys, self.keys.grace
        if grace is None:
            raise RefusedError("the switch has one key: there is nothing to finish")
        told = await self.status()
        names = [_named(each.network, each.name) for each in told.waiting]
        if told.invites:
            names.append(f"who has one of {told.invites} invites from before")
        if names and not force:
            raise RefusedError(
                f"who has not moved to the new key is cut off until a new invite (`vswitch "
                f"invite NAME --again`): {_listed(names)}: give --force, or wait for them"
            )
        new = await trio.to_thread.run_sync(forget_old, keys, self._files)
        await self._go_by(new)
        await self._cancel_invites(grace.since)
        said = {"key": grace.old.fingerprint(), "cut_off": _listed(names) or "none"}
        event(log, "switch-key-forgotten", logging.WARNING, None, **said)
        self._note("switch-key-forgotten", **said)

    async def run(self) -> None:
        """Count the grace, and finish at its end; until cancelled."""
        try:
            while True:
                wait = _LOOK
                try:
                    async with self._changing():
                        await self._count()
                        if self._left <= 0:
                            await self._finish(force=True)
                except VswitchError as error:
                    event(log, "switch-key-not-forgotten", logging.ERROR, error=error)
                else:
                    wait = min(wait, self._left)
                self._changed = trio.Event()
                with trio.move_on_after(wait):
                    await self._changed.wait()
        finally:
            with trio.CancelScope(shield=True):
                async with self._changing():
                    await self._count()

    async def _count(self) -> None:
        """Write down how much of the grace is left, which no clock that is set has a part in."""
        keys = self.keys
        if keys.grace is not None:
            await self._go_by(evolve(keys, grace=evolve(keys.grace, left=max(0.0, self._left))))

    @property
    def _left(self) -> float:
        """Seconds until the end of the grace."""
        grace = self.keys.grace
        return math.inf if grace is None else grace.left - (trio.current_time() - self._counted)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        async with self._reloader.changing:
            with trio.CancelScope(shield=True):  # a moment: what is begun is done to its end
                yield

    async def _go_by(self, keys: SwitchKeys) -> None:
        self._counted = trio.current_time()
        await self._networks.go_by(keys, self._reloader.configuration.config)
        self._changed.set()

    @property
    def _registries(self) -> dict[str, Registry]:
        return {name: each.registry for name, each in self._networks.running.items()}

    def _waiting(self, keys: SwitchKeys, moved: set[bytes]) -> tuple[list[RekeyMember], int]:
        """In a thread: who has not moved, and how many invites name the old key."""
        grace, new, now = keys.grace, keys.public.raw, time.time()
        assert grace is not None
        waiting, invites = [], 0
        for name, registry in self._registries.items():
            waiting += [
                RekeyMember(network=name, name=each.name, last_seen=each.last_seen)
                for each in registry.current()
                if each.switch_key != new and each.key not in moved
            ]
            invites += sum(map(grace.names_old, registry.open_invites(now)))
        return sorted(waiting, key=lambda each: (each.network, each.name)), invites

    async def _cancel_invites(self, before: float) -> None:
        for registry in self._registries.values():
            try:
                await trio.to_thread.run_sync(registry.cancel_invites, before)
            except VswitchError as error:  # they are of no use to anybody
                event(log, "registry-failed", logging.ERROR, error=error)

    def _note(self, kind: str, **facts: str) -> None:
        """For `vswitch events`."""
        for network in self._networks.running.values():
            network.switch.events.add(kind, "", now=trio.current_time(), **facts)


def _named(network: str, name: str) -> str:
    return name if network == DEFAULT_NETWORK else f"{name} of network {network}"


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = len(found) - _NAMED
    return ", ".join(found[:_NAMED]) + (f" and {more} more" if more > 0 else "")
