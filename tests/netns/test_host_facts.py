"""What the kernel says of a host, and that the route to the LAN stands behind all others."""

import subprocess
from ipaddress import ip_address, ip_network

import pytest

from vswitch.devices import netlink
from vswitch.devices.tap import LAN_METRIC, TapConfig, _replace_address, attach
from vswitch.errors import VswitchError

pytestmark = [pytest.mark.netns, pytest.mark.inside]


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def host():
    """Its own bridge, and a TAP of ours."""
    netlink.create_bridge("br0")
    netlink.add_address("br0", "192.0.2.9/24")
    netlink.create_tap("vsw0")
    netlink.configure("vsw0", up=True)
    yield
    netlink.delete("vsw0")
    netlink.delete("br0")


def test_addresses_gateways_and_networks_of_the_host_are_read(host, tmp_path, monkeypatch):
    netlink.add_address("vsw0", "10.77.0.2/24")
    ip("route", "add", "10.78.0.0/24", "via", "10.77.0.1", "dev", "vsw0")
    several = [word for last in (7, 8) for word in ("nexthop", "via", f"192.0.2.{last}")]
    ip("route", "add", "10.9.0.0/16", *several)
    ip("-4", "route", "add", "10.12.0.0/16", "via", "inet6", "fe80::5", "dev", "br0")
    ip("route", "add", "10.10.0.0/16", "via", "192.0.2.3", "table", "77")
    ip("route", "add", "blackhole", "10.11.0.0/16")
    ip("-6", "route", "add", "default", "via", "fe80::6", "dev", "br0")
    ip("address", "add", "192.168.7.1", "peer", "192.168.7.2", "dev", "br0")
    names = tmp_path / "resolv.conf"
    names.write_text(
        "# nameserver 9.9.9.1\nnameserver 9.9.9.9\nnameserver fe80::53%br0\nnameserver x\n"
    )
    monkeypatch.setattr(netlink, "RESOLVERS", (names, tmp_path / "none"))
    facts = netlink.host_facts("vsw0")
    ours = [ip_address("10.77.0.2"), ip_network("10.77.0.0/24"), ip_network("10.78.0.0/24")]
    assert not facts.addresses & set(ours)
    assert {*map(ip_address, ("192.0.2.9", "192.168.7.1", "192.168.7.2"))} <= facts.addresses
    found = ("192.0.2.7", "192.0.2.8", "192.0.2.3", "fe80::5", "fe80::6")
    assert facts.gateways == {*map(ip_address, found)}
    assert facts.resolvers == {ip_address("9.9.9.9"), ip_address("fe80::53")}
    assert not facts.networks & set(ours)
    routed = (
        "10.12.0.0/16",
        "192.0.2.0/24",
        "10.9.0.0/16",
        "10.10.0.0/16",
        "10.11.0.0/16",
        "192.168.7.2/32",
    )
    assert {*map(ip_network, routed)} <= facts.networks
    assert facts.ipv6
    # One that does not exist yet has nothing of its own.
    assert ip_address("10.77.0.2") in netlink.host_facts("vsw9").addresses


@pytest.mark.parametrize("state", ["0", "1"])
def test_ipv6_of_the_bridge_counts_as_well(host, state):
    netlink.configure("vsw0", master="br0")
    for name, value in (("vsw0", "1"), ("br0", state)):
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
            file.write(value)
    assert netlink.host_facts("vsw0").ipv6 is (state == "0")


@pytest.mark.parametrize("lan", ["192.0.2.77/24", "fd77::9/64"])
def test_a_route_of_the_host_goes_before_that_of_the_lan(host, lan):
    netlink.add_address("br0", "fd77::1/64")
    attached = attach(TapConfig("vsw0", address=lan))
    assert attached.persistent
    where = ip("route", "get", "192.0.2.55" if "." in lan else "fd77::55")
    assert "dev br0" in where
    family = "-4" if "." in lan else "-6"
    assert "dev vsw0 proto kernel" in ip(family, "route")
    assert f"metric {LAN_METRIC}" in ip(family, "route", "show", "dev", "vsw0")


def test_an_address_that_is_refused_leaves_the_one_before(host):
    netlink.add_address("vsw0", "10.77.0.2/24", metric=LAN_METRIC)
    before = ip("route")
    with pytest.raises(VswitchError):
        _replace_address("vsw0", "10.77.0.2/24", "::/0")
    assert "10.77.0.2/24" in netlink.addresses("vsw0")
    assert ip("route") == before


def test_interfaces_are_listed_with_their_addresses(host):
    netlink.add_address("br0", "192.0.2.10/24")
    found = {link.name: (link.kind, link.up, addresses) for link, addresses in netlink.interfaces()}
    assert found["br0"][0] == "bridge"
    assert found["br0"][2][:2] == ["192.0.2.9/24", "192.0.2.10/24"]
    assert found["vsw0"][:2] == ("tun", True)
    assert "lo" not in found
