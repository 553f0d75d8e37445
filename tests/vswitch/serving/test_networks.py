"""Several networks in one serve: what is each one's own, and what is not possible."""

import logging
import shutil
import sqlite3
from contextlib import closing

import pytest

from transport import Credential, PublicKey, Result
from vswitch.errors import ConfigError, NotFound, VswitchError
from vswitch.frames.ethernet import parse_mac
from vswitch.registry.rules import EnrolRefused, Member
from vswitch.serving.authority import RegistryAuthority
from vswitch.testing import ethernet

# Without services, which would be a port and its copies more.
NONE = "[names]\nenabled = false\n[network.lab.names]\nenabled = false\n"
TWO = NONE + '[network.lab]\nsubnet = "10.77.0.0/24"\nmtu = 1400\n'
ALL = b"\xff" * 6
SAME = b"\x02\0\0\0\0\x07"  # a station that both networks have


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "vswitch.toml"
    path.write_text(TWO)
    return path


def frame(destination, source, text):
    return ethernet(destination, source, 0x88B5, text + bytes(50))


async def arrives(text, sender, receiver, until, destination=ALL):
    sent = frame(destination, SAME, text)
    sender.interface.feed(sent)
    await until(lambda: receiver.interface.written)
    assert receiver.interface.take() == [sent]


async def test_networks_with_one_subnet_and_one_mac_see_nothing_of_each_other(site, config, until):
    async with site.serving(config=config) as running:
        listen, lab = running.listen, running.networks["lab"]
        strings = [site.invite(name, listen, network="lab") for name in ("pc1", "pc2")]
        async with (
            site.joined("pc1", running) as one,
            site.joined("pc2", running) as two,
            site.joined("pc1", None, host="other1", invite=strings[0]) as lab_one,
            site.joined("pc2", None, host="other2", invite=strings[1]) as lab_two,
        ):
            assert one.welcome.address == lab_one.welcome.address == "10.77.0.2/24"
            assert (one.welcome.mtu, lab_one.welcome.mtu) == (1500, 1400)
            await arrives(b"default", one, two, until)
            await arrives(b"lab", lab_two, lab_one, until)
            # The station is behind pc1 here and behind pc2 there.
            for asking, having in ((two, one), (lab_one, lab_two)):
                asking.interface.feed(frame(SAME, parse_mac(asking.interface.mac), b"back"))
                await until(lambda having=having: having.interface.written)
                assert len(having.interface.take()) == 1
            await arrives(b"more", one, two, until)
            for member in (one, two, lab_one, lab_two):
                assert member.interface.written == []
            totals = [each.switch.statistics().totals for each in (running.network, lab)]
            assert [(each.rx_frames, each.tx_frames, each.dropped) for each in totals] == [
                (3, 3, 0),
                (2, 2, 0),
            ]
            here, there = await site.status(), await site.status("lab")
            assert (here.network, there.network) == ("default", "lab")
            assert here.networks == there.networks == ["default", "lab"]
            assert [port.name for port in there.ports] == ["pc1", "pc2"]
            prefixes = {each.status.served.prefix for each in running.networks.values()}
            assert len(prefixes) == 2  # a host can be in both
            assert await site.revoke("pc1", "lab") == ["pc1"]
            assert isinstance(await lab_one.wait_ended(), EnrolRefused)
            assert [port.name for port in (await site.status()).ports] == ["pc1", "pc2"]
            await arrives(b"on", one, two, until)


async def test_one_host_is_in_two_networks_under_two_names(site, config, until, caplog):
    caplog.set_level(logging.INFO)
    async with site.serving(config=config) as running:
        string = site.invite("pc1-lab", running.listen, network="lab")
        async with (
            site.joined("pc1", running, host="pc") as one,
            site.joined("pc1-lab", None, host="pc", invite=string) as other,
        ):
            assert one.interface.mac != other.interface.mac
            lines = [line for line in caplog.messages if line.startswith("member-up")]
            assert ["network=lab" in line for line in lines] == [
                "pc1-lab" in line for line in lines
            ]
            assert len(lines) == 2
        await until(lambda: not running.networks["lab"].switch.ports)
        async with site.joined("pc1-lab", None, host="pc"):  # the key alone says which network
            assert [port.name for port in (await site.status("lab")).ports] == ["pc1-lab"]


