"""A real systemd as process 1 of a small system that is made of this host's programs.

    with booted(tmp_path) as system:
        system.run("systemctl start vswitch-serve")

The system is a tmpfs with this host's /usr, read-only, and an /etc, /var and /opt of its own, so
that nothing of this host is changed, and of its services none is started: of the units that come
with systemd it has those in UNITS. `/opt/vswitch` is an environment with what a wheel would
install. `packaging/root boot` makes the namespaces, in which nobody sees the host's processes,
interfaces, mounts or control groups.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from vswitch.lab import wait_until
from vswitch.namespaces.holder import PACKAGES

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = (
    *("basic.target", "local-fs.target", "multi-user.target", "network-online.target"),
    *("paths.target", "shutdown.target", "slices.target", "sockets.target", "swap.target"),
    *("sysinit.target", "timers.target", "umount.target"),
    *("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"),
)
FOLDERS = (
    *("dev", "etc/systemd/system", "mnt", "proc", "root", "run", "sys", "tmp"),
    *("var/log", "var/tmp"),
)
MOVED = Path("/opt/python")  # where a Python that is not below /usr is: services see no homes
PREFIX = Path("/opt/vswitch")
SOURCE = Path("/opt/source")
LIBRARIES = Path("/etc/ld.so.conf.d")
USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
GROUPS = "root:x:0:\nnogroup:x:65534:\n"
SCRIPT = f"""#!{PREFIX}/bin/python
import sys
sys.path.insert(0, "{SOURCE}")
from vswitch.cli import main
sys.exit(main())
"""
# DIR, then pairs of what is bound where in it.
PREPARED = """
    dir=$1 boot=$2
    shift 2
    mount -t tmpfs -o mode=755 tmpfs "$dir"
    cp -a "$dir.files/." "$dir"
    while [ "$#" -gt 0 ]; do
        mkdir -p "$dir$2"
        mount --rbind "$1" "$dir$2"
        mount -o remount,bind,ro "$dir$2"
        shift 2
    done
    exec "$boot" boot "$dir" bash
"""
MARK = "--- ended with "
TIMEOUT = 60  # seconds for one command, or to be up


def skip_without():
    """Skip where this host cannot have a systemd of its own at all."""
    if os.geteuid() != 0:
        pytest.skip("needs root to have a systemd of its own")
    mount = ["mount", "-t", "cgroup2", "cgroup2", "/mnt"]
    done = subprocess.run(
        ["unshare", "--mount", "--cgroup", *mount], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"needs control groups (v2) that root may mount: {done.stderr.strip()}")


class Booted:
    """The running system: a shell in it that does one command after the other."""

    def __init__(self, process):
        self.process = process

    def run(self, command, *, code=0):
        """What a command has said, on both streams; it has to end with that code."""
        bounded = f"timeout {TIMEOUT} bash -c {shlex.quote(command)} </dev/null 2>&1"
        self.process.stdin.write(f'{bounded}; echo "{MARK}$?"\n')
        self.process.stdin.flush()
        said = ""
        for line in self.process.stdout:
            before, found, ended = line.partition(MARK)
            said += before
            if found:
                if int(ended) != code:
                    raise AssertionError(f"{command}: ended with {int(ended)}:\n{said}")
                return said.strip()
        raise AssertionError(f"the system has ended:\n{said}")

    def shown(self, unit, *properties):
        """Properties of a unit, as `systemctl show` has them."""
        asked = " ".join(f"-p {each}" for each in properties)
        lines = self.run(f"systemctl show {asked} {unit}").splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return [found[each] for each in properties]

    def journal(self, *words):
        """What the journal has, of this manager as well."""
        return self.run(f"journalctl --sync; journalctl -q --no-pager -o cat {' '.join(words)}")

    def until(self, question, what):
        return wait_until(question, what, timeout=TIMEOUT)


@contextlib.contextmanager
def booted(directory):
    """The system, for as long as the context lasts; `directory` is an empty one."""
    skip_without()
    root = directory / "root"
    root.mkdir()
    binds = write_files(directory / "root.files")
    argv = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--propagation", "private", "bash", "-euc", PREPARED, "prepare"),
        *(str(root), str(PACKAGES / "packaging/root")),
        *(str(each) for pair in binds for each in pair),
    ]
    with (directory / "log").open("w+") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        with process:
            try:
                system = Booted(process)
                try:
                    system.run("ldconfig")  # the libraries of a Python that has moved
                except (AssertionError, BrokenPipeError):
                    log.seek(0)
                    raise AssertionError(f"systemd has not come up:\n{log.read()}") from None
                yield system
                print(system.journal("-t vswitch"))  # which pytest shows where a test has failed
            finally:
                process.stdin.close()  # the shell ends, and all with it
                process.wait()


def write_files(folder):
    """The files of the system, into a folder; what is bound in it: from, to."""
    base, version = Path(sys.base_prefix), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    at = base if base.is_relative_to("/usr") else MOVED
    binds = [("/usr", "/usr")]
    binds += [(PACKAGES / each, SOURCE / each) for each in ("vswitch", "transport")]
    if at == MOVED:
        binds.append((base, MOVED))
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            folder.mkdir(exist_ok=True)
            (folder / name).symlink_to(os.readlink(f"/{name}"))
        elif Path("/", name).exists():
            binds.append((f"/{name}", f"/{name}"))
    libraries = [f"{at}/lib\n", *(each.read_text() for each in LIBRARIES.glob("*.conf"))]
    files = {
        "etc/passwd": USERS,
        "etc/group": GROUPS,
        "etc/machine-id": "0" * 31 + "1\n",  # or each unit would be enabled: first boot
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/ld.so.conf": "".join(libraries),
        "etc/ld.so.cache": Path("/etc/ld.so.cache").read_bytes(),
        "units/default.target": "[Unit]\nRequires=multi-user.target systemd-journald.service\n",
        **{f"units/{each}": (SYSTEMD.parent / "system" / each).read_bytes() for each in UNITS},
        f"{PREFIX}/pyvenv.cfg": f"home = {at}/bin\n",
        f"{PREFIX}/bin/vswitch": SCRIPT,
    }
    project = tomllib.loads((PACKAGES / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    for source, target in shared.items():
        files[f"{PREFIX}/{target}"] = (PACKAGES / source).read_bytes()
    for name, content in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    script = folder / str(PREFIX).lstrip("/") / "bin/vswitch"
    script.chmod(0o755)
    script.with_name("python").symlink_to(
        at / Path(os.path.realpath(sys.executable)).relative_to(base)
    )
    binds.append((folder / "units", SYSTEMD.resolve().parent / "system"))
    binds.append((sysconfig.get_path("purelib"), PREFIX / f"lib/{version}/site-packages"))
    return binds
