"""The image and rootless podman, as docs/containers.md has them.

    VSWITCH_IMAGE=/tmp/vswitch.tar packaging/container
    VSWITCH_IMAGE=/tmp/vswitch.tar pytest tests/netns/test_podman.py

It takes the building of an image, so it is no part of CI.
"""

import os
from pathlib import Path

import pytest

from tests.netns.tools import ipv4, reach
from tests.netns.user import HOME, UID, User, lan_for_users
from vswitch.lab import wait_until

ARCHIVE = os.environ.get("VSWITCH_IMAGE", "")
pytestmark = pytest.mark.skipif(not Path(ARCHIVE).is_file(), reason="VSWITCH_IMAGE names no image")
RUNTIME = HOME / "run"
PREPARE = f"""
mount -t cgroup2 none /sys/fs/cgroup
mkdir /mnt/etc {RUNTIME}; chown {UID}:{UID} {RUNTIME}; chmod 700 {RUNTIME}
cp /etc/passwd /etc/group /mnt/etc
echo 'u:x:{UID}:{UID}::{HOME}:/bin/sh' >> /mnt/etc/passwd
echo 'u:x:{UID}:' >> /mnt/etc/group
echo 'u:200000:65536' | tee /mnt/etc/subuid > /mnt/etc/subgid
for file in passwd group subuid subgid; do mount --bind /mnt/etc/$file /etc/$file; done
"""
LIMITS = ("--no-healthcheck", "--cap-drop", "all", "--device", "/dev/net/tun")
INTERFACES = "import socket; print([name for _, name in socket.if_nameindex()])"

lan = pytest.fixture(lan_for_users, scope="module")


@pytest.fixture(scope="module")
def podman(lan):
    """Runs it as a user of a host of his own, with other uids as distributions give them."""
    host = lan.host("node")
    User(lan, host)
    host.run(["sh", "-ec", PREPARE])

    def run(*arguments):
        become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
        argv = [*become, "podman", "--cgroup-manager=cgroupfs", "--events-backend=none"]
        environment = {"HOME": str(HOME), "XDG_RUNTIME_DIR": str(RUNTIME)}
        return host.run([*argv, *arguments], env=environment, timeout=120).stdout

    run("load", "-q", "-i", ARCHIVE)
    yield run
    run("rm", "-f", "-a", "-t", "2")
    run("rmi", "-a", "-f")  # the files of other uids, too


@pytest.mark.netns("setpriv", "ping")
def test_a_container_that_is_a_member_and_a_sidecar(podman, lan):
    state = ("-e", "VSWITCH_STATE=/state", "-v", "pod:/state")
    who = ("--name", "pod", "--user", "0", "--cap-add", "NET_ADMIN")
    string = lan.invite("pod")
    podman("run", "-d", *LIMITS, *who, *state, "vswitch", "join", "--name", "pod", string)
    wait_until(lambda: lan.port("pod"), "pod on the switch")
    reach(lan.members["pc1"], ipv4(lan, "pod"))
    assert "pod" in podman("exec", "pod", "vswitch", "status")
    beside = ("--network", "container:pod", "--entrypoint", "python3")
    assert "'vsw0'" in podman("run", "--rm", *LIMITS, *beside, "vswitch", "-c", INTERFACES)


@pytest.mark.netns("setpriv")
@pytest.mark.parametrize(
    ("name", "profile"), [("one", ()), ("two", ("--security-opt", "seccomp=unconfined"))]
)
def test_one_program_of_a_container(podman, lan, name, profile):
    argv = ["vswitch", "exec", lan.invite(name), "--name", name, "--", "python3", "-c", INTERFACES]
    assert podman("run", "--rm", *LIMITS, *profile, *argv) == "['lo', 'vsw0']\n"
