"""Rules on a switch that runs: who may begin, what answers, fragments, floods, changes, bounds."""

import ipaddress
import random
import struct

import pytest
from trio.testing import wait_all_tasks_blocked

from vswitch.features import rules as rules_module
from vswitch.features.manager import FeatureManager
from vswitch.features.rule_set import read_rules
from vswitch.features.rules import PortRules, RuleDrop, rule_key_untrusted
from vswitch.frames import build
from vswitch.frames.records import frame_record
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet, vlan_tagged
from vswitch.testing.superframes import Flow as TcpFlow
from vswitch.testing.superframes import superframe

NAMES = ("pc1", "pc2", "pc3")
MACS = {name: bytes.fromhex(f"02000000000{n}") for n, name in enumerate(NAMES, 1)}
IPV4 = {name: ipaddress.ip_address(f"10.77.0.{n}") for n, name in enumerate(NAMES, 1)}
IPV6 = {name: ipaddress.ip_address(f"fe80::{n}") for n, name in enumerate(NAMES, 1)}
BROADCAST = b"\xff" * 6
SYN, ACK, FIN, RST = 2, 16, 1, 4


class Lan:
    def __init__(self, switch, managed, devices):
        self.switch, self.managed, self.devices = switch, managed, devices

    def go_by(self, *lines, **more):
        self.managed.change_rules(read_rules({"list": list(lines), **more}, "rules"))

    async def heard(self, name, frame):
        """Who gets a frame that comes in at a port."""
        self.devices[name].feed(frame)
        await wait_all_tasks_blocked()
        return [each for each in NAMES if self.devices[each].take()]

    def drops(self, name):
        (port,) = [each for each in self.switch.ports if each.name == name]
        return dict(port.counters.snapshot().drops)

    @property
    def flows(self):
        return self.managed.feature(PortRules).count_flows()


@pytest.fixture
async def lan():
    async with open_switch() as switch:
        devices = {name: FakeDevice(superframes=True) for name in NAMES}
        for name in NAMES:
            switch.attach(devices[name], name=name)
        lan = Lan(switch, FeatureManager(switch), devices)
        for name in NAMES:  # each station is known
            await lan.heard(name, ethernet(BROADCAST, MACS[name], 0x88B5, bytes(50)))
        yield lan


def packet(source, to, protocol, payload, *, six=False, mac=None, fragment=None, options=b""):
    ends = (IPV6 if six else IPV4)[source], (IPV6 if six else IPV4)[to]
    data = build.ip(*ends, protocol, payload)
    if fragment is not None and not six:
        data = data[:4] + struct.pack(">HH", 77, fragment) + data[8:]
    if options:
        data = bytes((0x45 + len(options) // 4,)) + data[1:20] + options + data[20:]
    return ethernet(mac or MACS[to], MACS[source], 0x86DD if six else 0x0800, data)


def tcp(source, to, port, *, own=50000, flags=SYN, **more):
    head = struct.pack(">HHIIBBHHH", own, port, 0, 0, 0x50, flags, 1000, 0, 0)
    return packet(source, to, 6, head, **more)


def udp(source, to, port, *, own=50000, **more):
    return packet(source, to, 17, struct.pack(">HHHH", own, port, 8, 0), **more)


def echo(source, to, *, reply=False, six=False, identifier=1):
    kind = (129 if reply else 128) if six else (0 if reply else 8)
    payload = struct.pack(">BBHHH", kind, 0, 0, identifier, 1)
    return packet(source, to, 58 if six else 1, payload, six=six)


async def test_without_rules_no_port_has_a_stage_of_theirs(lan):
    before = [port.egress_stages for port in lan.switch.ports]
    assert before == [(), (), ()]
    lan.go_by("deny pc3 -> pc1")
    assert all(port.egress_stages for port in lan.switch.ports)
    lan.go_by("allow any -> any")
    assert [port.egress_stages for port in lan.switch.ports] == before


@pytest.mark.parametrize("six", [False, True])
async def test_who_may_not_begin_is_not_heard_but_its_answers_are(lan, six):
    lan.go_by("deny pc2 -> pc1 tcp")
    assert await lan.heard("pc2", tcp("pc2", "pc1", 22, six=six)) == []
    assert lan.drops("pc1") == {RuleDrop.RULE_DENIED: 1}
    assert await lan.heard("pc1", tcp("pc1", "pc2", 80, six=six)) == ["pc2"]
    answer = tcp("pc2", "pc1", 50000, own=80, flags=SYN | ACK, six=six)
    assert await lan.heard("pc2", answer) == ["pc1"]
    assert await lan.heard("pc2", answer) == ["pc1"]
    # Another port of either side is another flow.
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50001, own=80, six=six)) == []
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=81, six=six)) == []
    assert lan.flows == 1


