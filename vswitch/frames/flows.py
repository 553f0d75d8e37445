"""Which flow a frame belongs to, and its bucket: what queues and lanes keep order and fairness by.

A flow is told by what is the same in all its packets: addresses and ports of IP; addresses alone
where no ports can be read at a fixed place, as in ICMP, fragments, and IP with options or extension
headers; without IP the Ethernet header. VLAN tags are looked through.

Bytes that change from packet to packet, as the checksum of a ping or the payload in a later
fragment, must not count: packets of one flow would overtake each other, and a flow would look like
many that send little.

Flows fall into buckets by a hash that differs from process to process: their number is bounded, and
nobody can choose to share the fate of another's flow. Flows that share a bucket share its turn.

Pure; any record has a flow, a superframe the one of its frames.
"""

from __future__ import annotations

from vswitch.frames.ethernet import TAG_SIZE, VLAN_TAGS
from vswitch.frames.headers import (
    ETHERTYPE_AT,
    IPV4_TYPE,
    IPV6_TYPE,
    MAX_TAGS,
    behind_tags,
)
from vswitch.frames.records import FRAME_FLAG, HEADER_SIZE, frame_record
from vswitch.frames.virtio import FRAME_AT, TCP, UDP

# Flows that are told apart; more share a turn. Bounds what a flood of made-up flows can cost: about
# half a megabyte in a queue whose device takes nothing.
FLOWS = 4096

# Protocols that begin with four bytes that are a flow's own: ports, or the SPI of ESP (50). DCCP is
# 33, SCTP 132, UDP-Lite 136.
_WITH_PORTS = frozenset((TCP, UDP, 33, 50, 132, 136))

_TYPE = HEADER_SIZE + ETHERTYPE_AT  # where it begins in a frame record
_IP = _TYPE + 2
_KIND, _ETHERNET = slice(_TYPE, _IP), slice(HEADER_SIZE, _IP)
_IPV4_ADDRESSES, _IPV4_PORTS = slice(_IP + 12, _IP + 20), slice(_IP + 12, _IP + 24)
_IPV6_ADDRESSES, _IPV6_PORTS = slice(_IP + 8, _IP + 40), slice(_IP + 8, _IP + 44)
_IPV4_FRAGMENT, _IPV4_PROTOCOL, _IPV6_NEXT = _IP + 6, _IP + 9, _IP + 6
_PLAIN = 0x45  # IPv4 without options
_FRAGMENT = 0x3F  # of the first byte of the offset; what is left says "don't fragment"
_ENOUGH = MAX_TAGS * TAG_SIZE + _IPV6_PORTS.stop - _TYPE  # bytes looked at, from the EtherType on


def flow_of(record: bytes) -> bytes:
    """What tells the flow of a record. HOT PATH of a queue."""
    if record[1] != FRAME_FLAG:
        return flow_of(frame_record(record[FRAME_AT : FRAME_AT + ETHERTYPE_AT + _ENOUGH]))
    kind = record[_KIND]
    try:
        if kind == IPV4_TYPE:
            if (
                record[_IPV4_PROTOCOL] in _WITH_PORTS
                and record[_IP] == _PLAIN
                and not (record[_IPV4_FRAGMENT] & _FRAGMENT or record[_IPV4_FRAGMENT + 1])
            ):
                return record[_IPV4_PORTS]
            return record[_IPV4_ADDRESSES]
        if kind == IPV6_TYPE:
            return record[_IPV6_PORTS if record[_IPV6_NEXT] in _WITH_PORTS else _IPV6_ADDRESSES]
    except IndexError:  # it ends within these headers
        return record[_ETHERNET]
    if kind in VLAN_TAGS:
        at = behind_tags(record, _TYPE)
        # As if it had none; what is looked at gets shorter each time.
        return flow_of(frame_record(record[HEADER_SIZE:_TYPE] + record[at : at + _ENOUGH]))
    return record[_ETHERNET]


def bucket_of(record: bytes) -> int:
    """The number of the flow of a record, below `FLOWS`. HOT PATH of a queue."""
    return hash(flow_of(record)) & (FLOWS - 1)
