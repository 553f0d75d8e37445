"""Who may import what: the layers of docs/architecture.md, enforced over the source itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for package in ("transport", "vswitch") for path in (ROOT / package).rglob("*.py")
)

# Shells read clocks, own sockets and wait. All else in transport and vswitch.core is pure: it
# does nothing of that, and `now` is an argument.
TRANSPORT_SHELLS = {
    "transport",
    "transport.channel",
    "transport.endpoint",
    "transport.testing",
    "transport.testing_socket",
    "transport.socketfilter",
    "transport.udp",
}
IMPURE = {"trio", "socket", "time", "os", "select", "threading", "asyncio", "subprocess"}
ALLOWED_IMPURE = {"transport.identity": {"os"}}  # key files; the handshake gets keys as objects

KCP_BINDING = {"siokcp": {"transport.kcp"}}
NETLINK_BINDING = {"pyroute2": {"vswitch.ports.netlink"}}
TRANSPORT_USERS = {
    "vswitch.authority",  # of server: which keys may shake hands
    "vswitch.client",
    "vswitch.connection",  # of client: one session
    "vswitch.ports.member",
    "vswitch.reception",  # of server: what happens to a session that arrives
    "vswitch.server",
    "vswitch.underlay",  # of client: the socket, and finding the switch
}
# Keys have their text form and files in transport.identity: whoever names members needs those.
KEYS = ("transport.identity", "transport.errors")
KEY_USERS = {"vswitch.registry", "vswitch.invite", "vswitch.profiles"}
KEY_PACKAGES = ("vswitch.cli",)
# What a path does to packets is one thing in memory, between the hosts of a lab, and at a port.
EMULATION = ("transport.emulation",)
EMULATION_PACKAGES = ("vswitch.lab", "vswitch.features.impairment")


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


def is_pure(module: str) -> bool:
    in_transport = uses({module}, "transport") and module not in TRANSPORT_SHELLS
    return in_transport or uses({module}, "vswitch.core")


def violations(module: str, names: set[str]) -> list[str]:
    found = []
    if is_pure(module):
        forbidden = IMPURE - ALLOWED_IMPURE.get(module, set())
        found += [f"pure, but imports {name}" for name in sorted(forbidden) if uses(names, name)]
    if module.startswith("transport") and uses(names, "vswitch"):
        found.append("transport knows nothing of the switch")
    for package, users in (KCP_BINDING | NETLINK_BINDING).items():
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
    if module in TRANSPORT_USERS:
        return True
    if consists_of(names, EMULATION):
        return any(uses({module}, package) for package in EMULATION_PACKAGES)
    return consists_of(names, KEYS) and (
        module in KEY_USERS or any(uses({module}, package) for package in KEY_PACKAGES)
    )


def consists_of(names: set[str], modules: tuple[str, ...]) -> bool:
    return all(any(uses({name}, module) for module in modules) for name in names)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_layers_are_kept(path):
    module = module_name(path)
    names = imported(path.read_text(), module, is_package=path.name == "__init__.py")
    assert violations(module, names) == []


def test_the_source_is_found():
    modules = {module_name(path) for path in SOURCES}
    assert {"vswitch.errors", "vswitch.ports.netlink", "transport.errors"} <= modules


@pytest.mark.parametrize(
    ("module", "source", "finding"),
    [
        ("transport.session", "import time", "imports time"),
        ("transport.session", "def f():\n    from socket import socket", "imports socket"),
        ("transport.noise", "import os.path", "imports os"),
        ("vswitch.core.fdb", "import trio.lowlevel", "imports trio"),
        ("vswitch.core.fdb", "from transport import Channel", "not among the users"),
        ("transport.udp", "from vswitch import errors", "nothing of the switch"),
        ("transport.session", "from siokcp import KCPConnection", "siokcp"),
        ("vswitch.lab.lab", "import pyroute2", "pyroute2"),
        ("vswitch.switch", "from transport.channel import Channel", "not among the users"),
        ("vswitch.registry", "from transport.channel import Channel", "not among the users"),
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
        ("transport.identity", "import os"),
        ("transport.kcp", "import siokcp"),
        ("vswitch.ports.netlink", "from pyroute2 import IPRoute"),
        ("vswitch.ports.member", "from transport import Channel"),
        ("vswitch.registry", "from transport.identity import PublicKey"),
        ("vswitch.cli.genkey", "from transport.identity import PrivateKey"),
        ("transport.udp", "import socket, os, time, trio"),
        ("vswitch.lab.wire", "from transport.emulation import PathSpec"),
    ],
)
def test_what_the_layers_allow_is_not_found(module, source):
    assert violations(module, imported(source, module)) == []


def test_relative_imports_are_resolved():
    assert "transport.kcp" in imported("from .kcp import Conversation", "transport.session")
    assert "transport.kcp" in imported("from . import kcp", "transport.session")
    assert "vswitch.errors" in imported("from .. import errors", "vswitch.core.fdb")
    assert "vswitch.core.fdb" in imported("from .fdb import Fdb", "vswitch.core", is_package=True)
