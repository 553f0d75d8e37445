"""The doctor on real hosts: what is broken on purpose is found, and nothing on a healthy pair.

One switch and one member, broken in one way after the other, by one test for each group.
"""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.tools import Lan
from vswitch.devices import netlink
from vswitch.devices.upkeep import MendLimit
from vswitch.doctor.table import TABLE
from vswitch.errors import ExitCode
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import DEV, OWN, SWITCH_ADDRESS, UNDERLAY

NOBODY = "192.0.2.250"  # an address of the underlay that no host has
OF_THIS_MACHINE = {"slow-python", "several-installed"}  # true of whatever runs the tests
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NETWORKD = """
set -e
mount -t tmpfs none /run
mount --bind /sys /sys
mount -o remount,bind,ro /sys  # else it waits for udev
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/network
chown -R systemd-network /run/systemd/netif
printf '[Match]\nName=vsw*\n\n[Network]\nDHCP=no\n' > /run/systemd/network/10-all.network
"""
AHEAD = """
import time
from functools import partial

time.time = partial(lambda true: true() + 3600, time.time)
"""
DROP = "table inet t {{ chain c {{ type filter hook {} priority 0; udp dport 7450 drop\n}}\n}}\n"


def found(lan, host, *target, under=(), **variables):
    """What it says of each finding, by id; the exit code fits. `under`: what starts it."""
    argv = [*under, *lan.argv(host, "doctor", *target, "--json")]
    done = host.run(argv, check=False, env={**OWN.environment, **variables})
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout)["findings"]
    bad = any(each["severity"] == "problem" for each in findings)
    assert done.returncode == (ExitCode.FAILED if bad else ExitCode.OK)
    return {each["id"]: each["seen"] for each in findings if each["id"] not in OF_THIS_MACHINE}


def do(host, id, command, file=None):
    """What the finding says to do."""
    assert f"`{command}`" in TABLE[id].remedy
    host.run([str(file) if word == "FILE" else word for word in command.split()])


@contextmanager
def networkd(host):
    with (host.directory / "networkd.log").open("ab") as log:
        running = host.popen(["/lib/systemd/systemd-networkd"], stdout=log, stderr=log)
    try:
        yield
    finally:
        running.terminate()
        running.wait(20)


def nft(host, text):
    host.run(["nft", "-f", "-"], input=text)


@pytest.fixture(scope="module")
def lan():
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve("--https", ":443")
        lan.join("pc1")
        lan.wait_connected("pc1")
        yield lan
        lan.stop()


@pytest.mark.netns("nft")
def test_nothing_is_found_on_a_healthy_pair(lan):
    assert found(lan, lan.switch) == {}
    assert found(lan, lan.members["pc1"]) == {}
    done = lan.command(lan.members["pc1"], "netcheck", "--json")
    (path,) = json.loads(done.stdout)["paths"]
    assert path["udp_ms"] is not None
    assert path["seen"].startswith("192.0.2.11:")
    assert "192.0.2.11" in path["own"]


@pytest.mark.netns("nft", "ip")
def test_nothing_is_found_by_https_and_ipv6(lan):
    lan.join("pc5", "--path", "https")
    lan.wait_connected("pc5")
    pc5 = lan.members["pc5"]
    assert found(lan, pc5) == {}
    for host, address in ((lan.switch, "fd00::1/64"), (pc5, "fd00::5/64")):
        host.run(["ip", "address", "add", address, "dev", UNDERLAY, "nodad"])
    assert found(lan, pc5, lan.invite("pc6", "--public", "[fd00::1]")) == {}


