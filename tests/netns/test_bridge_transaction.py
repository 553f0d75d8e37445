"""What an interface carries while it is bridged and afterwards, as `ip` shows it: all of it, or as
before. Each test is one kind of host; what a kind shares with others is tested by each.
"""

import errno
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from vswitch.devices import carried as carried_module
from vswitch.devices import netlink
from vswitch.devices.bridge import in_bridge, open_host_end
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.errors import VswitchError
from vswitch.lab import wait_until

pytestmark = [pytest.mark.netns("ip"), pytest.mark.inside]

BRIDGE = "vsb-eth1"
SETTINGS = Path("/proc/sys/net")
TIMED = re.compile(r"(valid_lft|preferred_lft|expires) (\d+)sec")
SECONDS = 60  # that a test may take, of a lifetime


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def value_of(setting):
    return setting.read_text().strip()


def set_to(setting, value):
    setting.write_text(value)


@pytest.fixture
def eth1():
    # Without duplicate detection nothing is tentative, and two looks are alike.
    set_to(SETTINGS / "ipv6/conf/default/accept_dad", "0")
    ip("link", "set", "lo", "up")
    ip("link", "add", "eth1", "type", "veth", "peer", "name", "far1")
    ip("link", "set", "far1", "up")
    ip("link", "set", "eth1", "up")
    yield
    for name in (BRIDGE, "eth1", "eth2"):
        netlink.delete(name)


def carried(name):
    """Addresses and routes of an interface in `ip`'s words, without its name and running times."""
    lines = []
    shown = ip("addr", "show", "dev", name).splitlines()
    at = [number for number, line in enumerate(shown) if line.startswith("    inet")]
    addresses = [f"{shown[n].strip()} {shown[n + 1].strip()}" for n in at]
    for family in ("-4", "-6"):
        shown = ip("-d", family, "route", "show", "table", "all").replace("\n\t", " ")
        lines += [line.strip() for line in shown.splitlines() if f"dev {name} " in f"{line} "]
    kept = [
        re.sub(rf" {name}(?=\s|$)", " DEV", line)
        for line in (*addresses, *lines)
        if "fe80::" not in line and "ff00::/8" not in line and "table local" not in line
    ]
    # Order counts among addresses alone: the first of a subnet is primary.
    routes = sorted(line for line in kept if not line.startswith("inet"))
    told = [line for line in kept if line.startswith("inet")] + routes
    # 3,600 and 3,555 seconds of an hour are the same; "forever" is not.
    return [
        TIMED.sub(lambda m: f"{m[1]} ~{-(-int(m[2]) // SECONDS) * SECONDS}", line) for line in told
    ]


