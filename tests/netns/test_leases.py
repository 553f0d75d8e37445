"""Machines behind a bridged member: addresses by DHCP with the clients that people have, and by
IPv6 router advertisements.
"""

import json
import os
import re
import signal
import subprocess
import sys
from ipaddress import IPv6Network, ip_address
from pathlib import Path

import pytest

from tests.netns.test_names import dig
from tests.netns.tools import joined, reach, serve_leases
from vswitch.addresses import ipv6_from_mac
from vswitch.devices import netlink
from vswitch.frames.ethernet import parse_mac
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

CONFIG = """
[dhcp]
enabled = true
range = "10.77.0.100-10.77.0.199"
lease_time = "2h"
domain = "home.test"
search = ["home.test", "example.org"]
routes = ["192.168.9.0/24 via 10.77.0.7"]
router = "10.77.0.7"

[dhcp.reservations]
"52:54:00:00:00:0b" = "10.77.0.50"

[adverts]
enabled = true
prefix = "fd00:77::/64"
search = ["home.test"]
"""
MACHINES = {"a": "52:54:00:00:00:0a", "b": "52:54:00:00:00:0b", "c": "52:54:00:00:00:0c"}
PREFIX = IPv6Network("fd00:77::/64")
ROOT = Path(__file__).resolve().parents[2]

# What either client tells its script, in a file.
SCRIPT = """#!/bin/sh
case "${{reason:-$1}}" in
BOUND|REBOOT|RENEW|bound|renew) ;;
*) ip link set eth0 up; exit 0 ;;
esac
env > {told}.new && mv {told}.new {told}
ip addr replace "${{new_ip_address:-$ip}}/24" dev eth0
"""
DHCLIENT = """
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, domain-search,
    interface-mtu, rfc3442-classless-static-routes;
send host-name "Laptop";
timeout 60;
"""
NETWORKD = """
[Match]
Name=eth0
[Network]
DHCP=ipv4
IPv6AcceptRA=no
LinkLocalAddressing=no
"""


@pytest.fixture(scope="module")
def home(empty_lan):
    """A switch that hands out addresses, and a home with three machines behind a member."""
    lan = empty_lan
    config = lan.switch.directory / "vswitch.toml"
    config.write_text(CONFIG)
    lan.serve("--config", str(config))
    gate = lan.host("gate")
    gate.call(netlink.create_bridge, "br0")
    for number, (name, mac) in enumerate(MACHINES.items()):
        machine = lan.members[name] = lan.lab.host(name)
        gate.call(netlink.create_veth, f"lan{number}", "eth0", peer_pid=machine.pid)
        gate.call(netlink.configure, f"lan{number}", up=True, master="br0")
        machine.run(["ip", "link", "set", "eth0", "address", mac, "up"])
    gate.call(netlink.configure, "br0", up=True)
    lan.join("gate", "--bridge", "br0", "--bridge-dhcp", "--bridge-ra", "--address", "none")
    lan.wait_connected("gate")
    return lan


def leases(lan):
    done = lan.command(lan.switch, "leases", "--json")
    return {each["mac"]: each for each in json.loads(done.stdout)["leases"]}


def script_of(host):
    told, script = host.directory / "told", host.directory / "script"
    script.write_text(SCRIPT.format(told=told))
    script.chmod(0o755)
    return told, script


def read(told):
    lines = told.read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def dhclient(host, *options):
    """Ask once: what it was told. The client goes into the background with its lease, and is killed
    there, since one that is asked to end gives the lease back.
    """
    told, script = script_of(host)
    config = host.directory / "dhclient.conf"
    config.write_text(DHCLIENT)
    pid = host.directory / "dhclient.pid"
    pid.unlink(missing_ok=True)  # of the one before
    files = ("-lf", f"{host.directory}/leases", "-pf", str(pid))
    host.run(["dhclient", "-4", "-1", "-cf", str(config), "-sf", str(script), *files, "eth0"])
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"), "the client's process")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    return read(told)


