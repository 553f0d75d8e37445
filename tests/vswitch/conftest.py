"""A switch and its members in one process: the real `serve`, the real `join`, real UDP on
127.0.0.1, and interfaces whose kernel is the test."""

import time
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from transport import load_key_file
from vswitch.addresses import HostPort
from vswitch.config.options import JoinConfig, ServeConfig
from vswitch.joining.member import join
from vswitch.management.client import request
from vswitch.management.status import JoinStatus, SwitchStatus, from_json
from vswitch.members.protocol import Welcome
from vswitch.registry.invite import JoinString
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Invite
from vswitch.runtime import single_error
from vswitch.serving.server import Serving, serve
from vswitch.state import StateDir, write_file
from vswitch.testing import FakeInterface

DEADLINE = 20  # seconds: far beyond what anything here takes on a loaded machine


async def wait_until(condition):
    """Until something holds that sockets and threads bring about."""
    with trio.fail_after(DEADLINE):
        while not condition():  # noqa: ASYNC110 (sockets and threads set no event)
            await trio.sleep(0.005)


async def ask(path, verb):
    return await trio.to_thread.run_sync(request, path, verb)


@attrs.define(eq=False)
class Joined:
    """A `join` that runs. `error` is what it ended with."""

    config: JoinConfig
    interface: FakeInterface
    welcome: Welcome | None = None
    error: Exception | None = None
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    ended: trio.Event = attrs.Factory(trio.Event)

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        with self.scope:
            try:
                opener = self.interface.open
                await join(self.config, open_interface=opener, task_status=task_status)
            except Exception as error:
                self.error = error
            finally:
                self.ended.set()

    async def status(self):
        path = self.config.files.join_socket(self.config.name)
        return from_json(await ask(path, "status"), JoinStatus)

    async def wait_ended(self):
        """The error that it ends with by itself."""
        with trio.fail_after(DEADLINE):
            await self.ended.wait()
        return self.error


@attrs.define(eq=False)
class Served:
    """A `serve` that runs, and can be stopped while members stay."""

    running: Serving
    scope: trio.CancelScope
    ended: trio.Event

    async def stop(self):
        self.scope.cancel()
        with trio.fail_after(DEADLINE):
            await self.ended.wait()


class Site:
    """State directories, and what runs on them."""

    def __init__(self, path):
        self.path = path
        self.files = StateDir(path / "switch")

    def serve_config(self, **options):
        """Without services of the switch, which would be one port more, unless there is a file."""
        options.setdefault("listen", "127.0.0.1:0")
        if "config" not in options:
            self.path.mkdir(parents=True, exist_ok=True)
            options["config"] = self.path / "no-services.toml"
            options["config"].write_text("[names]\nenabled = false\n")
        return ServeConfig(state=self.files.path, **options)

    def join_config(self, name, *, host=None, **options):
        return JoinConfig(name=name, state=self.path / (host or name), **options)

    def registry(self, network="default"):
        return Registry.open(self.files.network(network).registry, create=False)

    def invite(self, name, listen, *, network="default", expires=3600.0, again=False):
        """A join string, made as `vswitch invite` does."""
        key = load_key_file(self.files.server_key).public
        string = JoinString.new(key, HostPort(listen.host, listen.port))
        now = time.time()
        with self.registry(network) as registry:
            invite = Invite(string.token_id, string.psk, name, now, now + expires)
            registry.add_invite(invite, again=again)
        return string.encode()

    @asynccontextmanager
    async def serving(self, **options):
        """A switch; it stops at the end of the context."""
        with single_error():
            async with trio.open_nursery() as nursery:
                yield await nursery.start(serve, self.serve_config(**options))
                nursery.cancel_scope.cancel()

    async def start_serving(self, nursery, **options):
        """A switch in the background."""
        ended = trio.Event()

        async def run(task_status):
            with trio.CancelScope() as scope:
                async with self.serving(**options) as running:
                    task_status.started(Served(running, scope, ended))
                    await trio.sleep_forever()
            ended.set()

        return await nursery.start(run)

    @asynccontextmanager
    async def starting(self, name, *, interface=None, **options):
        """A join that may not be plugged in yet; it stops at the end of the context."""
        member = Joined(self.join_config(name, **options), interface or FakeInterface())
        with single_error():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(member.run)
                yield member
                member.scope.cancel()

    @asynccontextmanager
    async def joined(self, name, running, *, interface=None, **options):
        """A member that is plugged in; it leaves at the end of the context.

        It gets an invite to the switch that `running` is, if that is not None.
        """
        if running is not None:
            options["invite"] = self.invite(name, running.listen)
        member = Joined(self.join_config(name, **options), interface or FakeInterface())
        with single_error():
            async with trio.open_nursery() as nursery:
                with trio.fail_after(DEADLINE):
                    member.welcome = await nursery.start(member.run)
                yield member
                member.scope.cancel()

    def copy_member(self, name, host):
        """Another host gets the key and the profile of a member."""
        files, copy = StateDir(self.path / name), StateDir(self.path / host)
        copy.ensure()
        for path in (files.key(name), files.profile(name)):
            write_file(copy.members / path.name, path.read_bytes())

    async def failing(self, name, **options):
        """The error that a join ends with."""
        async with self.starting(name, **options) as member:
            return await member.wait_ended()

    async def status(self, network="default"):
        """What the switch says about itself."""
        path = self.files.network(network).control_socket
        return from_json(await ask(path, "status"), SwitchStatus)

    async def revoke(self, name, network="default"):
        """As `vswitch revoke` does: write it down, then tell the switch."""
        with self.registry(network) as registry:
            registry.revoke(name, time.time())
        path = self.files.network(network).control_socket
        return (await ask(path, "revoked"))["disconnected"]


@pytest.fixture
def site(tmp_path, monkeypatch):
    # An endpoint that ends waits until it has said goodbye three times; nothing is lost here.
    monkeypatch.setattr("transport.endpoint.endpoint.CLOSE_REPEATS", (0.0,))
    return Site(tmp_path)


@pytest.fixture
def until():
    return wait_until
