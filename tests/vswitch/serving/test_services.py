"""The services of a switch that serves: on by default, one port, told to members, and faults."""

import dns.message
import dns.rcode
import pytest
import trio

from vswitch.errors import ConfigError
from vswitch.frames.build import arp_reply, arp_request, ethernet, ip, upper
from vswitch.frames.headers import IPV4
from vswitch.frames.virtio import UDP
from vswitch.members.protocol import Update
from vswitch.services import names
from vswitch.services.host import ServiceHost
from vswitch.services.name_settings import NamesSettings
from vswitch.serving import network
from vswitch.serving.services import ServicesSettings


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "serve.toml"
    path.write_text("")
    return path


def question(member, host_mac, name, kind="A", at="10.77.0.1"):
    from ipaddress import IPv4Address

    ends = IPv4Address(member.welcome.address.partition("/")[0]), IPv4Address(at)
    wire = dns.message.make_query(name, kind).to_wire()
    packet = ip(*ends, UDP, upper(UDP, 4000, 53, wire, ends))
    return ethernet(host_mac, member.interface.mac, IPV4, packet)


async def ask(member, host_mac, name, until, kind="A"):
    member.interface.take()
    member.interface.feed(question(member, host_mac, name, kind))
    answers = []

    def came():
        answers.extend(f for f in member.interface.take() if f[34:36] == b"\0\x35")
        return answers

    await until(came)
    return dns.message.from_wire(answers[0][42:])


async def test_members_are_told_and_answered(site, config, until):
    async with (
        site.serving(config=config) as running,
        site.joined("pc1", running) as one,
        site.joined("pc2", running),
    ):
        assert (one.welcome.names, one.welcome.domain) == (("10.77.0.1",), "lan")
        services = running.switch.ports[-1]
        assert (services.name, services.number) == ("services", running.switch.max_ports)
        assert [port.number for port in running.switch.ports[:-1]] == [1, 2]
        mac = services.bound.mac
        one.interface.feed(arp_request(one.interface.mac, "10.77.0.2", "10.77.0.1"))
        reply = arp_reply(mac, "10.77.0.1", one.interface.mac, "10.77.0.2")
        await until(lambda: reply in one.interface.take())
        said = await ask(one, mac, "pc2.lan", until)
        assert said.answer[0].to_text() == "pc2.lan. 30 IN A 10.77.0.3"
        said = await ask(one, mac, "3.0.77.10.in-addr.arpa", until, "PTR")
        assert said.answer[0].to_text().endswith("PTR pc2.lan.")
        # Who is kept apart is not told of, and told of nobody.
        running.managed.change_port("pc2", {"isolated": True})
        said = await ask(one, mac, "pc2.lan", until)
        assert said.rcode() == dns.rcode.NXDOMAIN
        assert (await ask(one, mac, "pc1.lan", until)).answer
        running.managed.change_port("pc1", {"names_allowed": "example.com"})
        assert (await ask(one, mac, "evil.org", until)).rcode() == dns.rcode.NXDOMAIN
        (event,) = [each for each in running.switch.events.since() if each.kind == "name-refused"]
        assert (event.port, event.facts["name"]) == ("pc1", "evil.org")
        status = next(each for each in (await site.status()).ports if each.name == "services")
        assert status.drops["names_not_allowed"] == 1


async def test_members_that_are_there_hear_of_another_domain(site, config):
    async with site.serving(config=config) as running, site.joined("pc1", running):
        (connected,) = running.networks["default"].reception.connected.values()
        said, send = [], connected.device.send_control
        connected.device.send_control = lambda message: (said.append(message), send(message))
        for text, names, domain in (
            ('[names]\ndomain = "home"\n', ("10.77.0.1",), "home"),
            ('[names]\ndomain = "home"\n[switch]\nguard = true\n', ("10.77.0.1",), "home"),
            ("[names]\nenabled = false\n", (), ""),
        ):
            config.write_text(text)
            await running.reloader.reload()
            assert said[-1] == Update(names=names, domain=domain)
    assert len(said) == 2


