"""A network of this program's own: a user, a network and a mount namespace, made without privilege.

    async with open_sandbox(Settings()) as sandbox:
        await nursery.start(partial(join, config, open_interface=sandbox.open_interface))
        sock = await sandbox.socket(socket.AF_INET, socket.SOCK_STREAM)
        child = sandbox.start(["ping", "-c1", "10.77.0.2"])

The TAP is made inside and its descriptor passed out, and so is every socket: this process never
leaves the host's network, and the kernel's TCP of the namespace is what the sockets speak. Programs
inside have every capability over the namespace, and none over the host. The user stays who he is,
with these capabilities ambient, so that his files, his home and his name are what they were and
tools that need raw sockets have them; with `Settings.root` he is root, as with `unshare -r`, for
tools that look at the number.

/etc/resolv.conf and /etc/hosts are the sandbox's own files. What would answer for the host's
network is hidden: the sockets of D-Bus, avahi, nscd and systemd-resolved. It is no jail: programs
inside have the user's files and processes.

Invariants: what runs in the user namespace, or in one made inside, ends with `open_sandbox`, also
when this process is killed.

Error contract: `PrivilegeError` where namespaces are forbidden, with the setting that does it;
`VswitchError` where no temporary file can be made, and once the process that holds the namespaces
has been killed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import trio

from vswitch.devices import netlink
from vswitch.devices.host_interface import HostInterface
from vswitch.devices.open_tap import tap_device
from vswitch.devices.tap import TapConfig, attach
from vswitch.errors import PrivilegeError, VswitchError
from vswitch.namespaces import enter
from vswitch.namespaces.answers import WithDescriptors, kill_all_in
from vswitch.namespaces.holder import CannotStart, Holder, start_holder
from vswitch.runtime import single_error

T = TypeVar("T")

LOCALHOST: Final = "127.0.0.1 localhost\n::1 localhost\n"
# What answers for the host's network, and what a DHCP client wants to write.
HIDDEN: Final = (
    "/run/dbus",
    "/run/avahi-daemon",
    "/run/nscd",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/var/lib/dhcp",
)
TO_ALL: Final = ("255.255.255.255/32", "224.0.0.0/4")  # for programs that name no interface
SOCKETS: Final = 64  # that are passed out at once; the kernel takes 253 (SCM_MAX_FD)
LINGER: Final = 5.0  # seconds for TCP connections of ended programs: some repetitions
DATAGRAMS: Final = 0.05  # seconds from a TAP into the session
# States of /proc/net/tcp in which our end is not acknowledged yet (include/net/tcp_states.h):
# FIN_WAIT1, LAST_ACK, CLOSING.
UNACKNOWLEDGED: Final = ("04", "09", "0B")
SYSCTL: Final = Path("/proc/sys")
PING_GROUPS: Final = SYSCTL / "net/ipv4/ping_group_range"


@attrs.frozen
class Settings:
    """What a sandbox shall be."""

    root: bool = False  # the user is root inside, and not himself
    resolvers: Sequence[str] = ()  # addresses of name servers


@attrs.define(eq=False)
class _Made:
    """Sockets of one sort: how many are being waited for, and those that came with another's."""

    wanted: int = 0
    spare: list[socket.socket] = attrs.field(factory=list)
    lock: trio.Lock = attrs.field(factory=trio.Lock)


