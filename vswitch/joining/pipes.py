"""The pipes of a member: HTTPS paths to its switch, opened when they are needed.

What carries one is a `RunPipe`: a task that opens it, adds it to the endpoint, and runs until it is
over. Invariants: one is opened at a time; all end with the context.

Error contract: `NotReachable` with a reason for each address that was tried.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import trio

from transport import Address, Endpoint, PublicKey
from vswitch.errors import ConfigError, NotReachable
from vswitch.web.client import Proxy
from vswitch.web.links import link_path, open_link

OPEN_PATIENCE: Final = 5.0  # seconds for one address: TCP, a proxy, TLS and the upgrade


class RunPipe(Protocol):
    """Carries a pipe to the switch behind `url`.

    Started, with its address at the endpoint, when datagrams can pass; returns when it is over.
    `NotReachable` with the reason where it does not come to that.
    """

    async def __call__(
        self, endpoint: Endpoint, url: str, *, task_status: trio.TaskStatus[Address]
    ) -> None: ...


class OpenPipes:
    """Those of one endpoint. Made by `open_pipes`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        endpoint: Endpoint,
        urls: Sequence[str],
        run_pipe: RunPipe | None,
    ) -> None:
        self._nursery = nursery
        self._endpoint = endpoint
        self._urls = urls
        self._run_pipe = run_pipe
        self._address: Address | None = None  # of the one that was opened last, while it is there
        self._opening = trio.Lock()
        self._failures: list[str] = []  # of the last attempt

    @property
    def said(self) -> str:
        """Why the last attempt has failed, to be put behind another reason; "" if it has not."""
        return "".join(f"; {each}" for each in self._failures)

    async def open(self, *, but: Collection[Address] = ()) -> Address:
        """The address of a pipe: the one that is open, unless it is in `but`, or a new one."""
        async with self._opening:
            if self._address is not None and self._address not in but:
                return self._address
            self._failures = []
            for url in self._urls:
                reason: object = f"no answer within {OPEN_PATIENCE:g} s"
                with trio.move_on_after(OPEN_PATIENCE):
                    try:
                        self._address = await self._nursery.start(self._run, url)
                        return self._address
                    except NotReachable as error:
                        reason = error
                self._failures.append(f"{url}: {reason}")
            raise NotReachable("; ".join(self._failures))

    async def _run(self, url: str, *, task_status: trio.TaskStatus[Address]) -> None:
        assert self._run_pipe is not None  # the policy sees to it
        own = _Kept(task_status)
        try:
            await self._run_pipe(self._endpoint, url, task_status=own)
        except NotReachable:
            if own.address is None:  # else it has only ended
                raise
        finally:
            if self._address == own.address:
                self._address = None


class _Kept(trio.TaskStatus[Address]):
    """Passes a task's value on, and keeps it."""

    def __init__(self, task_status: trio.TaskStatus[Address]) -> None:
        self._task_status = task_status
        self.address: Address | None = None

    def started(self, value: Address | None = None) -> None:
        self.address = value
        assert value is not None
        self._task_status.started(value)


@asynccontextmanager
async def open_pipes(
    endpoint: Endpoint, urls: Sequence[str], run_pipe: RunPipe | None
) -> AsyncIterator[OpenPipes]:
    """Pipes to a switch behind any of `urls`, until the context ends."""
    async with trio.open_nursery() as nursery:
        yield OpenPipes(nursery, endpoint, urls, run_pipe)
        nursery.cancel_scope.cancel()


def over_https(
    proxy_for: Callable[[str], Proxy | None], switch_key: Callable[[], PublicKey]
) -> RunPipe:
    """Pipes that are WebSockets, of the switch that has this public key then; `proxy_for` says what
    an address is reached through.
    """

    async def run(endpoint: Endpoint, url: str, *, task_status: trio.TaskStatus[Address]) -> None:
        try:
            proxy = proxy_for(url)
            path = link_path(switch_key().raw)
            async with open_link(endpoint, f"{url}{path}", proxy=proxy) as (address, over):
                task_status.started(address)
                await over.wait()
        except (OSError, ConfigError) as error:
            raise NotReachable(str(error)) from None

    return run
