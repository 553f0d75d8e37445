"""The kinds of foreign ports, one row each, and what a configuration file says of them.

To add a kind: a module with a `Clients` for it (or one of those that are here, with another codec),
a row in `KINDS`, a line in the table of docs/operations.md. All else follows from the row: what a
`[[foreign]]` table may hold, how its socket is opened, and how `join --via` gets to such a port.

Error contract: `ConfigError`, one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from attrs import evolve, field, frozen

from vswitch.addresses import HostPort
from vswitch.config.networks import below, tables_of
from vswitch.config.options import DEFAULT_MTU
from vswitch.config.places import to_public
from vswitch.config.quantities import to_duration_or_off, to_optional_mtu, whole
from vswitch.config.sources import Source, option, structure
from vswitch.config.words import to_optional_name
from vswitch.errors import ConfigError
from vswitch.foreign.datagrams import DatagramDevice
from vswitch.foreign.formats import QemuStream
from vswitch.foreign.kcp_clients import KcpClients, KcpDevice, connect_kcp
from vswitch.foreign.sockets import Place, to_place
from vswitch.foreign.streams import StreamDevice
from vswitch.foreign.tcp import StreamClients, connect_tcp
from vswitch.foreign.udp import DatagramClients, connect_udp
from vswitch.foreign.vxlan import VxlanPeers
from vswitch.state import DEFAULT_NETWORK
from vswitch.switch.switch import Switch

MAX_LISTENERS = 64
MAX_CLIENTS = 1024  # as many ports as a switch has
_MAX_VNI = (1 << 24) - 1


class Clients(Protocol):
    """What is plugged in by way of one socket."""

    refused: Counter[str]  # clients that got no port, and datagrams of nobody's, by reason

    async def run(self) -> None:
        """Serve until cancelled."""


ForeignDevice: TypeAlias = DatagramDevice | KcpDevice | StreamDevice


# Where to, bound to which address or interface of ours, and the MTU.
Connect: TypeAlias = Callable[
    [HostPort, str | None, int], AbstractAsyncContextManager[ForeignDevice]
]


@frozen(kw_only=True)
class Kind:
    """What is particular to one kind."""

    serve: Callable[[Switch, socket.socket, ForeignSettings], Clients]
    # For a kind whose other ends are named in the file, each in a table of its own: attaches the
    # port of one. Tables with the same `listen` share a socket and its `Clients`.
    add: Callable[[Any, ForeignSettings], Awaitable[None]] | None = None
    stream: bool = False  # listens for connections, not for datagrams
    unix: bool = False  # may listen at a path, too
    needs: tuple[str, ...] = ()  # settings that it must have, and kinds without have not
    port: int | None = None  # to listen on, and of a remote, when a file does not say
    mtu: int | None = None  # of its ports when a file does not say; None: that of the switch
    connect: Connect | None = None  # for `join --via`


KINDS: Final[dict[str, Kind]] = {
    "udp": Kind(serve=DatagramClients, mtu=DEFAULT_MTU, connect=connect_udp),
    "tcp": Kind(serve=StreamClients, stream=True, mtu=DEFAULT_MTU, connect=connect_tcp),
    "kcp": Kind(serve=KcpClients, mtu=DEFAULT_MTU, connect=connect_kcp),
    "vxlan": Kind(
        serve=lambda switch, sock, _: VxlanPeers(switch, sock),
        add=VxlanPeers.plug,
        needs=("remote", "vni"),
        port=4789,  # RFC 7348
    ),
    "qemu-stream": Kind(serve=partial(StreamClients, codec=QemuStream), stream=True, unix=True),
    "qemu-dgram": Kind(serve=DatagramClients, unix=True),
}


def _to_kind(value: object) -> str:
    if value not in ("", *KINDS):
        raise ValueError(f"must be one of {', '.join(KINDS)}")
    return str(value)


def _to_optional_place(value: object) -> Place | None:
    return None if value is None else to_place(value)


def _to_limit(value: object) -> int:
    return whole(value, 1, MAX_CLIENTS)


def _to_vni(value: object) -> int | None:
    return None if value is None else whole(value, 0, _MAX_VNI)


@frozen(kw_only=True)
class ForeignSettings:
    """One listener."""

    kind: str = field(
        default="", converter=_to_kind, metadata=option(f"what it is: {', '.join(KINDS)}")
    )
    name: str = field(
        default="",
        converter=to_optional_name,
        metadata=option("what its ports are called (the kind)"),
    )
    listen: Place | None = field(
        default=None,
        converter=_to_optional_place,
        metadata=option("HOST:PORT, :PORT, or unix:/PATH"),
    )
    max_ports: int = field(default=64, converter=_to_limit, metadata=option("clients at once (64)"))
    idle: float = field(
        default=300.0,
        converter=to_duration_or_off,
        metadata=option("udp, kcp: a client silent for so long is forgotten, or off (300)"),
    )
    mtu: int | None = field(
        default=None,
        converter=to_optional_mtu,
        metadata=option("bytes that a frame may carry, that of the switch at most (1500)"),
    )
    remote: HostPort | None = field(
        default=None, converter=to_public, metadata=option("vxlan: the other end, HOST[:PORT]")
    )
    vni: int | None = field(default=None, converter=_to_vni, metadata=option("vxlan: the network"))

    @property
    def ports(self) -> int:
        """How many ports of the switch it can take."""
        return 1 if self.leads_to_bridge else self.max_ports

    def mtu_in(self, lan: int) -> int:
        """Bytes that a frame of its ports may carry, where the switch has that MTU."""
        return min(lan, self.mtu or KINDS[self.kind].mtu or lan)

    @property
    def leads_to_bridge(self) -> bool:
        """Whether a switch of somebody else's is at the other end, named in the file."""
        return KINDS[self.kind].add is not None


