"""A switch host in memory: everything of `serve` but the socket, with a real registry, and guests
that say whatever a test likes."""

from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Network

import attrs
import pytest
import trio

from transport import (
    ChannelBroken,
    Credential,
    CredentialKind,
    Peer,
    PrivateKey,
    open_endpoint,
)
from transport.testing.network import Network, open_network
from vswitch.frames.records import RecordSplitter, is_control
from vswitch.members.protocol import Bye, ByeCode, decode_control_untrusted, encode_control
from vswitch.registry.registry import Registry
from vswitch.serving.authority import RegistryAuthority
from vswitch.serving.reception import Reception
from vswitch.switch.switch import Switch, open_switch

SERVER = ("198.51.100.1", 7450)


class Guest:
    """The far end of a session, which says whatever the test likes."""

    def __init__(self, channel):
        self.channel = channel
        self.splitter = RecordSplitter()
        self.heard = []  # records

    def say(self, *parts):
        data = [encode_control(part) if attrs.has(type(part)) else part for part in parts]
        self.channel.bulk.send_nowait([b"".join(data)])

    async def hear(self):
        """The next control message."""
        while True:
            for index, each in enumerate(self.heard):
                if is_control(each):
                    return decode_control_untrusted(self.heard.pop(index))
            self.heard += self.splitter.feed_untrusted(b"".join(await self.channel.receive()))

    async def end(self):
        """How the session ends; with it, all that was said before."""
        try:
            with trio.fail_after(20):
                while True:
                    data = b"".join(await self.channel.receive())
                    self.heard += self.splitter.feed_untrusted(data)
        except ChannelBroken as broken:
            return broken

    async def refusal(self):
        """The goodbye of the switch, which comes before the end."""
        broken = await self.end()
        (bye,) = [decode_control_untrusted(each) for each in self.heard if is_control(each)]
        assert isinstance(bye, Bye)
        assert broken.code == bye.code
        return ByeCode(bye.code), bye.reason


@attrs.frozen
class House:
    """A switch host: everything of `serve` but the real socket."""

    network: Network
    registry: Registry
    switch: Switch
    reception: Reception
    identity: PrivateKey
    keys: dict = attrs.field(factory=dict)  # of members, by name

    def member(self, name):
        key = PrivateKey.generate()
        self.registry.enrol_local(key.public.raw, name, 0.0)
        return key

    @asynccontextmanager
    async def visit(self, key, host="192.0.2.1", *, invite=None, patience=10.0):
        """A session with the switch, and nothing said yet."""
        async with open_endpoint(self.network.socket(host), key) as endpoint:
            peer = Peer(self.identity.public)
            if invite is not None:
                credential = Credential(CredentialKind.TOKEN, invite.id)
                peer = Peer(self.identity.public, credential, invite.psk)
            channel = await endpoint.connect(peer, [SERVER], patience=patience)
            yield Guest(channel)

    async def plugged(self, count=1):
        with trio.fail_after(20):
            while len(self.reception.connected) != count:  # noqa: ASYNC110 (threads are involved)
                await trio.sleep(0.002)


@pytest.fixture
async def house(tmp_path):
    identity = PrivateKey.generate()
    registry = Registry.open(tmp_path / "registry.sqlite")
    authority = RegistryAuthority({"default": registry})
    async with (
        open_network(seed=1) as network,
        open_endpoint(network.socket(*SERVER), identity, authority=authority) as endpoint,
        open_switch(max_ports=3) as switch,
        trio.open_nursery() as nursery,
    ):
        reception = Reception(
            registry, switch, IPv4Network("10.77.0.0/24"), IPv6Network("fd77::/64")
        )
        authority.on_revoked = reception.look_soon
        nursery.start_soon(reception.gateways.run)
        await nursery.start(endpoint.serve, reception.receive)
        yield House(network, registry, switch, reception, identity)
        nursery.cancel_scope.cancel()
    registry.close()
