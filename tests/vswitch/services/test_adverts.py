"""Router advertisements: their bytes, when they come, and what is asked of them."""

import random
import struct
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface, IPv6Address, IPv6Network
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from vswitch.config.sources import structure
from vswitch.errors import BadRecord, ConfigError
from vswitch.frames import build
from vswitch.frames.headers import ICMPV6, IPV6
from vswitch.frames.routers import ALL_ROUTERS, check_solicitation_untrusted
from vswitch.services import adverts
from vswitch.services.adverts import Advertiser, AdvertSettings, Schedule
from vswitch.services.host import open_host, station_of
from vswitch.switch.switch import open_switch

MAC, PC1 = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x11"
INTERFACE = IPv4Interface("10.77.0.1/24")
ONE = IPv6Address("fe80::11")
SERVER = IPv6Address("fd00::53")
ASKS = b"\x85\0\0\0\0\0\0\0"


@given(st.lists(st.floats(0, 30), max_size=200), st.integers())
def test_few_however_many_ask(gaps, seed):
    """RFC 4861 6.2.4 and 6.2.6: never within three seconds, never later than ten minutes."""
    schedule, now, sent = Schedule(random.Random(seed), 0.0), 0.0, []
    for gap in [*gaps, 700.0]:
        until = now + gap
        while schedule.due <= until:
            now = max(now, schedule.due)
            schedule.advertised(now)
            sent.append(now)
        now = until
        schedule.asked(now)
        assert schedule.due <= max(now + adverts.ANSWER, sent[-1] + adverts.APART)
    waits = [after - before for before, after in pairwise(sent)]
    assert all(adverts.APART - 1e-6 <= wait <= adverts.MOST + 1e-6 for wait in waits)
    assert all(wait <= adverts.FIRST_WAIT + 1e-6 for wait in waits[: adverts.FIRST])


@pytest.mark.parametrize(
    ("body", "source"),
    [
        (b"\x85\0\0\0\0\0\0", ONE),
        (b"\x85\1\0\0\0\0\0\0", ONE),
        (b"\x86\0\0\0\0\0\0\0", ONE),
        (ASKS + b"\1\0" + PC1, ONE),
        (ASKS + b"\1", ONE),
        (ASKS + b"\1\2" + PC1, ONE),
        (ASKS + b"\1\1" + PC1, IPv6Address("::")),
    ],
)
def test_what_no_router_answers(body, source):
    with pytest.raises(BadRecord):
        check_solicitation_untrusted(body, source)


@asynccontextmanager
async def advertising(**settings):
    async with (
        open_switch() as switch,
        open_host(switch, station_of(switch, MAC, INTERFACE)) as host,
        switch.open_port("pc1") as pc1,
        trio.open_nursery() as nursery,
    ):
        said = AdvertSettings(**settings)
        advertiser = Advertiser(
            host, said.advert(IPv6Network("fd00:1::/64"), 1400, (SERVER,), "lan")
        )
        await nursery.start(advertiser.run)
        yield pc1, advertiser
        nursery.cancel_scope.cancel()


def solicitation(body=ASKS, hops=255):
    message = build.icmpv6((ONE, ALL_ROUTERS), body[0], body[1], body[4:])
    packet = build.ip(ONE, ALL_ROUTERS, ICMPV6, message, hops=hops)
    return build.ethernet(b"\x33\x33\0\0\0\2", PC1, IPV6, packet)


async def advertised(port):
    """The next advertisement, without Ethernet."""
    with trio.fail_after(1000):
        while True:
            frame = await port.receive_frame()
            if frame[12:14] == b"\x86\xdd" and frame[54:55] == b"\x86":
                return frame[14:]


async def test_what_an_advertisement_says(autojump_clock):
    async with advertising() as (pc1, _):
        packet = await advertised(pc1)
    assert packet[7] == 255
    assert IPv6Address(packet[8:24]) == IPv6Address("fe80::ff:fe00:1")
    assert IPv6Address(packet[24:40]) == IPv6Address("ff02::1")
    body = packet[40:]
    assert struct.unpack(">BBHII", body[4:16]) == (64, 0, 0, 0, 0)  # no way out
    options, at = {}, 16
    while at < len(body):
        options[body[at]] = body[at + 2 : at + 8 * body[at + 1]]
        at += 8 * body[at + 1]
    assert options[1] == MAC
    length, flags, valid, preferred, _, prefix = struct.unpack(">BBIII16s", options[3])
    assert (length, flags, valid, preferred) == (64, 0xC0, 30 * 86400, 7 * 86400)
    assert IPv6Address(prefix) == IPv6Address("fd00:1::")
    assert options[5][2:] == (1400).to_bytes(4, "big")
    assert options[25][2:] == (1800).to_bytes(4, "big") + SERVER.packed
    assert options[31][2:] == (1800).to_bytes(4, "big") + b"\3lan\0\0\0\0"


async def test_who_asks_is_answered_soon_and_a_flood_is_not(autojump_clock):
    async with advertising() as (pc1, advertiser):
        for _ in range(4):
            await advertised(pc1)
        await trio.sleep(10)
        before = trio.current_time()
        await pc1.send(solicitation())
        await advertised(pc1)
        assert trio.current_time() - before <= adverts.ANSWER
        told = advertiser.status()["advertised"]
        for _ in range(60):  # a minute of it
            for _ in range(5):
                await pc1.send(solicitation())
            await trio.sleep(0.5)
        assert advertiser.status()["advertised"] - told <= 30 / adverts.APART + 1
        drops = advertiser.host.station.drops
        assert drops["advert_soon"] > 200
        await pc1.send(solicitation(ASKS + b"\1\0" + PC1))
        await trio.sleep(1)
        assert drops["advert_bad"] == 1
        await pc1.send(solicitation(hops=254))
        await trio.sleep(1)
        assert drops["host_malformed"] == 1


def test_settings():
    said = structure(
        AdvertSettings, {"enabled": True, "dns": "fd00::1", "search": ["a"]}, "adverts"
    )
    assert said.dns == (IPv6Address("fd00::1"),)
    for wrong in (
        {"prefix": "fd00::/48"},
        {"prefix": "fe80::/64"},
        {"dns": "10.0.0.1"},
        {"valid": "1h", "preferred": "2h"},
    ):
        with pytest.raises(ConfigError, match="adverts"):
            structure(AdvertSettings, wrong, "adverts")
