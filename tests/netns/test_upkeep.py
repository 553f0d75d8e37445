"""An interface that other programs change, and what it takes of router advertisements."""

import struct
import subprocess
from pathlib import Path

import pytest
import trio

from vswitch.devices import netlink
from vswitch.devices.bridge import open_host_end
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.frames.build import checksum
from vswitch.frames.records import frame_record
from vswitch.lab import wait_until

pytestmark = [pytest.mark.netns("ip"), pytest.mark.inside]

ADDRESS = "10.77.0.2/24"
ROUTER = bytes.fromhex("fe80") + bytes(13) + b"\x09"


class Wishes:
    bridge_dhcp = bridge_ra = False

    def __init__(self, bridge=None):
        self.bridge = bridge


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


async def in_thread(question, what):
    return await trio.to_thread.run_sync(lambda: wait_until(question, what))


def link_local(name):
    return [each for each in netlink.addresses(name) if each.startswith("fe80")]


FLUSH = ["addr", "flush", "dev", "vsw0"]
CHANGES = {
    "flushed": [FLUSH],
    "another prefix": [
        ["addr", "del", ADDRESS, "dev", "vsw0"],
        ["addr", "add", "10.77.0.2/32", "dev", "vsw0"],
    ],
    "down": [["link", "set", "vsw0", "down"]],
    "mtu": [["link", "set", "vsw0", "mtu", "1280"]],
    "all of it": [FLUSH, ["link", "set", "vsw0", "mtu", "600", "down"]],
}


def as_set_up():
    found = netlink.condition("vsw0")
    kept = found.up and found.mtu == 1500 and ADDRESS in found.addresses
    return kept and found.link_local


@pytest.mark.parametrize("change", CHANGES)
async def test_what_another_program_takes_away_is_put_back(change, caplog):
    config = TapConfig("vsw0", mtu=1500, address=ADDRESS)
    async with open_host_end(open_tap, config, Wishes()) as tap:
        await in_thread(lambda: link_local("vsw0"), "link-local address")
        await trio.sleep(0.3)  # the watch has begun
        before = link_local("vsw0")
        assert await tap.lacking() == {}
        for words in CHANGES[change]:
            await trio.to_thread.run_sync(ip, *words)
        await in_thread(as_set_up, "the interface as it was set up")
        assert link_local("vsw0") == before
        assert f"metric {32000}" in ip("route", "show", "10.77.0.0/24", "dev", "vsw0")
    assert "interface-mended" in caplog.text


async def test_what_we_change_ourselves_is_no_fight(caplog):
    async with open_host_end(open_tap, TapConfig("vsw0", address=ADDRESS), Wishes()) as tap:
        await trio.sleep(0.3)
        for number in range(5):
            await tap.set_address(f"10.77.{number}.2/24")
            await tap.set_mtu(1400 + number)
        await trio.sleep(1.5)
        assert netlink.condition("vsw0").addresses & {ADDRESS, "10.77.3.2/24"} == set()
        await tap.set_address(None)
        await trio.sleep(1.5)
        assert [each for each in netlink.addresses("vsw0") if ":" not in each] == []
    assert "interface-" not in caplog.text


async def test_a_tap_in_a_bridge_is_kept_up_and_without_addresses(caplog):
    netlink.create_bridge("br0")
    async with open_host_end(open_tap, TapConfig("vsw0"), Wishes("br0")):
        await trio.sleep(0.3)
        await trio.to_thread.run_sync(ip, "link", "set", "vsw0", "down")
        await in_thread(lambda: netlink.find_link("vsw0").up, "the TAP up")
        assert netlink.addresses("vsw0") == []
        assert netlink.find_link("vsw0").master == "br0"
    netlink.delete("br0")


def router_advertisement():
    """Of a router that offers a prefix and itself, from a link-local address to all hosts."""
    prefix = bytes.fromhex("20010db800050000") + bytes(8)
    option = struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0) + prefix
    body = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option
    target = bytes.fromhex("ff02") + bytes(13) + b"\x01"
    pseudo = ROUTER + target + struct.pack(">II", len(body), 58)
    body = body[:2] + struct.pack(">H", checksum(pseudo + body)) + body[4:]
    head = struct.pack(">IHBB", 6 << 28, len(body), 58, 255) + ROUTER + target
    source = bytes.fromhex("020000000009")
    return frame_record(bytes.fromhex("333300000001") + source + b"\x86\xdd" + head + body)


@pytest.mark.parametrize(
    ("wish", "address", "router"),
    [("off", False, False), ("addresses", True, False), ("on", True, True)],
)
@pytest.mark.parametrize("forwards", [False, True])
async def test_a_router_of_the_lan_is_taken_when_asked_for(wish, address, router, forwards):
    """`addresses` on a host that forwards: the kernel takes no advertisements there at all."""
    forwarding = Path("/proc/sys/net/ipv6/conf/default/forwarding")
    await trio.to_thread.run_sync(forwarding.write_text, str(int(forwards)))
    address = address and not (forwards and wish == "addresses")
    async with open_tap(TapConfig("vsw0", accept_ra=wish)) as tap:
        await in_thread(lambda: link_local("vsw0"), "link-local address")
        assert tap.write_nowait([router_advertisement()]) == 1
        if address:
            await in_thread(lambda: "2001:db8:5:" in str(netlink.addresses("vsw0")), "an address")
        await trio.sleep(0.5)
        assert ("2001:db8:5:" in str(netlink.addresses("vsw0"))) == address
        assert ("default" in ip("-6", "route", "show", "dev", "vsw0")) == router
    await trio.to_thread.run_sync(forwarding.write_text, "0")
