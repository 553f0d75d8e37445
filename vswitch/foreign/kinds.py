"""What a configuration file says of foreign ports: one `[[foreign]]` table for each listener.

Error contract: `ConfigError`, one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

from pathlib import Path

from attrs import evolve, field, frozen

from vswitch.addresses import HostPort
from vswitch.config.converters import to_duration, to_optional_name, to_public, whole
from vswitch.config.options import option, read_tables, structure
from vswitch.errors import ConfigError
from vswitch.foreign.sockets import Place, to_place

KINDS = ("udp", "tcp", "vxlan", "qemu-stream", "qemu-dgram")
VXLAN_PORT = 4789  # UDP: RFC 7348
MAX_LISTENERS = 64
MAX_CLIENTS = 1024  # as many ports as a switch has
_MAX_VNI = (1 << 24) - 1


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

    kind: str = field(default="", converter=_to_kind, metadata=option("what it is"))
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
        converter=to_duration,
        metadata=option("udp: a client silent for so long is forgotten (300)"),
    )
    remote: HostPort | None = field(
        default=None, converter=to_public, metadata=option("vxlan: the other end, HOST[:PORT]")
    )
    vni: int | None = field(default=None, converter=_to_vni, metadata=option("vxlan: the network"))

    @property
    def ports(self) -> int:
        """How many ports of the switch it can take."""
        return 1 if self.kind == "vxlan" else self.max_ports


def load_foreign(path: Path | None) -> tuple[ForeignSettings, ...]:
    """The foreign ports of a configuration file; none without a file."""
    if path is None:
        return ()
    tables = read_tables(path).get("foreign", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ConfigError(f"{path}: foreign: write [[foreign]], with two brackets")
    if len(tables) > MAX_LISTENERS:
        raise ConfigError(f"{path}: foreign: more than {MAX_LISTENERS} tables")
    found: list[ForeignSettings] = []
    for number, table in enumerate(tables, 1):
        place = f"{path}: foreign[{number}]"
        settings = structure(ForeignSettings, table, place)
        problem = _problem(settings, {each.name for each in found})
        if problem is not None:
            raise ConfigError(f"{place}: {problem}")
        found.append(_complete(settings))
    return tuple(found)


def _complete(settings: ForeignSettings) -> ForeignSettings:
    """With what follows from the kind."""
    listen, remote = settings.listen, settings.remote
    if settings.kind == "vxlan" and listen is None:
        listen = HostPort("::", VXLAN_PORT)
    if remote is not None and not remote.port:
        remote = HostPort(remote.host, VXLAN_PORT)
    return evolve(settings, name=settings.name or settings.kind, listen=listen, remote=remote)


def _problem(settings: ForeignSettings, names: set[str]) -> str | None:
    kind = settings.kind
    if not kind:
        return f"kind is missing: one of {', '.join(KINDS)}"
    name = settings.name or kind
    if name in names:
        return f"two are called {name}: give each a name of its own"
    if kind == "vxlan":
        if settings.remote is None or settings.vni is None:
            return "vxlan needs remote and vni"
        if isinstance(settings.listen, Path):
            return "vxlan listens on an address"
        return None
    if settings.remote is not None or settings.vni is not None:
        return "remote and vni are for vxlan"
    if settings.listen is None:
        return "listen is missing"
    if isinstance(settings.listen, Path) and kind in ("udp", "tcp"):
        return f"{kind} listens on an address, not on a path"
    return None
