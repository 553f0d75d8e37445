"""Two homes, and the office through a VPS: the commands of docs/recipes.md as they stand there.

home ──┐                       eth1: device 192.168.1.9
parents ─── underlay ── switch       printer 192.168.2.9
office ──┤                           files 192.168.10.5
laptop ──┘                           (and a visitor, who is no member)
"""

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.netns.test_gateways import fetch
from tests.netns.tools import joined, reach
from vswitch.lab import wait_until
from vswitch.lab.lan import SWITCH_ADDRESS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text()
HOMES, OFFICE = "Two homes", "Reach the office through a VPS"
BEHIND = {  # gateways, and what is on their wire
    "home": ("192.168.1.2", "device", "192.168.1.9"),
    "parents": ("192.168.2.2", "printer", "192.168.2.9"),
    "office": ("192.168.10.2", "files", "192.168.10.5"),
}
STRINGS = {}  # of invites that nobody has used yet
# Answers with the address that the client has for it.
SERVER = """
import http.server, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode())
    def log_message(self, *_):
        pass
for port in sys.argv[1:]:
    server = http.server.ThreadingHTTPServer(("", int(port)), Handler)
    threading.Thread(target=server.serve_forever).start()
"""


def section(title):
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.M)
    return found


def commands(text):
    """The words of each command in it, in their order."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.M):
        for line in block.splitlines():
            program, *words = shlex.split(line, comments=True)
            assert program == "vswitch"
            yield words


def run(lan, text):
    """Run what the page says on the host for which it says it."""
    for command, *words in commands(text):
        if command == "serve":
            assert words[:2] == ["--public", "switch.example.org"]
            if "switch" not in lan.programs:
                config = lan.switch.directory / "vswitch.toml"
                config.touch()
                lan.serve("--https", ":443", "--config", str(config))
            assert set(words[2:]) <= set(lan.programs["switch"].argv)
        elif command == "join":
            string, option, name, *rest = words
            assert (string, option) == ("STRING", "--name")
            known = name in lan.programs
            if known:
                assert lan.programs[name].stop() == 0
                lan.programs[name].log.unlink()
            program = lan.join(name, *rest, invite=None if known else STRINGS.pop(name))
            wait_until(lambda p=program: " connected" in p.tail(), f"{name} connected")
        elif command == "invite":
            (name,) = words
            STRINGS[name] = lan.invite(name)
        else:
            lan.command(lan.switch, command, *words)


@pytest.fixture(scope="module")
def lan(empty_lan):
    """Hosts, with what is behind them; no switch and no member yet."""
    lan, lab = empty_lan, empty_lan.lab
    for name, (address, thing, there) in BEHIND.items():
        host, other, segment = lan.host(name), lab.host(thing), lab.bridge(f"{name}-lan")
        lab.link(host, segment, ifname="eth1", address=f"{address}/24")
        lab.link(other, segment, ifname="eth0", address=f"{there}/24")
        other.popen([sys.executable, "-c", SERVER, "80", "445"])
        wait_until(lambda h=host, t=there: fetch(h, t), f"server of {thing}")
    return lan


@pytest.mark.long
@pytest.mark.netns("curl", "nft", "ping")
def test_two_homes_reach_each_other_and_become_one_lan(lan):
    routed, bridged = section(HOMES).split("**One LAN**")
    run(lan, routed)
    for name, other in (("home", "parents"), ("parents", "home")):
        gateway, _, there = BEHIND[other]
        way = lan.members[name], there, gateway
        wait_until(lambda w=way: fetch(*w[:2], patience="1") == w[2], f"way from {name}")
    run(lan, bridged)
    lan.lab.hosts["printer"].run(["ip", "address", "add", "192.168.1.109/24", "dev", "eth0"])
    reach(lan.lab.hosts["device"], "192.168.1.109")
    (bound,) = re.findall(r"`vswitch (port set .*?)`", bridged)
    lan.command(lan.switch, *bound.split())


@pytest.mark.long
@pytest.mark.netns("curl", "nft", "ip")
def test_a_laptop_reaches_the_office_and_customers_one_service_of_it(lan):
    visitor, config = lan.lab.host("visitor"), lan.switch.directory / "vswitch.toml"
    lan.lab.link(visitor, lan.underlay, ifname="eth0", address="192.0.2.99/24")
    route, files = "192.168.10.0/24", BEHIND["office"][2]
    before, after = section(OFFICE).split("To say who may do what")
    run(lan, before)
    laptop = lan.members["laptop"]
    wait_until(lambda: fetch(laptop, files, patience="1") == BEHIND["office"][0], "the way there")
    # A café with the same network: what is there stays reachable, and status says so.
    laptop.run(["ip", "address", "add", "192.168.10.77/24", "dev", "eth0"])
    wait_until(lambda: route in joined(lan, "laptop")["routes_refused"], "route not taken")
    laptop.run(["ip", "address", "del", "192.168.10.77/24", "dev", "eth0"])
    wait_until(lambda: fetch(laptop, files, patience="1"), "route taken again")
    lan.members["office"].popen([sys.executable, "-c", SERVER, "443"])
    (rules,) = re.findall(r"^```toml\n(.*?)^```$", after, re.DOTALL | re.M)
    config.write_text(rules)
    run(lan, after)
    assert fetch(laptop, f"{files}:445") == BEHIND["office"][0]
    assert fetch(laptop, files, patience="1") == ""
    wait_until(lambda: fetch(visitor, f"{SWITCH_ADDRESS}:8443"), "the published service")