@attrs.define(eq=False)
class Sandbox:
    """Made by `open_sandbox`. Its calls are made one after the other."""

    settings: Settings
    _holder: Holder
    _directory: Path
    _calls: trio.Lock = attrs.field(factory=trio.Lock)
    _made: dict[tuple[int, int, int], _Made] = attrs.field(factory=dict)

    @property
    def enter(self) -> str:
        """The command that opens a shell in it."""
        return f"nsenter -t {self._holder.pid} -U --preserve-credentials -n -m"

    @property
    def directory(self) -> Path:
        """Private to the sandbox, and removed with it."""
        return self._directory

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call an importable function inside, on the network of the sandbox."""
        async with self._calls:
            return await trio.to_thread.run_sync(self._holder.call, function, *args)

    async def socket(self, family: int, kind: int, protocol: int = 0) -> trio.socket.SocketType:
        """A new socket of the sandbox's network; `OSError` as from `socket.socket`."""
        made = self._made.setdefault((family, kind, protocol), _Made())
        made.wanted += 1
        try:
            async with made.lock:
                if not made.spare:  # one call for all who wait: it costs more than the sockets
                    count = min(made.wanted, SOCKETS)
                    passed = await self.call(_sockets, family, kind, protocol, count)
                    made.spare += [socket.socket(fileno=fd) for fd in passed.fds]
                return trio.socket.from_stdlib_socket(made.spare.pop())
        finally:
            made.wanted -= 1

    def close(self) -> None:
        """Close what nobody has taken."""
        for made in self._made.values():
            while made.spare:
                made.spare.pop().close()

    @asynccontextmanager
    async def open_interface(self, config: TapConfig) -> AsyncIterator[HostInterface]:
        """For `join`, in place of `open_tap`: a TAP inside."""
        made = await self.call(_attach, config)
        attached = attrs.evolve(made.value, fd=made.fds[0])
        device = tap_device(attached, config, ask=self.call, private=True)
        try:
            yield device
        finally:
            device.close()

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a program inside, with the options of `Popen`. From the main thread only: the
        program is killed when its thread ends. One that cannot be run has the status 126 or 127.
        """
        command = enter.command(
            list(argv),
            join=self._holder.pid,
            ambient=not self.settings.root,
            parent=os.getpid(),
        )
        return subprocess.Popen(command, env=env, **options)

    async def linger(self) -> None:
        """Let the kernel deliver what ended programs have sent, as a host would: datagrams, and the
        rest of TCP connections, for `LINGER` seconds at most.
        """
        with trio.move_on_after(LINGER):
            while True:
                await trio.sleep(DATAGRAMS)
                if not await self.call(_undelivered):
                    break

    async def resolve_with(self, resolvers: Sequence[str], search: str = "") -> None:
        """These name servers from now on, names without a dot in the domain `search`; with none,
        names end at once with an error.
        """
        text = f"search {search}\n" * bool(search) + _lines(resolvers)
        await trio.to_thread.run_sync((self._directory / "resolv.conf").write_text, text)

    async def set_hosts(self, hosts: Mapping[str, str]) -> None:
        """Names that need no name server, and their addresses."""
        lines = "".join(f"{address} {name}\n" for name, address in hosts.items())
        await trio.to_thread.run_sync((self._directory / "hosts").write_text, LOCALHOST + lines)


@asynccontextmanager
async def open_sandbox(settings: Settings = Settings()) -> AsyncIterator[Sandbox]:
    """Make a sandbox with nothing but a loopback interface, and end all that is in it."""
    base = _base()
    user = ended = -1
    try:
        holder = await trio.to_thread.run_sync(_start, settings, base / "sandbox")
        sandbox = Sandbox(settings, holder, base / "sandbox")
        try:
            user = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            ended = os.pidfd_open(holder.pid)
            await sandbox.call(_prepare, 0 if settings.root else os.getegid())
            with single_error():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_watch, ended)
                    yield sandbox
                    nursery.cancel_scope.cancel()
        finally:
            sandbox.close()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(holder.close)
                if user >= 0:  # also where the holder was killed, and could not do it
                    await trio.to_thread.run_sync(kill_all_in, f"/proc/self/fd/{user}")
    finally:
        for fd in {user, ended} - {-1}:
            os.close(fd)
        shutil.rmtree(base, ignore_errors=True)


async def until_it_ends(child: subprocess.Popen[bytes]) -> int:
    """Wait for a child process; its exit status, 128 and the signal for one that was killed."""
    fd = os.pidfd_open(child.pid)
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)
    status = child.wait()
    return status if status >= 0 else 128 - status


async def _watch(ended: int) -> None:
    await trio.lowlevel.wait_readable(ended)
    raise VswitchError("the process that held the namespaces has ended: somebody killed it")


def _base() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="vswitch-exec-"))
    except OSError as error:
        raise VswitchError(f"no place for temporary files: {error}: see TMPDIR") from None


def _start(settings: Settings, directory: Path) -> Holder:
    files = {"resolv.conf": _lines(settings.resolvers), "hosts": LOCALHOST}
    try:
        directory.mkdir(mode=0o700)
        for name, content in files.items():
            (directory / name).write_text(content)
    except OSError as error:
        raise VswitchError(f"cannot write {directory}: {error.strerror}: see TMPDIR") from None
    try:
        return start_holder(
            "the sandbox",
            directory,
            new_user=True,
            ambient=not settings.root,
            binds={str(directory / name): f"/etc/{name}" for name in files},
            hidden=HIDDEN,
            kill=True,
        )
    except CannotStart as error:
        raise PrivilegeError(forbidden(str(error), _sysctl)) from error


def _sysctl(name: str) -> str | None:
    try:
        return (SYSCTL / name.replace(".", "/")).read_text().strip()
    except OSError:
        return None


def forbidden(reason: str, sysctl: Callable[[str], str | None]) -> str:
    """Which setting keeps users from having namespaces, and how to change it. Pure.

    `reason` is what the kernel said; `sysctl` gives the value of a setting, None where there is
    none of that name.
    """
    for name, bad, good, where in (
        ("kernel.unprivileged_userns_clone", "0", "1", "Debian"),
        ("user.max_user_namespaces", "0", "15000", "Red Hat and its kin"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0", "Ubuntu"),
    ):
        if sysctl(name) == bad:
            return (
                f"{reason}: this host lets no user have namespaces ({where}): as root, "
                f"`sysctl -w {name}={good}`, and put that into /etc/sysctl.d to keep it"
            )
    return (
        f"{reason}: user namespaces are forbidden here; a container needs them from its engine "
        "(`--security-opt seccomp=unconfined`, or a profile that lets unshare and mount pass)"
    )


def _lines(resolvers: Sequence[str]) -> str:
    return "".join(f"nameserver {address}\n" for address in resolvers)


# What runs inside.


def _prepare(gid: int) -> None:
    netlink.configure("lo", up=True)
    # For programs that drop their capabilities. In a container it may be read-only.
    with suppress(OSError):
        PING_GROUPS.write_text(f"{gid} {gid}")


def _undelivered() -> bool:
    """Whether a TCP connection that was closed has something that the other end does not."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/self/net", table).read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        if any(line.split()[3] in UNACKNOWLEDGED for line in lines):
            return True
    return False


def _attach(config: TapConfig) -> WithDescriptors:
    attached = attach(config)
    for network in TO_ALL:
        netlink.add_route(config.name, network)
    return WithDescriptors(attached, (attached.fd,))


def _sockets(family: int, kind: int, protocol: int, count: int) -> WithDescriptors:
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            made.append(socket.socket(family, kind, protocol))
    except OSError:
        if not made:
            raise
    return WithDescriptors(None, tuple(each.detach() for each in made))