@pytest.mark.parametrize("six", [False, True])
async def test_echoes_by_their_identifier(lan, six):
    lan.go_by("deny pc2 -> pc1")
    assert await lan.heard("pc2", echo("pc2", "pc1", six=six)) == []
    assert await lan.heard("pc2", echo("pc2", "pc1", reply=True, six=six)) == []
    assert await lan.heard("pc1", echo("pc1", "pc2", six=six)) == ["pc2"]
    assert await lan.heard("pc2", echo("pc2", "pc1", reply=True, six=six)) == ["pc1"]
    other = echo("pc2", "pc1", reply=True, six=six, identifier=2)
    assert await lan.heard("pc2", other) == []


async def test_errors_about_a_flow_pass_and_no_others(lan):
    lan.go_by("deny pc2 -> pc1")
    sent = udp("pc1", "pc2", 53)
    assert await lan.heard("pc1", sent) == ["pc2"]
    error = packet("pc2", "pc1", 1, struct.pack(">BBHI", 3, 3, 0, 0) + sent[14:])
    assert await lan.heard("pc2", error) == ["pc1"]
    about = udp("pc1", "pc2", 54)[14:]
    error = packet("pc2", "pc1", 1, struct.pack(">BBHI", 3, 3, 0, 0) + about)
    assert await lan.heard("pc2", error) == []
    error = packet("pc2", "pc1", 1, struct.pack(">BBHI", 3, 3, 0, 0) + about[:12])
    assert await lan.heard("pc2", error) == []


@pytest.mark.parametrize("six", [False, True])
async def test_errors_go_to_who_sent_what_they_are_about(lan, six):
    lan.go_by("deny pc2 -> pc1")
    addresses = IPV6 if six else IPV4
    sent = udp("pc1", "pc2", 53, six=six)
    assert await lan.heard("pc1", sent) == ["pc2"]
    payload = struct.pack(">BBHI", *((1, 4) if six else (3, 3)), 0, 0) + sent[14:]
    for to, heard in [(addresses["pc3"], []), (addresses["pc1"], ["pc1"])]:
        data = build.ip(addresses["pc2"], to, 58 if six else 1, payload)
        error = ethernet(MACS["pc1"], MACS["pc2"], 0x86DD if six else 0x0800, data)
        assert await lan.heard("pc2", error) == heard


async def test_of_icmp_echo_requests_alone_begin_a_flow(lan):
    lan.go_by("deny pc2 -> pc1")
    for type_ in (13, 5, 17):  # timestamp, redirect, address mask
        said = struct.pack(">BBHHH", type_, 0, 0, 1, 1) + bytes(12)
        assert await lan.heard("pc1", packet("pc1", "pc2", 1, said)) == ["pc2"]
        assert await lan.heard("pc2", packet("pc2", "pc1", 1, said)) == []
    six = packet("pc1", "pc2", 58, struct.pack(">BBHHH", 139, 0, 0, 1, 1), six=True)
    assert await lan.heard("pc1", six) == ["pc2"]  # node information
    assert lan.flows == 0


async def test_a_flood_reaches_those_who_may_have_it(lan):
    lan.go_by("deny pc1 -> pc3 udp 1900")
    assert await lan.heard("pc1", udp("pc1", "pc2", 1900, mac=BROADCAST)) == ["pc2"]
    assert await lan.heard("pc1", udp("pc1", "pc2", 1901, mac=BROADCAST)) == ["pc2", "pc3"]
    unknown = udp("pc1", "pc3", 1900, mac=bytes.fromhex("0200000000ff"))
    assert await lan.heard("pc1", unknown) == ["pc2"]