async def test_each_network_has_its_own(site, config, until):
    config.write_text(
        '[network.lab]\nsubnet = "10.78.0.0/24"\n[network.lab.names]\ndomain = "lab.internal"\n'
        '[network.dark]\nsubnet = "10.79.0.0/24"\n[network.dark.names]\nenabled = false\n'
    )
    async with site.serving(config=config) as running:
        told = {
            name: (network.reception.names, network.reception.domain)
            for name, network in running.networks.items()
        }
    assert told == {
        "default": (("10.77.0.1",), "lan"),
        "lab": (("10.78.0.1",), "lab.internal"),
        "dark": ((), ""),
    }


async def test_a_record_that_cannot_be_is_refused_at_the_start(site, config):
    config.write_text('[names]\nrecords = ["www CNAME www.example.com."]\n')
    with pytest.raises(ConfigError, match=r"names\.records\[1\]"):
        async with site.serving(config=config):
            pass


async def test_a_fault_of_the_name_server_ends_that_alone(site, config, until, monkeypatch):
    def broken(self, wire, port):
        raise ZeroDivisionError

    monkeypatch.setattr(names.NameServer, "answer_untrusted", broken)
    monkeypatch.setattr(network, "AGAIN", 3600.0)
    async with (
        site.serving(config=config) as running,
        site.joined("pc1", running) as one,
        site.joined("pc2", running) as two,
    ):
        services = running.switch.ports[-1]
        mac = services.bound.mac
        one.interface.feed(question(one, mac, "pc2.lan"))
        await until(lambda: running.switch.faults.ended)
        assert [each.what for each in running.switch.faults.ended] == ["names"]
        assert isinstance(services.device, ServiceHost)
        # The LAN goes on, and the host still answers that nobody listens.
        frame = ethernet(two.interface.mac, one.interface.mac, 0x88B5, bytes(50))
        one.interface.feed(frame)
        await until(lambda: frame in two.interface.take())
        one.interface.feed(question(one, mac, "pc2.lan"))
        await until(lambda: any(f[34:36] == b"\3\3" for f in one.interface.take()))


async def test_a_service_is_begun_again_after_faults(site, config, until, monkeypatch):
    whole, faults = names.NameServer.answer_untrusted, [1, 2]

    def broken_twice(self, wire, port):
        if faults and faults.pop():
            raise ZeroDivisionError
        return whole(self, wire, port)

    monkeypatch.setattr(names.NameServer, "answer_untrusted", broken_twice)
    monkeypatch.setattr(network, "AGAIN", 0.01)
    monkeypatch.setattr(network, "AGAIN_CAP", 0.04)
    async with site.serving(config=config) as running, site.joined("pc1", running) as one:
        mac = running.switch.ports[-1].bound.mac
        for count in (1, 2):
            one.interface.feed(question(one, mac, "pc1.lan"))
            await until(lambda wanted=count: running.switch.faults.count == wanted)
            await until(lambda: not running.switch.faults.ended)
        one.interface.take()
        one.interface.feed(question(one, mac, "pc1.lan"))
        await until(lambda: any(b"\3pc1\3lan" in frame for frame in one.interface.take()))
        # One that is not wanted any more ends also while it waits.
        faults.append(3)
        one.interface.feed(question(one, mac, "pc1.lan"))
        await until(lambda: running.switch.faults.ended)
        await running.network.services.apply(ServicesSettings(names=NamesSettings(enabled=False)))
        assert all(port.name != "services" for port in running.switch.ports)


async def test_without_services_there_is_no_port(site, config):
    config.write_text("[names]\nenabled = false\n")
    async with site.serving(config=config) as running, site.joined("pc1", running) as one:
        assert (one.welcome.names, one.welcome.domain) == ((), "")
        assert [port.name for port in running.switch.ports] == ["pc1"]
        await trio.lowlevel.checkpoint()
