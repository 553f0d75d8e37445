"""What is asked of the kernel about network interfaces: the only importer of pyroute2.

`routing.py` asks through `open_netlink` and `changes`, too.

Plain blocking functions that return plain data. Each opens a netlink socket of its own and closes
it before it returns, for pyroute2 keeps an event loop per thread and leaves it open when a socket
is shared. A Trio program calls them through `trio.to_thread.run_sync` (3 ms a call); pyroute2 is
imported at the first call, as that alone takes 140 ms.

Errors: `PrivilegeError` where a capability is missing, else `VswitchError` with what the kernel
said. A name that does not exist is an answer (`None`) where that is a fair question.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from transport.platform import LINUX
from vswitch.devices.host_interface import Address, HostFacts, Way
from vswitch.devices.relocation import (
    FOREVER,
    Carried,
    CarriedAddress,
    CarriedRoute,
    Hop,
    Step,
    describe,
)
from vswitch.devices.upkeep import Condition
from vswitch.errors import PrivilegeError, VswitchError

IFF_UP, IFF_LOOPBACK = 1, 8  # linux/if.h
MAX_BRIDGE_MTU = 65_535  # bytes; ETH_MAX_MTU
RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
GONE = (errno.ENODEV, errno.EADDRNOTAVAIL, errno.ESRCH)


@attrs.frozen
class Link:
    """One network interface as the kernel describes it."""

    index: int
    name: str
    mac: str  # six octets as aa:bb:cc:dd:ee:ff, empty if the kind has none
    mtu: int  # bytes of payload
    up: bool
    kind: str  # rtnl kind: "tun" for TAP and TUN, "veth", "bridge"; empty for hardware
    tap: bool  # of kind "tun", and carries Ethernet
    master: str | None = None  # the bridge that it is in
    alias: str = ""
    carrier: bool = False  # of a TAP: whether a process has it open


def find_link(name: str) -> Link | None:
    """The interface `name` of this network namespace, or None."""
    with open_netlink(f"look up {name}") as ipr:
        found = _links(ipr, name)
        return _describe(found[0], _name_of(ipr, found[0].get("master"))) if found else None


def create_tap(name: str, *, mac: str | None = None, mtu: int | None = None) -> None:
    """Make a persistent TAP device, down, without packet information headers.

    The caller attaches to it and then clears its persistence, so that it lives as long as the
    process and no longer.
    """
    with open_netlink(f"create the TAP device {name}") as ipr:
        ipr.link("add", ifname=name, kind="tuntap", mode="tap", ifr=_NO_PI)
        _set(ipr, name, address=mac, mtu=mtu)


def configure(
    name: str,
    *,
    mac: str | None = None,
    mtu: int | None = None,
    up: bool | None = None,
    master: str | None = None,
    txqueuelen: int | None = None,
    gso_max_size: int | None = None,
    gso_max_segs: int | None = None,
) -> None:
    """Change what is given and leave the rest, the link's state last.

    `txqueuelen` is in frames, a superframe being one; `gso_max_size` (GRO's too, in bytes) and
    `gso_max_segs` bound what the kernel hands to the interface uncut.
    """
    with open_netlink(f"configure {name}") as ipr:
        _set(ipr, name, address=mac, mtu=mtu, txqlen=txqueuelen)
        _set(ipr, name, gso_max_size=gso_max_size, gso_max_segs=gso_max_segs)
        _set(ipr, name, gro_max_size=gso_max_size)
        if master is not None:
            _set(ipr, name, master=index_of(ipr, master))
        if up is not None:
            _set(ipr, name, state="up" if up else "down")


def add_address(name: str, address: str, *, metric: int | None = None) -> None:
    """Give the interface an address in CIDR form; one that it has already is no error.

    `metric`: of the route to its subnet; the kernel's own goes before all others. IPv4 gets the
    subnet's broadcast address too: programs that look for hosts ask for it.
    """
    with open_netlink(f"set {address} on {name}") as ipr:
        interface = ipaddress.ip_interface(address)
        what: dict[str, Any] = {
            "address": str(interface.ip),
            "prefixlen": interface.network.prefixlen,
        }
        if interface.version == 4 and interface.network.prefixlen < 31:
            what["broadcast"] = str(interface.network.broadcast_address)
        if metric is not None:
            what["rt_priority"] = metric
        ipr.addr("replace", index=index_of(ipr, name), **what)


def add_route(name: str, network: str) -> None:
    """Lead a network, in CIDR form, to the interface; such a route that is there is no error."""
    with open_netlink(f"lead {network} to {name}", forgive=(errno.EEXIST,)) as ipr:
        ipr.route("add", dst=network, oif=index_of(ipr, name), scope="link")


def remove_address(name: str, address: str) -> None:
    """Take an address in CIDR form from the interface; one that is gone already is no error."""
    interface = ipaddress.ip_interface(address)
    with open_netlink(f"remove {address} from {name}", forgive=GONE) as ipr:
        ipr.addr(
            "del",
            index=index_of(ipr, name),
            address=str(interface.ip),
            prefixlen=interface.network.prefixlen,
        )


def addresses(name: str) -> list[str]:
    """All addresses of the interface in CIDR form, IPv4 first; tentative IPv6 ones included."""
    with open_netlink(f"read the addresses of {name}") as ipr:
        found = [
            (message["family"], f"{message.get('address')}/{message['prefixlen']}")
            for message in ipr.get_addr(index=index_of(ipr, name))
        ]
        return [text for _, text in sorted(found)]


def condition(name: str) -> Condition:
    """The interface as it is. `VswitchError` for one that is gone."""
    with open_netlink(f"look at {name}") as ipr:
        found = _links(ipr, name)
        if not found:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        link = _describe(found[0])
        messages = list(ipr.get_addr(index=link.index))
        return Condition(
            up=link.up,
            mtu=link.mtu,
            addresses=frozenset(
                f"{message.get('local') or message.get('address')}/{message['prefixlen']}"
                for message in messages
            ),
            link_local=any(
                message["family"] == socket.AF_INET6 and message["scope"] == _LINK_SCOPE
                for message in messages
            ),
        )


def renew_link_local(name: str) -> None:
    """Have the kernel make the link-local address anew, if it makes any for this interface."""
    setting = Path(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode")
    try:
        mode = setting.read_text().strip()
        if mode == _MAKES_NONE:
            return
        for each in (_MAKES_NONE, mode):  # it does so when that changes
            setting.write_text(each)
    except OSError as error:
        _raise(f"renew the link-local address of {name}", error.errno or 0, (), error)


def interfaces() -> list[tuple[Link, list[str]]]:
    """All interfaces but the loopback, by index, each with its addresses in CIDR form."""
    with open_netlink("list the interfaces") as ipr:
        found: dict[int, list[str]] = {}
        for message in ipr.get_addr():
            text = f"{message.get('local') or message.get('address')}/{message['prefixlen']}"
            found.setdefault(message["index"], []).append(text)
        links = [each for each in ipr.get_links() if not each["flags"] & IFF_LOOPBACK]
        return [(_describe(each), found.get(each["index"], [])) for each in links]


def host_facts(name: str) -> HostFacts:
    """What this host has, the interface `name` left out."""
    with open_netlink("read addresses and routes") as ipr:
        own = _links(ipr, name)
        index = int(own[0]["index"]) if own else None
        master = _name_of(ipr, own[0].get("master")) if own else None
        addresses = {
            message.get(part)
            for message in ipr.get_addr()
            for part in ("address", "local")
            if message["index"] != index
        }
        gateways, networks = set[Any](), set[Any]()
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in ipr.get_routes(family=family):
                hops = [
                    hop
                    for hop in (route, *(route.get("multipath") or ()))
                    if hop.get("oif", hop.get("hop_ifindex") or None) != index
                ]
                if not hops or route.get("table") == _LOCAL_TABLE:
                    continue
                gateways |= {_gateway(hop) for hop in hops}
                if route.get("dst"):
                    networks.add(ipaddress.ip_network(f"{route.get('dst')}/{route['dst_len']}"))
    return HostFacts(
        addresses=_addresses(addresses),
        gateways=_addresses(gateways),
        resolvers=_addresses(_name_servers()),
        networks=frozenset(networks),
        ipv6=any(map(_has_ipv6, {name, master or name})),
    )


def ways_to(hosts: Iterable[str], bind: str | None = None) -> dict[str, Way | None]:
    """How the kernel would reach each of these addresses now; None: not at all.

    `bind` is the address or interface that the socket is bound to.
    """
    with open_netlink("look up routes") as ipr:
        return {host: _way(ipr, host, bind) for host in hosts}


def _way(ipr: Any, host: str, bind: str | None) -> Way | None:
    from pyroute2.netlink.exceptions import NetlinkError

    literal, _, scope = host.partition("%")
    asked: dict[str, Any] = {"dst": literal}
    if bind is not None and _is_address(bind.partition("%")[0]):
        asked["src"] = bind.partition("%")[0]
    elif bind is not None:
        scope = bind
    try:
        if scope:
            asked["oif"] = index_of(ipr, scope)
        (found,) = ipr.route("get", **asked)
        dev = _name_of(ipr, found.get("oif"))
    except NetlinkError as error:
        if error.code in (errno.EPERM, errno.EACCES):
            raise
        return None
    except OSError:  # there is no such interface
        return None
    if dev is None:
        return None
    source = found.get("prefsrc") or asked.get("src")
    return Way(dev, int(found.get("oif")), _gateway(found), source)


def _gateway(hop: Any) -> str | None:
    """The next hop; of another family than the route, it is `via`."""
    via = hop.get("via")
    return hop.get("gateway") or (via.get("addr") if via else None)


def _addresses(texts: Iterable[str | None]) -> frozenset[Address]:
    return frozenset(ipaddress.ip_address(text) for text in texts if text)


def _name_servers() -> Iterator[str]:
    """Also those that a local resolver asks in its turn."""
    for path in RESOLVERS:
        try:
            text = path.read_text(errors="replace")
        except OSError:  # a host without names, or without that resolver
            continue
        for line in text.splitlines():
            match line.split():
                case ["nameserver", address, *_] if _is_address(address.partition("%")[0]):
                    yield address.partition("%")[0]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _has_ipv6(name: str) -> bool:
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").read_text().strip() == "0"
    except OSError:  # a kernel without IPv6
        return False


def delete(name: str) -> None:
    """Remove the interface; one that is gone already is no error."""
    with open_netlink(f"delete {name}", forgive=GONE) as ipr:
        ipr.link("del", index=index_of(ipr, name))


def create_bridge(
    name: str,
    *,
    mac: str | None = None,
    mtu: int | None = None,
    alias: str | None = None,
    up: bool = True,
) -> None:
    """Make a kernel bridge without spanning tree."""
    with open_netlink(f"create the bridge {name}") as ipr:
        ipr.link("add", ifname=name, kind="bridge")
        _set(ipr, name, address=mac, mtu=mtu, ifalias=alias)
        if up:
            _set(ipr, name, state="up")


def bridges() -> list[Link]:
    """All bridges of this network namespace, without their own master."""
    with open_netlink("list the bridges") as ipr:
        links = [_describe(message) for message in ipr.get_links()]
        return [link for link in links if link.kind == "bridge"]


def release(name: str) -> None:
    """Take the interface out of the bridge that it is in; one that is gone already is no error."""
    with open_netlink(f"take {name} out of its bridge", forgive=GONE) as ipr:
        _set(ipr, name, master=0)


def bridge_ports(name: str) -> list[str]:
    """The names of the interfaces in a bridge."""
    with open_netlink(f"list the ports of {name}") as ipr:
        index = index_of(ipr, name)
        return [link.get("ifname") for link in ipr.get_links() if link.get("master") == index]


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
    if message["scope"] < _LINK_SCOPE or message["family"] == socket.AF_INET:
        return False
    origin = message.get("proto")  # since Linux 5.18
    return origin == _LINK_LOCAL_OF_KERNEL or (origin is None and message.get("address") == own)


def _route_by_kernel(message: Any) -> bool:
    if message.get("table") == _LOCAL_TABLE:
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
    return _request(ipr, message, RTM_NEWADDR, _CREATE | _EXCLUSIVE, _THERE)


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
        return _request(ipr, made, RTM_NEWROUTE, _CREATE | _APPEND, _THERE)
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


def changes(ask: Callable[..., Any], verb: str, **what: Any) -> bool:
    """Add or delete, by a call of an open socket; whether that has changed anything: what is there
    already cannot be added, and what is gone not be deleted.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        ask(verb, **what)
    except NetlinkError as error:
        if error.code not in (_THERE if verb == "add" else (errno.ENOENT, *GONE)):
            raise
        return False
    return True


def create_veth(name: str, peer: str, *, peer_pid: int | None = None) -> None:
    """Make two linked interfaces, both down; `peer` in the namespace of process `peer_pid`."""
    other: dict[str, Any] = {"ifname": peer}
    if peer_pid is not None:
        other["net_ns_pid"] = peer_pid
    with open_netlink(f"create the pair {name}, {peer}") as ipr:
        ipr.link("add", ifname=name, kind="veth", peer=other)


_LOCAL_TABLE = 255  # RT_TABLE_LOCAL: a route for each address of the host
_OF_KERNEL = 2  # RTPROT_KERNEL: comes and goes with an address
_LINK_SCOPE = 253  # RT_SCOPE_LINK
_LINK_LOCAL_OF_KERNEL = 3  # IFAPROT_KERNEL_LL
_NO_TABLE = 252  # RT_TABLE_COMPAT: the number is in an attribute
_MAKES_NONE = "1"  # IN6_ADDR_GEN_MODE_NONE
_ONLINK = 4  # RTNH_F_ONLINK
_CLOCK_TICKS = 100  # a second: USER_HZ
_CREATE, _EXCLUSIVE, _REPLACE, _APPEND = 0x400, 0x200, 0x100, 0x800  # NLM_F_*
_THERE = (errno.EEXIST,)
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
_NO_PI = {"no_pi": 1, "one_queue": 0, "vnet_hdr": 0, "multi_queue": 0}


@contextmanager
def open_netlink(
    action: str,
    detail: Callable[[], str | None] = lambda: None,
    *,
    forgive: tuple[int, ...] = (),
) -> Iterator[Any]:
    """A socket for what `action` says; `detail` may say it better once something has failed."""
    if not LINUX:
        raise VswitchError("interfaces and routes of this host need Linux")
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ipr:
            yield ipr
    except NetlinkError as error:
        _raise(detail() or action, int(error.code), forgive, error)
    except OSError as error:
        _raise(detail() or action, error.errno or 0, forgive, error)


def _raise(action: str, code: int, forgive: tuple[int, ...], error: Exception) -> None:
    if code in forgive:
        return
    if code in (errno.EPERM, errno.EACCES):
        raise PrivilegeError(
            f"cannot {action}: {os.strerror(code)}; run as root or with CAP_NET_ADMIN"
        ) from error
    failure = VswitchError(f"cannot {action}: {os.strerror(code) if code else error}")
    failure.__cause__ = OSError(code, os.strerror(code))
    raise failure


def _links(ipr: Any, name: str) -> list[Any]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        return list(ipr.link("get", ifname=name))
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        return []


def index_of(ipr: Any, name: str) -> int:
    found = _links(ipr, name)
    if not found:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return int(found[0]["index"])


def _set(ipr: Any, name: str, **changes: Any) -> None:
    given = {key: value for key, value in changes.items() if value is not None}
    if given:
        ipr.link("set", index=index_of(ipr, name), **given)


def _name_of(ipr: Any, index: int | None) -> str | None:
    if not index:
        return None
    found = list(ipr.link("get", index=index))
    return str(found[0].get("ifname")) if found else None


def _describe(message: Any, master: str | None = None) -> Link:
    kind = message.get(("linkinfo", "kind")) or ""
    # An open TAP has queueing and a hardware address; a TUN has no link-layer address at all.
    mac = message.get("address") or ""
    return Link(
        index=int(message["index"]),
        name=message.get("ifname"),
        mac=mac,
        mtu=int(message.get("mtu") or 0),
        up=bool(message["flags"] & IFF_UP),
        kind=kind,
        tap=kind == "tun" and mac != "",
        master=master,
        alias=message.get("ifalias") or "",
        carrier=bool(message.get("carrier")),
    )
