"""What an interface carries, its addresses and routes, in messages of netlink: read and moved.

`carried` reads what is the host's and not the kernel's own doing; `apply` carries out the steps of
a plan (`relocation.py`), and says which of them have changed anything, so that they can be undone.
Every attribute that is read is sent again as it was; a route that has others is refused, not moved
in part. Layouts: linux/if_addr.h, linux/rtnetlink.h.

Blocking, and errors, as in `netlink.py`.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from vswitch.devices.netlink import GONE, LINK_SCOPE, LOCAL_TABLE, THERE, index_of, open_netlink
from vswitch.devices.relocation import (
    FOREVER,
    Carried,
    CarriedAddress,
    CarriedRoute,
    Hop,
    Step,
    describe,
)
from vswitch.errors import VswitchError

_OF_KERNEL = 2  # RTPROT_KERNEL: comes and goes with an address
_LINK_LOCAL_OF_KERNEL = 3  # IFAPROT_KERNEL_LL
_NO_TABLE = 252  # RT_TABLE_COMPAT: the number is in an attribute
_ONLINK = 4  # RTNH_F_ONLINK
_CLOCK_TICKS = 100  # a second: USER_HZ
_CREATE, _EXCLUSIVE, _REPLACE, _APPEND = 0x400, 0x200, 0x100, 0x800  # NLM_F_*
_ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
_NODAD, _UNPROVEN = 0x02, 0x08 | 0x40  # IFA_F_NODAD; _DADFAILED, _TENTATIVE
# IFA_F_HOMEADDRESS, _MANAGETEMPADDR, _NOPREFIXROUTE, _MCAUTOJOIN
_ADDRESS_FLAGS = 0x10 | 0x100 | 0x200 | 0x400
# What a route may have if it is to be told in full. A tunnel of its own, a nexthop object: more.
_ROUTE_ATTRIBUTES = {
    f"RTA_{name}"
    for name in (
        *("TABLE", "DST", "SRC", "OIF", "GATEWAY", "VIA", "PRIORITY", "PREFSRC", "METRICS"),
        *("MULTIPATH", "FLOW", "CACHEINFO", "PREF"),
    )
}


def carried(name: str) -> Carried:
    """All addresses and routes of the interface that are not the kernel's own doing.

    `VswitchError` for a route that cannot be told in full, and so not be moved.
    """
    with open_netlink(f"read what {name} carries") as ipr:
        links = {int(link["index"]): link for link in ipr.get_links()}
        index = index_of(ipr, name)
        names = {number: str(link.get("ifname")) for number, link in links.items()}
        own = _eui64(links[index].get("address"))
        return Carried(
            tuple(
                _carried_address(message, name)
                for message in ipr.get_addr(index=index)
                if not _by_kernel(message, own)
            ),
            tuple(
                route
                for family in (socket.AF_INET, socket.AF_INET6)
                for message in ipr.get_routes(family=family)
                if not _route_by_kernel(message)
                for route in _carried_routes(message, names, name)
            ),
        )


def apply(steps: Iterable[Step], done: list[Step]) -> None:
    """Carry out all steps, or raise. Those that have changed anything are in `done`."""
    step: Step | None = None
    with open_netlink("move addresses and routes", lambda: _tell(step) if step else None) as ipr:
        indices = {str(link.get("ifname")): int(link["index"]) for link in ipr.get_links()}
        for step in steps:
            send = _send_address if isinstance(step.entry, CarriedAddress) else _send_route
            if send(ipr, step, indices):
                done.append(step)
                _settle(ipr, step, indices)


def _tell(step: Step) -> str:
    verb = ("take", "from") if not step.add else ("give", "to")
    return f"{verb[0]} {describe(step.entry)} {verb[1]} {step.dev}"


def _by_kernel(message: Any, own: str | None) -> bool:
    """A link-local address that each interface gets by itself, or one of the loopback's scope."""
    if message["scope"] < LINK_SCOPE or message["family"] == socket.AF_INET:
        return False
    origin = message.get("proto")  # since Linux 5.18
    return origin == _LINK_LOCAL_OF_KERNEL or (origin is None and message.get("address") == own)