async def test_what_no_lan_works_without_passes(lan):
    lan.go_by(default="deny")
    arp = build.arp_request(MACS["pc1"], "10.77.0.1", "10.77.0.2")
    assert await lan.heard("pc1", arp) == ["pc2", "pc3"]
    assert await lan.heard("pc1", packet("pc1", "pc2", 58, b"\x87" + bytes(23), six=True)) == [
        "pc2"
    ]
    assert await lan.heard("pc1", packet("pc1", "pc2", 2, bytes(8))) == ["pc2"]
    assert await lan.heard("pc1", ethernet(MACS["pc2"], MACS["pc1"], 0x88B5, bytes(50))) == ["pc2"]
    assert await lan.heard("pc1", udp("pc1", "pc2", 1)) == []


async def test_headers_that_hide_what_they_are_do_not_pass(lan):
    lan.go_by("deny pc1 -> pc2 tcp 22")
    cases = [
        packet("pc1", "pc2", 6, bytes(8)),  # ends before the flags
        packet("pc1", "pc2", 6, bytes(8), fragment=0x2000),
        packet("pc1", "pc2", 6, bytes(16), fragment=1),  # over the flags
        packet("pc1", "pc2", 6, bytes(16), fragment=3),  # its first one was not seen
        packet("pc1", "pc2", 17, bytes(4)),
        ethernet(MACS["pc2"], MACS["pc1"], 0x0800, b"\x45" + bytes(10)),
    ]
    for case in cases:
        assert await lan.heard("pc1", case) == []
    assert lan.drops("pc2") == {RuleDrop.RULE_UNDETERMINED: len(cases)}
    # Options of IPv4 and tags hide nothing.
    assert await lan.heard("pc1", tcp("pc1", "pc2", 22, options=bytes(8))) == []
    tagged = vlan_tagged(tcp("pc1", "pc2", 22), 7)  # to a station that is not known there
    assert await lan.heard("pc1", tagged) == ["pc3"]
    assert lan.drops("pc2")[RuleDrop.RULE_DENIED] == 2
    assert await lan.heard("pc1", tcp("pc1", "pc2", 23, options=bytes(8))) == ["pc2"]


async def test_fragments_follow_their_first_one(lan):
    lan.go_by("deny pc1 -> pc2 udp 22")
    later = packet("pc1", "pc2", 17, bytes(64), fragment=3)
    assert await lan.heard("pc1", udp("pc1", "pc2", 22, fragment=0x2000)) == []
    assert await lan.heard("pc1", later) == []
    assert await lan.heard("pc1", udp("pc1", "pc2", 23, fragment=0x2000)) == ["pc2"]
    assert await lan.heard("pc1", later) == ["pc2"]


async def test_fragments_of_ipv6_too(lan):
    lan.go_by("deny pc1 -> pc2 udp 22")

    def fragment(offset, payload):
        head = struct.pack(">BBHI", 17, 0, offset << 3 | 1, 99)
        return packet("pc1", "pc2", 44, head + payload, six=True)

    later = fragment(3, bytes(64))
    denied, passes = (struct.pack(">HHHH", 50000, port, 72, 0) for port in (22, 23))
    assert await lan.heard("pc1", fragment(0, denied)) == []
    assert await lan.heard("pc1", later) == []
    assert await lan.heard("pc1", fragment(0, passes)) == ["pc2"]
    assert await lan.heard("pc1", later) == ["pc2"]


async def test_no_later_fragment_writes_over_what_decided(lan):
    lan.go_by("deny pc1 -> pc2 udp 22", "deny pc1 -> pc2 tcp 22")

    def fragment(number, offset, following, payload, more=1):
        head = struct.pack(">BBHI", following, 0, offset << 3 | more, number)
        return packet("pc1", "pc2", 44, head + payload, six=True)

    options = b"\x11\0" + bytes(6)  # of the destination; UDP follows
    begin = options + struct.pack(">HHHH", 50000, 23, 72, 0)
    assert await lan.heard("pc1", fragment(1, 0, 60, begin)) == ["pc2"]
    assert await lan.heard("pc1", fragment(1, 1, 60, bytes(16))) == []
    # What is shorter does not make room for it.
    short = fragment(1, 0, 17, struct.pack(">HHHH", 50000, 23, 72, 0))
    assert await lan.heard("pc1", short) == ["pc2"]
    assert await lan.heard("pc1", fragment(1, 1, 60, bytes(16))) == []
    assert await lan.heard("pc1", fragment(1, 2, 60, bytes(16))) == ["pc2"]
    # The flags of TCP are in its second eight bytes.
    begin = struct.pack(">HHIIBBHHH", 50000, 23, 0, 0, 0x50, SYN, 0, 0, 0)[:16]
    assert await lan.heard("pc1", fragment(2, 0, 6, begin)) == ["pc2"]
    assert await lan.heard("pc1", fragment(2, 1, 6, bytes(8))) == []
    assert await lan.heard("pc1", fragment(2, 2, 6, bytes(8))) == ["pc2"]
    # One that is whole has none that follow.
    whole = fragment(3, 0, 17, struct.pack(">HHHH", 50000, 23, 8, 0), more=0)
    assert await lan.heard("pc1", whole) == ["pc2"]
    assert await lan.heard("pc1", fragment(3, 1, 17, bytes(8))) == []


