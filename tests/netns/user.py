"""An ordinary user on a lab host, without a capability, and never with a new one.

The interpreter and this repository may be in a directory that only root can search, and the node of
the TUN driver may be root's alone: on that host, in its mount namespace, others are put over them.
"""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.netns.tools import Lan
from vswitch.lab import Lab
from vswitch.namespaces.holder import PACKAGES

# One of his own for each run of tests, so that his processes are found: a user like uid 1000.
UID = 1000 + os.getpid() % 60_000
HOME = Path("/mnt/user")
TUN = Path("/dev/net/tun")


def settle(uid):
    """Runs in the host, as root of it and of the machine."""
    os.chdir("/")
    for closed, paths in _closed_to_others().items():
        held = [(path, os.open(path, os.O_PATH)) for path in paths]
        _mount("-t", "tmpfs", "-o", "mode=755", "none", str(closed))
        for path, fd in held:
            path.mkdir(parents=True)
            _mount("-c", "--bind", f"/proc/self/fd/{fd}", str(path), pass_fds=[fd])
            os.close(fd)
    _mount("-t", "tmpfs", "-o", "mode=755", "none", str(HOME.parent))
    HOME.mkdir()
    os.chown(HOME, uid, uid)
    if TUN.stat().st_mode & 0o006 != 0o006:
        node = HOME.parent / "tun"
        os.mknod(node, 0o020666, TUN.stat().st_rdev)
        node.chmod(0o666)
        _mount("--bind", str(node), str(TUN))


def _closed_to_others():
    """Directories that others may not search, and what of them they need, whole."""
    closed = {}
    for path in map(Path, (sys.base_prefix, sys.prefix, PACKAGES)):
        steps = [*reversed(path.parents), path]
        for parent, child in pairwise(steps):
            if not parent.stat().st_mode & 0o001:
                closed.setdefault(parent, set()).add(child)
                break
    return closed


def _mount(*arguments, **options):
    subprocess.run(["mount", *arguments], check=True, **options)


def lan_for_users():
    """The fixture of a LAN with the member pc1, to which users of other hosts come."""
    with Lab() as lab:
        lan = Lan(lab)
        if lab.rootless:
            pytest.skip("needs root to become another user")
        lan.serve()
        lan.join("pc1")
        lan.wait_connected("pc1")
        yield lan
        lan.stop()


class User:
    """The user of a host that has settled, with a state directory of his own."""

    def __init__(self, lan, host):
        if lan.lab.rootless:
            raise PermissionError("another user than root needs root to become")
        self.lan, self.host = lan, host
        host.call(settle, UID)

    def argv(self, *arguments):
        return [
            *("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"),
            *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
            *(sys.executable, "-m", "vswitch", *arguments),
        ]

    def exec(self, name, *program, options=(), invite=None, **more):
        """Run a program by `vswitch exec` to its end, as a new member with an invite if given."""
        strings = () if invite is None else (invite,)
        argv = self.argv("exec", *strings, "--name", name, *options, "--", *program)
        return self.host.run(argv, env={"HOME": str(HOME)}, **{"check": False, **more})

    def start(self, name, *program, options=(), invite=None, **more):
        """The same, without waiting."""
        strings = () if invite is None else (invite,)
        argv = self.argv("exec", *strings, "--name", name, *options, "--", *program)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **more}
        return self.host.popen(argv, env={"HOME": str(HOME)}, **options)