@pytest.mark.netns("udhcpc", "dhclient", "ip", "ping")
def test_machines_get_addresses_and_keep_them_when_the_switch_is_killed(home):
    laptop, phone = home.members["a"], home.members["b"]
    said = dhclient(laptop)
    assert re.fullmatch(r"10\.77\.0\.1\d\d", said["new_ip_address"])
    assert said["new_subnet_mask"] == "255.255.255.0"
    assert said["new_dhcp_lease_time"] == "7200"
    assert said["new_dhcp_server_identifier"] == "10.77.0.1"
    assert said["new_interface_mtu"] == "1500"
    assert said["new_domain_name"] == "home.test"
    assert said["new_domain_search"] == "home.test. example.org."
    routes = "0 10 77 0 7 24 192 168 9 10 77 0 7"
    assert said["new_rfc3442_classless_static_routes"] == routes
    told, script = script_of(phone)
    options = [f"-O{name}" for name in ("search", "staticroutes", "mtu")]
    phone.run(["udhcpc", "-f", "-q", "-n", "-t10", *options, "-ieth0", f"-s{script}"])
    by_udhcpc = read(told)
    assert by_udhcpc["ip"] == "10.77.0.50"  # reserved
    assert by_udhcpc["search"] == "home.test example.org"
    assert by_udhcpc["staticroutes"] == "0.0.0.0/0 10.77.0.7 192.168.9.0/24 10.77.0.7"
    assert (by_udhcpc["mtu"], by_udhcpc["domain"]) == ("1500", "home.test")
    reach(laptop, "10.77.0.50")
    reach(phone, "10.77.0.1")

    before = leases(home)
    assert {mac: each["address"] for mac, each in before.items()} == {
        MACHINES["a"]: said["new_ip_address"],
        MACHINES["b"]: "10.77.0.50",
    }
    assert (before[MACHINES["a"]]["port"], before[MACHINES["a"]]["name"]) == ("gate", "laptop")
    shown = home.command(home.switch, "leases").stdout
    assert "52:54:00:00:00:0b" in shown

    home.programs["switch"].process.send_signal(signal.SIGKILL)
    home.programs["switch"].process.wait(20)
    home.serve("--config", str(home.switch.directory / "vswitch.toml"))
    after = leases(home)
    assert {mac: each["address"] for mac, each in after.items()} == {
        mac: each["address"] for mac, each in before.items()
    }
    assert all(0 < each["expires_s"] <= 7200 for each in after.values())
    home.wait_connected("gate")
    assert dhclient(laptop)["new_ip_address"] == said["new_ip_address"]

    freed = home.command(home.switch, "leases", "release", "52:54:00:00:00:0b").stdout
    assert freed == "10.77.0.50 is free\n"
    assert MACHINES["b"] not in leases(home)
    unknown = home.command(home.switch, "leases", "release", MACHINES["b"], check=False)
    assert unknown.returncode == 5


FLOOD = """
import random, socket, struct, sys
from ipaddress import IPv4Address
from vswitch.frames.bootp import DhcpMessage, Kind, build_dhcp
from vswitch.frames.build import ethernet, ip, upper
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
    sock.bind((sys.argv[1], 0))
    own, ends = sock.getsockname()[4], (IPv4Address(0), IPv4Address("255.255.255.255"))
    for number in range(400):
        mac = b"\\x02\\x66" + number.to_bytes(4, "big")
        said = build_dhcp(DhcpMessage(kind=Kind.DISCOVER, transaction=number, mac=mac))
        packet = ip(*ends, 17, upper(17, 68, 67, said, ends))
        # One half as if from many machines, one half from this one in the name of others.
        sock.send(ethernet(b"\\xff" * 6, mac if number % 2 else own, 0x0800, packet))
"""


@pytest.mark.netns("udhcpc")
def test_a_member_that_invents_machines_takes_no_more_than_its_share(home):
    home.join("hostile")
    home.wait_connected("hostile")
    hostile, phone = home.members["hostile"], home.members["b"]
    hostile.run([sys.executable, "-c", FLOOD, DEV], env={"PYTHONPATH": str(ROOT)})

    def refused():
        said = json.loads(home.command(home.switch, "leases", "--json").stdout)["drops"]
        return {"dhcp_spoofed", "dhcp_rate"} <= said.keys()

    wait_until(refused, "messages that are refused")
    assert home.port("hostile")["drops"]["mac_limit"] > 100  # 32 stations behind a member
    _, script = script_of(phone)
    phone.run(["udhcpc", "-f", "-q", "-n", "-t10", "-ieth0", f"-s{script}"])
    assert all(each["port"] == "gate" for each in leases(home).values())


@pytest.mark.netns("rdisc6", "ping", "dig", "udhcpc")
def test_hosts_give_themselves_addresses_of_the_prefix(home):
    phone = home.members["b"]
    ask = ["rdisc6", "-1", "-w5000", "eth0"]  # fails while the address of the link is tentative

    def advertised():
        done = phone.run(ask, check=False)
        return done.returncode == 0 and done.stdout

    said = wait_until(advertised, "advertisement")
    assert re.search(r"Prefix\s*: fd00:77::/64", said)
    assert re.search(r"Router lifetime\s*: +0 ", said)
    assert re.search(r"MTU\s*: +1500", said)
    assert re.search(r"DNS search list\s*: home\.test", said)
    assert re.search(r"Recursive DNS server\s*: fd00:77::1", said)
    address = "fd00:77::5054:ff:fe00:b"
    wait_until(
        lambda: f"{address}/64" in phone.call(netlink.addresses, "eth0"), "address of the prefix"
    )
    reach(phone, "fd00:77::1")
    reach(home.members["a"], address)
    routes = phone.run(["ip", "-6", "route"]).stdout
    assert "default" not in routes

    # The name server knows of it: of the phone by its lease, of a member by its name.
    home.join("pc1")
    home.wait_connected("pc1")
    _, script = script_of(phone)
    phone.run(["udhcpc", "-f", "-q", "-n", "-t10", "-ieth0", "-xhostname:phone", f"-s{script}"])
    six = str(ipv6_from_mac(PREFIX, parse_mac(joined(home, "pc1")["mac"])))
    pc1 = home.members["pc1"]
    wait_until(lambda: f"{six}/64" in pc1.call(netlink.addresses, DEV), "address of pc1")
    phone.run(["sh", "-c", "echo nameserver fd00:77::1 > /etc/resolv.conf"])
    for name, has in (("pc1.lan", six), ("phone.lan", address)):
        wait_until(
            lambda n=name, h=has: dig(phone, n, "AAAA")[1] == [f"AAAA {h}"], f"AAAA of {name}"
        )
        back = ip_address(has).reverse_pointer
        assert dig(pc1, back, "PTR", server="fd00:77::1") == ("NOERROR", [f"PTR {name}."])
        assert has in phone.run(["getent", "ahosts", name]).stdout
    assert phone.run(["ping", "-6", "-c1", "-W5", "pc1.lan"]).returncode == 0
    assert dig(phone, "gate.lan", "AAAA", "+noauthority") == ("NOERROR", [])  # it bridges
    assert dig(phone, "services.lan", "AAAA") == ("NOERROR", ["AAAA fd00:77::1"])


