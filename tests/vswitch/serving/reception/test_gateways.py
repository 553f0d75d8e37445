"""What is behind members, as the others hear of it: not before the operator has approved it, not
longer than the member is there.
"""

from contextlib import asynccontextmanager
from ipaddress import ip_network

import attrs
import trio

from vswitch.members.protocol import Hello, Notice, Update, Welcome
from vswitch.serving.gateways import PAUSE

HELLO = Hello(mtu=1500, mac="02:00:00:00:00:01")
OFFER = ("192.168.1.0/24", "0.0.0.0/0", "fd99::/48")
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
    house.reception.separated = {"pc1"}.__contains__
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


async def test_a_gateway_that_comes_and_goes_costs_few_updates(house):
    """A member takes 16 updates at once, and 20 messages a second."""
    house.member("gw")
    async with member(house, "pc1") as pc1:
        await pc1.hear(Welcome)
        connected = next(iter(house.reception.connected.values()))
        sent = []
        connected.device.send_control = sent.append
        started = trio.current_time()
        for number in range(100):
            connected.offered = ALL[: number % 2]
            connected.member = attrs.evolve(connected.member, routes=ALL)
            house.reception.gateways.changed()
            await trio.sleep(0.005)
        lasted = trio.current_time() - started
    assert 1 <= len(sent) <= 1 + lasted / PAUSE
