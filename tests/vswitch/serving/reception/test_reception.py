"""How a session becomes a port: hello, welcome, and all that can be said instead."""

import sqlite3
import time
from contextlib import AsyncExitStack, closing
from ipaddress import ip_address

import attrs
import pytest
import trio

from transport import ChannelBroken, HandshakeTimeout, PrivateKey
from vswitch.addresses import mac_from_key
from vswitch.errors import VswitchError
from vswitch.frames.records import CONTROL, SUPERFRAME, encode_record, frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.members.protocol import Bye, ByeCode, Hello, Look, Sight, Welcome
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Invite
from vswitch.serving.line_limit import BURST
from vswitch.serving.reception import HELLO_TIMEOUT, LOOK_INTERVAL, LOOK_TIME, MAX_LOOKING
from vswitch.testing import FakeDevice, ethernet
from vswitch.testing.superframes import Flow, superframe

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
        (connected,) = house.reception.connected.values()
        assert connected.port is house.switch.ports[0]
        assert connected.device.name == connected.port.name == "pc1"
    await house.plugged(0)
    assert house.registry.named("pc1").last_seen == pytest.approx(time.time(), abs=60)
    assert house.switch.ports == ()


async def test_the_name_in_hello_may_be_left_out(house):
    async with house.visit(house.member("pc1")) as guest:
        guest.say(Hello(mtu=1500, mac="02:00:00:00:00:01"))
        assert (await guest.hear()).name == "pc1"


@pytest.mark.parametrize(
    ("wish", "granted"),
    [("kcp", "kcp"), ("datagram", "datagram"), ("auto", "auto"), ("of the future", "kcp")],
)
async def test_the_welcome_says_which_lane_is_in_force(house, wish, granted):
    async with house.visit(house.member("pc1")) as guest:
        guest.say(attrs.evolve(HELLO, lane=wish))
        assert (await guest.hear()).lane == granted
        (connected,) = house.reception.connected.values()
        assert connected.device.lane_mode == granted


async def test_members_with_and_without_the_datagram_lane_are_one_lan(house):
    keys = [house.member(name) for name in ("pc1", "pc2")]
    async with house.visit(keys[0]) as one, house.visit(keys[1], "192.0.2.2") as other:
        one.say(attrs.evolve(HELLO, lane="datagram"))
        await one.hear()
        one.channel.open_datagrams()
        other.say(attrs.evolve(HELLO, name="pc2", mac="02:00:00:00:00:02"))
        assert (await other.hear()).lane == "kcp"
        one.channel.datagrams.send_nowait([record(1)])
        with trio.fail_after(20):
            assert await other.channel.receive() == [record(1)]
        other.say(record(2))
        with trio.fail_after(20):
            await one.channel.wait_readable()
        assert one.channel.datagrams.receive_nowait() == [record(2)]
        assert other.channel.statistics().drops == {}


async def test_datagrams_of_a_member_that_did_not_wish_for_them_are_dropped(house):
    async with house.visit(house.member("pc1")) as guest:
        guest.say(HELLO)
        await guest.hear()
        guest.channel.open_datagrams()
        guest.channel.datagrams.send_nowait([record(1)])
        (connected,) = house.reception.connected.values()
        with trio.fail_after(20):
            while not connected.channel.statistics().drops:  # noqa: ASYNC110 (the network runs)
                await trio.sleep(0.002)
        assert connected.channel.statistics().drops == {"loose_unasked": 1}
        assert connected.port.counters.snapshot().rx_frames == 0


async def test_a_datagram_that_is_no_record_ends_that_session_alone(house):
    async with house.visit(house.member("pc1")) as guest:
        guest.say(attrs.evolve(HELLO, lane="datagram"))
        await guest.hear()
        guest.channel.open_datagrams()
        guest.channel.datagrams.send_nowait([record(1)[:-1]])
        assert (await guest.end()).code == ByeCode.PROTOCOL


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


@pytest.mark.parametrize("offload", [True, False])
async def test_superframes_only_if_the_member_has_announced_them(house, offload):
    big = superframe(Flow(), bytes(5000), 1448)
    device = FakeDevice(superframes=True)
    house.switch.attach(device, name="tap")
    async with house.visit(house.member("pc1")) as guest:
        guest.say(attrs.evolve(HELLO, offload=offload))
        assert (await guest.hear()).offload is offload
        (connected,) = house.reception.connected.values()
        assert connected.device.superframes is offload
        device.feed_records([big])
        wanted = [big] if offload else cut_untrusted(big, 1500)
        with trio.fail_after(20):
            while len(guest.heard) < len(wanted):
                data = b"".join(await guest.channel.receive())
                guest.heard += guest.splitter.feed_untrusted(data)
        assert guest.heard == wanted
        guest.say(big)
        if offload:
            with trio.fail_after(20):
                while not device.written:  # noqa: ASYNC110 (a session is on its way)
                    await trio.sleep(0.002)
            assert device.written == [big]
        else:
            assert "not agreed" in (await guest.end()).reason