def networkd(host, mac):
    """systemd's client in a mount namespace of its own: where nothing is but a network."""
    directory = host.directory / "networkd"
    directory.mkdir()
    (directory / "eth0.network").write_text(NETWORKD)
    setup = (
        "mount -t tmpfs none /run && mkdir -p /run/systemd/netif/links /run/systemd/netif/leases"
        " && chown -R systemd-network /run/systemd/netif"
        f" && mkdir -p /run/systemd/network && cp {directory}/eth0.network /run/systemd/network"
        " && mount --bind /sys /sys && mount -o remount,bind,ro /sys"
        " && exec /lib/systemd/systemd-networkd"
    )
    with (directory / "log").open("wb") as log:
        return host.popen(
            ["unshare", "-m", "sh", "-c", setup],
            env={**os.environ, "SYSTEMD_LOG_LEVEL": "debug", "SYSTEMD_LOG_TARGET": "console"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.netns("/lib/systemd/systemd-networkd", "unshare")
def test_systemds_client_gets_a_lease(home):
    printer = home.members["c"]
    networkd(printer, MACHINES["c"])

    def leased():
        found = printer.call(netlink.addresses, "eth0")
        return next((each for each in found if each.startswith("10.77.0.1")), None)

    try:
        address = wait_until(leased, "address from systemd-networkd", timeout=60)
    except Exception:
        print((printer.directory / "networkd" / "log").read_text()[-4000:])
        raise
    assert leases(home)[MACHINES["c"]]["address"] == address.partition("/")[0]


@pytest.mark.netns("qemu-system-x86_64", "ip")
def test_a_machine_that_boots_from_the_network_gets_a_lease(home):
    """iPXE, in the boot ROM of QEMU's network card, on an emulated processor."""
    gate, mac = home.members["gate"], "52:54:00:00:00:0d"
    gate.run(["ip", "tuntap", "add", "tap0", "mode", "tap"])
    gate.run(["ip", "link", "set", "tap0", "master", "br0", "up"])
    machine = gate.popen(
        [
            *("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "64", "-nodefaults"),
            *("-display", "none", "-boot", "n", "-netdev"),
            *("tap,id=lan,ifname=tap0,script=no,downscript=no", "-device"),
            f"e1000,netdev=lan,mac={mac}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        lease = wait_until(lambda: leases(home).get(mac), "lease of iPXE", timeout=120)
        assert lease["address"].startswith("10.77.0.1")
    finally:
        machine.kill()
        machine.wait(20)


@pytest.mark.netns("dnsmasq", "udhcpc")
def test_another_server_is_stopped_until_its_port_is_trusted(home):
    """And then the switch is silent."""
    rogue, phone = home.host("rogue"), home.members["b"]
    home.join("rogue")
    home.wait_connected("rogue")
    rogue.call(netlink.add_address, DEV, "10.99.0.1/24")
    serve_leases(rogue, "10.99.0")
    told, script = script_of(phone)
    ask = ["udhcpc", "-f", "-q", "-n", "-t10", "-B", "-ieth0", f"-s{script}"]

    def stopped():
        phone.run(ask)
        assert read(told)["ip"] == "10.77.0.50"
        return home.port("rogue")["drops"].get("dhcp_guard")

    wait_until(stopped, "offers of another server that are dropped", timeout=60)
    shown = home.command(home.switch, "port", "show", "rogue").stdout
    assert re.search(r"dhcp_guard = true +# \[dhcp\]", shown)
    home.command(home.switch, "port", "set", "rogue", "trusted=yes")

    def silent():
        phone.run(ask, check=False)
        return "silent: 10.99.0.1 is" in home.command(home.switch, "leases").stdout

    wait_until(silent, "silence beside the other server", timeout=60)
    phone.run(ask)
    assert read(told)["ip"].startswith("10.99.0.")
    events = home.command(home.switch, "events").stdout
    assert "dhcp-quiet" in events
