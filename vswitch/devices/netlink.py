"""What is asked of the kernel about network interfaces: the only importer of pyroute2.

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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from vswitch.devices.host_interface import Address, HostFacts
from vswitch.errors import PrivilegeError, VswitchError

IFF_UP = 1  # linux/if.h
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


def find_link(name: str) -> Link | None:
    """The interface `name` of this network namespace, or None."""
    with _netlink(f"look up {name}") as ipr:
        found = _links(ipr, name)
        return _describe(found[0], _name_of(ipr, found[0].get("master"))) if found else None


def create_tap(name: str, *, mac: str | None = None, mtu: int | None = None) -> None:
    """Make a persistent TAP device, down, without packet information headers.

    The caller attaches to it and then clears its persistence, so that it lives as long as the
    process and no longer.
    """
    with _netlink(f"create the TAP device {name}") as ipr:
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
    with _netlink(f"configure {name}") as ipr:
        _set(ipr, name, address=mac, mtu=mtu, txqlen=txqueuelen)
        _set(ipr, name, gso_max_size=gso_max_size, gso_max_segs=gso_max_segs)
        _set(ipr, name, gro_max_size=gso_max_size)
        if master is not None:
            _set(ipr, name, master=_index(ipr, master))
        if up is not None:
            _set(ipr, name, state="up" if up else "down")


def add_address(name: str, address: str, *, metric: int | None = None) -> None:
    """Give the interface an address in CIDR form; one that it has already is no error.

    `metric`: of the route to its subnet; the kernel's own goes before all others. IPv4 gets the
    subnet's broadcast address too: programs that look for hosts ask for it.
    """
    with _netlink(f"set {address} on {name}") as ipr:
        interface = ipaddress.ip_interface(address)
        what: dict[str, Any] = {
            "address": str(interface.ip),
            "prefixlen": interface.network.prefixlen,
        }
        if interface.version == 4 and interface.network.prefixlen < 31:
            what["broadcast"] = str(interface.network.broadcast_address)
        if metric is not None:
            what["rt_priority"] = metric
        ipr.addr("replace", index=_index(ipr, name), **what)


def remove_address(name: str, address: str) -> None:
    """Take an address in CIDR form from the interface; one that is gone already is no error."""
    interface = ipaddress.ip_interface(address)
    with _netlink(f"remove {address} from {name}", forgive=GONE) as ipr:
        ipr.addr(
            "del",
            index=_index(ipr, name),
            address=str(interface.ip),
            prefixlen=interface.network.prefixlen,
        )


def addresses(name: str) -> list[str]:
    """All addresses of the interface in CIDR form, IPv4 first; tentative IPv6 ones included."""
    with _netlink(f"read the addresses of {name}") as ipr:
        found = [
            (message["family"], f"{message.get('address')}/{message['prefixlen']}")
            for message in ipr.get_addr(index=_index(ipr, name))
        ]
        return [text for _, text in sorted(found)]


def host_facts(name: str) -> HostFacts:
    """What this host has, the interface `name` left out."""
    with _netlink("read addresses and routes") as ipr:
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
    with _netlink(f"delete {name}", forgive=GONE) as ipr:
        ipr.link("del", index=_index(ipr, name))


def create_bridge(name: str, *, mac: str | None = None, alias: str | None = None) -> None:
    """Make a kernel bridge, up, without spanning tree."""
    with _netlink(f"create the bridge {name}") as ipr:
        ipr.link("add", ifname=name, kind="bridge")
        _set(ipr, name, address=mac, ifalias=alias)
        _set(ipr, name, state="up")


def release(name: str) -> None:
    """Take the interface out of the bridge that it is in; one that is gone already is no error."""
    with _netlink(f"take {name} out of its bridge", forgive=GONE) as ipr:
        _set(ipr, name, master=0)


def bridge_ports(name: str) -> list[str]:
    """The names of the interfaces in a bridge."""
    with _netlink(f"list the ports of {name}") as ipr:
        index = _index(ipr, name)
        return [link.get("ifname") for link in ipr.get_links() if link.get("master") == index]


def move_addresses(source: str, target: str) -> None:
    """Move addresses (not link-local ones), and the routes that are not theirs, to an interface."""
    with _netlink(f"move the addresses of {source} to {target}") as ipr:
        old, new = _index(ipr, source), _index(ipr, target)
        routes = [
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for route in ipr.get_routes(family=family, table=_MAIN_TABLE)
            if route.get("oif") == old and route["proto"] != _OF_KERNEL
        ]
        for message in ipr.get_addr(index=old):
            if message["scope"] >= _LINK_SCOPE:
                continue
            what = {"address": message.get("address"), "prefixlen": message["prefixlen"]}
            broadcast = message.get("broadcast")
            more = {} if broadcast is None else {"broadcast": broadcast}
            ipr.addr("replace", index=new, **what, **more)
            ipr.addr("del", index=old, **what)
        for route in routes:
            given = {
                "gateway": route.get("gateway"),
                "priority": route.get("priority"),
                "dst": f"{route.get('dst')}/{route['dst_len']}" if route.get("dst") else "default",
            }
            ipr.route(
                "replace",
                family=route["family"],
                oif=new,
                proto=route["proto"],
                scope=route["scope"],
                **{key: value for key, value in given.items() if value is not None},
            )


def create_veth(name: str, peer: str, *, peer_pid: int | None = None) -> None:
    """Make two linked interfaces, both down; `peer` in the namespace of process `peer_pid`."""
    other: dict[str, Any] = {"ifname": peer}
    if peer_pid is not None:
        other["net_ns_pid"] = peer_pid
    with _netlink(f"create the pair {name}, {peer}") as ipr:
        ipr.link("add", ifname=name, kind="veth", peer=other)


_LOCAL_TABLE = 255  # RT_TABLE_LOCAL: a route for each address of the host
_MAIN_TABLE = 254  # RT_TABLE_MAIN of linux/rtnetlink.h
_OF_KERNEL = 2  # RTPROT_KERNEL: comes and goes with an address
_LINK_SCOPE = 253  # RT_SCOPE_LINK
_NO_PI = {"no_pi": 1, "one_queue": 0, "vnet_hdr": 0, "multi_queue": 0}


@contextmanager
def _netlink(action: str, forgive: tuple[int, ...] = ()) -> Iterator[Any]:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ipr:
            yield ipr
    except NetlinkError as error:
        _raise(action, int(error.code), forgive, error)
    except OSError as error:
        _raise(action, error.errno or 0, forgive, error)


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


def _index(ipr: Any, name: str) -> int:
    found = _links(ipr, name)
    if not found:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return int(found[0]["index"])


def _set(ipr: Any, name: str, **changes: Any) -> None:
    given = {key: value for key, value in changes.items() if value is not None}
    if given:
        ipr.link("set", index=_index(ipr, name), **given)


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
    )
