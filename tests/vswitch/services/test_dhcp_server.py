"""The DHCP server on a LAN in memory, with a registry on the disk."""

import time
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface

import pytest
import trio

from vswitch.errors import ConfigError, NotFound
from vswitch.frames import build
from vswitch.frames.bootp import REPLY, DhcpMessage, Kind, Option, build_dhcp, read_dhcp_untrusted
from vswitch.frames.ethernet import BROADCAST
from vswitch.frames.headers import ARP, IPV4
from vswitch.frames.virtio import UDP
from vswitch.registry.database import NoSpace
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Lease
from vswitch.services import dhcp, dhcp_server
from vswitch.services.dhcp_server import DhcpServer, said_by_ports
from vswitch.services.host import HostBeside, open_host, open_host_beside, station_of
from vswitch.services.terms import DhcpSettings
from vswitch.switch.port import Bound
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice

MAC = b"\x02\0\0\0\0\x01"
A, B = bytes.fromhex("52540000000a"), bytes.fromhex("52540000000b")
SERVER, NOBODY = IPv4Address("10.77.0.1"), IPv4Address(0)
INTERFACE = IPv4Interface("10.77.0.1/24")
KEY = bytes(32)


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        yield registry


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch):
    """A clock that jumps does not wait for them."""

    async def here(function, *args):
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", here)


@asynccontextmanager
async def serving(registry, **settings):
    """A switch with the server on it."""
    said = DhcpSettings(enabled=True, **settings)
    async with (
        open_switch() as switch,
        open_host(switch, station_of(switch, MAC, INTERFACE)) as host,
        trio.open_nursery() as nursery,
    ):
        terms = said.terms(INTERFACE.network, switch.mtu)
        server = DhcpServer(host, switch, registry, said, terms, clock=trio.current_time)
        await nursery.start(server.run)
        yield switch, server
        nursery.cancel_scope.cancel()


class Machine:
    """A DHCP client of the LAN, at a port."""

    def __init__(self, port, mac=A):
        self.port, self.mac = port, mac

    async def send(self, kind, *, source=NOBODY, op=1, **fields):
        options = {Option[name]: body for name, body in fields.pop("options", {}).items()}
        message = DhcpMessage(
            kind=kind, transaction=5, mac=self.mac, op=op, options=options, **fields
        )
        ends, ports = (source, IPv4Address("255.255.255.255")), (68, 67) if op == 1 else (67, 68)
        datagram = build.upper(UDP, *ports, build_dhcp(message), ends)
        packet = build.ip(*ends, UDP, datagram)
        await self.port.send(build.ethernet(BROADCAST, self.mac, IPV4, packet))

    async def answer(self, *, owns=()):
        """What comes for it; ARP is answered for what it owns."""
        with trio.fail_after(30):
            while True:
                frame = await self.port.receive_frame()
                asked = IPv4Address(frame[38:42]) if frame[12:14] == b"\x08\x06" else None
                if asked in owns:
                    await self.port.send(build.arp_reply(self.mac, str(asked), MAC, str(SERVER)))
                if frame[23:24] == b"\x11" and frame[36:38] == b"\0\x44":
                    message = read_dhcp_untrusted(frame[42:])
                    if message.mac == self.mac:
                        assert frame[6:12] == MAC
                        return message

    async def lease(self):
        await self.send(Kind.DISCOVER)
        offer = await self.answer()
        return await self.select(offer)

    async def select(self, offer):
        said = {"SERVER": SERVER.packed, "ADDRESS": offer.given.packed}
        await self.send(Kind.REQUEST, options=said)
        return await self.answer()


async def test_a_lease_is_written_down_and_outlives_the_switch(registry, autojump_clock):
    async with serving(registry) as (switch, server), switch.open_port("home") as port:
        ack = await Machine(port).lease()
        assert ack.kind == Kind.ACK
        (lease,) = registry.leases()
        assert (lease.address, lease.mac, lease.port) == (str(ack.given), A, "home")
        assert time.time() < lease.expires < time.time() + 12 * 3600 + 60
        assert server.leases()[0]["address"] == lease.address
        assert server.status()["said"] == {"offer": 1, "ack": 1}
        kinds = [each.kind for each in switch.events.since()]
        assert "lease" in kinds
    async with serving(registry) as (switch, server), switch.open_port("home") as port:
        (known,) = server.leases()
        assert known["address"] == lease.address
        assert 0 < known["expires_s"] <= 12 * 3600
        assert (await Machine(port, B).lease()).given != ack.given
        pc = Machine(port)
        await pc.send(Kind.REQUEST, source=ack.given, client=ack.given)
        assert (await pc.answer()).kind == Kind.ACK