def _route_by_kernel(message: Any) -> bool:
    if message.get("table") == LOCAL_TABLE:
        return True
    of_link = message["family"] == socket.AF_INET or message.get("dst") in ("fe80::", "ff00::")
    return of_link and message["proto"] == _OF_KERNEL


def _eui64(mac: str | None) -> str | None:
    """The link-local address that is made of a MAC address (RFC 4291, appendix A)."""
    if not mac or len(octets := bytes.fromhex(mac.replace(":", ""))) != 6:
        return None
    suffix = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + suffix))


def _carried_address(message: Any, name: str) -> CarriedAddress:
    peer = message.get("address")
    flags = message.get("flags") or 0
    life = message.get("cacheinfo") or {}
    label = message.get("label")
    return CarriedAddress(
        family=message["family"],
        local=message.get("local") or peer,
        peer=peer,
        prefix_length=message["prefixlen"],
        scope=message["scope"],
        flags=flags & _ADDRESS_FLAGS,
        broadcast=message.get("broadcast"),
        label=None if label == name else label,
        metric=message.get("rt_priority"),
        origin=message.get("proto"),
        valid=life.get("ifa_valid", FOREVER),
        preferred=life.get("ifa_preferred", FOREVER),
        proven=not flags & _UNPROVEN,
        undetected=bool(flags & _NODAD),
    )


def _carried_routes(message: Any, names: dict[int, str], name: str) -> Iterator[CarriedRoute]:
    """The routes in a message of the kernel's that go through the interface."""
    raw = message.get("multipath") or (message,)
    hops = [_hop(hop, names) for hop in raw]
    if not any(hop.dev == name for hop in hops):
        return
    destination = f"{message.get('dst') or _ANY[message['family']]}/{message['dst_len']}"
    given = {str(key) for part in (message, *raw) for key, _ in part["attrs"]}
    if strange := given - _ROUTE_ATTRIBUTES:
        what = ", ".join(sorted(strange)).removeprefix("RTA_").lower()
        raise VswitchError(
            f"the route to {destination} of {name} has what cannot be moved ({what}): put {name}"
            " into a bridge of your own, and name that with --bridge"
        )
    expires = (message.get("cacheinfo") or {}).get("rta_expires") or 0
    route = CarriedRoute(
        family=message["family"],
        table=message.get("table"),
        destination=destination,
        source=f"{message.get('src')}/{message['src_len']}" if message.get("src") else None,
        tos=message["tos"],
        scope=message["scope"],
        kind=message["type"],
        origin=message["proto"],
        hops=tuple(hops),
        priority=message.get("priority"),
        preferred_source=message.get("prefsrc"),
        metrics=tuple((k, v) for k, v in (message.get("metrics") or {"attrs": ()})["attrs"]),
        preference=message.get("pref"),
        expires=expires // _CLOCK_TICKS if expires > 0 else None,
    )
    if message["family"] == socket.AF_INET or len(hops) == 1:
        yield route
        return
    for hop in hops:
        if hop.dev == name:
            yield attrs.evolve(route, hops=(hop,))


def _hop(part: Any, names: dict[int, str]) -> Hop:
    """A hop of several, or the only one, which stands in the message itself."""
    several = "oif" in part  # else it is an attribute
    via = part.get("via")
    return Hop(
        dev=names.get(part["oif"] if several else part.get("oif") or 0, ""),
        gateway=part.get("gateway"),
        via=(via["family"], via["addr"]) if via else None,
        weight=part["hops"] + 1 if several else 1,
        onlink=bool(part["flags"] & _ONLINK),
        realm=part.get("flow"),
    )


def _send_address(ipr: Any, step: Step, indices: dict[str, int]) -> bool:
    from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_NEWADDR

    entry = step.entry
    assert isinstance(entry, CarriedAddress)
    if not step.add:
        return _request(ipr, _address_message(step, indices), RTM_DELADDR, 0, GONE)
    # Proven already: a tentative address could not be the source of a route for a second.
    proven = entry.family == socket.AF_INET6 and (entry.proven or entry.undetected)
    message = _address_message(step, indices, _NODAD if proven else 0)
    return _request(ipr, message, RTM_NEWADDR, _CREATE | _EXCLUSIVE, THERE)