async def test_no_fragment_changes_what_an_error_is_about(lan):
    lan.go_by("deny pc2 -> pc1")
    sent = udp("pc1", "pc2", 53)
    assert await lan.heard("pc1", sent) == ["pc2"]
    payload = struct.pack(">BBHI", 3, 3, 0, 0) + sent[14:] + bytes(12)
    assert await lan.heard("pc2", packet("pc2", "pc1", 1, payload, fragment=0x2000)) == ["pc1"]
    for offset in range(1, 4):
        over = packet("pc2", "pc1", 1, bytes(24), fragment=offset)
        assert await lan.heard("pc2", over) == []
    assert await lan.heard("pc2", packet("pc2", "pc1", 1, bytes(24), fragment=4)) == ["pc1"]


async def test_superframes_are_seen_and_count_as_the_frames_that_they_stand_for(lan):
    lan.go_by("deny pc1 -> pc2 tcp 5001")
    flow = TcpFlow(
        source=MACS["pc1"],
        destination=MACS["pc2"],
        addresses=IPV4["pc1"].packed + IPV4["pc2"].packed,
        ports=(40000, 5001),
    )
    record = superframe(flow, bytes(4000), 1000)
    (port,) = [each for each in lan.switch.ports if each.name == "pc1"]
    lan.switch.ingress(port, [record])
    assert lan.drops("pc2") == {RuleDrop.RULE_DENIED: 4}
    assert lan.managed.feature(PortRules).rules.rules[0].denied == 4


async def test_new_rules_keep_the_flows_that_they_would_let_begin(lan):
    lan.go_by("deny pc2 -> pc1")
    for port in (22, 80):
        assert await lan.heard("pc1", tcp("pc1", "pc2", port)) == ["pc2"]
        back = tcp("pc2", "pc1", 50000, own=port, flags=ACK)
        assert await lan.heard("pc2", back) == ["pc1"]
    lan.go_by("deny pc1 -> pc2 tcp 22", "deny pc2 -> pc1")
    assert lan.flows == 1
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=80, flags=ACK)) == ["pc1"]
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=ACK)) == []
    assert await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=ACK)) == []
    lan.go_by()
    assert lan.flows == 0
    assert await lan.heard("pc1", tcp("pc1", "pc2", 22)) == ["pc2"]


@pytest.mark.parametrize("before", [(), ("deny pc1 -> pc2 tcp 23",)], ids=["no", "some"])
async def test_a_server_does_not_go_on_with_what_its_client_must_not_begin_any_more(lan, before):
    lan.go_by(*before)
    to_22, from_22 = (
        tcp("pc1", "pc2", 22, flags=ACK),
        tcp("pc2", "pc1", 50000, own=22, flags=ACK),
    )
    assert await lan.heard("pc1", tcp("pc1", "pc2", 22)) == ["pc2"]
    lan.go_by("deny pc1 -> pc2 tcp 22")
    assert await lan.heard("pc2", from_22) == []
    for flags in (SYN | ACK, 0):
        assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=flags)) == []
    assert await lan.heard("pc1", to_22) == []
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=80, flags=ACK)) == ["pc1"]
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22)) == ["pc1"]  # it may open that


async def test_a_connection_from_before_the_rules_goes_on_with_who_may_have_opened_it(lan):
    lan.go_by("allow pc1 -> pc2 tcp 22", "deny any -> any")
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=ACK)) == []
    assert await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=ACK)) == ["pc2"]
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=ACK)) == ["pc1"]


