"""Root becomes an ordinary user that keeps what a switch or a member needs: `--user`.

    become("nobody", {Capability.NET_ADMIN}, StateDir(Path("/var/lib/vswitch")))

It is the first thing that a program does, before a file, a socket or an interface of ours is
opened. So nothing is ever done as root but this; what the user may not read or open is said at the
start and not by a reload a week later; and there is one thread, which matters, since capabilities
are a thread's own: those that begin later have what it has.

The capabilities are ambient as well (capabilities(7)), so that programs which are run later (nft,
resolvectl) have them, too. With no_new_privs nothing that is run ever gets more.

Errors: `ConfigError` for files of another user, with the command that mends it; `PrivilegeError`.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from transport.platform import LINUX
from vswitch.errors import ConfigError, PrivilegeError
from vswitch.namespaces.enter import call, keep_capabilities
from vswitch.state import StateDir, file_error

if TYPE_CHECKING:
    import pwd

# linux/prctl.h
_SET_KEEPCAPS: Final = 8
_SET_NO_NEW_PRIVS: Final = 38

_OF_ROOT: Final = ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")


class Capability(IntEnum):
    """Those that may be needed, by their number (linux/capability.h)."""

    NET_BIND_SERVICE = 10  # ports below 1024
    NET_ADMIN = 12  # interfaces, addresses, routes, nftables, settings in /proc/sys/net


def become(user: str, capabilities: Iterable[Capability], files: StateDir) -> bool:
    """Be `user` from now on, with these capabilities as far as this process has them.

    Makes the state directory for the user where there is none. Does nothing, and returns False,
    where this process is that user already: then a service manager has seen to it.
    """
    if not LINUX:
        raise ConfigError("--user needs Linux: elsewhere start it as that user")
    import pwd  # not at the top: other systems may have none

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"--user {user}: this host has no user of that name") from None
    if entry.pw_uid == 0:
        raise ConfigError(f"--user {user}: that is root, who may everything: name another user")
    if os.geteuid() == entry.pw_uid:
        return False
    if os.geteuid() != 0:
        raise PrivilegeError(f"to become the user {user} takes root: leave --user out, or use sudo")
    _prepare(files.path, entry)
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        raise RuntimeError(f"{threads} threads: some would keep the rights of root")
    try:
        call("prctl", _SET_KEEPCAPS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        keep_capabilities(sum(1 << each for each in set(capabilities)))
        call("prctl", _SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    except OSError as error:
        raise PrivilegeError(f"cannot become the user {user}: {error.strerror}") from error
    for name in _OF_ROOT:
        os.environ.pop(name, None)
    os.environ |= {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user}
    for path in (sys.executable, __file__):  # which is imported from, and started again, later
        if not os.access(path, os.R_OK):
            raise PrivilegeError(
                f"{path} cannot be read by the user {user}: install vswitch, and the Python that "
                "runs it, where every user may read, such as /opt/vswitch"
            )
    return True


def _prepare(directory: Path, entry: pwd.struct_passwd) -> None:
    """All in the state directory has to be of that user, who could not change it otherwise."""
    try:
        directory = Path(os.path.realpath(directory))  # it may be a link to another file system
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            # Whoever may write beside it could have put a link in its place.
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                os.fchown(fd, entry.pw_uid, entry.pw_gid)
            finally:
                os.close(fd)
        for path in (directory, *directory.rglob("*")):
            try:
                status = path.lstat()
            except FileNotFoundError:  # another program of ours is at work here
                continue
            uid = status.st_uid
            # A socket may be that of a join which is root; it is replaced, and never changed.
            if uid != entry.pw_uid and not stat.S_ISSOCK(status.st_mode):
                raise ConfigError(
                    f"{path} belongs to another user (uid {uid}), and {entry.pw_name} could not "
                    f"change it: give him all of it (`chown -R {entry.pw_name}: {directory}`), or "
                    "choose another directory with --state"
                )
    except OSError as error:
        raise file_error("state directory", directory, error) from None
