"""How long a join waits, and for what, under a clock that jumps."""

import pytest
import trio
from attrs import evolve

from vswitch.devices.host_interface import Way
from vswitch.errors import TimedOut, VswitchError
from vswitch.joining import reach
from vswitch.joining.backoff import CAP, RESTART, SPREAD
from vswitch.joining.connection import WELCOME_TIMEOUT
from vswitch.joining.member import PATIENCE, STABLE
from vswitch.members.protocol import ByeCode, Welcome
from vswitch.testing import ethernet

WELCOME = Welcome(name="pc1", port=1, address="10.77.0.2/24", network="10.77.0.0/24")
FRAME = ethernet(b"\xff" * 6, b"\x02" * 6, 0x88B5, bytes(46))


async def welcomed(device):
    device.send_control(WELCOME)
    await trio.sleep_forever()


async def status_of(membership):
    return await membership.status({})


async def test_a_rival_with_the_same_key_is_left_alone_for_half_a_minute(
    autojump_clock, stage, nursery, caplog
):
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


async def test_a_switch_that_never_welcomes_is_given_up_in_time(autojump_clock, stage):
    async def script(device):
        await trio.sleep_forever()

    async with stage.serving(script):
        began = trio.current_time()
        error = await stage.run_once()
    assert isinstance(error, TimedOut)
    assert "did not welcome us" in str(error)
    assert trio.current_time() - began == pytest.approx(WELCOME_TIMEOUT, abs=0.5)


async def test_silence_is_given_up_after_a_while(autojump_clock, stage):
    began = trio.current_time()
    assert isinstance(await stage.run_once(), TimedOut)
    assert trio.current_time() - began == pytest.approx(PATIENCE, abs=0.5)


async def test_pauses_grow_while_there_is_no_answer_and_shrink_after_a_good_time(
    autojump_clock, stage, nursery
):
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
        await trio.sleep(3)
        assert RESTART[0] <= stage.sessions[1] - ended <= RESTART[1] + 0.5


async def test_sessions_that_end_at_once_are_tried_less_and_less(autojump_clock, stage, nursery):
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


async def test_a_switch_that_vanishes_without_a_word_is_missed_and_found_again(
    autojump_clock, stage, nursery
):
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


async def test_what_was_on_its_way_when_a_session_ended_is_counted(autojump_clock, stage, nursery):
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
        ended = status["drops"]["disconnected"] + status["drops"].get("queue_full", 0)
        assert status["tx_frames"] + ended + kernel == 1000


async def test_a_machine_that_slept_for_a_moment_goes_on_with_new_keys(
    autojump_clock, stage, nursery
):
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(20)
        member.woke(10)
        await trio.sleep(0.5)
        assert len(stage.sessions) == 1
        assert member._channel.statistics().rekeys == 1
        assert (await status_of(member))["state"] == "up"


@pytest.mark.parametrize("slept", [600, 8 * 3600])
async def test_a_machine_that_the_switch_has_let_go_of_is_back_at_once(
    autojump_clock, stage, nursery, slept
):
    """R17. The member's clock has stood still: for it the session was in use just now."""
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(20)
        stage.network.link.up = False  # it hears nothing of the end
    async with stage.serving(welcomed):
        stage.network.link.up = True
        assert not member._channel.ended  # so it believes
        member.woke(slept)
        await trio.sleep(1.5)
        assert len(stage.sessions) == 2
        assert (await status_of(member))["state"] == "up"


async def test_a_switch_that_was_killed_has_its_member_back_within_three_seconds(
    autojump_clock, stage, nursery
):
    """R1 and R2: killed a hundred times, after any time, for any time."""
    member, worst = stage.member(), 0.0
    nursery.start_soon(member.run)
    for life in range(100):
        async with stage.serving(welcomed):
            stage.network.link.up = True
            begun, before = trio.current_time(), len(stage.sessions)
            while len(stage.sessions) == before:
                stage.interface.feed(FRAME)  # it has something to say, ten times a second
                await trio.sleep(0.1)
            worst = max(worst, trio.current_time() - begun)
            await trio.sleep(0.2 + life * 37 % 50 / 10)
            assert len(stage.sessions) == before + 1
            stage.network.link.up = False
        await trio.sleep(life * 53 % 50 / 10)
    assert worst <= 3.0
    assert stage.interface.history == [("address", "10.77.0.2/24")]


@pytest.mark.parametrize("outage", [61, 100, 333, 600])
async def test_a_path_that_heals_after_long_has_its_member_back_within_three_seconds(
    autojump_clock, stage, nursery, outage
):
    """R11."""
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        for _ in range(5):
            await trio.sleep(30)
            sessions = len(stage.sessions)
            stage.interface.feed(FRAME)
            stage.network.link.up = False
            await trio.sleep(outage)
            assert (await status_of(member))["state"] == "connecting"
            stage.network.link.up = True
            await trio.sleep(3)
            assert len(stage.sessions) == sessions + 1
            assert (await status_of(member))["state"] == "up"