async def test_superframes_before_the_welcome_end_the_session(house):
    async with house.visit(house.member("pc1")) as guest:
        guest.say(attrs.evolve(HELLO, offload=True), superframe(Flow(), bytes(5000), 1448))
        broken = await guest.end()
        assert broken.code == ByeCode.PROTOCOL
        assert "not agreed" in broken.reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([b"GET / HTTP/1.1\r\n"], "unknown record flag"),
        ([encode_record(CONTROL, b"{")], "not JSON"),
        ([encode_record(CONTROL, b'{"kind": "hello", "mtu": 1, "mac": "x"}')], "malformed hello"),
        ([record(1)], "frames before hello"),
        ([Bye()], "another message before hello"),
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
    assert house.reception.connected == {}


@pytest.mark.parametrize("said", [[], [encode_record(CONTROL, b'{"kind": "weather"}')]])
async def test_a_session_that_says_no_hello_ends(house, autojump_clock, said):
    began = trio.current_time()
    async with house.visit(house.member("pc1")) as guest:
        if said:
            guest.say(*said)
        broken = await guest.end()
    assert (broken.code, broken.reason) == (ByeCode.PROTOCOL, "no hello in time")
    assert trio.current_time() - began == pytest.approx(HELLO_TIMEOUT, abs=0.5)


async def test_who_looks_is_told_where_it_is_seen_and_is_not_plugged_in(house, autojump_clock):
    began = trio.current_time()
    async with house.visit(house.member("pc1")) as guest:
        guest.say(Look(), HELLO)  # which is too late
        sight = await guest.hear()
        assert sight.seen.startswith("192.0.2.1:")
        assert house.switch.ports == ()
        with pytest.raises(ChannelBroken) as ended:
            await guest.channel.receive()
        assert ended.value.code == ByeCode.NORMAL
    assert trio.current_time() - began == pytest.approx(LOOK_TIME, abs=0.5)
    assert house.reception.connected == {}


async def test_a_few_may_look_at_once_and_do_nothing_else(house):
    async with AsyncExitStack() as guests:
        for number in range(MAX_LOOKING + 1):
            key = house.member(f"pc{number}")
            guest = await guests.enter_async_context(house.visit(key, f"192.0.2.{number + 1}"))
            guest.say(Look())
            if number < MAX_LOOKING:
                assert isinstance(await guest.hear(), Sight)
        assert (await guest.end()).code == ByeCode.FULL
    async with house.visit(house.member("pc")) as guest:  # there is room again
        guest.say(Look())
        assert isinstance(await guest.hear(), Sight)
        guest.say(record(1))
        assert (await guest.end()).reason == "frames of one that only looks"


async def test_who_has_an_invite_looks_once_at_a_time_and_spends_nothing(house):
    """Else one invite, which any number of keys can show, would take all places."""
    now = time.time()
    invite = Invite(bytes(8), bytes(32), "new", now, now + 3600)
    house.registry.add_invite(invite)
    async with AsyncExitStack() as guests:
        looking = []
        for number in range(MAX_LOOKING + 1):
            visit = house.visit(PrivateKey.generate(), f"192.0.2.{number + 1}", invite=invite)
            looking.append(await guests.enter_async_context(visit))
            looking[-1].say(Look())
            assert isinstance(await looking[-1].hear(), Sight)
        for older in looking[:-1]:
            assert (await older.end()).code == ByeCode.NORMAL
        member = await guests.enter_async_context(house.visit(house.member("pc1"), "192.0.2.99"))
        member.say(Look())
        assert isinstance(await member.hear(), Sight)
    assert [each.name for each in house.registry.open_invites(now)] == ["new"]


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


async def test_a_member_is_refused_when_all_ports_are_taken(house):
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


# --- a member that was revoked where nobody told the switch ---------------------------------------


async def test_the_switch_sees_by_itself_that_a_member_was_revoked(house, tmp_path):
    async with house.visit(house.member("pc1")) as guest, trio.open_nursery() as nursery:
        nursery.start_soon(house.reception.watch)
        guest.say(HELLO)
        await house.plugged()
        with Registry.open(tmp_path / "registry.sqlite", create=False) as other:
            other.revoke("pc1", 1.0)
        broken = await guest.end()
        assert broken.code == ByeCode.REVOKED
        nursery.cancel_scope.cancel()
    assert house.reception.connected == {}


