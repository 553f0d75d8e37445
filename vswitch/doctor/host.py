"""Probes of this host: what is installed, what runs, TAP, interfaces, firewall, files.

Blocking functions for worker threads, each about one subject. They read, ask what runs here, and
change nothing.

Error contract: `VswitchError` or `OSError` where a subject cannot be looked at; what is merely not
there is a fact, or no fact.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from vswitch.devices import netlink
from vswitch.devices.tap import IFF_VNET_HDR, TUN_PATH
from vswitch.doctor.findings import (
    FileFacts,
    InstalledFacts,
    InterfaceFacts,
    RunningFacts,
    TapFacts,
)
from vswitch.doctor.firewall import (
    Chain,
    drops,
    legacy_chains_untrusted,
    may_drop,
    nft_chains_untrusted,
)
from vswitch.errors import BadRecord, NotReachable, NotRunning, VswitchError
from vswitch.management.client import request
from vswitch.management.status import JoinStatus, SwitchStatus, from_json
from vswitch.runtime import optimised
from vswitch.state import StateDir, check_owned, owners_beside
from vswitch.version import VERSION

PATIENCE: Final = 5.0  # seconds for a program that is asked something
_CAP_NET_ADMIN: Final = 12  # linux/capability.h
_COMMAND: Final = "vswitch"
_BRIDGE_CALLS: Final = {"bridge-nf-call-iptables": "ip", "bridge-nf-call-ip6tables": "ip6"}
_LEGACY: Final = (  # of the older iptables: family, what shows its rules, which tables it has
    ("ip", "iptables-legacy-save", "/proc/net/ip_tables_names"),
    ("ip6", "ip6tables-legacy-save", "/proc/net/ip6_tables_names"),
)
_NO_NAMESPACES: Final = {  # sysctls that deny them to ordinary users, by the value that does so
    "user/max_user_namespaces": "0",
    "kernel/unprivileged_userns_clone": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}
SYSCTL: Final = Path("/proc/sys")
MANAGERS: Final = {  # where they tell of interfaces, and what they say of one that is theirs
    "systemd-networkd": ("/run/systemd/netif/links", r"^ADMIN_STATE=configur"),
    "NetworkManager": ("/run/NetworkManager/devices", r"^managed=true"),
}

Running = tuple[SwitchStatus | None, list[JoinStatus], list[tuple[str, str]]]
Told = tuple[SwitchStatus | None, list[JoinStatus], list[tuple[str, str]], list[tuple[str, str]]]


def installed() -> InstalledFacts:
    """The version, that of other commands in PATH, the libraries, the interpreter."""
    return InstalledFacts(
        version=VERSION,
        others=list(_other_commands()),
        wrong=list(_wrong_libraries()),
        optimised=optimised(),
    )


def _other_commands() -> Iterator[tuple[str, str]]:
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = {os.path.join(place, _COMMAND) for place in places if place}
    found = {os.path.realpath(path) for path in paths if os.access(path, os.X_OK)}
    if len(found) < 2:  # one is this one, or starts it
        return
    for path in sorted(found):
        try:
            said = output_of([path, "--version"])
        except (OSError, VswitchError):
            continue
        if match := re.fullmatch(r"vswitch (\S+)", said.strip()):
            yield path, match[1]


def _wrong_libraries() -> Iterator[tuple[str, str]]:
    try:
        required = importlib.metadata.requires(_COMMAND) or []
    except importlib.metadata.PackageNotFoundError:  # a checkout: nothing says what it needs
        return
    for line in required:
        match = re.match(r"([\w.-]+)>=([\d.]+)$", line)  # an extra has more behind it
        if match is None:
            continue
        name, least = match.groups()
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, f"not installed; {least} or later is needed"
            continue
        if _numbers(have) < _numbers(least):
            yield name, f"{have} is installed; {least} or later is needed"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", version)[:3])


def ask_running(files: StateDir) -> Told:
    """The switch and the joins that run here, the sockets of what does not answer, and of what
    answers otherwise than it should, with why: that costs what is told of no other.
    """
    switch, joins, hung, odd = None, [], [], []
    for path in (files.control_socket, *files.join_sockets()):
        try:
            answer = request(path, "status", timeout=PATIENCE)
            if path == files.control_socket:
                switch = from_json(answer, SwitchStatus)
            else:
                joins.append(from_json(answer, JoinStatus))
        except NotRunning:
            continue
        except NotReachable as error:
            hung.append((path.name, str(error)))
        except VswitchError as error:
            odd.append((path.name, str(error)))
    return switch, joins, hung, odd


def running(found: Running, port: int | None) -> RunningFacts:
    """What is wrong with it; `port` is the UDP port of a switch that should run and does not."""
    switch, joins, hung = found
    faults = [] if switch is None else switch.ended
    return RunningFacts(
        silent=[
            (each.name, each.error or f"{each.server} has owed answers for three seconds")
            for each in joins
            if each.state != "up"
        ],
        hung=hung,
        faults=[(each.ended, f"{each.error}, reference={each.reference}") for each in faults],
        versions=[
            *([] if switch is None else [("the switch", switch.version)]),
            *((each.name, each.version) for each in joins if each.version),
        ],
        switches=[
            (each.name, f"vswitch {each.version}", each.switch_software)
            for each in joins
            if each.switch_software
        ],
        changed=[
            (each.dev or each.name, ", ".join(f"{what} is {now}" for what, now in lacks.items()))
            for each in joins
            if (lacks := each.lacking)
        ],
        port_taken=None if port is None else _taken(port),
    )


def _taken(port: int) -> str | None:
    """Who keeps a switch from its port; by an attempt that is undone at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"UDP port {port}: {error.strerror}"
            raise
    return None


