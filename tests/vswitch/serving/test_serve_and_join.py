"""serve and join together: becoming a member, coming back, addresses, frames, status."""

import logging
import os

import attrs
import pytest
import trio

from transport import Channel, CredentialKind
from vswitch.addresses import mac_from_key
from vswitch.errors import NotFound
from vswitch.features.rules import PortRules
from vswitch.frames.ethernet import parse_mac
from vswitch.testing import FakeInterface, ethernet

ALL = b"\xff" * 6


def frame(destination, source, number=0, size=50):
    return ethernet(destination, source, 0x88B5, number.to_bytes(4, "big") + bytes(size))


async def exchange(one, other, until, number=0):
    """A broadcast one way and a unicast back, each arriving once and unchanged."""
    macs = parse_mac(one.interface.mac), parse_mac(other.interface.mac)
    there, back = frame(ALL, macs[0], number), frame(macs[0], macs[1], number)
    one.interface.feed(there)
    await until(lambda: other.interface.written)
    assert other.interface.take() == [there]
    other.interface.feed(back)
    await until(lambda: one.interface.written)
    assert one.interface.take() == [back]


async def test_two_members_by_invite_are_one_lan(site, until):
    async with site.serving() as running:
        async with site.joined("pc1", running) as one, site.joined("pc2", running) as other:
            assert one.welcome.name == "pc1"
            assert (one.welcome.port, other.welcome.port) == (1, 2)
            assert one.welcome.network == "10.77.0.0/24"
            assert one.interface.address == one.welcome.address == "10.77.0.2/24"
            assert other.interface.address == "10.77.0.3/24"
            await exchange(one, other, until)
            await exchange(other, one, until)
        await until(lambda: not running.switch.ports)
        totals = running.switch.statistics().totals
        assert totals.rx_frames == totals.tx_frames + totals.dropped


async def test_a_member_of_a_switch_that_has_lost_its_key_is_invited_again(site):
    async with site.serving() as running, site.joined("pc1", running) as member:
        before = member.welcome.address, member.interface.mac
    site.files.server_key.unlink()
    async with site.serving() as running:
        string = site.invite("pc1", running.listen, again=True)
        async with site.joined("pc1", None, invite=string) as member:
            assert (member.welcome.address, member.interface.mac) == before
        async with site.joined("pc1", None):  # the new key is pinned
            pass


async def test_a_library_user_has_a_port_on_the_same_switch(site, until):
    async with site.serving() as running, running.switch.open_port("bot") as bot:
        async with site.joined("pc1", running) as member:
            sent = frame(ALL, parse_mac(member.interface.mac))
            member.interface.feed(sent)
            with trio.fail_after(10):
                assert await bot.receive_frame() == sent
            answer = frame(parse_mac(member.interface.mac), b"\x02\0\0\0\0\x09")
            await bot.send(answer)
            await until(lambda: member.interface.written)
            assert member.interface.take() == [answer]
            (plugged, local) = (await site.status()).ports[::-1]
            assert (local.name, local.via, local.address) == ("bot", "local:bot", None)
            assert plugged.via.startswith("udp:127.0.0.1:")


async def test_a_member_that_leaves_says_so(site, until, caplog):
    caplog.set_level(logging.INFO)
    async with site.serving() as running:
        async with site.joined("pc1", running):
            pass
        await until(lambda: "member-down" in caplog.text)
        assert 'member-down member=pc1 port=1 reason="the member has left"' in caplog.text


async def test_an_enrolled_member_needs_no_string(site, until):
    async with site.serving() as running:
        async with site.joined("pc1", running) as member:
            first = attrs.evolve(member.welcome, seen=""), member.interface.mac
            assert member.welcome.seen.startswith("127.0.0.1:")  # and from another port each time
            assert member.config.files.profile("pc1").stat().st_mode & 0o777 == 0o600
            assert member.config.files.key("pc1").stat().st_mode & 0o777 == 0o600
        await until(lambda: not running.switch.ports)
        async with site.joined("pc1", None) as member:
            assert (attrs.evolve(member.welcome, seen=""), member.interface.mac) == first
        # The string that made it is a spent one now, and does no harm to the one who used it.
        text = site.invite("pc2", running.listen)
        for _ in range(2):
            async with site.joined("pc2", None, invite=text):
                pass
        assert [member.name for member in running.registry.members()] == ["pc1", "pc2"]


async def test_the_invite_is_shown_once_and_never_again(site, monkeypatch, until):
    forgotten = []
    forget = Channel.forget_credential

    def note(channel):
        forgotten.append(channel.credential.kind)
        forget(channel)

    monkeypatch.setattr(Channel, "forget_credential", note)
    async with site.serving() as running:
        for invited in (running, None):
            async with site.joined("pc1", invited):
                pass
            await until(lambda: not running.switch.ports)
            # Rekeys show the key alone: the switch forgets an invite some day.
            assert forgotten == [CredentialKind.TOKEN]


async def test_the_mac_follows_from_the_key(site):
    async with site.serving() as running, site.joined("pc1", running) as member:
        (entry,) = running.registry.members()
        assert parse_mac(member.interface.mac) == mac_from_key(entry.key)


async def test_local_enrolment_needs_no_string(site, until):
    async with site.serving(listen="[::]:0") as running:
        async with site.joined("pc1", None, host="switch") as member:
            assert member.welcome.name == "pc1"
            assert sorted(os.listdir(site.files.members)) == ["pc1.key", "pc1.sock"]
            await until(lambda: running.registry.named("pc1").last_seen is not None)
        await until(lambda: not running.switch.ports)
        async with site.joined("pc1", None, host="switch") as member:
            assert member.welcome.address == "10.77.0.2/24"
        assert len(running.registry.members()) == 1


