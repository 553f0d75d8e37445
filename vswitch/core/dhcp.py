"""Whether a record holds DHCP, for a bridge that keeps the DHCP of two LANs apart. Pure."""

from __future__ import annotations

from vswitch.core.frame import VLAN_TAGS
from vswitch.core.records import HEADER_SIZE, VIRTIO_HEADER_SIZE, is_superframe

__all__ = ["is_dhcp_untrusted"]

_UDP = 17
_PORTS_V4 = (b"\x00\x43", b"\x00\x44")  # 67 and 68, to a server and to a client: RFC 2131
_PORTS_V6 = (b"\x02\x22", b"\x02\x23")  # 546 and 547: RFC 8415
_MAX_TAGS = 2


def is_dhcp_untrusted(record: bytes) -> bool:
    """Whether this frame or superframe record is of DHCP or DHCPv6, to a server or to a client.

    By the destination port; IPv6 without extension headers, as DHCP is sent. Later fragments have
    no ports, and are of no use without the first. Anything is accepted and nothing raised.
    """
    # HOT PATH of a bridge
    at = HEADER_SIZE + VIRTIO_HEADER_SIZE if is_superframe(record) else HEADER_SIZE
    at += 12
    kind = record[at : at + 2]
    for _ in range(_MAX_TAGS):
        if kind not in VLAN_TAGS:
            break
        at += 4
        kind = record[at : at + 2]
    network = at + 2
    if kind == b"\x08\x00":
        if len(record) < network + 20 or record[network + 9] != _UDP:
            return False
        if (record[network + 6] & 0x1F) or record[network + 7]:
            return False  # a later fragment
        ports = network + (record[network] & 0x0F) * 4
        return record[ports + 2 : ports + 4] in _PORTS_V4
    if kind == b"\x86\xdd":
        if len(record) < network + 48 or record[network + 6] != _UDP:
            return False
        return record[network + 42 : network + 44] in _PORTS_V6
    return False
