"""What a switch says of routes, and what becomes of it at the interface of a member."""

import contextlib
from ipaddress import ip_address, ip_network

import attrs
import trio

from transport import ChannelBroken
from vswitch.devices.host_interface import HostFacts
from vswitch.devices.routing import NOTHING, Route
from vswitch.errors import PrivilegeError
from vswitch.joining import reach
from vswitch.members.protocol import Update, Welcome, encode_control

WELCOME = Welcome(
    name="pc1",
    port=1,
    address="10.77.0.2/24",
    network="10.77.0.0/24",
    address6="fd77::2/64",
    gateways=["192.168.2.0/24 via 10.77.0.3 gw", "fd12::/32 via fd77::3 gw"],
)
HOST = HostFacts(
    addresses=frozenset(map(ip_address, ("192.168.1.77", "127.0.0.1", "fe80::1"))),
    gateways=frozenset({ip_address("192.168.1.1")}),
    resolvers=frozenset(map(ip_address, ("192.168.1.53", "127.0.0.53"))),
    networks=frozenset({ip_network("192.168.1.0/24")}),
    ipv6=True,
)
FOUR = Route("192.168.2.0/24", "10.77.0.3", "10.77.0.2")
SIX = Route("fd12::/32", "fd77::3", "fd77::2")
OUT = ("0.0.0.0/0 via 10.77.0.3 gw", "::/0 via fd77::3 gw")


class Speaker:
    """A switch that says the welcome, and then what the test wants."""

    def __init__(self, welcome=WELCOME):
        self.welcome, self.device = welcome, None

    async def __call__(self, device):
        self.device = device
        self.say(self.welcome)
        with contextlib.suppress(ChannelBroken):
            while True:
                await device.wait_readable()
                with contextlib.suppress(trio.WouldBlock):
                    device.read_nowait(64)

    def say(self, *messages):
        self.device.channel.bulk.send_nowait([b"".join(map(encode_control, messages))])


@contextlib.asynccontextmanager
async def joined(stage, speaker, **options):
    stage.interface.host = HOST
    member = stage.member(**options)
    async with stage.serving(speaker), trio.open_nursery() as nursery:
        nursery.start_soon(member.run)
        await trio.sleep(5)
        yield member
        nursery.cancel_scope.cancel()


async def test_nothing_is_taken_that_was_not_asked_for(autojump_clock, stage):
    welcome = attrs.evolve(WELCOME, gateways=[*WELCOME.gateways, *OUT])
    async with joined(stage, Speaker(welcome)) as member:
        status = await member.status({})
    assert stage.interface.routing == NOTHING
    assert (status["routes"], status["exit_node"]) == ({}, None)
    assert status["routes_refused"].keys() == {"192.168.2.0/24", "fd12::/32"}


async def test_routes_follow_what_the_switch_says(autojump_clock, stage):
    speaker, accept = Speaker(), {"accept_routes": "private"}
    async with joined(stage, speaker, **accept) as member:
        assert stage.interface.routing.routes == {FOUR, SIX}
        assert stage.interface.routing.address6 == "fd77::2/64"
        status = await member.status({})
        assert status["routes"]["192.168.2.0/24"] == "gw via 10.77.0.3"
        speaker.say(Update(mtu=1400))
        await trio.sleep(1)
        assert stage.interface.routing.routes == {FOUR, SIX}
        speaker.say(Update(gateways=WELCOME.gateways[:1]))
        await trio.sleep(1)
        assert stage.interface.routing.routes == {FOUR}
        assert stage.interface.routing.address6 is None
        speaker.say(Update(gateways=[]))
        await trio.sleep(1)
        assert stage.interface.routing == NOTHING


class Resolver:
    """What a session tells of the switch's names."""

    servers = frozenset()
    shown = None

    def __init__(self):
        self.offered, self.told = [], []

    async def offer(self, servers, domain, address):
        await trio.lowlevel.checkpoint()
        self.offered.append((servers, domain, address))

    async def reached(self, there):
        await trio.lowlevel.checkpoint()
        if self.told[-1:] != [there]:
            self.told.append(there)

    async def follow(self, peers):
        await trio.sleep_forever()


