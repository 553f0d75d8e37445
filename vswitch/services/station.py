"""A host of the LAN as far as services need one: ARP, neighbour discovery, echo, and UDP.

    frame ─▶ receive_untrusted ─▶ answered at once (ARP, ND, echo): in `outgoing`
                               └▶ a Datagram or a message of ICMPv6, for whoever listens

An answer goes to where its question came from, by MAC and VLAN tag, and so needs no table. Who is
asked unasked is resolved first, and what is sent to it waits meanwhile, a few packets for each. It
makes and reads no IP fragments, has no route beyond its LAN, and does no duplicate address
detection: its MAC derives from the key of the switch, and its address is kept for it.

What one port sends to it is limited by a token bucket for each port, so that nobody is unheard for
another's flood. All that is not answered has a name in `HostDrop` and a count in `drops`.

Pure: `now` in seconds. `*_untrusted` raise nothing for any bytes.
Layouts and rules: RFC 826, 791, 8200, 768, 792, 4443, 4861; RFC 1122 for what is not answered.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from attrs import Factory, define, frozen

from vswitch.errors import BadRecord
from vswitch.frames import build
from vswitch.frames.build import IpAddress
from vswitch.frames.checksum import word_sum
from vswitch.frames.ethernet import BROADCAST, is_group, vlan_of
from vswitch.frames.headers import (
    ARP,
    ARP_ETHERNET_IPV4,
    ARP_SIZE,
    ETHERTYPE_AT,
    ICMPV6,
    IPV4,
    IPV4_SIZE,
    IPV6,
    IPV6_SIZE,
    UDP_SIZE,
    behind_tags,
    network_untrusted,
    upper_ipv4_untrusted,
    upper_ipv6_untrusted,
)
from vswitch.frames.virtio import UDP
from vswitch.switch.bucket import Bucket

PORT_RATE, PORT_BURST = 200.0, 400.0  # questions a second that one port may ask; all at once
MAX_PORTS = 1024  # with a bucket
MAX_NEIGHBOURS = 1024  # that are known, and that are asked for
NEIGHBOUR_TIME = 60.0  # seconds that a station is believed to be where it answered
ASK_INTERVAL, ASKS = 1.0, 3  # seconds between questions for a neighbour; how many
MAX_WAITING = 4  # packets that wait for one neighbour

ALL_NODES = IPv6Address("ff02::1")
_ICMP = 1
_ECHO, _ECHO_REPLY, _UNREACHABLE = 8, 0, 3
_ECHO6, _ECHO_REPLY6, _UNREACHABLE6 = 128, 129, 1
_SOLICITATION, _ADVERTISEMENT = 135, 136
_PORT, _PORT6 = 3, 4  # codes of "unreachable": nobody listens
_ND = (133, 134, 135, 136, 137)  # valid only from this link, so with all hops left (RFC 4861)
_ALL_HOPS = 255
_QUOTED = 8  # bytes behind the IP header that an ICMP error has (RFC 792)
_QUOTED6 = 1024  # bytes of the packet: less than the least MTU of IPv6 allows


class ServiceDrop(StrEnum):
    """Why a service did not do what somebody wanted; the values are the names in status. Whoever
    refuses declares its reasons as members of a class of this.
    """


class HostDrop(ServiceDrop):
    """What the LAN host did not answer."""

    HOST_FLOOD = "host_flood"  # more than one port may ask
    HOST_MALFORMED = "host_malformed"  # no header, length or checksum that an honest host sends
    HOST_FRAGMENT = "host_fragment"  # it puts none together
    HOST_NO_SERVICE = "host_no_service"  # a UDP port or a protocol that nobody listens to
    HOST_BUSY = "host_busy"  # a service has not yet taken what came before
    HOST_UNRESOLVED = "host_unresolved"  # was to be sent to a station that does not answer


class _Dropped(BadRecord):
    def __init__(self, reason: HostDrop) -> None:
        super().__init__(reason)
        self.reason = reason


@frozen
class Datagram:
    """One of UDP, or a message of ICMPv6, whose type is its port, and where it is from."""

    protocol: int
    source: IpAddress
    source_port: int
    destination: IpAddress
    destination_port: int
    payload: bytes
    mac: bytes  # the Ethernet source
    tags: bytes  # the VLAN tags, as they were
    port: str  # the name of the port of the switch behind which the source was heard; "" if none


@define(eq=False)
class _Asked:
    """A neighbour that is being resolved."""

    due: float  # of the next question
    left: int = ASKS
    waiting: list[bytes] = Factory(list)  # IP packets


class Station:
    """The host. What it sends is in `outgoing`, for its owner to take."""

    def __init__(
        self,
        mac: bytes,
        interface: IPv4Interface,
        *,
        place: Callable[[int, bytes], str] = lambda vlan, mac: "",
        answers: bool = True,
    ) -> None:
        """`place` names the port of the switch where a station of a VLAN (0: untagged) was last
        heard. Without `answers`, somebody else (a kernel) answers for MAC and address all but UDP.
        """
        self.mac = mac
        self.interface = interface
        self.link_local = _link_local(mac)
        self.addresses: set[IpAddress] = {interface.ip, self.link_local}
        self.networks: set[IPv4Network | IPv6Network] = {interface.network}  # on the link
        self.groups: set[IpAddress] = {ALL_NODES, _solicited(self.link_local)}
        self.udp: set[int] = set()  # ports that somebody listens to
        self.icmpv6: set[int] = set()  # types, the same
        self.outgoing: list[bytes] = []  # frames
        self.drops: Counter[str] = Counter()
        self._place = place
        self._answers = answers
        self._broadcasts = {IPv4Address("255.255.255.255"), interface.network.broadcast_address}
        self._buckets: dict[str, Bucket] = {}
        self._neighbours: OrderedDict[IpAddress, tuple[bytes, float]] = OrderedDict()
        self._asked: dict[IpAddress, _Asked] = {}

    def add_address(self, interface: IPv6Interface) -> None:
        """Have one more, of a network that is on the link."""
        self.addresses.add(interface.ip)
        self.groups.add(_solicited(interface.ip))
        self.networks.add(interface.network)

    def remove_address(self, address: IPv6Address) -> None:
        """Have it no more."""
        self.addresses.discard(address)
        self.groups.discard(_solicited(address))

    @property
    def asks(self) -> bool:
        """Whether an answer about a neighbour is due."""
        return bool(self._asked)

    # What comes.

    def receive_untrusted(self, frame: bytes, now: float) -> Datagram | None:
        """What a service is to get of a frame from the LAN, without its FCS."""
        to_mac, mac = frame[:6], frame[6:12]
        if (to_mac != self.mac and not (to_mac and is_group(to_mac))) or len(mac) < 6:
            return None  # flooded, and for another station
        kind, at = network_untrusted(frame, 0)
        try:
            if is_group(mac) or mac == self.mac:
                raise _Dropped(HostDrop.HOST_MALFORMED)
            if kind == ARP:
                self._arp_untrusted(frame, at, now)
            elif kind == IPV4:
                return self._ipv4_untrusted(frame, at, now)
            elif kind == IPV6:
                return self._ipv6_untrusted(frame, at, now)
        except _Dropped as dropped:
            self.drops[dropped.reason] += 1
        return None

    def _arp_untrusted(self, frame: bytes, at: int, now: float) -> None:
        arp = frame[at : at + ARP_SIZE]
        if len(arp) < ARP_SIZE or not arp.startswith(ARP_ETHERNET_IPV4):
            raise _Dropped(HostDrop.HOST_MALFORMED)
        sender, address = arp[8:14], IPv4Address(arp[14:18])
        if IPv4Address(arp[24:28]) != self.interface.ip:
            return
        if arp[7] == 1 and self._answers:
            self._admit(frame, now)
            reply = build.arp_reply(self.mac, str(self.interface.ip), sender, str(address))
            self.outgoing.append(_tagged(reply, _tags(frame, at)))
        elif arp[7] == 2:
            self._resolved(address, sender, now)

    def _ipv4_untrusted(self, frame: bytes, at: int, now: float) -> Datagram | None:
        protocol, above = upper_ipv4_untrusted(frame, at)
        header, size = frame[at:above], int.from_bytes(frame[at + 2 : at + 4], "big")
        end = at + size
        if len(frame) < at + IPV4_SIZE:
            raise _Dropped(HostDrop.HOST_MALFORMED)
        source = IPv4Address(frame[at + 12 : at + 16])
        target = IPv4Address(frame[at + 16 : at + 20])
        alone = target == self.interface.ip and frame[:6] == self.mac
        if not alone and target not in self._broadcasts:
            return None  # a group, or flooded, and for another host
        if frame[at + 6] & 0x3F or frame[at + 7]:
            raise _Dropped(HostDrop.HOST_FRAGMENT)
        odd = source.is_multicast or source in self._broadcasts or source in self.addresses
        odd = odd or (alone and source.is_unspecified)
        if odd or not at < above <= end <= len(frame) or word_sum(header) % 0xFFFF:
            raise _Dropped(HostDrop.HOST_MALFORMED)
        packet, upper = frame[at:end], frame[above:end]
        if protocol == UDP:
            return self._udp_untrusted(frame, at, packet, upper, (source, target), alone, now)
        if not alone or not self._answers:
            return None
        if protocol != _ICMP:
            self._unreachable(frame, at, packet, (source, target), now, code=2)
        elif len(upper) < 8 or word_sum(upper) % 0xFFFF:
            raise _Dropped(HostDrop.HOST_MALFORMED)
        elif upper[0] == _ECHO:
            self._admit(frame, now)
            body = bytes((_ECHO_REPLY, 0, 0, 0)) + upper[4:]
            body = body[:2] + build.checksum(body).to_bytes(2, "big") + body[4:]
            self._answer(frame, at, build.ip(target, source, _ICMP, body))
        return None

    def _ipv6_untrusted(self, frame: bytes, at: int, now: float) -> Datagram | None:
        if len(frame) < at + IPV6_SIZE:
            raise _Dropped(HostDrop.HOST_MALFORMED)
        source, target = IPv6Address(frame[at + 8 : at + 24]), IPv6Address(frame[at + 24 : at + 40])
        alone = target in self.addresses and frame[:6] == self.mac
        # Another one's neighbour solicitation comes to all, too; before it is read any further.
        if target not in self.addresses and target not in self.groups:
            return None
        protocol, above = upper_ipv6_untrusted(frame, at)
        end = at + IPV6_SIZE + int.from_bytes(frame[at + 4 : at + 6], "big")
        if protocol < 0:
            raise _Dropped(HostDrop.HOST_FRAGMENT)
        odd = source.is_multicast or source in self.addresses
        if odd or not above <= end <= len(frame):
            raise _Dropped(HostDrop.HOST_MALFORMED)
        packet, upper = frame[at:end], frame[above:end]
        ends = (source, target)
        if protocol == UDP:
            return self._udp_untrusted(frame, at, packet, upper, ends, alone, now)
        if protocol == ICMPV6:
            return self._icmpv6_untrusted(frame, at, upper, ends, alone, now)
        return None

    def _udp_untrusted(
        self,
        frame: bytes,
        at: int,
        packet: bytes,
        udp: bytes,
        ends: tuple[IpAddress, IpAddress],
        alone: bool,
        now: float,
    ) -> Datagram | None:
        size = int.from_bytes(udp[4:6], "big")
        checked = udp[6:8] != b"\0\0" or ends[0].version == 6
        if not UDP_SIZE <= size <= len(udp) or (checked and not _sums(UDP, ends, udp[:size])):
            raise _Dropped(HostDrop.HOST_MALFORMED)
        port = int.from_bytes(udp[2:4], "big")
        if port not in self.udp:
            if alone and self._answers:
                self._unreachable(frame, at, packet, ends, now)
            return None
        self._admit(frame, now)
        from_port = int.from_bytes(udp[:2], "big")
        return self._datagram(frame, at, ends, UDP, (from_port, port), udp[UDP_SIZE:size])

    def _icmpv6_untrusted(
        self,
        frame: bytes,
        at: int,
        message: bytes,
        ends: tuple[IpAddress, IpAddress],
        alone: bool,
        now: float,
    ) -> Datagram | None:
        kind, (source, target) = message[0] if message else -1, ends
        if kind in _ND and frame[at + 7] != _ALL_HOPS:
            raise _Dropped(HostDrop.HOST_MALFORMED)
        if len(message) < 8 or not _sums(ICMPV6, ends, message):
            raise _Dropped(HostDrop.HOST_MALFORMED)
        if kind in self.icmpv6:
            self._admit(frame, now)
            return self._datagram(frame, at, ends, ICMPV6, (kind, kind), message)
        if kind == _SOLICITATION and self._answers and len(message) >= 24:
            self._advertise(frame, at, source, IPv6Address(message[8:24]), now)
        elif kind == _ADVERTISEMENT and len(message) >= 24:
            self._resolved(IPv6Address(message[8:24]), _option(message[24:], 2), now)
        elif kind == _ECHO6 and alone and self._answers:
            self._admit(frame, now)
            reply = build.icmpv6((target, source), _ECHO_REPLY6, 0, message[4:])
            self._answer(frame, at, build.ip(target, source, ICMPV6, reply))
        return None

    def _advertise(
        self, frame: bytes, at: int, source: IpAddress, wanted: IPv6Address, now: float
    ) -> None:
        if wanted not in self.addresses:
            return
        self._admit(frame, now)
        asked = not source.is_unspecified  # else somebody looks whether the address is free
        to = source if asked else ALL_NODES
        flags = (0x60 if asked else 0x20) << 24  # solicited, override
        body = flags.to_bytes(4, "big") + wanted.packed + b"\x02\x01" + self.mac
        message = build.icmpv6((wanted, to), _ADVERTISEMENT, 0, body)
        packet = build.ip(wanted, to, ICMPV6, message, hops=_ALL_HOPS)
        mac = frame[6:12] if asked else _group_mac(to)
        self._put(mac, _tags(frame, at), packet)

    def _unreachable(
        self,
        frame: bytes,
        at: int,
        packet: bytes,
        ends: tuple[IpAddress, IpAddress],
        now: float,
        code: int = _PORT,
    ) -> None:
        """Nobody listens, which is said, so that whoever asks need not wait."""
        source, target = ends
        self._admit(frame, now)
        if source.is_unspecified:
            raise _Dropped(HostDrop.HOST_NO_SERVICE)
        if source.version == 4:
            quoted = bytes(4) + packet[: (packet[0] & 0x0F) * 4 + _QUOTED]
            body = bytes((_UNREACHABLE, code, 0, 0)) + quoted
            body = body[:2] + build.checksum(body).to_bytes(2, "big") + body[4:]
            self._answer(frame, at, build.ip(target, source, _ICMP, body))
        else:
            quoted = bytes(4) + packet[:_QUOTED6]
            error = build.icmpv6((target, source), _UNREACHABLE6, _PORT6, quoted)
            self._answer(frame, at, build.ip(target, source, ICMPV6, error))
        raise _Dropped(HostDrop.HOST_NO_SERVICE)

    def _datagram(
        self,
        frame: bytes,
        at: int,
        ends: tuple[IpAddress, IpAddress],
        protocol: int,
        ports: tuple[int, int],
        payload: bytes,
    ) -> Datagram:
        (source, target), (source_port, target_port), mac = ends, ports, frame[6:12]
        return Datagram(
            protocol=protocol,
            source=source,
            source_port=source_port,
            destination=target,
            destination_port=target_port,
            payload=payload,
            mac=mac,
            tags=_tags(frame, at),
            port=self._place(vlan_of(frame), mac),
        )

    def _admit(self, frame: bytes, now: float) -> None:
        """Something is to be done for whoever sent it."""
        port = self._place(vlan_of(frame), frame[6:12])
        bucket = self._buckets.get(port)
        if bucket is None:
            if len(self._buckets) >= MAX_PORTS:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[port] = Bucket(PORT_RATE, PORT_BURST)
        if not bucket.allow(now, 1):
            raise _Dropped(HostDrop.HOST_FLOOD)

    # What goes.

    def reply(self, to: Datagram, payload: bytes) -> None:
        """Answer a datagram of UDP, from the address and port that it was sent to; of a group or a
        broadcast, from the one of its family.
        """
        source = to.destination
        if source not in self.addresses:
            source = self.interface.ip if source.version == 4 else self.link_local
        ends = (source, to.source)
        udp = build.upper(UDP, to.destination_port, to.source_port, payload, ends)
        self._put(to.mac, to.tags, build.ip(*ends, UDP, udp))

    def send(
        self,
        destination: IpAddress,
        destination_port: int,
        source_port: int,
        payload: bytes,
        now: float,
        *,
        mac: bytes | None = None,
    ) -> None:
        """Send a datagram of UDP to a host, a group or all hosts of the LAN; by way of a station
        that the caller knows, or is asked for. `ValueError` for an address that is not on the LAN.
        """
        source = self.interface.ip if destination.version == 4 else self.link_local
        ends = (source, destination)
        udp = build.upper(UDP, source_port, destination_port, payload, ends)
        packet = build.ip(*ends, UDP, udp)
        mac = mac or self._group_or_known(destination, now)
        if mac is not None:
            self._put(mac, b"", packet)
            return
        self.ask(destination, now)
        asked = self._asked.get(destination)
        if asked is None or len(asked.waiting) >= MAX_WAITING:
            self.drops[HostDrop.HOST_UNRESOLVED] += 1
        else:
            asked.waiting.append(packet)

    def ask(self, address: IpAddress, now: float) -> None:
        """Who has this address? `neighbour` has the answer, when there is one. `ValueError` for one
        that is not on the LAN.
        """
        if not (address.is_link_local or any(address in each for each in self.networks)):
            raise ValueError(f"{address} is not on the LAN {self.interface.network}")
        if address not in self._asked and len(self._asked) < MAX_NEIGHBOURS:
            self._asked[address] = _Asked(now)
            self.tick(now)

    def neighbour(self, address: IpAddress, now: float) -> bytes | None:
        """The MAC address that has answered for an IP address of late."""
        mac, until = self._neighbours.get(address, (None, now))
        return mac if now < until else None

    def tick(self, now: float) -> None:
        """Ask again for those who have not answered, and give up on them. Once a second will do."""
        for address, asked in list(self._asked.items()):
            if asked.due > now:
                continue
            if not asked.left:
                del self._asked[address]
                self.drops[HostDrop.HOST_UNRESOLVED] += len(asked.waiting)
                continue
            asked.left -= 1
            asked.due = now + ASK_INTERVAL
            self.outgoing.append(self._question(address))

    def _question(self, address: IpAddress) -> bytes:
        if address.version == 4:
            return build.arp_request(self.mac, str(self.interface.ip), str(address))
        group = _solicited(address)
        body = bytes(4) + address.packed + b"\x01\x01" + self.mac
        message = build.icmpv6((self.link_local, group), _SOLICITATION, 0, body)
        packet = build.ip(self.link_local, group, ICMPV6, message, hops=_ALL_HOPS)
        return build.ethernet(_group_mac(group), self.mac, IPV6, packet)

    def _resolved(self, address: IpAddress, mac: bytes, now: float) -> None:
        """Only what was asked for is believed."""
        asked = self._asked.get(address)
        if asked is None or len(mac) != 6 or is_group(mac):
            return
        del self._asked[address]
        self._neighbours.pop(address, None)
        if len(self._neighbours) >= MAX_NEIGHBOURS:
            self._neighbours.popitem(last=False)
        self._neighbours[address] = mac, now + NEIGHBOUR_TIME
        for packet in asked.waiting:
            self._put(mac, b"", packet)

    def _group_or_known(self, address: IpAddress, now: float) -> bytes | None:
        if address in self._broadcasts:
            return BROADCAST
        return _group_mac(address) if address.is_multicast else self.neighbour(address, now)

    def _answer(self, frame: bytes, at: int, packet: bytes) -> None:
        self._put(frame[6:12], _tags(frame, at), packet)

    def _put(self, mac: bytes, tags: bytes, packet: bytes) -> None:
        kind = IPV4 if packet[0] >> 4 == 4 else IPV6
        self.outgoing.append(_tagged(build.ethernet(mac, self.mac, kind, packet), tags))


def _tags(frame: bytes, at: int) -> bytes:
    """The VLAN tags of a frame whose network header is at `at`."""
    return frame[ETHERTYPE_AT : behind_tags(frame, ETHERTYPE_AT)]


def _tagged(frame: bytes, tags: bytes) -> bytes:
    return frame[:ETHERTYPE_AT] + tags + frame[ETHERTYPE_AT:]


def _sums(protocol: int, ends: tuple[IpAddress, IpAddress], data: bytes) -> bool:
    """Whether the checksum over data and pseudo header is right."""
    pseudo = ends[0].packed + ends[1].packed + len(data).to_bytes(4, "big")
    return not word_sum(pseudo + protocol.to_bytes(4, "big") + data) % 0xFFFF


def _option(options: bytes, wanted: int) -> bytes:
    """The link-layer address of an ND option (RFC 4861 4.6), b"" without one."""
    while len(options) >= 8 and options[1]:
        if options[0] == wanted:
            return options[2:8]
        options = options[options[1] * 8 :]
    return b""


def _link_local(mac: bytes) -> IPv6Address:
    """By the modified EUI-64 of RFC 4291 appendix A."""
    identifier = bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def _solicited(address: IpAddress) -> IPv6Address:
    """The solicited-node group of RFC 4291 2.7.1."""
    return IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:])


def _group_mac(group: IpAddress) -> bytes:
    """RFC 1112 6.4 and RFC 2464 7."""
    if group.version == 4:
        low = int(ipaddress.IPv4Address(group.packed)) & 0x7FFFFF
        return b"\x01\x00\x5e" + low.to_bytes(3, "big")
    return b"\x33\x33" + group.packed[12:]
