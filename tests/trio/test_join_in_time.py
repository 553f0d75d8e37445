"""How long a join waits, and for what: on a network in memory, under a clock that jumps.

The switch here is a script: it says to each session what the test wants, so that it can also say
what no real one does.
"""

from contextlib import asynccontextmanager

import pytest
import trio

from transport import Grant, PrivateKey, open_endpoint
from transport.testing import Link, open_network
from vswitch import connection, underlay
from vswitch.addresses import HostPort
from vswitch.backoff import CAP, FIRST, SPREAD
from vswitch.client import PATIENCE, STABLE, Membership
from vswitch.config import JoinConfig
from vswitch.connection import WELCOME_TIMEOUT
from vswitch.core.control import Bye, ByeCode, Hello, Notice, Update, Welcome
from vswitch.core.records import frame_record
from vswitch.errors import NotReachable, TimedOut
from vswitch.membership import EnrolRefused
from vswitch.ports.member import MemberDevice
from vswitch.profiles import Profile
from vswitch.state import StateDir
from vswitch.testing import FakeInterface, ethernet

SERVER = ("198.51.100.1", 7450)
WELCOME = Welcome(name="pc1", port=1, address="10.77.0.2/24", network="10.77.0.0/24")
FRAME = ethernet(b"\xff" * 6, b"\x02" * 6, 0x88B5, bytes(46))


class Anyone:
    def look_up(self, peer, credential):
        return Grant()


class Stage:
    """A member, the network, and a switch that follows a script."""

    def __init__(self, network, path):
        self.network = network
        self.sessions = []  # when each began
        self.script = None
        self.identity = PrivateKey.generate()
        self.interface = FakeInterface()
        self.config = JoinConfig(name="pc1", state=path)
        files, key = StateDir(path), PrivateKey.generate()
        where = HostPort(*SERVER)
        self.profile = Profile("pc1", where, self.identity.public, key, files, local=True)

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
                yield
                nursery.cancel_scope.cancel()

    def member(self, **options):
        config = JoinConfig(name="pc1", state=self.config.state, **options)
        return Membership(config, self.profile, self.interface)


@pytest.fixture
async def stage(autojump_clock, tmp_path, monkeypatch):
    async def resolve(host, port):
        await trio.lowlevel.checkpoint()
        return [(host, port)]

    async with open_network(seed=3, link=Link(delay=0.01)) as network:
        stage = Stage(network, tmp_path)
        monkeypatch.setattr(underlay, "_open_socket", stage.socket)
        monkeypatch.setattr(underlay, "resolve", resolve)
        yield stage


async def welcomed(device):
    device.send_control(WELCOME)
    await trio.sleep_forever()


async def run_once(stage, **options):
    """The error of a join that gives up at the first failure."""
    with trio.fail_after(1000), pytest.raises(Exception) as caught:
        await stage.member(once=True, **options).run()
    return caught.value


async def status_of(membership):
    return await membership.status({})


async def test_a_rival_with_the_same_key_is_left_alone_for_half_a_minute(stage, nursery, caplog):
    async def script(device):
        device.send_control(WELCOME)
        await trio.sleep(60)
        device.close(ByeCode.REPLACED, "the same key has connected again")

    member = stage.member()
    async with stage.serving(script):
        nursery.start_soon(member.run)
        await trio.sleep(85)
        status = await status_of(member)
        assert (len(stage.sessions), status["state"]) == (1, "connecting")
        assert "another host has connected with the key of this member" in status["error"]
        await trio.sleep(60)
        assert len(stage.sessions) == 2
        assert stage.sessions[1] - stage.sessions[0] == pytest.approx(60 + CAP, abs=1)
        assert (await status_of(member))["state"] == "up"
    assert "another host has connected" in caplog.text


async def test_a_switch_that_never_welcomes(stage):
    async def script(device):
        await trio.sleep_forever()

    async with stage.serving(script):
        began = trio.current_time()
        error = await run_once(stage)
    assert isinstance(error, TimedOut)
    assert "did not welcome us" in str(error)
    assert trio.current_time() - began == pytest.approx(WELCOME_TIMEOUT, abs=0.5)


async def test_silence_is_given_up_after_a_while(stage):
    began = trio.current_time()
    assert isinstance(await run_once(stage), TimedOut)
    assert trio.current_time() - began == pytest.approx(PATIENCE, abs=0.5)


