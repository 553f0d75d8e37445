"""What is behind members, as the others hear of it: not before the operator has approved it, not
longer than the member is there.
"""

from contextlib import asynccontextmanager
from ipaddress import ip_network

import attrs
import trio

from vswitch.members.protocol import Hello, Notice, Update, Welcome
from vswitch.registry.rules import Member as Known
from vswitch.serving.gateways import PAUSE, Gateways

HELLO = Hello(mtu=1500, mac="02:00:00:00:00:01")
OFFER = ("192.168.1.0/24", "0.0.0.0/0", "fd99::/48")
MEMBER = Known("x", bytes(32), None, 0.0, None, None)
ALL = tuple(map(ip_network, OFFER))


class Member:
    """What one hears, one after the other."""

    def __init__(self, guest):
        self.guest = guest

    async def hear(self, kind):
        with trio.fail_after(20):
            while not isinstance(said := await self.guest.hear(), kind):
                pass
            return said


@asynccontextmanager
async def member(house, name, **says):
    if name not in house.keys:
        house.keys[name] = house.member(name)
    key = house.keys[name]
    async with house.visit(key, f"192.0.2.{len(name) + ord(name[-1])}") as guest:
        guest.say(attrs.evolve(HELLO, **says))
        yield Member(guest)


async def test_what_is_approved_is_told_and_withdrawn(house):
    async with member(house, "pc1") as pc1:
        assert (await pc1.hear(Welcome)).gateways == ()
        async with member(house, "gw", advertise=OFFER) as gw:
            welcome = await gw.hear(Welcome)
            assert welcome.gateways == ()
            assert ", ".join(OFFER[:1]) in (await gw.hear(Notice)).text
            house.registry.approve("gw", ALL)
            house.reception.check_revoked()
            v4, v6 = (each.partition("/")[0] for each in (welcome.address, welcome.address6))
            wanted = tuple(sorted(f"{each} via {v6 if ':' in each else v4} gw" for each in OFFER))
            for each in (pc1, gw):
                assert tuple(sorted((await each.hear(Update)).gateways)) == wanted
            # Of a part, the rest goes.
            house.registry.approve("gw", ALL[:1])
            house.reception.check_revoked()
            assert (await pc1.hear(Update)).gateways == (f"{OFFER[0]} via {v4} gw",)
        assert (await pc1.hear(Update)).gateways == ()


async def test_who_comes_later_hears_of_it_with_the_welcome(house):
    async with member(house, "gw", advertise=OFFER[:1], address="none") as gw:
        await gw.hear(Welcome)
        house.registry.approve("gw", ALL)
        house.reception.check_revoked()
        async with member(house, "pc1") as pc1:  # of IPv4 it cannot be the way without an address
            assert (await pc1.hear(Welcome)).gateways == ()
    async with member(house, "gw", advertise=OFFER) as gw:
        welcome = await gw.hear(Welcome)
        assert len(welcome.gateways) == 3
        async with member(house, "pc1") as pc1:
            assert (await pc1.hear(Welcome)).gateways == welcome.gateways


async def test_members_that_are_apart_are_no_gateways_to_each_other(house):
    house.reception.directory.separated = {"pc1"}.__contains__
    async with member(house, "gw", advertise=OFFER) as gw:
        await gw.hear(Welcome)
        house.registry.approve("gw", ALL)
        house.reception.check_revoked()
        async with member(house, "pc1") as pc1, member(house, "pc2") as pc2:
            assert (await pc1.hear(Welcome)).gateways == ()
            assert len((await pc2.hear(Welcome)).gateways) == 3


async def test_guards_hear_of_it(house):
    bound = []
    house.reception.rebound = lambda port: bound.append(port.bound.networks)
    async with member(house, "gw", advertise=OFFER) as gw:
        await gw.hear(Welcome)
        (port,) = house.switch.ports
        assert port.bound.networks == ()
        house.registry.approve("gw", ALL[:1])
        house.reception.check_revoked()
        house.reception.check_revoked()
    assert bound == [OFFER[:1]]


class Here:
    """A member that is connected, as far as gateways are concerned."""

    address, address6, told = "10.77.0.3/24", "fd77::3/64", ()

    def __init__(self, name):
        self.member = attrs.evolve(MEMBER, name=name)
        self.device, self.networks, self.sent = self, (), []

    def send_control(self, message):
        self.sent.append(message)


async def test_a_gateway_that_comes_and_goes_costs_few_updates(autojump_clock):
    """A member takes 16 updates at once, and 20 messages a second."""
    gw, pc1 = Here("gw"), Here("pc1")
    gateways = Gateways({b"1": gw, b"2": pc1}, lambda _: False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateways.run)
        for number in range(1001):
            gw.networks = ALL[: 1 + number % 2]
            gateways.changed()
            await trio.sleep(0.007)
            if number == 0:
                assert len(pc1.sent) == 1  # at once
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert 3 <= len(pc1.sent) <= 2 + 7.007 / PAUSE
    assert pc1.sent[-1].gateways == (f"{OFFER[0]} via 10.77.0.3 gw",)


async def test_a_member_that_has_stopped_reading_keeps_nobody_from_hearing(autojump_clock):
    gw, pc1, pc2 = Here("gw"), Here("pc1"), Here("pc2")

    def full(_):
        raise trio.WouldBlock

    pc1.send_control = full
    gateways = Gateways({b"1": pc1, b"2": gw, b"3": pc2}, lambda _: False)
    gw.networks = ALL
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateways.run)
        gateways.changed()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert len(pc2.sent) == 1