def _settle(ipr: Any, step: Step, indices: dict[str, int]) -> None:
    """The next time that the link rises, an address is to be proven again, if it was before."""
    from pyroute2.netlink.rtnl import RTM_NEWADDR

    entry = step.entry
    if not (step.add and isinstance(entry, CarriedAddress)) or entry.family != socket.AF_INET6:
        return
    if entry.proven and not entry.undetected:
        _request(ipr, _address_message(step, indices), RTM_NEWADDR, _REPLACE, ())


def _address_message(step: Step, indices: dict[str, int], more: int = 0) -> Any:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

    entry = step.entry
    assert isinstance(entry, CarriedAddress)
    flags = entry.flags | more
    label = (entry.label or step.dev) if entry.family == socket.AF_INET else None
    life = {"ifa_preferred": entry.preferred, "ifa_valid": entry.valid, "cstamp": 0, "tstamp": 0}
    given = {
        "IFA_LOCAL": entry.local,
        "IFA_ADDRESS": entry.peer,
        "IFA_FLAGS": flags,
        "IFA_BROADCAST": entry.broadcast,
        "IFA_LABEL": label,
        "IFA_RT_PRIORITY": entry.metric,
        "IFA_PROTO": entry.origin,
        "IFA_CACHEINFO": life,
    }
    made = ifaddrmsg()
    made["family"], made["prefixlen"] = entry.family, entry.prefix_length
    made["scope"], made["index"] = entry.scope, indices[step.dev]
    made["flags"] = flags & 0xFF
    made["attrs"] = [[key, value] for key, value in given.items() if value is not None]
    return made


def _send_route(ipr: Any, step: Step, indices: dict[str, int]) -> bool:
    from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_NEWROUTE
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    entry = step.entry
    assert isinstance(entry, CarriedRoute)
    destination, _, length = entry.destination.partition("/")
    source, _, source_length = (entry.source or "/0").partition("/")
    made = rtmsg()
    made["family"], made["dst_len"], made["src_len"] = entry.family, int(length), int(source_length)
    made["table"] = min(entry.table, _NO_TABLE)
    made["tos"], made["scope"], made["type"] = entry.tos, entry.scope, entry.kind
    made["proto"], made["flags"] = entry.origin, 0
    given: dict[str, Any] = {
        "RTA_TABLE": entry.table,
        "RTA_DST": destination if int(length) else None,
        "RTA_SRC": source or None,
        "RTA_PRIORITY": entry.priority,
        "RTA_PREFSRC": entry.preferred_source,
        "RTA_METRICS": {"attrs": list(entry.metrics)} if entry.metrics else None,
        "RTA_PREF": entry.preference,
        "RTA_EXPIRES": None if entry.expires is None else entry.expires.to_bytes(4, sys.byteorder),
    }
    hops = [(hop, _hop_attributes(hop)) for hop in entry.hops]
    if len(hops) == 1 and hops[0][0].weight == 1:
        hop, attributes = hops[0]
        given |= {"RTA_OIF": indices[hop.dev], **attributes}
        made["flags"] = _ONLINK if hop.onlink else 0
    else:
        given["RTA_MULTIPATH"] = [
            {
                "oif": indices[hop.dev],
                "hops": hop.weight - 1,
                "flags": _ONLINK if hop.onlink else 0,
                "attrs": list(attributes.items()),
            }
            for hop, attributes in hops
        ]
    made["attrs"] = [[key, value] for key, value in given.items() if value is not None]
    if step.add:
        return _request(ipr, made, RTM_NEWROUTE, _CREATE | _APPEND, THERE)
    return _request(ipr, made, RTM_DELROUTE, 0, GONE)


def _hop_attributes(hop: Hop) -> dict[str, Any]:
    via = hop.via and {"family": hop.via[0], "addr": hop.via[1]}
    given = {"RTA_GATEWAY": hop.gateway, "RTA_VIA": via, "RTA_FLOW": hop.realm}
    return {key: value for key, value in given.items() if value is not None}


def _request(ipr: Any, message: Any, kind: int, flags: int, forgive: tuple[int, ...]) -> bool:
    """Whether it has changed anything: an error of `forgive` says that it was so already."""
    from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
    from pyroute2.netlink.exceptions import NetlinkError

    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
    try:
        ipr.nlm_request_batch([message])
    except NetlinkError as error:
        if error.code not in forgive:
            raise
        return False
    return True
