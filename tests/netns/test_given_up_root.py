"""`--user`: a switch and a member that were started as root and are not root any more."""

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.tools import Lan, ipv4, joined, reach
from tests.netns.user import settle
from vswitch.devices import netlink
from vswitch.errors import ExitCode
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import SWITCH_ADDRESS

pytestmark = pytest.mark.netns("ping", "nft")

USER = "nobody"
CONFIG = "[serve]\nlocal_port = true\n"
MORE = """
[serve]
local_port = true
[network.lab]
subnet = "10.88.0.0/24"
local_port = true
dev = "vsw1"
[[publish]]
listen = "tcp://:443"
to = "pc1:5000"
"""
NET_BIND_SERVICE, NET_ADMIN = 1 << 10, 1 << 12
SERVER = """
import socket
with socket.create_server(("", 5000)) as server:
    print("ready", flush=True)
    server.accept()[0].sendall(b"hello")
"""


@pytest.fixture(scope="module")
def lan():
    """A switch and the member pc1, both as that user, and pc2, which is root."""
    with Lab() as lab:
        if lab.rootless:
            pytest.skip("needs root to become another user")
        made = Lan(lab)
        hosts = [made.switch, made.host("pc1")]
        lab.link(hosts[1], lab.bridge("inside"), ifname="eth1", address="198.51.100.1/24")
        lab.directory.chmod(0o711)  # on the way to the state directories
        for host in hosts:
            host.directory.chmod(0o711)
            host.call(settle, pwd.getpwnam(USER).pw_uid)
        config = made.switch.directory / "vswitch.toml"
        config.write_text(CONFIG)
        made.serve("--config", str(config), "--user", USER)
        made.join("pc1", "--user", USER, "--no-dns", "--advertise", "198.51.100.0/24")
        made.join("pc2")
        made.wait_connected("pc1", "pc2")
        yield made
        made.stop()


def rights(pid):
    """Of each thread of a process, by the names of /proc/PID/status."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        yield {key: value.split() for key, _, value in (each.partition(":") for each in lines)}


def test_nothing_of_root_is_left_but_what_is_needed(lan):
    reach(lan.members["pc2"], ipv4(lan, "pc1"))
    reach(lan.members["pc1"], "10.77.0.1")  # the host of the switch, through its local port
    entry = pwd.getpwnam(USER)
    for name, kept in (("switch", NET_BIND_SERVICE | NET_ADMIN), ("pc1", NET_ADMIN)):
        program = lan.programs[name]
        found = list(rights(program.process.pid))
        assert len(found) > 1  # worker threads as well
        for status in found:
            assert status["Uid"] == [str(entry.pw_uid)] * 4
            assert status["Gid"] == [str(entry.pw_gid)] * 4
            assert status["Groups"] == []
            assert status["NoNewPrivs"] == ["1"]
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                assert int(status[kind][0], 16) == kept, (name, kind)
        state = lan.state(program.host)
        assert {path.lstat().st_uid for path in (state, *state.rglob("*"))} == {entry.pw_uid}


def test_a_reload_brings_a_network_with_an_interface_and_a_port_below_1024(lan):
    (lan.switch.directory / "vswitch.toml").write_text(MORE)
    lan.command(lan.switch, "config", "reload")
    assert "10.88.0.1/24" in lan.switch.call(netlink.addresses, "vsw1")
    is_published(lan, "pc1")


def is_published(lan, name):
    """Whether the service of a member is reached at the switch, at a port below 1024."""
    server = lan.members[name].popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert server.stdout.readline()
    assert lan.members["pc2"].call(said, SWITCH_ADDRESS, 443) == b"hello"


def said(address, port):
    """Runs in a host: what a service says."""
    with socket.create_connection((address, port)) as sock:
        return sock.recv(99)


def test_a_gateway_has_nft_translate_addresses(lan):
    gateway = lan.members["pc1"]
    lan.command(lan.switch, "member", "set", "pc1", "routes=198.51.100.0/24")
    wait_until(lambda: "masquerade" in gateway.run(["nft", "list", "ruleset"]).stdout, "the rules")
    lan.command(lan.switch, "member", "set", "pc1", "routes=none")
    wait_until(lambda: not gateway.run(["nft", "list", "ruleset"]).stdout, "the end of the rules")
    assert joined(lan, "pc1")["state"] == "up"


def test_the_end_leaves_nothing(lan):
    lan.command(lan.switch, "member", "set", "pc1", "routes=198.51.100.0/24")
    wait_until(lambda: lan.members["pc1"].run(["nft", "list", "ruleset"]).stdout, "the rules")
    for name in ("pc1", "switch"):
        program = lan.programs[name]
        assert program.stop() == ExitCode.OK, program.tail()
        assert "warning" not in program.tail().lower(), program.tail()
        for dev in ("vsw0", "vsw1"):
            assert program.host.call(netlink.find_link, dev) is None
        assert not list(lan.state(program.host).rglob("*.sock"))
    assert not lan.members["pc1"].run(["nft", "list", "ruleset"]).stdout


def test_a_state_directory_of_root_is_refused_with_what_to_do(lan):
    state = lan.state(lan.switch)
    os.chown(state / "server.key", 0, 0)
    done = lan.command(lan.switch, "serve", "--user", USER, check=False)
    assert done.returncode == ExitCode.USAGE
    assert f"`chown -R {USER}: {state}`" in done.stderr
    lan.switch.run(["chown", "-R", f"{USER}:", str(state)])


def test_without_a_local_port_less_is_kept_and_services_are_published(lan):
    config = lan.switch.directory / "vswitch.toml"
    config.write_text('[[publish]]\nlisten = "tcp://:443"\nto = "pc2:5000"\n')
    program = lan.serve("--config", str(config), "--user", USER)
    kept = {status["CapEff"][0] for status in rights(program.process.pid)}
    assert {int(each, 16) for each in kept} == {NET_BIND_SERVICE}
    lan.wait_connected("pc2")
    is_published(lan, "pc2")