async def test_leases_that_are_over_are_forgotten(registry, autojump_clock):
    async with serving(registry, lease_time="2m") as (switch, server):
        async with switch.open_port("home") as port:
            await Machine(port).lease()
            await trio.sleep(130)
            assert server.leases() == []
            assert registry.leases() == []
            await Machine(port).lease()
    (lease,) = registry.leases()
    registry.keep_lease(Lease(A, lease.address, "home", "", 1.0, 2.0))
    async with serving(registry) as (switch, server):
        assert server.leases() == []
    assert registry.leases() == []


async def test_leases_of_other_settings_are_forgotten(registry, autojump_clock):
    """Another subnet or range, or the address has become somebody's."""
    registry.enrol_local(KEY, "pc1", 1.0)
    now = time.time()
    for number, mac in ((150, A), (50, B)):
        lease = Lease(mac, f"10.77.0.{number}", "home", "", now, now + 60)
        assert registry.keep_lease(lease)
    async with serving(registry) as (_, server):
        assert [each["address"] for each in server.leases()] == ["10.77.0.150"]
        assert [lease.mac for lease in registry.leases()] == [A]
    async with serving(registry, reservations={"attic": "10.77.0.150"}) as (_, server):
        assert server.leases() == []
    assert registry.leases() == []


async def test_beside_a_kernel_that_has_the_address(registry, autojump_clock):
    said, kernel = DhcpSettings(enabled=True), FakeDevice("vsw0", superframes=True)
    async with open_switch() as switch:
        host = HostBeside(kernel, station_of(switch, MAC, INTERFACE, answers=False))
        local = switch.attach(host, name="local")
        async with open_host_beside(switch, host, local), trio.open_nursery() as nursery:
            terms = said.terms(INTERFACE.network, switch.mtu)
            server = DhcpServer(host, switch, registry, said, terms, clock=trio.current_time)
            assert await nursery.start(server.run)
            async with switch.open_port("home") as port:
                assert (await Machine(port).lease()).kind == Kind.ACK
            assert [each["port"] for each in server.leases()] == ["home"]
            nursery.cancel_scope.cancel()


async def test_an_address_that_answers_is_not_offered(registry, autojump_clock):
    async with (
        serving(registry) as (switch, _),
        switch.open_port("home") as port,
        switch.open_port("office") as other,
    ):
        await Machine(port).send(Kind.DISCOVER)
        squatter = Machine(other, B)
        with trio.fail_after(5):
            while True:
                frame = await other.receive_frame()
                if frame[12:14] == ARP.to_bytes(2, "big"):
                    taken = IPv4Address(frame[38:42])
                    break
        await other.send(build.arp_reply(squatter.mac, str(taken), MAC, str(SERVER)))
        offer = await Machine(port).answer()
        assert offer.given != taken
        (event,) = [each for each in switch.events.since() if each.kind == "lease-conflict"]
        assert (event.port, event.facts["address"]) == ("office", str(taken))


async def test_members_and_their_addresses(registry, autojump_clock):
    """A member that asks gets its own; a machine gets none of a member, present or away."""
    registry.enrol_local(KEY, "pc1", 1.0)
    assert registry.lease(KEY, "10.77.0.128/24", INTERFACE.network) is not None
    wide = "10.77.0.128-10.77.0.130"
    async with serving(registry, range=wide) as (switch, server), switch.open_port("pc1") as port:
        server.said = lambda: {IPv4Address("10.77.0.129"): "printer"}
        (attached,) = [each for each in switch.ports if each.name == "pc1"]
        attached.bound = Bound(A, "10.77.0.128")
        assert str((await Machine(port).lease()).given) == "10.77.0.128"
        assert registry.leases() == []
        assert str((await Machine(port, B).lease()).given) == "10.77.0.130"


async def test_a_member_that_takes_an_address_meanwhile_has_it(registry, autojump_clock):
    async with serving(registry) as (switch, server), switch.open_port("home") as port:
        pc = Machine(port)
        await pc.send(Kind.DISCOVER)
        offer = await pc.answer()
        registry.enrol_local(KEY, "pc1", 1.0)
        core = server.core.pool
        registry.lease(KEY, f"{offer.given}/24", INTERFACE.network)
        # As if it were enrolled between the look at the members and the write.
        server._look_at_members = trio.lowlevel.checkpoint
        assert (await pc.select(offer)).kind == Kind.NAK
        assert core.leases == {}
        assert server.status()["drops"] == {"dhcp_not_kept": 1}


