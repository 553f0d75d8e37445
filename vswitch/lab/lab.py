"""The lab: its hosts, the bridges between them, and whether this machine can have one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import attrs

from vswitch.devices import netlink
from vswitch.devices.tap import TUN_PATH
from vswitch.errors import PrivilegeError
from vswitch.lab.host import Host, start_host
from vswitch.namespaces import enter

T = TypeVar("T")

BRIDGE = "br0"
# The path of a socket has 107 bytes (sys/un.h); those of members are 63 below the base at most.
LONGEST_BASE = 40  # bytes
PROBE_TIMEOUT = 20  # seconds


def _can(*, rootless: bool) -> bool:
    probe = enter.command(["true"], new_user=rootless, new=True)
    return (
        subprocess.run(
            probe,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT,
            check=False,
        ).returncode
        == 0
    )


def missing_for_lab() -> list[str]:
    """What this machine lacks for a lab with TAP devices, in words; empty if nothing."""
    missing = []
    if not _can(rootless=False) and not _can(rootless=True):
        missing.append("root, or user namespaces for unprivileged users")
    try:
        os.close(os.open(TUN_PATH, os.O_RDWR))
    except OSError as error:
        missing.append(f"{TUN_PATH} ({error.strerror})")
    return missing


@attrs.define(eq=False)
class Lab:
    """A context manager that makes hosts and ends them. One thread uses it, the main one."""

    rootless: bool | None = None  # None: only if need be
    hosts: dict[str, Host] = attrs.field(init=False, factory=dict)
    directory: Path = attrs.field(init=False)
    _closing: ExitStack = attrs.field(init=False, factory=ExitStack)
    _ports: int = attrs.field(init=False, default=0)

    def __enter__(self) -> Lab:
        if self.rootless is None:
            self.rootless = not _can(rootless=False)
        if self.rootless and not _can(rootless=True):
            raise PrivilegeError(
                "cannot make network namespaces: run as root, or allow user namespaces"
                " (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone,"
                " kernel.apparmor_restrict_unprivileged_userns)"
            )
        base = tempfile.gettempdir()
        self.directory = Path(
            tempfile.mkdtemp(
                prefix="vswitch-lab-", dir=base if len(base) <= LONGEST_BASE else "/tmp"
            )
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def host(self, name: str) -> Host:
        """Make a host with nothing but a loopback interface."""
        if name in self.hosts:
            raise ValueError(f"there is a host {name} already")
        first = next(iter(self.hosts.values()), None)
        host = start_host(
            name,
            self.directory / name,
            rootless=bool(self.rootless),
            join_user=first.pid if self.rootless and first is not None else None,
        )
        self.hosts[name] = host
        host.call(netlink.configure, "lo", up=True)
        return host

    def bridge(self, name: str) -> Host:
        """Make a host that is a network segment: others are linked to it."""
        host = self.host(name)
        host.call(netlink.create_bridge, BRIDGE)
        return host

    def link(
        self,
        host: Host,
        segment: Host,
        *,
        ifname: str = "eth0",
        address: str | None = None,
        mtu: int = 1500,
    ) -> str:
        """Plug the host into a segment as `ifname`; the name of the interface at the other end."""
        self._ports += 1
        port = f"port{self._ports}"
        segment.call(netlink.create_veth, port, ifname, peer_pid=host.pid)
        segment.call(netlink.configure, port, mtu=mtu, master=BRIDGE, up=True)
        host.call(netlink.configure, ifname, mtu=mtu, up=True)
        if address is not None:
            host.call(netlink.add_address, ifname, address)
        return port

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter a context, which is left when the lab ends, before its hosts do."""
        return self._closing.enter_context(context)

    def close(self) -> None:
        """End all hosts, the latest first; also those that are in the middle of a call."""
        try:
            self._closing.close()
            while self.hosts:
                _, host = self.hosts.popitem()
                host.close()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