def load_foreign(
    path: Source | None, urls: Sequence[str] = (), network: str = DEFAULT_NETWORK
) -> tuple[ForeignSettings, ...]:
    """The foreign ports of a network in a configuration file, if there is one, and those of
    `--foreign`.
    """
    place, document = tables_of(path, network)
    tables = document.get("foreign", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        name = f"{below(network)}foreign"
        raise ConfigError(f"{place}foreign: write [[{name}]], with two brackets")
    if len(tables) + len(urls) > MAX_LISTENERS:
        where = f"{place}foreign" if path else "--foreign: foreign"
        raise ConfigError(f"{where}: more than {MAX_LISTENERS} listeners")
    said = [(f"{place}foreign[{number}]", table) for number, table in enumerate(tables, 1)]
    names = {str(table.get("name") or table.get("kind")) for table in tables}
    said += [(f"--foreign {url}", _table_of(url, names)) for url in urls]
    found: list[ForeignSettings] = []
    for place, table in said:
        settings = structure(ForeignSettings, table, place)
        problem = _problem(settings, {each.name for each in found})
        if problem is not None:
            raise ConfigError(f"{place}: {problem}")
        found.append(_complete(settings))
    return tuple(found)


def _table_of(url: str, names: set[str]) -> dict[str, str]:
    """What a file would say instead of `KIND://[HOST]:PORT` or `KIND:///PATH`; several of a kind
    are called udp, udp-2, udp-3.
    """
    kind, separator, where = url.partition("://")
    if not separator or not where:
        raise ConfigError(
            f"--foreign {url}: write KIND://[HOST]:PORT, such as udp://:9999 or tcp://:8080"
        )
    number = 1
    while (name := kind if number == 1 else f"{kind}-{number}") in names:
        number += 1
    names.add(name)
    listen = f"unix:{where}" if where.startswith("/") else where
    return {"kind": kind, "name": name, "listen": listen}


def _complete(settings: ForeignSettings) -> ForeignSettings:
    """With what follows from the kind."""
    listen, remote, port = settings.listen, settings.remote, KINDS[settings.kind].port
    if port is not None:
        listen = listen or HostPort("::", port)
        if remote is not None and not remote.port:
            remote = HostPort(remote.host, port)
    return evolve(settings, name=settings.name or settings.kind, listen=listen, remote=remote)


def _problem(settings: ForeignSettings, names: set[str]) -> str | None:
    if not settings.kind:
        return f"kind is missing: one of {', '.join(KINDS)}"
    name, kind = settings.name or settings.kind, KINDS[settings.kind]
    if name in names:
        return f"two are called {name}: give each a name of its own"
    if any(getattr(settings, each) is None for each in kind.needs):
        return f"{settings.kind} needs {' and '.join(kind.needs)}"
    for other, its in KINDS.items():
        foreign = set(its.needs) - set(kind.needs)
        if any(getattr(settings, each) is not None for each in foreign):
            return f"{' and '.join(its.needs)} are for {other}"
    if settings.listen is None and kind.port is None:
        return "listen is missing"
    if isinstance(settings.listen, Path) and not kind.unix:
        return f"{settings.kind} listens on an address, not on a path"
    return None