@pytest.mark.netns("nft", "ip", "mount", "setpriv")
def test_what_others_do_to_the_interface_and_the_host_is_found(lan):
    pc1 = lan.members["pc1"]
    pc1.run(["ip", "link", "add", "other", "type", "veth", "peer", "name", "another"])
    pc1.run(["ip", "address", "add", "10.77.0.77/25", "dev", "other"])
    pc1.run(["ip", "link", "set", "other", "up"])
    assert "10.77.0.0/25" in found(lan, pc1)["subnet-collision"]
    pc1.run(["ip", "link", "delete", "other"])
    for left in reversed(range(MendLimit.BURST + 1)):  # so often it is put back
        pc1.run(["ip", "link", "set", DEV, "mtu", "1400"])
        if left:
            wait_until(lambda: pc1.call(netlink.find_link, DEV).mtu == 1500, "its own MTU")
    assert found(lan, pc1) == {"interface-changed": "vsw0: mtu is 1400"}
    pc1.run(["ip", "link", "set", DEV, "mtu", "1500"])
    key = lan.state(pc1) / "members" / "pc1.key"
    key.chmod(0o644)
    assert found(lan, pc1) == {"key-exposed": str(key)}
    do(pc1, "key-exposed", "chmod 600 FILE", key)
    lan.state(pc1).chmod(0o777)
    assert "state-owner" in found(lan, pc1)
    lan.state(pc1).chmod(0o700)
    pc1.run(["mount", "-t", "tmpfs", "none", "/dev/net"])
    assert set(found(lan, pc1)) == {"no-tun"}
    pc1.run(["umount", "/dev/net"])
    pc1.run(["mount", "-t", "tmpfs", "-o", "nodev", "none", "/dev/net"])
    pc1.run(["mknod", "/dev/net/tun", "c", "10", "200"])
    assert found(lan, pc1) == {"tun-denied": "/dev/net/tun: Permission denied"}
    pc1.run(["umount", "/dev/net"])
    zero = pc1.directory / "zero"
    zero.write_text("0\n")
    pc1.run(["mount", "--bind", str(zero), "/proc/sys/user/max_user_namespaces"])
    unprivileged = found(lan, pc1, under=("setpriv", "--bounding-set=-net_admin"))
    assert {"no-net-admin", "no-user-namespaces"} <= unprivileged.keys()
    pc1.run(["umount", "/proc/sys/user/max_user_namespaces"])
    nft(lan.switch, DROP.format("input"))
    assert "firewall-drops" in found(lan, lan.switch)
    nft(lan.switch, "delete table inet t")
    assert found(lan, pc1) == {}


@pytest.mark.netns("nft", "iptables-legacy")
def test_rules_of_the_older_iptables_are_found(lan):
    accept = ["-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"]
    for tool, family in (("iptables-legacy", "ip"), ("ip6tables-legacy", "ip6")):
        lan.switch.run([tool, "-A", "INPUT", *accept])
        lan.switch.run([tool, "-A", "INPUT", "-p", "udp", "--dport", "7450", "-j", "DROP"])
        place = f"a rule in {family} filter INPUT (iptables-legacy) says drop for UDP port 7450"
        assert found(lan, lan.switch) == {"firewall-drops": place}
        lan.switch.run([tool, "-F"])
    assert found(lan, lan.switch) == {}


@pytest.mark.netns("nft", "iptables-legacy", "/lib/systemd/systemd-networkd")
def test_who_meddles_with_a_member_that_bridges_is_found(lan):
    """Its frames in FORWARD, and its interface in the hands of another program."""
    gate = lan.host("gate")
    gate.run(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])
    gate.run(["ip", "link", "set", "lan0", "up"])
    lan.join("gate", "--bridge", "lan0")
    lan.wait_connected("gate")
    settings = Path("/proc/sys/net/bridge")
    filtered = gate.run(["ls", str(settings)], check=False).returncode == 0
    assert found(lan, gate) == {}
    gate.run(["iptables-legacy", "-P", "FORWARD", "DROP"])
    if filtered:  # br_netfilter is loaded
        setting = "net.bridge.bridge-nf-call-ip"
        seen = found(lan, gate)["br-netfilter"]
        assert f"{setting}tables is 1, and ip filter FORWARD (iptables-legacy) drops" in seen
        do(gate, "br-netfilter", f"sysctl {setting}tables=0 {setting}6tables=0")
    assert found(lan, gate) == {}
    gate.run(["sh", "-c", NETWORKD])
    managed = {"managed-interface": "vsw0 is managed by systemd-networkd"}
    with networkd(gate):
        wait_until(lambda: found(lan, gate) == managed, "systemd-networkd to take it")
    gate.run(["cp", str(EXAMPLES / "00-vswitch.network"), "/run/systemd/network"])
    with networkd(gate):
        wait_until(lambda: found(lan, gate) == {}, "systemd-networkd to leave it")


