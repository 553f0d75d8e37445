"""Enter or make namespaces, then become another program. A script of its own, and a library.

    python -I -S enter.py [--join PID] [--join-user PID] [--new-user] [--new] [--ambient]
                          [--bind SOURCE=TARGET] [--hide PATH] [--parent PID] -- ARGV...

It runs before the program that it becomes and shares no process with the caller, so nothing is
forked from a process with threads, and a user namespace can be made or entered, which the kernel
allows to processes without threads only. Python 3.11 has no `os.setns` and no `os.unshare`.

Invariants: imports the standard library alone; the program dies with the thread that started it
(`--parent`). Errors: one line on stderr and exit status 126, 127 if there is no such program.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
# linux/mount.h
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2
# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h: sets of 64 bits, in two halves
ALL_CAPABILITIES = 2**64 - 1

CANNOT_ENTER = CANNOT_RUN = 126
NO_PROGRAM = 127


def command(
    argv: list[str],
    *,
    join: int | None = None,
    join_user: int | None = None,
    new_user: bool = False,
    new: bool = False,
    ambient: bool = False,
    binds: dict[str, str] | None = None,
    hidden: Iterable[str] = (),
    parent: int | None = None,
) -> list[str]:
    """The command line that runs `argv` in the namespaces of process `join`, or in new ones.

    `join_user` names a process whose user namespace is entered, `new_user` makes one in which
    the caller is root, `new` makes a network and a mount namespace, in which `binds` puts files
    over others and `hidden` names what is empty. With `ambient` the caller stays who he is, and
    the program and all that it starts have every capability over the namespaces. With `parent`,
    the caller's process id, the program is killed when it dies.
    """
    options: list[str] = []
    for flag, value in (("--join", join), ("--join-user", join_user), ("--parent", parent)):
        if value is not None:
            options += [flag, str(value)]
    options += ["--new-user"] * new_user + ["--new"] * new + ["--ambient"] * ambient
    for source, target in (binds or {}).items():
        options += ["--bind", f"{source}={target}"]
    for path in hidden:
        options += ["--hide", path]
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), *options, "--", *argv]


def call(name: str, *arguments: object) -> None:
    """A function of the C library that returns 0; `OSError` where it does not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)


def _join(pid: int, kinds: tuple[str, ...]) -> None:
    """Enter the namespaces of a process; those that are ours already are left alone."""
    wanted = [
        os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        for kind in kinds
        if os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    ]
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        raise FileNotFoundError("the directory that this was started in is gone") from None
    for fd in wanted:
        call("setns", fd, 0)
        os.close(fd)
    os.chdir(directory)  # a mount namespace is entered at its root


def _make_user_namespace(*, ambient: bool) -> None:
    """One in which the caller is root; with `ambient`, himself."""
    uid, gid = os.geteuid(), os.getegid()
    inside = (uid, gid) if ambient else (0, 0)
    call("unshare", CLONE_NEWUSER)
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside[0]} {uid} 1"),
        ("gid_map", f"{inside[1]} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)


def keep_capabilities(wanted: int = ALL_CAPABILITIES) -> None:
    """Of what this process may, keep the `wanted` (bits by number, linux/capability.h) and nothing
    else, in effect, and for programs that it becomes or starts as well: a user other than root
    loses what is not ambient with the next program.
    """
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    halves = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
    call("capget", header, halves)
    kept = (halves[1] | halves[4] << 32) & wanted
    low, high = kept & 0xFFFFFFFF, kept >> 32
    call("capset", header, (ctypes.c_uint32 * 6)(low, low, low, high, high, high))
    for number in range(kept.bit_length()):
        if kept >> number & 1:
            capability = ctypes.c_ulong(number)
            raised = ctypes.c_ulong(PR_CAP_AMBIENT_RAISE)
            call("prctl", PR_CAP_AMBIENT, raised, capability, ctypes.c_ulong(0), ctypes.c_ulong(0))


def _make_namespaces(binds: list[str], hidden: list[str]) -> None:
    call("unshare", CLONE_NEWNET | CLONE_NEWNS)
    _mount("none", "/", "none", MS_REC | MS_PRIVATE)
    # /sys/class/net shows the namespace that it was mounted from. Containers may keep it locked:
    # then that is wrong, and nothing here depends on it.
    with suppress(OSError):
        call("umount2", b"/sys", MNT_DETACH)  # not for users, who mount another over it
    with suppress(OSError):
        _mount("sysfs", "/sys", "sysfs", 0)
    for bind in binds:
        source, _, target = bind.rpartition("=")  # the one that we choose has none in it
        if os.path.exists(target):
            _mount(source, target, "none", MS_BIND)
    for path in hidden:
        if os.path.isdir(path):
            _mount("none", path, "tmpfs", 0)
        elif os.path.exists(path):
            _mount(os.devnull, path, "none", MS_BIND)


def _die_with(parent: int) -> None:
    call("prctl", PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        raise ProcessLookupError("the parent is gone already")


def _restore_signals() -> None:
    """Those that Python sets for itself are the program's again, as the caller has left them."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="enter", allow_abbrev=False)
    parser.add_argument("--join", type=int)
    parser.add_argument("--join-user", type=int)
    parser.add_argument("--new-user", action="store_true")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--ambient", action="store_true")
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--hide", action="append", default=[])
    parser.add_argument("--parent", type=int)
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.join is not None:
            _join(options.join, ("user", "net", "mnt"))
        if options.join_user is not None:
            _join(options.join_user, ("user",))
        if options.new_user:
            _make_user_namespace(ambient=options.ambient)
        if options.new:
            _make_namespaces(options.bind, options.hide)
        if options.ambient:
            keep_capabilities()
        if options.parent is not None:
            _die_with(options.parent)
    except OSError as error:
        print(f"cannot enter namespaces: {error.strerror or error}", file=sys.stderr)
        return CANNOT_ENTER
    try:
        if not options.argv[0]:  # of which Python makes another error
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        os.execvp(options.argv[0], options.argv)
    except OSError as error:
        print(f"cannot run {options.argv[0]}: {error.strerror}", file=sys.stderr)
        return NO_PROGRAM if isinstance(error, FileNotFoundError) else CANNOT_RUN


if __name__ == "__main__":
    _restore_signals()
    sys.exit(main(sys.argv[1:]))
