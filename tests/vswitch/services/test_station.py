"""The LAN host without a LAN: frames in, frames out."""

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import pytest

from vswitch.frames import build
from vswitch.frames.headers import ICMPV6, IPV4, IPV6
from vswitch.frames.virtio import UDP
from vswitch.services.station import (
    ASK_INTERVAL,
    ASKS,
    MAX_WAITING,
    NEIGHBOUR_TIME,
    PORT_BURST,
    HostDrop,
    Station,
)

MAC, PC1, PC2 = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x11", b"\x02\0\0\0\0\x12"
HOST, ONE, TWO = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2"), IPv4Address("10.77.0.3")
ONE6 = IPv6Address("fe80::11")
ALL = b"\xff" * 6


def make(**more):
    places = {PC1: "pc1", PC2: "pc2"}
    return Station(
        MAC, IPv4Interface("10.77.0.1/24"), place=lambda vlan, mac: places.get(mac, ""), **more
    )


def udp(payload=b"q", *, source=ONE, target=HOST, to_mac=MAC, mac=PC1, ports=(4000, 53), kind=IPV4):
    ends = source, target
    packet = build.ip(*ends, UDP, build.upper(UDP, *ports, payload, ends))
    return build.ethernet(to_mac, mac, kind, packet)


def nd(kind, body, *, source=ONE6, target, mac=PC1, to_mac=MAC, hops=255):
    message = build.icmpv6((source, target), kind, 0, body)
    return build.ethernet(to_mac, mac, IPV6, build.ip(source, target, ICMPV6, message, hops=hops))


def sent(station):
    frames, station.outgoing[:] = list(station.outgoing), []
    return frames


def test_arp_for_its_address_is_answered_and_for_others_is_not():
    station = make()
    assert station.receive_untrusted(build.arp_request(PC1, "10.77.0.2", "10.77.0.1"), 0) is None
    assert sent(station) == [build.arp_reply(MAC, "10.77.0.1", PC1, "10.77.0.2")]
    station.receive_untrusted(build.arp_request(PC1, "10.77.0.2", "10.77.0.3"), 0)
    assert sent(station) == []
    assert not station.drops


def test_echo_of_both_families():
    station = make()
    ask = build.icmp_echo(PC1, "10.77.0.2", MAC, "10.77.0.1", identifier=7, data=b"abc")
    station.receive_untrusted(ask, 0)
    reply = build.icmp_echo(
        MAC, "10.77.0.1", PC1, "10.77.0.2", identifier=7, data=b"abc", reply=True
    )
    assert sent(station) == [reply]
    me = station.link_local
    station.receive_untrusted(nd(128, b"\0\7\0\1xyz", target=me, hops=64), 0)
    (frame,) = sent(station)
    body = build.icmpv6((me, ONE6), 129, 0, b"\0\7\0\1xyz")
    assert frame == build.ethernet(PC1, MAC, IPV6, build.ip(me, ONE6, ICMPV6, body))


def test_a_datagram_goes_to_its_service_and_the_answer_back_with_the_tag():
    station = make()
    station.udp.add(53)
    tagged = build.vlan_tagged(udp(b"question"), 20)
    datagram = station.receive_untrusted(tagged, 0)
    assert (datagram.source, datagram.source_port, datagram.payload) == (ONE, 4000, b"question")
    assert (datagram.mac, datagram.port, datagram.destination_port) == (PC1, "pc1", 53)
    station.reply(datagram, b"answer")
    want = udp(b"answer", source=HOST, target=ONE, to_mac=PC1, mac=MAC, ports=(53, 4000))
    assert sent(station) == [build.vlan_tagged(want, 20)]


@pytest.mark.parametrize("target", ["255.255.255.255", "10.77.0.255"])
def test_a_broadcast_is_heard_and_answered_from_its_own_address(target):
    station = make()
    station.udp.add(67)
    nobody = IPv4Address("0.0.0.0")
    ask = udp(source=nobody, target=IPv4Address(target), to_mac=ALL, ports=(68, 67))
    datagram = station.receive_untrusted(ask, 0)
    assert (datagram.source, datagram.destination) == (nobody, IPv4Address(target))
    station.reply(datagram, b"offer")
    (frame,) = sent(station)
    assert frame[26:30] == HOST.packed