async def test_without_string_profile_or_switch_there_is_nothing_to_go_by(site):
    error = await site.failing("pc1")
    assert isinstance(error, NotFound)
    assert error.exit_code == 5
    assert "vswitch invite pc1" in str(error)


async def test_addresses_none_wished_and_stable(site, until):
    async with site.serving(subnet="10.9.0.0/29") as running:
        async with site.joined("pc1", running, address="none") as member:
            assert member.welcome.address is None
            assert member.interface.address is None
        await until(lambda: not running.switch.ports)
        async with site.joined("pc1", None, address="10.9.0.6/29") as member:
            assert member.interface.address == "10.9.0.6/29"
        await until(lambda: not running.switch.ports)
        async with site.joined("pc2", running) as other, site.joined("pc1", None) as member:
            assert member.interface.address == "10.9.0.6/29"
            assert other.interface.address == "10.9.0.2/29"
            status = await site.status()
            assert [(port.name, port.address) for port in status.ports] == [
                ("pc2", "10.9.0.2/29"),
                ("pc1", "10.9.0.6/29"),
            ]


@pytest.mark.parametrize(
    ("switch", "wanted", "agreed", "told"),
    [(1400, 1500, 1400, True), (9000, None, 9000, False), (1500, 1300, 1300, False)],
)
async def test_mtu_is_the_smaller_of_the_two(site, caplog, switch, wanted, agreed, told):
    caplog.set_level(logging.INFO)
    async with site.serving(mtu=switch) as running:
        async with site.joined("pc1", running, mtu=wanted) as member:
            assert member.interface.mtu == agreed
            assert member.welcome.mtu == switch
            assert ("mtu-lowered" in caplog.text) is told


async def test_frames_of_the_largest_mtu_pass_and_larger_ones_are_dropped(site, until):
    async with site.serving(mtu=9000) as running:
        async with site.joined("pc1", running) as one, site.joined("pc2", running) as other:
            fits = frame(ALL, parse_mac(one.interface.mac), size=8996)
            one.interface.feed(fits, fits[:14] + bytes(9009), fits)
            await until(lambda: len(other.interface.written) == 2)
            assert other.interface.take() == [fits, fits]
            assert (await site.status()).ports[0].drops == {"oversize": 1}


async def test_status_of_both_sides_agrees(site, until):
    async with site.serving() as running, site.joined("pc1", running) as one:
        async with site.joined("pc2", running) as other:
            for number in range(20):
                await exchange(one, other, until, number)
            switch = await site.status()
            port, status = switch.ports[0], await one.status()
        assert (status.state, status.error, status.dev) == ("up", None, "vsw0")
        assert (status.address, status.mtu) == (port.address, switch.mtu)
        assert status.tx_frames == port.rx_frames == 20
        assert status.rx_frames == port.tx_frames == 20
        assert status.tx_bytes == port.rx_bytes
        assert (status.drops, port.drops) == ({}, {})
        assert status.rtt_ms > 0 < port.rtt_ms
        assert status.server == running.listen.text() == switch.listen
        assert switch.members == 2


async def test_a_slow_kernel_holds_the_session_back_and_loses_nothing_here(site, until):
    """Back-pressure: what the interface does not take waits in the session, then at the port."""
    async with site.serving() as running:
        slow = FakeInterface(capacity=4)
        async with site.joined("pc1", running) as one:
            async with site.joined("pc2", running, interface=slow) as other:
                frames = [frame(ALL, parse_mac(one.interface.mac), n) for n in range(100)]
                one.interface.feed(*frames)
                got = []

                def drained():
                    got.extend(slow.take())
                    return len(got) == len(frames)

                await until(drained)
                assert got == frames
                assert (await other.status()).drops == {}


async def test_a_member_that_is_renamed_comes_back_as_it_was(site, until):
    async with site.serving() as running, site.joined("pc1", running) as member:
        address = member.interface.address
        with site.registry() as registry:
            registry.rename("pc1", "office")
        await until(lambda: [port.name for port in running.switch.ports] == ["office"])
        assert (await site.status()).ports[0].address == address == member.interface.address
        member.scope.cancel()
        await until(lambda: not running.switch.ports)
        async with site.joined("pc1", None) as member:
            assert member.welcome.name == "office"  # its host says what it always said


async def test_rules_mean_a_renamed_member_until_another_is_called_so(site, tmp_path, until):
    path = tmp_path / "vswitch.toml"
    path.write_text('[rules]\nlist = ["deny pc1 -> pc2"]\n')
    async with site.serving(config=path) as running:
        rules = running.network.managed.feature(PortRules)

        def ports():
            return {port.name: port for port in running.switch.ports}

        def is_denied():
            return not rules.pair(ports()["office"], ports()["pc2"]).free

        async with site.joined("pc1", running):
            with site.registry() as registry:
                registry.rename("pc1", "office")
            await until(lambda: "office" in ports())
            assert rules.unknown_names() == ["pc2"]
            async with site.joined("pc2", running):
                await until(lambda: "pc2" in ports())
                assert is_denied()
                async with site.joined("pc1", running, host="another"):
                    await until(lambda: not is_denied())
                    assert not rules.pair(ports()["pc1"], ports()["pc2"]).free


async def test_a_disabled_member_is_out_and_comes_back_by_itself(site, until, caplog):
    async with site.serving() as running, site.joined("pc1", running) as member:
        address = member.interface.address
        with site.registry() as registry:
            registry.disable("pc1", 1.0)
            await until(lambda: not running.switch.ports)
            await until(lambda: "until `vswitch enable pc1`" in caplog.text)
            registry.disable("pc1", None)
        await until(lambda: running.switch.ports)
        assert (await site.status()).ports[0].address == address == member.interface.address
