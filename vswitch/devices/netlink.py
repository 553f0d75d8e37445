"""What is asked of the kernel about network interfaces: links, bridges and addresses.

`open_netlink` is the only way to the kernel: `carried.py` and `routing.py` take it, too.

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from transport.platform import LINUX
from vswitch.devices.host_interface import Address, HostFacts, Way
from vswitch.devices.upkeep import Condition
from vswitch.errors import PrivilegeError, VswitchError

IFF_UP, IFF_LOOPBACK = 1, 8  # linux/if.h
MAX_BRIDGE_MTU = 65_535  # bytes; ETH_MAX_MTU
RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
LOCAL_TABLE = 255  # RT_TABLE_LOCAL: a route for each address of the host
LINK_SCOPE = 253  # RT_SCOPE_LINK
THERE = (errno.EEXIST,)
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
                message["family"] == socket.AF_INET6 and message["scope"] == LINK_SCOPE
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
                if not hops or route.get("table") == LOCAL_TABLE:
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


def changes(ask: Callable[..., Any], verb: str, **what: Any) -> bool:
    """Add or delete, by a call of an open socket; whether that has changed anything: what is there
    already cannot be added, and what is gone not be deleted.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        ask(verb, **what)
    except NetlinkError as error:
        if error.code not in (THERE if verb == "add" else (errno.ENOENT, *GONE)):
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


_MAKES_NONE = "1"  # IN6_ADDR_GEN_MODE_NONE
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