async def test_all_ports_together_are_bounded_and_none_takes_the_place_of_others(lan, monkeypatch):
    monkeypatch.setattr(rules_module, "MAX_FLOWS", 30)
    monkeypatch.setattr(rules_module, "MAX_FLOWS_OF_ALL", 20)
    lan.go_by("deny pc2 -> any")
    for port in range(30):  # alone it may have all there is
        assert await lan.heard("pc1", udp("pc1", "pc2", port)) == ["pc2"]
    assert lan.flows == 20
    for port in range(30):
        assert await lan.heard("pc3", udp("pc3", "pc2", port)) == ["pc2"]
    assert lan.flows == 30  # its share
    for port in range(30):  # above its share, which shrinks
        assert await lan.heard("pc1", udp("pc1", "pc2", port)) == ["pc2"]
    assert lan.flows == 20
    assert await lan.heard("pc2", udp("pc2", "pc3", 50000, own=29)) == ["pc3"]


async def test_ports_between_which_nothing_is_denied_share_what_is_kept_of_them(lan):
    lan.go_by("deny pc2 -> pc1")
    pc1, pc2, pc3 = lan.switch.ports
    feature = lan.managed.feature(PortRules)
    assert feature.pair(pc1, pc3) is feature.pair(pc3, pc2)
    assert feature.pair(pc1, pc2) is not feature.pair(pc2, pc1)


def later(lan, seconds):
    """How many flows are left after that time."""
    feature, now = lan.managed.feature(PortRules), lan.switch.now()
    for _ in range(rules_module.EXPIRY):
        feature.tick(now + seconds)
    return lan.flows


async def test_what_is_idle_is_forgotten_in_its_time(lan):
    lan.go_by("deny pc2 -> pc1")
    await lan.heard("pc1", udp("pc1", "pc2", 1))  # never answered
    await lan.heard("pc1", tcp("pc1", "pc2", 2))
    await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=2))
    await lan.heard("pc1", tcp("pc1", "pc2", 3))
    await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=3))
    await lan.heard("pc1", tcp("pc1", "pc2", 3, flags=FIN | ACK))  # over
    assert later(lan, 50) == 3
    assert later(lan, 70) == 1
    assert later(lan, 7000) == 1
    assert later(lan, 7500) == 0
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=2)) == []


async def test_a_port_that_begins_too_much_loses_the_oldest_that_nobody_answered(lan, monkeypatch):
    monkeypatch.setattr(rules_module, "MAX_FLOWS", 10)
    lan.go_by("deny pc2 -> pc1", "deny pc2 -> pc3")
    assert await lan.heard("pc3", udp("pc3", "pc2", 1)) == ["pc2"]
    for port in range(20):
        assert await lan.heard("pc1", udp("pc1", "pc2", port)) == ["pc2"]
    assert lan.flows == 11
    assert await lan.heard("pc2", udp("pc2", "pc1", 50000, own=9)) == []
    assert await lan.heard("pc2", udp("pc2", "pc1", 50000, own=10)) == ["pc1"]
    assert await lan.heard("pc2", udp("pc2", "pc3", 50000, own=1)) == ["pc3"]  # its own alone


async def test_a_port_of_which_all_is_answered_denies_itself_and_costs_little(lan, monkeypatch):
    monkeypatch.setattr(rules_module, "MAX_FLOWS", 30)
    lan.go_by("deny pc2 -> pc1", "deny pc2 -> pc3")
    for port in range(1, 31):
        await lan.heard("pc1", tcp("pc1", "pc2", port))
        await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=port, flags=SYN | ACK))
    looks, over = [], rules_module.Flow.over
    monkeypatch.setattr(rules_module.Flow, "over", lambda *args: looks.append(1) or over(*args))
    assert await lan.heard("pc1", udp("pc1", "pc2", 100)) == []
    assert 0 < len(looks) <= 8
    assert lan.drops("pc2") == {RuleDrop.RULE_FLOWS: 1}
    assert await lan.heard("pc3", udp("pc3", "pc2", 1)) == ["pc2"]
    # One that is over makes room as soon as its turn comes.
    await lan.heard("pc1", tcp("pc1", "pc2", 20, flags=FIN | ACK))
    for port in (101, 102):
        await lan.heard("pc1", udp("pc1", "pc2", port))
    assert lan.drops("pc2") == {RuleDrop.RULE_FLOWS: 2}
    assert await lan.heard("pc1", tcp("pc1", "pc2", 1, flags=ACK)) == ["pc2"]


async def test_a_connection_that_is_refused_is_over(lan):
    lan.go_by("deny pc2 -> pc1")
    await lan.heard("pc1", tcp("pc1", "pc2", 22))
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=RST | ACK)) == ["pc1"]
    assert lan.flows == 1
    assert later(lan, 70) == 0


