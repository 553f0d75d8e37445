"""From facts to findings: what is wrong, how bad it is, what was seen, and what to do.

`judge` goes through the facts in the order of the subjects in `table.py`. A fact that is None was
not gathered, and nothing is said of it.

Pure; raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Final

from attrs import Factory, frozen

from vswitch.doctor.table import TABLE, Severity

FREE_BYTES: Final = 16 << 20  # below that a registry or a log soon cannot be written
SKEW_LIMIT: Final = 60.0  # seconds between two clocks: certificates and invites tell by minutes
MTU_SLACK: Final = 16  # bytes: the search of the path MTU ends a few bytes below what passes
LOW_MTU: Final = 1280  # bytes of an IP packet: what every IPv6 path takes (RFC 8200 s. 5)
NEARLY: Final = 8  # bits of prefix: a network that is larger by more is a route to others
KEEPALIVE: Final = 18.0  # seconds, at most, between two of a member (transport/path/keepalive.py)
UDP_OVER_IP: Final = {4: 28, 6: 48}  # bytes of headers


@frozen(kw_only=True)
class Finding:
    """What `--json` shows of one finding; `seen` is what was observed."""

    id: str
    severity: str
    title: str
    seen: str
    remedy: str


@frozen(kw_only=True)
class PathFacts:
    """What asking the switch has shown. Texts are reasons, None where it went well or was not
    tried. `udp_ms` and `https_ms` are the time until a path had answered, in milliseconds.
    """

    place: str
    key: str | None = None  # fingerprint of the key that the switch should have
    unresolved: str | None = None
    unreachable: str | None = None
    keyless: bool = False  # asked without a key, and nothing speaks against a switch there
    closed: str | None = None
    silent: str | None = None  # why UDP brought no session
    refused: str | None = None
    no_handshake: str | None = None  # why there is none that both sides take
    udp_ms: float | None = None
    https_tried: bool = False
    https_ms: float | None = None
    https_failed: str | None = None
    https_answered: bool = False  # something spoke HTTP there, and had no link for this key
    datagram_size: int | None = None  # bytes of UDP payload that the path takes
    link_mtu: int | None = None  # bytes: what the kernel knows of the way there
    ip_version: int = 4
    skew: float | None = None  # seconds that the clock here is ahead
    seen: str | None = None  # where the switch saw this host
    own: Sequence[str] = ()  # addresses of this host, where `seen` is known
    key_shown: str | None = (
        None  # places that know the switch's key, where none answers a handshake
    )
    others_closed: str | None = None  # places that are silent, of hosts that refuse another port
    carrier: str | None = None  # the first address of 100.64.0.0/10 on the way
    one_port: bool | None = None  # this host has one port outside, whomever it sends to
    outlived: float | None = None  # seconds of silence after which a NAT still let answers in
    forgotten: float | None = None  # seconds after which it did not


@frozen(kw_only=True)
class RunningFacts:
    """What runs in the state directory. Pairs are of a name and what was seen of it."""

    silent: Sequence[tuple[str, str]] = ()  # joins without a connection, and why
    hung: Sequence[tuple[str, str]] = ()  # sockets that take a question and do not answer
    faults: Sequence[tuple[str, str]] = ()
    versions: Sequence[tuple[str, str]] = ()  # of what runs: its name and version
    switches: Sequence[tuple[str, str, str]] = ()  # of joins: name, its software, its switch's
    changed: Sequence[tuple[str, str]] = ()  # interfaces, and what is not as it was made
    port_taken: str | None = None


@frozen(kw_only=True)
class ConfigurationFacts:
    """What a start of the switch would read: what is wrong with each file."""

    config: str | None = None
    saved: str | None = None


@frozen(kw_only=True)
class InstalledFacts:
    """What is installed."""

    version: str
    others: Sequence[tuple[str, str]] = ()  # paths of other commands, and their versions
    wrong: Sequence[tuple[str, str]] = ()  # libraries, and what is wrong with each
    optimised: bool | None = None


@frozen(kw_only=True)
class TapFacts:
    """May this user have a TAP?"""

    missing: str | None = None
    denied: str | None = None
    net_admin: bool = True
    user_namespaces: str | None = None  # why there are none


@frozen(kw_only=True)
class InterfaceFacts:
    """One interface of ours: its TAP, or the bridge that it is in."""

    name: str
    network: str | None = None  # of the LAN, in CIDR form
    networks: Sequence[str] = ()  # that the host has without it
    managers: Sequence[str] = ()  # programs that manage it
    offload: bool = True
    routes: bool = False  # something beyond the LAN comes or goes by it
    rp_filter: int = 0  # the kernel's number: 1 is strict
    # In a bridge: sysctls that hand its frames to FORWARD, and what drops them there.
    bridge_filters: Sequence[tuple[str, str]] = ()


@frozen(kw_only=True)
class FileFacts:
    """The state directory and the keys in it."""

    path: str
    unusable: str | None = None
    exposed: Sequence[str] = ()  # key files that others can read
    free: int | None = None  # bytes


@frozen(kw_only=True)
class Facts:
    """All that was gathered; what is None was not."""

    paths: Sequence[PathFacts] = ()
    running: RunningFacts | None = None
    units: Sequence[tuple[str, str]] = ()  # that have failed, and how
    configuration: ConfigurationFacts | None = None
    installed: InstalledFacts | None = None
    tap: TapFacts | None = None
    interfaces: Sequence[InterfaceFacts] = ()
    firewall: Sequence[str] | None = None  # rules that drop the port
    files: FileFacts | None = None
    failed: Mapping[str, str] = Factory(dict)  # probes, and why they say nothing


Seen = Iterator[tuple[str, str]]  # ids, with what was seen


def judge(facts: Facts) -> list[Finding]:
    """All findings, problems first, in the order of the table."""
    seen = [
        *(found for each in facts.paths for found in _of_path(each)),
        *_of_running(facts.running, facts.installed),
        *(
            ("unit-failed", f"{unit}: {how}; `journalctl -u {unit} -n 20` has its last lines")
            for unit, how in facts.units
        ),
        *_of_installed(facts.installed),
        *_of_tap(facts.tap),
        *(found for each in facts.interfaces for found in _of_interface(each)),
        *(("firewall-drops", rule) for rule in facts.firewall or ()),
        *_of_configuration(facts.configuration),
        *_of_files(facts.files),
        *(("probe-failed", f"{name}: {why}") for name, why in facts.failed.items()),
    ]
    levels = list(Severity)
    order = {id: (levels.index(each.severity), n) for n, (id, each) in enumerate(TABLE.items())}
    return [
        Finding(
            id=id,
            severity=str(TABLE[id].severity),
            title=TABLE[id].title,
            seen=text,
            remedy=TABLE[id].remedy,
        )
        for id, text in sorted(seen, key=lambda each: order[each[0]])
    ]


def _of_path(path: PathFacts) -> Seen:
    if path.unresolved is not None:
        yield "name-unresolved", path.unresolved
    if path.refused is not None:
        yield "refused", path.refused
    if path.no_handshake is not None:
        yield "no-common-handshake", path.no_handshake
    if path.closed is not None:
        yield "port-closed", path.closed
    if path.keyless:
        yield "not-told", f"{path.place}: nothing comes back, and no error either"
    if path.https_answered:
        yield "wrong-key", f"{path.place}: {path.https_failed}"
    elif path.https_failed is not None:
        yield "https-unreachable", path.https_failed
    if path.unreachable is not None:
        yield "unreachable", path.unreachable
    elif path.silent is not None and path.https_ms is not None:
        yield "udp-blocked", f"{path.silent}; HTTPS has answered in {path.https_ms:.0f} ms"
    elif path.key_shown is not None:
        yield (
            "not-a-member",
            f"{path.key_shown} has the key {path.key}, and is silent to this member's",
        )
    elif path.silent is not None and path.closed is None:
        yield "no-answer", path.silent + _who_is_silent(path)
    if path.forgotten is not None and path.forgotten < KEEPALIVE:
        yield (
            "nat-forgets",
            f"nothing comes in from {path.place} after {path.forgotten:g} s of silence, and a "
            f"member is silent for up to {KEEPALIVE:g} s",
        )
    if path.skew is not None and abs(path.skew) > SKEW_LIMIT:
        where = "ahead of" if path.skew > 0 else "behind"
        yield "clock-wrong", f"it is {abs(path.skew):.0f} s {where} that of {path.place}"
    yield from _of_mtu(path)


def _who_is_silent(path: PathFacts) -> str:
    """What the silence of a place means, as far as that can be told."""
    if path.key is None:
        return ""
    said = f"; nobody there has shown to know the key {path.key}"
    if path.others_closed is None:
        return said
    return (
        f"{said}, though {path.others_closed} is not closed as other ports of that host are: what "
        "listens there has another key, or a firewall drops this port alone"
    )


def _of_mtu(path: PathFacts) -> Seen:
    if path.datagram_size is None:
        return
    packet = path.datagram_size + UDP_OVER_IP[path.ip_version]
    if path.link_mtu is not None and packet + MTU_SLACK < min(path.link_mtu, 9000):
        yield (
            "mtu-black-hole",
            f"packets of {packet} bytes reach {path.place}; this host takes the way there for one "
            f"of {path.link_mtu}",
        )
    if packet < LOW_MTU:
        yield "mtu-low", f"packets of {packet} bytes and no longer ones reach {path.place}"


def _of_running(running: RunningFacts | None, installed: InstalledFacts | None) -> Seen:
    if running is None:
        return
    yield from (("not-connected", f"{name}: {why}") for name, why in running.silent)
    yield from (("hung-process", f"{path}: {why}") for path, why in running.hung)
    yield from (("fault", f"{what}: {why}") for what, why in running.faults)
    yield from (("interface-changed", f"{dev}: {what}") for dev, what in running.changed)
    if running.port_taken is not None:
        yield "port-taken", running.port_taken
    for name, version in running.versions if installed is not None else ():
        assert installed is not None
        if version != installed.version:
            yield "other-version", f"{name} is {version}, this command {installed.version}"

    for name, software, other in running.switches:
        if software != other:
            yield "switch-version", f"the switch of {name} is {other}, this member {software}"


def behind_nat(path: PathFacts) -> bool | None:
    """Whether the switch sees this host at an address that it does not have; None: not known."""
    if not path.seen or not path.own:
        return None
    host = path.seen.rpartition(":")[0].strip("[]")
    return host not in path.own


def _of_installed(installed: InstalledFacts | None) -> Seen:
    if installed is None:
        return
    for path, version in installed.others:
        if version != installed.version:
            yield "several-installed", f"{path} is {version}, this command {installed.version}"
    yield from (("old-dependency", f"{name}: {why}") for name, why in installed.wrong)
    if installed.optimised is False:
        yield "slow-python", "its configure was not asked for --enable-optimizations"


def _of_tap(tap: TapFacts | None) -> Seen:
    if tap is None:
        return
    if tap.missing is not None:
        yield "no-tun", tap.missing
    elif tap.denied is not None:
        yield "tun-denied", tap.denied
    if not tap.net_admin:
        yield "no-net-admin", "CAP_NET_ADMIN is not among the capabilities of this process"
        if tap.user_namespaces is not None:
            yield "no-user-namespaces", tap.user_namespaces


def _of_interface(dev: InterfaceFacts) -> Seen:
    if dev.network is not None:
        lan = ip_network(dev.network, strict=False)
        for text in dev.networks:
            other = ip_network(text)
            # What leads to much more than the LAN is reached beside it.
            near = other.version == lan.version and other.prefixlen >= lan.prefixlen - NEARLY
            if near and other.overlaps(lan):
                yield "subnet-collision", f"{dev.name} has {lan}, and this host a route to {other}"
    for manager in dev.managers:
        yield "managed-interface", f"{dev.name} is managed by {manager}"
    if not dev.offload:
        yield "no-offload", f"{dev.name} is without the virtio-net header"
    if dev.routes and dev.rp_filter == 1:
        yield "rp-filter", f"rp_filter of {dev.name} is 1, and routes lead by it"
    for name, dropping in dev.bridge_filters:
        yield "br-netfilter", f"{dev.name} is in a bridge, {name} is 1, and {dropping}"


def _of_configuration(files: ConfigurationFacts | None) -> Seen:
    if files is None:
        return
    if files.config is not None:
        yield "config-wrong", files.config
    if files.saved is not None:
        yield "saved-wrong", files.saved


def _of_files(files: FileFacts | None) -> Seen:
    if files is None:
        return
    if files.unusable is not None:
        yield "state-owner", files.unusable
    yield from (("key-exposed", path) for path in files.exposed)
    if files.free is not None and files.free < FREE_BYTES:
        yield "disk-full", f"{files.path}: {files.free >> 20} MiB are free"
