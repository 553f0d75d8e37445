"""A LAN behind a member, and three switches that are one LAN by the bridges of their hosts."""

import signal
import sys

import pytest

from tests.netns.tools import Lines, reach
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV, PORT

EXPERIMENTAL = 0x88B5
SITES = ("site1", "site2", "site3")


SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
    sock.bind((sys.argv[1], 0))
    source = sock.getsockname()[4]
    sock.send((b"\\xff" * 6 + source + bytes.fromhex(sys.argv[2])).ljust(60, b"\\0"))
"""


def broadcast(host, dev, ethertype, payload):
    """Send one frame to all."""
    content = ethertype.to_bytes(2, "big") + payload
    host.run([sys.executable, "-c", SEND, dev, content.hex()])


@pytest.mark.netns("ping", "tcpdump", "ip")
def test_a_lan_behind_a_member(empty_lan):
    lan = empty_lan
    lan.serve()
    lan.join("pc1", "--address", "none")
    gate, printer = lan.host("gate"), lan.lab.host("printer")
    gate.call(netlink.create_veth, "lan0", "eth0", peer_pid=printer.pid)
    gate.call(netlink.configure, "lan0", up=True)
    printer.call(netlink.configure, "eth0", up=True)
    printer.call(netlink.add_address, "eth0", "10.9.0.9/24")
    gate.call(netlink.add_address, "lan0", "10.9.0.1/24")
    program = lan.join("gate", "--bridge", "lan0")
    lan.wait_connected("pc1", "gate")
    pc1 = lan.members["pc1"]
    pc1.call(netlink.add_address, DEV, "10.9.0.77/24")
    reach(pc1, "10.9.0.9")
    reach(pc1, "10.9.0.1")
    reach(printer, "10.9.0.77")
    assert gate.call(netlink.addresses, DEV) == []
    assert lan.port("gate")["address"] is None

    # Wake-on-LAN passes, DHCP does not, in either direction.
    here, there = Lines(pc1, DEV, "-e"), Lines(printer, "eth0", "-e")
    for host, dev in ((printer, "eth0"), (pc1, DEV)):
        broadcast(host, dev, 0x0800, dhcp())
        broadcast(host, dev, 0x0842, b"\xff" * 6 + bytes(96))
        broadcast(host, dev, EXPERIMENTAL, b"last")
    for capture in (here, there):
        wait_until(lambda c=capture: c.text().count("0x88b5") == 2, "both last frames")
        capture.stop()
        assert capture.text().count("0x0842") == 2
        assert capture.text().count(".67: ") == 1  # its own
    status = lan.command(gate, "status", "--json").stdout
    assert '"dhcp": 2' in status

    assert program.stop(signal.SIGTERM) == 0
    assert gate.call(netlink.find_link, "vsb-lan0") is None
    assert gate.call(netlink.find_link, "lan0").master is None
    assert "10.9.0.1/24" in gate.call(netlink.addresses, "lan0")

    program = lan.join("gate", "--bridge", "lan0")
    lan.wait_connected("gate")
    reach(pc1, "10.9.0.9")
    program.process.kill()
    program.process.wait(20)
    assert gate.call(netlink.find_link, "vsb-lan0") is not None
    program = lan.join("gate", "--bridge", "lan0")
    reach(pc1, "10.9.0.9")
    assert "bridge-adopted" in program.tail()
    assert program.stop(signal.SIGTERM) == 0
    assert gate.call(netlink.find_link, "vsb-lan0") is None
    lan.stop()


def dhcp():
    """IPv4 and UDP of a DHCP discover, as far as anybody looks."""
    return (
        bytes.fromhex("4500011c00000000401179d200000000ffffffff")
        + bytes.fromhex("0044004301080000")
        + bytes(256)
    )


def underlay_address(host):
    (address,) = [a for a in host.call(netlink.addresses, "eth0") if ":" not in a]
    return address.partition("/")[0]


def serve_site(lan, site, host, *vxlan):
    """A switch whose LAN is the bridge of its host, with one VXLAN interface for all others."""
    address = underlay_address(host)
    host.call(netlink.create_bridge, "br0")
    host.run(["ip", "link", "add", "vx0", "type", "vxlan", *vxlan, "local", address])
    # See test_foreign.py; and one VXLAN port for all peers: a bridge sends nothing back to the
    # port where it came from, which is the split horizon.
    host.run(["ethtool", "-K", "vx0", "tx", "off", "tso", "off", "gso", "off"])
    host.run(["ip", "link", "set", "vx0", "master", "br0", "up"])
    lan.programs[site] = lan._start(
        host,
        "serve",
        *("--listen", f":{PORT}", "--public", address, "--mtu", "1450"),
        *("--local-port", "--bridge", "br0", "--dev", "vsw9"),
    )


def join_sites(lan, switches):
    """Two members for each switch: their hosts, and their addresses."""
    members, where = {}, {}
    for number, (site, switch) in enumerate(switches.items()):
        for letter in "ab":
            name, host = f"{site}{letter}", lan.host(f"{site}{letter}")
            wait_until(
                lambda s=switch: lan.command(s, "status", check=False).returncode == 0,
                f"answer of {site}",
            )
            invite = lan.command(switch, "invite", name).stdout.strip()
            lan.join(name, "--address", "none", invite=invite)
            wait_until(lambda h=host: h.call(netlink.find_link, DEV), f"TAP of {name}")
            wait_until(lambda n=name: "connected" in lan.programs[n].tail(), f"{name} connected")
            members[name], where[name] = host, f"10.99.{number}.{ord(letter)}"
            host.call(netlink.add_address, DEV, f"{where[name]}/16")
    return members, where


def seen(capture, ethertype):
    """Frames of that type which a capture has told of."""
    lines = capture.text().splitlines()
    return sum(" > " in line and ethertype in line for line in lines)


def reaches_all(host, addresses):
    """Whether each of them answers: one program for all."""
    each = 'for one; do ping -c1 -W1 "$one" || exit; done'
    return host.run(["sh", "-c", each, "sh", *addresses], check=False).returncode == 0


def one_lan(members, where):
    """Each reaches each other, and a broadcast of each arrives once at every other."""
    for source, host in members.items():
        others = [where[target] for target in members if target != source]
        wait_until(lambda h=host, o=others: reaches_all(h, o), f"answers to {source}")
    either = ("ether", "proto", "0x88b5", "or", "ether", "proto", "0x88b6")
    captures = {name: Lines(host, DEV, "-e", *either) for name, host in members.items()}
    for ethertype in (EXPERIMENTAL, EXPERIMENTAL + 1):
        for source in members:
            broadcast(members[source], DEV, ethertype, source.encode())
    for name, capture in captures.items():
        # What comes twice comes at once, so before the second frame of its sender.
        wait_until(lambda c=capture: seen(c, "0x88b6") >= len(members), "the last of everybody")
        capture.stop()
        assert seen(capture, "0x88b5") == len(members), (name, capture.text())


@pytest.mark.netns("ping", "tcpdump", "ip", "bridge", "ethtool")
def test_three_switches_are_one_lan(empty_lan):
    lan = empty_lan
    switches = {site: lan.host(site) for site in SITES}
    for site, host in switches.items():
        serve_site(lan, site, host, "id", "7", "dstport", "4789")
        for other in switches.values():
            if other is not host:
                flood = ["bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx0"]
                host.run([*flood, "dst", underlay_address(other)])
    one_lan(*join_sites(lan, switches))
    for site in SITES:
        assert lan.programs[site].stop() == 0
        assert switches[site].call(netlink.find_link, "vsw9") is None
        assert switches[site].call(netlink.find_link, "br0") is not None