@pytest.mark.parametrize("how", [{"options": bytes(8)}, {"six": True}], ids=["options", "IPv6"])
async def test_a_connection_ends_however_its_packets_are_written(lan, how):
    lan.go_by("deny pc2 -> pc1")
    await lan.heard("pc1", tcp("pc1", "pc2", 22, **how))
    await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=SYN | ACK, **how))
    await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=FIN | ACK, **how))
    assert later(lan, 70) == 0


async def test_a_reset_begins_nothing(lan):
    lan.go_by("deny pc2 -> pc1")
    assert await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=RST)) == ["pc2"]
    assert lan.flows == 0


async def opened(lan):
    await lan.heard("pc1", tcp("pc1", "pc2", 22))
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=SYN | ACK)) == ["pc1"]


async def test_ports_that_are_used_again_are_a_new_flow(lan, monkeypatch):
    monkeypatch.setattr(rules_module, "MAX_FLOWS", 1)
    lan.go_by("deny pc2 -> pc1")
    await opened(lan)
    await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=FIN | ACK))
    await opened(lan)
    assert later(lan, 7000) == 1
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=ACK)) == ["pc1"]


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("ended", [False, True])
async def test_the_other_side_begins_nothing_where_a_flow_was_answered(lan, ended, six):
    lan.go_by("deny pc2 -> pc1")
    forth = tcp("pc1", "pc2", 22, six=six)
    back = tcp("pc2", "pc1", 50000, own=22, flags=ACK, six=six)
    syn = tcp("pc2", "pc1", 50000, own=22, six=six)
    await lan.heard("pc1", forth)
    await lan.heard("pc2", back)
    if ended:
        await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=FIN | ACK, six=six))
    assert await lan.heard("pc2", syn) == []
    assert lan.drops("pc1") == {RuleDrop.RULE_DENIED: 1}
    assert await lan.heard("pc2", back) == ["pc1"]  # the old one stays
    assert lan.flows == 1


async def test_both_may_open_at_once(lan):
    lan.go_by("deny pc2 -> pc1")
    await lan.heard("pc1", tcp("pc1", "pc2", 22))
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22)) == ["pc1"]
    assert await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=SYN | ACK)) == ["pc2"]
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=SYN | ACK)) == ["pc1"]


async def test_who_may_begin_too_takes_the_ports_over(lan):
    lan.go_by("deny pc2 -> pc1 udp")
    await opened(lan)
    await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=FIN | ACK))
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22)) == ["pc1"]
    assert lan.flows == 1
    assert await lan.heard("pc1", tcp("pc1", "pc2", 22, flags=SYN | ACK)) == ["pc2"]
    assert later(lan, 7000) == 1


async def test_a_port_that_is_gone_leaves_nothing(lan):
    lan.go_by("deny pc2 -> pc1")
    await lan.heard("pc1", tcp("pc1", "pc2", 22))
    (port,) = [each for each in lan.switch.ports if each.name == "pc2"]
    lan.switch.detach(port)
    assert lan.flows == 0
    device = lan.devices["pc2"] = FakeDevice()
    lan.switch.attach(device, name="pc2")
    assert await lan.heard("pc2", tcp("pc2", "pc1", 50000, own=22, flags=ACK)) == []


async def test_a_member_that_was_renamed_is_still_who_a_rule_calls_by_its_old_name(lan):
    lan.managed.renamed({"old": "pc2", "older": "pc2"})
    groups = {"lab": ["old", "pc9"]}
    lan.go_by("deny older -> pc1 tcp", "deny lab -> pc3", "deny pc1 -> pc2 udp", groups=groups)
    assert await lan.heard("pc2", tcp("pc2", "pc1", 22)) == []
    assert await lan.heard("pc2", udp("pc2", "pc3", 22)) == []
    assert await lan.heard("pc3", tcp("pc3", "pc1", 22)) == ["pc1"]
    assert lan.managed.feature(PortRules).unknown_names() == ["pc9"]
    assert await lan.heard("pc1", tcp("pc1", "pc2", 80)) == ["pc2"]
    # Somebody else is called so now, and the flows that may be stay.
    lan.managed.renamed({"old": "pc2"})
    assert await lan.heard("pc2", tcp("pc2", "pc1", 22)) == ["pc1"]
    assert await lan.heard("pc2", udp("pc2", "pc3", 22)) == []
    assert lan.flows == 2