PLAIN = """
addr add 192.168.1.50/24 brd + dev eth1 valid_lft 3600 preferred_lft 1800
route add default via 192.168.1.1 dev eth1 src 192.168.1.50 metric 100 mtu 1400
route add default via 192.168.1.1 dev eth1 table 100
"""
LINK_ROUTE = """
addr add 198.51.100.7/32 dev eth1
route add 172.31.1.1 dev eth1 scope link
route add default via 172.31.1.1 dev eth1
"""
ONLINK = """
addr add 198.51.100.7/32 dev eth1
route add default via 172.31.1.1 dev eth1 onlink
"""
SIX = """
addr add 2001:db8::7/128 dev eth1
-6 route add fe80:1::1 dev eth1
-6 route add default via fe80:1::1 dev eth1
-6 route add 2001:db8:9::/48 via fe80::9 dev eth1 src 2001:db8::7 metric 7 pref high expires 900
"""
TWO = """
addr add 192.168.1.50/24 dev eth1
addr add 192.168.1.51/24 dev eth1
route add default via 192.168.1.1 dev eth1
"""
MANY = """
addr add 192.168.1.51/24 dev eth1 label eth1:web
addr add 192.168.1.50/24 dev eth1
addr add 192.168.1.9/32 dev eth1
addr add 10.9.0.1 peer 10.9.0.2/32 dev eth1
addr add 10.8.0.1/24 metric 77 dev eth1
addr add 10.7.0.1/24 noprefixroute dev eth1
addr add fe80::1/64 dev eth1
addr add 2001:db8::5/64 dev eth1
addr add 2001:db8:1::5/64 dev eth1 valid_lft 3000 preferred_lft 0
route add 10.7.0.0/24 dev eth1 scope link src 10.7.0.1 metric 30
route add 10.1.0.0/16 via 192.168.1.1 dev eth1 table 1000 realms 7 proto static
route add 10.2.0.0/16 via inet6 fe80::9 dev eth1
route add 10.3.0.0/16 via 192.168.1.1 dev eth1 tos 0x10 window 9000 advmss 1200 initcwnd 20
route add 10.3.0.0/16 via 192.168.1.2 dev eth1 metric 9 mtu lock 1300 quickack 1
route add 10.4.0.0/16 nexthop via 192.168.1.1 dev eth1 weight 3 nexthop dev lo weight 2
-6 route add default via 2001:db8::1 dev eth1 src 2001:db8::5 metric 5 mtu 1300
-6 route add 2001:db8:f::/64 nexthop via 2001:db8::1 dev eth1 weight 4 nexthop via fe80::2 dev eth1
"""
HOSTS = {
    "plain": PLAIN,
    "link_route": LINK_ROUTE,
    "onlink": ONLINK,
    "six": SIX,
    "two": TWO,
    "many": MANY,
}


def set_up(text):
    for line in text.strip().splitlines():
        if " src " in line:  # which a tentative address cannot be
            wait_until(lambda: "tentative" not in ip("addr", "show", "dev", "eth1"), "the address")
        ip(*line.split())


@pytest.fixture(params=HOSTS)
def host(request, eth1):
    set_up(HOSTS[request.param])
    return carried("eth1")


async def test_all_of_it_moves_and_comes_back(host):
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        assert carried(BRIDGE) == host
        assert carried("eth1") == []
    assert carried("eth1") == host
    assert netlink.find_link(BRIDGE) is None


async def test_a_failure_at_any_step_leaves_all_as_it_was(host, monkeypatch):
    """The kernel is asked, and its answer to the n-th request is taken for a refusal."""
    real, left = carried_module._request, 0

    def request(ipr, message, kind, flags, forgive):
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return real(ipr, message, kind, flags, forgive)

    async with open_tap(TapConfig("vsw0")):
        async with in_bridge("vsw0", "eth1"):
            pass
        monkeypatch.setattr(carried_module, "_request", request)
        for number in range(1, 200):
            left = number
            survived = False
            with suppress(VswitchError):
                async with in_bridge("vsw0", "eth1"):
                    survived = left > 0
                    left = 0
            assert carried("eth1") == host, number
            assert netlink.find_link(BRIDGE) is None
            assert netlink.find_link("vsw0").master is None
            if survived:
                return
    pytest.fail("the move does not end")


