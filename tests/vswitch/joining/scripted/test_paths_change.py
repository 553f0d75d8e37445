"""A member whose network drops UDP, and passes it again: over a pipe within bounds, and back."""

import contextlib
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import evolve

from transport.testing.pipes import open_pipe
from vswitch.errors import NotReachable, TimedOut
from vswitch.frames.ethernet import parse_mac
from vswitch.joining.paths import ASK_FOR, ASK_INTERVAL, UDP_PATIENCE
from vswitch.members.protocol import Welcome
from vswitch.testing import ethernet

URL = "https://switch.example.org"
PATH = "https:198.51.100.1:443"
WELCOME = Welcome("pc1", 3, "10.77.0.2/24", mtu=1500, network="10.77.0.0/24")
SILENCE = 3.0  # seconds after which a peer that owes an answer is found silent
KEEPALIVE = 15.0  # seconds after which a member that has nothing to say asks


class Https:
    """The HTTPS side of a network, as pipes in memory."""

    def __init__(self):
        self.server = None  # the endpoint of the switch
        self.refused = False
        self.pairs = []  # all that were opened

    async def run(self, endpoint, url, *, task_status):
        assert url == URL
        if self.refused:
            raise NotReachable("connection refused")
        async with open_pipe(endpoint, self.server) as pair:
            pair.first.address.description = PATH
            self.pairs.append(pair)
            task_status.started(pair.first.address)
            while not (pair.first.address.closed or pair.second.aborted):  # noqa: ASYNC110 (nothing sets an event)
                await trio.sleep(0.1)


class Plugged:
    """A member on a network that may drop UDP, and what its switch has heard."""

    def __init__(self, stage, **options):
        self.network, self.interface = stage.network, stage.interface
        self.https = Https()
        self.heard = []
        stage.profile = evolve(stage.profile, https=(URL,))
        self.member = stage.member(run_pipe=self.https.run, **options)

    async def script(self, device):
        device.send_control(WELCOME)
        while True:
            await device.wait_readable()
            with contextlib.suppress(trio.WouldBlock):
                self.heard += device.read_nowait(64)

    async def path(self, wanted):
        """Seconds until the session is on this path."""
        begun = trio.current_time()
        with trio.fail_after(300):
            while (await self.member.status({})).get("path") != wanted:  # noqa: ASYNC110 (the same)
                await trio.sleep(0.05)
        return trio.current_time() - begun

    async def feed(self):
        """A frame with the next number, twenty times a second."""
        source = parse_mac(self.interface.mac)
        self.fed = 0
        while True:
            payload = self.fed.to_bytes(4, "big") + bytes(42)
            self.interface.feed(ethernet(b"\xff" * 6, source, 0x88B5, payload))
            self.fed += 1
            await trio.sleep(0.05)


@asynccontextmanager
async def plugged_in(stage, *, udp, **options):
    """A member that joins where UDP passes or does not."""
    plugged = Plugged(stage, **options)
    stage.network.link.up = udp
    async with stage.serving(plugged.script) as endpoint, trio.open_nursery() as nursery:
        plugged.https.server = endpoint
        nursery.start_soon(plugged.member.run)
        yield plugged
        nursery.cancel_scope.cancel()


async def test_where_udp_passes_no_pipe_is_opened(autojump_clock, stage):
    async with plugged_in(stage, udp=True) as plugged:
        assert await plugged.path("udp") < UDP_PATIENCE
        await trio.sleep(60)
        assert plugged.https.pairs == []


async def test_where_udp_is_dropped_the_member_joins_over_a_pipe_and_goes_back(
    autojump_clock, stage
):
    async with plugged_in(stage, udp=False) as plugged:
        assert UDP_PATIENCE <= await plugged.path(PATH) < UDP_PATIENCE + 1
        await trio.sleep(2 * ASK_INTERVAL)
        stage.network.link.up = True
        assert await plugged.path("udp") <= ASK_INTERVAL + 2 * ASK_FOR
        assert len(stage.sessions) == 1  # the same
        assert len(plugged.https.pairs) == 1


async def test_ten_changes_lose_nothing_and_keep_order(autojump_clock, stage):
    async with plugged_in(stage, udp=True) as plugged, trio.open_nursery() as nursery:
        await plugged.path("udp")
        nursery.start_soon(plugged.feed)
        for _ in range(10):
            stage.network.link.up = False
            assert await plugged.path(PATH) < SILENCE + 2
            stage.network.link.up = True
            assert await plugged.path("udp") <= ASK_INTERVAL + 2 * ASK_FOR
            await trio.sleep(7)  # it lasts
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
        numbers = [int.from_bytes(frame[18:22], "big") for frame in plugged.heard]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= plugged.fed - 2  # the last may be under way
        assert len(stage.sessions) == 1


async def test_a_pipe_that_breaks_is_opened_again(autojump_clock, stage):
    async with plugged_in(stage, udp=False) as plugged:
        await plugged.path(PATH)
        plugged.https.pairs[0].cut()
        with trio.fail_after(10):
            while len(plugged.https.pairs) < 2 or plugged.member._channel.silent:  # noqa: ASYNC110 (the same)
                await trio.sleep(0.05)
        await trio.sleep(2)
        assert (await plugged.member.status({}))["path"] == PATH
        assert len(stage.sessions) == 1


async def test_neither_answers_and_the_reasons_are_told(autojump_clock, stage):
    plugged = Plugged(stage, once=True)
    plugged.https.refused = True
    stage.network.link.up = False
    with pytest.raises(TimedOut, match=r"no answer from .*; https://\S+: connection refused"):
        await plugged.member.run()
