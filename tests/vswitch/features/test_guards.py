"""Guards and isolation on the ports of a running switch: what passes, what is dropped, as what."""

import struct
from ipaddress import IPv6Address, IPv6Network

import pytest
from trio.testing import wait_all_tasks_blocked

from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.features.trust import Served
from vswitch.frames.records import frame_record
from vswitch.switch.port import Bound
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, arp_reply, ethernet, icmp_echo, vlan_tagged

MAC = [bytes.fromhex(f"02000000000{number}") for number in range(5)]
ALL = b"\xff" * 6
IP = [f"10.77.0.{number}" for number in range(5)]
ALL_NODES = bytes.fromhex("333300000001")


def udp(source_port, target_port):
    return struct.pack(">HHHH", source_port, target_port, 12, 0) + b"data"


def ipv4(mac, source, payload, protocol=17, word=0):
    packed = bytes(map(int, source.split(".")))
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, word, 64, protocol, 0)
    return ethernet(ALL, mac, 0x0800, head + packed + b"\xff" * 4 + payload)


def ipv6(mac, source, following, payload):
    head = struct.pack(">IHBB", 6 << 28, len(payload), following, 255)
    return ethernet(ALL_NODES, mac, 0x86DD, head + source + ALL_NODES[:1] * 16 + payload)


LINK_LOCAL = bytes.fromhex("fe80" + "00" * 13 + "01")
ROUTER = bytes((134, 0)) + bytes(14)


class Four:
    """Three ports bound to their MAC and address, a fourth to nothing."""

    def __init__(self, switch, **settings):
        self.managed = FeatureManager(switch, Settings().with_switch(settings))
        self.devices = [FakeDevice() for _ in range(4)]
        self.ports = [
            switch.attach(
                device,
                name=f"pc{n}",
                bound=Bound(MAC[n], IP[n]) if n < 4 else None,
            )
            for n, device in enumerate(self.devices, 1)
        ]

    async def send(self, number, frame):
        """How many others got it, and the reason if it was dropped."""
        before = dict(self.ports[number - 1].counters.drops)
        self.devices[number - 1].feed(frame)
        await wait_all_tasks_blocked()
        heard = sum(len(device.take()) for device in self.devices)
        after = self.ports[number - 1].counters.drops
        (reason,) = [each for each in after if after[each] != before.get(each)] or [None]
        return heard if reason is None else str(reason)


@pytest.fixture
async def guarded():
    async with open_switch() as switch:
        yield Four(switch, guard="on")


async def test_without_guards_a_port_has_no_guard_stage():
    async with open_switch() as switch:
        four = Four(switch)
        guards = [s for p in four.ports for s in p.ingress_stages if "Guard" in type(s).__name__]
        assert guards == []


