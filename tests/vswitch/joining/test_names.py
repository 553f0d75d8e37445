"""The LAN's names on a host: offers, their end, and what a killed process leaves."""

import ipaddress
import logging

import pytest
import trio

from vswitch.config.options import JoinConfig
from vswitch.errors import NotReachable, VswitchError
from vswitch.joining.host_trust import refuse_names
from vswitch.joining.names import (
    LanResolver,
    addresses_of,
    foreign_files,
    reverse_domains,
)
from vswitch.joining.resolvers import Place

BEFORE = b"127.0.0.1 localhost\n"
LAN = ipaddress.ip_network("10.77.0.0/24")
PEERS = ["pc1 up 10.77.0.2/24 -", "pc2 away 10.77.0.3 -", "pc3 up - -", "evil up 192.0.2.1 -"]


class Host:
    def __init__(self, path, name="pc1", dev="vsw0", **options):
        self.etc, self.state = path / "etc", path / "state"
        if not self.etc.exists():
            self.etc.mkdir()
            self.hosts.write_bytes(BEFORE)
            (self.etc / "resolv.conf").write_text("nameserver 9.9.9.9\n")
        self.config = JoinConfig(name=name, state=self.state, **options)
        self.config.files.ensure()
        self.undo = self.config.files.names_undo(name)
        self.refused = {}
        place = Place(self.etc, path / "run")
        self.resolver = LanResolver(self.config, dev, self.refuse, place)

    @property
    def hosts(self):
        return self.etc / "hosts"

    def refuse(self, what, value, reason):
        self.refused = {} if reason is None else {what: str(reason)}

    async def offer(self, server="10.77.0.1", domain="lan", address="10.77.0.2/24"):
        await self.resolver.offer((server,), domain, address)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    for pause in ("REFRESH", "RETRY", "SPREAD"):
        monkeypatch.setattr(f"vswitch.joining.names.{pause}", 0.0)


async def followed(host, peers):
    """One look at who is there, carried out; an error in place of what is said is raised."""
    asked = 0
    with trio.CancelScope() as scope:

        async def ask():
            nonlocal asked
            asked += 1
            if asked == 2:
                scope.cancel()
                await trio.sleep_forever()
            if isinstance(peers, Exception):
                raise peers
            return peers

        await host.resolver.follow(ask)


async def test_the_names_come_and_go(host):
    await host.offer()
    assert host.undo.exists()
    assert host.resolver.shown == "lan (hosts)"
    await followed(host, PEERS)
    text = host.hosts.read_text()
    assert "10.77.0.2 pc1.lan" in text
    assert "10.77.0.3 pc2.lan" in text
    assert "192.0.2.1" not in text
    await host.resolver.close()
    assert host.hosts.read_bytes() == BEFORE
    assert not host.undo.exists()
    assert host.refused == {}


async def test_names_that_come_after_the_end_are_not_written_down(host):
    await host.offer()
    way, wanted = host.resolver._way, host.resolver._wanted  # as a look has them that goes on
    await host.resolver.close()
    host.resolver._put(way, wanted, {"pc1": "10.77.0.2"})
    assert host.hosts.read_bytes() == BEFORE
    assert not host.undo.exists()


async def test_who_is_there_is_asked_when_the_switch_says_so(host, monkeypatch, nursery):
    monkeypatch.setattr("vswitch.joining.names.REFRESH", 1e6)
    await host.offer()
    peers = []

    async def ask():
        return peers

    nursery.start_soon(host.resolver.follow, ask)
    with trio.fail_after(20):
        peers = PEERS
        while "pc2.lan" not in host.hosts.read_text():
            host.resolver.look_again()
            await trio.sleep(0.01)
    await host.resolver.close()


async def test_what_a_killed_one_has_left_goes_at_the_next_start(tmp_path, host, caplog):
    caplog.set_level(logging.INFO)
    await host.offer()
    await followed(host, PEERS)
    assert host.hosts.read_bytes() != BEFORE
    after = Host(tmp_path)
    await after.resolver.recover()
    assert after.hosts.read_bytes() == BEFORE
    assert not after.undo.exists()
    assert "names-recovered" in caplog.text
    await after.resolver.recover()


@pytest.mark.parametrize("left", ["", "{", "[]", '{"way": "nonsense"}'])
async def test_a_damaged_note_of_what_was_done_is_no_obstacle(tmp_path, host, left):
    await host.offer()
    host.undo.write_text(left)
    after = Host(tmp_path)
    await after.resolver.recover()
    assert after.hosts.read_bytes() == BEFORE


