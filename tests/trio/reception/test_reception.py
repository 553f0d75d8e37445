"""How a session becomes a port: hello, welcome, and all that can be said instead."""

import time

import pytest
import trio

from transport import HandshakeTimeout, PrivateKey
from vswitch.core.control import ByeCode, Hello, Notice, Welcome
from vswitch.core.records import CONTROL, SUPERFRAME, encode_record, frame_record
from vswitch.errors import VswitchError
from vswitch.reception import HELLO_TIMEOUT
from vswitch.registry import Registry
from vswitch.testing import ethernet

HELLO = Hello(mtu=1500, mac="02:00:00:00:00:01", name="pc1")


def record(number=0):
    source = b"\x02" * 6
    frame = ethernet(b"\xff" * 6, source, 0x88B5, number.to_bytes(4, "big") + bytes(46))
    return frame_record(frame)


async def test_hello_is_answered_with_a_welcome_and_a_port(house):
    key = house.member("pc1")
    async with house.visit(key) as guest:
        guest.say(HELLO)
        welcome = await guest.hear()
        assert isinstance(welcome, Welcome)
        assert (welcome.name, welcome.port, welcome.mtu) == ("pc1", 1, 1500)
        assert (welcome.address, welcome.network) == ("10.77.0.2/24", "10.77.0.0/24")
        (plugged,) = house.reception.plugged.values()
        assert plugged.port is house.switch.ports[0]
        assert plugged.device.name == plugged.port.name == "pc1"
        assert house.registry.named("pc1").last_seen == pytest.approx(time.time(), abs=60)
    await house.plugged(0)
    assert house.switch.ports == ()


async def test_the_name_in_hello_may_be_left_out(house):
    async with house.visit(house.member("pc1")) as guest:
        guest.say(Hello(mtu=1500, mac="02:00:00:00:00:01"))
        assert (await guest.hear()).name == "pc1"


async def test_frames_that_come_along_with_hello_are_forwarded(house):
    async with house.switch.open_port("bot") as bot, house.visit(house.member("pc1")) as guest:
        guest.say(HELLO, record(1))
        guest.say(record(2))
        await guest.hear()
        guest.say(record(3))
        got = []
        with trio.fail_after(20):
            while len(got) < 3:
                got += await bot.receive()
        assert [frame_record(frame) for frame in got] == [record(1), record(2), record(3)]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([b"GET / HTTP/1.1\r\n"], "unknown record flag"),
        ([encode_record(CONTROL, b"{")], "not JSON"),
        ([encode_record(CONTROL, b'{"kind": "hello", "mtu": 1, "mac": "x"}')], "malformed hello"),
        ([record(1)], "frames before hello"),
        ([Notice("hi")], "another message before hello"),
        ([encode_record(SUPERFRAME, bytes(60))], "a superframe, which was not agreed"),
    ],
)
async def test_what_is_no_hello_ends_the_session(house, said, reason):
    async with house.visit(house.member("pc1")) as guest:
        guest.say(*said)
        broken = await guest.end()
        assert broken.code == ByeCode.PROTOCOL
        assert reason in broken.reason
    assert house.switch.ports == ()
    assert house.reception.plugged == {}


@pytest.mark.parametrize("said", [[], [encode_record(CONTROL, b'{"kind": "weather"}')]])
async def test_a_session_that_says_no_hello_ends(house, autojump_clock, said):
    began = trio.current_time()
    async with house.visit(house.member("pc1")) as guest:
        if said:
            guest.say(*said)
        broken = await guest.end()
    assert (broken.code, broken.reason) == (ByeCode.PROTOCOL, "no hello in time")
    assert trio.current_time() - began == pytest.approx(HELLO_TIMEOUT, abs=0.5)


async def test_garbage_of_a_member_takes_down_its_own_port_only(house):
    good, bad = house.member("pc1"), house.member("pc2")
    async with house.visit(good) as one, house.visit(bad, "192.0.2.2") as other:
        one.say(HELLO)
        await one.hear()
        other.say(Hello(mtu=1500, mac="02:00:00:00:00:02"))
        await other.hear()
        other.say(record(1), b"\xbc\xbf\x00\x00")
        broken = await other.end()
        assert broken.code == ByeCode.PROTOCOL
        await house.plugged(1)
        assert [port.name for port in house.switch.ports] == ["pc1"]


async def test_strangers_get_no_answer(house):
    with pytest.raises(HandshakeTimeout):
        async with house.visit(PrivateKey.generate(), patience=0.3):
            pass


async def test_a_registry_that_cannot_be_read_answers_nobody(house, monkeypatch, caplog):
    key = house.member("pc1")

    def damaged(*_):
        raise VswitchError("registry.sqlite: is damaged")

    monkeypatch.setattr(Registry, "look_up", damaged)
    with pytest.raises(HandshakeTimeout):
        async with house.visit(key, patience=0.3):
            pass
    assert "registry-failed" in caplog.text


async def test_all_ports_are_taken(house):
    async with house.switch.open_port("a"), house.switch.open_port("b"):
        key, other = house.member("pc1"), house.member("pc2")
        async with house.visit(key) as one, house.visit(other, "192.0.2.2") as two:
            one.say(HELLO)
            await one.hear()
            two.say(Hello(mtu=1500, mac="02:00:00:00:00:02"))
            code, reason = await two.refusal()
            assert code is ByeCode.FULL
            assert "all 3 ports" in reason
        assert len(house.switch.ports) == 2


async def test_a_mistake_of_ours_costs_one_session(house, monkeypatch, caplog):
    async with house.visit(house.member("pc1")) as one:
        one.say(HELLO)
        await one.hear()

        def wrong(*_):
            raise ZeroDivisionError("oh")

        monkeypatch.setattr(Registry, "lease", wrong)
        async with house.visit(house.member("pc2"), "192.0.2.2") as other:
            other.say(Hello(mtu=1500, mac="02:00:00:00:00:02"))
            broken = await other.end()
            assert broken.code == ByeCode.SERVER_ERROR
            assert "oh" not in broken.reason
        assert [port.name for port in house.switch.ports] == ["pc1"]
        assert "ZeroDivisionError" in caplog.text