async def test_pauses_grow_while_there_is_no_answer_and_shrink_after_a_good_time(stage, nursery):
    nursery.start_soon(stage.member().run)
    await trio.sleep(20 * 60)  # long enough for the longest pause
    good = trio.Event()

    async def script(device):
        device.send_control(WELCOME)
        await good.wait()
        device.close(ByeCode.SHUTDOWN, "a moment")

    async with stage.serving(script):
        await trio.sleep(CAP + PATIENCE + 1)
        assert len(stage.sessions) == 1
        await trio.sleep(STABLE)
        good.set()
        ended = trio.current_time()
        await trio.sleep(2)
        assert stage.sessions[1] - ended <= FIRST * (1 + SPREAD) + 0.5


async def test_sessions_that_end_at_once_are_tried_less_and_less(stage, nursery):
    async def script(device):
        device.send_control(WELCOME)
        await trio.sleep(1)
        device.close(ByeCode.SERVER_ERROR, "sorry")

    nursery.start_soon(stage.member().run)
    async with stage.serving(script):
        await trio.sleep(300)
    gaps = [b - a - 1 for a, b in zip(stage.sessions, stage.sessions[1:], strict=False)]
    assert gaps[0] < 1
    assert gaps[-1] > CAP * (1 - SPREAD)
    assert 8 <= len(stage.sessions) <= 20


async def test_a_switch_that_vanishes_without_a_word_is_missed_and_found_again(stage, nursery):
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(20)
        stage.network.link.up = False
    first = len(stage.sessions)
    async with stage.serving(welcomed):
        stage.network.link.up = True
        lost = trio.current_time()
        await trio.sleep(60)
        assert len(stage.sessions) == first + 1
        assert stage.sessions[-1] - lost < 30
        status = await status_of(member)
        assert (status["state"], status["error"]) == ("up", None)
    assert stage.interface.history == [("address", "10.77.0.2/24")]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([b"\xff\xff\xff\xff"], "unknown record flag"),
        ([frame_record(FRAME)], "frames before the welcome"),
        ([Hello(mtu=1500, mac="02:00:00:00:00:01")], "does not say hello"),
        ([WELCOME] + [Update(mtu=1400 + n) for n in range(17)], "more updates than"),
    ],
)
async def test_a_switch_that_makes_no_sense_is_told_so(stage, said, reason):
    codes = []

    async def script(device):
        for each in said:
            if isinstance(each, bytes):
                device.channel.send_nowait([each])
            else:
                device.send_control(each)
        with pytest.raises(trio.BrokenResourceError) as caught:
            while True:
                await device.wait_readable()
                try:
                    device.read_nowait(64)
                except trio.WouldBlock:
                    continue
        codes.append(caught.value.code)

    async with stage.serving(script):
        error = await run_once(stage)
        await trio.sleep(1)
    assert isinstance(error, NotReachable)
    assert "what makes no sense" in str(error)
    assert reason in str(error)
    assert codes == [ByeCode.PROTOCOL]


@pytest.mark.parametrize("code", sorted(connection.FINAL))
async def test_a_definite_no_ends_the_join_with_the_reason_in_full(stage, nursery, code):
    reason = "because " * 100  # more than a close of the transport can carry

    async def script(device):
        device.send_control(Bye(code, reason))
        await device.channel.aclose(code, reason)

    async with stage.serving(script):
        with trio.fail_after(10), pytest.raises(EnrolRefused) as caught:
            await stage.member().run()
    assert caught.value.code is code
    assert str(caught.value) == reason


async def test_a_reason_that_is_lost_is_replaced_by_that_of_the_transport(stage):
    async def script(device):
        device.close(ByeCode.REVOKED, "pc1 was revoked")

    async with stage.serving(script):
        error = await run_once(stage)
    assert isinstance(error, EnrolRefused)
    assert str(error) == "pc1 was revoked"


async def test_frames_that_come_with_the_welcome_are_not_lost(stage, nursery):
    async def script(device):
        device.send_control(Notice("first the weather"))
        device.send_control(WELCOME)
        device.write_nowait([frame_record(FRAME)] * 100)
        await trio.sleep_forever()

    async with stage.serving(script):
        nursery.start_soon(stage.member().run)
        await trio.sleep(1)
        assert stage.interface.take() == [FRAME] * 100


async def test_what_was_on_its_way_when_a_session_ended_is_counted(stage, nursery):
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(1)
        stage.network.link.up = False
        stage.interface.feed(*[FRAME + bytes(1400)] * 1000)  # more than may be in flight
        await trio.sleep(120)
        status = await status_of(member)
        kernel = len(stage.interface._incoming)
        assert status["state"] == "connecting"
        assert status["drops"]["disconnected"] > 0
        assert status["tx_frames"] + status["drops"]["disconnected"] + kernel == 1000