async def test_a_second_network_of_one_domain_is_refused_its_names(tmp_path, host):
    await host.offer()
    await followed(host, PEERS)
    before = host.hosts.read_bytes()
    other = Host(tmp_path, "pc1-lab", "vsw1")
    await other.offer(server="10.88.0.1", address="10.88.0.2/24")
    assert "lan is already that of the LAN at vsw0" in other.refused["names"]
    assert other.resolver.shown is None
    await other.resolver.close()
    assert host.hosts.read_bytes() == before
    await host.resolver.close()
    await other.offer(server="10.88.0.1", address="10.88.0.2/24")
    assert other.refused == {}
    await other.resolver.close()
    assert host.hosts.read_bytes() == BEFORE


async def test_an_offer_that_ends_is_undone(host):
    await host.offer()
    await host.resolver.offer((), "", "10.77.0.2/24")
    assert host.hosts.read_bytes() == BEFORE
    await host.offer()
    await host.offer(address=None)  # no address on the LAN any more
    assert host.hosts.read_bytes() == BEFORE


async def test_an_offer_that_is_refused_changes_nothing(host):
    await host.offer(domain="com")
    assert "no private domain" in host.refused["names"]
    assert host.hosts.read_bytes() == BEFORE
    await host.offer()
    await host.offer(server="192.0.2.1")
    assert "not on the LAN" in host.refused["names"]
    assert host.hosts.read_bytes() == BEFORE


async def test_no_dns(tmp_path):
    host = Host(tmp_path, no_dns=True)
    await host.offer()
    assert host.hosts.read_bytes() == BEFORE
    assert host.refused == {}


async def test_names_without_a_dot_are_the_hosts_where_it_has_a_domain(tmp_path, host):
    (host.etc / "resolv.conf").write_text("search corp.example\nnameserver 9.9.9.9\n")
    await host.offer()
    await followed(host, PEERS)
    assert "10.77.0.3 pc2.lan\n" in host.hosts.read_text()
    await host.resolver.close()
    asked = Host(tmp_path, allow_domain="lan")
    await asked.offer()
    await followed(asked, PEERS)
    assert "10.77.0.3 pc2.lan pc2\n" in asked.hosts.read_text()
    await asked.resolver.close()


async def test_a_hosts_file_that_cannot_be_read_is_in_the_status(host):
    host.hosts.unlink()
    await host.offer()
    assert "No such file" in host.refused["names"]
    assert host.resolver.shown is None


async def test_a_switch_that_does_not_say_who_is_there_keeps_what_is_known(host):
    await host.offer()
    await followed(host, PEERS)
    known = host.hosts.read_bytes()
    await followed(host, NotReachable("older"))
    assert host.hosts.read_bytes() == known


@pytest.mark.parametrize(
    ("domain", "allowed", "search", "reason"),
    [
        ("lan", (), (), None),
        ("office.lan", (), (), None),
        ("home.arpa", (), (), None),
        ("internal", (), ("corp.example",), None),
        ("", (), (), "no domain"),
        ("com", (), (), "--allow-domain com"),
        ("google.com", (), (), "no private domain"),
        ("evillan", (), (), "no private domain"),
        ("arpa", (), (), "no private domain"),
        ("lan", (), ("lan",), "from elsewhere"),
        ("metadata.google.internal", (), ("google.internal",), "of google.internal from elsewhere"),
        ("vpn.corp", (), ("x.example", "corp"), "of corp from elsewhere"),
        ("vpn.corp", ("vpn.corp",), ("corp",), None),
        ("lan", (), ("office.lan",), "from elsewhere"),
        ("lan", ("lan",), ("lan",), None),
        ("example.com", ("example.com",), (), None),
        ("com", ("example.com",), (), "no private domain"),
    ],
)
def test_which_domains_a_switch_may_have(domain, allowed, search, reason):
    said = refuse_names(["10.77.0.1"], domain, LAN, allowed, search)
    assert said is None if reason is None else reason in said


def test_only_a_server_on_the_lan_is_asked():
    assert "192.0.2.1 is not on" in refuse_names(["10.77.0.1", "192.0.2.1"], "lan", LAN, (), ())
    assert refuse_names(["fd00::1"], "lan", LAN, (), ())
    assert refuse_names(["10.9.0.1"], "lan", LAN, ("lan",), ())


