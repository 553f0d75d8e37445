"""The ways to have this host ask a name server for one domain, and for nothing else.

 resolved     systemd-resolved, by `resolvectl`: server and domain of one link
 resolvconf   openresolv with a name server on this host, by `resolvconf -p`: the same
 hosts        a marked block in /etc/hosts, kept current: what every other host has

A resolver of the C library alone sends all names to all servers, so there a server is never set.
Each way undoes what it has done, also what a process that was killed has left. While the servers
cannot be asked, whoever asks is told so at once, and no other server is asked instead.

Error contract: `VswitchError` where something cannot be set; nothing has changed then.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

from vswitch.addresses import NEVER_BARE
from vswitch.devices.questions import allow_questions, refuse_questions
from vswitch.errors import VswitchError
from vswitch.state import directory_lock

COMMAND_TIMEOUT: Final = 10.0  # seconds for one command of the resolver's
NOBODY: Final = "127.0.0.1:1"  # a name server that refuses at once: nothing listens there
STUBS: Final = ("127.0.0.53", "127.0.0.54")  # where systemd-resolved answers

_FIXED: Final = (errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM)


@frozen
class Place:
    """The files that say how this host resolves names."""

    etc: Path = Path("/etc")
    run: Path = Path("/run")

    @property
    def hosts(self) -> Path:
        """Names and addresses."""
        return self.etc / "hosts"

    def text(self, name: str) -> str:
        """What a file of `etc` says; nothing where there is none."""
        try:
            return (self.etc / name).read_text(errors="replace")
        except OSError:
            return ""


@frozen
class Wanted:
    """What is to be set."""

    dev: str
    servers: Sequence[str]
    domain: str
    bare: bool  # names without a dot are looked for in the domain, too
    reverse: Sequence[str] = ()  # the domains of the LAN's addresses


class Way(Protocol):
    """One of them. Blocking."""

    @property
    def name(self) -> str: ...

    def set(self, wanted: Wanted) -> None:
        """Do it."""

    def taken_by(self, wanted: Wanted) -> str | None:
        """The other link of this host that has the domain: both its servers would be asked."""

    def answers(self, wanted: Wanted, there: bool) -> None:
        """Whether the servers of what is set can be asked now."""

    def undo(self, dev: str, servers: Sequence[str] = ()) -> None:
        """As it was; whether or not it was done."""


def search_domains(resolv_conf: str) -> tuple[str, ...]:
    """In which the host looks for names without a dot: of the last line that says so (resolv.conf
    of the C library).
    """
    found: tuple[str, ...] = ()
    for line in resolv_conf.splitlines():
        word, *rest = line.split() or [""]
        if word in ("search", "domain"):
            found = tuple(each.lower().rstrip(".") for each in rest if each != ".")
    return found


def name_servers(resolv_conf: str) -> tuple[str, ...]:
    """Those of a resolv.conf."""
    lines = (line.split() for line in resolv_conf.splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


def uses_resolved(resolv_conf: str, nsswitch: str) -> bool:
    """Whether names of this host are looked up by systemd-resolved."""
    if any(server in STUBS for server in name_servers(resolv_conf)):
        return True
    lines = (line.partition("#")[0].split() for line in nsswitch.splitlines())
    return any(words and words[0] == "hosts:" and "resolve" in words for words in lines)


def choose_way(place: Place, mark: str) -> Way:
    """The way of this host; `mark` tells our block in /etc/hosts from others."""
    resolv_conf = place.text("resolv.conf")
    if (
        uses_resolved(resolv_conf, place.text("nsswitch.conf"))
        and (place.run / "systemd/resolve").is_dir()
        and shutil.which("resolvectl")
    ):
        return Resolved()
    local = any(server.startswith("127.") for server in name_servers(resolv_conf))
    if local and shutil.which("resolvconf") and "openresolv" in _said("resolvconf", "--version"):
        return Openresolv()
    return HostsFile(place.hosts, mark)


def way_of(name: str, place: Place, mark: str) -> Way:
    """The way of that name, to undo it."""
    ways: dict[str, Way] = {"resolved": Resolved(), "resolvconf": Openresolv()}
    return ways.get(name, HostsFile(place.hosts, mark))


class Resolved:
    """systemd-resolved. In an order in which the server is never asked for more than the domain."""

    name = "resolved"

    def set(self, wanted: Wanted) -> None:
        domains = [wanted.domain if wanted.bare else f"~{wanted.domain}"]
        domains += [f"~{each}" for each in wanted.reverse]
        try:
            for verb, *values in (
                ("default-route", "no"),
                ("dnssec", "no"),  # nobody signs the names of a LAN
                ("dnsovertls", "no"),
                ("domain", *domains),
                ("dns", *wanted.servers),
            ):
                _run("resolvectl", verb, wanted.dev, *values)
        except VswitchError:
            self.undo(wanted.dev)
            raise

    def taken_by(self, wanted: Wanted) -> str | None:
        said = _said("resolvectl", "domain")
        for dev, domains in re.findall(r"^ *Link \d+ \((\S+)\): *(.*)$", said, re.M):
            if dev != wanted.dev and _is_among(wanted.domain, domains):
                return str(dev)
        return None

    def answers(self, wanted: Wanted, there: bool) -> None:
        # It sends from the interface, whatever the rules of the kernel say.
        _run("resolvectl", "dns", wanted.dev, *(wanted.servers if there else (NOBODY,)))

    def undo(self, dev: str, servers: Sequence[str] = ()) -> None:
        with suppress(VswitchError):  # the interface may be gone, and all of this with it
            _run("resolvectl", "revert", dev)


class Openresolv:
    """openresolv: private means that the servers are asked for their domains alone."""

    name = "resolvconf"

    def set(self, wanted: Wanted) -> None:
        lines = [f"search {wanted.domain}" if wanted.bare else f"domain {wanted.domain}"]
        lines += [f"nameserver {each}" for each in wanted.servers]
        _run("resolvconf", "-p", "-a", f"{wanted.dev}.vswitch", text="\n".join(lines) + "\n")

    def taken_by(self, wanted: Wanted) -> str | None:
        _, *others = re.split(r"^# resolv.conf from (\S+)$", _said("resolvconf", "-l"), flags=re.M)
        for name, text in zip(others[::2], others[1::2], strict=True):
            domains = " ".join(re.findall(r"^(?:search|domain) (.*)$", text, re.M))
            if name != f"{wanted.dev}.vswitch" and _is_among(wanted.domain, domains):
                return str(name.removesuffix(".vswitch"))
        return None

    def answers(self, wanted: Wanted, there: bool) -> None:
        (allow_questions if there else refuse_questions)(wanted.servers)

    def undo(self, dev: str, servers: Sequence[str] = ()) -> None:
        with suppress(VswitchError):
            _run("resolvconf", "-f", "-d", f"{dev}.vswitch")
        if servers:
            allow_questions(servers)


class HostsFile:
    """A block of /etc/hosts. What else is in the file stays to the byte."""

    name = "hosts"

    def __init__(self, path: Path, mark: str) -> None:
        self._path = path
        self._mark = mark

    def set(self, wanted: Wanted) -> None:
        """Nothing yet: `put` has the names."""

    def put(self, wanted: Wanted, addresses: Mapping[str, str], own_name: str) -> None:
        """Have these names, of hosts below the domain, in the block. A domain of another LAN that
        this host is in is refused, since its names would be here, too.
        """
        try:
            with directory_lock(self._path.parent):
                text = self._read()
                rest = without_block(text, self._mark)
                _check_free(rest, wanted.domain)
                block = block_of(self._mark, wanted, addresses, taken_names(rest) | {own_name})
                if rest + block != text:
                    self._write(rest + block)
        except OSError as error:
            raise VswitchError(f"{self._path}: {error.strerror}") from None

    def taken_by(self, wanted: Wanted) -> str | None:
        return None  # `put` looks at that in the file itself

    def answers(self, wanted: Wanted, there: bool) -> None:
        """What is known holds."""

    def undo(self, dev: str, servers: Sequence[str] = ()) -> None:
        try:
            with directory_lock(self._path.parent):
                text = self._read()
                rest = without_block(text, self._mark)
                if rest != text:
                    self._write(rest)
        except FileNotFoundError:
            return
        except OSError as error:
            raise VswitchError(f"{self._path}: {error.strerror}") from None

    def _read(self) -> str:
        return self._path.read_bytes().decode(errors="surrogateescape")

    def _write(self, text: str) -> None:
        """Whole or not at all; in place where it is mounted, and cannot be replaced."""
        data, status = text.encode(errors="surrogateescape"), self._path.stat()
        path = Path(os.path.realpath(self._path))
        temporary = None
        try:
            fd, temporary = tempfile.mkstemp(prefix=".hosts.", dir=path.parent)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, stat.S_IMODE(status.st_mode))
                os.fchown(fd, status.st_uid, status.st_gid)
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, path)
            temporary = None
        except OSError as error:
            if error.errno not in _FIXED:
                raise
            with open(path, "r+b") as file:
                file.write(data)
                file.truncate()
        finally:
            if temporary is not None:
                os.unlink(temporary)


def block_of(
    mark: str, wanted: Wanted, addresses: Mapping[str, str], taken: frozenset[str] | set[str]
) -> str:
    """The block, which begins with the end of the line before it, whether that has one or not."""
    lines = []
    for name, address in sorted(addresses.items()):
        bare = f" {name}" if wanted.bare and name not in taken | NEVER_BARE else ""
        lines.append(f"{address} {name}.{wanted.domain}{bare}\n")
    of = f"{wanted.dev} for {wanted.domain}"
    begin = f"\n# vswitch {mark} begin: {of}, kept by vswitch join, gone with it\n"
    return f"{begin}{''.join(lines)}# vswitch {mark} end\n"


def _check_free(hosts: str, domain: str) -> None:
    """Raise `VswitchError` where the block of another member has names of this domain."""
    for member, dev, taken in re.findall(r"\n# vswitch (\S+) begin: (\S+) for (\S+),", hosts):
        if taken == domain:
            raise VswitchError(
                f"{domain} is already that of the LAN at {dev}, of the member {member} of this "
                "host, so these names are not set: give one of the networks another domain "
                "([names] domain)"
            )


def without_block(text: str, mark: str) -> str:
    """The file as it is without ours."""
    begin, end = (
        rf"\n# vswitch {re.escape(mark)} begin[^\n]*\n",
        f"# vswitch {re.escape(mark)} end\n",
    )
    return re.sub(rf"{begin}(?:[^#\n][^\n]*\n)*{end}", "", text)


def taken_names(hosts: str) -> set[str]:
    """All names that a hosts file has."""
    lines = (line.partition("#")[0].split() for line in hosts.splitlines())
    return {name.lower() for words in lines for name in words[1:]}


def _is_among(domain: str, domains: str) -> bool:
    """Of a list of a resolver, which marks those that are not searched."""
    return domain in (each.lower().lstrip("~").rstrip(".") for each in domains.split())


def _run(*argv: str, text: str = "") -> None:
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VswitchError(f"{' '.join(argv)}: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise VswitchError(f"{' '.join(argv)}: {said or f'exit status {done.returncode}'}")


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
