"""What can be configured: one class per command, one field per option.

Every option is declared here once and has a flag, a variable `VSWITCH_<NAME>` and, for serve and
join, a key in the TOML table of the command, or in `[https]`; sources.py fills the classes from
those. The classes check themselves, so a program that makes one by hand gets the same messages.

Invariants: no option takes a secret. The invite string, which holds a single-use token, is an
argument of join and never a flag, a variable or a key of a file; it is not in any repr.

Error contract: a wrong value raises `ValueError` with the reason.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Network
from pathlib import Path
from typing import ClassVar

from attrs import Factory, field, frozen

from vswitch.addresses import DEFAULT_PORT, WAY_OUT, HostPort
from vswitch.config.addressing import (
    Network,
    to_accepted,
    to_domains,
    to_networks,
    to_resolvers,
    to_routes,
    to_subnet,
    to_wish,
)
from vswitch.config.places import (
    Forward,
    Place,
    to_api_listen,
    to_bind,
    to_forwards,
    to_https_listen,
    to_https_public,
    to_listen,
    to_prefix,
    to_proxy,
    to_publics,
    to_socks,
    to_via,
)
from vswitch.config.quantities import (
    to_connection_limit,
    to_duration,
    to_duration_or_off,
    to_log_days,
    to_log_size,
    to_member_limit,
    to_mtu,
    to_optional_duration,
    to_optional_mtu,
)
from vswitch.config.sources import option, rare, shortened
from vswitch.config.words import (
    to_accept_ra,
    to_bool,
    to_interface,
    to_lane,
    to_level,
    to_name,
    to_optional_interface,
    to_optional_name,
    to_optional_path,
    to_path,
    to_path_wish,
    to_post_quantum,
    to_texts,
    to_user,
)
from vswitch.errors import NotFound
from vswitch.frames.ethernet import MAX_MTU, MIN_MTU
from vswitch.state import DEFAULT_NETWORK, StateDir, default_state_dir, file_error

# Tables that a configuration file may have.
# Those of NETWORK_TABLES may stand in each [network.NAME], too.
NETWORK_TABLES = (*("adverts", "dhcp", "foreign", "names", "port", "publish", "rules", "switch"),)
TABLES = (*NETWORK_TABLES, "api", "exec", "https", "join", "network", "proxy", "serve")

DEFAULT_MTU = 1500  # bytes of payload: what every Ethernet carries

_PROXY = rare("HTTP proxy for HTTPS (what HTTPS_PROXY says)", "http://HOST:PORT")
_USER = rare("when started as root, be this user, with the capabilities needed", "USER")
_PROXY_CREDENTIALS = rare("file with USER:PASSWORD for the proxy, of mode 0600", "FILE")


def _default_state() -> Path:
    return default_state_dir(os.environ, os.geteuid())


@frozen(kw_only=True)
class StateConfig:
    """Options of every command that reads the state directory."""

    state: Path = field(
        default=Factory(_default_state),
        converter=to_path,
        metadata=rare("directory of keys, members and sockets", "DIR"),
    )

    @property
    def files(self) -> StateDir:
        """The paths below the state directory."""
        return StateDir(self.state)


@frozen(kw_only=True, slots=False)
class _Printed:
    json: bool = field(
        default=False, converter=to_bool, metadata=option("print JSON", kind="switch")
    )


@frozen(kw_only=True, slots=False)
class _NetworkChoice:
    network: str = field(
        default=DEFAULT_NETWORK,
        converter=to_name,
        metadata=rare("which network of the switch on this host (default)", "NAME"),
    )


@frozen(kw_only=True, slots=False)
class _Handshakes:
    pq: str = field(
        default="auto",
        converter=to_post_quantum,
        metadata=rare(
            "ML-KEM-768 in handshakes: auto (where both sides have it), require, or off (auto)",
            "auto|require|off",
        ),
    )


@frozen(kw_only=True)
class LeaveConfig(StateConfig, _Handshakes, _Printed):
    """Options of `leave`."""

    proxy: HostPort | None = field(default=None, converter=to_proxy, metadata=_PROXY)
    proxy_credentials: Path | None = field(
        default=None, converter=to_optional_path, metadata=_PROXY_CREDENTIALS
    )


@frozen(kw_only=True)
class OneNetworkConfig(StateConfig, _NetworkChoice):
    """Options of every command that is about one network of a switch."""

    @property
    def files(self) -> StateDir:
        """The paths of that network; `NotFound` for one that the switch has never had."""
        return known_network(StateDir(self.state), self.network)


def known_network(files: StateDir, name: str) -> StateDir:
    """The paths of a network; `NotFound` for one that the switch of `files` has never had."""
    found = files.network(name)
    try:
        if name != DEFAULT_NETWORK:
            found.registry.stat()
    except FileNotFoundError:
        raise NotFound(
            f"there is no network {shortened(name)} in {files.path}, only "
            f"{', '.join(files.networks())}: see [network.NAME] in the configuration of "
            "`vswitch serve`"
        ) from None
    except OSError as error:
        raise file_error("network", found.path, error) from None
    return found


@frozen(kw_only=True)
class LookConfig(_Printed, OneNetworkConfig):
    """Options of `members` and `status`."""


@frozen(kw_only=True)
class TokenConfig(_Printed, StateConfig):
    """Options of `token`."""


@frozen(kw_only=True)
class RekeyConfig(_Printed, StateConfig):
    """Options of `rekey`. `grace` is in seconds; None for none."""

    grace: float | None = field(
        default=30 * 86400.0,
        converter=to_optional_duration,
        metadata=option("how long the old key is good: 12h, 30d; off: not at all (30d)", "TIME"),
    )


@frozen(kw_only=True)
class DoctorConfig(_Printed, _Handshakes, StateConfig):
    """Options of `doctor`, and of `netcheck`."""


@frozen(kw_only=True)
class NetcheckConfig(DoctorConfig):
    """Options of `netcheck` alone. `time` is in seconds."""

    time: float | None = field(
        default=None,
        converter=to_optional_duration,
        metadata=option("find out how long a NAT remembers, for so long: 30s, 2m", "TIME"),
    )


@frozen(kw_only=True)
class InviteConfig(OneNetworkConfig, _Printed):
    """Options of `invite`. `expires` is in seconds."""

    expires: float = field(
        default=86400.0,
        converter=to_duration,
        metadata=option("how long the string can be used: 30s, 10m, 24h, 7d (24h)", "TIME"),
    )
    public: tuple[HostPort, ...] = field(
        default=(),
        converter=to_publics,
        metadata=option(
            "where members reach the switch (what serve was told); may be repeated",
            "HOST[:PORT]",
            kind="list",
        ),
    )


@frozen(kw_only=True)
class ServiceConfig(StateConfig, _Handshakes):
    """Options of the commands that stay running."""

    config: Path | None = field(
        default=None,
        converter=to_optional_path,
        metadata=option("read options from this TOML file", "FILE", in_file=False),
    )
    log_level: str = field(
        default="info",
        converter=to_level,
        metadata=rare("trace, debug, info, warning or error (info)", "LEVEL"),
    )
    log_file: Path | None = field(
        default=None,
        converter=to_optional_path,
        metadata=rare("write the log here too, a new file every midnight", "FILE"),
    )
    log_days: int = field(
        default=14,
        converter=to_log_days,
        metadata=rare("old log files to keep, 0 for all (14)", "N"),
    )
    log_size: int = field(
        default=0,
        converter=to_log_size,
        metadata=rare("put the file aside at this size, too: 10M; 0 for never (0)", "BYTES"),
    )
    log_only_file: bool = field(
        default=False,
        converter=to_bool,
        metadata=rare("write the log to the file alone", kind="switch"),
    )


@frozen(kw_only=True, slots=False)
class _TapConfig:
    """Options of the TAP on this host."""

    dev: str = field(
        default="vsw0", converter=to_interface, metadata=rare("name of the TAP (vsw0)", "IFNAME")
    )
    bridge: str | None = field(
        default=None,
        converter=to_optional_interface,
        metadata=option("bridge the TAP with this: a bridge, or an interface", "IFNAME"),
    )
    bridge_dhcp: bool = field(
        default=False,
        converter=to_bool,
        metadata=rare("let DHCP pass between the bridge and the switch", kind="switch"),
    )
    bridge_ra: bool = field(
        default=False,
        converter=to_bool,
        metadata=rare("let IPv6 router advertisements pass there, too", kind="switch"),
    )


@frozen(kw_only=True, slots=False)
class NetworkConfig(_TapConfig):
    """Options of one network of a switch: keys of [serve], and of [network.NAME] for the others."""

    subnet: IPv4Network = field(
        default=IPv4Network("10.77.0.0/24"),
        converter=to_subnet,
        metadata=option("addresses for members (10.77.0.0/24)", "CIDR"),
    )
    mtu: int = field(
        default=DEFAULT_MTU,
        converter=to_mtu,
        metadata=rare(f"payload of the largest frame, {MIN_MTU} to {MAX_MTU} (1500)", "BYTES"),
    )
    max_members: int = field(
        default=1024,
        converter=to_member_limit,
        metadata=rare("refuse more members than this (1024)", "N"),
    )
    local_port: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("plug this host in too, with a TAP", kind="switch"),
    )


@frozen(kw_only=True)
class ServeConfig(ServiceConfig, NetworkConfig):
    """Options of `serve`, those of its default network among them."""

    listen: tuple[HostPort, ...] = field(
        default=(HostPort("::", DEFAULT_PORT),),
        converter=to_listen,
        metadata=option(
            f"UDP address and port ([::]:{DEFAULT_PORT}, both IPs); may be repeated",
            "[HOST]:PORT",
            kind="list",
        ),
    )
    public: tuple[HostPort, ...] = field(
        default=(),
        converter=to_publics,
        metadata=option(
            "where members reach this switch: what invites say; may be repeated, for a LAN and the "
            "Internet",
            "HOST[:PORT]",
            kind="list",
        ),
    )
    foreign: tuple[str, ...] = field(
        default=(),
        converter=to_texts,
        metadata=rare(
            "a port for what speaks no vswitch, in plain text: udp://:9999, tcp://:8080; may be "
            "repeated, and [[foreign]] in a file says more",
            "URL",
            kind="list",
        ),
    )
    https: HostPort | None = field(
        default=None,
        converter=to_https_listen,
        metadata=option(
            "members come over HTTPS too, at this TCP address: :443",
            "[HOST]:PORT",
            at="https.listen",
        ),
    )
    https_certificate: Path | None = field(
        default=None,
        converter=to_optional_path,
        metadata=rare("its certificate, PEM (a self-signed one)", "FILE", at="https.certificate"),
    )
    https_key: Path | None = field(
        default=None,
        converter=to_optional_path,
        metadata=rare("the key of that, PEM", "FILE", at="https.key"),
    )
    https_prefix: str = field(
        default="",
        converter=to_prefix,
        metadata=rare(
            "the path below which it is, where others share the host", "/PATH", at="https.prefix"
        ),
    )
    https_public: str | None = field(
        default=None,
        converter=to_https_public,
        metadata=rare(
            "where members reach it (at --public): what invites say",
            "https://...",
            at="https.public",
        ),
    )
    api: HostPort | None = field(
        default=None,
        converter=to_api_listen,
        metadata=option(
            "the API, in HTTP for this host alone: 127.0.0.1:7480",
            "ADDR:PORT",
            at="api.listen",
        ),
    )
    api_https: bool = field(
        default=True,
        converter=to_bool,
        metadata=rare(
            "on: [https] has the API, too, where the file has a table [api]; or off (on)",
            "on|off",
            at="api.https",
        ),
    )
    user: str | None = field(default=None, converter=to_user, metadata=_USER)
    silent: bool = field(
        default=False,
        converter=to_bool,
        metadata=rare("do not tell members of a session that a restart has lost", kind="switch"),
    )


@frozen(kw_only=True)
class JoinConfig(ServiceConfig, _TapConfig, _NetworkChoice):
    """Options of `join`, and the invite string if one was given."""

    table: ClassVar[str] = "join"  # of a file
    # Names of those that flags and variables have said; None: nobody knows.
    given: frozenset[str] | None = field(default=None, repr=False, eq=False)
    name: str = field(
        converter=to_name,
        metadata=option("this member's name: a-z, 0-9, '-' (the string's)", "NAME"),
    )
    invite: str | None = field(default=None, repr=False)
    address: str = field(
        default="auto",
        converter=to_wish,
        metadata=option("auto (from the switch), none, or ADDRESS/PREFIX (auto)", "WISH"),
    )
    allow_network: tuple[Network, ...] = field(
        default=(),
        converter=to_networks,
        metadata=rare(
            "let the LAN be of this network: another than before, or a public one; may be repeated",
            "CIDR",
            kind="list",
        ),
    )
    no_dns: bool = field(
        default=False,
        converter=to_bool,
        metadata=rare("leave the resolver of this host alone", kind="switch"),
    )
    allow_domain: tuple[str, ...] = field(
        default=(),
        converter=to_domains,
        metadata=rare(
            "let the LAN have the names of this domain: one that is not private, or that this host"
            " has from elsewhere, too; may be repeated",
            "DOMAIN",
            kind="list",
        ),
    )
    advertise: tuple[Network, ...] = field(
        default=(),
        converter=to_routes,
        metadata=rare(
            "be the way to this network behind this host, or exit: to the Internet, once the "
            "switch's operator approves it; may be repeated",
            "CIDR",
            kind="list",
        ),
    )
    accept_routes: tuple[Network, ...] = field(
        default=(),
        converter=to_accepted,
        metadata=option(
            "routes behind other members: off, private, all, or those within a network, which may "
            "be repeated (off)",
            "WISH|CIDR",
            kind="list",
        ),
    )
    exit_node: str = field(
        default="",
        converter=to_optional_name,
        metadata=option("member through which this host reaches the Internet", "NAME"),
    )
    mtu: int | None = field(
        default=None,
        converter=to_optional_mtu,
        metadata=rare(f"{MIN_MTU} to {MAX_MTU} (what the switch says)", "BYTES"),
    )
    accept_ra: str = field(
        default="addresses",
        converter=to_accept_ra,
        metadata=rare(
            "of IPv6 router advertisements of the LAN: off (nothing), addresses, or on (addresses"
            " and the way to the Internet, too) (addresses)",
            "WISH",
        ),
    )
    offload: bool = field(
        default=True,
        converter=to_bool,
        metadata=rare("on: carry large frames of the kernel whole; or off (on)", "on|off"),
    )
    lane: str = field(
        default="kcp",
        converter=to_lane,
        metadata=rare(
            "kcp: nothing is lost; datagram: nothing is repeated; auto: by the path (kcp)",
            "kcp|datagram|auto",
        ),
    )
    path: str = field(
        default="auto",
        converter=to_path_wish,
        metadata=rare(
            "auto: UDP, or HTTPS where that does not pass; udp; https (auto)", "auto|udp|https"
        ),
    )
    proxy: HostPort | None = field(default=None, converter=to_proxy, metadata=_PROXY)
    proxy_credentials: Path | None = field(
        default=None, converter=to_optional_path, metadata=_PROXY_CREDENTIALS
    )
    via: str | None = field(
        default=None,
        converter=to_via,
        metadata=rare("no session: plain frames to udp://HOST:PORT, tcp:// or kcp://", "URL"),
    )
    bind: str | None = field(
        default=None,
        converter=to_bind,
        metadata=rare("local address or interface for the underlay, or ask", "ADDR|IFNAME"),
    )
    user: str | None = field(default=None, converter=to_user, metadata=_USER)
    once: bool = field(
        default=False,
        converter=to_bool,
        metadata=rare("end when the first connection fails or ends", kind="switch"),
    )


@frozen(kw_only=True)
class SandboxConfig(JoinConfig):
    """Options of a member in a network of its own, where there is nothing but the LAN."""

    user: None = field(default=None, init=False)  # it takes no root to begin with
    bridge: None = field(default=None, init=False)  # there is none beside it
    bridge_dhcp: bool = field(default=False, init=False)
    bridge_ra: bool = field(default=False, init=False)
    dhcp: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("have the address from a DHCP server of the LAN", kind="switch"),
    )
    accept_routes: tuple[Network, ...] = field(
        default=WAY_OUT,
        converter=to_accepted,
        metadata=rare(
            "routes behind other members: off, private, all, or those within a network, which may "
            "be repeated (all)",
            "WISH|CIDR",
            kind="list",
        ),
    )
    resolver: tuple[str, ...] = field(
        default=(),
        converter=to_resolvers,
        metadata=option("name server on the LAN (none); may be repeated", "ADDR", kind="list"),
    )
    accept_ra: str = field(
        default="on",
        converter=to_accept_ra,
        metadata=rare(
            "of IPv6 router advertisements of the LAN: off (nothing), addresses, or on (addresses"
            " and the way to the Internet, too) (on)",
            "WISH",
        ),
    )


@frozen(kw_only=True)
class ExecConfig(SandboxConfig):
    """Options of `exec`."""

    table: ClassVar[str] = "exec"
    shell: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("run your shell ($SHELL)", kind="switch"),
    )
    keep: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("stay a member when the program has ended, until Ctrl-C", kind="switch"),
    )
    root: bool = field(
        default=False,
        converter=to_bool,
        metadata=rare("be root inside, for programs that look at the user id", kind="switch"),
    )
    log_level: str = field(
        default="warning",
        converter=to_level,
        metadata=rare("trace, debug, info, warning or error (warning)", "LEVEL"),
    )


@frozen(kw_only=True)
class ProxyConfig(SandboxConfig):
    """Options of `proxy`. Times are in seconds, infinite for none."""

    table: ClassVar[str] = "proxy"
    socks: tuple[Place, ...] = field(
        default=(),
        converter=to_socks,
        metadata=option(
            "SOCKS5 for programs here, TCP and UDP, names of the LAN (at 127.0.0.1); may be "
            "repeated",
            "[ADDR:]PORT",
            kind="list",
        ),
    )
    socks_users: Path | None = field(
        default=None,
        converter=to_optional_path,
        metadata=rare("ask for one of these: lines of USER:PASSWORD in a file", "FILE"),
    )
    forward: tuple[Forward, ...] = field(
        default=(),
        converter=to_forwards,
        metadata=option(
            "what comes here goes on to the LAN; may be repeated",
            "[ADDR:]PORT=NAME:PORT",
            kind="list",
        ),
    )
    reverse: tuple[Forward, ...] = field(
        default=(),
        converter=to_forwards,
        metadata=option(
            "what comes to this member's PORT on the LAN goes on to here; may be repeated",
            "PORT=ADDR:PORT",
            kind="list",
        ),
    )
    max_connections: int = field(
        default=1024,
        converter=to_connection_limit,
        metadata=rare("more at once are refused (1024)", "N"),
    )
    max_associations: int = field(
        default=512,
        converter=to_connection_limit,
        metadata=rare("the same of UDP clients (512)", "N"),
    )
    idle: float = field(
        default=3 * 3600.0,
        converter=to_duration_or_off,
        metadata=rare("end a connection that has been silent for so long; or off (3h)", "TIME"),
    )
    udp_idle: float = field(
        default=120.0,
        converter=to_duration_or_off,
        metadata=rare("forget a UDP client that has been silent for so long (2m)", "TIME"),
    )
