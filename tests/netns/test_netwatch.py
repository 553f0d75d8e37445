"""The kernel's notices of changes, and its ways, where nobody else changes anything."""

import subprocess

import pytest
import trio

from vswitch.devices import netlink
from vswitch.devices.host_interface import Way
from vswitch.devices.notices import REST, SETTLE, watch_network
from vswitch.joining.host_changes import WayWatch

pytestmark = [pytest.mark.netns("ip"), pytest.mark.inside]

SWITCH, SWITCH6 = "203.0.113.9", "2001:db8:9::9"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


async def test_changes_of_addresses_and_links_are_told_and_nothing_else(nursery):
    heard = []

    async def changed():
        await trio.lowlevel.checkpoint()
        heard.append(trio.current_time())

    nursery.start_soon(watch_network, changed)
    await trio.sleep(0.3)
    heard.clear()
    for number, change in enumerate(
        (
            lambda: netlink.create_bridge("br0"),
            lambda: netlink.configure("br0", up=False),
            lambda: netlink.configure("br0", up=True),
            lambda: netlink.add_address("br0", "192.0.2.1/24"),
            lambda: netlink.add_address("br0", "2001:db8::1/64"),
            lambda: netlink.remove_address("br0", "192.0.2.1/24"),
            lambda: netlink.delete("br0"),
        )
    ):
        await trio.to_thread.run_sync(change)
        await trio.sleep(SETTLE + REST + 0.4)
        assert heard, number
        assert len(heard) <= 8  # volleys, not single notices
        await trio.sleep(1.2)  # duplicate address detection has its own
        heard.clear()
    await trio.sleep(1)
    assert heard == []


@pytest.fixture
def host():
    """Two networks, of which the first leads to the switch."""
    for name, subnet in (("eth0", "10.1"), ("eth1", "10.2")):
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}far")
        ip("link", "set", f"{name}far", "up")
        ip("link", "set", name, "up")
        ip("addr", "add", f"{subnet}.0.5/24", "dev", name)
        ip("addr", "add", f"fd00:{subnet[-1]}::5/64", "dev", name, "nodad")
    ip("route", "add", "default", "via", "10.1.0.1")
    ip("route", "add", "default", "via", "fd00:1::1", "dev", "eth0")
    yield
    for name in ("eth0", "eth1"):
        netlink.delete(name)


def test_the_way_is_what_the_kernel_does(host):
    index = netlink.find_link("eth0").index
    ways = netlink.ways_to([SWITCH, SWITCH6, "10.1.0.7"])
    assert ways == {
        SWITCH: Way("eth0", index, "10.1.0.1", "10.1.0.5"),
        SWITCH6: Way("eth0", index, "fd00:1::1", "fd00:1::5"),
        "10.1.0.7": Way("eth0", index, None, "10.1.0.5"),
    }
    assert netlink.ways_to([SWITCH], "eth1")[SWITCH].dev == "eth1"
    assert netlink.ways_to([SWITCH], "10.2.0.5")[SWITCH].source == "10.2.0.5"
    assert netlink.ways_to([SWITCH], "eth7") == {SWITCH: None}
    assert netlink.ways_to(["fe80::9%eth1"])["fe80::9%eth1"].dev == "eth1"
    ip("route", "del", "default", "via", "10.1.0.1")
    assert netlink.ways_to([SWITCH]) == {SWITCH: None}


UNRELATED = {
    "a route": ["route", "add", "198.18.0.0/24", "dev", "eth1"],
    "no route": ["route", "del", "198.18.0.0/24", "dev", "eth1"],
    "an address": ["addr", "add", "10.9.0.1/24", "dev", "eth1"],
    "an address of the way's interface": ["addr", "add", "10.8.0.1/24", "dev", "eth0"],
    "a container": ["link", "add", "veth9", "type", "veth", "peer", "name", "veth9far"],
    "no container": ["link", "del", "veth9"],
    "a prefix, advertised again": [
        "addr",
        "change",
        "fd00:1::5/64",
        "dev",
        "eth0",
        "valid_lft",
        "9999",
        "preferred_lft",
        "9",
    ],
    "another default route": ["route", "add", "default", "via", "10.2.0.1", "metric", "900"],
    "an interface down": ["link", "set", "eth1", "down"],
}
RELATED = {
    "a better route": ["route", "add", "203.0.113.0/24", "via", "10.1.0.2"],
    "another source": ["route", "replace", "203.0.113.0/24", "via", "10.1.0.2", "src", "10.8.0.1"],
    "another gateway": ["route", "replace", "203.0.113.0/24", "via", "10.1.0.3"],
    "no link": ["link", "set", "eth0", "down"],
}


async def test_only_what_leads_to_the_switch_counts(host):
    async def look(hosts):
        return await trio.to_thread.run_sync(netlink.ways_to, hosts)

    watch = WayWatch(look)
    assert await watch.changed([SWITCH, SWITCH6]) == {SWITCH, SWITCH6}
    for what, words in UNRELATED.items():
        await trio.to_thread.run_sync(ip, *words)
        assert await watch.changed([SWITCH, SWITCH6]) == frozenset(), what
    for what, words in RELATED.items():
        await trio.to_thread.run_sync(ip, *words)
        assert SWITCH in await watch.changed([SWITCH, SWITCH6]), what
    assert watch.through("eth1") == []