async def test_a_key_is_in_one_network(site, config):
    async with site.serving(config=config) as running:
        async with site.joined("pc1", running):
            pass
        site.copy_member("pc1", "copy")
        string = site.invite("pc1", running.listen, network="lab")
        error = await site.failing("pc1", host="copy", invite=string)
        assert "this key is of pc1 in the network default" in str(error)
        assert running.networks["lab"].registry.members() == []
        await site.revoke("pc1")  # then it is free for another
        async with site.joined("pc1", None, host="copy", invite=string):
            assert [port.name for port in (await site.status("lab")).ports] == ["pc1"]


async def test_what_was_there_before_networks_is_the_network_default(site, config):
    async with site.serving() as running, site.joined("pc1", running):
        string = site.invite("pc2", running.listen)
    with closing(sqlite3.connect(site.files.registry)) as file:  # as the first format has it
        for column in ("disabled", "former", "routes", "switch_key"):
            file.execute(f"ALTER TABLE member DROP COLUMN {column}")
        file.execute("DROP TABLE lease")
        file.execute("PRAGMA user_version=1")
        file.commit()
    async with site.serving(config=config, listen=str(running.listen)) as running:
        async with site.joined("pc1", None) as member, site.joined("pc2", None, invite=string):
            assert member.welcome.address == "10.77.0.2/24"
            assert [port.name for port in (await site.status()).ports] == ["pc1", "pc2"]
            assert (await site.status("lab")).ports == []
        error = await site.failing("pc3", host="pc2", network="lab", invite=string)
        assert "an invite is of one network" in str(error)


async def test_networks_that_share_a_key_are_not_served(site, config):
    async with site.serving(config=config) as running, site.joined("pc1", running):
        pass
    lab = site.files.network("lab")
    shutil.copytree(site.files.path, lab.path, dirs_exist_ok=True, ignore=lambda *_: {"networks"})
    with pytest.raises(ConfigError, match="pc1 of network lab and pc1 of network default"):
        async with site.serving(config=config):
            pass


async def test_each_network_has_its_own_limit(site, tmp_path):
    path = tmp_path / "vswitch.toml"
    path.write_text("[network.lab]\nmax_members = 1\n")
    async with site.serving(config=path) as running:
        strings = [site.invite(name, running.listen, network="lab") for name in ("pc1", "pc2")]
        async with site.joined("pc1", None, invite=strings[0]):
            error = await site.failing("pc2", invite=strings[1], once=True)
            assert "has its 1 members" in str(error)
            async with site.joined("pc3", running):
                pass


async def test_a_member_of_a_network_that_is_served_no_more_is_a_stranger(site, config):
    async with site.serving(config=config) as running:
        string = site.invite("pc1", running.listen, network="lab")
        async with site.joined("pc1", None, invite=string):
            pass
        place = str(running.listen)
    async with site.serving(listen=place) as running:
        async with site.starting("pc1"):
            async with site.joined("pc2", running):
                pass
            drops = (await site.status()).transport_drops
            assert drops["unknown_peer"] >= 1
            assert [port.name for port in (await site.status()).ports] == []
        assert not (await site.status()).networks[1:]