def sent(member):
    return member._channel.statistics().sent_datagrams


async def test_another_way_to_the_switch_cuts_a_pause_short_and_shows_where_we_are(
    autojump_clock, stage, nursery
):
    member = stage.member()
    ways = [evolve(stage.way, source=f"192.0.2.{number}") for number in range(2, 24)]
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(5)
        for way in (ways.pop(), evolve(stage.way, gateway="192.0.2.9"), None, ways.pop()):
            stage.way, before = way, sent(member)
            await member.network_changed()
            await trio.sleep(0.1)
            assert sent(member) > before  # a ping
    await trio.sleep(40 * 60)  # pauses are half a minute long by now
    async with stage.serving(welcomed):
        for way in ways:
            stage.way = way
            await member.network_changed()
            await trio.sleep(0.5)
        assert len(stage.sessions) == 2


async def test_changes_elsewhere_send_nothing_and_cut_nothing_short(autojump_clock, stage, nursery):
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(5)
        before = sent(member)
        for _ in range(100):
            await member.network_changed()
            await trio.sleep(0.01)
        assert sent(member) == before
    await trio.sleep(40 * 60)
    tried = len(stage.network.log)
    for _ in range(4):
        await member.network_changed()
        await trio.sleep(0.5)
    assert len(stage.network.log) - tried <= 1  # an attempt that was due


async def test_routes_that_cannot_be_asked_for_count_as_changed(autojump_clock, stage, nursery):
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(5)
        stage.way = VswitchError("the kernel does not say")
        before = sent(member)
        await member.network_changed()
        await trio.sleep(0.1)
        assert sent(member) > before


async def test_an_address_that_would_swallow_the_switch_is_taken_away_before_it_is_sought(
    autojump_clock, stage, nursery, caplog
):
    """The host has moved to where the switch is: what was fine is no more."""
    member = stage.member(allow_network="198.51.100.0/24")
    stage.interface.address = "198.51.100.9/24"
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(1)
        assert stage.interface.history[0] == ("address", None)
        assert len(stage.sessions) == 1
    assert "198.51.100.0/24 holds the switch's own address, 198.51.100.1" in caplog.text


@pytest.mark.parametrize("apart", [False, True])
async def test_a_way_through_the_lan_itself_is_named(autojump_clock, stage, nursery, caplog, apart):
    """In a network of its own the TAP may have the name of another interface of the host."""
    stage.interface.host = evolve(stage.interface.host, apart=apart)
    member = stage.member()
    stage.way = Way("vsw0", 9, "10.77.0.1")
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(1)
    assert ("switch-behind-lan" in caplog.text) is not apart


async def test_a_name_server_that_is_silent_does_not_keep_a_member_away(
    autojump_clock, stage, nursery, monkeypatch
):
    member = stage.member()

    async def never(host, port):
        await trio.sleep_forever()

    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(20)
        monkeypatch.setattr(reach, "resolve", never)
        stage.network.link.up = False
        await trio.sleep(61 + 30)
        stage.network.link.up = True
        await trio.sleep(6)
        assert len(stage.sessions) == 2


async def test_without_any_answer_of_a_name_server_the_reason_says_so(
    autojump_clock, stage, monkeypatch
):
    async def never(host, port):
        await trio.sleep_forever()

    monkeypatch.setattr(reach, "resolve", never)
    error = await stage.run_once()
    assert str(error) == "cannot resolve 198.51.100.1: no name server has answered within 2 s"


async def test_all_addresses_are_tried_and_the_one_that_worked_first(
    autojump_clock, stage, nursery, monkeypatch
):
    dead = ("203.0.113.1", 7450)

    async def resolve(host, port):
        await trio.lowlevel.checkpoint()
        return [dead, (host, port)]

    async def script(device):
        device.send_control(WELCOME)
        await trio.sleep(20)
        device.close(ByeCode.SERVER_ERROR, "again")

    monkeypatch.setattr(reach, "resolve", resolve)
    stage.network.log.clear()
    began = trio.current_time()
    async with stage.serving(script):
        nursery.start_soon(stage.member().run)
        await trio.sleep(90)
        assert len(stage.sessions) == 5
        assert stage.sessions[0] - began < 0.5
    log = stage.network.log
    inits = [fate.destination for fate in log if (fate.first_byte, fate.verdict) == (1, "sent")]
    assert inits == [dead] + [("198.51.100.1", 7450)] * 5