async def test_explain_names_the_rule_and_changes_nothing(lan):
    lan.go_by("allow pc3 -> pc1", "deny any -> pc1 tcp 22")
    ports = {port.name: port for port in lan.switch.ports}
    decision = lan.switch.explain(ports["pc2"], frame_record(tcp("pc2", "pc1", 22)))
    assert decision.egress == ()
    assert decision.reason == "rule_denied"
    assert decision.steps[-1].endswith("rule_denied: rule 2: deny any -> pc1 tcp 22")
    decision = lan.switch.explain(ports["pc3"], frame_record(tcp("pc3", "pc1", 22)))
    assert len(decision.egress) == 1
    assert "rule 1: allow pc3 -> pc1" in decision.steps[-1]
    assert lan.flows == 0
    assert lan.drops("pc1") == {}


async def test_a_switch_that_goes_by_rules_balances(lan):
    lan.go_by("deny pc1 -> pc2", "deny pc3 -> any udp")
    for name in NAMES:
        for to in NAMES:
            if to != name:
                await lan.heard(name, udp(name, to, 53))
                await lan.heard(name, udp(name, to, 53, mac=BROADCAST))
    totals = lan.switch.statistics().totals
    assert totals.rx_frames + totals.flood_copies == totals.tx_frames + totals.dropped


# --- A slow reference ------------------------------------------------------------------------

ALL = (*NAMES, "switch")
GROUPS = {"lab": ["pc1", "pc3"], "servers": ["pc2", "pc3"]}
OWN = {
    4: {name: f"10.77.0.{n}" for n, name in enumerate(ALL, 1)},
    6: {name: f"fe80::{n}" for n, name in enumerate(ALL, 1)},
}
ELSEWHERE = {
    4: ("9.9.9.9", "192.168.1.9", "192.168.2.9", "224.0.0.251", "255.255.255.255"),
    6: ("2606:4700::1", "fd00:1::9", "fd00:2::9", "ff02::fb", "ff0e::1"),
}
SERVICES = (
    *("", "", "tcp", "udp", "icmp", "sctp", "47", "6 22", "58", "tcp 22,80-90", "udp 53"),
    *("icmp echo-request", "58 echo-request,parameter-problem", "icmp 8,3", "1 echo-reply"),
    *("58 128", "132 36412", "icmp unreachable", "sctp 1-40000", "17 0-100"),
)
NUMBERS = {"tcp": {6}, "udp": {17}, "sctp": {132}, "icmp": {1, 58}}
KINDS = {  # of ICMP and of ICMPv6
    "echo-reply": (0, 129),
    "unreachable": (3, 1),
    "echo-request": (8, 128),
    "time-exceeded": (11, 3),
    "parameter-problem": (12, 4),
}


def slow(lines, default, source, to, source_ip, to_ip, protocol, target):
    """Rules as a person reads them."""

    def is_who(text, name, address):
        address = ipaddress.ip_address(address)
        if text == "any":
            return True
        if text == "internet":
            return address.is_global and not address.is_multicast
        if "/" in text:
            return address in ipaddress.ip_network(text)
        return name in GROUPS.get(text, [text])

    def is_kind(text, name):
        if text in KINDS:
            return target == KINDS[text][protocol == 58]
        number = int(text)
        if name == "icmp" and protocol == 58:  # the number that ICMP has for it
            number = dict(KINDS.values()).get(number, number)
        return target == number

    for line in lines:
        verb, first, _, second, *service = line.split()
        if not is_who(first, source, source_ip) or not is_who(second, to, to_ip):
            continue
        if service:
            if protocol not in (NUMBERS.get(service[0]) or {int(service[0])}):
                continue
            if len(service) > 1 and protocol in (1, 58):
                if not any(is_kind(each, service[0]) for each in service[1].split(",")):
                    continue
            elif len(service) > 1:
                ranges = [tuple(map(int, each.split("-"))) for each in service[1].split(",")]
                if not any(each[0] <= target <= each[-1] for each in ranges):
                    continue
        return verb == "allow"
    return default == "allow"


def draw_rule(rng):
    who = [*ALL, "any", "any", *GROUPS, "internet"]
    who += ["10.77.0.0/30", "192.168.1.0/24", "fd00:1::/64", "fe80::2/127", "0.0.0.0/0", "::/0"]
    service = rng.choice(SERVICES)
    verb = rng.choice(["allow", "deny"])
    return f"{verb} {rng.choice(who)} -> {rng.choice(who)} {service}".strip()