async def test_on_the_switchs_own_host_a_network_is_joined_by_its_name(site, config):
    state = site.files.path
    async with site.serving(config=config):
        async with site.joined("bot", None, host=state, network="lab"):
            assert [port.name for port in (await site.status("lab")).ports] == ["bot"]
        error = await site.failing("bot", host=state)  # that key is of lab
        assert "bot in the network lab" in str(error)
        error = await site.failing("other", host=state, network="labs")
        assert isinstance(error, NotFound)
        assert "only default, lab" in str(error)
        error = await site.failing("other", host=state, network="lab", invite="vsw1-x")
        assert "an invite is of one network" in str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[network.default]\n", "network.default: what stands in [serve]"),
        ("[network.Lab]\n", "network.Lab: a name is"),
        ("[network]\nlab = 1\n", "network.lab: must be a table"),
        ("network = 1\n", "write [network.NAME]"),
        ("[network.lab]\nlisten = ':1'\n", "network.lab: unknown option listen"),
        ("[network.lab]\nsubnet = '10.0.0.0/31'\n", "network.lab.subnet = "),
        ("[network.lab.port.pc1]\nrate = 1\n", "network.lab.port.pc1: unknown option rate"),
        ("[network.lab.foreign]\nkind = 'udp'\n", "write [[network.lab.foreign]]"),
        ("[[network.lab.foreign]]\nkind = 'udp'\n", "network.lab.foreign[1]: listen is missing"),
        ("[network.lab]\nbridge = 'br0'\n", "network.lab.bridge"),
        ("[[network.lab.publish]]\nto = 'a:1'\n", "network.lab.publish[1]: listen is missing"),
        ("[network.lab.publish]\n", "write [[network.lab.publish]]"),
        (
            "[[publish]]\nlisten = 'tcp://:8000-8010'\nto = 'a:1-11'\n[network.lab]\n"
            "[[network.lab.publish]]\nlisten = 'tcp://127.0.0.1:8010'\nto = 'a:1'\n",
            "network.lab.publish: tcp://127.0.0.1:8010 takes what comes to tcp://:8000-8010 of "
            "default",
        ),
        ("".join(f"[network.n{n}]\n" for n in range(16)), "more than 15"),
        (
            "[network.a]\nlocal_port = true\n[network.b]\nlocal_port = true\n",
            "network.b.dev = vsw0: the network a has that TAP",
        ),
        (
            "[network.a]\nlocal_port = true\nbridge = 'br0'\n"
            "[network.b]\nlocal_port = true\ndev = 'vsw1'\nbridge = 'br0'\n",
            "network.b.bridge = br0: the network a is in that bridge",
        ),
        (
            "[network.a]\nlocal_port = true\n"
            "[network.b]\nlocal_port = true\ndev = 'vsw1'\nsubnet = '10.77.0.0/16'\n",
            "network.b.subnet = 10.77.0.0/16: this host has an address of 10.77.0.0/24",
        ),
    ],
)
async def test_networks_that_cannot_be_are_named(site, tmp_path, text, said):
    path = tmp_path / "vswitch.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        async with site.serving(config=path):
            pass
    assert said in str(caught.value)


async def test_settings_of_a_port_are_of_its_network(site, tmp_path):
    path = tmp_path / "vswitch.toml"
    path.write_text(
        "[network.lab.port.pc1]\nisolated = true\n[network.lab.rules]\ndefault = 'deny'\n"
    )
    async with site.serving(config=path) as running:
        here, there = (each.managed.settings for each in running.networks.values())
        assert (here.separated("pc1"), there.separated("pc1")) == (False, True)
        assert (here.switch.rules.allow, there.switch.rules.allow) == (True, False)
        (isolated,) = (each for each in there.in_force("pc1") if each.key == "isolated")
        assert isolated.source == "[network.lab.port.pc1]"


class FakeRegistry:
    """That has one member, or cannot be read."""

    def __init__(self, member=None, *, fails=False):
        self.member, self.fails = member, fails

    def look_up(self, key):
        if self.fails:
            raise VswitchError("disk")
        return self.member


@pytest.mark.parametrize(
    ("registries", "result"),
    [
        (("unknown", "unknown"), None),
        (("unknown", "current"), Result.OK),
        (("revoked", "current"), Result.OK),
        (("unknown", "revoked"), Result.REVOKED),
        (("failing", "current"), Result.OK),
        (("failing", "revoked"), None),  # a refusal would be for good, and might be wrong
        (("revoked", "failing"), None),
        (("failing", "unknown"), None),
    ],
)
def test_registries_are_asked_in_turn(registries, result):
    key = bytes(32)
    kinds = {
        "unknown": FakeRegistry(),
        "failing": FakeRegistry(fails=True),
        "current": FakeRegistry(Member("pc1", key, None, 1.0, None, None)),
        "revoked": FakeRegistry(Member("pc1", key, None, 1.0, None, 2.0)),
    }
    names = zip(("default", "lab"), registries, strict=True)
    authority = RegistryAuthority({name: kinds[kind] for name, kind in names})
    grant = authority.look_up(PublicKey(key), Credential())
    assert (None if grant is None else grant.result) == result
