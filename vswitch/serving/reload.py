"""Another configuration for a `serve` that runs: applied whole, or refused and nothing changes.

What stays the same is left alone, with its sockets, connections and sessions. A change that cannot
be applied in full (a port in use, for one) is taken back. One at a time; whoever asks may go away
meanwhile, and the change goes on.

Error contract: `ConfigError` for what is wrong or needs a restart, `VswitchError` for what could
not be had; then all is as it was. `on_signal` raises nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import trio

from vswitch.config.document import OPTION, Key, Overlay, differences, spelled, written
from vswitch.errors import ConfigError, VswitchError
from vswitch.logs import event, set_level
from vswitch.management.answers import ConfigSetting, ConfigState, Configured
from vswitch.management.handlers.config import told
from vswitch.serving.configuration import Configuration, check_restart
from vswitch.serving.networks import Networks
from vswitch.state import DEFAULT_NETWORK, write_file

log = logging.getLogger(__name__)


class Reloader:
    """The configuration in force. Implements `vswitch.management.handlers.common.Reloadable`."""

    def __init__(self, configuration: Configuration, networks: Networks) -> None:
        self.configuration = configuration
        self._networks = networks
        self.changing = trio.Lock()  # also while the networks begin, whose sockets answer soon

    async def on_signal(self) -> None:
        """SIGHUP: read the files again; what comes of it is in the log."""
        try:
            await self.reload()
        except VswitchError:
            pass  # `_change` has logged it

    async def reload(self, *, revert: bool = False) -> Configured:
        """Read the files again. `revert` takes back what was changed live, too."""

        def read() -> Configuration:
            now = self.configuration
            return (now.evolve(live=Overlay()) if revert else now).again()

        return await self._change(read, keep=False)

    async def replace(self, tables: Mapping[str, Any]) -> Configured:
        """Go by these tables, and keep that."""

        def sent() -> Configuration:
            return self.configuration.with_all(tables)

        return await self._change(sent, keep=True, wrong=logging.WARNING)

    async def save(self) -> Configured:
        """Keep what was changed live."""

        def kept() -> Configuration:
            now = self.configuration
            return now.evolve(saved=now.saved.also(now.live), live=Overlay())

        return await self._change(kept, keep=True)

    async def note(self, network: str, said: Mapping[Key, Any], *, save: bool) -> None:
        """Something of a network was changed live; None was taken away. `save` keeps that."""
        before = () if network == DEFAULT_NETWORK else ("network", network)
        values = {(*before, *key): value for key, value in said.items() if value is not None}
        removed = {(*before, *key) for key, value in said.items() if value is None}
        change = Overlay(values, frozenset(removed))
        async with self.changing:
            now = self.configuration
            try:
                new = await trio.to_thread.run_sync(partial(now.evolve, live=now.live.also(change)))
                self.configuration = new  # which it stays where it cannot be kept
                if save:
                    saved, live = now.saved.also(change), _without(now.live, change)
                    new = await trio.to_thread.run_sync(partial(now.evolve, saved=saved, live=live))
                    await trio.to_thread.run_sync(_write, new)
            except VswitchError as error:
                keys = ", ".join(spelled(key) for key in (*values, *removed))
                raise VswitchError(f"{keys}: in force, but not kept: {error}") from None
            self.configuration = new

    def whole(self) -> dict[str, Any]:
        """All tables, as they are in force, but for flags and variables."""
        return self.configuration.tables

    def state(self) -> ConfigState:
        """All that is said, by whom."""
        now = self.configuration
        flat, options = now.flat, now.options()
        said = {key: (flat[key], source) for key, source in now.sources().items()}
        said |= {key: (written(value), OPTION) for key, value in options.items()}
        return ConfigState(
            file=None if now.began.config is None else str(now.began.config),
            saved_file=str(now.began.files.saved),
            settings=[
                ConfigSetting(key=list(key), value=value, source=source)
                for key, (value, source) in said.items()
            ],
        )

    def source(self, network: str, key: Key) -> str:
        """Who says it: `file`, `saved` or `live`; "" for nobody."""
        before = () if network == DEFAULT_NETWORK else ("network", network)
        return self.configuration.sources().get((*before, *key), "")

    async def compare(self) -> Configured:
        """What differs: the file as it is now from what is in force, saved, and live."""
        now = self.configuration
        new = await trio.to_thread.run_sync(now.again)
        pending = differences(now.flat, new.flat)
        try:
            check_restart(now, new)
            problem = None
        except ConfigError as error:
            problem = str(error)
        return Configured(
            changes=told(pending),
            unsaved=told(now.unsaved()),
            saved=told(now.kept()),
            problem=problem,
        )

    async def _change(
        self, make: Callable[[], Configuration], *, keep: bool, wrong: int = logging.ERROR
    ) -> Configured:
        """In a task of the switch, so that it is done whoever asks. `wrong` is the level of what is
        wrong: of files, it would keep the next start out; of what a client has sent, nothing stays.
        """
        done: list[Configured] = []
        failed: list[VswitchError] = []
        ready = trio.Event()

        async def run() -> None:
            try:
                async with self.changing:
                    new = await trio.to_thread.run_sync(make)
                    done.append(await self._go_by(new, keep=keep))
            except VswitchError as error:
                level = wrong if isinstance(error, ConfigError) else logging.ERROR
                for line in str(error).splitlines():
                    event(log, "reload-refused", level, reason=line)
                failed.append(error)
            except Exception:
                log.exception("reload-failed")
                failed.append(VswitchError("by a fault of vswitch: its log says which"))
            finally:
                ready.set()

        self._networks.nursery.start_soon(run)
        await ready.wait()
        if failed:
            raise failed[0]
        if not done:
            raise VswitchError("the switch is stopping")
        return done[0]

    async def _go_by(self, new: Configuration, *, keep: bool) -> Configured:
        old = self.configuration
        check_restart(old, new)
        begun: list[str] = []
        try:
            await self._apply(new, begun)
            if keep:
                await trio.to_thread.run_sync(_write, new)
        except Exception:
            for name in begun:
                await self._networks.end(name)
            await self._apply(old, [])
            raise
        for name in old.plans.keys() - new.plans.keys():
            await self._networks.end(name)
        if new.given is not None and new.config.log_level != old.config.log_level:
            set_level(new.config.log_level)
        self.configuration = new
        changes = differences(old.flat, new.flat)
        said = ",".join(spelled(each.key) for each in changes)
        event(log, "reloaded", changes=said or "none", count=len(changes))
        return Configured(
            changes=told(changes), unsaved=told(new.unsaved()), saved=told(new.kept())
        )

    async def _apply(self, new: Configuration, begun: list[str]) -> None:
        """All but the end of networks that are no more, which cannot be taken back. What one gives
        up is free before another one takes it.
        """
        networks = self._networks
        for name, network in networks.running.items():
            await network.release(new.plans.get(name))
        for name, plan in new.plans.items():
            if name in networks.running:
                await networks.running[name].go_by(plan)
            else:
                await networks.begin(new.config, plan)
                begun.append(name)
        await networks.serve_as(new.config)


def _without(live: Overlay, kept: Overlay) -> Overlay:
    """What is still live, once that is kept."""
    keys = kept.values.keys() | kept.removed
    values = {key: value for key, value in live.values.items() if key not in keys}
    return Overlay(values, live.removed - keys)


def _write(configuration: Configuration) -> None:
    configuration.began.files.ensure()
    write_file(configuration.began.files.saved, configuration.saved_text.encode())
