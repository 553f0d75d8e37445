"""Who may import what: the layers of docs/architecture.md, enforced over the source itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for package in ("transport", "vswitch") for path in (ROOT / package).rglob("*.py")
)

# Purity is a rule of folders: what is in these reads no clock, owns no socket and never waits, but
# for the shells named below; `now` is an argument.
PURE = (
    "transport.wire",
    "transport.crypto",
    "transport.congestion",
    "transport.path",
    "transport.lanes",
    "transport.session",
    "transport.handshake",
    "vswitch.frames",
    "vswitch.switch",
    "vswitch.members",
    "vswitch.features",
)
PURE_MODULES = {
    "transport.constants",
    "transport.emulation",
    "transport.errors",
    "transport.ratelimit",
    "transport.stats",
    "transport.endpoint.budget",
    "transport.endpoint.demux",
    "transport.endpoint.timers",
    "transport.testing.cores",
    "vswitch.api.share",
    "vswitch.devices.relocation",
    "vswitch.doctor.findings",
    "vswitch.doctor.firewall",
    "vswitch.doctor.table",
    "vswitch.foreign.conversations",
    "vswitch.joining.host_trust",
    "vswitch.joining.route_trust",
    "vswitch.registry.approvals",
    "vswitch.services.dhcp",
    "vswitch.services.leases",
    "vswitch.services.station",
    "vswitch.services.terms",
}
SHELLS = {
    "vswitch.switch.device",
    "vswitch.switch.faults",  # which errors of Trio are ordinary ends
    "vswitch.switch.local",
    "vswitch.switch.port",
    "vswitch.switch.switch",
    "vswitch.switch.port_lifecycle",
    "vswitch.members.device",
    "vswitch.members.handshakes",
    "vswitch.features.capture",
    "vswitch.features.impair",
    "vswitch.features.loops",
    "vswitch.features.manager",
}
IMPURE = {"trio", "socket", "time", "os", "select", "threading", "asyncio", "subprocess"}
# Key files; the handshake gets keys as objects.
ALLOWED_IMPURE = {
    "transport.crypto.identity": {"os"},
    "vswitch.members.protocol": {"socket"},  # for `inet_pton`, which touches none
    "vswitch.devices.relocation": {"socket"},  # for the numbers of address families
}

NETLINK_BINDING = {"pyroute2": {"vswitch.devices.netlink", "vswitch.devices.carried"}}
TRANSPORT_USERS = (
    "vswitch.serving",
    "vswitch.joining",
    "vswitch.members.device",
    "vswitch.members.handshakes",
    "vswitch.web.links",
    "vswitch.foreign.conversations",  # KCP without a session
)
# Keys have their text form and files in transport.crypto.identity: whoever names members needs
# those.
KEYS = ("transport.crypto.identity", "transport.errors")
KEY_USERS = (
    "vswitch.registry",
    "vswitch.cli",
    "vswitch.doctor",
    "vswitch.management.members",
)
# What a path does to packets is one thing in memory, between the hosts of a lab, and at a port.
EMULATION = ("transport.emulation",)
EMULATION_USERS = ("vswitch.lab", "vswitch.features.impair")
# Whose turn it is, for whoever else meets strangers.
RATES = ("transport.ratelimit",)
RATE_USERS = ("vswitch.web.server", "vswitch.api.gate")

# On what system all of it runs.
PLATFORM = ("transport.platform",)


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """Every module that the source imports, wherever in it, relative imports resolved."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")
                keep = len(package) - node.level + is_package
                base = ".".join([*package[:keep], *([base] if base else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def uses(names: set[str], package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in names)


def is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(uses({module}, package) for package in packages)


def is_pure(module: str) -> bool:
    return module not in SHELLS and (module in PURE_MODULES or is_in(module, PURE))


def violations(module: str, names: set[str]) -> list[str]:
    found = []
    if is_pure(module):
        forbidden = IMPURE - ALLOWED_IMPURE.get(module, set())
        found += [f"pure, but imports {name}" for name in sorted(forbidden) if uses(names, name)]
    if module.startswith("transport") and uses(names, "vswitch"):
        found.append("transport knows nothing of the switch")
    for package, users in NETLINK_BINDING.items():
        if uses(names, package) and module not in users:
            found.append(f"{package} is imported by {', '.join(users)} alone")
    if (
        module.startswith("vswitch")
        and uses(names, "transport")
        and not may_use_transport(module, {name for name in names if uses({name}, "transport")})
    ):
        found.append("not among the users of transport")
    return found


def may_use_transport(module: str, names: set[str]) -> bool:
    names = {name for name in names if not consists_of({name}, PLATFORM)}
    if is_in(module, TRANSPORT_USERS) or not names:
        return True
    if consists_of(names, EMULATION):
        return is_in(module, EMULATION_USERS)
    if consists_of(names, RATES):
        return is_in(module, RATE_USERS)
    return consists_of(names, KEYS) and is_in(module, KEY_USERS)


def consists_of(names: set[str], modules: tuple[str, ...]) -> bool:
    return all(any(uses({name}, module) for module in modules) for name in names)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_layers_are_kept(path):
    module = module_name(path)
    names = imported(path.read_text(), module, is_package=path.name == "__init__.py")
    assert violations(module, names) == []


def test_the_source_is_found():
    modules = {module_name(path) for path in SOURCES}
    assert {"vswitch.errors", "vswitch.devices.netlink", "transport.errors"} <= modules


@pytest.mark.parametrize(
    ("module", "source", "finding"),
    [
        ("transport.session.session", "import time", "imports time"),
        ("transport.session.session", "def f():\n    from socket import socket", "imports socket"),
        ("transport.crypto.noise", "import os.path", "imports os"),
        ("vswitch.switch.fdb", "import trio.lowlevel", "imports trio"),
        ("vswitch.switch.fdb", "from transport import Channel", "not among the users"),
        ("transport.endpoint.udp", "from vswitch import errors", "nothing of the switch"),
        ("vswitch.lab.lab", "import pyroute2", "pyroute2"),
        ("vswitch.switch.switch", "from transport import Channel", "not among the users"),
        ("vswitch.registry.registry", "from transport import Channel", "not among the users"),
        ("vswitch.cli.serve", "import transport", "not among the users"),
        ("vswitch.lab.wire", "from transport import Channel", "not among the users"),
        ("vswitch.demo", "from transport.emulation import PathSpec", "not among the users"),
    ],
)
def test_planted_violation_is_found(module, source, finding):
    found = violations(module, imported(source, module))
    assert len(found) == 1
    assert finding in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("transport.crypto.identity", "import os"),
        ("vswitch.devices.netlink", "from pyroute2 import IPRoute"),
        ("vswitch.members.device", "from transport import Channel"),
        ("vswitch.registry.registry", "from transport.crypto.identity import PublicKey"),
        ("vswitch.cli.genkey", "from transport.crypto.identity import PrivateKey"),
        ("transport.endpoint.udp", "import socket, os, time, trio"),
        ("vswitch.lab.wire", "from transport.emulation import PathSpec"),
    ],
)
def test_what_the_layers_allow_is_not_found(module, source):
    assert violations(module, imported(source, module)) == []


def test_relative_imports_are_resolved():
    assert "transport.lanes.kcp" in imported(
        "from .kcp import Conversation", "transport.lanes.units"
    )
    assert "transport.lanes.kcp" in imported("from . import kcp", "transport.lanes.units")
    assert "vswitch.errors" in imported("from .. import errors", "vswitch.switch.fdb")
    assert "vswitch.switch.fdb" in imported(
        "from .fdb import Fdb", "vswitch.switch", is_package=True
    )
