"""A question about a frame that nobody has sent: `in=pc1 dst=pc2 vlan=10 proto=tcp dport=22`.

    in            name or number of the port; must be there
    dst           name or number of a port, IP or MAC address, or `broadcast`; must be there
    src           MAC address; without it, that of the port
    vlan          0 to 4095, a tag; without it, none
    type          EtherType, 0x88b5 or ip, ip6, arp and so on; without it, what the other keys need
    src-ip, dst-ip  IP addresses; without them, those of the ports, else link-local ones
    proto         icmp, tcp, udp and so on, or a number; without it icmp, with a port udp
    sport, dport  of TCP and UDP; `port` is dport
    size          bytes of the frame; without it, 60 or what its headers need
    hex           the whole frame instead of all these but `in`, as digits with or without : between

`pc1 pc2 tcp 22` is short for `in=pc1 dst=pc2 proto=tcp dport=22`.

The names that `ovs-appctl ofproto/trace` has for them (in_port, dl_dst, nw_dst, tp_dst), and a
protocol as a word of its own (`tcp`, `arp`), mean the same. IP, ARP, ICMP, TCP and UDP get whole
headers with right checksums: a guard refuses what is none.

Pure. `parse_trace_untrusted` raises `ValueError` with the reason.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

import attrs

from vswitch.frames import build
from vswitch.frames.ethernet import (
    BROADCAST,
    ETHERNET_HEADER_SIZE,
    TAG_SIZE,
    is_group,
    parse_mac,
)
from vswitch.frames.headers import (
    ARP,
    ETHERTYPES,
    ICMPV6,
    IPV4,
    IPV4_SIZE,
    IPV6,
    IPV6_SIZE,
    PROTOCOLS,
    TCP_SIZE,
    UDP_SIZE,
)
from vswitch.frames.igmp import group_mac
from vswitch.frames.virtio import TCP, UDP

MAX_FRAME = 16384  # bytes: beyond any MTU, so that one too long can be asked about
NOBODY = bytes.fromhex("0200000000fe")  # the source where the port's own is not known
_DEFAULT_SIZE = 60
_KEYS = (
    *("in", "dst", "src", "vlan", "type", "src-ip", "dst-ip", "proto", "sport", "dport"),
    *("size", "hex"),
)
_ALSO = {
    "in-port": "in",
    "inport": "in",
    "port": "dport",
    "eth-dst": "dst",
    "eth-src": "src",
    "dl-dst": "dst",
    "dl-src": "src",
    "dl-vlan": "vlan",
    "dl-type": "type",
    "ip-src": "src-ip",
    "nw-src": "src-ip",
    "nw-dst": "dst-ip",
    "nw-proto": "proto",
    "ip-dst": "dst-ip",
    "tp-src": "sport",
    "tp-dst": "dport",
    "ether-type": "type",
}
_ICMP = 1
_ICMP_SIZE = 8
_UPPER_SIZES = {_ICMP: _ICMP_SIZE, ICMPV6: _ICMP_SIZE, TCP: TCP_SIZE, UDP: UDP_SIZE}
_SOURCE_PORT = 49152  # the first that no service has (RFC 6335)


@attrs.frozen
class Host:
    """Who is behind a port, as far as the switch knows."""

    name: str
    number: int
    mac: bytes | None = None
    address: str | None = None  # IPv4


@attrs.frozen
class Question:
    """What would happen to this frame, coming in there?"""

    port: str
    frame: bytes


def parse_trace_untrusted(text: str, hosts: Collection[Host] = ()) -> Question:
    """The question that a text is, where these are the ports of the switch."""
    if len(text) > 3 * MAX_FRAME:
        raise ValueError("too long")
    said = _words(text)
    port = said.pop("in", "")
    if not port:
        raise ValueError("say on which port it comes in: in=NAME")
    if "hex" in said:
        return Question(port, _digits(said))
    if "dst" not in said:
        raise ValueError("say where it goes: dst=NAME, dst=IP, dst=MAC, or dst=broadcast")
    sender = _host(hosts, port) or Host(port, 0)
    source = parse_mac(said["src"]) if "src" in said else sender.mac or NOBODY
    destination, to_ip = _destination(said, hosts)
    from_ip = _ip("src-ip", said["src-ip"]) if "src-ip" in said else None
    kind = _kind(said, from_ip, to_ip)
    tag = b""
    if "vlan" in said:
        tag = b"\x81\x00" + _number("vlan", said["vlan"], 0, 0xFFF).to_bytes(2, "big")
    head = destination + source + tag + kind.to_bytes(2, "big")
    least = ETHERNET_HEADER_SIZE + TAG_SIZE * bool(tag)
    if kind in (IPV4, IPV6):
        protocol = _protocol(said, kind)
        least += (IPV4_SIZE if kind == IPV4 else IPV6_SIZE) + _UPPER_SIZES.get(protocol, 0)
    usual = str(max(_DEFAULT_SIZE, least))
    size = _number("size", said.get("size", usual), least, MAX_FRAME)
    if kind in (IPV4, IPV6):
        ends = _ends(kind, source, destination, from_ip, to_ip, sender)
        head += _packet(said, kind, protocol, ends, size - least)
    elif kind == ARP:
        ends = _ends(IPV4, source, destination, from_ip, to_ip, sender)
        arp = build.arp_request(source, str(ends[0]), str(ends[1]))
        head += arp[ETHERNET_HEADER_SIZE : ETHERNET_HEADER_SIZE + size - least]
    return Question(port, head.ljust(size, b"\0"))


def _words(text: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for word in _spelled_out(text.replace(",", " ").split()):
        key, equals, value = word.partition("=")
        key = key.lower().replace("_", "-")
        if not equals and key in ETHERTYPES:
            key, value = "type", key
        elif not equals and key in PROTOCOLS:
            key, value = "proto", key
        elif not equals or (key := _ALSO.get(key, key)) not in _KEYS:
            raise ValueError(f"{word[:40]!r}: write KEY=VALUE, with one of {', '.join(_KEYS)}")
        if key in said:
            raise ValueError(f"{key} is there twice")
        said[key] = value
    return said


def _spelled_out(words: list[str]) -> list[str]:
    """`pc1 pc2 tcp 22` with the keys that it leaves out."""
    if len(words) < 2 or any("=" in word or word in ETHERTYPES for word in words[:2]):
        return words
    words = [f"in={words[0]}", f"dst={words[1]}", *words[2:]]
    if len(words) > 3 and words[2] in ("tcp", "udp") and words[3].isdigit():
        words[3] = f"dport={words[3]}"
    return words


def _digits(said: dict[str, str]) -> bytes:
    digits = said.pop("hex").replace(":", "")
    if said:
        raise ValueError(f"{next(iter(said))} is part of the frame: hex and in stand alone")
    try:
        frame = bytes.fromhex(digits)
    except ValueError:
        raise ValueError("hex: not an even number of hexadecimal digits") from None
    if not 1 <= len(frame) <= MAX_FRAME:
        raise ValueError(f"hex: 1 to {MAX_FRAME} bytes")
    return frame


def _host(hosts: Collection[Host], text: str) -> Host | None:
    """By its name, else by its number, as all verbs have it."""
    named = (host for host in hosts if host.name == text)
    return next(named, None) or next((each for each in hosts if str(each.number) == text), None)


def _destination(
    said: dict[str, str], hosts: Collection[Host]
) -> tuple[bytes, build.IpAddress | None]:
    """The MAC address, and the IP address where that is known, too."""
    text = said["dst"]
    asked = _ip("dst-ip", said["dst-ip"]) if "dst-ip" in said else None
    if text == "broadcast":
        return BROADCAST, asked
    if (host := _host(hosts, text)) is not None:
        if host.mac is None:
            raise ValueError(f"dst={text}: its MAC address is not known yet: write dst=MAC")
        known = None if host.address is None else ipaddress.ip_address(host.address)
        return host.mac, asked or known
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        try:
            mac = parse_mac(text)
        except ValueError:
            names = ", ".join(host.name for host in hosts)
            raise ValueError(
                f"dst={text[:60]}: neither a port ({names[:200]}) nor an IP or MAC address"
            ) from None
        owner = next((host for host in hosts if host.mac == mac and host.address), None)
        known = None if owner is None else ipaddress.ip_address(owner.address or "")
        return mac, asked or known
    if address.is_multicast:
        return group_mac(address.packed), asked or address
    if address == ipaddress.IPv4Address("255.255.255.255"):
        return BROADCAST, asked or address
    owners = (host for host in hosts if host.address == text and host.mac is not None)
    if (owner := next(owners, None)) is None or owner.mac is None:
        raise ValueError(f"dst={text}: the switch has given nobody this address: write dst=MAC")
    return owner.mac, asked or address


def _kind(said: dict[str, str], *addresses: build.IpAddress | None) -> int:
    if "type" in said:
        text = said["type"].lower()
        return ETHERTYPES[text] if text in ETHERTYPES else _number("type", text, 0, 0xFFFF)
    six = any(address is not None and address.version == 6 for address in addresses)
    return IPV6 if six or said.get("proto") == "icmp6" else IPV4


def _protocol(said: dict[str, str], kind: int) -> int:
    usual = "udp" if "sport" in said or "dport" in said else "icmp"
    text = said.get("proto", usual).lower()
    number = PROTOCOLS[text] if text in PROTOCOLS else _number("proto", text, 0, 255)
    return ICMPV6 if kind == IPV6 and number == _ICMP else number


def _ends(
    kind: int,
    source: bytes,
    destination: bytes,
    from_ip: build.IpAddress | None,
    to_ip: build.IpAddress | None,
    sender: Host,
) -> tuple[build.IpAddress, build.IpAddress]:
    """The IP addresses of a packet: link-local ones where none is known, which any port may use."""
    if kind == IPV6:
        # Of IPv6 the switch gives nobody an address; the one that a name has is of IPv4.
        from_ip = from_ip or _link_local(source)
        if to_ip is None or to_ip.version == 4:
            to_ip = ipaddress.ip_address("ff02::1")
            if not is_group(destination):
                to_ip = _link_local(destination)
    else:
        from_ip = from_ip or ipaddress.ip_address(sender.address or "169.254.0.1")
        group = "255.255.255.255" if destination == BROADCAST else "224.0.0.1"
        to_ip = to_ip or ipaddress.ip_address(group if is_group(destination) else "169.254.0.2")
    wanted = 6 if kind == IPV6 else 4
    for address in (from_ip, to_ip):
        if address.version != wanted:
            raise ValueError(f"{address} is no address of IPv{wanted}")
    return from_ip, to_ip


def _link_local(mac: bytes) -> ipaddress.IPv6Address:
    """The address that derives from a MAC address (RFC 4291, appendix A)."""
    identifier = bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def _packet(
    said: dict[str, str],
    kind: int,
    protocol: int,
    ends: tuple[build.IpAddress, build.IpAddress],
    more: int,
) -> bytes:
    """IP and what is above, with so many bytes of zeros at its end."""
    ports = [
        _number(key, said[key], 0, 0xFFFF) if key in said else usual
        for key, usual in (("sport", _SOURCE_PORT), ("dport", 0))
    ]
    if ("sport" in said or "dport" in said) and protocol not in (TCP, UDP):
        raise ValueError("sport and dport are of tcp and udp")
    upper = build.upper(protocol, ports[0], ports[1], bytes(more), ends)
    return build.ip(*ends, protocol, upper)


def _ip(what: str, text: str) -> build.IpAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{what}={text[:60]}: not an IP address") from None


def _number(what: str, text: str, least: int, most: int) -> int:
    try:
        if not text.isascii() or "_" in text or len(text) > 10:
            raise ValueError
        number = int(text, 16) if text.startswith("0x") else int(text, 10)
    except ValueError:
        raise ValueError(f"{what}={text[:20]}: not a number") from None
    if not least <= number <= most:
        raise ValueError(f"{what}={text}: {least} to {most}")
    return number
