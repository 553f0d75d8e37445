"""A real `join`, as root of a host with a default route, and a switch that lies in its welcome."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vswitch.lab import wait_until
from vswitch.lab.lan import PORT, SWITCH_ADDRESS, Program

SCRIPT = Path(__file__).with_name("hostile_switch.py")
GATEWAY = "192.0.2.254"
TRUE = {"address": "10.77.0.2/24", "network": "10.77.0.0/24"}
# What the audit has seen taken, and more of the kinds.
LIES = [
    *("9.9.9.9/24", "128.0.0.1/1", "64.0.0.1/2", "2000::1/3", f"{GATEWAY}/25"),
    *(f"{SWITCH_ADDRESS}/32", "127.0.0.1/8", "224.0.0.5/4", "0.0.0.0/0", "::/0", "::1/128"),
    *("192.0.2.200/24", "::ffff:9.9.9.9/120", "10.78.0.2/24", "172.17.3.4/24", "fd77::1/3"),
]

EVIL_ROUTES = [
    *("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "192.0.2.0/24", f"{GATEWAY}/32", "192.0.0.0/8"),
    *(f"{SWITCH_ADDRESS}/32", "172.17.0.0/16", "172.17.3.0/24", "169.254.169.254/32"),
    *("10.77.0.0/25", "10.0.0.0/8", "127.0.0.0/8", "224.0.0.0/8", "255.255.255.255/32"),
]


class Switch:
    """The lying one, and what it is told to say."""

    def __init__(self, lan):
        self.lan, self.host = lan, lan.switch
        self.orders = self.host.directory / "orders"
        self.say(**TRUE)
        argv = lan.argv(self.host, "serve", "--listen", f":{PORT}", "--public", SWITCH_ADDRESS)
        argv = [sys.executable, str(SCRIPT), str(self.orders), *argv[3:]]
        log = self.host.directory / "serve.log"
        with log.open("wb") as output:
            process = self.host.popen(argv, stdout=output, stderr=subprocess.STDOUT)
        lan.programs["switch"] = Program(self.host, argv, log, process)
        wait_until(lambda: lan.status(), "answer of the switch")

    def say(self, **fields):
        """From now on, to all members, who come back for it."""
        new = self.orders.with_suffix(".new")
        # A moment makes two orders of the same words two orders.
        new.write_text(json.dumps(fields) + " " * (time.monotonic_ns() % 1000))
        new.replace(self.orders)


def routes(host):
    """All of the host, but for what the kernel gives each interface that is up."""
    said = [host.run(["ip", each, "route", "show", "table", "all"]).stdout for each in ("-4", "-6")]
    own = ("fe80::", "ff00::", "multicast ff00::", "local fe80::", "anycast fe80::")
    return [line for text in said for line in text.splitlines() if not line.startswith(own)]


@pytest.fixture(scope="module")
def switch(empty_lan):
    switch = Switch(empty_lan)
    for number in range(1, 8):
        host = empty_lan.host(f"pc{number}")
        host.run(["ip", "route", "add", "default", "via", GATEWAY, "dev", "eth0"])
        host.run(["ip", "link", "add", "docker0", "type", "bridge"])
        host.run(["ip", "address", "add", "172.17.0.1/16", "dev", "docker0"])
        host.run(["ip", "link", "set", "docker0", "up"])
    return switch


def up(lan, name):
    """The status of a member that is up, else None."""
    done = lan.command(lan.members[name], "status", "--json", check=False)
    (status,) = json.loads(done.stdout)["joins"] if done.returncode == 0 else [None]
    return status if status is not None and status["state"] == "up" else None


def until_refused(lan, name, offered):
    """What its status says then."""

    def asked():
        status = up(lan, name)
        said = "" if status is None else status["refused"].get("address", "")
        return status if said.startswith(f"{offered}: ") else None

    return wait_until(asked, f"refusal of {offered}")


@pytest.mark.netns
@pytest.mark.parametrize("bridged", [False, True])
def test_nothing_that_was_not_asked_for_becomes_a_route(switch, bridged):
    lan, name = switch.lan, "pc2" if bridged else "pc1"
    host, lies = lan.members[name], LIES[:4] if bridged else LIES
    before = routes(host)
    switch.say(address=lies[0], network="")
    program = lan.join(name, *(("--bridge", "docker0") if bridged else ("--address", "none")))
    for lie in lies:
        switch.say(address=lie, network="")
        status = until_refused(lan, name, lie)
        assert status["address"] is None
        assert routes(host) == before
    assert program.running
    assert program.stop() == 0


@pytest.mark.netns
@pytest.mark.parametrize("wish", ["auto", "10.77.0.9/24"])
def test_with_an_address_nothing_but_that_of_the_lan_becomes_a_route(switch, wish):
    lan, name = switch.lan, "pc3" if wish == "auto" else "pc4"
    host = lan.members[name]
    before = routes(host)
    taken = TRUE["address"] if wish == "auto" else wish
    switch.say(address=taken, network=TRUE["network"])
    program = lan.join(name, "--address", wish)
    wait_until(lambda: any("10.77.0.0/24" in line for line in routes(host)), "route of the LAN")
    lan_routes = set(routes(host)) - set(before)
    assert all("dev vsw0" in line and "10.77.0." in line for line in lan_routes)
    (connected,) = [line for line in lan_routes if line.startswith("10.77.0.0/24 ")]
    assert "metric 32000" in connected
    for lie in LIES if wish == "auto" else LIES[:4]:
        # It lies about the network, too, as it likes.
        switch.say(address=lie, network="")
        status = until_refused(lan, name, lie)
        assert status["address"] in (None, taken)
        assert set(routes(host)) - set(before) <= lan_routes
        assert set(before) <= set(routes(host))
    assert program.running
    log = program.log.read_text()
    assert len(log) < 200_000  # of the megabytes of notices
    assert "Traceback" not in log
    assert program.stop() == 0
    assert routes(host) == before


@pytest.mark.netns
def test_what_the_kernel_refuses_is_done_without(switch):
    """IPv6 is off at the interface, and the address is one of IPv6."""
    lan, host = switch.lan, switch.lan.members["pc5"]
    host.run(["sysctl", "-w", "net.ipv6.conf.default.disable_ipv6=1"])
    before = routes(host)
    switch.say(address="fd77::5/64", network="fd77::/64")
    program = lan.join("pc5")
    status = until_refused(lan, "pc5", "fd77::5/64")
    assert "Permission denied" in status["refused"]["address"]
    assert routes(host) == before
    switch.say(**TRUE)
    wait_until(
        lambda: (up(lan, "pc5") or {"address": None})["address"] == TRUE["address"],
        "another address",
    )
    assert program.stop() == 0


@pytest.mark.netns
@pytest.mark.parametrize("asked", [True, False])
def test_of_evil_routes_none_is_set(switch, asked):
    lan, name = switch.lan, "pc6" if asked else "pc7"
    host = lan.members[name]
    before = routes(host)
    evil = [f"{network} via 10.77.0.3 gw" for network in EVIL_ROUTES]
    elsewhere = ["192.168.8.0/24 via 192.0.2.254 gw", "192.168.9.0/24 via 10.77.0.2 gw"]
    honest = "192.168.7.0/24 via 10.77.0.3 gw"
    six = ["::/0 via fd77::3 gw", "2000::/3 via fd77::3 gw", "fe80::/64 via fd77::3 gw"]
    said = {"gateways": [*evil, *elsewhere, *six, honest], "address6": "2001:db8::2/64"}
    switch.say(**TRUE, **said)
    program = lan.join(name, *(("--accept-routes", "private") if asked else ()))

    def told():
        status = up(lan, name)
        return status if status is not None and status["routes_refused"] else None

    status = wait_until(told, "refusal of routes")
    assert list(status["routes"]) == (["192.168.7.0/24"] if asked else [])
    assert status["exit_node"] is None
    ways = [line for line in set(routes(host)) - set(before) if " via " in line]
    assert len(ways) == asked
    assert all(line.startswith("192.168.7.0/24 via 10.77.0.3 dev vsw0") for line in ways)
    assert set(before) <= set(routes(host))
    assert host.run(["ip", "rule"]).stdout.count("lookup") == 3
    assert program.stop() == 0
    assert routes(host) == before


@pytest.mark.netns
def test_names_of_others_stay_those_of_the_host(switch):
    """A switch that wants to be the name server of more than its LAN."""
    lan, host = switch.lan, switch.lan.members["pc7"]
    before = host.run(["cat", "/etc/hosts", "/etc/resolv.conf"]).stdout
    for lie in (
        {"names": ["10.77.0.1"], "domain": "com"},
        {"names": ["10.77.0.1"], "domain": ""},
        {"names": ["10.77.0.1"], "domain": "in-addr.arpa"},
        {"names": ["9.9.9.9"], "domain": "lan"},
        {"names": ["10.77.0.1", "127.0.0.53"], "domain": "lan"},
    ):
        switch.say(**TRUE, **lie)
        program = lan.programs.get("pc7") or lan.join("pc7")

        def refused(lie=lie):
            status = up(lan, "pc7")
            return status and status["refused"].get("names", "").startswith(f"{lie['domain']}: ")

        wait_until(refused, f"refusal of {lie}")
        assert host.run(["cat", "/etc/hosts", "/etc/resolv.conf"]).stdout == before
    assert program.running
    assert program.stop() == 0
