"""The state directory: where its files are, and how one of them is written.

Invariants: the directory is mode 0700 when this program makes it, its files are 0600. One that
somebody else owns or may write to is not used: whoever can change it could put any member or key
there. Root alone may `join` in the directory of a service's user, and what it makes there is that
user's. A file is replaced whole or not at all, also across a crash or a full disk.

Error contract: `VswitchError` with the path, the reason of the operating system and what to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import field, frozen

from vswitch.errors import ConfigError, NotFound, PrivilegeError, VswitchError

DEFAULT_NETWORK = "default"  # of a switch: the one whose files are in the directory itself

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_NETWORKS = "networks"  # the directory of those that are not the default one


def default_state_dir(environ: Mapping[str, str], uid: int) -> Path:
    """`/var/lib/vswitch` for root, else `vswitch` under the XDG state directory of the user."""
    if uid == 0:
        return Path("/var/lib/vswitch")
    # The XDG base directory specification says to ignore a relative path.
    base = environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "vswitch"
    return Path(environ.get("HOME") or os.path.expanduser("~")) / ".local" / "state" / "vswitch"


def spare_socket(path: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where the socket is that its own directory cannot take, read-only or full; None for nowhere.

    That is below /run for root, else below XDG_RUNTIME_DIR, which lie in memory.
    """
    base = "/run" if os.geteuid() == 0 else environ.get("XDG_RUNTIME_DIR", "")
    if not base.startswith("/"):
        return None
    directory = os.fsencode(path.parent.resolve())
    digest = hashlib.blake2b(directory, digest_size=8).hexdigest()
    return Path(base) / "vswitch" / digest / path.name


@frozen
class StateDir:
    """Paths below one state directory. Making the object touches nothing."""

    path: Path = field(converter=Path)

    @property
    def server_key(self) -> Path:
        """Private key of the switch."""
        return self.path / "server.key"

    @property
    def old_server_key(self) -> Path:
        """The one before, while members may still come by that."""
        return self.path / "server.key.old"

    @property
    def restored(self) -> Path:
        """Directory of what a restore has written whole, and not put in its place yet."""
        return self.path / "restored"

    @property
    def saved(self) -> Path:
        """Changes of the configuration that were made live and are kept."""
        return self.path / "saved.toml"

    @property
    def registry(self) -> Path:
        """Members and invites of the switch."""
        return self.path / "registry.sqlite"

    @property
    def control_socket(self) -> Path:
        """Control socket of a running switch."""
        return self.path / "control.sock"

    @property
    def tokens(self) -> Path:
        """Tokens of the API, hashed."""
        return self.path / "tokens.json"

    @property
    def members(self) -> Path:
        """Directory of the memberships that this host has."""
        return self.path / "members"

    def profile(self, name: str) -> Path:
        """Profile of the membership `name`."""
        return self.members / f"{name}.toml"

    def key(self, name: str) -> Path:
        """Private key of the membership `name`."""
        return self.members / f"{name}.key"

    def names_undo(self, name: str) -> Path:
        """What a join of that name has done to the resolver of this host."""
        return self.members / f"{name}.names"

    def mac(self, name: str) -> Path:
        """MAC address of this host where it has no key: with `join --via`, under that name."""
        return self.members / f"{name}.mac"

    def join_socket(self, name: str) -> Path:
        """Control socket of a running join of that name."""
        return self.members / f"{name}.sock"

    def undo(self, name: str, subject: str) -> Path:
        """What a running join of that name has changed of this host, for who finds it killed."""
        return self.members / f"{name}.{subject}.undo"

    def join_sockets(self) -> list[Path]:
        """Those of all joins that may be running, sorted; see `spare_socket`, too."""
        spare = spare_socket(self.join_socket("x"))
        elsewhere = () if spare is None else spare.parent.glob("*.sock")
        found = {*self.members.glob("*.sock"), *(self.members / each.name for each in elsewhere)}
        return sorted(found)

    def network(self, name: str) -> StateDir:
        """The directory with registry and control socket of a network of the switch."""
        return self if name == DEFAULT_NETWORK else StateDir(self.path / _NETWORKS / name)

    def networks(self) -> list[str]:
        """The networks that are there, the default one first, others sorted."""
        found = (self.path / _NETWORKS).glob("*/registry.sqlite")
        return [DEFAULT_NETWORK, *sorted(each.parent.name for each in found)]

    def ensure_network(self, name: str) -> None:
        """Make the directory of that network where it is missing; raises as `ensure`."""
        if name != DEFAULT_NETWORK:
            self._make(self.path / _NETWORKS, self.network(name).path)

    def ensure(self, *, as_guest: bool = False) -> None:
        """Make the directory and its `members`, 0700, where they are missing; `ConfigError` where
        others could change them. Root `as_guest` may use those of another user.
        """
        self._make(self.path, self.members, as_guest=as_guest)

    def _make(self, *directories: Path, as_guest: bool = False) -> None:
        for directory in directories:
            try:
                directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
                host = owners_beside(self.path) if as_guest else ()
                check_owned("state directory", directory, directory.stat(), *host)
            except OSError as error:
                raise file_error("state directory", directory, error) from None


def owners_beside(directory: Path) -> tuple[int, ...]:
    """Whose files there are as good as root's own to root; nobody's to other users."""
    return (directory.stat().st_uid,) if os.geteuid() == 0 else ()


def hand_over(fd: int, directory: Path) -> None:
    """A file that root makes is of the user whose directory it is in."""
    if os.geteuid() == 0 and (owner := directory.stat()).st_uid != 0:
        os.fchown(fd, owner.st_uid, owner.st_gid)


def check_owned(what: str, path: Path, status: os.stat_result, *others: int) -> None:
    """`ConfigError` unless this user or root, or one of `others`, owns it and nobody else may
    write to it.
    """
    if status.st_uid not in (0, os.geteuid(), *others):
        raise ConfigError(
            f"{what} {path} belongs to another user (uid {status.st_uid}): run as that user, or "
            "choose a directory with --state"
        )
    if status.st_mode & 0o022:
        raise ConfigError(
            f"{what} {path} can be changed by other users (mode {status.st_mode & 0o7777:04o}): "
            f"chmod go-w {path}"
        )


def file_error(what: str, path: Path, error: OSError) -> VswitchError:
    """The error to raise for an `OSError` on a path of ours."""
    text = f"{what} {path}: {error.strerror or error}"
    if isinstance(error, PermissionError):
        return PrivilegeError(
            f"{text}; run as the user who owns it, or choose a directory with --state"
        )
    return VswitchError(text)


@contextlib.contextmanager
def directory_lock(path: Path) -> Iterator[None]:
    """Keep other programs of ours out of a short critical section on files of this directory.

    The lock is on the directory itself, so it leaves no file behind and ends with the process.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"there is no directory {path}: is --state right?") from None
    except OSError as error:
        raise file_error("state directory", path, error) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_file(path: Path, data: bytes) -> None:
    """Replace the file whole, mode 0600, and return when it is on the disk.

    Raises:
        VswitchError: it could not be written; what was there before is still there.
    """
    temporary = None
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, _FILE_MODE)
            hand_over(fd, path.parent)
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, path)
        temporary = None
        sync_directory(path.parent)
    except OSError as error:
        raise file_error("cannot write", path, error) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def remove_left(path: Path) -> None:
    """Remove what a `write_file` of that path has left which was killed; raises `OSError`."""
    for each in path.parent.glob(f".{path.name}.????????"):
        each.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Return when names that were made or removed there are so on the disk; raises `OSError`."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