async def test_a_full_disk(registry, autojump_clock, monkeypatch):
    """Who has a lease keeps it; who is new gets no answer."""
    async with serving(registry) as (switch, server), switch.open_port("home") as port:
        pc = Machine(port)
        address = (await pc.lease()).given

        def full(lease):
            raise NoSpace("no space")

        monkeypatch.setattr(registry, "keep_lease", full)
        await pc.send(Kind.REQUEST, source=address, client=address)
        assert (await pc.answer()).kind == Kind.ACK
        new = Machine(port, B)
        await new.send(Kind.DISCOVER)
        offer = await new.answer()
        await new.send(Kind.REQUEST, options={"ADDRESS": offer.given.packed})
        await trio.sleep(1)
        assert [each["address"] for each in server.leases()] == [str(address)]


async def test_who_takes_and_gives_back_all_the_time_fills_no_log(registry, autojump_clock, caplog):
    caplog.set_level("INFO")
    async with serving(registry) as (switch, _), switch.open_port("home") as port:
        for number in range(20):  # one machine alone would come to the end of its share
            pc = Machine(port, bytes((2, 9, 9, 9, 9, number)))
            ack = await pc.lease()
            await pc.send(Kind.RELEASE, source=ack.given, client=ack.given)
    lines = [each for each in caplog.messages if each.startswith("lease ")]
    assert 8 <= len(lines) < 20
    assert any("suppressed=" in line for line in lines)


async def test_release_by_the_operator(registry, autojump_clock):
    async with serving(registry) as (switch, server), switch.open_port("home") as port:
        address = (await Machine(port).lease()).given
        assert await server.release("52:54:00:00:00:0A") == [str(address)]
        assert registry.leases() == []
        with pytest.raises(NotFound, match="vswitch leases"):
            await server.release("52:54:00:00:00:0a")


@pytest.mark.parametrize("free", [True, False])
async def test_a_port_that_goes(registry, autojump_clock, free):
    async with serving(registry, free_with_port=free) as (switch, server):
        async with switch.open_port("home") as port:
            await Machine(port).lease()
        await trio.sleep(dhcp_server.PORT_GRACE / 2)
        async with switch.open_port("home"):  # it has only connected anew
            await trio.sleep(dhcp_server.PORT_GRACE)
            assert len(server.leases()) == 1
        await trio.sleep(dhcp_server.PORT_GRACE + 1)
        assert len(registry.leases()) == len(server.leases()) == (not free)


async def test_silent_beside_another_server(registry, autojump_clock):
    async with (
        serving(registry) as (switch, server),
        switch.open_port("home") as port,
        switch.open_port("router") as other,
    ):
        router = Machine(other, B)
        await router.send(
            Kind.OFFER,
            op=REPLY,
            source=IPv4Address("10.77.0.9"),
            options={"SERVER": IPv4Address("10.77.0.9").packed},
        )
        await trio.sleep(0.1)
        pc = Machine(port)
        await pc.send(Kind.DISCOVER)
        with trio.move_on_after(20) as waiting:
            await pc.answer()
        assert waiting.cancelled_caught
        assert server.status()["quiet"] == "10.77.0.9"
        (event,) = [each for each in switch.events.since() if each.kind == "dhcp-quiet"]
        assert (event.port, event.facts["server"]) == ("router", "10.77.0.9")
        await trio.sleep(dhcp.QUIET)
        assert (await pc.lease()).kind == Kind.ACK
        assert server.status()["quiet"] is None


def test_settings_that_do_not_fit_the_lan():
    said = DhcpSettings(reservations={"pc1": "192.168.0.9"})
    with pytest.raises(ConfigError, match=r"192\.168\.0\.9 cannot be given: it is outside"):
        said.pool(INTERFACE.network)


def test_addresses_that_ports_name():
    said = {"pc1": ("10.77.0.9/32", "10.9.0.0/24", "fd00::1/128"), "pc2": ()}
    assert said_by_ports(said) == {IPv4Address("10.77.0.9"): "pc1"}


async def test_names_of_machines(registry, autojump_clock):
    """Members come first, and who is apart hears of nobody else."""
    async with serving(registry) as (switch, server), switch.open_port("home") as port:
        pc = Machine(port)
        await pc.send(Kind.DISCOVER)
        offer = await pc.answer()
        said = {"ADDRESS": offer.given.packed, "HOST_NAME": b"printer"}
        await pc.send(Kind.REQUEST, options=said)
        assert (await pc.answer()).kind == Kind.ACK
        assert server.addresses("printer", "office") == (offer.given,)
        assert server.label(offer.given, "office") == "printer"
        assert server.addresses("phone", "office") is None
        assert server.label(SERVER, "office") is None
        server.separated = lambda name: name == "office"
        assert server.addresses("printer", "office") is None
        assert server.addresses("printer", "home") == (offer.given,)
        server.core.pool.held = {IPv4Address("10.77.0.2"): "printer"}
        assert server.label(offer.given, "home") is None