@pytest.mark.netns("nft")
def test_the_way_to_the_switch_is_examined_with_an_invite_that_stays(lan, tmp_path):
    """By a host that is no member yet, and whose clock is wrong."""
    host = lan.host("pc2")
    invite = lan.invite("pc2")
    (tmp_path / "sitecustomize.py").write_text(AHEAD)
    ahead = f"{OWN.environment['PYTHONPATH']}:{tmp_path}"
    assert found(lan, host, invite, PYTHONPATH=ahead).keys() == {"clock-wrong"}
    assert found(lan, host, invite) == {}
    nft(lan.switch, DROP.format("input"))
    assert set(found(lan, host, invite)) == {"udp-blocked"}
    nft(lan.switch, "delete table inet t")


@pytest.mark.netns("nft")
def test_what_keeps_a_host_from_the_switch_is_told_apart(lan):
    host = lan.host("pc2")
    invite = lan.invite("pc2")
    host.run(["ip", "address", "flush", "dev", UNDERLAY])
    assert "unreachable" in found(lan, host, invite)
    lan.state(host).mkdir(mode=0o700)
    host.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "none", str(lan.state(host))])
    assert found(lan, host)["disk-full"] == f"{lan.state(host)}: 8 MiB are free"
    host.run(["umount", str(lan.state(host))])
    host.run(["ip", "address", "add", "192.0.2.99/24", "dev", UNDERLAY])
    nowhere = lan.invite("pc3", "--public", "no-such-name.invalid")
    assert "no-such-name.invalid" in found(lan, host, nowhere)["name-unresolved"]
    assert found(lan, host, f"{SWITCH_ADDRESS}:9")["port-closed"].startswith(SWITCH_ADDRESS)
    assert list(found(lan, host, SWITCH_ADDRESS)) == ["not-told"]
    assert "No route to host" in found(lan, host, NOBODY)["unreachable"]
    # None of that has used the invite up.
    lan.join("pc2", "--advertise", "192.168.55.0/24", "--offload", "off", invite=invite)
    lan.wait_connected("pc2")
    assert found(lan, host).keys() == {"no-offload"}
    assert "used" in found(lan, lan.host("pc4"), invite)["refused"]
    host.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter"])
    assert "rp-filter" in found(lan, host)
    do(host, "rp-filter", "sysctl net.ipv4.conf.all.rp_filter=2")
    assert "rp-filter" not in found(lan, host)


@pytest.mark.netns("nft", "ethtool")
def test_a_black_hole_is_found(lan):
    host = lan.host("pc4")
    invite = lan.invite("pc4")
    whole = ["tx-udp-segmentation", "off", "tso", "off", "gso", "off"]
    host.run(["ethtool", "-K", UNDERLAY, *whole])
    lan.underlay.call(netlink.configure, lan.ports["pc4"], mtu=1240)
    seen = found(lan, host, invite)
    # TCP does not find out: the first segment of 1,260 bytes of the HTTPS path is lost for ever.
    assert set(seen) == {"mtu-black-hole", "mtu-low", "https-unreachable"}
    assert "one of 1500" in seen["mtu-black-hole"]
    lan.underlay.call(netlink.configure, lan.ports["pc4"], mtu=1500)


@pytest.mark.netns("nft")
def test_another_switch_in_its_place_is_found(lan):
    invite = lan.invite("pc4")
    host = lan.host("pc4")
    lan.programs["switch"].stop()
    (lan.state(lan.switch) / "server.key").unlink()
    lan.serve("--https", ":443")
    seen = found(lan, host, invite)
    assert set(seen) == {"wrong-key", "no-answer"}
    assert "nobody there has shown to know the key" in seen["no-answer"]
    wait_until(
        lambda: found(lan, lan.members["pc1"]).keys() == {"not-connected", "no-answer"},
        "a member that says that it has no connection",
        timeout=60,
    )
    assert lan.members["pc1"].call(netlink.find_link, DEV) is not None