CASES = {
    "own address": (icmp_echo(MAC[1], IP[1], MAC[2], IP[2]), 3),
    "another source": (ethernet(ALL, MAC[3], 0x0800, b"x"), "source_guard"),
    "address of another": (ipv4(MAC[1], IP[2], udp(1, 2)), "source_guard"),
    "address of nobody": (ipv4(MAC[1], "192.0.2.1", udp(1, 2)), "source_guard"),
    "DHCP discovery": (ipv4(MAC[1], "0.0.0.0", udp(68, 67)), 3),
    "no address": (ipv4(MAC[1], "0.0.0.0", udp(1000, 53)), "source_guard"),
    "IPv4 link-local": (ipv4(MAC[1], "169.254.1.2", udp(1, 2)), 3),
    "IPv6 link-local": (ipv6(MAC[1], LINK_LOCAL, 17, udp(1, 2)), 3),
    "IPv6 of nobody": (ipv6(MAC[1], b"\x20" * 16, 17, udp(1, 2)), "source_guard"),
    "DHCP offer": (ipv4(MAC[1], IP[1], udp(67, 68)), "dhcp_guard"),
    "DHCP offer behind a tag": (
        vlan_tagged(ipv4(MAC[1], IP[1], udp(67, 68)), 0),
        "dhcp_guard",
    ),
    "DHCPv6 advertise": (ipv6(MAC[1], LINK_LOCAL, 17, udp(547, 546)), "dhcp_guard"),
    "first fragment without ports": (ipv4(MAC[1], IP[1], b"", word=0x2000), "dhcp_guard"),
    "router advertisement": (ipv6(MAC[1], LINK_LOCAL, 58, ROUTER), "ra_guard"),
    "behind hop-by-hop": (ipv6(MAC[1], LINK_LOCAL, 0, b"\x3a\0" + bytes(6) + ROUTER), "ra_guard"),
    "in a first fragment": (
        ipv6(MAC[1], LINK_LOCAL, 44, b"\x3a\0\0\x01" + bytes(4) + ROUTER),
        "ra_guard",
    ),
    "chain beyond the first fragment": (
        ipv6(MAC[1], LINK_LOCAL, 44, b"\x3c\0\0\x01" + bytes(4) + b"\x3a\x09" + bytes(6)),
        "ra_guard",
    ),
    "later fragment": (ipv6(MAC[1], LINK_LOCAL, 44, b"\x3a\0\0\x08" + bytes(4) + ROUTER), 3),
    "neighbour solicitation": (ipv6(MAC[1], LINK_LOCAL, 58, bytes((135,)) + bytes(23)), 3),
    "three tags": (
        vlan_tagged(vlan_tagged(vlan_tagged(ethernet(ALL, MAC[1], 0x0806, b""), 0), 0), 0),
        "guard_undetermined",
    ),
    "IP inside SNAP": (
        ethernet(ALL, MAC[1], 40, b"\xaa\xaa\x03\0\0\0\x86\xdd" + bytes(40)),
        "guard_undetermined",
    ),
    "ARP": (arp_reply(MAC[1], IP[1], MAC[2], IP[2]), 3),
    "ARP for another": (arp_reply(MAC[1], IP[2], MAC[2], IP[3]), "arp_check"),
    "ARP with another's MAC": (
        arp_reply(MAC[1], IP[1], MAC[2], IP[2]).replace(MAC[1] + bytes([10]), MAC[3] + bytes([10])),
        "arp_check",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_with_guard_on_a_frame_passes_or_is_dropped_for_its_reason(guarded, case):
    frame, expected = CASES[case]
    if frame[:6] == MAC[2]:
        frame = ALL + frame[6:]
    assert await guarded.send(1, frame) == expected
    decision = guarded.managed.switch.explain(guarded.ports[0], frame_record(frame))
    assert decision.reason == (expected if isinstance(expected, str) else "")


async def test_a_trusted_port_sends_what_guards_would_drop(guarded):
    guarded.managed.change_port("pc1", {"trusted": "yes"})
    for frame, expected in CASES.values():
        if isinstance(expected, str):
            assert await guarded.send(1, ALL + frame[6:]) == 3


async def test_each_guard_alone_drops_what_is_its_own():
    async with open_switch() as switch:
        four = Four(switch)
        offer = ipv4(MAC[1], "192.0.2.1", udp(67, 68))
        assert await four.send(1, offer) == 3
        four.managed.change_port("pc1", {"dhcp_guard": "yes"})
        assert await four.send(1, offer) == "dhcp_guard"
        assert await four.send(1, ipv4(MAC[1], "192.0.2.1", udp(1, 2))) == 3
        assert await four.send(2, ipv4(MAC[2], "192.0.2.1", udp(67, 68))) == 3
        four.managed.change_port("*", {"source_guard": "yes"})
        assert await four.send(2, offer) == "source_guard"
        four.managed.change_port("*", {"source_guard": "no", "dhcp_guard": "no", "ra_guard": "on"})
        assert await four.send(2, ipv6(MAC[1], LINK_LOCAL, 58, ROUTER)) == "ra_guard"
        four.managed.change_port("pc2", {"ra_guard": "no"})
        assert await four.send(2, ipv6(MAC[1], LINK_LOCAL, 58, ROUTER)) == 3


async def test_a_port_sends_from_the_addresses_of_its_settings(guarded):
    change = {
        "addresses": "192.0.2.0/24, 2020:2020::/32",
        "macs": "02:00:00:00:00:01,02:00:00:00:00:04",
    }
    guarded.managed.change_port("pc1", change)
    assert await guarded.send(1, ipv4(MAC[1], "192.0.2.9", udp(1, 2))) == 3
    assert await guarded.send(1, ipv4(MAC[4], IP[1], udp(1, 2))) == 3
    assert await guarded.send(1, ipv6(MAC[1], b"\x20" * 16, 17, udp(1, 2))) == 3
    assert await guarded.send(1, ipv4(MAC[1], "192.0.3.9", udp(1, 2))) == "source_guard"
    guarded.managed.change_port("pc1", {"addresses": "10.77.0.0/24"})
    assert await guarded.send(1, ipv4(MAC[1], IP[2], udp(1, 2))) == "source_guard"


async def test_a_port_that_announced_nothing_belongs_to_who_is_first(guarded):
    assert await guarded.send(4, ipv4(MAC[1], "192.0.2.4", udp(1, 2))) == "source_guard"
    assert await guarded.send(4, ipv4(MAC[4], "192.0.2.4", udp(1, 2))) == 3
    assert await guarded.send(4, ipv4(MAC[0], "192.0.2.4", udp(1, 2))) == "source_guard"
    assert await guarded.send(4, ipv4(MAC[4], IP[1], udp(1, 2))) == "source_guard"
    guarded.managed.change_switch({"guard": "off"})
    guarded.managed.change_switch({"guard": "on"})
    assert await guarded.send(4, ipv4(MAC[4], "192.0.2.4", udp(1, 2))) == 3


async def test_isolated_ports_reach_those_that_are_not():
    async with open_switch() as switch:
        four = Four(switch)
        for name in ("pc1", "pc2"):
            four.managed.change_port(name, {"isolated": "yes"})
        assert await four.send(1, ethernet(ALL, MAC[1], 0x0800, b"x")) == 2
        assert await four.send(3, ethernet(ALL, MAC[3], 0x0800, b"x")) == 3
        assert await four.send(2, ethernet(MAC[1], MAC[2], 0x0800, b"x")) == "not_reached"
        assert await four.send(2, ethernet(MAC[3], MAC[2], 0x0800, b"x")) == 1
        four.managed.change_port("pc1", {"isolated": "no"})
        assert await four.send(2, ethernet(MAC[1], MAC[2], 0x0800, b"x")) == 1


@pytest.mark.parametrize("vouched", [False, True])
async def test_a_liar_keeps_no_member_from_its_own_mac(vouched):
    async with open_switch() as switch:
        FeatureManager(switch, Settings().with_switch({"guard": "on"}))
        devices = [FakeDevice() for _ in range(3)]
        liar = switch.attach(devices[0], name="liar")
        switch.attach(devices[1], name="other")
        lie = ethernet(ALL, MAC[1], 0x88B5, b"mine")
        devices[0].feed(lie)
        await wait_all_tasks_blocked()
        member = switch.attach(devices[2], name="pc", bound=Bound(MAC[1], vouched=vouched))
        for device in devices:
            device.take()
        devices[0].feed(lie)
        devices[2].feed(lie)
        await wait_all_tasks_blocked()
        assert len(devices[1].take()) == 1
        assert liar.counters.drops == {"source_guard": 1}
        assert member.attached


@pytest.mark.parametrize("first", ["liar", "member"])
async def test_a_member_that_announces_anothers_mac_does_not_get_it(first):
    bounds = {"liar": Bound(MAC[1]), "member": Bound(MAC[1], vouched=True)}
    async with open_switch() as switch:
        FeatureManager(switch, Settings().with_switch({"guard": "on"}))
        devices = {name: FakeDevice() for name in sorted(bounds, key=lambda name: name != first)}
        ports = {
            name: switch.attach(device, name=name, bound=bounds[name])
            for name, device in devices.items()
        }
        for device in devices.values():
            device.feed(ethernet(ALL, MAC[1], 0x88B5, b"mine"))
        await wait_all_tasks_blocked()
        assert ports["liar"].counters.drops == {"source_guard": 1}
        assert not ports["member"].counters.drops


async def test_a_claim_that_was_not_met_is_met_when_the_owner_has_gone():
    async with open_switch() as switch:
        FeatureManager(switch, Settings().with_switch({"guard": "on"}))
        devices = [FakeDevice() for _ in range(3)]
        first, second, _ = [
            switch.attach(device, name=f"pc{n}", bound=bound)
            for n, (device, bound) in enumerate(
                zip(devices, [Bound(MAC[1]), Bound(MAC[1]), None], strict=True)
            )
        ]
        switch.detach(first)
        devices[1].feed(ethernet(ALL, MAC[1], 0x88B5, b"mine"))
        await wait_all_tasks_blocked()
        assert not second.counters.drops
        assert len(devices[2].take()) == 1


# --- MAC addresses of members that are away ------------------------------------------------------

OF_MEMBER = ethernet(ALL, MAC[1], 0x88B5, b"mine")


class Lan:
    """A liar, whatever is known of it, and one who listens; MAC 1 derives from the key of `pc`."""

    def __init__(self, switch, bound=None, **settings):
        self.switch = switch
        self.managed = FeatureManager(switch, Settings().with_switch(settings))
        self.managed.reserve({MAC[1]: "pc"}, {})
        self.devices = {name: FakeDevice() for name in ("liar", "other", "pc")}
        self.ports = {"liar": switch.attach(self.devices["liar"], name="liar", bound=bound)}
        self.ports["other"] = switch.attach(self.devices["other"], name="other")

    def join(self):
        bound = Bound(MAC[1], vouched=True)
        self.ports["pc"] = self.switch.attach(self.devices["pc"], name="pc", bound=bound)

    async def heard(self, name, frame=OF_MEMBER):
        """Whether the other hears it."""
        self.devices["other"].take()
        self.devices[name].feed(frame)
        await wait_all_tasks_blocked()
        return len(self.devices["other"].take()) == 1

    def drops(self, name):
        return dict(self.ports[name].counters.drops)


LIARS = {
    "a port of nobody": None,
    "another member": Bound(MAC[1]),
    "another member, later": Bound(MAC[2]),
}


@pytest.mark.parametrize("bound", LIARS.values(), ids=LIARS)
async def test_the_mac_of_a_member_that_is_away_is_nobody_elses(bound):
    async with open_switch() as switch:
        lan = Lan(switch, bound, guard="on")
        assert not await lan.heard("liar")
        assert lan.drops("liar") == {"source_guard": 1}
        lan.join()
        assert await lan.heard("pc")
        assert not await lan.heard("liar")
        switch.detach(lan.ports["pc"])
        assert not await lan.heard("liar")
        assert lan.drops("liar") == {"source_guard": 3}


async def test_who_was_refused_the_mac_of_a_member_may_still_have_another():
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        assert not await lan.heard("liar")
        assert await lan.heard("liar", ethernet(ALL, MAC[2], 0x88B5, b"mine"))


@pytest.mark.parametrize("bound", [None, Bound(MAC[1])])
async def test_the_mac_of_a_revoked_member_is_free(bound):
    async with open_switch() as switch:
        lan = Lan(switch, bound, guard="on")
        assert not await lan.heard("liar")
        lan.managed.reserve({}, {})
        assert await lan.heard("liar")


@pytest.mark.parametrize("bound", [None, Bound(MAC[1])])
async def test_a_member_that_is_made_takes_its_mac_from_who_had_it(bound):
    async with open_switch() as switch:
        lan = Lan(switch, bound, guard="on")
        lan.managed.reserve({}, {})
        assert await lan.heard("liar")
        lan.managed.reserve({MAC[1]: "pc"}, {})
        assert not await lan.heard("liar")
        lan.join()
        assert await lan.heard("pc")
        assert not lan.drops("pc")


@pytest.mark.parametrize("bound", [None, Bound(MAC[1])])
@pytest.mark.parametrize("sticky", ["no", "yes"])
async def test_who_lied_before_the_guard_was_on_is_refused_then(bound, sticky):
    async with open_switch() as switch:
        lan = Lan(switch, bound)
        lan.managed.change_port("liar", {"sticky": sticky})
        assert await lan.heard("liar")
        lan.managed.change_switch({"guard": "on"})
        assert not await lan.heard("liar")
        lan.join()
        assert await lan.heard("pc")
        lan.managed.change_switch({"guard": "off"})
        lan.managed.change_switch({"guard": "on"})
        assert not await lan.heard("liar")
        assert await lan.heard("pc")


@pytest.mark.parametrize("guard", ["off", "on"])
async def test_a_sticky_port_does_not_keep_what_turns_out_to_be_of_a_member(guard):
    async with open_switch() as switch:
        lan = Lan(switch, guard=guard)
        lan.managed.reserve({}, {})
        lan.managed.change_port("liar", {"sticky": "yes"})
        assert await lan.heard("liar")
        lan.managed.reserve({MAC[1]: "pc"}, {})
        lan.join()
        assert await lan.heard("pc")
        assert not lan.drops("pc")


async def test_a_members_own_port_keeps_its_mac_sticky():
    async with open_switch() as switch:
        lan = Lan(switch)
        lan.managed.change_port("pc", {"sticky": "yes"})
        lan.join()
        assert await lan.heard("pc")
        switch.detach(lan.ports["pc"])
        assert not await lan.heard("liar")
        assert lan.drops("liar") == {"mac_refused": 1}


async def test_a_member_is_not_held_off_by_lies_that_were_before_the_guard():
    async with open_switch() as switch:
        lan = Lan(switch)
        lan.join()
        for _ in range(10):
            await lan.heard("pc")
            await lan.heard("liar")
        assert "mac_frozen" in lan.drops("liar")
        lan.managed.change_switch({"guard": "on"})
        assert await lan.heard("pc")
        assert not await lan.heard("liar")


async def test_a_static_address_of_a_member_stays_its_own_under_guard():
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        lan.managed.change_port("pc", {"static_macs": "02:00:00:00:00:01"})
        assert not await lan.heard("liar")
        assert lan.drops("liar") == {"source_guard": 1}
        lan.join()
        assert await lan.heard("pc")


async def test_a_static_address_alone_opens_no_guard():
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        lan.managed.change_port("liar", {"static_macs": "02:00:00:00:00:01"})
        assert not await lan.heard("liar")


@pytest.mark.parametrize(
    ("key", "value", "otherwise"),
    [
        ("macs", "02:00:00:00:00:01", ""),
        ("trusted", "yes", "no"),
        ("source_guard", "no", "default"),
    ],
)
async def test_the_operator_may_give_the_mac_of_a_member_that_is_away(key, value, otherwise):
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        lan.managed.change_port("liar", {key: value})
        assert await lan.heard("liar")
        lan.managed.change_port("liar", {key: otherwise})
        assert not await lan.heard("liar")
        lan.join()
        assert await lan.heard("pc")


async def test_a_trace_says_that_the_mac_of_a_member_is_not_learned():
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        (stage,) = [s for s in lan.ports["liar"].ingress_stages if "Guard" in type(s).__name__]
        assert stage.explain(frame_record(OF_MEMBER), 0.0).reason == "source_guard"
        other = frame_record(ethernet(ALL, MAC[2], 0x88B5, b"mine"))
        assert stage.explain(other, 0.0).reason == ""


# --- IP addresses of members that are away -------------------------------------------------------

OF_PC = {bytes((10, 77, 0, 1)): "pc"}


def claims(mac, address, asked=IP[2]):
    """The two ways to be somebody in IPv4."""
    return {
        "ip": ipv4(mac, address, udp(1000, 2000)),
        "arp": arp_reply(mac, address, ALL, asked),
    }


@pytest.mark.parametrize("how", ["ip", "arp"])
async def test_the_address_of_a_member_that_is_away_is_nobody_elses(how):
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        lan.managed.reserve({}, OF_PC)
        assert not await lan.heard("liar", claims(MAC[2], IP[1])[how])
        assert await lan.heard("liar", claims(MAC[2], IP[3])[how])
        bound = Bound(MAC[1], IP[1], vouched=True)
        lan.ports["pc"] = switch.attach(lan.devices["pc"], name="pc", bound=bound)
        assert await lan.heard("pc", claims(MAC[1], IP[1])[how])
        assert not await lan.heard("liar", claims(MAC[2], IP[1])[how])
        switch.detach(lan.ports["pc"])
        assert not await lan.heard("liar", claims(MAC[2], IP[1])[how])
        lan.managed.reserve({}, {})  # revoked
        assert await lan.heard("liar", claims(MAC[2], IP[1])[how])


@pytest.mark.parametrize("how", ["ip", "arp"])
async def test_an_address_that_settings_name_waits_for_its_port(how):
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        lan.managed.change_port("pc", {"addresses": [IP[1], "10.78.0.0/16"]})
        assert not await lan.heard("liar", claims(MAC[2], IP[1])[how])
        lan.ports["pc"] = switch.attach(lan.devices["pc"], name="pc")
        assert await lan.heard("pc", claims(MAC[3], IP[1])[how])
        lan.managed.change_port("pc", {"addresses": []})
        switch.detach(lan.ports["pc"])
        assert await lan.heard("liar", claims(MAC[2], IP[1])[how])


async def test_of_two_ports_with_one_address_the_second_has_it_when_the_first_is_gone():
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        lan.ports["pc"] = switch.attach(lan.devices["pc"], name="pc")
        for name in ("pc", "liar"):
            lan.managed.change_port(name, {"addresses": [IP[1]]})
        assert await lan.heard("pc", claims(MAC[3], IP[1])["arp"])
        assert not await lan.heard("liar", claims(MAC[2], IP[1])["arp"])
        switch.detach(lan.ports["pc"])
        assert await lan.heard("liar", claims(MAC[2], IP[1])["arp"])


async def test_the_operator_may_give_the_address_of_a_member_to_another_port():
    async with open_switch() as switch:
        lan = Lan(switch, guard="on")
        lan.managed.reserve({}, OF_PC)
        lan.managed.change_port("liar", {"addresses": [IP[1]]})
        assert await lan.heard("liar", claims(MAC[2], IP[1])["arp"])


async def test_where_the_switch_serves_other_servers_are_stopped():
    """Unless the port is trusted, or says that they are not; at the switch's own port none is."""
    async with open_switch() as switch:
        four = Four(switch)
        offer, advert = (
            lambda n: ipv4(MAC[n], IP[n], udp(67, 68)),
            lambda n: ipv6(MAC[n], LINK_LOCAL, 58, ROUTER),
        )
        assert await four.send(1, offer(1)) == 3
        prefix = IPv6Network("fd00:1:2:3::/64")
        guards = {"dhcp_guard": "[dhcp]", "ra_guard": "[adverts]"}
        four.managed.serve(Served(guards=guards, ports=frozenset({"pc3"}), prefix=prefix))
        assert await four.send(1, offer(1)) == "dhcp_guard"
        assert await four.send(1, advert(1)) == "ra_guard"
        assert await four.send(3, offer(3)) == 3
        assert await four.send(3, advert(3)) == 3
        assert await four.send(1, ipv4(MAC[1], "192.0.2.1", udp(1, 2))) == 3
        settings = four.managed.settings
        in_force = {each.key: each for each in settings.in_force("pc1", four.ports[0])}
        assert (in_force["dhcp_guard"].value, in_force["dhcp_guard"].source) == (True, "[dhcp]")
        assert in_force["source_guard"].value is False
        in_force = {each.key: each for each in settings.in_force("pc3", four.ports[2])}
        assert in_force["ra_guard"].value is False
        four.managed.change_port("pc1", {"trusted": True})
        four.managed.change_port("pc2", {"dhcp_guard": False})
        assert await four.send(1, offer(1)) == 3
        assert await four.send(2, offer(2)) == 3
        assert await four.send(2, advert(2)) == "ra_guard"
        # Hosts give themselves addresses of the prefix, which the source guard lets pass then.
        four.managed.change_switch({"guard": True})
        for source, fate in (("fd00:1:2:3::5", 3), ("fd00::5", "source_guard")):
            assert (
                await four.send(2, ipv6(MAC[2], IPv6Address(source).packed, 17, udp(1, 2))) == fate
            )


# A source that is not the port's, and what comes of it where all or 192.168.0.0/16 is behind it.
FROM_BEHIND = [
    ("192.168.7.7", 3, 3),
    ("9.9.9.9", 3, "source_guard"),
    ("10.77.0.9", "source_guard", "source_guard"),  # of the LAN, and nobody's
    (IP[2], "source_guard", "source_guard"),  # another member's
]


@pytest.mark.parametrize(("source", "out", "inner"), FROM_BEHIND)
@pytest.mark.parametrize("way_out", [True, False])
async def test_what_is_approved_behind_a_port_may_be_a_source_there(
    guarded, source, out, inner, way_out
):
    port = guarded.ports[0]
    frame = ipv4(MAC[1], source, udp(1, 2))
    assert await guarded.send(1, frame) == "source_guard"
    networks = ("0.0.0.0/0",) if way_out else ("192.168.0.0/16",)
    lan = ("10.77.0.0/24", "fd77::/64")
    port.bound = Bound(MAC[1], IP[1], networks=networks, lan=lan)
    guarded.managed.rebound(port)
    assert await guarded.send(1, frame) == (out if way_out else inner)
    # Neither a MAC of another, nor ARP for what is behind it, nor another port's IPv6.
    assert await guarded.send(1, ipv4(MAC[3], source, udp(1, 2))) == "source_guard"
    said = await guarded.send(1, arp_reply(MAC[1], source, MAC[2], IP[2]))
    assert said in ("source_guard", "arp_check")
    assert await guarded.send(1, ipv6(MAC[1], b"\x20" * 16, 17, udp(1, 2))) == "source_guard"
    assert await guarded.send(2, ipv4(MAC[2], source, udp(1, 2))) in ("source_guard", 3)
    port.bound = Bound(MAC[1], IP[1])
    guarded.managed.rebound(port)
    assert await guarded.send(1, frame) == "source_guard"


async def test_the_same_of_ipv6_but_for_the_lan_and_its_members(guarded):
    lan, other = bytes.fromhex("fd77" + "00" * 13 + "09"), bytes.fromhex("2001" + "00" * 14)
    port, behind = guarded.ports[0], b"\x20" * 16
    port.bound = Bound(MAC[1], IP[1], networks=("::/0",), lan=("fd77::/64",))
    guarded.managed.rebound(port)
    guarded.managed.reserve({}, {other: "pc3"})
    assert await guarded.send(1, ipv6(MAC[1], behind, 17, udp(1, 2))) == 3
    for source in (lan, other):
        assert await guarded.send(1, ipv6(MAC[1], source, 17, udp(1, 2))) == "source_guard"


async def test_a_member_sends_from_the_ipv6_address_that_it_was_given(guarded):
    port, own = guarded.ports[0], bytes.fromhex("fd77" + "00" * 13 + "01")
    frame = ipv6(MAC[1], own, 17, udp(1, 2))
    assert await guarded.send(1, frame) == "source_guard"
    port.bound = Bound(MAC[1], IP[1], address6="fd77::1", lan=("fd77::/64",))
    guarded.managed.rebound(port)
    assert await guarded.send(1, frame) == 3
