"""The queries of a switch that asks for multicast groups itself: IGMPv3 and MLDv2.

Hosts of older versions understand them (RFC 3376 7, RFC 3810 8). The source is 0.0.0.0, so that no
router takes the switch for one (RFC 4541 2.1.1), and in IPv6, where hosts believe nothing else, the
link-local address of the switch. Pure; nothing is raised for addresses of the right length.
"""

from __future__ import annotations

import struct

from vswitch.core.checksum import word_sum
from vswitch.core.group_messages import group_mac
from vswitch.core.records import frame_record

__all__ = ["query_record"]

_ALL_HOSTS = bytes((224, 0, 0, 1))
_ALL_NODES = b"\xff\x02" + bytes(13) + b"\x01"
_ROUTER_ALERT_4 = b"\x94\x04\0\0"  # RFC 2113
_ROUTER_ALERT_6 = b"\x3a\0\x05\x02\0\0\x01\0"  # hop-by-hop header, ICMPv6 next; RFC 2711
_ROBUSTNESS = 2
_INTERVAL = 125  # seconds, told to other queriers


def query_record(
    mac: bytes, version: int, vlan: int, response_time: float, group: bytes = b""
) -> bytes:
    """The frame record of a query for a group, or for all.

    Args:
        mac: that of the switch.
        version: of IP.
        vlan: whose tag it gets; 0 for none.
        response_time: seconds in which to answer, up to 12.
        group: packed; b"" for all.
    """
    target = group or (_ALL_HOSTS if version == 4 else _ALL_NODES)
    tag = b"\x81\0" + vlan.to_bytes(2, "big") if vlan else b""
    if version == 4:
        packet = _ipv4(target, group or bytes(4), response_time)
        ethertype = b"\x08\0"
    else:
        packet = _ipv6(mac, target, group or bytes(16), response_time)
        ethertype = b"\x86\xdd"
    return frame_record(group_mac(target) + mac + tag + ethertype + packet)


def _ipv4(target: bytes, group: bytes, response_time: float) -> bytes:
    message = struct.pack(
        ">BBH4sBBH", 0x11, round(response_time * 10), 0, group, _ROBUSTNESS, _INTERVAL, 0
    )
    message = message[:2] + (-word_sum(message) % 0xFFFF).to_bytes(2, "big") + message[4:]
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x46, 0xC0, 24 + len(message), 0, 0x4000, 1, 2, 0, bytes(4), target
    )
    header += _ROUTER_ALERT_4
    return header[:10] + (-word_sum(header) % 0xFFFF).to_bytes(2, "big") + header[12:] + message


def _ipv6(mac: bytes, target: bytes, group: bytes, response_time: float) -> bytes:
    source = b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    milliseconds = round(response_time * 1000)
    message = struct.pack(
        ">BBHHH16sBBH", 130, 0, 0, milliseconds, 0, group, _ROBUSTNESS, _INTERVAL, 0
    )
    total = word_sum(source + target) + len(message) + 58 + word_sum(message)
    message = message[:2] + (-total % 0xFFFF).to_bytes(2, "big") + message[4:]
    header = struct.pack(">IHBB", 6 << 28, len(_ROUTER_ALERT_6) + len(message), 0, 1)
    return header + source + target + _ROUTER_ALERT_6 + message