async def test_another_name_server_or_domain_reaches_the_resolver(autojump_clock, stage):
    speaker = Speaker(attrs.evolve(WELCOME, names=["10.77.0.1"], domain="lan"))
    here = WELCOME.address
    stage.interface.host = HOST
    member = stage.member()
    member._link.resolver = resolver = Resolver()
    async with stage.serving(speaker), trio.open_nursery() as nursery:
        nursery.start_soon(member.run)
        await trio.sleep(5)
        for update in (
            Update(names=["10.77.0.1"], domain="home"),
            Update(mtu=1400),
            Update(names=[], domain=""),
        ):
            speaker.say(update)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert resolver.offered == [
        (("10.77.0.1",), "lan", here),
        (("10.77.0.1",), "home", here),
        (("10.77.0.1",), "home", here),
        ((), "", here),
    ]


async def test_the_resolver_is_told_whether_the_switch_can_be_asked(autojump_clock, stage):
    stage.interface.host = HOST
    member = stage.member()
    member._link.resolver = resolver = Resolver()
    async with trio.open_nursery() as nursery:
        async with stage.serving(Speaker()):
            nursery.start_soon(member.run)
            await trio.sleep(5)
            assert resolver.told == [True]
            stage.network.link.up = False
            await trio.sleep(40)
            assert resolver.told == [True, False]  # it is silent; the session is not over
            stage.network.link.up = True
            await trio.sleep(20)
            assert resolver.told == [True, False, True]
        await trio.sleep(5)
        assert resolver.told == [True, False, True, False]  # the session is
        async with stage.serving(Speaker()):
            await trio.sleep(60)
            assert resolver.told[-1]
            nursery.cancel_scope.cancel()


async def test_a_host_that_comes_into_the_network_reaches_it_by_itself(autojump_clock, stage):
    async with joined(stage, Speaker(), accept_routes="private") as member:
        networks = HOST.networks | {ip_network("192.168.2.0/24")}
        stage.interface.host = attrs.evolve(HOST, networks=networks)
        await member.network_changed()
        assert stage.interface.routing.routes == {SIX}
        assert "another way" in (await member.status({}))["routes_refused"]["192.168.2.0/24"]
        stage.interface.host = HOST
        await member.network_changed()
        assert stage.interface.routing.routes == {FOUR, SIX}


async def test_the_way_out_pins_the_switch_and_name_servers(autojump_clock, stage):
    welcome = attrs.evolve(WELCOME, gateways=OUT)
    speaker = Speaker(welcome)
    async with joined(stage, speaker, exit_node="gw") as member:
        out = stage.interface.routing.out
        assert {route.network for route in out.routes} == {"0.0.0.0/0", "::/0"}
        assert out.pinned == {"198.51.100.1", "192.168.1.53"}
        assert out.sources == {"192.168.1.77"}
        assert (await member.status({}))["exit_node"] == "gw via 10.77.0.3, fd77::3"
        # One that offers IPv4 alone leaves IPv6 no other way, and one that goes leaves nothing one.
        for gateways in (OUT[:1], ()):
            speaker.say(Update(gateways=gateways))
            await trio.sleep(1)
            assert len(stage.interface.routing.out.routes) == len(gateways)
        assert "nothing leaves" in (await member.status({}))["exit_node"]


async def test_other_wishes_hold_at_once(autojump_clock, stage):
    speaker = Speaker(attrs.evolve(WELCOME, gateways=[*WELCOME.gateways, *OUT]))
    async with joined(stage, speaker) as member:
        none = member._config
        wished = attrs.evolve(none, accept_routes="private", exit_node="gw")
        await member.go_by(wished)
        assert stage.interface.routing.routes == {FOUR, SIX}
        assert len(stage.interface.routing.out.routes) == 2
        # A member that is none leaves nothing another way; no wish leaves all as before.
        await member.go_by(attrs.evolve(wished, exit_node="other"))
        assert stage.interface.routing.out.routes == set()
        await member.go_by(none)
        assert stage.interface.routing == NOTHING
        assert (await member.status({}))["exit_node"] is None
        assert len(stage.sessions) == 1


async def test_a_way_out_that_the_kernel_does_not_give_up_is_told_and_tried_again(
    autojump_clock, stage
):
    speaker = Speaker(attrs.evolve(WELCOME, gateways=OUT))
    async with joined(stage, speaker, exit_node="gw") as member:
        stage.interface.refuse = PrivilegeError("not allowed")
        await member.go_by(attrs.evolve(member._config, exit_node=""))
        assert (await member.status({}))["exit_node"] == "none: not allowed: nothing leaves"
        assert stage.interface.routing.out.pinned == {"198.51.100.1", "192.168.1.53"}
        await member.network_changed()
        assert stage.interface.routing == NOTHING
        assert (await member.status({}))["exit_node"] is None