def tap() -> TapFacts:
    """Whether this user can have a TAP, or at least a network of its own."""
    missing = denied = None
    try:
        os.close(os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        said = f"{TUN_PATH}: {error.strerror}"
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
            missing = said
        else:
            denied = said
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)
    effective = int(match[1], 16) if match is not None else 0
    return TapFacts(
        missing=missing,
        denied=denied,
        net_admin=bool(effective >> _CAP_NET_ADMIN & 1),
        user_namespaces=next(
            (
                f"{name.replace('/', '.')} is {value}"
                for name, value in _NO_NAMESPACES.items()
                if _setting(name) == value
            ),
            None,
        ),
    )


def _setting(name: str) -> str | None:
    """A sysctl, by its path; None where the kernel has none of that name."""
    try:
        return (SYSCTL / name).read_text().strip()
    except OSError:
        return None


def interfaces(joins: Sequence[JoinStatus]) -> list[InterfaceFacts]:
    """The TAPs of the joins that run here, in this network namespace."""
    found = []
    for join in joins:
        link = None if join.dev is None else netlink.find_link(join.dev)
        if link is None:  # a sandbox has it, or it is gone, which `lacking` says
            continue
        name = link.name
        filters = (_setting(f"net/ipv4/conf/{each}/rp_filter") for each in ("all", name))
        found.append(
            InterfaceFacts(
                name=name,
                network=join.address,
                networks=[str(each) for each in netlink.host_facts(name).networks],
                managers=list(managers(link.index)),
                offload=bool(int(_attribute(name, "tun_flags"), 16) & IFF_VNET_HDR),
                routes=bool(join.routes or join.advertised or join.exit_node),
                rp_filter=max(int(each or 0) for each in filters),
                bridge_filters=[] if link.master is None else list(_bridge_filters()),
            )
        )
    return found


def _bridge_filters() -> Iterator[tuple[str, str]]:
    """Settings that hand the frames of bridges to FORWARD, where that drops or nobody can tell."""
    on = [each for each in _BRIDGE_CALLS if _setting(f"net/bridge/{each}") == "1"]
    chains = _chains("forward", None) if on else []
    for name in on:
        dropping = "only root sees what FORWARD does"
        if chains is not None:
            dropping = ", ".join(may_drop(chains, _BRIDGE_CALLS[name]))
        if dropping:
            yield f"net.bridge.{name}", dropping


def addresses() -> list[str]:
    """All of this host, without their prefixes."""
    return [text.partition("/")[0] for _, found in netlink.interfaces() for text in found]


def _attribute(name: str, attribute: str) -> str:
    """Of an interface, as sysfs has it for this network namespace, or a value that says nothing."""
    try:
        return Path(f"/sys/class/net/{name}/{attribute}").read_text().strip()
    except OSError:  # sysfs of another namespace is mounted
        return hex(IFF_VNET_HDR)


def managers(index: int) -> Iterator[str]:
    """Both tell of each interface in a file below /run, by its number."""
    for name, (directory, line) in MANAGERS.items():
        try:
            text = (Path(directory) / str(index)).read_text(errors="replace")
        except OSError:
            continue
        if re.search(line, text, re.M):
            yield name


def firewall(hook: str, port: int) -> list[str] | None:
    """Rules that drop UDP to this port at this hook, `input` or `output`; None where nobody can
    tell.

    Raises:
        VswitchError: there are rules that cannot be read.
    """
    chains = _chains(hook, port)
    return None if chains is None else drops(chains, f"UDP port {port}")


def _chains(hook: str, port: int | None) -> list[Chain] | None:
    """What the kernel goes through at a hook, about UDP to a port or any packet; None where that
    cannot be seen.
    """
    if os.geteuid() != 0:
        return None
    found = None
    try:
        if nft := _program("nft"):
            found = nft_chains_untrusted(output_of([nft, "-j", "list", "ruleset"]), hook, port)
        for family, tool, tables in _LEGACY:
            if not _has_lines(tables):
                continue
            save = _program(tool)
            if save is None:
                raise VswitchError(f"{tables} tells of rules, and there is no {tool} to show them")
            chains = legacy_chains_untrusted(output_of([save]), family, hook, port)
            found = [*(found or ()), *chains]
    except BadRecord as error:
        raise VswitchError(f"the firewall's rules: {error}") from None
    return found


def _program(name: str) -> str | None:
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=f"{path}:/usr/sbin:/sbin")


def output_of(command: list[str]) -> str:
    """What a program says, which may be no UTF-8: a comment of a rule is any bytes."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise VswitchError(f"{' '.join(command)}: no answer within {PATIENCE:g} s") from None
    if done.returncode != 0:
        raise VswitchError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _has_lines(path: str) -> bool:
    try:
        return bool(Path(path).read_text().strip())
    except OSError:  # the kernel has none of this
        return False


def state(files: StateDir) -> FileFacts:
    """The state directory, its keys, and the room on its disk."""
    unusable, free, exposed = None, None, list[str]()
    try:
        check_owned("state directory", files.path, files.path.stat(), *owners_beside(files.path))
        free = shutil.disk_usage(files.path).free
        keys = (files.server_key, files.old_server_key, *files.members.glob("*.key"))
        exposed = [str(key) for key in keys if key.exists() and key.stat().st_mode & 0o077]
    except FileNotFoundError:
        pass  # nothing has run here yet
    except OSError as error:
        unusable = f"{files.path}: {error.strerror}"
    except VswitchError as error:
        unusable = str(error)
    return FileFacts(path=str(files.path), unusable=unusable, exposed=exposed, free=free)