def draw_frame(rng, source, to, source_ip, to_ip, protocol, target):
    """One of the ways to write that packet."""
    rest = bytes(rng.randrange(16, 40))
    if protocol in (1, 58):
        payload = bytes((target, 0)) + bytes(2) + rest
    elif protocol == 6:
        payload = struct.pack(">HHIIBBHHH", 50000, target, 0, 0, 0x50, SYN, 1000, 0, 0) + rest
    elif target >= 0:
        payload = struct.pack(">HH", 50000, target) + rest
    else:
        payload = rest
    six = ":" in to_ip
    if six:
        chain = rng.choice([(), (), (0,), (60,), (0, 43, 60), (44,), (0, 44, 60), (51,)])
        following = protocol
        for each in reversed(chain):
            words = 0 if each == 44 else rng.randrange(3)
            begin = bytes((following, words))
            size = 8 + words * (4 if each == 51 else 8)
            payload, following = begin + bytes(size - 2) + payload, each
        data = build.ip(*map(ipaddress.ip_address, (source_ip, to_ip)), following, payload)
    else:
        data = build.ip(*map(ipaddress.ip_address, (source_ip, to_ip)), protocol, payload)
        options = bytes(4 * rng.choice([0, 0, 1, 10]))
        data = bytes((0x45 + len(options) // 4,)) + data[1:20] + options + data[20:]
        data = data[:6] + rng.choice([b"\0\0", b"\x40\0", b"\x20\0"]) + data[8:]
    frame = ethernet(b"\x02" * 6, b"\x04" * 6, 0x86DD if six else 0x0800, data)
    for tag in rng.choice([(), (), (7,), (7, 8)]):
        frame = vlan_tagged(frame, tag)
    return frame_record(frame)


async def test_ten_thousand_pairs_of_rules_and_frames_are_decided_as_a_slow_reference_does():
    rng, seen = random.Random(16), {True: 0, False: 0}
    async with open_switch() as switch:
        managed = FeatureManager(switch)
        ports = {}
        for name in ALL:
            called = "local" if name == "switch" else name
            ports[name] = switch.attach(FakeDevice(), name=called)
        feature = managed.feature(PortRules)
        for _ in range(1_000):
            lines = [draw_rule(rng) for _ in range(rng.randrange(8))]
            default = rng.choice(["allow", "deny"])
            table = {"list": lines, "groups": GROUPS, "default": default}
            managed.change_rules(read_rules(table, "rules"))
            for _ in range(10):
                source, to = rng.sample(ALL, 2)
                version = rng.choice([4, 6])
                source_ip, to_ip = OWN[version][source], OWN[version][to]
                if rng.random() < 0.4:
                    to_ip = rng.choice(ELSEWHERE[version])
                if rng.random() < 0.2:
                    source_ip = rng.choice(ELSEWHERE[version][:3])
                icmp = [(58, 128), (58, 129), (58, 4)] if version == 6 else [(1, 8), (1, 0), (1, 3)]
                packets = [(6, 22), (6, 85), (6, 91), (17, 53), (132, 36412), (47, -1), *icmp]
                asked = source, to, source_ip, to_ip, *rng.choice(packets)
                expected = slow(lines, default, *asked)
                pair = feature.pair(ports[source], ports[to])
                if pair.free:
                    assert expected, (lines, default, asked)
                    continue
                reason, why = feature.decide(pair, draw_frame(rng, *asked), 0.0, keep=False)
                assert (reason is None) == expected, (lines, default, asked, why)
                assert reason in (None, RuleDrop.RULE_DENIED)
                seen[expected] += 1
        assert feature.count_flows() == 0
    assert min(seen.values()) > 2_000


def test_no_bytes_raise():
    rng = random.Random(7)
    whole = [tcp("pc1", "pc2", 22), udp("pc1", "pc2", 1, six=True), echo("pc1", "pc2", six=True)]
    for number in range(20_000):
        data = bytearray(whole[number % 3])
        for _ in range(rng.randrange(4)):
            data[rng.randrange(12, len(data))] = rng.choice([0, 1, 6, 17, 44, 58, 60, 255])
        rule_key_untrusted(frame_record(bytes(data[: rng.randrange(14, len(data) + 1)])))
