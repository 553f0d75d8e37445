"""A join outlives its switch, its name server and its rivals, and keeps its interface meanwhile."""

import random
import socket
from contextlib import suppress

import attrs
import pytest
import trio

from vswitch.addresses import HostPort
from vswitch.errors import ExitCode, NotReachable, PrivilegeError, TimedOut, VswitchError
from vswitch.frames.ethernet import parse_mac
from vswitch.joining.profiles import load
from vswitch.members.protocol import ByeCode, Notice, Update
from vswitch.registry.invite import JoinString
from vswitch.registry.rules import refusal
from vswitch.testing import FakeInterface, ethernet


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """The pauses are tested under a clock of their own; here it is the outcome that counts."""
    monkeypatch.setattr("vswitch.joining.backoff.FIRST", 0.01)
    monkeypatch.setattr("vswitch.joining.member.PATIENCE", 0.3)


def broadcast(member, number=0):
    source = parse_mac(member.interface.mac)
    return ethernet(b"\xff" * 6, source, 0x88B5, number.to_bytes(4, "big") + bytes(50))


async def state_of(member, wanted):
    """The first status for which `wanted` holds."""
    with trio.fail_after(20):
        while not wanted(status := await member.status()):
            pass
    return status


def free_port():
    """Of UDP and TCP, and none that the kernel gives out, so that nobody takes it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with (
            suppress(OSError),
            socket.socket(type=socket.SOCK_DGRAM) as udp,
            socket.socket() as tcp,
        ):
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            return port


async def test_a_switch_that_stops_says_so_and_finds_its_member_again(site, nursery, until):
    first = await site.start_serving(nursery)
    listen = first.running.listen
    async with site.joined("pc1", first.running) as member:
        interface = member.interface
        before, history = await member.status(), list(interface.history)
        await first.stop()
        status = await state_of(member, lambda status: status.state == "connecting")
        assert "the switch is stopping" in status.error or "no answer" in status.error
        assert (status.address, status.dev, status.mac) == (
            before.address,
            before.dev,
            before.mac,
        )
        assert status.since > before.since
        second = await site.start_serving(nursery, listen=listen)
        status = await state_of(member, lambda status: status.state == "up")
        assert status.error is None
        assert (interface.opened, interface.history, interface.closed) == (1, history, False)
        async with second.running.switch.open_port("bot") as bot:
            sent = broadcast(member)
            interface.feed(sent)
            with trio.fail_after(20):
                assert await bot.receive_frame() == sent
        assert [port.name for port in second.running.switch.ports] == ["pc1"]


async def test_the_first_loss_is_told_with_the_reason_of_the_switch(site, nursery, caplog):
    switch = await site.start_serving(nursery)
    async with site.joined("pc1", switch.running, once=True) as member:
        await switch.stop()
        error = await member.wait_ended()
    assert isinstance(error, NotReachable)
    assert error.exit_code == ExitCode.NOT_REACHABLE
    assert str(error) == "the switch is stopping"
    assert member.interface.closed


async def test_a_switch_with_another_subnet_gives_another_address(site, nursery):
    first = await site.start_serving(nursery)
    async with site.joined("pc1", first.running, allow_network="10.9.0.0/16") as member:
        await first.stop()
        await site.start_serving(nursery, listen=first.running.listen, subnet="10.9.0.0/24")
        await state_of(member, lambda status: status.address == "10.9.0.2/24")
        assert [what for what in member.interface.history if what[0] == "address"] == [
            ("address", "10.77.0.2/24"),
            ("address", "10.9.0.2/24"),
        ]


async def test_another_subnet_is_not_taken_unless_the_operator_says_so(site, nursery):
    first = await site.start_serving(nursery)
    async with site.joined("pc1", first.running) as member:
        await first.stop()
        await site.start_serving(nursery, listen=first.running.listen, subnet="10.9.0.0/24")
        status = await state_of(member, lambda status: status.refused)
        assert (status.state, status.address) == ("up", None)
        assert status.refused["address"] == (
            "10.9.0.2/24: the LAN was 10.77.0.0/24 before; if that is meant, join with "
            "--allow-network 10.9.0.0/24"
        )
    # It is remembered by the next join as well, until that has been told of another.
    for options, address in (
        ({}, None),
        ({"allow_network": "10.9.0.0/24"}, "10.9.0.2/24"),
        ({}, "10.9.0.2/24"),
    ):
        async with site.joined("pc1", None, **options) as member:
            assert member.interface.address == address


async def test_a_network_that_cannot_be_kept_is_no_reason_to_leave(site, monkeypatch, caplog):
    async with site.serving() as running, site.joined("pc1", running) as member:
        assert load(member.config.files, "pc1").network == "10.77.0.0/24"
    async with site.serving(subnet="10.9.0.0/24") as running:
        listen = running.listen

        def full(path, data):
            raise VswitchError("No space left on device")

        monkeypatch.setattr("vswitch.joining.profiles.write_file", full)
        profile = load(member.config.files, "pc1")
        monkeypatch.setattr(
            "vswitch.joining.profiles.load",
            lambda *_: attrs.evolve(profile, servers=(HostPort(listen.host, listen.port),)),
        )
        async with site.joined("pc1", None, allow_network="10.9.0.0/24") as member:
            assert member.interface.address == "10.9.0.2/24"
    assert 'network-not-kept network=10.9.0.0/24 reason="No space left' in caplog.text


async def test_a_switch_that_is_not_up_yet_is_waited_for(site):
    async with site.serving(listen=f"127.0.0.1:{free_port()}") as running:
        text, listen = site.invite("pc1", running.listen), running.listen
    async with site.starting("pc1", invite=text) as member:
        status = await state_of_started(site, member)
        assert (status.state, status.address, status.mtu) == ("connecting", None, 1500)
        assert f"no answer from {listen}" in status.error
        async with site.serving(listen=listen):
            await state_of(member, lambda status: status.state == "up")


async def test_a_member_that_is_cancelled_as_its_session_ends_is_only_cancelled(
    site, nursery, monkeypatch
):
    served = await site.start_serving(nursery)
    async with site.joined("pc1", served.running) as member:

        def cancel_and_judge(code):
            member.scope.cancel()
            return refusal(code)

        monkeypatch.setattr("vswitch.joining.connection.refusal", cancel_and_judge)
        await served.stop()
        assert await member.wait_ended() is None
        assert member.scope.cancelled_caught


async def state_of_started(site, member):
    path = member.config.files.join_socket(member.config.name)
    with trio.fail_after(20):
        while not path.exists():  # noqa: ASYNC110 (a file sets no event)
            await trio.sleep(0.005)
    return await state_of(member, lambda status: status.error is not None)


async def test_a_switch_that_never_comes_up_ends_a_join_that_is_to_try_once(site):
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)
    error = await site.failing("pc1", invite=text, once=True)
    assert isinstance(error, TimedOut)
    assert error.exit_code == ExitCode.TIMEOUT
    # The invite is not spent, and the key that it may be spent with is still there.
    assert site.path.joinpath("pc1/members/pc1.key").exists()


async def test_a_name_that_does_not_resolve_is_tried_again(site, nursery, monkeypatch):
    asked = []

    async def resolve(host, port):
        asked.append(host)
        await trio.lowlevel.checkpoint()
        if len(asked) < 4:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [("127.0.0.1", port)]

    monkeypatch.setattr("vswitch.joining.reach.resolve", resolve)
    async with site.serving() as running:
        string = JoinString.parse_untrusted(site.invite("pc1", running.listen))
        named = JoinString(
            string.server_key,
            string.token_id,
            string.token_secret,
            (HostPort("switch.example.org", running.listen.port),),
        )
        text = named.encode()
        error = await site.failing("pc1", invite=text, once=True)
        assert isinstance(error, NotReachable)
        assert error.exit_code == ExitCode.NOT_REACHABLE
        assert "cannot resolve switch.example.org: Temporary failure" in str(error)
        async with site.joined("pc1", None, invite=text) as member:
            assert member.welcome.name == "pc1"
        assert asked == ["switch.example.org"] * 4


@pytest.mark.parametrize("bind", ["192.0.2.77", "nosuch0"])
async def test_a_local_address_that_is_not_there_says_so(site, bind):
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)
        error = await site.failing("pc1", invite=text, bind=bind, once=True)
        assert isinstance(error, NotReachable | PrivilegeError)
        assert bind in str(error)


async def test_binding_to_an_address_or_an_interface(site, until):
    async with site.serving() as running:
        async with site.joined("pc1", running, bind="127.0.0.1"):
            assert (await site.status()).ports[0].via.startswith("udp:127.0.0.1:")


async def test_an_address_of_the_wrong_family_cannot_be_reached(site, monkeypatch):
    async def resolve(host, port):
        await trio.lowlevel.checkpoint()
        return [("2001:db8::1", port), ("fe80::1%nosuch0", port)]

    monkeypatch.setattr("vswitch.joining.reach.resolve", resolve)
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)
        error = await site.failing("pc1", invite=text, bind="127.0.0.1", once=True)
        assert isinstance(error, NotReachable)
        assert "no address that 127.0.0.1 can reach" in str(error)
        error = await site.failing("pc1", invite=text, once=True)
        assert isinstance(error, NotReachable)
        assert "cannot reach 127.0.0.1" in str(error) or "this host can reach" in str(error)


async def test_the_same_key_on_another_host_takes_over(site, until):
    async with site.serving() as running, site.joined("pc1", running) as one:
        old = running.switch.ports[0]
        site.copy_member("pc1", "copy")
        async with site.joined("pc1", None, host="copy") as other:
            assert not old.attached
            assert [port.name for port in running.switch.ports] == ["pc1"]
            assert other.welcome.address == one.welcome.address
            status = await state_of(one, lambda status: status.state == "connecting")
            assert "another host has connected with the key" in status.error
            # It does not throw the other one out in turn; for how long, see test_join_in_time.py.
            assert running.switch.ports[0].attached
            async with running.switch.open_port("bot") as bot:
                sent = broadcast(other)
                other.interface.feed(sent)
                with trio.fail_after(20):
                    assert await bot.receive_frame() == sent


async def test_updates_are_carried_out_and_notices_shown(site, until, caplog):
    caplog.set_level("INFO")
    async with site.serving() as running, site.joined("pc1", running) as member:
        device = running.switch.ports[0].device
        device.send_control(Notice("the switch moves tonight"))
        device.send_control(Update(mtu=1400))
        device.send_control(Update(address="10.77.0.9/24"))
        await until(lambda: member.interface.address == "10.77.0.9/24")
        assert member.interface.mtu == 1400
        assert 'notice text="the switch moves tonight"' in caplog.text


async def test_an_interface_that_goes_away_ends_the_join_and_the_port(site, until):
    async with site.serving() as running, site.joined("pc1", running) as member:
        member.interface.fail(trio.BrokenResourceError("vsw0 is gone"))
        error = await member.wait_ended()
        assert type(error) is VswitchError
        assert str(error) == "vsw0 is gone; start join again to make it anew"
        await until(lambda: not running.switch.ports)


async def test_an_mtu_that_the_kernel_refuses_is_done_without(site, caplog):
    async with site.serving(mtu=1400) as running:
        interface = FakeInterface()
        interface.refuse = PrivilegeError("cannot change vsw0: run as root")
        async with site.joined("pc1", running, interface=interface) as member:
            assert (interface.mtu, interface.address) == (1500, "10.77.0.2/24")
            status = await member.status()
            assert status.refused == {"mtu": "1400: cannot change vsw0: run as root"}
    assert "offer-refused member=pc1 dev=vsw0 what=mtu offered=1400" in caplog.text


async def test_an_address_that_the_kernel_refuses_is_done_without(site, caplog, until):
    async with site.serving() as running, site.joined("pc1", running) as member:
        member.interface.refuse = VswitchError("the kernel refuses 10.77.0.9/24")
        send = running.switch.ports[0].device.send_control
        send(Update(address="10.77.0.9/24"))
        status = await state_of(member, lambda status: status.refused)
        assert status.refused == {"address": "10.77.0.9/24: the kernel refuses 10.77.0.9/24"}
        assert (status.state, status.address) == ("up", "10.77.0.2/24")
        send(Update(address="10.77.0.10/24"))
        status = await state_of(member, lambda status: not status.refused)
        assert status.address == "10.77.0.10/24"
    assert caplog.text.count("offer-refused") == 1


async def test_goodbyes_from_the_switch_of_a_later_version_are_tried_again(site, nursery):
    switch = await site.start_serving(nursery)
    async with site.joined("pc1", switch.running) as member:
        before = (await member.status()).since
        switch.running.switch.ports[0].device.close(200, "who knows")
        await state_of(member, lambda status: status.state == "up" and status.since > before)
        assert member.error is None
        assert ByeCode(200) is ByeCode.UNKNOWN