JOINED = """
import sys, trio
from vswitch.devices.bridge import in_bridge
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
async def main():
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        print("bridged", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def bridge_and_be_killed(program=JOINED):
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: netlink.find_link("vsw0") is None, "end of the TAP")


class Wishes:
    bridge_dhcp = bridge_ra = False

    def __init__(self, bridge):
        self.bridge = bridge


@pytest.mark.parametrize("wished", [None, "eth1", "br0"])
async def test_what_was_killed_is_put_back_by_the_next_start(eth1, wished):
    set_up(MANY)
    host = carried("eth1")
    bridge_and_be_killed()
    assert carried(BRIDGE) == host
    if wished == "br0":
        netlink.create_bridge("br0")
    async with open_host_end(open_tap, TapConfig("vsw0"), Wishes(wished)):
        where = BRIDGE if wished == "eth1" else "eth1"
        assert carried(where) == host
        assert (netlink.find_link(BRIDGE) is None) == (where == "eth1")
    assert carried("eth1") == host
    assert netlink.find_link(BRIDGE) is None
    netlink.delete("br0")


KILLED_AT = """
import os, signal
from vswitch.devices import carried
real, left = carried._request, {}
def request(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
carried._request = request
"""


async def test_what_was_killed_in_the_middle_is_put_back_too(eth1):
    set_up(SIX)
    before = carried("eth1")
    for number in range(1, 12, 2):  # five things are given, one of them settled, and taken
        bridge_and_be_killed(KILLED_AT.format(number) + JOINED)
        async with open_host_end(open_tap, TapConfig("vsw0"), Wishes("eth1")):
            assert detected(BRIDGE) == before
            assert carried("eth1") == []
        assert detected("eth1") == before


def detected(name):
    """As `carried`; killed at one certain moment, an address stays one that needs no detection."""
    return [line.replace(" nodad", "") for line in carried(name)]


async def test_one_that_is_being_made_or_used_is_left_alone(eth1):
    set_up(PLAIN)
    async with open_tap(TapConfig("vsw1")), in_bridge("vsw1", "eth1"):
        before = carried(BRIDGE)
        async with open_host_end(open_tap, TapConfig("vsw0"), Wishes(None)):
            assert carried(BRIDGE) == before
    netlink.create_bridge("vsb-eth9", alias="vswitch bridge of eth9")
    async with open_host_end(open_tap, TapConfig("vsw0"), Wishes(None)):
        assert netlink.find_link("vsb-eth9") is not None
    netlink.delete("vsb-eth9")


async def test_what_came_meanwhile_goes_to_the_interface(eth1):
    set_up(TWO)
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        ip("addr", "del", "192.168.1.51/24", "dev", BRIDGE)  # as a DHCP client does
        ip(
            "addr",
            "add",
            "192.168.1.77/24",
            "dev",
            BRIDGE,
            "valid_lft",
            "600",
            "preferred_lft",
            "60",
        )
        ip("route", "add", "10.6.0.0/16", "via", "192.168.1.1")
        now = carried(BRIDGE)
    assert carried("eth1") == now


async def test_a_route_of_others_keeps_its_place(eth1):
    set_up(TWO)
    ip("link", "add", "eth2", "type", "veth", "peer", "name", "far2")
    ip("link", "set", "eth2", "up")
    ip("addr", "add", "10.0.0.1/24", "dev", "eth2")
    ip("route", "append", "default", "via", "10.0.0.9", "dev", "eth2", "metric", "50")
    before = carried("eth2")
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        assert carried("eth2") == before
    assert carried("eth2") == before
    netlink.delete("eth2")


async def test_what_cannot_be_told_in_full_is_refused_before_anything_changes(eth1):
    set_up(PLAIN)
    ip("nexthop", "add", "id", "5", "via", "192.168.1.1", "dev", "eth1")
    ip("route", "add", "10.6.0.0/16", "nhid", "5")
    before = carried("eth1")
    index = netlink.find_link("eth1")
    async with open_tap(TapConfig("vsw0")):
        with pytest.raises(VswitchError, match=r"10\.6\.0\.0/16 of eth1 .* bridge of your own"):
            async with in_bridge("vsw0", "eth1"):
                pass
    assert (carried("eth1"), netlink.find_link("eth1")) == (before, index)


async def test_an_interface_that_no_bridge_takes_stays_as_it_is(eth1):
    set_up(PLAIN)
    ip("link", "add", "link", "eth1", "name", "mac0", "type", "macvlan")  # has its receive handler
    before = carried("eth1")
    async with open_tap(TapConfig("vsw0")):
        with pytest.raises(VswitchError, match=r"cannot configure eth1: .*busy"):
            async with in_bridge("vsw0", "eth1"):
                pass
    assert carried("eth1") == before
    assert netlink.find_link(BRIDGE) is None


async def test_an_interface_that_was_down_is_down_again(eth1):
    ip("addr", "add", "10.5.0.1/24", "dev", "eth1")
    ip("link", "set", "eth1", "down")
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        assert netlink.find_link("eth1").up
    assert not netlink.find_link("eth1").up
    assert "10.5.0.1/24" in netlink.addresses("eth1")
    ip("link", "set", "eth1", "up")


async def test_an_alternative_name_is_the_same_interface(eth1):
    set_up(PLAIN)
    ip("link", "property", "add", "dev", "eth1", "altname", "enx001122334455")
    before = carried("eth1")
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "enx001122334455") as place:
        assert (place.bridge, place.interface) == (BRIDGE, "eth1")
    assert netlink.find_link(BRIDGE) is None
    assert carried("eth1") == before
    bridge_and_be_killed(JOINED.replace('"eth1"', '"enx001122334455"'))
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "enx001122334455"):
        assert carried(BRIDGE) == before
    assert carried("eth1") == before


@pytest.mark.parametrize(("bridge", "lan"), [(9000, 1500), (1500, 1500), (1400, 9000)])
async def test_a_bridge_keeps_its_mtu(eth1, bridge, lan, caplog):
    caplog.set_level("INFO")
    ip("link", "set", "eth1", "mtu", str(bridge))
    netlink.create_bridge("br0")
    ip("link", "set", "eth1", "master", "br0")
    async with open_tap(TapConfig("vsw0", mtu=lan)) as tap, in_bridge("vsw0", "br0"):
        assert netlink.find_link("br0").mtu == bridge
        await tap.set_mtu(1280)  # as the switch says later
        assert netlink.find_link("br0").mtu == bridge
    assert netlink.find_link("br0").mtu == bridge
    assert ("bridge-mtu" in caplog.text) == (lan < bridge)
    netlink.delete("br0")
    async with open_tap(TapConfig("vsw0", mtu=576)), in_bridge("vsw0", "eth1"):
        assert netlink.find_link(BRIDGE).mtu == bridge
    assert netlink.find_link("eth1").mtu == bridge


async def test_the_bridge_hears_and_forwards_as_the_interface_did(eth1):
    settings = {"ipv6/conf/eth1/accept_ra": "2", "ipv4/conf/eth1/rp_filter": "2"}
    for name, value in settings.items():
        set_to(SETTINGS / name, value)
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        for name, value in settings.items():
            assert value_of(SETTINGS / name.replace("eth1", BRIDGE)) == value


FIREWALL = SETTINGS / "bridge/bridge-nf-call-iptables"


@pytest.mark.skipif(not FIREWALL.exists(), reason="this kernel has not loaded br_netfilter")
@pytest.mark.parametrize("on", [False, True])
async def test_a_firewall_on_bridges_is_named(eth1, caplog, on):
    set_to(FIREWALL.with_name("bridge-nf-call-ip6tables"), "0")
    set_to(FIREWALL, str(int(on)))
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        pass
    told = "`sysctl -w net.bridge.bridge-nf-call-iptables=0` ends that" in caplog.text
    assert told == on == ("bridge-filtered" in caplog.text)


async def test_a_source_address_is_proven_again_only_if_it_was_not(eth1):
    """With duplicate detection, during which an address can be the source of no route."""
    for name in ("eth1", "default"):
        set_to(SETTINGS / f"ipv6/conf/{name}/accept_dad", "1")
    set_up(SIX)
    before = carried("eth1")
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        assert carried(BRIDGE) == before
    assert carried("eth1") == before
    ip("addr", "add", "2001:db8::8/64", "dev", "eth1")  # and at once:
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        assert "2001:db8::8/64 scope global tentative" in ip("addr", "show", "dev", BRIDGE)
        wait_until(lambda: "tentative" not in ip("addr", "show", "dev", BRIDGE), "a proven address")
    assert "2001:db8::8/64 scope global \n" in ip("addr", "show", "dev", "eth1")