async def test_a_revoked_member_that_wants_new_keys_loses_its_session(house, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("vswitch.serving.reception.LOOK_INTERVAL", 1e6)
    async with house.visit(house.member("pc1")) as guest, trio.open_nursery() as nursery:
        nursery.start_soon(house.reception.watch)
        guest.say(HELLO)
        await house.plugged()
        house.registry.revoke("pc1", 1.0)
        guest.channel.renew()
        await house.plugged(0)
        assert "reason=revoked" in caplog.text
        nursery.cancel_scope.cancel()


async def test_a_registry_that_cannot_be_read_is_said_once_and_looked_at_again(
    house, monkeypatch, caplog
):
    monkeypatch.setattr("vswitch.serving.reception.LOOK_INTERVAL", 0.001)
    looks = []

    def version():
        looks.append(1)
        if len(looks) < 10:
            raise VswitchError("registry.sqlite: is damaged")
        return 1

    monkeypatch.setattr(house.registry, "version", version)
    checked = trio.Event()
    monkeypatch.setattr(house.reception, "check_revoked", checked.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.reception.watch)
        with trio.fail_after(20):
            await checked.wait()
        nursery.cancel_scope.cancel()
    assert caplog.text.count("registry-failed") == 1


async def test_the_log_lines_of_a_key_are_bounded(house, caplog):
    caplog.set_level("INFO", logger="vswitch.serving")
    key = house.member("pc1")
    for _ in range(15):
        async with house.visit(key) as guest:
            guest.say(b"GET / HTTP/1.1\r\n")
            await guest.end()
    assert caplog.text.count("member-lost") == BURST


async def test_a_member_is_not_told_what_is_on_the_switchs_disk(house, monkeypatch, caplog):
    def full(*_):
        raise VswitchError("/srv/lan/registry.sqlite: the disk is full")

    monkeypatch.setattr(Registry, "lease", full)
    async with house.visit(house.member("pc1")) as guest:
        guest.say(HELLO)
        assert await guest.refusal() == (ByeCode.SERVER_ERROR, "the switch has failed")
    assert "/srv/lan/registry.sqlite: the disk is full" in caplog.text


# --- the MAC addresses of members ----------------------------------------------------------------


class Told(dict):
    """Whose MACs are whose, and whose addresses."""

    addresses = {}  # noqa: RUF012

    def __call__(self, macs, addresses):
        self.clear()
        self.update(macs)
        self.addresses = addresses


@pytest.fixture
def reserved(house):
    """What the switch was told last."""
    house.reception.directory.reserve = told = Told()
    return told


async def test_the_macs_of_members_are_kept_while_they_are_members(house, reserved):
    keys = {name: house.member(name) for name in ("pc1", "pc2")}
    macs = {mac_from_key(key.public.raw): name for name, key in keys.items()}
    house.reception.check_revoked()
    assert reserved == macs
    house.registry.revoke("pc1", 1.0)
    house.reception.check_revoked()
    assert list(reserved.values()) == ["pc2"]


async def test_the_mac_of_a_new_member_is_kept_from_when_it_joins(house, reserved):
    house.reception.check_revoked()
    key = house.member("pc1")
    async with house.visit(key) as guest:
        guest.say(HELLO)
        await guest.hear()
        assert reserved == {mac_from_key(key.public.raw): "pc1"}
    await house.plugged(0)
    assert reserved == {mac_from_key(key.public.raw): "pc1"}


async def test_the_address_of_a_member_is_kept_while_it_is_a_member(house, reserved):
    key = house.member("pc1")
    async with house.visit(key) as guest:
        guest.say(HELLO)
        welcome = await guest.hear()
    await house.plugged(0)
    given = (welcome.address, welcome.address6)
    packed = [ip_address(address.partition("/")[0]).packed for address in given]
    assert reserved.addresses == dict.fromkeys(packed, "pc1")
    house.registry.revoke("pc1", 1.0)
    house.reception.check_revoked()
    assert reserved.addresses == {}


async def test_a_garbled_address_in_the_registry_is_nobodys(house, reserved, tmp_path):
    key = house.member("pc1")
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as file:
        file.execute("UPDATE member SET address = 'x'")
        file.commit()
    house.reception.check_revoked()
    assert list(reserved) == [mac_from_key(key.public.raw)]
    assert [len(packed) for packed in reserved.addresses] == [16]


async def test_what_another_program_changes_is_seen(house, reserved, nursery, autojump_clock):
    nursery.start_soon(house.reception.watch)
    house.member("pc1")
    await trio.sleep(2 * LOOK_INTERVAL)
    assert list(reserved.values()) == ["pc1"]
    house.registry.revoke("pc1", 1.0)
    await trio.sleep(2 * LOOK_INTERVAL)
    assert reserved == {}
