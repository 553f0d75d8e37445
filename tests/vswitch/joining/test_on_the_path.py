"""Somebody between a real `join` and a real `serve`, who drops, changes, keeps and repeats."""

import random
from contextlib import asynccontextmanager

import pytest
import trio

from transport.wire.datagrams import COOKIE, INIT, INIT_SLICE, RESPONSE, RESPONSE_SLICE
from vswitch.addresses import HostPort
from vswitch.errors import NotReachable, TimedOut

HANDSHAKE = (INIT, RESPONSE, COOKIE, INIT_SLICE, RESPONSE_SLICE)
PLAIN = {INIT: 232, RESPONSE: 140}  # bytes


def plain(data):
    return data[0] in PLAIN and len(data) == PLAIN[data[0]]


class Between:
    """A place that passes datagrams on, as `does` says: what arrives in place of each."""

    def __init__(self, switch):
        self.switch = switch
        self.does = lambda data, to_switch: [data]
        self.seen = []  # datagrams, and whether they went to the switch
        self.outer = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.inner = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.member = None

    async def outward(self):
        while True:
            data, self.member = await self.outer.recvfrom(65535)
            self.seen.append((data, True))
            for each in self.does(data, True):
                await self.to_switch(each)

    async def inward(self):
        while True:
            data = await self.inner.recv(65535)
            self.seen.append((data, False))
            for each in self.does(data, False):
                await self.outer.sendto(each, self.member)

    async def to_switch(self, data):
        await self.inner.send(data)


@asynccontextmanager
async def open_between(switch):
    between = Between(switch)
    with between.outer, between.inner:
        await between.outer.bind(("127.0.0.1", 0))
        await between.inner.connect(("127.0.0.1", switch.port))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(between.outward)
            nursery.start_soon(between.inward)
            yield between, HostPort("127.0.0.1", between.outer.getsockname()[1])
            nursery.cancel_scope.cancel()


def no_session(running):
    return not running.switch.ports


@pytest.mark.parametrize("wish", ["auto", "require"])
async def test_who_lets_plain_handshakes_alone_pass_gets_no_session(site, wish):
    async with site.serving(pq=wish) as running, open_between(running.listen) as (between, where):
        between.does = lambda data, _: [data] if data[0] not in HANDSHAKE or plain(data) else []
        invite = site.invite("pc1", where)
        async with site.starting("pc1", invite=invite, pq=wish, once=True) as joined:
            with trio.fail_after(60):
                await joined.ended.wait()
        assert isinstance(joined.error, (TimedOut, NotReachable))
        assert no_session(running)
        assert any(plain(data) for data, to_switch in between.seen if not to_switch)  # a no


async def test_who_changes_what_a_member_says_of_itself_gets_no_session(site):
    """Every bit of the clear part and some of the rest of each init, one in each."""
    chance = random.Random(7)

    def change(data, to_switch):
        if data[0] not in HANDSHAKE:
            return [data]
        changed = bytearray(data)
        bit = chance.randrange(8 * (len(data) - 16))  # mac2 of an init is looked at under load
        changed[bit // 8] ^= 1 << bit % 8
        return [bytes(changed)]

    async with site.serving() as running, open_between(running.listen) as (between, where):
        between.does = change
        invite = site.invite("pc1", where)
        async with site.starting("pc1", invite=invite, once=True) as joined:
            with trio.fail_after(60):
                await joined.ended.wait()
        assert isinstance(joined.error, TimedOut)
        assert no_session(running)


async def test_a_member_comes_through_whatever_is_repeated_late_and_in_another_order(site):
    """Also handshakes of an earlier session, plain and hybrid, and after a restart."""
    chance, kept = random.Random(8), {True: [], False: []}

    def muddle(data, to_switch):
        if data[0] not in HANDSHAKE:
            return [data]
        kept[to_switch].append(data)
        again = chance.sample(kept[to_switch], min(6, len(kept[to_switch])))
        mixed = [data, *again]
        chance.shuffle(mixed)
        return mixed

    async with site.serving() as running:
        place = running.listen
    invite = None
    async with open_between(place) as (between, where):
        between.does = muddle
        for wishes in (("off", "auto", "off", "require"), ("auto", "off", "auto")):
            async with site.serving(listen=place.text()):  # the second time it has restarted
                invite = invite or site.invite("pc1", where)
                for wish in wishes:
                    async with site.joined("pc1", None, invite=invite, pq=wish):
                        (port,) = (await site.status()).ports
                        assert port.post_quantum is (wish != "off")
    assert len(kept[True]) > 7
