"""Containers on the LAN, run by crun as an engine would: a member, its neighbour, an ordinary user.

The files are those of this machine, and the network is that of a lab host, which stands for what an
engine gives its containers.
"""

import json
import signal
import subprocess
import sys

import pytest

from tests.netns.tools import ipv4, reach
from tests.netns.user import HOME, UID, User, lan_for_users
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

FILES = "/mnt/files"
TUN = "/dev/net/tun"
BEFORE = f"""
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p {FILES}
mount --rbind / {FILES}
"""


lan = pytest.fixture(lan_for_users, scope="module")


@pytest.fixture(scope="module")
def engine(lan):
    return Engine(lan, lan.host("node"))


class Engine:
    """Runs containers in the network of a lab host, by root or by a user."""

    def __init__(self, lan, host):
        self.lan, self.host, self.user, self.number = lan, host, User(lan, host), 0
        host.run(["sh", "-ec", BEFORE])

    def start(self, argv, *, capabilities=(), rootless=False):
        self.number += 1
        name = f"c{self.number}"
        bundle = HOME / name
        who = {"uid": UID, "gid": UID} if rootless else {"uid": 0, "gid": 0}
        kinds = ["pid", "ipc", "uts", "mount", *(["user"] if rootless else [])]
        own = [{"containerID": UID, "hostID": UID, "size": 1}] if rootless else []
        sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
        environment = {**self.host.environment, "HOME": str(HOME)}
        config = {
            "ociVersion": "1.0.0",
            "process": {
                "user": who,
                "args": argv,
                "env": [f"{key}={value}" for key, value in environment.items()],
                "cwd": "/",
                "capabilities": {kind: list(capabilities) for kind in sets},
                "noNewPrivileges": True,
            },
            "root": {"path": FILES},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "none"},
                {"destination": TUN, "type": "bind", "source": TUN, "options": ["bind"]},
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in kinds],
                "uidMappings": own,
                "gidMappings": own,
                "readonlyPaths": ["/proc/sys"],
            },
        }
        self.host.run(["sh", "-c", f"mkdir {bundle} && cat > {bundle}/config.json && "
                       f"chown -R {UID}:{UID} {bundle}"], input=json.dumps(config))  # fmt: skip
        become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
        crun = ["crun", "--root", f"{bundle}/state", "--cgroup-manager=disabled", "run"]
        return self.host.popen(
            [*(become if rootless else []), *crun, "--bundle", str(bundle), name],
            env={"HOME": str(HOME), "XDG_RUNTIME_DIR": str(HOME)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, argv, **options):
        container = self.start(argv, **options)
        said, _ = container.communicate(timeout=120)
        return container.returncode, said


def vswitch(*arguments):
    return [sys.executable, "-m", "vswitch", *arguments]


@pytest.mark.netns("setpriv", "crun", "ping", "ss")
def test_container_with_a_membership_serves_others_beside_it(engine, lan):
    joining = vswitch("join", lan.invite("pod"), "--name", "pod", "--state", "/mnt/pod")
    member = engine.start(joining, capabilities=["CAP_NET_ADMIN"])
    wait_until(lambda: lan.port("pod"), "pod on the switch")
    reach(lan.members["pc1"], ipv4(lan, "pod"))
    # Another container of the same network, without any capability.
    pc1 = lan.members["pc1"]
    serve = [sys.executable, "-m", "http.server", "-b", ipv4(lan, "pc1"), "-d", "/nowhere", "8000"]
    pc1.popen(serve, stderr=subprocess.DEVNULL)
    wait_until(lambda: "8000" in pc1.run(["ss", "-ltn"]).stdout, "the server on the LAN")
    ask = f"import socket; socket.create_connection(('{ipv4(lan, 'pc1')}', 8000), 60); print('in')"
    assert engine.run([sys.executable, "-c", ask]) == (0, "in\n")
    mac = engine.host.call(netlink.find_link, DEV).mac
    assert engine.run(["cat", f"/sys/class/net/{DEV}/address"]) == (0, f"{mac}\n")
    member.send_signal(signal.SIGTERM)
    assert member.wait(60) == 0, member.stdout.read()


@pytest.mark.netns("setpriv", "crun", "ping")
def test_rootless_container_without_a_capability_runs_a_program_on_the_lan(engine, lan):
    invite = lan.invite("job", "--expires", "10m")
    state = ["--state", str(HOME / "job")]
    script = ["ping", "-c3", "-i0.2", "pc1"]
    argv = vswitch("exec", invite, "--name", "job", *state, "--", *script)
    status, said = engine.run(argv, rootless=True)
    assert status == 0, said
    assert ", 0% packet loss" in said
    status, said = engine.run(vswitch("leave", "job", *state), rootless=True)
    assert status == 0, said
    assert said.endswith("job has left\n")
    listed = json.loads(lan.command(lan.switch, "members", "--json").stdout)["members"]
    assert "job" not in {member["name"] for member in listed}
