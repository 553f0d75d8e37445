"""A join on a network in memory, and a switch that is a script: it says to each session what the
test wants, so that it can also say what no real one does. Every test here asks for
`autojump_clock`: time is the network's."""

from contextlib import asynccontextmanager

import pytest
import trio

from transport import Grant, PrivateKey, open_endpoint
from transport.testing.network import Link, open_network
from vswitch.addresses import HostPort
from vswitch.config.options import JoinConfig
from vswitch.devices.host_interface import Way
from vswitch.joining import reach
from vswitch.joining.host_link import HostLink
from vswitch.joining.member import Member
from vswitch.joining.profiles import Profile
from vswitch.members.device import MemberDevice
from vswitch.state import StateDir
from vswitch.testing import FakeInterface

SERVER = ("198.51.100.1", 7450)


class Anyone:
    def look_up(self, peer, credential):
        return Grant()


class Stage:
    """A member, the network, and a switch that follows a script."""

    def __init__(self, network, path):
        self.network = network
        self.sessions = []  # when each began
        self.files = StateDir(path)
        self.identity = PrivateKey.generate()
        self.interface = FakeInterface()
        self.way = Way("eth0", 2, "192.0.2.254", "192.0.2.1")  # to wherever
        key, where = PrivateKey.generate(), (HostPort(*SERVER),)
        self.profile = Profile(
            "pc1", where, self.identity.public, key, self.files, network="10.77.0.0/24"
        )

    def socket(self, bind):
        sock = self.network.socket("192.0.2.1")
        sock.can_reach = lambda host: True
        sock.to_native = lambda host, port: (host, port)
        return sock

    @asynccontextmanager
    async def serving(self, script):
        """`script(device)` is run for each session; when it returns, the session ends."""

        async def handle(channel):
            self.sessions.append(trio.current_time())
            device = MemberDevice(channel, name="pc1", mtu=9000)
            device.channel = channel
            await script(device)

        sock = self.network.socket(*SERVER)
        async with open_endpoint(sock, self.identity, authority=Anyone()) as endpoint:
            async with trio.open_nursery() as nursery:
                await nursery.start(endpoint.serve, handle)
                yield endpoint
                nursery.cancel_scope.cancel()

    def member(self, *, run_pipe=None, **options):
        config = JoinConfig(name="pc1", state=self.files.path, **options)
        link = HostLink(config, SERVER[0], self.interface)
        return Member(config, self.profile, link, self.look, run_pipe)

    async def look(self, hosts):
        await trio.lowlevel.checkpoint()
        if isinstance(self.way, Exception):
            raise self.way
        return dict.fromkeys(hosts, self.way)

    async def run_once(self):
        """The error of a join that gives up at the first failure."""
        with trio.fail_after(1000), pytest.raises(Exception) as caught:
            await self.member(once=True).run()
        return caught.value


@pytest.fixture
async def stage(tmp_path, monkeypatch):
    async def resolve(host, port):
        await trio.lowlevel.checkpoint()
        return [(host, port)]

    async with open_network(seed=3, link=Link(delay=0.01)) as network:
        stage = Stage(network, tmp_path)
        monkeypatch.setattr(reach, "_open_socket", stage.socket)
        monkeypatch.setattr(reach, "resolve", resolve)
        yield stage