def test_ipv6_is_heard_at_its_addresses_and_groups():
    station = make()
    station.udp.add(53)
    station.add_address(IPv6Interface("fd00::1/64"))
    for target, to_mac in ((station.link_local, MAC), (IPv6Address("fd00::1"), MAC)):
        ask = udp(source=ONE6, target=target, to_mac=to_mac, kind=IPV6)
        station.reply(station.receive_untrusted(ask, 0), b"a")
        assert sent(station)[0][22:38] == target.packed
    assert station.receive_untrusted(udp(source=ONE6, target=TWO6, kind=IPV6), 0) is None


TWO6 = IPv6Address("fe80::12")


def test_neighbour_solicitations():
    station = make()
    me = station.link_local
    group = IPv6Address("ff02::1:ff00:1")
    to_mac = b"\x33\x33\xff\0\0\x01"
    ask = bytes(4) + me.packed + b"\x01\x01" + PC1
    station.receive_untrusted(nd(135, ask, target=group, to_mac=to_mac), 0)
    (frame,) = sent(station)
    assert frame[:12] == PC1 + MAC
    assert frame[54:58][:1] == b"\x88"
    assert frame[58:62] == b"\x60\0\0\0"  # solicited, override
    assert frame[62:86] == me.packed + b"\x02\x01" + MAC
    # Somebody looks whether the address is free: all are told.
    nobody = IPv6Address("::")
    station.receive_untrusted(nd(135, ask[:20], source=nobody, target=group, to_mac=to_mac), 0)
    (frame,) = sent(station)
    assert (frame[:6], frame[58]) == (b"\x33\x33\0\0\0\x01", 0x20)
    # For another address, and through a router, it says nothing.
    other = bytes(4) + IPv6Address("fe80::ff:fe00:9").packed
    station.receive_untrusted(nd(135, other, target=group, to_mac=to_mac), 0)
    station.receive_untrusted(nd(135, ask, target=group, to_mac=to_mac, hops=64), 0)
    assert sent(station) == []
    assert station.drops == {HostDrop.HOST_MALFORMED: 1}


def test_icmpv6_for_a_service():
    station = make()
    routers = IPv6Address("ff02::2")
    ask = nd(133, bytes(4), target=routers, to_mac=b"\x33\x33\0\0\0\x02")
    assert station.receive_untrusted(ask, 0) is None
    station.groups.add(routers)
    station.icmpv6.add(133)
    message = station.receive_untrusted(ask, 0)
    assert (message.protocol, message.destination_port, message.port) == (ICMPV6, 133, "pc1")
    assert message.payload[:1] == b"\x85"


def test_who_asks_a_closed_port_is_told_so():
    station = make()
    station.receive_untrusted(udp(), 0)
    (frame,) = sent(station)
    assert frame[34:36] == b"\x03\x03"  # ICMP: port unreachable
    station.receive_untrusted(udp(source=ONE6, target=station.link_local, kind=IPV6), 0)
    (frame,) = sent(station)
    assert frame[54:56] == b"\x01\x04"
    assert station.drops == {HostDrop.HOST_NO_SERVICE: 2}
    # Not who has asked all hosts.
    station.receive_untrusted(udp(target=IPv4Address("10.77.0.255"), to_mac=ALL), 0)
    assert sent(station) == []


def _broken_sum(frame, at):
    return frame[:at] + bytes((frame[at] ^ 1,)) + frame[at + 1 :]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (_broken_sum(udp(), 24), HostDrop.HOST_MALFORMED),  # of IP
        (_broken_sum(udp(), 40), HostDrop.HOST_MALFORMED),  # of UDP
        (udp()[:-1], HostDrop.HOST_MALFORMED),
        (udp()[:30], HostDrop.HOST_MALFORMED),
        (udp(source=HOST), HostDrop.HOST_MALFORMED),  # it never says anything to itself
        (udp(source=IPv4Address("224.0.0.1")), HostDrop.HOST_MALFORMED),
        (udp(source=IPv4Address("0.0.0.0")), HostDrop.HOST_MALFORMED),
        (udp(mac=MAC), HostDrop.HOST_MALFORMED),
        (udp()[:20] + b"\x20" + udp()[21:], HostDrop.HOST_FRAGMENT),
        (build.ethernet(MAC, PC1, 0x0806, b"short"), HostDrop.HOST_MALFORMED),
    ],
)
def test_what_no_honest_host_sends_is_counted(frame, reason):
    station = make()
    station.udp.add(53)
    assert station.receive_untrusted(frame, 0) is None
    assert station.drops == {reason: 1}
    assert sent(station) == []