async def test_no_way_out_before_there_was_one(autojump_clock, stage):
    async with joined(stage, Speaker(), exit_node="gw") as member:
        assert stage.interface.routing == NOTHING
        assert "all leaves as before" in (await member.status({}))["exit_node"]


async def test_while_the_switch_is_away_all_stays(autojump_clock, stage):
    speaker = Speaker(attrs.evolve(WELCOME, gateways=OUT))
    async with joined(stage, speaker, exit_node="gw"):
        before = stage.interface.routing
        speaker.device.close(0, "away")
        await trio.sleep(0.2)
        assert stage.interface.routing == before
        await trio.sleep(20)
        assert len(stage.sessions) > 1
        assert stage.interface.routing == before
    changes = [each for each in stage.interface.history if each[0] == "routing"]
    assert len(changes) == 1


async def test_what_the_kernel_refuses_is_said_and_done_without(autojump_clock, stage, caplog):
    speaker = Speaker(attrs.evolve(WELCOME, gateways=()))
    async with joined(stage, speaker, accept_routes="private", exit_node="gw") as member:
        for _ in range(2):
            stage.interface.refuse = PrivilegeError("not allowed")
            speaker.say(Update(gateways=[*WELCOME.gateways, *OUT]))
            await trio.sleep(1)
            status = await member.status({})
            assert status["routes"] == {}
            assert status["routes_refused"]["fd12::/32"] == "not allowed"
            assert status["exit_node"] == "gw: not allowed"
        assert caplog.text.count("routes-failed") == 1
        speaker.say(Update(gateways=WELCOME.gateways))
        await trio.sleep(1)
        assert stage.interface.routing.routes == {FOUR, SIX}


async def test_a_way_out_that_the_kernel_does_not_change_leaves_no_other(autojump_clock, stage):
    speaker = Speaker(attrs.evolve(WELCOME, gateways=OUT))
    async with joined(stage, speaker, exit_node="gw") as member:
        for said in ("not allowed", None):
            stage.interface.refuse = PrivilegeError(said) if said else None
            speaker.say(Update(gateways=[*WELCOME.gateways, *OUT[:1]]))
            await trio.sleep(1)
            out = stage.interface.routing.out
            if said:
                assert out.routes == set()
                assert out.pinned == {"198.51.100.1", "192.168.1.53"}
                status = await member.status({})
                assert status["exit_node"] == "gw: not allowed: nothing leaves"
                speaker.say(Update(gateways=[]))
                await trio.sleep(1)
        assert {route.network for route in out.routes} == {"0.0.0.0/0"}


async def test_where_ipv6_is_off_the_way_out_is_that_of_ipv4(autojump_clock, stage):
    welcome = attrs.evolve(WELCOME, gateways=[*WELCOME.gateways, *OUT])
    wishes = {"exit_node": "gw", "accept_routes": "private"}
    async with joined(stage, Speaker(welcome), **wishes) as member:
        stage.interface.host = attrs.evolve(HOST, ipv6=False)
        await member.network_changed()
        routing = stage.interface.routing
        assert (routing.address6, routing.routes) == (None, {FOUR})
        assert {route.network for route in routing.out.routes} == {"0.0.0.0/0"}
        status = await member.status({})
        assert status["exit_node"] == "gw via 10.77.0.3"
        assert "IPv6 is off" in status["routes_refused"]["fd12::/32"]


async def test_a_switch_that_moves_is_pinned_where_it_is_now(autojump_clock, stage, monkeypatch):
    speaker = Speaker(attrs.evolve(WELCOME, gateways=OUT))
    async with joined(stage, speaker, exit_node="gw"):

        async def resolve(host, port):
            await trio.lowlevel.checkpoint()
            return [("198.51.100.2", port), (host, port)]

        monkeypatch.setattr(reach, "resolve", resolve)
        speaker.device.close(0, "away")
        await trio.sleep(20)
        pinned = stage.interface.routing.out.pinned
        assert pinned == {"198.51.100.1", "198.51.100.2", "192.168.1.53"}