def test_the_names_of_addresses():
    def of(text):
        return reverse_domains(ipaddress.ip_network(text))

    assert of("10.77.0.0/24") == ("0.77.10.in-addr.arpa",)
    assert of("10.0.0.0/8") == ("10.in-addr.arpa",)
    assert of("10.77.16.0/20")[-1] == "31.77.10.in-addr.arpa"
    assert len(of("10.77.16.0/20")) == 16
    assert of("10.0.0.0/9") == ()
    assert of("10.77.0.0/30") == tuple(f"{n}.0.77.10.in-addr.arpa" for n in range(4))
    assert of("fd00::/64") == ()
    assert addresses_of(PEERS, None) == {}


def test_files_of_another_network_are_left_alone(tmp_path):
    """As of a process in a network namespace that has the files of its host."""
    etc, init = tmp_path / "etc", tmp_path / "init"
    (init / "ns").mkdir(parents=True)
    (init / "root").mkdir()
    etc.mkdir()
    (etc / "hosts").write_bytes(BEFORE)
    (init / "root/etc").symlink_to(etc)
    (init / "ns/net").symlink_to("net:[1]")
    assert "another network" in foreign_files(Place(etc), init)
    (init / "root/etc").unlink()
    (init / "root/etc").mkdir()
    (init / "root/etc/hosts").write_bytes(BEFORE)
    assert foreign_files(Place(etc), init) is None  # its own
    assert foreign_files(Place(etc), tmp_path / "nothing") is None


class Asked:
    """A way of a host that asks the name server itself."""

    name = "resolvconf"

    def __init__(self, monkeypatch):
        self.refused = set()
        self.error = self.other = None
        monkeypatch.setattr("vswitch.joining.names.choose_way", lambda place, mark: self)
        monkeypatch.setattr("vswitch.joining.names.way_of", lambda name, place, mark: self)

    def set(self, wanted):
        pass

    def taken_by(self, wanted):
        return self.other

    def answers(self, wanted, there):
        if self.error is not None:
            raise self.error
        (self.refused.difference_update if there else self.refused.update)(wanted.servers)

    def undo(self, dev, servers=()):
        self.refused -= set(servers)


@pytest.fixture
def asked(monkeypatch):
    return Asked(monkeypatch)


async def test_nobody_is_asked_while_the_switch_is_away(host, asked):
    await host.offer()
    assert asked.refused == set()
    for _ in range(2):
        await host.resolver.reached(True)
        assert asked.refused == set()
        await host.resolver.reached(False)
        assert asked.refused == {"10.77.0.1"}
    await host.offer()  # of the next session, which asks as soon as frames pass
    await host.resolver.reached(True)
    assert asked.refused == set()
    await host.resolver.reached(False)
    await host.offer(server="10.77.0.9")
    assert asked.refused == set()  # of a server that is not that of the host any more
    await host.resolver.reached(True)
    await host.resolver.reached(False)
    assert asked.refused == {"10.77.0.9"}
    await host.resolver.close()
    assert asked.refused == set()
    await host.resolver.reached(False)
    assert asked.refused == set()


async def test_names_of_a_file_are_known_while_the_switch_is_away(host):
    await host.offer()
    await followed(host, PEERS)
    before = host.hosts.read_text()
    assert "10.77.0.3 pc2.lan" in before
    for there in (False, True):
        await host.resolver.reached(there)
        assert host.hosts.read_text() == before
    await host.resolver.close()


async def test_what_a_killed_one_has_left_refused_is_allowed(tmp_path, host, asked):
    await host.offer()
    await host.resolver.reached(False)
    after = Host(tmp_path)
    await after.resolver.recover()
    assert asked.refused == set()
    assert not after.undo.exists()


async def test_a_way_that_cannot_be_told_is_told_of_once(host, asked, caplog):
    asked.error = VswitchError("no such rule")
    await host.offer()
    for _ in range(3):
        await host.resolver.reached(False)
        await host.resolver.reached(True)
    assert caplog.text.count("names-not-refused") == 1
    assert host.resolver.shown == "lan (resolvconf)"


async def test_a_domain_of_another_link_is_not_mixed_with_that_of_the_lan(tmp_path, asked):
    asked.other = "vsw1"
    host = Host(tmp_path)
    await host.offer()
    assert "the link vsw1 of this host has that domain already" in host.refused["names"]
    assert host.resolver.shown is None
    assert not host.undo.exists()
    wished = Host(tmp_path, allow_domain=("lan",))
    await wished.offer()
    assert wished.resolver.shown == "lan (resolvconf)"
    await wished.resolver.close()