def test_nothing_is_said_of_what_is_for_others():
    station = make()
    station.udp.add(53)
    assert station.receive_untrusted(udp(to_mac=PC2), 0) is None
    assert station.receive_untrusted(udp(target=TWO, to_mac=ALL), 0) is None
    assert station.receive_untrusted(b"", 0) is None
    assert not station.drops


def test_one_port_that_floods_is_limited_and_another_is_heard():
    station = make()
    station.udp.add(53)
    heard = [station.receive_untrusted(udp(), 0) for _ in range(int(PORT_BURST) + 50)]
    assert sum(each is not None for each in heard) == PORT_BURST
    assert station.drops == {HostDrop.HOST_FLOOD: 50}
    assert station.receive_untrusted(udp(source=TWO, mac=PC2), 0) is not None
    assert station.receive_untrusted(udp(), 1) is not None


def test_a_station_is_asked_for_before_it_is_sent_to():
    station = make()
    station.send(ONE, 9, 53, b"one", 0)
    station.send(ONE, 9, 53, b"two", 0)
    assert sent(station) == [build.arp_request(MAC, "10.77.0.1", "10.77.0.2")]
    # Nobody else's word counts, nor one that was not asked for.
    station.receive_untrusted(build.arp_reply(PC2, "10.77.0.3", MAC, "10.77.0.1"), 0)
    assert station.neighbour(TWO, 0) is None
    station.receive_untrusted(build.arp_reply(PC1, "10.77.0.2", MAC, "10.77.0.1"), 0)
    frames = sent(station)
    assert [frame[-3:] for frame in frames] == [b"one", b"two"]
    assert {frame[:6] for frame in frames} == {PC1}
    station.send(ONE, 9, 53, b"now", NEIGHBOUR_TIME / 2)
    assert sent(station)[0][:6] == PC1
    station.receive_untrusted(build.arp_reply(PC2, "10.77.0.2", MAC, "10.77.0.1"), 1)
    assert station.neighbour(ONE, 1) == PC1
    assert station.neighbour(ONE, NEIGHBOUR_TIME + 1) is None


def test_an_ipv6_station_is_asked_for_too():
    station = make()
    station.send(ONE6, 9, 53, b"hello", 0)
    (frame,) = sent(station)
    assert frame[:6] == b"\x33\x33\xff\0\0\x11"
    body = b"\x60\0\0\0" + ONE6.packed + b"\x02\x01" + PC1
    station.receive_untrusted(nd(136, body, target=station.link_local), 0)
    (frame,) = sent(station)
    assert (frame[:6], frame[-5:]) == (PC1, b"hello")


def test_who_does_not_answer_is_given_up_and_counted():
    station = make()
    for _ in range(MAX_WAITING + 1):
        station.send(ONE, 9, 53, b"x", 0)
    assert station.drops == {HostDrop.HOST_UNRESOLVED: 1}
    for step in range(1, ASKS + 1):
        assert len(sent(station)) == 1
        station.tick(step * ASK_INTERVAL)
    assert sent(station) == []
    assert not station.asks
    assert station.drops == {HostDrop.HOST_UNRESOLVED: 1 + MAX_WAITING}


def test_all_hosts_groups_and_known_stations_need_no_question():
    station = make()
    station.send(IPv4Address("255.255.255.255"), 68, 67, b"x", 0)
    station.send(IPv4Address("224.0.0.251"), 5353, 5353, b"x", 0)
    station.send(IPv6Address("ff02::fb"), 5353, 5353, b"x", 0)
    station.send(ONE, 9, 53, b"x", 0, mac=PC1)
    macs = [frame[:6] for frame in sent(station)]
    assert macs == [ALL, b"\x01\0\x5e\0\0\xfb", b"\x33\x33\0\0\0\xfb", PC1]
    with pytest.raises(ValueError, match="not on the LAN"):
        station.send(IPv4Address("192.0.2.1"), 9, 53, b"x", 0)


def test_beside_a_kernel_it_answers_nothing_by_itself():
    station = make(answers=False)
    station.receive_untrusted(build.arp_request(PC1, "10.77.0.2", "10.77.0.1"), 0)
    station.receive_untrusted(build.icmp_echo(PC1, "10.77.0.2", MAC, "10.77.0.1"), 0)
    station.receive_untrusted(udp(), 0)
    assert sent(station) == []
    assert not station.drops
